# SPDX-License-Identifier: GPL-2.0
"""Complaints that harness.toml allows: told, but no cell's fault."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness.config import Allow
from harness.errors import MachineLostError, WorkloadTimeoutError
from harness.events import silent
from harness.experiment import cell as cell_room
from harness.experiment.allow import divide
from harness.experiment.cell import Attempt
from harness.experiment.verdict import judge
from harness.guest.splat import Splat
from tests.experiment.test_cell import NAME, job, spec
from tests.fakes.fake_machine import FakeMachine, Lab, Script

KNOWN = Splat("warning", "WARNING: fs/x.c at x_y", "WARNING: CPU: 1 ...\nCall Trace:")
OTHER = Splat("kasan", "BUG: KASAN: slab-use-after-free in x_y", "text")
HUNG = Splat("hung_task", "INFO: task hung in down_write, called from x_y", "text")
RULE = Allow(title=r"WARNING: fs/x\.c at x_.*", tree="six", reason="reported upstream")


def _attempt(tmp_path: Path, script: Script, *allow: Allow) -> Attempt:
    lab = Lab(**{NAME: script})
    machine = FakeMachine(lab, script, spec(tmp_path), tmp_path, NAME)
    return cell_room.run(dataclasses.replace(job(), allow=allow), machine, tmp_path, silent)


def _state(attempt: Attempt) -> str:
    return judge(job().cell, attempt.trials, attempt.evidence(True)).state


def test_what_is_allowed_is_told_and_costs_nothing(tmp_path: Path) -> None:
    attempt = _attempt(tmp_path, Script(splats=[KNOWN]), RULE)
    assert attempt.splats == []
    assert [each.reason for each in attempt.allowed] == ["reported upstream"]
    assert _state(attempt) == "held"
    (file,) = (tmp_path / "splats").iterdir()
    assert "allowed: reported upstream" in file.read_text()
    assert KNOWN.text in file.read_text()


def test_without_the_rule_it_crashes_the_cell(tmp_path: Path) -> None:
    assert _state(_attempt(tmp_path, Script(splats=[KNOWN]))) == "crashed"


def test_another_complaint_counts(tmp_path: Path) -> None:
    attempt = _attempt(tmp_path, Script(splats=[KNOWN, OTHER]), RULE)
    assert attempt.splats == [OTHER]
    assert _state(attempt) == "crashed"
    assert len(list((tmp_path / "splats").iterdir())) == 2


def test_a_rule_does_not_excuse_a_machine_that_dies(tmp_path: Path) -> None:
    rule = Allow(title="INFO: task hung in .*", tree="six", reason="slow host")
    late = Script(dies=WorkloadTimeoutError("not done"), after=5, splats=[HUNG])
    assert _state(_attempt(tmp_path, late, rule)) == "hung"
    gone = Script(dies=MachineLostError("gone"), after=5, splats=[HUNG])
    assert _state(_attempt(tmp_path, gone, rule)) == "lost"


def test_a_rule_is_for_the_whole_title() -> None:
    longer = dataclasses.replace(KNOWN, title="BUG: and WARNING: fs/x.c at x_y")
    assert divide([longer, KNOWN], [RULE])[0] == [longer]
