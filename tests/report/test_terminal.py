# SPDX-License-Identifier: GPL-2.0
"""The listener: lines without a terminal, a live table on one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.events import Event
from harness.experiment.verdict import Evidence, judge
from harness.report.terminal import LiveView, PlainView, terminal
from tests.fakes.experiment import cell, trials
from tests.report.test_verdicts import GOOD, document

NAMES = ["control/ext4/punch@fault", "stock/ext4/punch"]


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def console(tty: bool = False) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=tty, width=100, height=30, color_system=None
    )


def said(where: Console) -> str:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue()


def finished(name: str, done: int) -> Event:
    judged = judge(cell(), trials(held=100), Evidence())
    data = {"state": judged.state, "verdict": judged.to_json()}
    return Event("cell", name, judged.claim, done, 2, data=data)


def test_plain_is_one_line_per_event() -> None:
    out = console()
    view = PlainView(out)
    view(Event("note", "[bold]x", "two [/words]"))
    view(Event("command", "git", "git am 0001.patch"))
    view(finished("stock/ext4/punch", 2))
    lines = said(out).splitlines()
    assert lines[0] == "note [bold]x: two [/words]"
    assert lines[1] == "  $ git am 0001.patch"
    assert lines[2].startswith("cell stock/ext4/punch [2/2]: held in 100 of 100 armed trials")
    assert lines[2].endswith("(as expected)")
    assert len(lines) == 3


def test_plain_progress_is_rare() -> None:
    out, clock = console(), Clock()
    view = PlainView(out, clock)
    for done in range(1, 1001):
        clock.now += 1
        view(Event("build", "stock", "CC", done, 1000, 1000 - done))
    lines = said(out).splitlines()
    assert 9 <= len(lines) <= 10  # every ten per cent, not every ten seconds
    assert "[100/1000]" in lines[0] or "[101/1000]" in lines[0]
    clock.now += 1
    for done in range(1, 1001):
        view(Event("build", "other", "CC", done, 1000))
    assert len(said(out).splitlines()) == len(lines)  # no ten seconds went by


def test_plain_progress_of_unknown_length_goes_by_time() -> None:
    out, clock = console(), Clock()
    view = PlainView(out, clock)
    for done in range(100):
        clock.now += 1
        view(Event("tree", "t", "importing", done))
    assert 9 <= len(said(out).splitlines()) <= 10


def test_live_shows_the_build_then_the_cells() -> None:
    out, clock = console(tty=True), Clock()
    view = LiveView(out, clock)
    view(Event("build", "stock", "CC mm/filemap.o", 50, 200, 90.0))
    out.print(view.view())
    assert "build stock: CC mm/filemap.o" in said(out)
    assert "50 of 200, about 1 min 30 s left" in said(out)

    view(Event("run", "r", "2 cells", 0, 2, data={"cells": NAMES, "accelerator": "tcg"}))
    view(Event("cell", NAMES[0], "starts", 0, 2, data={"state": "boot"}))
    view(Event("trial", NAMES[0], "held", 7, 40, data={"outcome": "held", "exposed": 3}))
    out.print(view.view())
    assert "7/40" in said(out)
    assert "0 of 2 cells on tcg" in said(out)

    clock.now += 60
    view(finished(NAMES[0], 1))
    out.print(view.view())
    assert "1 of 2 cells on tcg, about 1 min 0 s left" in said(out)


def test_live_table_fits_the_screen() -> None:
    out = console(tty=True)
    view = LiveView(out)
    names = [f"stock/ext4/race-{number}" for number in range(200)]
    view(Event("run", "r", "", data={"cells": names}))
    for number, name in enumerate(names):
        view(finished(name, number + 1))
    with out.capture() as captured:
        out.print(view.view())
    lines = captured.get().splitlines()
    assert len(lines) < 30
    assert any("race-199" in line for line in lines)


def test_time_left_counts_the_cell_under_way() -> None:
    clock = Clock()
    view = LiveView(console(tty=True), clock)
    view(Event("run", "r", "", data={"cells": ["a", "b", "c"]}))
    assert view.time_left() is None
    view(Event("cell", "a", "starts", data={"state": "boot"}))
    clock.now += 40
    assert view.time_left() is None
    view(finished("a", 1))
    view(Event("cell", "b", "starts", data={"state": "boot"}))
    view(Event("trial", "b", "held", 50, 100, data={}))
    clock.now += 20  # 60 s for one and a half cells
    assert view.time_left() == pytest.approx(60.0)


@pytest.mark.parametrize("tty", [False, True])
def test_terminal_ends_with_the_verdicts(tty: bool) -> None:
    progress, output = console(tty), console()
    with terminal(progress, output) as listen:
        listen(Event("run", "r", "results in results/r", data={"directory": "results/r"}))
        listen(Event("cell", NAMES[0], "starts", 0, 2, data={"state": "boot"}))
        listen(Event("run", "r", "finished", data={"document": document(*GOOD)}))
        # Narrower than the table: lines wrap on the screen, but no figure is cut off.
        assert output.width == 100
    assert "98 % [92.9 %, 99.8 %]" in said(output)
    assert said(output).rstrip().endswith("results: results/r")


def test_results_are_named_as_the_user_would_type_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = console()
    with terminal(console(), output) as listen:
        place = str(tmp_path / "results" / "r")
        listen(Event("run", "r", "", data={"directory": place, "document": document(*GOOD)}))
    assert said(output).rstrip().endswith("results: results/r")


def test_plain_leaves_a_cells_details_to_the_log() -> None:
    out = console()
    view = PlainView(out)
    view(Event("command", "boot", "uname"))
    view(Event("run", "r", "1 cell", data={"cells": NAMES}))
    view(Event("command", NAMES[0], "mkfs"))
    view(Event("boot", NAMES[0], "booting"))
    view(Event("cell", NAMES[0], "trials begin", data={"state": "running"}))
    assert said(out).splitlines() == ["  $ uname", "run r: 1 cell"]


def test_terminal_shows_finished_cells_when_interrupted() -> None:
    output = console()
    run = document(*GOOD, status="interrupted", not_run=["x"])
    with pytest.raises(KeyboardInterrupt), terminal(console(), output) as listen:
        listen(Event("run", "r", "interrupted", data={"document": run}))
        raise KeyboardInterrupt
    assert "interrupted: 3 of 4 cells" in said(output)


def test_terminal_without_a_run_writes_nothing_to_standard_output() -> None:
    output = console()
    with terminal(console(), output) as listen:
        listen(Event("build", "stock", "up to date"))
    assert said(output) == ""


def test_no_colour_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Console(file=io.StringIO(), force_terminal=True, width=140)
    with terminal(console(), out) as listen:
        listen(Event("run", "r", "", data={"document": document(*GOOD)}))
    assert "\x1b[3" not in said(out)


def test_verdicts_fit_a_screen_of_80_columns() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with terminal(console(), out) as listen:
        listen(Event("run", "r", "finished", data={"document": document(*GOOD)}))
    table = said(out).split("control: the race")[0].splitlines()
    assert max(map(len, table)) <= 80
    assert any("punch@fault" in line and "98/100" in line for line in table)
    assert any("control on ext4" in line for line in table)
    assert all(line.split()[0] != "kernel" for line in table if line.strip())
