# SPDX-License-Identifier: GPL-2.0
"""kernel x file system x race: the cells of a run in rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from harness.experiment.plan import OFF
from harness.experiment.trial import Outcome
from harness.report.saved import NOT_RUN, Cell, Planned, Saved

# What a verdict is called where there is room for one character.
LETTERS: dict[Outcome, str] = {
    "exposed": "E",
    "held": "H",
    "untested": "U",
    "crashed": "C",
    "hung": "T",  # as in timeout, which is how KTAP calls it
    "lost": "L",
}
NO_LETTER = "–"
# With more cells than this a chip says only its letter.
MOST_LABELLED = 160


@dataclass(frozen=True)
class Chip:
    """One cell: what is shown, and what is read out."""

    target: str  # "#control/ext4/punch@fault"; "" = not run, nothing to show
    state: str  # an Outcome, or "not run"
    letter: str
    label: str  # the variant: "fault", "off"; "" on kernels without switches
    expected: bool
    spoken: str  # "stock, ext4, punch-read-fault: held, as expected"


@dataclass(frozen=True)
class Row:
    """A workload; a list of chips for each column."""

    workload: str
    chips: list[list[Chip]]


@dataclass(frozen=True)
class Matrix:
    """The cells of a part of the run, see Saved.parts."""

    title: str
    kernels: list[tuple[str, str, int]]  # name, role, columns
    filesystems: list[str]  # one for each column
    rows: list[Row]
    labelled: bool


def matrices(run: Saved) -> list[Matrix]:
    """One for each part of the run: armed and unarmed cells are never one figure."""
    labelled = len(run.in_order) <= MOST_LABELLED
    return [_matrix(run, cells, title, labelled) for title, cells in run.parts]


def target(name: str) -> str:
    """The link to a cell's section, whose id is the cell's name."""
    return "#" + quote(name, safe="/@+~", errors="replace")


def spoken(run: Saved, cell: Cell | Planned) -> str:
    """What a screen reader says of a cell."""
    variant = cell.switch if isinstance(cell, Cell) else cell.variant
    parts = [cell.kernel, cell.filesystem, cell.workload]
    if variant:
        parts.append("every switch off" if variant == OFF else f"switch {variant}")
    if not cell.armed:
        parts.append("unarmed")
    where = ", ".join(parts)
    if isinstance(cell, Planned):
        return f"{where}: {NOT_RUN}"
    return f"{where}: {cell.verdict.state}, {cell.expectation}"


def _matrix(
    run: Saved, cells: Sequence[Cell | Planned], title: str, labelled: bool
) -> Matrix:
    kernels = list(dict.fromkeys(cell.kernel for cell in cells))
    columns = [
        (kernel, filesystem)
        for kernel in kernels
        for filesystem in dict.fromkeys(c.filesystem for c in cells if c.kernel == kernel)
    ]
    roles = {cell.kernel: cell.role for cell in run.cells}
    roles |= {name: kernel.role for name, kernel in run.document.kernels.items()}
    table: dict[str, dict[tuple[str, str], list[Chip]]] = {}
    for cell in cells:
        row = table.setdefault(cell.workload, {column: [] for column in columns})
        row[cell.kernel, cell.filesystem].append(_chip(run, cell))
    return Matrix(
        title,
        [(k, roles.get(k, ""), sum(column[0] == k for column in columns)) for k in kernels],
        [filesystem for _, filesystem in columns],
        [Row(name, list(row.values())) for name, row in table.items()],
        labelled,
    )


def _chip(run: Saved, cell: Cell | Planned) -> Chip:
    if isinstance(cell, Planned):
        return Chip("", NOT_RUN, NO_LETTER, cell.variant, False, spoken(run, cell))
    verdict = cell.verdict
    return Chip(
        target(cell.name),
        verdict.state,
        LETTERS[verdict.state],
        cell.switch or "",
        verdict.as_expected,
        spoken(run, cell),
    )
