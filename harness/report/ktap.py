# SPDX-License-Identifier: GPL-2.0
"""A run as KTAP version 1 (Documentation/dev-tools/ktap.rst): kernel, file system, cell.

Every cell that was planned is a line.  "ok" is a verdict as expected and nothing else:
what could not be tested is "not ok" with # ERROR, and # SKIP if it never ran, for a
reader that knows only "ok" must not take silence for success.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.experiment.trial import Outcome
from harness.plain import printable
from harness.report.saved import NOT_RUN, Cell, Planned, Saved

VERSION = "KTAP version 1"
INDENT = "  "
# Directives of ktap.rst.  A kernel that fails is a plain "not ok".
_DIRECTIVES: dict[Outcome, str] = {"hung": "TIMEOUT", "untested": "ERROR", "lost": "ERROR"}


def render(run: Saved) -> str:
    """The file report.ktap."""
    kernels: dict[str, dict[str, list[Cell | Planned]]] = {}
    for cell in run.in_order:
        kernels.setdefault(cell.kernel, {}).setdefault(cell.filesystem, []).append(cell)
    lines = [VERSION, f"# run {_safe(run.document.id)}, plan {_safe(run.document.plan)}"]
    lines.append(f"1..{len(kernels)}")
    for number, (kernel, filesystems) in enumerate(kernels.items(), 1):
        lines += [INDENT + VERSION, f"{INDENT}# Subtest: {_safe(kernel)}"]
        lines.append(f"{INDENT}1..{len(filesystems)}")
        for place, (filesystem, cells) in enumerate(filesystems.items(), 1):
            lines += [INDENT * 2 + line for line in _group(filesystem, cells)]
            lines.append(INDENT + _sum(place, filesystem, cells))
        lines.append(_sum(number, kernel, [c for cells in filesystems.values() for c in cells]))
    return "\n".join(lines) + "\n"


def _group(name: str, cells: list[Cell | Planned]) -> Iterator[str]:
    yield VERSION
    yield f"# Subtest: {_safe(name)}"
    yield f"1..{len(cells)}"
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, Planned):
            yield f"not ok {number} {_safe(cell.label)} # SKIP {NOT_RUN}"
            continue
        verdict = cell.verdict
        yield f"# {_safe(cell.label)}: {printable(verdict.claim)}"
        for splat in cell.splats:
            yield f"# {_safe(cell.label)}: {printable(splat.title)}"
        if verdict.as_expected:
            yield f"ok {number} {_safe(cell.label)}"
            continue
        directive = _DIRECTIVES.get(verdict.state)
        if cell.command:
            yield f"# {_safe(cell.label)}: run it again: {printable(cell.command)}"
        end = f" # {directive} {verdict.state}: {printable(verdict.reason)}" if directive else ""
        yield f"not ok {number} {_safe(cell.label)}{end}"


def _sum(number: int, name: str, cells: list[Cell | Planned]) -> str:
    good = all(isinstance(cell, Cell) and cell.verdict.as_expected for cell in cells)
    return f"{'ok' if good else 'not ok'} {number} {_safe(name)}"


def _safe(name: str) -> str:
    """A name in which nothing begins a directive."""
    return printable(name).replace("#", "_")
