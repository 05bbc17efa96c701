# SPDX-License-Identifier: GPL-2.0
"""A run in a few lines: summary.md, and summary.txt of 72 columns for a cover letter."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from harness.experiment.plan import OFF
from harness.experiment.statistics import percent
from harness.plain import printable
from harness.report.saved import NOT_RUN, Cell, Planned, Saved
from harness.report.verdicts import duration, role_lines

WIDTH = 72
MOST_WRONG = 12  # cells that are told one by one
LONGEST = 280  # characters of a reason
_GAP = 2  # between columns


@dataclass(frozen=True)
class Table:
    """Workloads against kernels; the cells of a workload on all file systems are one entry."""

    title: str
    head: list[str]
    rows: list[list[str]]


def text(run: Saved) -> str:
    """summary.txt: no line is longer than 72 columns, but for words that are."""
    lines = _wrapped(headline(run)) + _wrapped(_when(run)) + [""]
    for line in role_sentences(run):
        lines += _wrapped(line, "* ")
    if wrong := run.wrong:
        lines += ["", "Not as expected:"]
        for cell in wrong[:MOST_WRONG]:
            lines += _wrapped(f"{cell.name}: {_reason(cell)}", "* ")
            lines += [f"  {line}" for line in _command(cell.command)]
        lines += _wrapped(_more(wrong)) if _more(wrong) else []
    for table in tables(run):
        for part in _narrow(table):
            lines += ["", *_wrapped(part.title + ":"), *_columns(part)]
    lines += ["", *_wrapped(KEY)]
    lines += ["", "Built from:"]
    for line in _facts(run):
        lines += _wrapped(line, "* ")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def markdown(run: Saved) -> str:
    """summary.md: the same for a page that understands tables."""
    lines = [f"## {_md(headline(run))}", "", _md(_when(run)), ""]
    lines += [f"* {_md(line)}" for line in role_sentences(run)]
    if wrong := run.wrong:
        lines += ["", "### Not as expected", ""]
        for cell in wrong[:MOST_WRONG]:
            lines.append(f"* **{_md(cell.name)}**: {cell.verdict.state}: {_md(_reason(cell))}  ")
            lines.append(f"  {_code(cell.command)}")
        lines += [f"* {_md(_more(wrong))}"] if _more(wrong) else []
    for table in tables(run):
        lines += ["", f"**{_md(table.title)}**", ""]
        lines.append("| " + " | ".join(map(_md, table.head)) + " |")
        lines.append("|---" * len(table.head) + "|")
        lines += ["| " + " | ".join(map(_md, row)) + " |" for row in table.rows]
    lines += ["", _md(KEY)]
    lines += ["", "### Built from", ""]
    lines += [f"* {_md(line)}" for line in _facts(run)]
    return "\n".join(lines) + "\n"


KEY = (
    "Cells as expected of those there are, file systems and switches together; > the lowest"
    " lower and < the highest upper end of their 95 % intervals; ! something is not as expected."
)


def headline(run: Saved) -> str:
    """What came out, in a sentence."""
    planned, done = len(run.in_order), len(run.cells)
    good = done - len(run.wrong)
    said = f"plan {run.document.plan}: {good} of {planned} cells as expected"
    if done < planned:
        said += f", {planned - done} {NOT_RUN}"
    return said


def tables(run: Saved) -> list[Table]:
    """One for each part of the run: its rates are of one kind."""
    return [_table(title, cells) for title, cells in run.parts]


def _table(title: str, cells: Sequence[Cell | Planned]) -> Table:
    columns = list(dict.fromkeys(map(_column, cells)))
    rows = []
    for workload in dict.fromkeys(cell.workload for cell in cells):
        of_row = [cell for cell in cells if cell.workload == workload]
        figures = [_figure([c for c in of_row if _column(c) == column]) for column in columns]
        rows.append([printable(workload), *figures])
    return Table(title, ["workload", *map(printable, columns)], rows)


def _column(cell: Cell | Planned) -> str:
    variant = cell.switch if isinstance(cell, Cell) else cell.variant
    # With every switch off a control kernel must hold: another question.
    return f"{cell.kernel} {OFF}" if variant == OFF else cell.kernel


def _figure(cells: Sequence[Cell | Planned]) -> str:
    """ "4/4 <1.15%"."""
    if not cells:
        return "-"
    done = [cell for cell in cells if isinstance(cell, Cell)]
    good = [cell for cell in done if cell.verdict.as_expected]
    said = f"{len(good)}/{len(cells)}"
    if lows := [cell.verdict.interval[0] for cell in good if cell.must_fire]:
        said += f" >{_percent(min(lows), 'down')}"
    elif highs := [cell.verdict.interval[1] for cell in good if cell.kind != "gate"]:
        fired = [cell for cell in good if cell.may_fire]
        if fired and any(cell.verdict.exposed for cell in fired):
            said += f" >{_percent(min(cell.verdict.interval[0] for cell in fired), 'down')}"
        said += f" <{_percent(max(highs), 'up')}"
    return said if len(good) == len(cells) else f"{said} !"


def _percent(rate: float, towards: str) -> str:
    return percent(rate, "up" if towards == "up" else "down").replace(" ", "")


def _when(run: Saved) -> str:
    document = run.document
    parts = [f"Run {document.id}"]
    parts += [f"begun {document.started}"] if document.started else []
    parts.append(f"took {duration(document.seconds)}")
    if document.status != "finished":
        parts.append(f"{document.status}" + (f" ({document.error})" if document.error else ""))
    if document.accelerator:
        parts.append(f"guests on {document.accelerator} ({document.accelerator_reason})")
    return ", ".join(parts) + "."


def role_sentences(run: Saved) -> list[str]:
    """What each role showed."""
    return role_lines([msgspec.to_builtins(cell) for cell in run.cells]) or ["no cell was finished"]


def _facts(run: Saved) -> Iterator[str]:
    document = run.document
    for kernel in document.kernels.values():
        parts = [f"{kernel.kernel} ({kernel.role}): {kernel.release or kernel.id}"]
        parts += [f"tree {kernel.tree}" + (f" ({kernel.source})" if kernel.source else "")]
        parts += [f"series {', '.join(kernel.series)}"] if kernel.series else []
        parts += [f"commit {kernel.source_commit[:12]}"] if kernel.source_commit else []
        parts += [kernel.compiler] if kernel.compiler else []
        yield "; ".join(parts)
    if document.qemu:
        yield document.qemu
    host = document.host
    if host:
        yield (
            f"host: {host.get('machine', '?')}, kernel {host.get('kernel', '?')},"
            f" {host.get('cpus', '?')} CPUs, {host.get('memory_mib', '?')} MiB"
        )


def _reason(cell: Cell) -> str:
    """Why it is not as expected; who waits for whom in a hung guest may be a page."""
    said = cell.verdict.reason or cell.verdict.claim
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."


def _more(wrong: Sequence[Cell]) -> str:
    left = len(wrong) - MOST_WRONG
    return f"and {left} more: see report.html" if left > 0 else ""


# --- of text ------------------------------------------------------------------


def _wrapped(line: str, bullet: str = "") -> list[str]:
    lines = textwrap.wrap(
        printable(line).replace(" %", "\xa0%"),  # a number keeps its unit
        WIDTH,
        initial_indent=bullet,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\xa0", " ") for line in lines]


def _command(command: str) -> list[str]:
    """A command over several lines, which a shell reads as one."""
    lines: list[str] = []
    for word in map(shlex.quote, shlex.split(command)):
        if lines and len(lines[-1]) + len(word) < WIDTH - 6:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}" if lines else word)
    return [printable(f"{line} \\") for line in lines[:-1]] + [printable(x) for x in lines[-1:]]


def _narrow(table: Table) -> Iterator[Table]:
    """The table in as many as it takes for each to fit."""
    first, taken = 1, 1
    for column in range(1, len(table.head)):
        wanted = [0, *range(first, column + 1)]
        if column > first and sum(_widths(table, wanted)) + _GAP * (len(wanted) - 1) > WIDTH:
            yield _part(table, first, column)
            first = column
        taken = column + 1
    yield _part(table, first, taken)


def _part(table: Table, first: int, end: int) -> Table:
    def cut(row: list[str]) -> list[str]:
        return [row[0], *row[first:end]]

    rows = [cut(row) for row in table.rows]
    return Table(table.title, cut(table.head), [row for row in rows if set(row[1:]) != {"-"}])


def _widths(table: Table, columns: Iterable[int]) -> list[int]:
    return [max(len(row[n]) for row in [table.head, *table.rows]) for n in columns]


def _columns(table: Table) -> list[str]:
    widths = _widths(table, range(len(table.head)))
    rows = [table.head, ["-" * width for width in widths], *table.rows]
    gap = " " * _GAP
    return [
        gap.join(f"{text:{width}}" for text, width in zip(row, widths, strict=True))
        for row in rows
    ]


# --- of markdown --------------------------------------------------------------


def _md(line: str) -> str:
    """A line in which nothing is markup."""
    line = printable(line).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", line)


def _code(command: str) -> str:
    return f"`{printable(command).replace('`', chr(39))}`"
