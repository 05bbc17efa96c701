# SPDX-License-Identifier: GPL-2.0
"""What a bench has measured so far: a file for each boot, and bench.json of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.bench.histogram import Histogram
from harness.config import Config, Goal
from harness.errors import InfraError, UsageError
from harness.experiment import store
from harness.places import NEWEST_RUN

FILE, SAMPLES = "bench.json", "samples"
COUNTED_BOOTS = 1  # under icount the second one says the same


@dataclass(frozen=True)
class Boot:
    """One boot that is to be measured."""

    clock: str  # "icount" or "tcg"
    round: int  # from 1
    kernel: str
    filesystem: str

    @property
    def name(self) -> str:
        """Also of its directory and file."""
        return f"{self.clock}-{self.round:02}-{self.kernel}-{self.filesystem}"


class Row(msgspec.Struct, frozen=True):
    """What one workload said."""

    figures: dict[str, float]
    histograms: list[Histogram]


class Sample(msgspec.Struct, frozen=True):
    """What one boot said."""

    clock: str
    round: int
    kernel: str
    filesystem: str
    seconds: float  # of the host, boot included
    rows: dict[str, Row]


class Asked(msgspec.Struct, frozen=True):
    """What is to be measured."""

    kernels: list[str]  # the first is what the others are compared with
    candidate: str
    filesystems: list[str]
    workloads: list[str]
    boots: int  # with CPUs side by side, of each kernel and file system
    guest: str
    device: str
    goals: list[Goal]
    figures: dict[str, list[str]]  # of each workload, those that are compared
    only: dict[str, list[str]]  # file systems of workloads that do not take all

    def takes(self, workload: str, filesystem: str) -> bool:
        """Whether the workload runs on the file system."""
        return filesystem in (self.only.get(workload) or self.filesystems)


class Document(msgspec.Struct, kw_only=True):
    """bench.json."""

    id: str
    status: str  # "running", "finished", "interrupted", "failed"
    started: str  # UTC
    seconds: float
    asked: Asked
    host: dict[str, Any]
    qemu: str
    kernels: dict[str, dict[str, Any]] = {}
    sizes: dict[str, dict[str, int]] = {}  # bytes of a struct, by kernel
    sittings: int = 1
    samples: list[Sample] = []

    def of(self, clock: str, kernel: str, filesystem: str, workload: str) -> dict[int, Row]:
        """What a workload said in boots of one kind, by round."""
        return {
            sample.round: sample.rows[workload]
            for sample in self.samples
            if (sample.clock, sample.kernel, sample.filesystem) == (clock, kernel, filesystem)
            and workload in sample.rows
        }


def ask(
    cfg: Config,
    kernels: Sequence[str] = (),
    filesystems: Sequence[str] = (),
    workloads: Sequence[str] = (),
    boots: int | None = None,
    guest: str | None = None,
) -> Asked:
    """What [bench] of harness.toml asks for, or a part of it.

    A kernel or workload that is named need not be in [bench].  UsageError when there is no
    [bench], or for a name of nothing that can be measured.
    """
    bench = cfg.bench
    if bench is None:
        raise UsageError(f"{cfg.path.name} has no [bench]", hint="harness list")
    for kind, names, there in (
        ("kernel", kernels, list(cfg.kernel)),
        ("filesystem", filesystems, list(cfg.filesystem)),
        ("workload of kind bench", workloads, cfg.benches),
        ("guest", [guest] if guest is not None else [], list(cfg.guest)),
    ):
        for name in names:
            if name not in there:
                raise UsageError(f"no {kind} {name!r} in {cfg.path.name}", hint="harness list")
    chosen = list(dict.fromkeys(kernels)) or bench.kernels
    # The base is the kernel that others are compared with, wherever it was named.
    chosen = sorted(chosen, key=lambda name: name != bench.kernels[0])
    # In the order of [bench]; the others behind them.
    every = dict.fromkeys([*bench.workloads, *cfg.benches])
    rows = [name for name in every if name in (workloads or bench.workloads)]
    return Asked(
        kernels=chosen,
        candidate=bench.candidate if bench.candidate in chosen else chosen[-1],
        filesystems=list(dict.fromkeys(filesystems)) or bench.filesystems,
        workloads=rows,
        boots=bench.boots if boots is None else boots,
        guest=bench.guest if guest is None else guest,
        device=bench.device,
        goals=bench.goal,
        figures={
            name: [*cfg.workload[name].figures, *cfg.workload[name].rates] for name in rows
        },
        only={name: only for name in rows if (only := cfg.workload[name].filesystems)},
    )


def order(asked: Asked) -> list[Boot]:
    """All boots, kernels in turns: what changes on the host meets all of them alike.

    Each round begins with another kernel, so that none is always the first.
    """
    found = []
    for clock, rounds in (("icount", COUNTED_BOOTS), ("tcg", asked.boots)):
        for number in range(1, rounds + 1):
            turn = (number - 1) % len(asked.kernels)
            for filesystem in asked.filesystems:
                for kernel in [*asked.kernels[turn:], *asked.kernels[:turn]]:
                    found.append(Boot(clock, number, kernel, filesystem))
    return found


def save_sample(directory: Path, boot: Boot, sample: Sample) -> None:
    """The file of one boot."""
    place = directory / SAMPLES
    with store.writing(directory):
        place.mkdir(exist_ok=True)
    store.write_text(place / f"{boot.name}.json", msgspec.json.encode(sample).decode())


def samples(directory: Path) -> dict[str, Sample]:
    """By the name of their boots, those that are there; InfraError for one that is damaged."""
    found = {}
    for path in sorted((directory / SAMPLES).glob("*.json")):
        try:
            found[path.stem] = msgspec.json.decode(path.read_bytes(), type=Sample)
        except (msgspec.MsgspecError, OSError) as error:
            raise InfraError(
                f"cannot read {path}: {error}", hint=f"rm {path}  # it is measured again"
            ) from error
    return found


def save(directory: Path, document: Document) -> None:
    """bench.json, whole at any moment."""
    store.write_text(directory / FILE, msgspec.json.encode(document).decode() + "\n")


def load(directory: Path) -> Document:
    """bench.json of a directory; InfraError when there is none that can be read."""
    path = directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Document)
    except (msgspec.MsgspecError, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise InfraError(f"cannot read {path}: {said}", hint="harness bench") from error


def find(root: Path, name: str, finished: bool | None = None) -> Path:
    """The directory of the bench `name`, or the newest; UsageError when there is none.

    `finished`: one that is, or one that is not.
    """
    directories = store.began(root, FILE)[::-1]
    if name not in ("", NEWEST_RUN):
        directories = [path for path in directories if path.name == Path(name).name]
    for path in directories:
        if finished is None or (load(path).status == "finished") == finished:
            return path
    if name not in ("", NEWEST_RUN):
        ended = {None: "", True: ", or it did not finish", False: ", or it is finished"}
        raise UsageError(f"no bench {name!r} in {root}{ended[finished]}", hint=f"ls {root}")
    what = {None: "", True: " that is finished", False: " that ended early"}[finished]
    raise UsageError(f"no bench{what} in {root}", hint="harness bench")
