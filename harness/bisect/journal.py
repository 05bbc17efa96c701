# SPDX-License-Identifier: GPL-2.0
"""journal.jsonl: what was asked, then each look at a commit, as a line that is whole or absent.

All that a bisection decides follows from its looks.  So it goes on by being run again
from the start, with the looks that there are read instead of taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.bisect.question import Kind, Sight
from harness.errors import UsageError
from harness.experiment.store import LineFile, began
from harness.places import NEWEST_RUN

NAME = "journal.jsonl"
RESULT = "bisect.json"  # there when it is finished
Look = Callable[[str, int, Kind, int, int], Sight]


class Journal:
    """The looks of one bisection: remembered, or taken and remembered.  A context manager."""

    def __init__(self, directory: Path, look: Look) -> None:
        """look(commit, number, upto, trials, hits) takes one, as Bench.look() does."""
        self._look = look
        self._known: dict[str, list[Sight]] = {}
        for entry in read(directory):
            if entry["what"] == "look":
                self._known.setdefault(entry["commit"], []).append(Sight.from_json(entry["sight"]))
        self._next: dict[str, int] = {}
        self._file = LineFile(directory / NAME)

    def look(self, commit: str, upto: Kind, trials: int, hits: int) -> Sight:
        """The next look at a commit."""
        number = self._next[commit] = self._next.get(commit, 0) + 1
        known = self._known.setdefault(commit, [])
        if number <= len(known):
            return known[number - 1]
        sight = self._look(commit, number, upto, trials, hits)
        known.append(sight)
        entry = {"what": "look", "commit": commit, "number": number, "sight": sight.to_json()}
        self._file.append(json.dumps(entry))
        return sight

    def looks(self, commit: str) -> list[Sight]:
        """Those at a commit so far, in this bisection's order."""
        return self._known.get(commit, [])[: self._next.get(commit, 0)]

    def all(self) -> Iterator[Sight]:
        """Every look that there was: what it all cost."""
        for sights in self._known.values():
            yield from sights

    def close(self) -> None:
        """What was written is on the disk."""
        self._file.close()


def begin(directory: Path, asked: Mapping[str, Any]) -> None:
    """The first line."""
    with LineFile(directory / NAME) as file:
        file.append(json.dumps({"what": "asked", **asked}))


def read(directory: Path) -> list[dict[str, Any]]:
    """Its whole lines; one that was cut off is none."""
    entries = []
    for line in (directory / NAME).read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "what" in entry:
            entries.append(entry)
    return entries


def find(root: Path, name: str) -> Path:
    """The directory of bisection `name`, or of the newest that did not finish; UsageError."""
    if name != NEWEST_RUN:
        directory = root / Path(name).name
        if not (directory / NAME).is_file():
            raise UsageError(f"no bisection {name!r} in {root}", hint=f"ls {root}")
        if (directory / RESULT).is_file():
            raise UsageError(
                f"bisection {directory.name} is finished", hint=f"less {directory / RESULT}"
            )
        return directory.resolve()
    for directory in reversed(began(root, NAME)):
        if not (directory / RESULT).is_file():
            return directory
    raise UsageError(f"no bisection in {root} ended early", hint="harness bisect --help")


def asked(directory: Path) -> dict[str, Any]:
    """What the bisection began with; UsageError when its journal does not say."""
    for entry in read(directory):
        if entry["what"] == "asked":
            return {key: value for key, value in entry.items() if key != "what"}
    raise UsageError(
        f"{directory / NAME} does not say what was asked for", hint="harness bisect --help"
    )
