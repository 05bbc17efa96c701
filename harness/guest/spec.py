# SPDX-License-Identifier: GPL-2.0
"""What a machine is made of, and how it follows from a guest of harness.toml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness.guest.qemu import Accelerator
from harness.words import Guest


@dataclass(frozen=True)
class MachineSpec:
    """What a machine is made of.

    cmdline is added to CMDLINE.  boot_timeout_s is on KVM; the accelerator's
    slowdown stretches it.
    """

    bzimage: Path
    cpus: int
    memory_mib: int
    accelerator: Accelerator
    disk_mib: int
    programs: Mapping[str, Path]
    cmdline: Sequence[str] = ()
    boot_timeout_s: float = 30.0

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
