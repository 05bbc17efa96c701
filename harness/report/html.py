# SPDX-License-Identifier: GPL-2.0
"""A run as one HTML page that needs nothing beside itself.

Every text is escaped by jinja2, and the page forbids itself (Content-Security-Policy)
whatever is not in it: what a guest wrote can load nothing and run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.experiment.statistics import percent
from harness.plain import printable
from harness.report import evidence, kernels, summary, timeline
from harness.report.evidence import Evidence
from harness.report.kills import KillMatrix
from harness.report.matrix import LETTERS, matrices, spoken, target
from harness.report.saved import Cell, Comparison, Saved
from harness.report.verdicts import duration, rate

TEXTS = 5_000_000  # characters of consoles and splats in all cells together
# One cell's share of them: what is wrong gets up to the first, what is not the last.
ROOM_WRONG, ROOM_WELL = 48_000, 1_600
ROOM_LEAST = 400
MOST_WRONG = 40  # reasons that are listed at the top
MOST_ALIKE = 12  # cells of one of them
MOST_OPEN = 12  # sections that are open from the start
SLOWEST = 10


@dataclass(frozen=True)
class Section:
    """A cell's section."""

    cell: Cell
    spoken: str
    rate: str
    evidence: Evidence
    open: bool


@dataclass(frozen=True)
class Group:
    """Cells that are not as expected for the same reason."""

    state: str
    reason: str
    cells: list[Cell]


@dataclass(frozen=True)
class Bar:
    """A part of the timeline, in user units of the drawing."""

    x: float
    width: float
    row: int
    state: str
    title: str
    label: str = ""
    expected: bool = True


@dataclass(frozen=True)
class Drawing:
    """The timeline: rows of bars over an axis."""

    rows: list[str]
    bars: list[Bar]
    ticks: list[tuple[float, str]]
    width: float
    left: float


def render(run: Saved, kills: KillMatrix | None = None) -> str:
    """The file report.html."""
    templates = environment()
    script = templates.get_template("report.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    groups = _groups(run.wrong)
    times = timeline.read(run.directory / "run.log", {cell.name: cell for cell in run.cells})
    return templates.get_template("report.html").render(
        run=run,
        document=run.document,
        headline=summary.headline(run),
        roles=summary.role_sentences(run),
        wrong=run.wrong,
        wrong_groups=groups[:MOST_WRONG],
        most_alike=MOST_ALIKE,
        more_wrong=sum(len(group.cells) for group in groups[MOST_WRONG:]),
        matrices=matrices(run),
        letters=LETTERS,
        comparisons=[(each, ratio_text(each), ratio_plot(each)) for each in
                     run.document.comparisons],
        figures=_figures(run),
        kills=kills,
        base=kernels.base(list(run.document.kernels.values())),
        differences=kernels.differences(run),
        drawing=_drawing(run, times),
        slowest=sorted(run.cells, key=lambda cell: (-cell.seconds, cell.name))[:SLOWEST],
        machines=_machines(run.cells),
        sections=_sections(run),
        script=script,
        script_digest=digest,
    )  # fmt: skip


@cache
def environment() -> Environment:
    """That of all templates: everything is escaped, nothing may be undefined."""
    made = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    made.filters.update(
        duration=duration, percent=percent, plain=printable, target=target
    )
    return made


def _sections(run: Saved) -> list[Section]:
    wrong = max(1, len(run.wrong))
    well = max(1, len(run.cells) - len(run.wrong))
    of_wrong = max(ROOM_LEAST, min(ROOM_WRONG, TEXTS // 2 // wrong))
    of_well = max(ROOM_LEAST, min(ROOM_WELL, TEXTS // 2 // well))
    opened = {cell.name for cell in run.wrong[:MOST_OPEN]}
    return [
        Section(
            cell,
            spoken(run, cell),
            rate(_counts(cell)),
            evidence.gather(
                run.directory,
                cell,
                of_well if cell.verdict.as_expected and not cell.allowed else of_wrong,
            ),
            cell.name in opened,
        )
        for cell in run.cells
    ]


def _groups(cells: Sequence[Cell]) -> list[Group]:
    found: dict[tuple[str, str], Group] = {}
    for cell in cells:
        key = (cell.verdict.state, cell.verdict.reason or cell.verdict.claim)
        found.setdefault(key, Group(*key, [])).cells.append(cell)
    return list(found.values())


def _counts(cell: Cell) -> dict[str, object]:
    return {"rate": cell.verdict.rate, "interval": cell.verdict.interval}


def _figures(run: Saved) -> list[tuple[str, str, float, str]]:
    """Kernel, figure, guest instructions, and the ratio to the first stock kernel's."""
    measured, kernels = run.document.figures, run.document.kernels
    base = next((k for k in measured if k in kernels and kernels[k].role == "stock"), "")
    return [
        (kernel, name, value, f"{value / measured[base][name]:.4f}"
         if base and kernel != base and measured[base].get(name) else "")
        for kernel, figures in measured.items()
        for name, value in figures.items()
    ]  # fmt: skip


# --- ratios -------------------------------------------------------------------


def ratio_text(two: Comparison) -> str:
    """ "0 [0, 0.143]"."""
    low, high = two.interval
    ends = f"{low:.3g}, {'no bound' if high is None else f'{high:.3g}'}"
    return f"{'no bound' if two.ratio is None else f'{two.ratio:.3g}'} [{ends}]"


def ratio_plot(two: Comparison) -> tuple[float, float, float | None]:
    """Both ends of the interval and the ratio on a logarithmic axis, 1/100 to 100 as 0 to 1."""

    def place(value: float | None) -> float:
        if value is None:
            return 1.0
        return 0.0 if value <= 0.01 else min(1.0, (math.log10(value) + 2) / 4)

    low, high = two.interval
    return place(low), place(high), None if two.ratio is None else place(two.ratio)


# --- time ---------------------------------------------------------------------

_WIDTH, _LEFT = 1000.0, 90.0
_STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 6 * 3600, 86400)
_WIDE = 60.0  # a bar that can hold its name
_PER_CHARACTER = 6.5


def _drawing(run: Saved, times: timeline.Timeline) -> Drawing | None:
    stages = run.document.stages if run.document.sittings == 1 else {}
    whole = max(sum(stages.values()), times.seconds, 0.001)
    if not times.spans and not stages:
        return None
    scale = (_WIDTH - _LEFT) / whole
    rows, bars = [], []
    if stages:
        rows.append("stages")
        begin = 0.0
        for name, seconds in stages.items():
            label = name if seconds * scale > max(_WIDE, len(name) * _PER_CHARACTER) else ""
            title = f"{name}: {duration(seconds)}"
            bars.append(Bar(_LEFT + begin * scale, seconds * scale, 0, "stage", title, label))
            begin += seconds
    cells = {cell.name: cell for cell in run.cells}
    first = len(rows)
    rows += [f"guest {lane + 1}" for lane in range(times.lanes)]
    for span in times.spans:
        cell = cells[span.name]
        title = f"{span.name}: {cell.verdict.state}, {cell.expectation}"
        title += f", {duration(span.end - span.begin)}"
        title += f", {cell.machine.directory}" if cell.machine else ""
        width = (span.end - span.begin) * scale
        label = span.name if width > len(span.name) * _PER_CHARACTER else ""
        row = first + span.lane
        verdict = cell.verdict
        x = _LEFT + span.begin * scale
        bars.append(Bar(x, width, row, verdict.state, title, label, verdict.as_expected))
    step = next((step for step in _STEPS if whole / step <= 10), _STEPS[-1])
    ticks = [
        (_LEFT + second * scale, _clock(second)) for second in range(0, int(whole) + 1, step)
    ]
    return Drawing(rows, bars, ticks, _WIDTH, _LEFT)


def _clock(seconds: int) -> str:
    """ "0", "30 s", "2:30", "1:02:30"."""
    if seconds < 60:
        return f"{seconds} s" if seconds else "0"
    hours, rest = divmod(seconds, 3600)
    if hours:
        return f"{hours}:{rest // 60:02}:{rest % 60:02}"
    return f"{rest // 60}:{rest % 60:02}"


def _machines(cells: Sequence[Cell]) -> list[tuple[str, int, float]]:
    """(directory, cells, seconds) of each machine that cells shared, the slowest first."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        if cell.machine is not None:
            found.setdefault(cell.machine.directory, []).append(cell.seconds)
    rows = [(name, len(times), sum(times)) for name, times in found.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0]))
