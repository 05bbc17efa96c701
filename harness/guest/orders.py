# SPDX-License-Identifier: GPL-2.0
"""What a replay machine is told at its start, and how it says what came of it.

Its initramfs has all of it: nobody comes in, and nothing is typed.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.guest import initramfs
from harness.guest.spec import MachineSpec
from harness.guest.ssh import Completed

# The disk in the guest's memory: its requests end by a timer of the guest.
DEVICE = "/dev/nullb0"
COMPLETION_NS = 100_000  # about what a virtual disk takes under emulation
# From the ready marker on: all of it twice over the serial console would cost a second.
DMESG = "dmesg | sed '1,/harness: ready/d'"
TOOLS = ("busybox", "mke2fs", "mkfs.xfs")
READY, DONE = "harness: ready", "harness: done"
_ANSWER = re.compile(r"harness: answer (\d+) status (\d+)$")


def disk_command(mib: int) -> str:
    """What makes DEVICE in the guest, of so many MiB; its blocks take memory when written."""
    settings = {
        "size": mib, "blocksize": 512, "memory_backed": 1, "queue_mode": 2, "irqmode": 2,
        "completion_nsec": COMPLETION_NS, "submit_queues": 1, "power": 1,
    }  # fmt: skip
    place = f"/sys/kernel/config/nullb/{Path(DEVICE).name}"
    steps = [f"mkdir {place}"]
    steps += [f"echo {value} >{place}/{name}" for name, value in settings.items()]
    return " && ".join(steps)


def script(commands: Sequence[str]) -> str:
    """What the guest does: all the commands one after another, and then it says what came of each.

    Not at once: what a program prints would be mixed with what the kernel does.
    """
    lines = [
        "#!/bin/sh",
        "# Process 1, and the whole of what this machine does (harness/guest/replay.py).",
        "export PATH=/bin:/sbin:/usr/bin:/usr/sbin",
        "mount -t devtmpfs devtmpfs /dev; mount -t proc proc /proc; mount -t sysfs sysfs /sys",
        "exec 0</dev/console 1>/dev/console 2>&1",
        "mount -t debugfs debugfs /sys/kernel/debug",
        "mount -t configfs configfs /sys/kernel/config",
        "mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp; mkdir /run/replay; n=0",
        # A lock that is never released must show, and every time.
        "echo 20 >/proc/sys/kernel/hung_task_timeout_secs",
        "echo -1 >/proc/sys/kernel/hung_task_warnings",
        f'echo "<0>{READY}" >/dev/kmsg',
        "do_() {",
        # In the kernel's log: with the guest's clock.
        '  echo "<6>harness: command $n" >/dev/kmsg',
        '  sh -c "$1" >/run/replay/$n.out 2>/run/replay/$n.err',
        "  echo $? >/run/replay/$n.status; n=$((n + 1))",
        "}",
        *(f"do_ {shlex.quote(command)}" for command in commands),
        # What the kernel says from here on must not fall into the middle of a line.
        "dmesg -n 1; n=0",
        "while [ -e /run/replay/$n.status ]; do",
        '  echo "harness: answer $n status $(cat /run/replay/$n.status)"',
        "  sed 's/^/> /' /run/replay/$n.out; sed 's/^/! /' /run/replay/$n.err",
        "  n=$((n + 1))",
        "done",
        f'echo "<0>{DONE}" >/dev/kmsg',
        "reboot -f",
    ]
    return "\n".join(lines) + "\n"


def digest(spec: MachineSpec, cache: Path) -> str:
    """sha256 of the initramfs of a ReplayMachine, which is not written."""
    assert spec.told is not None
    archives, told = _image(whole(spec.told.commands, spec), spec, cache)
    sha = hashlib.sha256()
    for archive in archives:
        sha.update(archive.read_bytes())
    sha.update(told)
    return sha.hexdigest()


def whole(commands: Sequence[str], spec: MachineSpec) -> list[str]:
    """The commands, with what comes before and after them."""
    return [disk_command(spec.disk_mib), *commands, DMESG]


def _image(
    commands: Sequence[str], spec: MachineSpec, cache: Path
) -> tuple[list[Path], bytes]:
    """The archives of an initramfs, and the last one. No keys: nobody comes in."""
    entry = initramfs.regular("init", script(commands).encode(), 0o755)
    archives = initramfs.bare(spec.programs, TOOLS, cache)
    return archives, initramfs.newc({"init": entry})


def write_image(image: Path, spec: MachineSpec, cache: Path) -> tuple[list[Path], str]:
    """Write the initramfs; the archives it is made of, and its sha256.

    The last of them is beside it, and stays.
    """
    assert spec.told is not None
    archives, last = _image(whole(spec.told.commands, spec), spec, cache)
    mine = image.with_name("told.cpio")
    mine.write_bytes(last)
    initramfs.join(image, [*archives, mine])
    with image.open("rb") as file:
        return [*archives, Path(mine.name)], hashlib.file_digest(file, "sha256").hexdigest()


def answers(console: str, commands: Sequence[str]) -> dict[str, Completed]:
    """What was said to each command; nothing of a report that has no end."""
    found: list[tuple[int, int, list[str], list[str]]] = []
    for line in console.splitlines():
        if (match := _ANSWER.match(line)) is not None:
            found.append((int(match[1]), int(match[2]), [], []))
        elif found and line[:2] in ("> ", "! "):
            out, err = found[-1][2:]
            (out if line[0] == ">" else err).append(f"{line[2:]}\n")
    if DONE not in console:
        return {}
    return {
        commands[number]: Completed(commands[number], status, "".join(out), "".join(err), 0.0)
        for number, status, out, err in found
        if number < len(commands)
    }
