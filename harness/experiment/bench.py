# SPDX-License-Identifier: GPL-2.0
"""What a kernel's paths cost, in guest instructions: the workloads of kind bench.

Under QEMU's -icount the guest's clock counts instructions, so that one boot is enough:
two of the same kernel give the same figures on any host at any load.  Cache misses and
what CPUs cost each other are not modelled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from harness.config import Config, nearest
from harness.errors import InfraError, UsageError
from harness.events import Event, Listener
from harness.experiment import store
from harness.experiment.berth import Bootable
from harness.experiment.cell import command
from harness.experiment.plan import Cell
from harness.experiment.preflight import DEVICE, MOUNT_POINT, Job, UntestableError, prepare
from harness.guest.machine import MachineSpec
from harness.guest.qemu import COUNTED
from harness.kernel.image import Image


@dataclass(frozen=True)
class Figure:
    """One number of a kernel; less is better."""

    name: str  # "fault-cold/ext4/hole_1_p50_ns"
    value: float  # guest instructions


def check_bench(cfg: Config, names: Sequence[str]) -> None:
    """UsageError for a name that is no workload of kind bench."""
    for name in names:
        if name not in cfg.benches:
            near = nearest(name, cfg.benches)
            raise UsageError(f"no bench {name!r} in harness.toml{near}", hint="harness list")


def measure(
    cfg: Config,
    image: Image,
    guest: str,
    workloads: Sequence[str],
    filesystems: Sequence[str],
    programs: Mapping[str, Path],
    directory: Path,
    machine: Callable[[MachineSpec, Path, str], Bootable],
    listen: Listener,
) -> list[Figure]:
    """The figures of each workload on each file system, from one boot for each of these.

    `machine` makes a machine in a directory below `directory`, not started.  Raises
    InfraError when the guest is not what was asked for or a workload prints no
    figures, and what a boot raises.
    """
    figures: list[Figure] = []
    for filesystem in filesystems:
        name = f"{image.kernel}-{filesystem}"
        place = directory / name
        with store.writing(directory):
            place.mkdir(parents=True, exist_ok=True)
        listen(Event("bench", image.kernel, f"{', '.join(workloads)} on {filesystem}"))
        spec = MachineSpec.of(cfg.guest[guest], image.bzimage, COUNTED, programs)
        try:
            with machine(spec, place, name) as running:
                for workload in workloads:
                    job = job_of(cfg, image, guest, filesystem, workload)
                    make_ready(job, running)
                    # fault-cold: no punch in its last part is no fault of the first one.
                    said, _ = trial(job, running, strict=False)
                    figures += [
                        Figure(f"{workload}/{filesystem}/{key}", float(said[key]))
                        for key in job.workload.figures
                        if key in said
                    ]
                    running.run(f"umount {MOUNT_POINT}")
        finally:
            store.delete_disks(place)
    return figures


def job_of(
    cfg: Config,
    image: Image,
    guest: str,
    filesystem: str,
    workload: str,
    device: str = DEVICE,
    mount: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Job:
    """One trial of a bench; its file system is on `device`.

    `mount`: further options, by the file system's type.
    """
    entry, chosen = cfg.workload[workload], cfg.filesystem[filesystem]
    cell = Cell(
        kernel=image.kernel,
        role=cfg.kernel[image.kernel].role,
        filesystem=filesystem,
        workload=workload,
        switch="",
        windows=(),
        trials=1,
        seed=1,
        kind="bench",
    )
    return Job(
        cell=cell,
        filesystem=msgspec.structs.replace(
            chosen, mount=[*chosen.mount, *mount.get(chosen.type, ())]
        ),
        workload=entry,
        cpus=cfg.guest[guest].cpus,
        release=image.release,
        timeout_s=entry.timeout_s,
        device=device,
    )


def make_ready(job: Job, machine: Bootable) -> None:
    """A file system for the bench, in a guest that is what was asked for; InfraError if not."""
    try:
        prepare(job, machine)
    except UntestableError as why:
        raise InfraError(f"bench {job.workload.source} on {job.cell.kernel}: {why}") from why


def trial(
    job: Job, machine: Bootable, more: str = "", strict: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """The JSON of the bench's one trial, and all lines it printed; `more`: its further arguments.

    InfraError when there is none, or when it did not take place as it should have; unless
    `strict`, a part of it that did not costs only the figures that are not there.
    """
    done = machine.run(f"{command(job)} {more}".rstrip(), job.timeout_s)
    cell, lines = job.cell, done.stdout.splitlines()
    for line in lines:
        if line.startswith('# {"trial"'):
            said: dict[str, Any] = json.loads(line[2:])
            whole = said.get("outcome", "held") == "held"
            if whole or (not strict and set(job.workload.figures) <= set(said)):
                return said, lines
            raise InfraError(
                f"bench {cell.workload} on {cell.kernel} and {cell.filesystem}: {said.get('why')}"
            )
    raise InfraError(
        f"bench {cell.workload} on {cell.kernel} and {cell.filesystem} gave no figures:"
        f" status {done.status}: {done.stderr.strip()[:200]}"
    )
