# SPDX-License-Identifier: GPL-2.0
"""One boot of a bench: each workload on a file system of its own, one after the other."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.bench import histogram
from harness.bench.record import Asked, Boot, Row, Sample
from harness.config import Config
from harness.events import Event, Listener
from harness.experiment import store
from harness.experiment.bench import job_of, make_ready, trial
from harness.experiment.berth import Bootable
from harness.experiment.preflight import MOUNT_POINT
from harness.guest.machine import MachineSpec
from harness.guest.qemu import SLICED, Accelerator
from harness.kernel.image import Image

STRUCTS = ("inode", "address_space", "ext4_inode_info", "xfs_inode", "range_lock")
GDB_LIMIT_S = 120.0
# How much further apart a schedule's arrivals are where the clock is the host's, at most.
# Two CPUs of TCG need a fifth of a millisecond for a fault and 70 for a punch: time to spare.
_SLOWEST_SCHEDULE = 3.0

Make = Callable[[MachineSpec, Path, str], Bootable]


def measure(
    cfg: Config,
    asked: Asked,
    boot: Boot,
    image: Image,
    programs: Mapping[str, Path],
    real_time: Accelerator,
    directory: Path,
    machine: Make,
    listen: Listener,
) -> Sample:
    """All workloads of one boot, in a directory below `directory`.

    `real_time`: what "tcg" boots run on.  Raises InfraError when the guest is not what was
    asked for or a workload gives no figures, and what a boot raises.
    """
    began = time.monotonic()
    accelerator = SLICED if boot.clock == "icount" else real_time
    place = directory / "boots" / boot.name
    with store.writing(directory):
        place.mkdir(parents=True, exist_ok=True)
    spec = MachineSpec.of(cfg.guest[asked.guest], image.bzimage, accelerator, programs)
    rows: dict[str, Row] = {}
    try:
        with machine(spec, place, boot.name) as running:
            for workload in asked.workloads:
                if not asked.takes(workload, boot.filesystem):
                    continue
                listen(Event("command", boot.name, workload))
                job = job_of(
                    cfg, image, asked.guest, boot.filesystem, workload, asked.device,
                    cfg.bench.mount if cfg.bench is not None else {},
                )  # fmt: skip
                make_ready(job, running)
                # A schedule is in the guest's time; under icount nobody is slow.
                slow = job.workload.scheduled and boot.clock != "icount"
                more = f"--slow {min(accelerator.slowdown, _SLOWEST_SCHEDULE):.0f}" if slow else ""
                said, lines = trial(job, running, more)
                rows[workload] = Row(
                    {
                        key: float(value)
                        for key, value in said.items()
                        if isinstance(value, int | float) and not isinstance(value, bool)
                        if key in (*job.workload.figures, *job.workload.rates)
                    },
                    histogram.read(lines),
                )
                running.run(f"umount {MOUNT_POINT}")
    finally:
        store.delete_disks(place)
    return Sample(
        boot.clock,
        boot.round,
        boot.kernel,
        boot.filesystem,
        round(time.monotonic() - began, 1),
        rows,
    )


def sizes(vmlinux: Path) -> dict[str, int]:
    """Bytes of the structs that the lock is in, by gdb from the kernel's debug information.

    A struct that the kernel does not have is left out; {} without gdb.
    """
    asked = [word for name in STRUCTS for word in ("-ex", f"output sizeof(struct {name})",
                                                   "-ex", rf"echo \ {name}\n")]  # fmt: skip
    try:
        done = subprocess.run(
            ["gdb", "-nx", "-batch", *asked, str(vmlinux)],
            capture_output=True, text=True, timeout=GDB_LIMIT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {}
    for line in done.stdout.splitlines():
        size, _, name = line.partition(" ")
        if size.isdigit() and name in STRUCTS:
            found[name] = int(size)
    return found
