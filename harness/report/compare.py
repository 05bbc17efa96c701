# SPDX-License-Identifier: GPL-2.0
"""Two runs, or two kernels: what changed, and whether it is worse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.experiment.statistics import percent, rate_ratio
from harness.experiment.store import read_run
from harness.report import runs
from harness.report.runs import Cell


@dataclass(frozen=True)
class Side:
    """One of the two: cells by what they have in common with the other's."""

    label: str
    run: Path
    kernel: str  # "": all of the run's
    cells: Mapping[tuple[Any, ...], Cell]
    # What each kernel's paths cost (`harness run --bench`): kernel, "" for the one, and name.
    figures: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One difference.  worse: of a kind that the exit code tells."""

    cell: str  # as the second side calls it
    what: str  # verdict, rate, splats, gone, new, figure
    text: str
    worse: bool = False

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {"cell": self.cell, "what": self.what, "text": self.text, "worse": self.worse}


@dataclass(frozen=True)
class Comparison:
    """All differences, and over how many cells that both have."""

    first: Side
    second: Side
    common: int
    changes: list[Change]

    @property
    def worse(self) -> bool:
        """Whether anything got worse."""
        return any(change.worse for change in self.changes)


def side(root: Path, words: str) -> Side:
    """What a word of the command line means: RUN, KERNEL (of the latest run), or RUN:KERNEL.

    UsageError when it means nothing.
    """
    run_name, _, kernel = words.partition(":")
    if not kernel and _is_kernel(root, words):
        run_name, kernel = "", words
    path = runs.find(root, run_name)
    document = read_run(path)
    kernels = list(dict.fromkeys(cell["kernel"] for cell in document["cells"]))
    if kernel and kernel not in kernels:
        raise UsageError(
            f"no cell of kernel {kernel!r} in {path.name}: there are {', '.join(kernels)}",
            hint=f"harness compare {path.name}:{kernels[0] if kernels else 'KERNEL'} ...",
        )
    cells = {
        _key(cell, bool(kernel)): cell
        for cell in document["cells"]
        if kernel in ("", cell["kernel"])
    }
    label = f"{path.name}:{kernel}" if kernel else path.name
    return Side(label, path, kernel, cells, _figures(document, kernel))


def compare(first: Side, second: Side) -> Comparison:
    """What is otherwise in `second`; UsageError for a run against a kernel."""
    if bool(first.kernel) != bool(second.kernel):
        raise UsageError(
            f"{first.label} and {second.label}: a run and a kernel cannot be compared",
            hint="harness compare RUN RUN, or: harness compare RUN:KERNEL RUN:KERNEL",
        )
    changes: list[Change] = []
    for key, before in first.cells.items():
        after = second.cells.get(key)
        if after is None and first.kernel and before["switch"]:
            continue  # only a control kernel has switches
        if after is None:
            text = f"not in {second.label}; was {before['verdict']['state']}"
            changes.append(Change(before["name"], "gone", text))
            continue
        changes += _cell(before, after)
    for key, after in second.cells.items():
        if key not in first.cells and not (second.kernel and after["switch"]):
            text = f"not in {first.label}; is {after['verdict']['state']}"
            changes.append(Change(after["name"], "new", text, not after["verdict"]["as_expected"]))
    common = len(first.cells.keys() & second.cells.keys())
    changes += _costs(first, second)
    changes.sort(key=lambda change: not change.worse)
    return Comparison(first, second, common, changes)


def lines(comparison: Comparison) -> list[str]:
    """For a person: what is worse first."""
    told = [
        f"{'WORSE  ' if change.worse else '       '}{change.cell}: {change.text}"
        for change in comparison.changes
    ]
    worse = sum(change.worse for change in comparison.changes)
    told.append(
        f"{comparison.first.label} -> {comparison.second.label}: {comparison.common} cells in both,"
        f" {len(comparison.changes)} differences, {worse} for the worse"
    )
    return told


def _is_kernel(root: Path, word: str) -> bool:
    """Whether the latest run has a kernel of that name, and no run is called so."""
    latest = root / "latest"
    if not (latest / "run.json").is_file() or (root / word).exists() or Path(word).exists():
        return False
    return word in {cell["kernel"] for cell in read_run(latest.resolve())["cells"]}


def _key(cell: Cell, without_kernel: bool) -> tuple[Any, ...]:
    key = (cell["filesystem"], cell["workload"], cell["switch"], cell["armed"])
    return key if without_kernel else (cell["kernel"], *key)


def _cell(before: Cell, after: Cell) -> list[Change]:
    old, new = before["verdict"], after["verdict"]
    found = []
    worse = bool(old["as_expected"] and not new["as_expected"])
    if old["state"] != new["state"] or worse:
        text = f"{old['state']} -> {new['state']}"
        if not new["as_expected"]:
            text += f": {new['reason']}"
        found.append(Change(after["name"], "verdict", text, worse))
    titles = [{splat["title"] for splat in each["splats"]} for each in (before, after)]
    for title in sorted(titles[1] - titles[0]):
        found.append(Change(after["name"], "splats", f"new: {title}", True))
    for title in sorted(titles[0] - titles[1]):
        found.append(Change(after["name"], "splats", f"gone: {title}"))
    if change := _rate(after, old, new):
        found.append(change)
    return found


# Figures are counts of instructions, and repeat exactly; what changes them by less is
# the compiler's choice of registers and the layout.
TOLERANCE = 0.01


def _figures(document: Mapping[str, Any], kernel: str) -> dict[tuple[str, str], float]:
    return {
        ("" if kernel else name, figure): value
        for name, figures in document.get("figures", {}).items()
        if kernel in ("", name)
        for figure, value in figures.items()
    }


def _costs(first: Side, second: Side) -> list[Change]:
    """A line for each figure that both have: its ratio, and whether that is worse."""
    found = []
    for (kernel, figure), after in second.figures.items():
        before = first.figures.get((kernel, figure))
        if not before:
            continue
        ratio = after / before
        text = f"{before:.0f} -> {after:.0f} guest instructions, ratio {ratio:.4f}"
        name = f"{kernel or second.kernel} {figure}"
        found.append(Change(name, "figure", text, ratio > 1 + TOLERANCE))
    return found


def _rate(after: Cell, old: Mapping[str, Any], new: Mapping[str, Any]) -> Change | None:
    """A rate that is another one: the interval of the ratio does not have 1 in it."""
    first, second = _counts(new), _counts(old)
    if not (first[1] and second[1]) or not (first[0] or second[0]):
        return None
    ratio, low, high = rate_ratio(first, second)
    high = math.inf if high is None else high
    if low <= 1 <= high:
        return None
    # Where it must fire, less is worse, but only the verdict says how much is too little.
    worse = low > 1 and not after["must_fire"] and not after["may_fire"]
    rates = f"{percent(second[0] / second[1])} -> {percent(first[0] / first[1])}"
    shown = "no bound" if ratio is None or math.isinf(ratio) else f"{ratio:.3g}"
    ends = f"{low:.3g} to {'no bound' if math.isinf(high) else f'{high:.3g}'}"
    return Change(
        after["name"], "rate", f"exposed in {rates}, ratio {shown} [{ends}] at 95 %", worse
    )


def _counts(verdict: Mapping[str, Any]) -> tuple[int, int]:
    return verdict["exposed"], verdict["exposed"] + verdict["outcomes"]["held"]
