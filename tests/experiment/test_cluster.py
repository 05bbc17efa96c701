# SPDX-License-Identifier: GPL-2.0
"""A cell over several boots: how trials are shared out, put together and judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InfraError
from harness.events import silent
from harness.experiment.cluster import parts
from harness.experiment.runner import run_plan
from harness.guest.splat import Splat
from tests.fakes.experiment import cell, config
from tests.fakes.fake_machine import Lab, Script

NAME = "stock/ext4/punch"


@given(st.integers(1, 500), st.integers(1, 60))
def test_no_trial_is_lost_and_no_boot_is_empty(trials: int, boots: int) -> None:
    found = list(parts(cell(trials=trials), boots))
    assert sum(part.trials for part in found) == trials
    assert len(found) == min(boots, trials)
    assert max(p.trials for p in found) - min(p.trials for p in found) <= 1
    assert len({part.seed for part in found}) == len(found)


def run(tmp_path: Path, lab: Lab, **plan: Any) -> tuple[dict[str, Any], Path]:
    asked = {"kernels": ["control", "stock"], "filesystems": ["ext4"], "workloads": ["punch"],
             "boots": 5, "cells_per_boot": 8, **plan}  # fmt: skip
    done, _code = run_plan(
        config(tmp_path, **asked), "quick", tmp_path / "cache", tmp_path / "results", silent,
        jobs=1, rooms=lab.rooms(),
    )  # fmt: skip
    assert lab.still_open == []
    return json.loads((done.directory / "run.json").read_text()), done.directory


def test_each_boot_is_a_machine_of_its_own(tmp_path: Path) -> None:
    lab = Lab()
    document, directory = run(tmp_path, lab)
    assert document["exit_code"] == 0
    assert lab.booted.count(NAME) == 5
    stock = document["cells"][-1]
    verdict = stock["verdict"]
    assert (verdict["trials"], verdict["boots"], verdict["design_effect"]) == (50, 5, 1.0)
    place = directory / stock["directory"]
    assert sorted(path.name for path in place.glob("boot-*")) == [f"boot-0{n}" for n in range(1, 6)]
    lines = [json.loads(line) for line in (place / "trials.jsonl").open()]
    assert [line["trial"] for line in lines] == list(range(1, 51))
    assert [line["boot"] for line in lines] == [n for n in range(1, 6) for _ in range(10)]
    assert (place / "boot-03" / "console.log").exists()
    assert not list(directory.glob("**/*.img"))


def test_boots_that_differ_widen_the_interval(tmp_path: Path) -> None:
    # Open in two boots of five, and then always: ten trials of a boot say what one does.
    bad, good = Script(outcomes=lambda _n, _on: "exposed"), Script()
    lab = Lab(**{NAME: [bad, good, bad, good, good]})
    document, _directory = run(tmp_path, lab)
    verdict = document["cells"][-1]["verdict"]
    assert (verdict["exposed"], verdict["rate"]) == (20, 0.4)
    assert verdict["design_effect"] == pytest.approx(12.5)
    assert verdict["interval"][1] > 0.8  # 55 % for fifty independent trials


def test_a_splat_ends_the_cell(tmp_path: Path) -> None:
    lab = Lab(**{NAME: [Script(), Script(splats=[Splat("oops", "BUG: x", "text")])]})
    document, directory = run(tmp_path, lab)
    stock = document["cells"][-1]
    assert stock["verdict"]["state"] == "crashed"
    assert lab.booted.count(NAME) == 2
    assert (directory / stock["directory"] / "boot-02" / "disk.img").exists()


def test_a_boot_in_which_nothing_ran_is_repeated(tmp_path: Path) -> None:
    lab = Lab(**{NAME: [Script(), Script(boot_error=InfraError("no port")), Script()]})
    document, _directory = run(tmp_path, lab)
    stock = document["cells"][-1]
    assert (stock["attempts"], stock["verdict"]["state"]) == (2, "held")
    assert stock["verdict"]["trials"] == 50


def test_a_budget_is_shared_by_the_boots(tmp_path: Path) -> None:
    lab = Lab()
    document, _directory = run(tmp_path, lab, budget_s=8.0, min_rate=0.3)
    assert document["exit_code"] == 0
    limits = [command.split("--limit ")[1].split()[0] for command in lab.commands
              if "--limit" in command]  # fmt: skip
    assert len(limits) == 20
    assert max(float(limit) for limit in limits) < 8 / 4
