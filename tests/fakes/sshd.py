# SPDX-License-Identifier: GPL-2.0
"""The fake QEMU's SSH server: runs what it is told on the host."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from tests.fakes.qemu import FakeQemu


class Sshd:
    """Keys as in the initramfs; commands below the fake's own directory."""

    def __init__(self, fake: FakeQemu, other_host_key: bool) -> None:
        self.fake = fake
        self.place = fake.place
        stored = fake.files["etc/dropbear/host_key"].data
        key = Ed25519PrivateKey.from_private_bytes(stored[-64:-32])
        if other_host_key:
            key = Ed25519PrivateKey.generate()
        path = self.place / "host.pem"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        self.host_key = paramiko.Ed25519Key.from_private_key_file(str(path))
        self.authorized = fake.files["root/.ssh/authorized_keys"].data.decode().split()[1]
        self.transports: list[paramiko.Transport] = []

    def serve(self, connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transport.add_server_key(self.host_key)
        self.transports.append(transport)
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(server=_Server(self))

    def lose(self) -> None:
        """No connection any more, and no new one."""
        self.fake.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.fake.listener.close()
        for transport in self.transports:
            transport.close()

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        inner = re.search(r"exec setsid sh -c (\S+|'.*')$", command, re.DOTALL)
        asked = inner.group(1).strip("'").removesuffix("\nexit $?") if inner else ""
        if asked in ("die", "lose-ssh"):
            channel.sendall(b"last words of the guest\n")
            channel.recv(1)  # the client has had its answer when it ends its side
            self.fake.die() if asked == "die" else self.lose()
            return
        if asked == "fill-host-disk":
            self.fake.event(
                "BLOCK_IO_ERROR", action="stop", nospace=True, reason="No space left on device",
                operation="write", device="disk0",
            )  # fmt: skip
            return
        (self.place / "run").mkdir(exist_ok=True)
        # What belongs to the guest must not reach the host.
        for name in ("/run/", "/workloads/", "/proc/sysrq-trigger", "/proc/self/oom_score_adj"):
            here = name.strip("/").replace("/", "_") + ("/" if name.endswith("/") else "")
            command = command.replace(name, f"{self.place}/{here}")
        child = subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.DEVNULL, cwd=self.place,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None and child.stderr is not None
        pumps = [
            threading.Thread(target=_pump, args=(child.stdout.fileno(), channel.sendall)),
            threading.Thread(target=_pump, args=(child.stderr.fileno(), channel.sendall_stderr)),
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        with contextlib.suppress(OSError):
            channel.send_exit_status(child.wait() % 256)
            channel.close()


def _pump(fd: int, send: Any) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(fd, 65536):
            send(data)


class _Server(paramiko.ServerInterface):
    def __init__(self, sshd: Sshd) -> None:
        self.sshd = sshd

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        good = username == "root" and key.get_base64() == self.sshd.authorized
        return paramiko.common.AUTH_SUCCESSFUL if good else paramiko.common.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(
            target=self.sshd.execute, args=(channel, command.decode()), daemon=True
        ).start()
        return True
