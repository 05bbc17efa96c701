# SPDX-License-Identifier: GPL-2.0
"""Which cells a night runs, and in what order: those that tell most come first.

Changed: something that the cell depends on is not what it was when it last had a
verdict.  Failing: the last verdict was not as expected.  Flaky: of the same question,
some nights of the window said one thing and some another.  The rest comes last, the
longest ago first.  Within a class one race after the other, on all trees: a stock cell
says something only beside its control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.experiment.plan import Cell
from harness.nightly.record import CellNight, Night

CLASSES = ("changed", "failing", "flaky", "rest")


@dataclass(frozen=True)
class Choice:
    """A cell, and why it is run."""

    cell: Cell
    why: str  # of CLASSES


def order(
    cells: Sequence[Cell], keys: Mapping[str, str], earlier: Sequence[Night], window: int
) -> list[Choice]:
    """All cells, in the order in which they are to be run.

    `keys`: of each cell by name, see CellNight.key; `earlier`: nights, the newest first.
    """
    found = []
    races: dict[tuple[str, str], int] = {}  # in the order of the plan
    for position, cell in enumerate(cells):
        race = races.setdefault((cell.filesystem, cell.workload), len(races))
        past = history(cell.name, earlier, window)
        age = next((n for n, night in enumerate(earlier) if _ran(night, cell.name)), len(earlier))
        why = _why(keys[cell.name], past)
        rank = (CLASSES.index(why), -age if why == "rest" else 0, race, position)
        found.append((rank, cell, why))
    found.sort(key=lambda each: each[0])
    return [Choice(cell, why) for _, cell, why in found]


def history(name: str, earlier: Sequence[Night], window: int) -> list[CellNight]:
    """A cell's verdicts in the window's nights, the newest first."""
    return [night.cells[name] for night in earlier[:window] if _ran(night, name)]


def alike(past: Sequence[CellNight]) -> list[CellNight]:
    """Those that asked what the newest asked; `past`: of one cell, the newest first."""
    return [cell for cell in past if cell.key == past[0].key]


def flaky(past: Sequence[CellNight]) -> bool:
    """Whether the same question had both answers; `past` as above."""
    return len({cell.as_expected for cell in alike(past)}) > 1


def with_proof(choices: Sequence[Choice], cells: Sequence[Cell]) -> list[Cell]:
    """The chosen cells and those that must fire for their verdicts to count, in order."""
    wanted = {choice.cell.name for choice in choices}
    needs = {
        (c.cell.tree, c.cell.filesystem, c.cell.workload) for c in choices if c.cell.needs_fire
    }
    return [
        cell
        for cell in cells
        if cell.name in wanted
        or ((cell.must_fire or cell.may_fire)
            and (cell.tree, cell.filesystem, cell.workload) in needs)
    ]  # fmt: skip


def _ran(night: Night, name: str) -> bool:
    return name in night.cells and night.cells[name].ran


def _why(key: str, past: Sequence[CellNight]) -> str:
    if not past or past[0].key != key:
        return "changed"
    if not past[0].as_expected:
        return "failing"
    return "flaky" if flaky(past) else "rest"
