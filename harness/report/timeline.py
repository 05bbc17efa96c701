# SPDX-License-Identifier: GPL-2.0
"""run.log -> when each cell began and ended, and which guest had it.

A run that was gone on with has gaps between its sittings; they are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# 2026-11-25T12:03:44.060+00:00 cell control/ext4/punch@fault: starts [0/896]
_LINE = re.compile(r"(\S+) (?:cell|run) (\S+): (.*)")
_STARTS = re.compile(r"starts(?: \[|$)")
_SITTING = "results in "


@dataclass(frozen=True)
class Span:
    """A cell's time: seconds since the run began, and the guest (from 0) that had it."""

    name: str
    begin: float
    end: float
    lane: int


@dataclass(frozen=True)
class Timeline:
    """All cells whose beginning and end are known, in the order of their beginnings."""

    spans: list[Span]
    seconds: float  # from the first line to the last, without gaps

    @property
    def lanes(self) -> int:
        """How many guests there were at once, at most."""
        return max((span.lane for span in self.spans), default=-1) + 1


def read(path: Path, names: Mapping[str, object]) -> Timeline:
    """The timeline of a run.log; `names` are its cells.  Empty when it cannot be read."""
    open_: dict[str, tuple[float, int]] = {}
    spans: list[Span] = []
    last = 0.0
    for now, subject, message in _events(path):
        last = now
        if subject not in names:
            if message.startswith(_SITTING):
                open_.clear()  # what was under way is begun again
            continue
        if _STARTS.match(message):
            taken = {lane for _, lane in open_.values()}
            lane = next(n for n in range(len(taken) + 1) if n not in taken)
            open_[subject] = (now, lane)
        elif message != "trials begin" and subject in open_:
            begin, lane = open_.pop(subject)
            spans.append(Span(subject, begin, now, lane))
    return Timeline(sorted(spans, key=lambda span: (span.begin, span.lane)), last)


def _events(path: Path) -> Iterator[tuple[float, str, str]]:
    """(seconds since the beginning, subject, message) of the lines about cells and the run."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    clock, previous = 0.0, None
    for line in text.splitlines():
        # Most lines are about trials, and a run has a hundred thousand of them.
        if " cell " not in line[:50] and " run " not in line[:50]:
            continue
        match = _LINE.match(line)
        if match is None:
            continue
        try:
            now = datetime.fromisoformat(match[1])
        except ValueError:
            continue
        if previous is not None and not match[3].startswith(_SITTING):
            clock += max(0.0, (now - previous).total_seconds())
        previous = now
        yield clock, match[2], match[3]
