# SPDX-License-Identifier: GPL-2.0
"""mutants.json of `harness mutants` -> the kill matrix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.errors import InfraError, UsageError
from harness.experiment import store
from harness.report.saved import Kernel, Saved, convert

FILE = "mutants.json"


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What the reproducers did to a lock site that was turned off."""

    switch: str
    filesystem: str
    ran: list[str] = []
    killed_by: list[str] = []
    why: dict[str, str] = {}
    untested: dict[str, str] = {}
    trials: int = 0


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """An exposure with every switch off."""

    filesystem: str
    workload: str
    why: str = ""


class Kills(msgspec.Struct, frozen=True, kw_only=True):
    """mutants.json."""

    run: str = ""
    plan: str = ""
    trials: int = 0
    seed: int = 0
    kernel: Kernel | None = None
    matrix: list[Fate]
    false_alarms: list[Alarm] = []
    off: list[Fate] = []


@dataclass(frozen=True)
class Mark:
    """A workload against a mutant: "K" killed it, "." did not, "?" was untested, "" not run."""

    letter: str
    spoken: str


@dataclass(frozen=True)
class KillMatrix:
    """Rows are workloads, columns mutants."""

    kills: Kills
    columns: list[Fate]  # the mutants of each file system, then its kernel with no switch on
    filesystems: list[tuple[str, int]]  # with their number of columns
    rows: list[tuple[str, list[Mark]]]

    @property
    def dead(self) -> int:
        """Mutants that something noticed."""
        return sum(bool(fate.killed_by) for fate in self.kills.matrix)


def find(run: Saved, asked: str | None) -> KillMatrix | None:
    """The kill matrix that belongs to a run.

    That of the run `asked`, a name beside the run's or under results/, or a path; else the
    run's own; else the newest beside it whose kernel is one of the run's.  Raises
    UsageError when there is none of that name, InfraError when it cannot be read.
    """
    if asked is not None:
        for place in (run.directory.parent / asked, Path("results") / asked, Path(asked)):
            if (place / FILE).is_file():
                return _matrix(_load(place / FILE))
        raise UsageError(
            f"no {FILE} in run {asked!r}", hint=f"ls {run.directory.parent}/*/{FILE}"
        )
    if (run.directory / FILE).is_file():
        return _matrix(_load(run.directory / FILE))
    built = {kernel.id for kernel in run.document.kernels.values()}
    for directory in reversed(store.began(run.directory.parent, FILE)):
        try:
            kills = _load(directory / FILE)
        except InfraError:
            continue  # nobody asked for that one
        # Of another kernel it says nothing about the races of this run.
        if kills.kernel is not None and kills.kernel.id in built:
            return _matrix(kills)
    return None


def _load(path: Path) -> Kills:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InfraError(f"cannot read {path}: {error}", hint=f"less {path}") from error
    return convert(value, Kills, path)


def _matrix(kills: Kills) -> KillMatrix:
    columns = [*kills.matrix, *kills.off]
    order = dict.fromkeys(fate.filesystem for fate in columns)
    columns = [fate for name in order for fate in columns if fate.filesystem == name]
    workloads = dict.fromkeys(name for fate in columns for name in fate.ran)
    return KillMatrix(
        kills,
        columns,
        [(name, sum(fate.filesystem == name for fate in columns)) for name in order],
        [(name, list(_marks(name, columns))) for name in workloads],
    )


def _marks(workload: str, columns: list[Fate]) -> Iterator[Mark]:
    for fate in columns:
        where = f"{fate.filesystem}, {fate.switch}"
        if workload in fate.killed_by:
            yield Mark("K", f"{where}: noticed: {fate.why.get(workload, '')}")
        elif workload in fate.untested:
            yield Mark("?", f"{where}: untested: {fate.untested[workload]}")
        elif workload in fate.ran:
            yield Mark("·", f"{where}: not noticed")
        else:
            yield Mark("", f"{where}: not run")
