# SPDX-License-Identifier: GPL-2.0
"""results/nights/<id>/night.json: what a night saw, whole at any moment.

A night is written down after every step, so that one that was cut off can be gone on
with, and one that cannot says so.  Earlier nights are all the memory there is: nothing
else is kept between two nights.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.errors import InfraError
from harness.experiment import store

NIGHTS = "nights"
FILE = "night.json"
Status = Literal["running", "finished", "unfinished"]
# What became of a kernel: it is there, or why it is not.
Outcome = Literal[
    "built", "up to date", "does not apply", "not configured", "does not build", "no tree",
    "not tried",
]  # fmt: skip
BROKEN = ("does not apply", "not configured", "does not build")


class Port(msgspec.Struct):
    """A series on a tree."""

    verdict: str  # as `harness series check` says it
    where: str = ""  # "0004-x.patch: mm/filemap.c:12", of what conflicts
    key: str = ""  # of all that the verdict depends on


class TreeNight(msgspec.Struct):
    """A tree as it was."""

    version: str = ""
    commit: str = ""
    moved: str = ""  # the commit of the last night, if that was another one
    error: str = ""  # why it is not there
    series: dict[str, Port] = {}


class KernelNight(msgspec.Struct):
    """A kernel, and why it was built."""

    tree: str
    role: str
    id: str = ""
    outcome: Outcome = "not tried"
    changed: list[str] = []  # "tree debian-6.12: a..b", "series race-windows", "toolchain"
    error: str = ""
    hint: str = ""
    seconds: float = 0.0
    parts: dict[str, str] = {}  # what the id is made of, each hashed: to tell what changed
    figures: dict[str, float] = {}  # of the bench, guest instructions
    bench_error: str = ""


class CellNight(msgspec.Struct):
    """A cell's verdict, or that it had none."""

    kernel: str
    key: str  # of all it depends on: two nights with the same key asked the same question
    state: str = "not run"
    as_expected: bool = True
    reason: str = ""
    exposed: int = 0
    valid: int = 0
    rate: float | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    may_fire: bool = False
    must_fire: bool = False
    splats: list[str] = []
    run: str = ""
    why: str = ""  # it was run: "changed", "failing", "flaky", "rest"; or needed by another
    seconds: float = 0.0

    @property
    def ran(self) -> bool:
        """Whether there is a verdict of this night."""
        return self.state != "not run"


class Finding(msgspec.Struct):
    """One thing that the page says first."""

    kind: str  # see harness.nightly.decide
    subject: str  # a tree, a kernel, a cell, a figure
    text: str
    bad: bool = False
    since: str = ""  # the night of the last good verdict
    likely: str = ""  # what changed since then
    command: str = ""  # what to type
    more: list[str] = []  # other cells with the same story


class Night(msgspec.Struct):
    """One night."""

    id: str
    plan: str
    started: str
    budget_s: float
    status: Status = "running"
    ended: str = ""
    seconds: float = 0.0
    why: str = ""  # it did not finish
    accelerator: str = ""
    qemu: str = ""
    programs: str = ""
    toolchain: str = ""
    host: dict[str, Any] = {}
    trees: dict[str, TreeNight] = {}
    kernels: dict[str, KernelNight] = {}
    cells: dict[str, CellNight] = {}
    runs: list[str] = []  # names in results/, in their order
    stages: dict[str, float] = {}  # seconds
    findings: list[Finding] = []
    exit_code: int = 125


def now() -> datetime:
    """The time; in one place, so that a simulated fortnight can have its own."""
    said = os.environ.get("HARNESS_NOW")
    return datetime.fromisoformat(said) if said else datetime.now(UTC)


def begin(results: Path, plan: str, budget_s: float) -> tuple[Night, Path]:
    """A new night, and its directory."""
    started = now()
    root = results / NIGHTS
    with store.writing(results):
        root.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            name = f"{started:%Y%m%dT%H%M%SZ}" + (f"-{number}" if number else "")
            try:
                (root / name).mkdir()
                break
            except FileExistsError:
                number += 1
    night = Night(name, plan, started.isoformat(timespec="seconds"), budget_s)
    save(night, root / name)
    return night, root / name


def save(night: Night, directory: Path) -> None:
    """Writes night.json."""
    text = msgspec.json.format(msgspec.json.encode(night), indent=1).decode()
    store.write_text(directory / FILE, text + "\n")


def load(directory: Path) -> Night:
    """The night in `directory`.  InfraError when night.json cannot be read."""
    path = directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Night)
    except (OSError, msgspec.DecodeError) as error:
        raise InfraError(f"cannot read {path}: {error}", hint=f"less {path}") from error


def nights(results: Path) -> Iterator[tuple[Night, Path]]:
    """All nights that can be read, the newest first."""
    for directory in reversed(store.began(results / NIGHTS, FILE)):
        try:
            yield load(directory), directory
        except InfraError:
            continue


@contextmanager
def alone(results: Path) -> Iterator[None]:
    """One night at a time in a results directory; InfraError while another is under way."""
    root = results / NIGHTS
    with store.writing(results):
        root.mkdir(parents=True, exist_ok=True)
    held = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InfraError(
                f"another night is under way in {root}", hint=f"ls -t {root} | head -1"
            ) from error
        yield
    finally:
        os.close(held)
