# SPDX-License-Identifier: GPL-2.0
"""A QEMU that boots in no time: serial and QMP on inherited sockets, SSH for real.

It reads the keys from the initramfs it was given, as a guest would, and runs the
commands it gets on the host, below a directory of its own.  What else happens is
chosen by the environment variable FAKE_QEMU (comma-separated):

  at boot: boots (default) | panic | hang | silent | reset | exits | no-server
           | int3-once (a fault of the emulator, at the first of its starts)
  also:    stubborn (ignores QMP quit and SIGTERM), other-host-key, probe-hang

and in the "guest" by these commands: die, lose-ssh, fill-host-disk.

FAKE_QEMU_DIR: a directory; gets a file per start, named after the process id.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from tests.fakes.cpio import members

SCENARIO = set(os.environ.get("FAKE_QEMU", "boots").split(","))
HERE = Path(os.environ["FAKE_QEMU_DIR"])
BOOT = (
    "[    0.000000] Linux version 6.12.0-fake (fake@fake) #1 SMP\r\n"
    "[    0.100000] Run /init as init process\r\n"
)
PANIC = (
    "[    1.000000] Kernel panic - not syncing: fake panic\r\n"
    "[    1.000001] CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 6.12.0-fake #1\r\n"
    "[    1.000002] Call Trace:\r\n"
    "[    1.000003]  panic+0xfc/0x294\r\n"
    "[    1.000004] ---[ end Kernel panic - not syncing: fake panic ]---\r\n"
)
INT3 = "[    0.500000] Oops: int3: 0000 [#1] SMP\r\n"


class FakeQemu:
    """One start of it."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        joined = " ".join(argv)
        fds = {
            name: int(fd) for fd, name in re.findall(r"socket,fd=(\d+),id=(serial0|qmp0)", joined)
        }
        self.serial = socket.socket(fileno=fds["serial0"])
        self.qmp = socket.socket(fileno=fds["qmp0"])
        image = Path(argv[argv.index("-initrd") + 1]).read_bytes()
        self.files = members(image)
        self.place = HERE / f"guest-{os.getpid()}"
        self.place.mkdir(parents=True)
        for name, member in self.files.items():
            if name.startswith("workloads/") and member.data:
                path = self.place / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(member.data)
                path.chmod(0o755)
        self.listener = socket.create_server(("127.0.0.1", 0))

    def say(self, text: str) -> None:
        self.serial.sendall(text.encode())

    def end(self, status: int = 0) -> NoReturn:
        os._exit(status)

    def die(self) -> NoReturn:
        """As a kernel that panics, under -no-reboot."""
        self.say(PANIC)
        self.end()

    # --- boot ------------------------------------------------------------------

    def boot(self) -> None:
        threading.Thread(target=self.serve_qmp, daemon=True).start()
        first = len(list(HERE.glob("guest-*"))) == 1
        if "silent" not in SCENARIO:
            self.say(BOOT)
        if "panic" in SCENARIO or ("int3-once" in SCENARIO and first):
            self.say(INT3 if "int3-once" in SCENARIO else "")
            self.die()
        if "reset" in SCENARIO:
            self.event("SHUTDOWN", guest=True, reason="guest-reset")
            self.end()
        if SCENARIO & {"hang", "silent"}:
            signal.pause()
        if "no-server" in SCENARIO:
            self.say("[    1.1] harness: the SSH server did not start\r\n")
            signal.pause()
        from tests.fakes.sshd import Sshd  # late: loading paramiko is most of a boot

        sshd = Sshd(self, "other-host-key" in SCENARIO)
        self.say("[    1.200000] harness: ready\r\n")
        if "panic-at-ssh" in SCENARIO:
            self.die()
        threading.Thread(target=self.echo_serial, daemon=True).start()
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                signal.pause()  # SSH is lost, the machine is not
            threading.Thread(target=sshd.serve, args=(connection,), daemon=True).start()

    def echo_serial(self) -> None:
        """A shell on the serial line that repeats what `echo` is told."""
        for line in self.serial.makefile("r"):
            said = re.fullmatch(r"echo (.*)\n", line)
            if said:
                self.say(said.group(1).replace("''", "") + "\r\n")

    # --- QMP -------------------------------------------------------------------

    def reply(self, **message: Any) -> None:
        self.qmp.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, **data: Any) -> None:
        now = {"seconds": 1, "microseconds": 0}
        self.reply(event=name, data=data, timestamp=now)

    def requests(self) -> Iterator[Any]:
        """What the client asks: JSON texts with nothing between them."""
        text = ""
        while data := self.qmp.recv(4096):
            text += data.decode()
            while text.strip():
                try:
                    request, end = json.JSONDecoder().raw_decode(text.strip())
                except ValueError:
                    break  # its other half is on the way
                text = text.strip()[end:]
                yield request

    def serve_qmp(self) -> None:
        version = {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "fake"}
        self.reply(QMP={"version": version, "capabilities": ["oob"]})
        for request in self.requests():
            answer: Any = {}
            if request["execute"] == "human-monitor-command":
                answer = self.monitor(request["arguments"]["command-line"])
            if request["execute"] == "quit" and "stubborn" in SCENARIO:
                continue
            numbered = {"id": request["id"]} if "id" in request else {}
            self.reply(**{"return": answer}, **numbered)
            if request["execute"] == "quit":
                self.event("SHUTDOWN", guest=False, reason="host-qmp-quit")
                self.say("[    9.999999] last words\r\n")
                self.end()

    def monitor(self, line: str) -> str:
        if line == "info usernet":
            port = self.listener.getsockname()[1]
            return (
                "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port\r\n"
                f"  TCP[HOST_FORWARD]  11       127.0.0.1 {port}       10.0.2.15    22     0  0\r\n"
            )
        if line == "info registers -a":
            return (
                "\r\nCPU#0\r\nRAX=0 RIP=ffffffff81000000 RFL=00000246 CPL=0 HLT=1\r\n"
                "\r\nCPU#1\r\nRAX=0 RIP=ffffffff81234567 RFL=00000246 CPL=0 HLT=0\r\n"
            )
        return "unknown command"


def main() -> None:
    argv = sys.argv[1:]
    if any("isa-debug-exit" in word for word in argv):  # the accelerator's probe
        if "probe-hang" in SCENARIO:
            time.sleep(60)
        sys.exit(33)
    if "stubborn" in SCENARIO:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "exits" in SCENARIO:
        print("fake qemu: cannot do that", file=sys.stderr)
        sys.exit(1)
    FakeQemu(argv).boot()


if __name__ == "__main__":
    main()
