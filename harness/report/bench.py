# SPDX-License-Identifier: GPL-2.0
"""A bench for people: lines on the terminal, a page, a part of a Markdown file, plots."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.bench.judge import Line, Verdict
from harness.bench.record import Document
from harness.errors import UsageError
from harness.experiment.store import write_text, writing
from harness.plain import printable
from harness.report import bench_plots
from harness.report.html import environment

HTML = "report.html"
BEGIN, END = "<!-- harness bench: begin -->", "<!-- harness bench: end -->"
PLOTS = "bench"  # directory of the plots, beside the Markdown file
CLOCKS = {
    "icount": "Counted: guest instructions, and nanoseconds of a clock that counts them",
    "tcg": "Timed: CPUs side by side, the host's clock",
}
_WORDS = {True: "met", False: "missed", None: "not measured"}


def number(value: float, unit: str) -> str:
    """A figure with its unit as it is read: "12,770", "9.3 ms", "1,064", "998/s"."""
    if unit == "s":  # so many a second
        return f"{value:,.0f}/s"
    if unit != "ns":
        return f"{value:,.0f}"
    for name, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.0f} ns"


def times(line: Line, kernel: str) -> str:
    """A kernel's figure as so many times the base's, with its interval where there is one."""
    ratio = line.ratios.get(kernel)
    if ratio is None:
        return ""
    text = f"{ratio.value:.4f}" if 0.1 <= ratio.value < 10 else f"{ratio.value:.3g}"
    if line.boots[kernel] == 1:
        return text
    return f"{text} [{ratio.low:.3g}, {ratio.high:.3g}]"


def told(
    document: Document, lines: Sequence[Line], verdicts: Sequence[Verdict]
) -> Iterator[str]:
    """What the terminal shows: each goal, and each figure beside the base kernel's."""
    base, candidate = document.asked.kernels[0], document.asked.candidate
    rows = [["", "filesystem", "workload", "figure", "clock", base, candidate, "ratio"]]
    for line in lines:
        if candidate in line.values:
            first = number(line.values[base], line.unit) if base in line.values else ""
            second = number(line.values[candidate], line.unit)
            rows.append(["", line.filesystem, line.workload, line.figure, line.clock, first,
                         second, times(line, candidate)])  # fmt: skip
    yield from _aligned(rows)
    if verdicts:
        yield ""
        yield from _aligned(
            [["goal", "filesystem", "workload", "figure", "clock", candidate]]
            + [[_WORDS[v.met], v.filesystem, v.workload, v.goal.figure, v.goal.clock, v.text]
               for v in verdicts]
        )  # fmt: skip


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield printable("  ".join(f"{t:{w}}" for t, w in zip(row, widths, strict=True)).rstrip())


def write(
    directory: Path, document: Document, lines: Sequence[Line], verdicts: Sequence[Verdict]
) -> list[Path]:
    """report.html in the bench's directory; its path.  InfraError when it cannot be written."""
    text = environment().get_template("bench.html").render(
        document=document,
        clocks=[(CLOCKS[clock], [line for line in lines if line.clock == clock])
                for clock in CLOCKS if any(line.clock == clock for line in lines)],
        verdicts=verdicts,
        words=_WORDS,
        number=number,
        times=times,
        plots=bench_plots.plots(document, lines),
        style=bench_plots.STYLE,
    )  # fmt: skip
    write_text(directory / HTML, text)
    return [directory / HTML]


# --- a part of a Markdown file --------------------------------------------------


def check(path: Path) -> str:
    """The text of a file that a bench may be put into; UsageError when it has no place for it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path}: cannot read it: {said}", hint=f"ls -l {path}") from error
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UsageError(
            f"{path}: no place for a bench: one line '{BEGIN}', and below it one '{END}'",
            hint=f"printf '{BEGIN}\\n{END}\\n' >>{path}",
        )
    return text


def insert(
    path: Path, document: Document, lines: Sequence[Line], verdicts: Sequence[Verdict]
) -> list[Path]:
    """Puts tables and plots between the two marks of a Markdown file; what was written.

    Plots become files in a directory beside it.  UsageError without the marks, InfraError
    when something cannot be written.
    """
    text = check(path)
    place = path.parent / PLOTS
    with writing(path.parent):
        place.mkdir(exist_ok=True)
    written = []
    for plot in bench_plots.plots(document, lines):
        written.append(place / f"{plot.name}.svg")
        write_text(written[-1], bench_plots.file(plot))
    body = "\n".join(markdown(document, lines, verdicts))
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    write_text(path, f"{before}{BEGIN}\n\n{body}\n\n{after}")
    return [path, *written]


def markdown(
    document: Document, lines: Sequence[Line], verdicts: Sequence[Verdict]
) -> Iterator[str]:
    """The part of docs/measurements.md, line by line."""
    asked = document.asked
    kernels = ", ".join(f"`{name}` ({document.kernels[name]['id']})" for name in document.kernels)
    yield f"Run {document.id}, {document.qemu}, guest `{asked.guest}`; kernels {kernels}."
    yield f"Ratios are to `{asked.kernels[0]}`."
    if verdicts:
        yield from ("", f"### Goals, on `{asked.candidate}`", "")
        yield "| | file system | workload | figure | clock | |"
        yield "|---|---|---|---|---|---|"
        for v in verdicts:
            state = "**missed**" if v.met is False else _WORDS[v.met]
            yield (f"| {state} | {v.filesystem} | `{v.workload}` | {_spaced(v.goal.figure)} |"
                   f" {v.goal.clock} | {v.text} |")  # fmt: skip
    for clock, title in CLOCKS.items():
        rows = [line for line in lines if line.clock == clock]
        if not rows:
            continue
        boots = max(max(line.boots.values()) for line in rows)
        yield from ("", f"### {title}", "")
        if boots > 1:
            yield f"{boots} boots of each kernel, in turns; medians, and ratios of medians with"
            yield "95 % bootstrap intervals."
            yield ""
        yield "| workload | file system | figure |" + "".join(f" {k} |" for k in asked.kernels)
        yield "|---|---|---|" + "---:|" * len(asked.kernels)
        for line in rows:
            cells = [
                f"{number(line.values[k], line.unit)} {_in_brackets(times(line, k))}".strip()
                if k in line.values else ""
                for k in asked.kernels
            ]  # fmt: skip
            yield (f"| `{line.workload}` | {line.filesystem} | {_spaced(line.figure)} |"
                   + "".join(f" {cell} |" for cell in cells))  # fmt: skip
    if any(document.sizes.values()):
        yield from ("", "### Bytes", "")
        names = list(dict.fromkeys(name for each in document.sizes.values() for name in each))
        yield "| struct |" + "".join(f" {k} |" for k in asked.kernels)
        yield "|---|" + "---:|" * len(asked.kernels)
        for name in names:
            values = [document.sizes.get(k, {}).get(name) for k in asked.kernels]
            yield f"| `{name}` |" + "".join(f" {'' if v is None else v} |" for v in values)
    yield ""
    for plot in bench_plots.plots(document, lines):
        yield f"![{plot.title}]({PLOTS}/{plot.name}.svg)"


def _spaced(figure: str) -> str:
    return re.sub(r"_(ns|ticks|bytes|s)$", "", figure).replace("_", " ")


def _in_brackets(text: str) -> str:
    return f"({text})" if text else ""
