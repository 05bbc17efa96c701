# SPDX-License-Identifier: GPL-2.0
"""One cell over the runs that had it: `harness history`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.report import runs
from harness.report.verdicts import rate

RUNS = 20  # the last so many that had the cell


@dataclass(frozen=True)
class Entry:
    """What one run said of a cell."""

    run: str
    kernel_id: str
    accelerator: str
    cell: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        verdict = self.cell["verdict"]
        return {
            "run": self.run,
            "kernel_id": self.kernel_id,
            "accelerator": self.accelerator,
            "state": verdict["state"],
            "as_expected": verdict["as_expected"],
            "exposed": verdict["exposed"],
            "trials": verdict["trials"],
            "rate": verdict["rate"],
            "interval": verdict["interval"],
        }


def history(root: Path, name: str, last: int = RUNS) -> dict[str, list[Entry]]:
    """For each cell whose name has `name` in it: what the last runs said, the oldest first.

    A name in full is that cell only.  UsageError when no run had such a cell.
    """
    found: dict[str, list[Entry]] = {}
    for path, document in runs.readable(root):
        for cell in document["cells"]:
            if name in cell["name"]:
                image = document.get("kernels", {}).get(cell["kernel"], {})
                entry = Entry(
                    path.name, image.get("id", "?"), document.get("accelerator", "?"), cell
                )
                found.setdefault(cell["name"], []).append(entry)
    if name in found:
        found = {name: found[name]}
    if not found:
        raise UsageError(f"no run in {root} had a cell like {name!r}", hint="harness logs")
    return {cell: entries[-last:] for cell, entries in sorted(found.items())}


def lines(found: Mapping[str, list[Entry]]) -> list[str]:
    """For a person."""
    told = []
    for name, entries in found.items():
        told.append(name)
        for entry in entries:
            verdict = entry.cell["verdict"]
            mark = "  " if verdict["as_expected"] else "! "
            told.append(
                f"  {mark}{entry.run:<44} {entry.kernel_id:<12} {entry.accelerator:<4}"
                f" {verdict['state']:<9} {rate(verdict)}"
            )
        states = [entry.cell["verdict"]["state"] for entry in entries]
        if len(set(states)) > 1:
            changes = sum(a != b for a, b in pairwise(states))
            told.append(f"  changed {changes} times in {len(states)} runs")
    return told
