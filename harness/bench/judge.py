# SPDX-License-Identifier: GPL-2.0
"""Figures of kernels against those of the base kernel, and against the goals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

from harness.bench.histogram import Histogram, merged
from harness.bench.record import Document
from harness.config import Goal

RESAMPLES = 10_000
CONFIDENCE = 0.95
_SEED = 20261130


@dataclass(frozen=True)
class Ratio:
    """How many times the base kernel's figure a figure is, and a 95 % interval of that."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One figure of one workload on one file system by one clock."""

    workload: str
    filesystem: str
    figure: str
    clock: str
    values: dict[str, float]  # medians over boots, by kernel
    boots: dict[str, int]
    ratios: dict[str, Ratio]  # of all but the base kernel, where there is one
    spread: dict[str, tuple[float, float]]  # least and most over boots

    @property
    def unit(self) -> str:
        """What the values are in: the last word of the figure's name."""
        return self.figure.rsplit("_", 1)[-1]


@dataclass(frozen=True)
class Verdict:
    """A goal on one workload and file system."""

    goal: Goal
    line: Line | None
    workload: str
    filesystem: str
    met: bool | None  # None: not measured
    text: str


def ratio(base: Sequence[float], other: Sequence[float]) -> Ratio | None:
    """The ratio of medians, with a bootstrap interval over rounds; None where base is 0.

    base[i] and other[i] were measured in the same round, and are drawn together: what was
    slow for all cancels out.  With one round there is no interval: it is the ratio itself.
    """
    import numpy as np

    rounds = min(len(base), len(other))
    if not rounds or not median(base):
        return None
    value = median(other) / median(base)
    if rounds == 1:
        return Ratio(value, value, value)
    first, second = np.asarray(base[:rounds]), np.asarray(other[:rounds])
    drawn = np.random.default_rng(_SEED).integers(0, rounds, (RESAMPLES, rounds))
    below = np.median(first[drawn], axis=1)
    below[below == 0] = np.nan
    tail = (1 - CONFIDENCE) / 2
    ends = np.nanquantile(np.median(second[drawn], axis=1) / below, [tail, 1 - tail])
    return Ratio(value, float(ends[0]), float(ends[1]))


def lines(document: Document) -> list[Line]:
    """All that was measured, in the order of harness.toml, the counted figures first."""
    return list(_lines(document))


def _lines(document: Document) -> Iterator[Line]:
    asked = document.asked
    for clock, workload, filesystem in product(
        ("icount", "tcg"), asked.workloads, asked.filesystems
    ):
        said = {
            kernel: document.of(clock, kernel, filesystem, workload) for kernel in asked.kernels
        }
        for figure in asked.figures[workload]:
            found = {
                kernel: {n: row.figures[figure] for n, row in rows.items() if figure in row.figures}
                for kernel, rows in said.items()
            }
            found = {kernel: values for kernel, values in found.items() if values}
            if found:
                yield _line(workload, filesystem, figure, clock, found, asked.kernels[0])


def _line(
    workload: str,
    filesystem: str,
    figure: str,
    clock: str,
    found: dict[str, dict[int, float]],
    base: str,
) -> Line:
    ratios = {}
    for kernel, values in found.items():
        if kernel == base or base not in found:
            continue
        both = sorted(values.keys() & found[base].keys())
        made = ratio([found[base][n] for n in both], [values[n] for n in both])
        if made is not None:
            ratios[kernel] = made
    return Line(
        workload,
        filesystem,
        figure,
        clock,
        {kernel: median(values.values()) for kernel, values in found.items()},
        {kernel: len(values) for kernel, values in found.items()},
        ratios,
        {kernel: (min(v.values()), max(v.values())) for kernel, v in found.items()},
    )


def verdicts(document: Document, measured: Sequence[Line]) -> list[Verdict]:
    """Each goal, on each workload and file system that it is about and that was asked for."""
    asked = document.asked
    if asked.candidate == asked.kernels[0]:
        return []  # one kernel alone
    by_key = {
        (each.workload, each.filesystem, each.figure, each.clock): each for each in measured
    }
    found = []
    for goal in asked.goals:
        if goal.clock == "tcg" and not asked.boots:
            continue
        for workload in goal.workloads:
            for filesystem in goal.filesystems or asked.filesystems:
                if (
                    workload in asked.workloads
                    and filesystem in asked.filesystems
                    and asked.takes(workload, filesystem)
                ):
                    line = by_key.get((workload, filesystem, goal.figure, goal.clock))
                    met, text = _judge(goal, line, asked.kernels[0], asked.candidate)
                    found.append(Verdict(goal, line, workload, filesystem, met, text))
    return found


def _judge(goal: Goal, line: Line | None, base: str, candidate: str) -> tuple[bool | None, str]:
    if line is None or base not in line.values or candidate not in line.values:
        return None, "not measured"
    if goal.more is not None:
        more = line.values[candidate] - line.values[base]
        return more <= goal.more, f"{more:+g} {line.unit}, at most {goal.more:+g}"
    made = line.ratios.get(candidate)
    if made is None:
        return None, f"{base} has 0"
    if line.boots[candidate] == 1:
        return made.value <= goal.most, f"{made.value:.4g}, at most {goal.most:g}"
    # A time has an interval: missed is what is above the bound beyond doubt.
    text = f"{made.value:.4g} [{made.low:.4g}, {made.high:.4g}], at most {goal.most:g}"
    return made.low <= goal.most, text


def pooled(
    document: Document, workload: str, filesystem: str, clock: str, name: str
) -> dict[str, Histogram]:
    """The histogram `name` of all boots together, by kernel; kernels without one are left out."""
    found = {}
    for kernel in document.asked.kernels:
        several = [
            one
            for row in document.of(clock, kernel, filesystem, workload).values()
            for one in row.histograms
            if one.histogram == name and one.count
        ]
        if several:
            found[kernel] = merged(several)
    return found
