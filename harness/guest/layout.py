# SPDX-License-Identifier: GPL-2.0
"""The files that a machine is started with, in its directory."""

from __future__ import annotations

from pathlib import Path

from harness.guest import initramfs
from harness.guest.spec import MachineSpec
from harness.guest.ssh import KeyPair

DISK = "disk0.img"
# They go with the machine; a disk may be wanted.
PASSING = ("host_key", "keys.cpio", "initramfs.cpio", DISK)


def make(
    here: Path, spec: MachineSpec, user: KeyPair, host: KeyPair, cache: Path, root: Path
) -> tuple[list[Path], Path, Path]:
    """Write them into `here`; the archives of the initramfs, the scratch disk, the initramfs.

    What holds a key is its owner's only.  OSError or InfraError when it cannot be written.
    """
    key, keys, image, disk = (here / name for name in PASSING)
    key.touch(0o600)
    key.write_bytes(host.dropbear())
    initramfs.write_keys(keys, user.authorized_key, key)
    archives = [*(spec.archives or initramfs.common(spec.programs, cache, root)), keys]
    initramfs.join(image, archives)
    with disk.open("wb") as file:
        file.truncate(spec.disk_mib << 20)
    return archives, disk, image
