# SPDX-License-Identifier: GPL-2.0
"""QEMU without a harness: a kernel, an init of one's own, and what the console says when.

And what it is compared with: the harness as a user has it, in a checkout of the test's own.
"""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import Config
from harness.guest import initramfs, invitation, layout, qemu, ssh
from harness.guest.machine import MachineSpec
from harness.places import cache_dir
from tests.vm.conftest import ROOT
from tests.vm.conftest import harness as started

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


def checkout(place: Path, text: str, *rooms: str) -> Path:
    """A checkout with `text` for a harness.toml; `rooms`: directories that are this one's."""
    place.mkdir(exist_ok=True)
    for room in rooms:
        (place / room).symlink_to(ROOT / room)
    (place / "harness.toml").write_text(text)
    return place


def harness(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program in a checkout, with modules that are compiled once; all it says on stdout."""
    compiled = {"PYTHONDONTWRITEBYTECODE": ""}
    process = started(*words, cwd=root, config=root / "harness.toml", environment=compiled)
    said, _ = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, said)


def archive(place: Path, init: str, parts: Sequence[Path]) -> Path:
    """An initramfs of these archives, with `init` as /own."""
    place.mkdir(parents=True, exist_ok=True)
    own, whole = place / "own.cpio", place / "initramfs"
    own.write_bytes(initramfs.newc({"own": initramfs.regular("own", init.encode(), 0o755)}))
    initramfs.join(whole, [*parts, own])
    return whole


def command(
    cfg: Config, bzimage: Path, root: Path, place: Path, init: str = "/own"
) -> list[str]:
    """QEMU's command line for the small guest, as the harness has it, console on stdout.

    `init`: process 1, a file of the initramfs `root`.
    """
    guest, disk = cfg.guest[GUEST], place / "disk"
    with disk.open("wb") as file:
        file.truncate(guest.disk_mib << 20)
    accelerator = qemu.probe_accelerator("tcg")
    spec = MachineSpec.of(guest, bzimage, accelerator, {}, f"rdinit={init}")
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


def over_ssh(
    cfg: Config, bzimage: Path, programs: Mapping[str, Path], place: Path, work: str, mark: str
) -> float:
    """Seconds from QEMU's start until `work`, which ssh takes into the guest, says `mark`.

    The harness's guest, by hand: its process 1 and its SSH server, OpenSSH for a client with the
    ciphers that the harness takes, a port that was free a moment before.
    """
    place.mkdir(parents=True)
    guest, accelerator = cfg.guest[GUEST], qemu.probe_accelerator("tcg")
    user, host = ssh.KeyPair(), ssh.KeyPair()
    spec = MachineSpec.of(guest, bzimage, accelerator, programs)
    _, _, image = layout.make(place, spec, user, host, cache_dir(), ROOT)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    argv = [
        word.replace("tcp:127.0.0.1:0-", f"tcp:127.0.0.1:{port}-")
        for word in command(cfg, bzimage, image, place, "/init")
    ]
    *client, login = invitation.write(place, port, user, host)
    ciphers = [f"KexAlgorithms={ssh.KEX}", f"Ciphers={ssh.CIPHER}", f"MACs={ssh.MAC}"]
    client += [word for cipher in ciphers for word in ("-o", cipher)]
    began = time.monotonic()
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as machine:
        try:
            _await(machine, "harness: ready")
            with subprocess.Popen(
                [*client, login, work], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as worker:  # fmt: skip
                try:
                    _await(worker, mark)
                    return time.monotonic() - began
                finally:
                    worker.kill()
        finally:
            machine.kill()


def _await(process: subprocess.Popen[bytes], mark: str) -> None:
    assert process.stdout is not None
    said = []
    for raw in process.stdout:
        said.append(raw.decode(errors="replace"))
        if re.search(mark, said[-1]):
            return
    raise AssertionError("".join(said[-40:]))
