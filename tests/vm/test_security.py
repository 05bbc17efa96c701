# SPDX-License-Identifier: GPL-2.0
"""A machine is alone: it reaches nothing, and nobody but us reaches it."""

from __future__ import annotations

import re
import select
import socket
from pathlib import Path

import pexpect

from harness.guest.machine import Machine
from tests.vm.conftest import Lab, qemus

LISTEN = "0A"  # state in /proc/net/tcp, include/net/tcp_states.h


def test_the_guest_has_no_way_out(stock: Machine) -> None:
    """QEMU's user network would lead 10.0.2.2 to the host's loopback, and all else to its net."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for address in ("10.0.2.2", "10.0.2.3", "127.0.0.1"):
            done = stock.run(f"nc -w 2 {address} {port} </dev/null")
            assert done.status != 0, f"{address}: {done.stdout}"
        assert not select.select([server], [], [], 0)[0], "the guest reached the host"
    assert "10.0.2.15" in stock.run("ifconfig eth0").stdout  # it has a network to try it on


def test_nothing_listens_beyond_loopback(stock: Machine) -> None:
    (pid,) = qemus(stock.directory)
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        if match := re.fullmatch(r"socket:\[(\d+)\]", str(fd.readlink())):
            inodes.add(match[1])
    listening = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (fields[3] == LISTEN or table.startswith("udp")):
                listening.append((table, fields[1].partition(":")[0]))
    assert listening == [("tcp", "0100007F")]
    names = [
        fields[7]
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]
        if len(fields := line.split()) > 7 and fields[6] in inodes
    ]
    assert names == []  # pairs of sockets, which have none


def test_keys_are_their_owners_and_go_with_the_machine(lab: Lab, tmp_path: Path) -> None:
    """The user's is in memory only; the guest's own is in its initramfs."""
    names = ["host_key", "initramfs.cpio", "keys.cpio"]
    with lab.machine("stock", tmp_path):
        for name in names:
            assert (tmp_path / name).stat().st_mode & 0o077 == 0, name
    assert not any((tmp_path / name).exists() for name in names)


def test_without_its_keys_a_machine_boots_by_hand(lab: Lab, tmp_path: Path) -> None:
    """qemu-cmd: the same machine with a shell, after the harness has gone."""
    with lab.machine("stock", tmp_path):
        pass
    child = pexpect.spawn("sh", [str(tmp_path / "qemu-cmd")], timeout=60, encoding="utf-8")
    try:
        child.expect("built-in shell")
        child.sendline("echo $((6 * 7)); poweroff -f")
        child.expect(r"\b42\b")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert "SSH server did not start" not in (child.before or "")
