# SPDX-License-Identifier: GPL-2.0
"""What a cell's directory gives, however large or strange it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report import evidence, saved, timeline
from harness.report.evidence import LINE, gather
from harness.report.saved import Cell
from tests.fakes import results

ROOM = 4000


@pytest.fixture
def cell(made: results.Results) -> Cell:
    (found,) = [c for c in saved.load(made.finished).cells if c.name == results.CRASHED]
    return found


@pytest.fixture
def place(tmp_path: Path, cell: Cell) -> Path:
    directory = tmp_path / cell.directory
    directory.mkdir(parents=True)
    return directory


def test_nothing_there_is_no_error(tmp_path: Path, cell: Cell) -> None:
    assert gather(tmp_path, cell, ROOM) == evidence.Evidence()


def test_the_console_is_cut_around_the_complaint(place: Path, tmp_path: Path, cell: Cell) -> None:
    (place / "splats").mkdir()
    (place / "splats" / "01-bug.txt").write_text("title\n\n\nBUG: f+0x1/0x2 (a/b.c:1)\nmore\n")
    lines = [f"line {n}" for n in range(500)]
    lines[300] = "[  1.0] BUG: f+0x1/0x2"
    (place / "console.log").write_text("\r\n".join(lines))
    console = gather(tmp_path, cell, ROOM).console
    assert console is not None
    assert console.what == "from line 295"
    shown = console.text.split("\n")
    assert (shown[0], shown[6], shown[-1]) == ("line 294", lines[300], "line 339")


def test_the_last_words_of_a_console_without_one(place: Path, tmp_path: Path, cell: Cell) -> None:
    (place / "console.log").write_text("".join(f"line {n}\n" for n in range(100_000)))
    console = gather(tmp_path, cell, 300).console
    assert console is not None
    assert console.text.endswith("line 99999")
    assert len(console.text) <= 300
    assert console.what == f"the last {len(console.text.splitlines())} lines"


def test_each_boot_has_its_evidence(place: Path, tmp_path: Path, cell: Cell) -> None:
    for number in (1, 2):
        boot = place / f"boot-0{number}"
        (boot / "splats").mkdir(parents=True)
        (boot / "splats" / "01-bug.txt").write_text(f"t\n\n\nBUG: {number}\n")
        (boot / "console.log").write_text(f"x\nBUG: {number}\n")
    found = gather(tmp_path, cell, ROOM)
    assert [each.path.split("/")[-3] for each in found.splats] == ["boot-01", "boot-02"]
    assert found.console is not None and "boot-01" in found.console.path


def test_earlier_attempts_are_not_the_verdict_s(place: Path, tmp_path: Path, cell: Cell) -> None:
    (place / "attempt-1" / "splats").mkdir(parents=True)
    (place / "attempt-1" / "splats" / "01-bug.txt").write_text("no")
    assert gather(tmp_path, cell, ROOM) == evidence.Evidence()


def test_a_hang_is_a_line_for_each_that_waits(place: Path, tmp_path: Path, cell: Cell) -> None:
    (place / "hang").mkdir()
    waits = [f"t{n} waits in f (a.c:{n})" for n in range(99)]
    (place / "hang" / "who.txt").write_text("; ".join(waits))
    (place / "hang" / "registers.txt").write_text("CPU#0\n")
    found = gather(tmp_path, cell, 60_000).hang
    assert [each.path.split("/")[-1] for each in found] == ["who.txt", "registers.txt"]
    assert found[0].text.split("\n") == waits
    (place / "hang" / "stacks.txt").write_text("t0\n f+0x1/0x2\n")
    found = gather(tmp_path, cell, 60_000).hang
    assert [each.path.split("/")[-1] for each in found] == ["who.txt", "stacks.txt"]


def test_the_console_is_not_told_twice(place: Path, tmp_path: Path, cell: Cell) -> None:
    lines = [f"[ 1.0] console {n}" for n in range(50)]
    (place / "error.txt").write_text("\n".join(["the kernel panicked", "less x", *lines]))
    error = gather(tmp_path, cell, ROOM).error
    assert error is not None
    assert error.text.split("\n") == ["the kernel panicked", "less x", *lines[:2]]


def test_orders_and_what_the_oracle_said(place: Path, tmp_path: Path, cell: Cell) -> None:
    trials = [
        {"trial": 1, "outcome": "exposed", "order": "overlap", "why": "old", "way": "loose"},
        {"trial": 2, "outcome": "exposed", "order": "a_first", "why": "old"},
        {"trial": 3, "outcome": "held", "order": "overlap", "why": "nothing"},
        {"trial": 4, "outcome": "held", "order": ["no string"]},
        {"trial": 5, "outcome": "untested", "order": "half a \ud800", "why": "\x1b"},
    ]
    lines = [json.dumps(trial) for trial in trials]
    (place / "trials.jsonl").write_text("\n".join([*lines, '{"trial": 6, "outc']))
    found = gather(tmp_path, cell, ROOM)
    assert found.orders == {"a_first": 1, "overlap": 2, "half a \\ud800": 1}
    assert found.ways == {"loose": 1}
    assert found.sayings == [("exposed: old", 2), ("untested: \\x1b", 1)]


@given(st.binary(max_size=2000), st.binary(max_size=2000), st.integers(0, 1500))
def test_texts_of_guests_are_bounded_and_printable(
    tmp_path_factory: pytest.TempPathFactory, one: bytes, other: bytes, room: int
) -> None:
    run = tmp_path_factory.mktemp("run")
    cell = msgspec_cell()
    place = run / cell.directory
    (place / "splats").mkdir(parents=True)
    (place / "hang").mkdir()
    for path, content in (
        (place / "console.log", one + b"\n" + other), (place / "splats" / "01-x.txt", other),
        (place / "hang" / "who.txt", one), (place / "trials.jsonl", one),
        (place / "error.txt", other),
    ):  # fmt: skip
        path.write_bytes(content)
    found = gather(run, cell, room)
    assert found.console is not None and found.error is not None
    texts = [found.console, found.error, *found.splats, *found.hang]
    for each in texts:
        assert each.text.replace("\n", "").replace("\t", "").isprintable()
    marks = len("\n[999999 characters more]")
    last = max(map(len, found.console.text.split("\n")))
    assert sum(len(each.text) for each in texts) <= room + marks * len(texts) + last


def msgspec_cell() -> Cell:
    """A cell without anything of its own."""
    return Cell(
        name="k/f/w", kernel="k", role="stock", filesystem="f", workload="w", planned=1, seed=1,
        verdict=saved.Verdict(
            state="crashed", as_expected=False, claim="", trials=0, planned=1, outcomes={},
            exposed=0, rate=None, interval=(0.0, 1.0),
        ),
        directory="cells/k/f/w",
    )  # fmt: skip


def test_a_line_without_end_is_cut() -> None:
    assert len(evidence.clean("y" * 10_000)) == LINE + 3
    assert evidence.clean("a\r\nb\tc\x1b[31m") == "a\nb\tc\\x1b[31m"


# --- run.log ------------------------------------------------------------------

LOG = """\
2026-11-25T12:00:00.000+00:00 run r: results in /x
2026-11-25T12:00:10.000+00:00 cell a: starts [0/3]
2026-11-25T12:00:10.000+00:00 cell b: starts [0/3]
2026-11-25T12:00:12.500+00:00 cell a: trials begin
2026-11-25T12:00:13.000+00:00 trial a: held [1/2]
2026-11-25T12:00:20.000+00:00 cell a: held in 2 of 2 [1/3]
2026-11-25T12:00:20.000+00:00 cell c: starts [1/3]
2026-11-25T12:00:30.000+00:00 run r: interrupted
2026-11-26T12:00:00.000+00:00 run r: results in /x
2026-11-26T12:00:05.000+00:00 cell c: starts [1/3]
2026-11-26T12:00:06.000+00:00 cell c: held [2/3]
2026-11-26T12:00:06.000+00:00 cell b: starts [2/3]
not a line
2026-11-26T12:00:09.000+00:00 cell b: held [3/3]
yesterday cell b: starts
"""


def test_a_timeline_leaves_out_the_time_between_sittings(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text(LOG)
    times = timeline.read(tmp_path / "run.log", dict.fromkeys("abc"))
    assert [(s.name, s.begin, s.end, s.lane) for s in times.spans] == [
        ("a", 10, 20, 0), ("c", 35, 36, 0), ("b", 36, 39, 0)
    ]  # fmt: skip
    assert (times.seconds, times.lanes) == (39, 1)


def test_guests_at_once_have_a_lane_each(tmp_path: Path) -> None:
    log = LOG.replace(": interrupted", ": going on").split("2026-11-26")[0]
    log += "2026-11-25T12:00:31.000+00:00 cell b: held [2/3]\n"
    (tmp_path / "run.log").write_text(log)
    times = timeline.read(tmp_path / "run.log", dict.fromkeys("abc"))
    assert [(s.name, s.lane) for s in times.spans] == [("a", 0), ("b", 1)]


def test_a_run_without_a_log(tmp_path: Path) -> None:
    assert timeline.read(tmp_path / "run.log", {}) == timeline.Timeline([], 0.0)
