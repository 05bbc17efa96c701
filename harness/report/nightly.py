# SPDX-License-Identifier: GPL-2.0
"""The morning's page of a night: what of night.json goes where, for HTML and Markdown.

Made from the nights that are stored and nothing else; can be made again at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from harness.experiment.statistics import clopper_pearson, percent
from harness.nightly import choose, trend
from harness.nightly.record import CellNight, KernelNight, Night
from harness.plain import printable
from harness.report.verdicts import duration

NONE = "–"
MOST_ALIKE = 8
MOST_FLAKY = 40
_WIDTH, _HEIGHT, _PAD = 340.0, 46.0, 8.0


@dataclass(frozen=True)
class Square:
    """One square of a table: yesterday's and today's."""

    before: str
    now: str
    bad: bool = False
    note: str = ""

    @property
    def text(self) -> str:
        """"applies", "applies -> conflicts"."""
        return self.now if self.before in (NONE, self.now) else f"{self.before} → {self.now}"


@dataclass(frozen=True)
class Flaky:
    """A cell whose answer depends on the night, over the window."""

    name: str
    wrong: int
    nights: int
    rate: str
    tonight: str


@dataclass(frozen=True)
class Speed:
    """A figure of a kernel over the window, as a drawing."""

    kernel: str
    figure: str
    values: list[float]
    changes: list[trend.Change]
    points: list[tuple[float, float]] = field(default_factory=list)
    against: str = ""  # of the tree's stock kernel: "1.002"

    @property
    def line(self) -> str:
        """The points of the drawing, as SVG has them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)

    @property
    def spoken(self) -> str:
        """What a screen reader says of it."""
        said = f"{self.kernel}, {self.figure}: {len(self.values)} nights, now {self.values[-1]:.0f}"
        for change in self.changes:
            nights = len(self.values) - 1 - change.at
            said += f"; {change.ratio - 1:+.1%} {_ago(nights)}"
        return said


@dataclass(frozen=True)
class Page:
    """All of it."""

    night: Night
    headline: str
    groups: list[tuple[str, list[tuple[str, str, str, list[str]]]]]
    trees: list[str]
    series: list[tuple[str, list[Square]]]
    kernels: list[tuple[str, KernelNight, Square, str, str]]
    flaky: list[Flaky]
    speed: list[Speed]
    times: list[tuple[str, str]]
    counts: str


def page(night: Night, earlier: Sequence[Night], window: int, tolerance: float) -> Page:
    """What there is to tell of `night`; `earlier`: the nights before, the newest first."""
    last = next(iter(earlier), None)
    return Page(
        night=night,
        headline=headline(night),
        groups=_groups(night),
        trees=list(night.trees),
        series=list(_series(night, last)),
        kernels=list(_kernels(night, earlier)),
        flaky=list(_flaky(night, earlier, window)),
        speed=list(_speed(night, earlier, window, tolerance)),
        times=[(name, duration(seconds)) for name, seconds in night.stages.items()],
        counts=_counts(night),
    )


def headline(night: Night) -> str:
    """"2 new failures, 1 slower", "All as expected"."""
    counts = {kind: len(list(each)) for kind, each in groupby(f.kind for f in night.findings)}
    told = [
        f"{number} {name if number == 1 else plural}"
        for kind, name, plural in (
            ("new failure", "new failure", "new failures"),
            ("slower", "figure is slower", "figures are slower"),
            ("still failing", "failure from before", "failures from before"),
            ("flaky", "flaky cell", "flaky cells"),
            ("could not test", "could not be tested", "could not be tested"),
        )
        if (number := counts.get(kind, 0))
    ]
    if night.status == "unfinished":
        return "This night did not finish" + (f": {', '.join(told)}" if told else "")
    return ", ".join(told) or "All as expected"


def markdown(made: Page) -> str:
    """The file nightly.md."""
    return "\n".join(_markdown(made)) + "\n"


def _markdown(made: Page) -> Iterator[str]:
    night = made.night
    yield f"# {made.headline}"
    yield ""
    yield (
        f"Night {night.id}, plan {night.plan}: {duration(night.seconds)} of"
        f" {duration(night.budget_s)}, guests on {night.accelerator or '?'}, {night.status}."
        f" {made.counts}"
    )
    for kind, findings in made.groups:
        yield from ("", f"## {kind.capitalize()}", "")
        for text, likely, command, more in findings:
            yield f"- {_md(text)}"
            if more:
                rest = f" and {len(more) - MOST_ALIKE} more" if len(more) > MOST_ALIKE else ""
                yield f"  also {', '.join(map(_md, more[:MOST_ALIKE]))}{rest}"
            if likely:
                yield f"  likely: {_md(likely)}"
            if command:
                yield f"  `{command}`"
    yield from ("", "## Series on trees", "")
    heads = [f"{name} {night.trees[name].version}" for name in made.trees]
    yield from _table(["series", *heads],
                      [[name, *(each.text for each in row)] for name, row in made.series])
    yield from ("", "## Kernels", "")
    yield from _table(
        ["kernel", "build", "why", "cells as expected"],
        [[name, square.text, why, cells] for name, _, square, why, cells in made.kernels],
    )
    if made.flaky:
        yield from ("", "## Flaky cells", "")
        yield from _table(
            ["cell", "not as expected", "exposed, with 95 % interval", "tonight"],
            [[f.name, f"{f.wrong} of {f.nights} nights", f.rate, f.tonight] for f in made.flaky],
        )
    if made.speed:
        yield from ("", "## Speed, guest instructions", "")
        yield from _table(
            ["kernel", "figure", "now", "to stock", "changes in the window"],
            [
                [s.kernel, s.figure, f"{s.values[-1]:.0f}", s.against or NONE,
                 ", ".join(f"{c.ratio - 1:+.1%} {_ago(len(s.values) - 1 - c.at)}"
                           for c in s.changes) or "none"]
                for s in made.speed
            ],
        )  # fmt: skip
    yield from ("", "## Time", "")
    yield from _table(["stage", "took"], [list(row) for row in made.times])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(map(_md, head)) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(map(_md, row)) + " |"


def _md(text: str) -> str:
    for old, new in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("\n", " ")):
        text = text.replace(old, new)
    return printable(text)


def _ago(nights: int) -> str:
    return "tonight" if nights == 0 else "last night" if nights == 1 else f"{nights} nights ago"


def _groups(night: Night) -> list[tuple[str, list[tuple[str, str, str, list[str]]]]]:
    made = []
    for kind, found in groupby(night.findings, key=lambda finding: finding.kind):
        rows = []
        for f in found:
            likely = f.likely + (f" (good on {f.since})" if f.since else "")
            rows.append((f.text, likely.strip(), f.command, f.more))
        made.append((kind, rows))
    return made


def _series(night: Night, last: Night | None) -> Iterator[tuple[str, list[Square]]]:
    names = sorted({name for tree in night.trees.values() for name in tree.series})
    for name in names:
        row = []
        for tree_name, tree in night.trees.items():
            port = tree.series.get(name)
            then = last.trees.get(tree_name) if last is not None else None
            was = then.series.get(name) if then is not None else None
            now = port.verdict if port else NONE
            row.append(
                Square(was.verdict if was else NONE, now, now == "conflicts",
                       port.where if port and now == "conflicts" else "")
            )  # fmt: skip
        yield name, row


def _kernels(
    night: Night, earlier: Sequence[Night]
) -> Iterator[tuple[str, KernelNight, Square, str, str]]:
    for name, kernel in night.kernels.items():
        was = next((n.kernels[name] for n in earlier if name in n.kernels), None)
        broken = kernel.outcome not in ("built", "up to date")
        took = f" in {duration(kernel.seconds)}" if kernel.outcome == "built" else ""
        before = was.outcome if was and (was.outcome in ("built", "up to date")) == broken else NONE
        square = Square(before, kernel.outcome + took, broken, kernel.error)
        last = next((n for n in earlier if any(_of(n, name))), None)
        cells = _expected(_of(night, name))
        if last is not None and (then := _expected(_of(last, name))) != cells:
            cells = f"{then} → {cells}"
        yield name, kernel, square, ", ".join(kernel.changed) or "nothing new", cells


def _of(night: Night, kernel: str) -> list[CellNight]:
    return [cell for cell in night.cells.values() if cell.kernel == kernel and cell.ran]


def _expected(cells: Sequence[CellNight]) -> str:
    return f"{sum(cell.as_expected for cell in cells)} of {len(cells)}" if cells else NONE


def _flaky(night: Night, earlier: Sequence[Night], window: int) -> Iterator[Flaky]:
    number = 0
    for name, cell in night.cells.items():
        past = choose.history(name, [night, *earlier], window)
        if not choose.flaky(past) or number == MOST_FLAKY:
            continue
        number += 1
        alike = choose.alike(past)
        exposed, valid = sum(c.exposed for c in alike), sum(c.valid for c in alike)
        low, high = clopper_pearson(exposed, valid)
        rate = f"{exposed} of {valid} [{percent(low, 'down')}, {percent(high, 'up')}]"
        wrong = sum(not each.as_expected for each in alike)
        yield Flaky(name, wrong, len(alike), rate, cell.state)


def _speed(
    night: Night, earlier: Sequence[Night], window: int, tolerance: float
) -> Iterator[Speed]:
    stock = {
        kernel.tree: kernel.figures for kernel in night.kernels.values() if kernel.role == "stock"
    }
    for name, kernel in night.kernels.items():
        for figure, value in kernel.figures.items():
            had = [n.kernels[name].figures.get(figure) for n in reversed(earlier[:window])
                   if name in n.kernels]  # fmt: skip
            values = [*(each for each in had if each is not None), value]
            base = stock.get(kernel.tree, {}).get(figure)
            against = f"{value / base:.3f}" if base and kernel.role == "candidate" else ""
            yield Speed(
                name, figure, values, trend.changes(values, tolerance), _points(values), against
            )


def _points(values: Sequence[float]) -> list[tuple[float, float]]:
    """A place for each value; the axis begins at 0, so that a small change looks small."""
    high = max(values) * 1.1 or 1.0
    step = (_WIDTH - 2 * _PAD) / max(1, len(values) - 1)
    return [
        (_PAD + n * step, _HEIGHT - _PAD - (_HEIGHT - 2 * _PAD) * value / high)
        for n, value in enumerate(values)
    ]


def _counts(night: Night) -> str:
    ran = [cell for cell in night.cells.values() if cell.ran]
    built = sum(kernel.outcome == "built" for kernel in night.kernels.values())
    kernels = f"{built} of {len(night.kernels)} kernels built"
    return f"{kernels}, {len(ran)} of {len(night.cells)} cells run."
