# SPDX-License-Identifier: GPL-2.0
"""A run as `store.py` left it: run.json in types, and the cells that it lacks.

Keys that older runs did not write yet have the value they then meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.errors import InfraError
from harness.experiment.plan import UNARMED
from harness.experiment.store import read_run
from harness.experiment.trial import Outcome

NOT_RUN = "not run"
ARMED = "Races, windows armed"
BY_CHANCE = "Races, windows not armed"
GATES = "Gates"
_T = TypeVar("_T")
_NAME = re.compile(r"([^/]+)/([^/]+)/(.+)")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The "verdict" of a cell; see experiment.verdict.Verdict."""

    state: Outcome
    as_expected: bool
    claim: str
    reason: str = ""
    trials: int
    planned: int
    outcomes: dict[str, int]
    exposed: int
    rate: float | None
    interval: tuple[float, float]
    boots: int = 1
    design_effect: float = 1.0
    window_hits: int = 0
    window_hits_by_name: dict[str, int] = {}


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A window of a cell."""

    name: str
    delay_us: int
    probability: int = 100
    partner: str | None = None
    attempt: str | None = None


class Splat(msgspec.Struct, frozen=True, kw_only=True):
    """A complaint of the kernel; `reason` only where harness.toml allows it."""

    kind: str
    title: str
    at: str | None = None
    interleaved: bool = False
    reason: str = ""


class Berth(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that a cell shared with others, and the how manieth of it this was."""

    directory: str
    turn: int


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A cell of run.json."""

    name: str
    kernel: str
    role: str
    filesystem: str
    workload: str
    kind: str = "race"
    switch: str | None = None
    armed: bool = True
    window: str | None = None
    windows: list[Window] = []
    planned: int
    seed: int
    must_fire: bool = False
    may_fire: bool = False
    min_rate: float | None = None
    verdict: Verdict
    splats: list[Splat] = []
    allowed: list[Splat] = []
    problems: list[str] = []
    machine: Berth | None = None
    attempts: int = 1
    host_load: float | None = None
    wall: dict[str, float] = {}
    directory: str
    rerun: str = ""

    @property
    def label(self) -> str:
        """What tells it from other cells of its kernel and file system."""
        return self.name.split("/", 2)[-1]

    @property
    def seconds(self) -> float:
        """From the start of the cell to its verdict."""
        return self.wall.get("cell", 0.0)

    @property
    def command(self) -> str:
        """What runs it again, typed in the checkout."""
        return self.rerun.removeprefix("exec ")

    @property
    def expectation(self) -> str:
        """In words, for a heading."""
        return "as expected" if self.verdict.as_expected else "NOT as expected"


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """A patch of a kernel's series."""

    series: str
    file: str
    subject: str
    hash: str  # first 12 hex digits of the sha256 of the file


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel of run.json: what it was built from, and with what."""

    kernel: str
    role: str
    id: str
    release: str = ""
    dotconfig: str = ""
    source_commit: str = ""
    series: list[str] = []
    patches: list[Patch] | None = None  # None: the run did not say
    compiler: str = ""
    tree: str = ""
    source: str = ""  # where the tree is from: "debian: linux-source-6.12"


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How many times one kernel's rate another's is; None: no bound."""

    workload: str
    filesystem: str
    armed: bool
    kernel: str
    against: str
    ratio: float | None
    interval: tuple[float, float | None]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """run.json."""

    id: str
    plan: str
    status: str
    started: str = ""
    seconds: float
    cells: list[Cell]
    planned: list[str] = []
    not_run: list[str] = []
    seed: int = 0
    jobs: int | None = None
    budget_s: float | None = None
    sittings: int = 1
    error: str = ""
    exit_code: int | None = None
    host: dict[str, Any] = {}
    qemu: str = ""
    stages: dict[str, float] = {}
    accelerator: str = ""
    accelerator_reason: str = ""
    slowdown: float | None = None
    programs: str = ""
    kernels: dict[str, Kernel] = {}
    guest: dict[str, Any] = {}
    comparisons: list[Comparison] = []
    core: bool = False
    figures: dict[str, dict[str, float]] = {}  # of the bench, by kernel; guest instructions
    first_trial_s: float | None = None


@dataclass(frozen=True)
class Planned:
    """A cell that was to be run and has no verdict."""

    name: str
    kernel: str
    filesystem: str
    workload: str
    variant: str
    armed: bool

    @property
    def label(self) -> str:
        """As Cell.label."""
        return self.name.split("/", 2)[-1]

    @classmethod
    def of(cls, name: str) -> Planned:
        """From the name that plan.cell_name() made."""
        match = _NAME.fullmatch(name)
        kernel, filesystem, rest = match.groups() if match else ("", "", name)
        armed = not rest.endswith(UNARMED)
        workload, _, variant = rest.removesuffix(UNARMED).partition("@")
        return cls(name, kernel, filesystem, workload, variant, armed)


@dataclass(frozen=True)
class Saved:
    """A run that is in `directory`."""

    directory: Path
    document: Document
    not_run: list[Planned]

    @property
    def cells(self) -> list[Cell]:
        """Those with a verdict, in the plan's order."""
        return self.document.cells

    @property
    def wrong(self) -> list[Cell]:
        """Those not as expected: what the kernel did before what could not be tested."""
        found = [cell for cell in self.cells if not cell.verdict.as_expected]
        return sorted(found, key=lambda cell: cell.verdict.state in ("untested", "lost"))

    @property
    def in_order(self) -> list[Cell | Planned]:
        """Every cell that was planned, in the plan's order; without a plan, what ran first."""
        found: dict[str, Cell | Planned] = {cell.name: cell for cell in self.cells}
        found.update((cell.name, cell) for cell in self.not_run)
        first = [found.pop(name) for name in self.document.planned if name in found]
        return [*first, *found.values()]

    @property
    def parts(self) -> list[tuple[str, list[Cell | Planned]]]:
        """Cells whose rates are of one kind, in three parts: a title and its cells.

        What was not run does not say whether it is a gate; another cell of its workload may.
        """
        gates = {cell.workload for cell in self.cells if cell.kind == "gate"}
        parts: dict[str, list[Cell | Planned]] = {ARMED: [], BY_CHANCE: [], GATES: []}
        for cell in self.in_order:
            races = ARMED if cell.armed else BY_CHANCE
            parts[GATES if cell.workload in gates else races].append(cell)
        return [(title, cells) for title, cells in parts.items() if cells]


def load(directory: Path) -> Saved:
    """The run in `directory`.  InfraError when its run.json is not one."""
    raw = read_run(directory)
    document = convert({"id": directory.name, **raw}, Document, directory / "run.json")
    finished = {cell.name for cell in document.cells}
    # A run that was killed too hard to say so has only what was planned.
    owed = dict.fromkeys([*document.planned, *document.not_run])
    return Saved(directory, document, [Planned.of(name) for name in owed if name not in finished])


def convert(value: Mapping[str, Any], kind: type[_T], path: Path) -> _T:
    """`value`, read from `path`, as a struct.  InfraError with the key that does not fit."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InfraError(f"cannot read {path}: {error}", hint=f"less {path}") from error
