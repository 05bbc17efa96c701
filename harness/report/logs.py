# SPDX-License-Identifier: GPL-2.0
"""What a run has written of a cell: `harness logs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.plain import printable

# What may be asked for -> where it lies in the cell's directory.
KINDS = {
    "console": "console.log",
    "dmesg": "dmesg.txt",
    "output": "output.txt",
    "trials": "trials.jsonl",
    "error": "error.txt",
    "splats": "splats",
    "hang": "hang",
    "qemu": "qemu-cmd",
}


def overview(document: Mapping[str, Any], directory: Path) -> Iterator[str]:
    """One line per cell: its name, its verdict, and what there is to read of it."""
    for cell in document["cells"]:
        verdict = cell["verdict"]
        mark = " " if verdict["as_expected"] else "!"
        place = directory / cell["directory"]
        there = [kind for kind, name in KINDS.items() if (place / name).exists()]
        yield f"{mark} {cell['name']}: {verdict['state']} ({', '.join(there)})"
    for name in document.get("not_run", ()):
        yield f"! {name}: not run"


def text(place: Path, kind: str) -> Iterator[str]:
    """The lines of a cell's file, or of all files of a directory, safe for a terminal.

    UsageError when there is none.
    """
    path = place / KINDS[kind]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    there = [file for file in files if file.is_file() and file.name != "core"]
    if not there:
        also = [each for each, name in KINDS.items() if (place / name).exists()]
        raise UsageError(
            f"{place} has no {KINDS[kind]}; it has {', '.join(also) or 'nothing'}",
            hint=f"ls {place}",
        )
    for file in there:
        if path.is_dir():
            yield f"--- {file.name}"
        with file.open(encoding="utf-8", errors="replace", newline="\n") as stream:
            for line in stream:
                yield printable(line.rstrip("\r\n"), keep="\t")
