# SPDX-License-Identifier: GPL-2.0
"""compare, history, logs: over runs that the runner wrote, on fake machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.errors import MachineLostError, UsageError
from harness.report import compare, history, logs, runs
from tests.experiment.test_runner import PANIC, SMALL, run
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab, Script

STOCK = "stock/ext4/punch"
FIRES = Script(outcomes=lambda _number, _on: "exposed")
CRASHES = Script(splats=[PANIC], dies=MachineLostError("panic"), after=11)


def two(tmp_path: Path, **scripts: Script) -> tuple[Path, Path]:
    """A healthy run, and one in which stock's cell follows the script."""
    _, _, first = run(tmp_path, Lab())
    _, _, second = run(tmp_path, Lab(**scripts))
    return first, second


def comparison(tmp_path: Path, first: str, second: str) -> compare.Comparison:
    root = tmp_path / "results"
    return compare.compare(compare.side(root, first), compare.side(root, second))


def test_two_runs_alike(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    found = comparison(tmp_path, first.name, second.name)
    assert (found.changes, found.worse, found.common) == ([], False, 4)
    assert compare.lines(found) == [
        f"{first.name} -> {second.name}: 4 cells in both, 0 differences, 0 for the worse"
    ]


def test_a_race_that_opened(tmp_path: Path) -> None:
    first, second = two(tmp_path, **{STOCK: FIRES})
    found = comparison(tmp_path, first.name, second.name)
    assert found.worse
    verdict, rate = found.changes
    assert (verdict.cell, verdict.what, verdict.worse) == (STOCK, "verdict", True)
    assert verdict.text.startswith("held -> exposed: the race is open")
    assert (rate.what, rate.worse) == ("rate", True)
    assert rate.text.startswith("exposed in 0 % -> 100 %, ratio no bound [")
    back = comparison(tmp_path, second.name, first.name)
    assert not back.worse, "what gets better is told, and costs nothing"
    assert {change.what for change in back.changes} == {"verdict", "rate"}


def test_a_complaint_that_is_new(tmp_path: Path) -> None:
    first, second = two(tmp_path, **{STOCK: CRASHES})
    found = comparison(tmp_path, first.name, second.name)
    assert ("splats", f"new: {PANIC.title}", True) in [
        (change.what, change.text, change.worse) for change in found.changes
    ]
    back = comparison(tmp_path, second.name, first.name)
    assert f"gone: {PANIC.title}" in [change.text for change in back.changes]


def test_a_rate_on_control_is_no_worse_for_being_higher(tmp_path: Path) -> None:
    name = "control/ext4/punch@fault"
    half = Script(outcomes=lambda number, on: "exposed" if on and number > 2 else "held")
    first, second = two(tmp_path, **{name: half})
    assert not comparison(tmp_path, second.name, first.name).worse


def test_cells_that_only_one_has(tmp_path: Path) -> None:
    _, _, first = run(tmp_path, Lab())
    _, _, second = run(tmp_path, Lab(), kernels=["stock"])
    found = comparison(tmp_path, first.name, second.name)
    assert [change.what for change in found.changes].count("gone") == 3


def test_two_kernels_of_one_run(tmp_path: Path) -> None:
    _, _, directory = run(tmp_path, Lab())
    found = comparison(tmp_path, "stock", f"{directory.name}:control")
    assert found.common == 0  # what has a switch is no cell of stock
    with pytest.raises(UsageError, match="a run and a kernel cannot be compared"):
        comparison(tmp_path, "stock", directory.name)
    with pytest.raises(UsageError, match="no cell of kernel 'other'"):
        comparison(tmp_path, f"{directory.name}:other", "stock")


def test_finding_runs_and_cells(tmp_path: Path) -> None:
    root = tmp_path / "results"
    with pytest.raises(UsageError, match="no run yet"):
        runs.find(root)
    document, _, first = run(tmp_path, Lab())
    _, _, second = run(tmp_path, Lab())
    assert runs.find(root) == runs.find(root, "latest") == second
    assert runs.find(root, first.name) == runs.find(root, str(first)) == first
    assert runs.find(root, first.name[-4:]) == first
    with pytest.raises(UsageError, match="may be any of 2 runs"):
        runs.find(root, "quick")
    with pytest.raises(UsageError, match="did you mean"):
        runs.find(root, first.name[:-1] + "?")
    assert runs.cell(document, "stock")["name"] == STOCK
    with pytest.raises(UsageError, match="may be any of 3 cells"):
        runs.cell(document, "control")
    with pytest.raises(UsageError, match=r"no cell 'stock/ext4/pinch' .*did you mean"):
        runs.cell(document, "stock/ext4/pinch")


def test_history(tmp_path: Path) -> None:
    two(tmp_path, **{STOCK: FIRES})
    found = history.history(tmp_path / "results", STOCK)
    assert [entry.cell["verdict"]["state"] for entry in found[STOCK]] == ["held", "exposed"]
    told = history.lines(found)
    assert told[0] == STOCK and told[-1] == "  changed 1 times in 2 runs"
    assert told[2].startswith("  ! ") and "100 % [" in told[2]
    assert list(history.history(tmp_path / "results", "punch@", last=1)) == [
        "control/ext4/punch@fault", "control/ext4/punch@fault+mkwrite", "control/ext4/punch@off",
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"no run in .* had a cell like 'nothing'"):
        history.history(tmp_path / "results", "nothing")


def test_logs_are_safe_for_a_terminal(tmp_path: Path) -> None:
    document, _, directory = run(tmp_path, Lab(**{STOCK: CRASHES}))
    told = list(logs.overview(document, directory))
    assert told[-1].startswith(f"! {STOCK}: crashed (console, ")
    place = directory / "cells" / STOCK
    (place / "console.log").write_bytes(b"one\r\n\x1b]0;title\x07two\n")
    assert list(logs.text(place, "console")) == ["one", "\\x1b]0;title\\x07two"]
    assert any(PANIC.title in line for line in logs.text(place, "splats"))
    with pytest.raises(UsageError, match="has no hang; it has console, "):
        list(logs.text(place, "hang"))


def test_the_verbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two(tmp_path, **{STOCK: FIRES})
    monkeypatch.chdir(tmp_path)

    def said(*words: str) -> tuple[int, str]:
        code = cli.main(list(words))
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    code, out = said("compare", first.name, second.name)
    assert code == 1 and "2 for the worse" in out
    code, out = said("compare", second.name, first.name, "--json")
    document: dict[str, Any] = json.loads(out)
    assert (code, document["worse"], document["common"]) == (0, False, 4)
    assert said("compare", "latest:stock", "latest:control")[0] == 125
    code, out = said("history", STOCK, "--json")
    assert code == 0 and len(json.loads(out)[STOCK]) == 2
    assert said("logs", first.name)[0] == 0
    code, out = said("logs", first.name, STOCK, "trials")
    assert code == 0 and json.loads(out.splitlines()[0])["trial"] == 1
    assert said("logs", "nothing")[0] == 2


def test_a_run_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    _, _, directory = run(tmp_path, Lab(), config(tmp_path, **SMALL))
    broken = tmp_path / "results" / "20200101T000000Z-x"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    assert [path for path, _ in runs.readable(tmp_path / "results")] == [directory]
