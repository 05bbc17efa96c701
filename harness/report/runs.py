# SPDX-License-Identifier: GPL-2.0
"""Which run is meant, and what is in it: results/ as a person names it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import InfraError, UsageError
from harness.experiment.store import LATEST, began, read_run

Cell = Mapping[str, Any]


def every(root: Path) -> list[Path]:
    """The directories of all runs of plans, the oldest first; their names begin with the time."""
    return began(root, "run.json")


def find(root: Path, name: str = "") -> Path:
    """The run that `name` means: nothing or "latest", a directory, a name or the part of one.

    UsageError when there is none, or more than one of which it is a part.
    """
    if name in ("", LATEST):
        path = root / LATEST
        if (path / "run.json").is_file():
            return path.resolve()
        raise UsageError(f"no run yet: {root / LATEST} is missing", hint="harness run")
    for path in (root / name, Path(name)):
        if (path / "run.json").is_file():
            return path.resolve()
    runs = every(root)
    found = [path for path in runs if name in path.name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{name!r} may be any of {len(found)} runs: {', '.join(p.name for p in found[-3:])}",
            hint=f"ls {root}",
        )
    if any((place / "mutants.json").is_file() for place in (root / name, Path(name))):
        raise UsageError(
            f"{name} has a kill matrix and no run", hint=f"harness report --mutants {name}"
        )
    near = difflib.get_close_matches(name, [path.name for path in runs], n=1)
    raise UsageError(
        f"no run {name!r} in {root}" + (f" (did you mean {near[0]!r}?)" if near else ""),
        hint=f"ls {root}",
    )


def cell(document: Mapping[str, Any], name: str) -> Cell:
    """The finished cell that `name` means: its name, or a part that no other has.

    UsageError when there is none, or more than one.
    """
    cells: list[Cell] = document["cells"]
    found = [each for each in cells if each["name"] == name] or [
        each for each in cells if name in each["name"]
    ]
    if len(found) == 1:
        return found[0]
    run = document["id"]
    if found:
        shown = ", ".join(each["name"] for each in found[:3])
        raise UsageError(
            f"{name!r} may be any of {len(found)} cells of {run}: {shown}"
            + (" ..." if len(found) > 3 else ""),
            hint=f"harness logs {run}",
        )
    if name in document.get("not_run", ()):
        raise UsageError(
            f"cell {name} of {run} was not run", hint=f"harness run --resume {run}"
        )
    near = difflib.get_close_matches(name, [each["name"] for each in cells], n=1)
    raise UsageError(
        f"no cell {name!r} in {run}" + (f" (did you mean {near[0]!r}?)" if near else ""),
        hint=f"harness logs {run}",
    )


def readable(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """All runs whose run.json can be read, the oldest first."""
    found = []
    for path in every(root):
        try:
            found.append((path, read_run(path)))
        except InfraError:
            continue  # cut off while it was made, or not ours
    return found
