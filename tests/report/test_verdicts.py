# SPDX-License-Identifier: GPL-2.0
"""run.json -> what a person reads."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from harness.experiment.trial import Trial
from harness.experiment.verdict import Evidence, judge
from harness.report.verdicts import duration, render, style, summary
from tests.fakes.experiment import cell, trials


def entry(
    role: str,
    switch: str,
    found: list[Trial],
    *,
    kind: str = "race",
    fires_on: tuple[str, ...] = (),
    armed: bool = True,
    **evidence: Any,
) -> dict[str, Any]:
    """A cell of run.json, judged as the runner does."""
    asked = dataclasses.replace(cell(role, switch, kind=kind, fires_on=fires_on), armed=armed)
    return {
        "name": asked.name,
        "kernel": asked.kernel,
        "role": role,
        "filesystem": asked.filesystem,
        "workload": asked.workload,
        "kind": asked.kind,
        "must_fire": asked.must_fire,
        "switch": asked.variant or None,
        "window": asked.window,
        "armed": asked.armed,
        "may_fire": asked.may_fire,
        "verdict": judge(asked, found, Evidence(**evidence)).to_json(),
        "directory": f"cells/{asked.name}",
        "rerun": f"exec .venv/bin/harness run quick -k {role}",
    }


def document(*cells: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "2026-quick-1",
        "plan": "quick",
        "status": "finished",
        "accelerator": "tcg",
        "accelerator_reason": "no vmx",
        "seconds": 75.0,
        "stages": {"build": 60.0, "cells": 15.0},
        "cells": list(cells),
        **more,
    }


GOOD = (
    entry("control", "fault", trials(exposed=98, held=2)),
    entry("control", "", trials(held=100)),
    entry("stock", "", trials(held=320)),
)


def text(run: dict[str, Any], width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(run))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table() -> None:
    header, _rule, first, off, stock = (
        line for line in text(document(*GOOD)).splitlines() if line.strip()
    )
    assert header.split()[:4] == ["kernel", "filesystem", "workload", "switch"]
    assert "control" in first and "fault" in first and "98 % [92.9 %, 99.8 %]" in first
    assert first.split()[-3:] == ["100", "exposed", "yes"]
    assert off.split()[3] == "off"
    assert "0 % [0 %, 1.15 %]" in stock
    assert stock.split()[-3:] == ["320", "held", "yes"]


def test_table_of_what_was_not_tested_and_not_expected() -> None:
    lines = text(
        document(
            entry("stock", "", [], untested="preflight"),
            entry("candidate", "", trials(exposed=1, held=9)),
        )
    ).splitlines()
    assert any(line.split()[-2:] == ["untested", "NO"] for line in lines)
    assert any(line.split()[-2:] == ["exposed", "NO"] for line in lines)


def test_names_are_not_markup() -> None:
    odd = {**GOOD[2], "kernel": "[red]x[/red]"}
    assert "[red]x[/red]" in text(document(odd))


def test_empty_run() -> None:
    assert "kernel" in text(document())


def test_summary_of_a_good_run() -> None:
    lines = summary(document(*GOOD), "results/r")
    assert "control: the race fired in 1 of 1 cells with a lock site off" in lines[0]
    assert "at least 92.9 %" in lines[0]
    assert lines[1].startswith("control: held in 1 of 1 cells with every lock site on")
    assert lines[2] == "stock: held in 1 of 1 cells, 320 trials, each rate below 1.15 %"
    assert "took 1 min 15 s (build 1 min 0 s, cells 15 s)" in lines
    assert "accelerator: tcg (no vmx)" in lines
    assert lines[-1] == "results: results/r"


def test_summary_tells_gates_and_what_is_open_on_stock_from_what_holds() -> None:
    lines = summary(
        document(
            *GOOD,
            entry("stock", "", trials(exposed=98, held=2), fires_on=("stock",)),
            entry("stock", "", trials(held=100), kind="gate"),
            entry("stock", "", trials(held=9, exposed=1), kind="gate"),
            entry("candidate", "", trials(held=100), fires_on=("stock",)),
        )
    )
    assert lines[1:7] == [
        lines[1],
        "control: held in 1 of 1 cells with every lock site on, 100 trials,"
        " each rate below 3.63 %",
        "stock: fired in 1 of 1 cells, as it must: open there, in at least 92.9 % of the trials",
        "stock: held in 1 of 1 cells, 320 trials, each rate below 1.15 %",
        "stock: finished in time with right contents in 1 of 2 gate cells, 100 trials",
        "candidate: held in 1 of 1 cells, 100 trials, each rate below 3.63 %",
    ]


def test_summary_of_a_bad_run_says_what_to_type() -> None:
    lines = summary(document(*GOOD[:2], entry("stock", "", trials(held=5), control_fired=False)))
    assert lines[0] == (
        "not as expected: stock/ext4/punch: control has not fired in this run"
    )
    assert lines[-2] == (
        "look at: less -R results/2026-quick-1/cells/stock/ext4/punch/console.log"
    )
    assert lines[-1] == "run it again: .venv/bin/harness run quick -k stock"


def test_summary_points_at_what_the_kernel_did_wrong() -> None:
    lines = summary(
        document(
            entry("stock", "", [], untested="preflight"),
            entry("candidate", "", trials(held=1, exposed=1)),
        )
    )
    assert lines[-2].endswith("cells/candidate/ext4/punch/console.log")


def test_summary_of_an_interrupted_run() -> None:
    lines = summary(document(*GOOD, status="interrupted", not_run=["a", "b"]))
    assert any("interrupted: 3 of 5 cells finished and kept" in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (9.13, "9.1 s"),
        (42.4, "42 s"),
        (59.7, "1 min 0 s"),
        (330, "5 min 30 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_style_has_a_colour_of_its_own_for_what_was_not_tested() -> None:
    assert len({style("held", True), style("untested", False), style("exposed", False)}) == 3


def test_armed_and_unarmed_are_never_one_figure() -> None:
    run = document(
        entry("control", "fault", trials(exposed=100)),
        entry("control", "fault", trials(exposed=20, held=80), armed=False),
        entry("control", "punch", trials(held=100), armed=False),
        entry("stock", "", trials(held=100)),
        entry("stock", "", trials(held=50, untested=50), armed=False),
    )
    lines = summary(run)
    assert lines[:4] == [
        "control: the race fired in 1 of 1 cells with a lock site off, in at least 96.3 %"
        " of the trials",
        "control: unarmed, what is open fired in 1 of 2 cells, at rates of 0 % to 20 %,"
        " median 20 %",
        "stock: held in 1 of 1 cells, 100 trials, each rate below 3.63 %",
        "stock: unarmed, held in 1 of 1 cells, 50 trials, each rate below 7.12 %",
    ]
    assert "punch~unarmed" in text(run)
