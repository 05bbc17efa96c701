# SPDX-License-Identifier: GPL-2.0
"""The plots of a bench: how many operations were slower than what, and ratios of figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.bench.histogram import Histogram
from harness.bench.judge import Line, pooled
from harness.bench.record import Document
from harness.report.html import environment

WIDTH, LEFT, TOP, HEIGHT = 640.0, 150.0, 30.0, 240.0
_RIGHT = 20.0
_ROW = 22.0
_LEGEND = 18.0
_POINTS = 400  # of a curve, at most
# One for each kernel, in their order: told apart without colour by their dashes.
STYLE = """\
svg.bench { font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg.bench text { fill: #1c2128; }
svg.bench .axis { stroke: #57606a; stroke-width: 1; }
svg.bench .grid { stroke: #57606a; stroke-width: 1; stroke-opacity: .2; }
svg.bench polyline, svg.bench .key { fill: none; stroke-width: 2; }
svg.bench .k0 { stroke: #57606a; } svg.bench circle.k0 { fill: #57606a; }
svg.bench .k1 { stroke: #b04600; stroke-dasharray: 7 3; } svg.bench circle.k1 { fill: #b04600; }
svg.bench .k2 { stroke: #7a2bbf; stroke-dasharray: 2 3; } svg.bench circle.k2 { fill: #7a2bbf; }
svg.bench .k3 { stroke: #0a6cc4; } svg.bench circle.k3 { fill: #0a6cc4; }
svg.bench circle { stroke-dasharray: none; }
@media (prefers-color-scheme: dark) {
  svg.bench text { fill: #e6edf3; }
  svg.bench .k0 { stroke: #9ea7b3; } svg.bench .axis, svg.bench .grid { stroke: #9ea7b3; }
}
"""
_KINDS = 4


@dataclass(frozen=True)
class Mark:
    """A ratio, in user units: both ends of its interval, itself, and which kernel's it is."""

    low: float
    high: float
    x: float
    y: float
    kind: int
    title: str


@dataclass(frozen=True)
class Plot:
    """A drawing; lengths in user units."""

    name: str  # of its file
    title: str
    x_label: str
    height: float
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    keys: list[tuple[float, int, str]]  # x, kind, kernel
    curves: list[tuple[int, str]] = field(default_factory=list)  # kind, points
    marks: list[Mark] = field(default_factory=list)
    width: float = WIDTH
    left: float = LEFT
    top: float = TOP


def plots(document: Document, lines: Sequence[Line]) -> list[Plot]:
    """The curves of what arrives by a schedule, then the ratios of everything, by clock."""
    found = []
    for clock in ("icount", "tcg"):
        for workload in document.asked.workloads:
            for filesystem in document.asked.filesystems:
                curves = pooled(document, workload, filesystem, clock, "visit")
                if curves:
                    found.append(_curves(document, workload, filesystem, clock, curves))
        made = [line for line in lines if line.clock == clock and line.ratios]
        if made:
            found.append(_ratios(document, clock, made))
    return found


def file(plot: Plot) -> str:
    """A plot as a file of its own."""
    return environment().get_template("bench.svg").render(plot=plot, style=STYLE)


def _keys(document: Document, kernels: Iterable[str]) -> list[tuple[float, int, str]]:
    names = list(kernels)
    step = (WIDTH - LEFT - _RIGHT) / max(1, len(names))
    every = document.asked.kernels
    return [(LEFT + i * step, every.index(k) % _KINDS, k) for i, k in enumerate(names)]


def _decades(low: float, high: float) -> tuple[int, int]:
    first = math.floor(math.log10(max(low, 1.0)))
    return first, max(first + 1, math.ceil(math.log10(max(high, 1.0))))


def _length(nanoseconds: float) -> str:
    for name, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:g} {name}"
    return f"{nanoseconds:g} ns"


def _curves(
    document: Document, workload: str, filesystem: str, clock: str, found: dict[str, Histogram]
) -> Plot:
    first, last = _decades(
        min(one.min for one in found.values()), max(one.max for one in found.values())
    )
    deepest = math.ceil(math.log10(max(one.count for one in found.values())))
    bottom = TOP + _LEGEND + HEIGHT

    def x(value: float) -> float:
        part = (math.log10(max(value, 10.0**first)) - first) / (last - first)
        return LEFT + part * (WIDTH - LEFT - _RIGHT)

    def y(share: float) -> float:
        return TOP + _LEGEND + HEIGHT * -math.log10(max(share, 10.0**-deepest)) / deepest

    curves = []
    for kernel, one in found.items():
        points = [(x(value), y(share)) for share, value in one.curve()]
        points.append((x(one.max), y(1 / one.count)))
        # What is nearer than half a unit to the one before it is not seen.
        thin = [points[0]]
        for point in points[1:]:
            if abs(point[0] - thin[-1][0]) + abs(point[1] - thin[-1][1]) >= 0.5:
                thin.append(point)
        thin = [*thin[:: max(1, len(thin) // _POINTS)], points[-1]]
        text = " ".join(f"{px:.1f},{py:.1f}" for px, py in thin)
        curves.append((document.asked.kernels.index(kernel) % _KINDS, text))
    shares = [(y(10.0**-n), "all" if not n else f"1 of {10**n}") for n in range(deepest + 1)]
    return Plot(
        f"{workload}-{filesystem}-{clock}",
        f"{workload} on {filesystem}, {clock}: share of visits that took longer",
        "from arrival to end",
        bottom + 40,
        [(x(10.0**n), _length(10.0**n)) for n in range(first, last + 1)],
        shares,
        _keys(document, found),
        curves,
    )


def _ratios(document: Document, clock: str, lines: Sequence[Line]) -> Plot:
    values = [v for line in lines for r in line.ratios.values() for v in (r.low, r.high) if v > 0]
    first = min(-1, math.floor(math.log10(min(values, default=1.0))))
    last = max(1, math.ceil(math.log10(max(values, default=1.0))))
    left = 290.0

    def x(value: float) -> float:
        part = (math.log10(max(value, 10.0**first)) - first) / (last - first)
        return left + min(part, 1.0) * (WIDTH - left - _RIGHT)

    marks, rows = [], []
    kernels = [k for k in document.asked.kernels if any(k in line.ratios for line in lines)]
    for i, line in enumerate(lines):
        at = TOP + _LEGEND + (i + 0.5) * _ROW
        rows.append((at, f"{line.workload} {line.filesystem} {line.figure}"))
        for j, kernel in enumerate(kernels):
            if (r := line.ratios.get(kernel)) is not None:
                offset = (j - (len(kernels) - 1) / 2) * 5
                title = f"{kernel}, {rows[-1][1]}: {r.value:.4g}"
                kind = document.asked.kernels.index(kernel) % _KINDS
                marks.append(Mark(x(r.low), x(r.high), x(r.value), at + offset, kind, title))
    base = document.asked.kernels[0]
    return Plot(
        f"ratios-{clock}",
        f"{clock}: each figure as so many times that of {base}",
        f"times {base}",
        TOP + _LEGEND + len(lines) * _ROW + 40,
        [(x(10.0**n), f"{10.0**n:g}") for n in range(first, last + 1)],
        rows,
        _keys(document, kernels),
        marks=marks,
        left=left,
    )
