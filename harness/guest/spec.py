# SPDX-License-Identifier: GPL-2.0
"""What a machine is made of, and how it follows from a guest of harness.toml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness.guest.qemu import Accelerator
from harness.words import Guest

# panic=-1: a panic reboots, and -no-reboot makes QEMU exit.  loglevel=7: all but
# debug messages; "quiet" would hide WARN()s, which are mere warnings.
# no_timer_check: at boot the kernel gives timer interrupts a few milliseconds to
# arrive, and panics; on a busy host an emulated one is late.
CMDLINE = ("console=ttyS0", "panic=-1", "loglevel=7", "no_timer_check")
# The emulated TSC is the host's clock, equal on all CPUs, but the kernel cannot
# know and would read the HPET instead: a device, behind QEMU's one big lock,
# which makes the CPUs take turns at every ktime_get().
EMULATED_CMDLINE = ("tsc=reliable",)
UNLIMITED_S = 30 * 86400.0  # somebody is looking


@dataclass(frozen=True)
class Told:
    """What a replay machine is told at its start that it will be asked (guest/replay.py)."""

    commands: Sequence[str]  # in their order, each as it will be given to run()
    shift: int  # of -icount: an instruction takes 2**shift ns
    limit_s: float  # for all of them, on KVM, boot not included


@dataclass(frozen=True)
class MachineSpec:
    """What a machine is made of.

    cmdline is added to CMDLINE.  boot_timeout_s is on KVM; the accelerator's
    slowdown stretches it.  core: write down the memory of a guest that hangs.
    gdb: a unix socket to be made, on which QEMU's stub waits; the guest starts when gdb
    lets it, and nothing has a limit of time.  archives: what its initramfs begins with, where
    that is made already; then it takes neither `programs` nor tools of this host.  told: of a
    replay machine only.
    """

    bzimage: Path
    cpus: int
    memory_mib: int
    accelerator: Accelerator
    disk_mib: int
    programs: Mapping[str, Path]
    cmdline: Sequence[str] = ()
    boot_timeout_s: float = 30.0
    core: bool = False
    gdb: Path | None = None
    archives: Sequence[Path] = ()
    told: Told | None = None

    @property
    def emulated(self) -> bool:
        """Whether the guest's CPUs are QEMU's own work."""
        return self.accelerator.name != "kvm"

    def limit_s(self, seconds: float) -> float:
        """A limit that is meant for KVM, as this machine needs it."""
        return UNLIMITED_S if self.gdb is not None else seconds * self.accelerator.slowdown

    @property
    def whole_cmdline(self) -> tuple[str, ...]:
        """The kernel's command line, its words."""
        return (*CMDLINE, *(EMULATED_CMDLINE if self.emulated else ()), *self.cmdline)

    @classmethod
    def of(
        cls,
        guest: Guest,
        bzimage: Path,
        accelerator: Accelerator,
        programs: Mapping[str, Path],
        *cmdline: str,
    ) -> Self:
        """The machine of a guest of harness.toml; `cmdline` is added to the guest's own."""
        return cls(
            bzimage=bzimage,
            cpus=guest.cpus,
            memory_mib=guest.memory_mib,
            accelerator=accelerator,
            disk_mib=guest.disk_mib,
            programs=programs,
            cmdline=(*guest.cmdline, *cmdline),
            boot_timeout_s=guest.boot_timeout_s,
        )
