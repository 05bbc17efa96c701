# SPDX-License-Identifier: GPL-2.0
"""A cell that is run in another process, perhaps on another host: what it takes, what comes back.

A parcel has everything but the files that its machine is made of: of those it has names,
by content.  Whoever runs it says which of them it lacks, or runs the cell as it would be
run at home, and sends back what was seen and written.  Verdicts, and symbols, whose file is
twenty times a kernel's size, are the sender's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
from harness.errors import HarnessError
from harness.events import Event, Listener
from harness.experiment import cell as cells_room
from harness.experiment import facts
from harness.experiment.artefacts import Artefact, Shelf
from harness.experiment.berth import Bootable
from harness.experiment.cell import Attempt
from harness.experiment.preflight import Job, never
from harness.guest.machine import MachineSpec
from harness.guest.qemu import Accelerator
from harness.places import cache_dir

MachineMaker = Callable[[MachineSpec, Path, Path, Path, Listener, str], Bootable]
Probe = Callable[[str], Accelerator]

# How soon it is noticed that nobody wants the cell any more, and how often its machine is
# told: it may be just about to start.
TICK_S = 0.05
# Not sent back: keys and the initramfs, which every boot has anew, and disks.
_LEFT = ("*.img", "*.cpio", "host_key")
MOST_BYTES = 32 << 20  # of a file, from its beginning and as many from its end
LEFT_ALONE_S = 60.0  # a directory without a lock may be one that is about to be locked


@dataclass(frozen=True)
class Host:
    """Who runs parcels: cells are comparable only between equal ones."""

    name: str  # of the host
    cpus: int
    kernel: str
    python: str
    qemu: str
    harness: str  # version()
    accelerator: Accelerator | None  # None: what was asked for does not work there
    why_not: str = ""
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """What run.json says of it."""
        return {key: getattr(self, key) for key in ("name", "cpus", "kernel", "python", "qemu")}


@dataclass(frozen=True)
class Parcel:
    """A cell to be run once; `token` tells one attempt at it from the next."""

    token: str
    job: Job
    spec: MachineSpec  # without files: those are artefacts
    bzimage: Artefact
    archives: Sequence[Artefact]
    machine: MachineMaker
    probe: Probe
    harness: str

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """All of them."""
        return (self.bzimage, *self.archives)


@dataclass(frozen=True)
class Lacks:
    """It was not begun: the worker has not got these."""

    worker: str
    artefacts: Sequence[Artefact]


@dataclass(frozen=True)
class Refusal:
    """It was not begun: the worker is not one that this run may use."""

    worker: str
    why: str


@dataclass(frozen=True)
class Begun:
    """It was begun before, by a worker that is not there any more: nobody knows how far."""

    worker: str


@dataclass(frozen=True)
class Reply:
    """It was run."""

    worker: str
    attempt: Attempt
    files: Mapping[str, bytes]  # of the cell's directory, by relative path
    events: Sequence[Event]
    moved: Mapping[str, str]  # what paths of the worker are called there -> artefact's sha256
    directory: str  # what the cell's was called there
    load: float
    host: Host


Answer = Lacks | Refusal | Begun | Reply


def pack(job: Job, spec: MachineSpec, archives: Sequence[Artefact], bzimage: Artefact, token: str,
         machine: MachineMaker, probe: Probe) -> Parcel:  # fmt: skip
    """A cell, ready to be sent."""
    return Parcel(
        token=token,
        job=dataclasses.replace(job, symbols=None, stopped=never),
        spec=dataclasses.replace(spec, bzimage=Path(bzimage.name), programs={}),
        bzimage=bzimage,
        archives=archives,
        machine=machine,
        probe=probe,
        harness=version(),
    )


@functools.cache
def version() -> str:
    """What tells this harness from others: its source, by content."""
    whole = hashlib.sha256()
    root = Path(harness.__file__).parent
    for path in sorted(root.rglob("*.py")):
        whole.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return whole.hexdigest()[:12]


def look(asked: str, probe: Probe) -> Host:
    """This host, and whether the accelerator that was asked for works here."""
    accelerator, why_not, hint = None, "", ""
    try:
        accelerator = probe(asked)
    except HarnessError as error:
        why_not, hint = error.message, error.hint
    return Host(
        name=platform.node(),
        cpus=facts.host_cpus(),
        kernel=platform.release(),
        python=platform.python_version(),
        qemu=facts.qemu(),
        harness=version(),
        accelerator=accelerator,
        why_not=why_not,
        hint=hint,
    )


_look = functools.cache(look)  # a probe machine takes its time


def run(
    parcel: Parcel,
    worker: str = "",
    begin: Callable[[], None] = lambda: None,
    unwanted: Callable[[], bool] = never,
    cache: Path | None = None,
) -> Answer:
    """Runs it here.  A machine that it starts dies with the thread that calls this.

    `worker` is what we are called.  begin() is called when all is there, before anything
    is started.  Where unwanted() becomes true the machine is ended at once.
    """
    cache = cache or cache_dir()
    if parcel.harness != version():
        return Refusal(worker, "it has another version of the harness")
    host = _look(parcel.spec.accelerator.name, parcel.probe)
    if host.accelerator is None:
        return Refusal(worker, host.why_not)
    shelf = Shelf(cache)
    if missing := [each for each in parcel.artefacts if not shelf.has(each)]:
        return Lacks(worker, missing)
    begin()
    with _desk(cache) as directory:
        events: list[Event] = []
        over = threading.Event()
        spec = dataclasses.replace(
            parcel.spec,
            bzimage=shelf.path(parcel.bzimage),
            archives=[shelf.path(each) for each in parcel.archives],
        )
        name = parcel.job.cell.name
        machine = parcel.machine(spec, directory, cache, cache, events.append, name)
        watch = threading.Thread(target=_watch, args=(machine, unwanted, over), daemon=True)
        watch.start()
        load = facts.load()
        try:
            job = dataclasses.replace(parcel.job, stopped=unwanted)
            attempt = cells_room.run(job, machine, directory, events.append)
        finally:
            over.set()
            watch.join()
        return Reply(
            worker=worker,
            attempt=attempt,
            files=dict(_files(directory)),
            events=events,
            moved={str(shelf.path(each)): each.sha256 for each in parcel.artefacts},
            directory=str(directory),
            load=load,
            host=host,
        )


def _watch(machine: Bootable, unwanted: Callable[[], bool], over: threading.Event) -> None:
    while not over.wait(TICK_S):
        if unwanted():
            machine.kill()


@contextlib.contextmanager
def _desk(cache: Path) -> Iterator[Path]:
    """A directory for one cell; those that killed workers have left are removed."""
    for old in cache.glob("parcel-*"):
        with contextlib.suppress(OSError):
            if old.stat().st_mtime < time.time() - LEFT_ALONE_S:
                with _held(old):
                    shutil.rmtree(old, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix="parcel-", dir=cache))
    try:
        with _held(directory):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """A lock on it, which the kernel drops with the process; OSError while another has it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _files(directory: Path) -> Iterator[tuple[str, bytes]]:
    """What the cell has written, by its path in `directory`: regular files only."""
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not path.is_file() or any(path.match(p) for p in _LEFT):
            continue
        with path.open("rb") as file:
            content = file.read(2 * MOST_BYTES)
            if rest := path.stat().st_size - len(content):
                file.seek(-MOST_BYTES, os.SEEK_END)
                told = f"\n[{rest} bytes were left on {platform.node()}]\n".encode()
                content = content[:MOST_BYTES] + told + file.read(MOST_BYTES)
        yield str(path.relative_to(directory)), content
