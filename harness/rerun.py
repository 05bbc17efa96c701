# SPDX-License-Identifier: GPL-2.0
"""`harness rerun`: a cell of an earlier run again, on the very kernel, with the same seed."""

from __future__ import annotations

import dataclasses
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import Config
from harness.errors import UsageError
from harness.events import Event, Listener
from harness.experiment import cell as cells_room
from harness.experiment import plan as plans
from harness.experiment.plan import Cell
from harness.experiment.preflight import MOUNT_POINT, Job, prepare
from harness.experiment.runner import Rooms
from harness.experiment.verdict import Verdict, judge
from harness.experiment.worker import job_of
from harness.guest.machine import Machine, MachineSpec
from harness.guest.programs import compile_workloads
from harness.guest.qemu import probe_accelerator
from harness.kernel import build, image
from harness.kernel.image import Image
from harness.places import boot_directory


def arguments(entry: Mapping[str, Any]) -> list[str]:
    """The command line that the cell's entry gives for itself, without the program."""
    words = shlex.split(entry["rerun"])
    at = next((n for n, word in enumerate(words) if word.endswith("harness")), 0)
    return words[at + 1 :]


def exact(document: Mapping[str, Any]) -> Rooms:
    """Rooms that give the kernels of that run, by id, and no others."""

    def ensure(name: str, cfg: Config, cache: Path, listen: Listener) -> Image:
        return kernel(document, name, cfg, cache, listen)

    return dataclasses.replace(Rooms(), ensure=ensure)


def kernel(
    document: Mapping[str, Any], name: str, cfg: Config, cache: Path, listen: Listener
) -> Image:
    """The image that run had of a kernel: kept in the cache, or what is built from it now.

    UsageError when neither has its id: then it would be another kernel's answer.
    """
    wanted = document.get("kernels", {}).get(name, {}).get("id")
    if wanted is None:
        raise UsageError(f"run {document['id']} had no kernel {name!r}", hint="harness logs")
    kept = image.load(cache / "kernels" / name / "images", wanted)
    if kept is not None:
        listen(Event("build", name, f"{kept.release}, as it was then"))
        return kept
    made = build.ensure(name, cfg, cache, listen)
    if made.id != wanted:
        raise UsageError(
            f"kernel {name} was {wanted} in {document['id']}, now it is {made.id},"
            " and the cache does not have the old one any more",
            hint=f"git log patches vm/kconfig harness.toml, or: harness run {document['plan']}",
        )
    return made


@dataclass(frozen=True)
class Bench:
    """One cell's machine, to look into it."""

    job: Job
    machine: Machine
    image: Image


def planned(document: Mapping[str, Any], entry: Mapping[str, Any], cfg: Config) -> Cell:
    """The cell as it was planned; UsageError when harness.toml has it no more, or otherwise."""
    filters = document["filters"]
    cells = plans.cells(
        cfg, document["plan"], filters["kernels"], filters["filesystems"], filters["workloads"],
        filters["trials"], document["seed"], filters["modes"],
    )  # fmt: skip
    for cell in cells:
        if cell.name == entry["name"] and cell.seed == entry["seed"]:
            return cell
    raise UsageError(
        f"{cfg.path} does not plan {entry['name']} as in {document['id']} any more",
        hint=f"harness run {document['plan']}",
    )


def bench(
    document: Mapping[str, Any],
    entry: Mapping[str, Any],
    cfg: Config,
    cache: Path,
    listen: Listener,
    directory: Path,
    gdb: Path | None = None,
    trials: int | None = None,
) -> Bench:
    """What it takes to run one cell alone, in a machine in `directory` that is not started."""
    cell = planned(document, entry, cfg)
    if trials is not None:
        cell = dataclasses.replace(cell, trials=trials)
    plan = cfg.plan[document["plan"]]
    found = kernel(document, cell.kernel, cfg, cache, listen)
    accelerator = probe_accelerator(cfg.guest[plan.guest].accel)
    programs = plans.needed(cfg, {cell.workload}, compile_workloads(cfg.root, cache, listen))
    spec = MachineSpec.of(cfg.guest[plan.guest], found.bzimage, accelerator, programs)
    job = job_of(cfg, plan, cell, found, accelerator)
    spec = dataclasses.replace(spec, gdb=gdb)
    return Bench(job, Machine(spec, directory, cfg.root, cache, listen, name=cell.name), found)


def gdb_line(image: Image, socket: Path) -> str:
    """What to type in another terminal: vmlinux, the kernel's own commands, source, the guest.

    The source is the kernel's worktree, which may have gone on to another commit.
    """
    argv = ["gdb", str(image.vmlinux)]
    helpers = image.vmlinux.with_name("vmlinux-gdb.py")
    if helpers.is_file():
        argv += ["-ex", f"source {helpers}"]
    source = image.vmlinux.parents[2] / "src"
    if source.is_dir():
        argv += ["-ex", f"directory {source}"]
    return shlex.join([*argv, "-ex", f"target remote {socket}"])


def under_gdb(
    document: Mapping[str, Any],
    entry: Mapping[str, Any],
    cfg: Config,
    cache: Path,
    listen: Listener,
    say: Callable[[str], None],
    trials: int | None = None,
) -> Verdict:
    """Runs the cell in a guest that waits for gdb before its first instruction.

    The verdict is of this cell alone: whether the control kernel fires is not asked.
    """
    with (
        tempfile.TemporaryDirectory(prefix="harness-gdb-") as place,  # unix sockets want it short
        boot_directory(cache, entry["kernel"]) as directory,
    ):
        socket = Path(place) / "gdb"

        def told(event: Event) -> None:
            listen(event)
            if event.data.get("gdb"):  # the socket is there
                say("the guest waits for gdb; in another terminal:")
                say(f"  {gdb_line(made.image, socket)}")
                say("then `continue`; no limit of time is kept")

        made = bench(document, entry, cfg, cache, told, directory, socket, trials)
        attempt = cells_room.run(made.job, made.machine, directory, listen)
        return judge(made.job.cell, attempt.trials, attempt.evidence(True))


def shell(
    document: Mapping[str, Any],
    entry: Mapping[str, Any],
    cfg: Config,
    cache: Path,
    listen: Listener,
    enter: Callable[[Sequence[str], str], int],
) -> int:
    """A guest with the cell's file system mounted and its reproducer in place.

    enter(argv of ssh, command line of the reproducer) is a person's time in it; its status.
    """
    with boot_directory(cache, entry["kernel"]) as directory:
        made = bench(document, entry, cfg, cache, listen, directory)
        with made.machine as machine:
            prepare(made.job, machine)
            return enter(machine.invite(), f"cd {MOUNT_POINT}; {cells_room.command(made.job)}")
