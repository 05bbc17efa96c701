# SPDX-License-Identifier: GPL-2.0
"""`run --mode replay`: a plan's races in machines that are told at their start what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.guest import orders
from tests.experiment.test_runner import SMALL, run
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab


def test_each_cell_has_a_machine_that_is_told_all_it_will_be_asked(tmp_path: Path) -> None:
    lab = Lab()
    cfg = config(tmp_path, **SMALL, cells_per_boot=16)
    document, code, _directory = run(tmp_path, lab, cfg, modes=["replay"])
    assert code == 0
    assert len(lab.machines) == len(document["cells"]) == 4  # no boot is shared
    asked = iter(lab.commands)
    for machine in lab.machines:
        told = machine.spec.told
        assert told is not None
        assert [next(asked) for _ in told.commands] == list(told.commands)
        assert f"{orders.DEVICE}" in told.commands[0]
        assert "--limit" not in told.commands[-1]
        assert set(machine.spec.programs) == {"preflight", "races/punch"}
    assert next(asked, None) is None


def test_its_rates_are_of_an_accelerator_of_its_own(tmp_path: Path) -> None:
    document, _code, directory = run(tmp_path, Lab(), modes=["replay"])
    assert document["accelerator"] == "icount"
    assert document["budget_s"] is None
    assert document["filters"]["modes"] == ["replay"]
    for cell in document["cells"]:
        assert cell["armed"] and "--mode replay" in cell["rerun"]
        assert "--mode replay" in (directory / cell["directory"] / "rerun").read_text()


def test_other_runs_are_told_nothing(tmp_path: Path) -> None:
    lab = Lab()
    run(tmp_path, lab)
    assert all(machine.spec.told is None for machine in lab.machines)


def test_gates_are_left_out(tmp_path: Path) -> None:
    """Their bounds are in seconds of the host."""
    with pytest.raises(UsageError, match="no cell is left"):
        run(tmp_path, Lab(), modes=["replay"], workloads=["splice"])


def test_time_of_the_host_decides_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a budget is time of the host"):
        run(tmp_path, Lab(), modes=["replay"], budget_s=10)
    assert not (tmp_path / "results").exists()
