# SPDX-License-Identifier: GPL-2.0
"""QEMU: which accelerator works here, and the command line."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfraError, UsageError
from harness.guest.process import Process, ending

PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
# By how much every time limit is stretched; the only place that says so.
SLOWDOWN = {"kvm": 1.0, "tcg": 5.0, "icount": 10.0}
PROBE_LIMIT_S = 5.0
# A firmware that starts a kernel and nothing else: a tenth of a boot quicker than SeaBIOS, which
# looks for disks and ROMs to boot from (docs/guest.md).
FIRMWARE = "qboot.rom"


@dataclass(frozen=True)
class Accelerator:
    """How the guest's CPUs are made, and why so."""

    name: str  # "kvm", "tcg" or "icount"
    slowdown: float  # factor for every time limit that was meant for KVM
    reason: str  # for a person: why this one
    # icount: CPUs take turns at least that often, in microseconds of the guest; 0: when a
    # timer of the guest is due, which may take milliseconds.
    slice_us: int = 0


# TCG with one thread for all CPUs and a clock that counts their instructions: a busy host
# changes nothing, and two boots give the same figures (QEMU, docs/devel/tcg-icount.rst).
COUNTED = Accelerator("icount", SLOWDOWN["icount"], "instructions are counted")
# The same with turns as short as an operation, for what one CPU waits for another.
SLICED = Accelerator("icount", SLOWDOWN["icount"], "instructions are counted, in slices", 20)
_COUNTING = ("-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm")


def find_qemu() -> str:
    """Path of the QEMU program; InfraError naming the package when missing."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise InfraError(f"{PROGRAM} is not installed", hint=f"sudo apt-get install {PACKAGE}")
    return found


def probe_accelerator(asked: str) -> Accelerator:
    """The accelerator to use for "auto", "kvm" or "tcg"; KVM is tried, not believed.

    InfraError: QEMU is missing, or "kvm" was asked for and does not work here.
    """
    if asked not in ("auto", "kvm", "tcg"):
        raise UsageError(f'accel = "{asked}": must be "auto", "kvm" or "tcg"')
    find_qemu()  # without KVM no probe machine would miss it before the first boot
    if asked == "tcg":
        return Accelerator("tcg", SLOWDOWN["tcg"], "asked for")
    why_not = why_no_kvm()
    if not why_not:
        return Accelerator("kvm", SLOWDOWN["kvm"], "/dev/kvm ran a probe machine")
    if asked == "kvm":
        raise InfraError(f"KVM does not work here: {why_not}", hint='set accel = "auto" or "tcg"')
    return Accelerator("tcg", SLOWDOWN["tcg"], f"KVM does not work here: {why_not}")


@functools.cache
def why_no_kvm() -> str:
    """Why KVM cannot be used on this host; "" when a probe machine ran under it."""
    with contextlib.suppress(OSError):
        flags = set(Path("/proc/cpuinfo").read_text().split())
        if not flags & {"vmx", "svm"}:
            return "no vmx or svm in /proc/cpuinfo"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm cannot be opened for reading and writing"
    return run_probe("kvm")


# A boot sector (16-bit code): write 0x10 to the debug-exit port, halt.
#   mov al, 0x10;  out 0xf4, al;  cli;  hlt;  jmp to the hlt
_BOOT_SECTOR = bytes.fromhex("b010 e6f4 fa f4 ebfd").ljust(510, b"\0") + b"\x55\xaa"
_PROBE_STATUS = (0x10 << 1) | 1  # what isa-debug-exit makes of 0x10


def run_probe(accelerator: str, limit_s: float = PROBE_LIMIT_S) -> str:
    """Boot firmware and a boot sector on two CPUs; "" when it ran, else what went wrong.

    The firmware has been through real, protected and management mode by then,
    and has started the second CPU: a KVM that opens and then hangs does not get
    here.
    """
    with tempfile.TemporaryDirectory(prefix="harness-probe-") as place:
        disk = Path(place, "disk")
        # SeaBIOS boots from no disk that is smaller than a cylinder of its geometry.
        disk.write_bytes(_BOOT_SECTOR.ljust(1 << 20, b"\0"))
        argv = [
            find_qemu(), *BARE, "-machine", "q35", "-accel", accelerator,
            "-cpu", "max", "-smp", "2", "-m", "64",
            "-drive", f"if=virtio,format=raw,readonly=on,file={disk}",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
        ]  # fmt: skip
        with Process(argv, (), Path(place, "stderr")) as process:
            try:
                status = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                return f"a probe machine hung for {limit_s:.0f} s"
            if status == _PROBE_STATUS:
                return ""
            return f"a probe machine ended with {ending(status)}: {process.last_words()}"


# Nothing that a configuration file or a default would add.
BARE = ("-no-user-config", "-nodefaults", "-display", "none", "-no-reboot")


@functools.cache
def has_firmware() -> bool:
    """Whether QEMU has FIRMWARE in one of its directories of data; Debian's has."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            [find_qemu(), "-L", "help"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PROBE_LIMIT_S, check=False,
        ).stdout  # fmt: skip
        return any(Path(line, FIRMWARE).is_file() for line in said.splitlines())
    return False


def command(
    *,
    bzimage: Path,
    initramfs: Path,
    cmdline: Sequence[str],
    cpus: int,
    memory_mib: int,
    accelerator: Accelerator,
    disks: Sequence[Path],
    serial: str,
    qmp: str | None,
    gdb: Path | None = None,
) -> list[str]:
    """QEMU's argv (without what starts it).

    serial, qmp: chardev back ends, "socket,fd=5" or "stdio,mux=on"; the latter,
    without qmp, has the human monitor too (Ctrl-a c).  gdb: a unix socket to be made; the
    guest waits for gdb there.
    """
    accel, cpu = accelerator.name, "max"
    if accel == "tcg":
        accel = "tcg,thread=multi"
    elif accel == COUNTED.name:
        # RDRAND is the host's, and would make two boots differ.
        accel, cpu = "tcg,thread=single", "qemu64,-rdrand"
    argv = [
        find_qemu(), *BARE,
        "-machine", "q35",
        "-accel", accel,
        "-cpu", cpu,
        # One core per socket: even a kernel that reads the MP table, which lists
        # one CPU per socket, gets all of them.
        "-smp", f"cpus={cpus},sockets={cpus},cores=1,threads=1",
        "-m", f"{memory_mib}M",
        "-chardev", f"{serial},id=serial0",
        "-serial", "chardev:serial0",
        # The guest reaches nothing; the host reaches its port 22, on loopback,
        # at a port the host's kernel picks (QMP tells which).  No boot ROM.
        "-netdev", "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-10.0.2.15:22",
        "-device", "virtio-net-pci,netdev=net0,romfile=",
        "-object", "rng-random,id=rng0,filename=/dev/urandom",
        "-device", "virtio-rng-pci,rng=rng0",
        # The guest leaves notes there that a core of it must have to be read.
        "-device", "vmcoreinfo",
    ]  # fmt: skip
    if accelerator.name == COUNTED.name:
        argv += _COUNTING  # and SeaBIOS: stored coordinates name this machine
    elif has_firmware():
        argv += ["-bios", FIRMWARE]
    if accelerator.slice_us:
        # A timer that the guest knows nothing of: whoever runs stops when it is due.  QEMU
        # goes on with the next CPU then (rr_cpu_thread_fn() in accel/tcg).
        argv += [
            "-object",
            f"filter-buffer,id=slices,netdev=net0,queue=rx,interval={accelerator.slice_us}",
        ]
    if qmp is not None:
        argv += ["-chardev", f"{qmp},id=qmp0", "-mon", "chardev=qmp0,mode=control"]
    elif "mux=on" in serial:
        argv += ["-mon", "chardev=serial0,mode=readline"]
    if gdb is not None:
        argv += ["-S", "-gdb", f"unix:{gdb},server=on,wait=off"]
    for number, disk in enumerate(disks):
        # cache=unsafe: the disk does not outlive its machine, so a flush need not
        # reach the host's disk; the guest sees a write cache with working
        # flushes.  A full host disk stops the guest and is told through QMP;
        # an I/O error would look like a bug of the file system under test.
        argv += [
            "-drive",
            f"if=none,id=disk{number},format=raw,file={str(disk).replace(',', ',,')},"
            "cache=unsafe,discard=unmap,werror=stop,rerror=stop",
            "-device",
            f"virtio-blk-pci,drive=disk{number}",
        ]
    return [
        *argv, "-kernel", str(bzimage), "-initrd", str(initramfs), "-append", " ".join(cmdline)
    ]  # fmt: skip


def script(
    name: str,
    started: Sequence[str],
    by_hand: Sequence[str],
    archives: Sequence[str],
    disk_mib: int,
) -> str:
    """The file qemu-cmd: boots the machine `name` again in its directory.

    `started` is the command line that the harness used, for the reader;
    `by_hand` the one that is run, with initramfs.cpio made of `archives`.
    """
    return (
        "#!/bin/sh\n"
        f"# The machine of {name} again, with a root shell on its console:\n"
        "# sh qemu-cmd; Ctrl-a x ends it.  As the harness started it, with console\n"
        "# and QMP on sockets that QEMU inherited:\n"
        f"#   {shlex.join(started)}\n"
        'set -e\ncd "$(dirname "$0")"\n'
        f"cat {shlex.join(archives)} >initramfs.cpio\n"
        f"truncate -s {disk_mib}M disk0.img\n"
        f"exec {shlex.join(by_hand)}\n"
    )
