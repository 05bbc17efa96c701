# SPDX-License-Identifier: GPL-2.0
"""QEMU without a harness: a kernel, an init of one's own, and what the console says when."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import Config
from harness.guest import initramfs, qemu
from harness.guest.machine import MachineSpec

GUEST = "small"
SHEBANG = "#!/bin/sh\nexport PATH=/bin:/sbin\n"


@dataclass(frozen=True)
class Boot:
    """One boot, from QEMU's start to its end.

    seconds: of all of it.  marked_s: until the line that was waited for, None when it did not
    come.  said: the console.
    """

    status: int
    seconds: float
    marked_s: float | None
    said: str


def archive(place: Path, init: str, parts: Sequence[Path]) -> Path:
    """An initramfs of these archives, with `init` as /own."""
    place.mkdir(parents=True, exist_ok=True)
    own, whole = place / "own.cpio", place / "initramfs"
    own.write_bytes(initramfs.newc({"own": initramfs.regular("own", init.encode(), 0o755)}))
    initramfs.join(whole, [*parts, own])
    return whole


def command(cfg: Config, bzimage: Path, root: Path, place: Path) -> list[str]:
    """QEMU's command line for the small guest, as the harness has it, console on stdout."""
    guest, disk = cfg.guest[GUEST], place / "disk"
    with disk.open("wb") as file:
        file.truncate(guest.disk_mib << 20)
    accelerator = qemu.probe_accelerator("tcg")
    spec = MachineSpec.of(guest, bzimage, accelerator, {}, "rdinit=/own")
    return qemu.command(
        bzimage=bzimage, initramfs=root, cmdline=spec.whole_cmdline, cpus=guest.cpus,
        memory_mib=guest.memory_mib, accelerator=accelerator, disks=[disk],
        serial="stdio,signal=off", qmp=None,
    )  # fmt: skip


def boot(argv: Sequence[str], mark: str = r"(?!)", limit_s: float = 600.0) -> Boot:
    """Run it; `mark`: a pattern for the line whose time is wanted.  Killed after `limit_s`."""
    began, marked, said = time.monotonic(), None, []
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        watch = threading.Timer(limit_s, process.kill)
        watch.start()
        try:
            assert process.stdout is not None
            for raw in process.stdout:
                said.append(raw.decode(errors="replace"))
                if marked is None and re.search(mark, said[-1]):
                    marked = time.monotonic() - began
        finally:
            watch.cancel()
    return Boot(process.returncode, time.monotonic() - began, marked, "".join(said))
