# SPDX-License-Identifier: GPL-2.0
"""A budget is shared, and what one cell saves the others have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.events import silent
from harness.experiment.budget import LEAST_S, OVERHEAD_S, Budget
from harness.experiment.runner import run_plan
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_even_shares() -> None:
    assert Budget(40, 4, 1, Clock()).share() == 10 - OVERHEAD_S
    # Two at once have twice the time.
    assert Budget(40, 4, 2, Clock()).share() == 20 - OVERHEAD_S


def test_what_is_left_is_for_the_others() -> None:
    clock = Clock()
    budget = Budget(40, 4, 1, clock)
    budget.share()
    clock.now += 1  # of its ten seconds
    budget.spent(1, 1 - OVERHEAD_S / 2)
    left = 39 / 3 - (OVERHEAD_S + OVERHEAD_S / 2) / 2
    assert budget.share() == pytest.approx(left)


def test_too_little_is_still_something() -> None:
    clock = Clock()
    budget = Budget(1, 4, 1, clock)
    assert budget.share() == LEAST_S
    clock.now += 50
    assert [budget.share() for _ in range(4)] == [LEAST_S] * 4


def test_a_run_with_a_budget(tmp_path: Path) -> None:
    cfg = config(
        tmp_path, kernels=["control", "stock"], filesystems=["ext4"], workloads=["punch"],
        min_rate=0.5, budget_s=60.0,
    )  # fmt: skip
    lab = Lab()

    def go(trials: int | None = None, budget_s: float | None = None) -> dict[str, int]:
        run, code = run_plan(
            cfg, "quick", tmp_path / "cache", tmp_path / "results", silent,
            jobs=1, rooms=lab.rooms(), trials=trials, budget_s=budget_s,
        )  # fmt: skip
        assert code == 0
        document = json.loads((run.directory / "run.json").read_text())
        assert all(cell["verdict"]["as_expected"] for cell in document["cells"])
        assert document["budget_s"] == (budget_s or (None if trials else 60.0))
        return {cell["name"]: cell["verdict"]["planned"] for cell in document["cells"]}

    planned = go()
    assert 15 <= planned["control/ext4/punch@fault"] < 40  # of 40, in its share of a minute
    assert planned["stock/ext4/punch"] == 50  # the last one has what the others left
    assert any("--limit" in command and "--at-least 12" in command for command in lab.commands)
    # Never fewer than can show the rate, or say anything at all.
    planned = go(budget_s=1)
    assert planned["control/ext4/punch@fault"] == 12
    assert planned["stock/ext4/punch"] == 10
    # A number that is asked for is not cut.
    assert set(go(trials=30).values()) == {30}
