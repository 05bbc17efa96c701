# SPDX-License-Identifier: GPL-2.0
"""What lies in a cell's directory, cut to a size that a report can carry.

Guests wrote most of it: every text comes out printable, with no line and no whole longer
than asked.  A file that is missing or cannot be read is no evidence, and no error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from harness.plain import printable
from harness.report.saved import Cell

LINE = 240  # characters of a line that are shown
_BEFORE, _AFTER = 6, 40  # lines around the kernel's complaint
_TEXT = 128 << 10  # bytes of a report that are read
_TRIALS = 64 << 20  # and of trials.jsonl
_CONSOLE = 8 << 20  # bytes of a console that are searched for it
_OF_ERROR = 4  # lines
_SEEN = 3  # different sayings of an oracle that are quoted
# After these the last lines of a console say something.
_BLAMED = ("crashed", "hung", "lost")
_PLACE = re.compile(r" \([^()\s]+:\d+[^()]*\)")
_SPLATS = 6  # reports that are shown whole


class _Trial(msgspec.Struct):
    """The keys of a line of trials.jsonl that are counted; what is not there is None."""

    outcome: str = ""
    order: Any = None
    way: Any = None
    why: Any = ""


_decode = msgspec.json.Decoder(_Trial).decode


@dataclass(frozen=True)
class Excerpt:
    """Part of a file: where it is from, which part, and the text."""

    path: str  # relative to the run's directory
    what: str  # "the last 12 lines"
    text: str


@dataclass(frozen=True)
class Evidence:
    """Everything of a cell that is not in its entry in run.json."""

    orders: dict[str, int] = field(default_factory=dict)  # order class -> trials
    ways: dict[str, int] = field(default_factory=dict)  # alignment -> trials
    sayings: list[tuple[str, int]] = field(default_factory=list)  # why, how often
    splats: list[Excerpt] = field(default_factory=list)
    more_splats: int = 0
    hang: list[Excerpt] = field(default_factory=list)
    error: Excerpt | None = None
    console: Excerpt | None = None
    files: list[str] = field(default_factory=list)  # relative to the run's directory
    size: int = 0  # of the texts above


class _Room:
    """Characters that are left for the texts of one cell."""

    def __init__(self, size: int) -> None:
        self.left = self.size = size

    def take(self, text: str, share: float = 1.0) -> str:
        """The lines of `text`, clean, that fit into `share` of the characters that are left.

        Only those are cleaned: a report may be a hundred times as long as its part of the page.
        """
        limit = max(0, int(self.left * share))
        lines: list[str] = []
        at = size = 0
        while at <= len(text):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            line = clean(text[at:end])
            if size + len(line) > limit:
                # Of one line without end its beginning.
                lines = lines or [line[:limit]]
                lines.append(f"[{len(text) - at} characters more]")
                break
            lines.append(line)
            size += len(line) + 1
            at = end + 1
        taken = "\n".join(lines)
        self.left -= len(taken)
        return taken


def gather(run: Path, cell: Cell, room: int) -> Evidence:
    """The evidence of `cell` of the run in directory `run`, in about `room` characters."""
    place = run / cell.directory
    directories = [place, *sorted(place.glob("boot-[0-9]*"))]
    orders, ways, sayings = _trials(place / "trials.jsonl")
    left = _Room(room)
    hang = _hang(run, directories, left)
    reports = [path for each in directories for path in sorted((each / "splats").glob("*.txt"))]
    splats = [_file(run, path, left, 0.4) for path in reports[:_SPLATS]]
    error = _error(run, directories, left)
    return Evidence(
        orders,
        ways,
        sayings,
        splats,
        max(0, len(reports) - _SPLATS),
        hang,
        error,
        _console(run, directories, reports, left, 40 if cell.verdict.state in _BLAMED else 8),
        [str(path.relative_to(run)) for path in _files(directories)],
        left.size - left.left,
    )


def clean(text: str) -> str:
    """Text of a guest for a page: printable, and no line without end."""
    lines = text.replace("\r", "").split("\n")
    return "\n".join(
        printable(line if len(line) <= LINE else f"{line[:LINE]}...", keep="\t") for line in lines
    )


def _trials(path: Path) -> tuple[dict[str, int], dict[str, int], list[tuple[str, int]]]:
    orders: Counter[str] = Counter()
    ways: Counter[str] = Counter()
    sayings: Counter[str] = Counter()
    for line in _read(path, _TRIALS).splitlines():
        trial = _trial(line)
        if trial is None:
            continue  # cut off in the middle, when the host went down
        for counter, value in ((orders, trial.order), (ways, trial.way)):
            if isinstance(value, str):
                counter[clean(value)[:40]] += 1
        if trial.why and trial.outcome != "held":
            sayings[f"{trial.outcome}: {clean(str(trial.why))}"] += 1
    return dict(sorted(orders.items())), dict(sorted(ways.items())), sayings.most_common(_SEEN)


def _trial(line: str) -> _Trial | None:
    with contextlib.suppress(msgspec.MsgspecError):
        return _decode(line)
    # It is quick and strict: half a surrogate, which a guest may print, is none of its.
    with contextlib.suppress(ValueError, RecursionError):
        return msgspec.convert(json.loads(line), _Trial)
    return None


def _hang(run: Path, directories: Sequence[Path], left: _Room) -> list[Excerpt]:
    found = []
    for place in (each / "hang" for each in directories):
        if (who := place / "who.txt").is_file():
            # One line however many wait: a line for each is easier to read.
            waits = _read(who, _TEXT).strip().replace("; ", "\n")
            found.append(Excerpt(str(who.relative_to(run)), "", left.take(waits, 0.2)))
        # A guest that did not answer has no stacks, but its CPUs were asked.
        names = ("stacks.txt", "registers.txt")
        rest = next((place / name for name in names if (place / name).is_file()), None)
        if rest is not None:
            found.append(_file(run, rest, left, 0.4))
    return found


def _file(run: Path, path: Path, left: _Room, share: float) -> Excerpt:
    text = _read(path, _TEXT).strip()
    return Excerpt(str(path.relative_to(run)), "", left.take(text, share))


def _error(run: Path, directories: Sequence[Path], left: _Room) -> Excerpt | None:
    """What and where, and what to type; the console, which comes next, is shown by itself."""
    paths = [each / "error.txt" for each in directories]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        return None
    lines = _read(found, _TEXT).strip().split("\n")[:_OF_ERROR]
    return Excerpt(str(found.relative_to(run)), "", left.take("\n".join(lines), 0.3))


def _console(
    run: Path, directories: Sequence[Path], reports: Sequence[Path], left: _Room, wanted: int
) -> Excerpt | None:
    """The console around the first complaint; its last lines when there is none."""
    consoles = [each / "console.log" for each in directories if (each / "console.log").is_file()]
    if not consoles:
        return None
    path = consoles[-1]
    consoles_read: dict[Path, bytes] = {}  # of a boot with many complaints, read once
    for report in reports:
        at = report.parent.parent / "console.log"
        if at not in consoles_read:
            consoles_read[at] = _read_bytes(at, _CONSOLE)
        raw = consoles_read[at]
        first = _first_line(report)
        if first and (found := raw.find(first)) >= 0:
            begin = _lines_before(raw, found, _BEFORE)
            number = raw.count(b"\n", 0, begin) + 1
            text = raw[begin : found + _AFTER * LINE].decode(errors="replace")
            part = text.split("\n")[: _BEFORE + _AFTER]
            return Excerpt(
                str(at.relative_to(run)), f"from line {number}", left.take("\n".join(part))
            )
    part = [line for line in clean(_read_end(path)).split("\n") if line.strip()][-wanted:]
    while len(part) > 1 and sum(map(len, part)) + len(part) > left.left:
        part.pop(0)  # the last ones tell
    what = "the last line" if len(part) == 1 else f"the last {len(part)} lines"
    return Excerpt(str(path.relative_to(run)), what, left.take("\n".join(part)))


def _first_line(report: Path) -> bytes:
    """Of what the kernel said, in the file of a splat: its longest part that was UTF-8."""
    text = _read(report, _TEXT).split("\n\n", 1)[-1].strip()
    # File and line of a call were put in later.
    line = _PLACE.sub("", text.split("\n", 1)[0])
    return max(line.split("\ufffd"), key=len).strip().encode()


def _lines_before(raw: bytes, at: int, number: int) -> int:
    """Where the line begins that is so many lines before the one at `at`."""
    for _ in range(number + 1):
        at = max(0, raw.rfind(b"\n", 0, at))
    return at + 1 if at else 0


def _files(directories: Sequence[Path]) -> Iterator[Path]:
    for directory in directories:
        if not directory.is_dir():
            continue
        for path in sorted(directory.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                yield path
            elif path.name in ("splats", "hang"):
                yield from sorted(path.iterdir())


def _read(path: Path, most: int) -> str:
    return _read_bytes(path, most).decode(errors="replace")


def _read_bytes(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(most)
    except OSError:
        return b""


def _read_end(path: Path, most: int = 32 << 10) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - most))
            return stream.read(most).decode(errors="replace")
    except OSError:
        return ""
