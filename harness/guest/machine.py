# SPDX-License-Identifier: GPL-2.0
"""A virtual machine as a context manager: booted inside, gone outside.

Three channels, none of which has a name or a port of ours: the serial console
(boot and crashes) and QMP (QEMU itself) on socket pairs that QEMU inherits, SSH
(work) on a loopback port that the host's kernel picks.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from harness.errors import BootError, HarnessError, InfraError, MachineLostError
from harness.events import Event, Listener, silent
from harness.guest import hang, invitation, layout, process, qemu, splat, ssh, symbols, terminal
from harness.guest.console import Console
from harness.guest.inquest import Inquest
from harness.guest.spec import MachineSpec
from harness.guest.splat import Splat
from harness.guest.ssh import Completed

if TYPE_CHECKING:
    from harness.guest.qmp import Qmp

__all__ = ["Completed", "Machine", "MachineSpec"]

BOOT_ATTEMPTS = 3  # for faults of the emulator only
QMP_LIMIT_S = 5.0
SSH_LIMIT_S = 5.0
LOOK_S = 2.0  # for each question to a machine that hangs, on KVM
GRACE_S = 0.4  # for each polite way of ending QEMU
WHOLE = slice(None)


class Machine:
    """One QEMU guest.

    Its `directory` receives console.log, qemu-stderr, qemu-cmd (a shell script
    that boots the same machine again) and, while it runs, the scratch disk and
    the initramfs.  The thread that enters must live as long as the machine: QEMU
    is killed when that thread ends, however it ends.  One thread at a time.
    """

    def __init__(
        self,
        spec: MachineSpec,
        directory: Path,
        root: Path,
        cache: Path,
        listen: Listener = silent,
        name: str = "guest",
    ) -> None:
        self.spec = spec
        self.directory = directory
        self.name = name
        self.keep_disk = False  # set it to look at the scratch disk afterwards
        self.qemu_command: list[str] = []
        # Seconds: "start" from entering to QEMU's start; "ready" (init's marker) and
        # "ssh" (SSH answers) from QEMU's start.
        self.wall: dict[str, float] = {}
        self._root, self._cache, self._listen = root, cache, listen
        self._stack = contextlib.ExitStack()
        self._user, self._host = ssh.KeyPair(), ssh.KeyPair()
        self._console: Console | None = None
        self._process: process.Process | None = None
        self._qmp: Qmp | None = None
        self._inquest: Inquest | None = None
        self._port, self._killed = 0, False
        self._ssh: ssh.Connection | None = None
        self._stranded: ssh.Connection | None = None  # a command hangs on it

    # --- coming and going ----------------------------------------------------

    def __enter__(self) -> Machine:
        """Boot until SSH answers.

        BootError: the kernel panicked or hung before that.  InfraError: anything
        that is not the kernel's fault.  A boot that fell to a known fault of the
        emulator is tried again: no trial was lost.
        """
        for attempt in range(1, BOOT_ATTEMPTS + 1):
            try:
                self._start()
                return self
            except BootError as error:
                self.close()
                fault = splat.emulator_fault(self.console())
                if not fault or not self.spec.emulated or attempt == BOOT_ATTEMPTS:
                    raise
                self._log.rename(self._log.with_name(f"console.emulator-fault-{attempt}.log"))
                self._say("note", f"booting again, the emulator failed: {fault}", why=error.message)
            except BaseException:
                self.close()
                raise
        raise AssertionError("unreachable")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End QEMU (asked, told, killed), record the console's last bytes, tidy up.

        Every step is taken even when an earlier one fails or Ctrl-C comes again.
        """
        stack, self._stack = self._stack, contextlib.ExitStack()
        stack.close()

    @property
    def _log(self) -> Path:
        return self.directory / "console.log"

    def _say(self, kind: str, message: str, **data: object) -> None:
        self._listen(Event(kind, self.name, message, data=data))

    def _start(self) -> None:
        entered = time.monotonic()
        spec, slowdown = self.spec, self.spec.accelerator.slowdown
        if not spec.bzimage.is_file():
            raise InfraError(f"{self.name}: no kernel image at {spec.bzimage}")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._log.unlink(missing_ok=True)  # a new machine, a new log
            for name in layout.PASSING:
                self._stack.callback(self._remove, self.directory.absolute() / name)
            archives, disk, image = layout.make(
                self.directory.absolute(), spec, self._user, self._host, self._cache, self._root
            )
            serial, serial_qemu = self._socketpair()
            control, control_qemu = self._socketpair()
            self.qemu_command = self._command(
                image, disk, f"socket,fd={serial_qemu.fileno()}", control_qemu.fileno()
            )
            self._write_qemu_cmd(archives)
            self._console = Console(serial, self._log)
            # Undone last to first, so QEMU's last bytes are recorded, not cut off.
            self._stack.callback(self._close_console)
        except OSError as error:
            raise InfraError(
                f"{self.name}: cannot write in {self.directory}: {error.strerror}",
                hint=f"df -h {self.directory}",
            ) from error
        self._stack.callback(self._close_qmp)
        self._stack.callback(self._close_ssh)

        self._say("boot", f"booting {spec.bzimage.name} ({spec.accelerator.name})")
        started = time.monotonic()
        self.wall = {"start": started - entered}
        self._process = process.Process(
            self.qemu_command,
            (serial_qemu.fileno(), control_qemu.fileno()),
            self.directory / "qemu-stderr",
        )
        self._stack.callback(self._process.stop, GRACE_S)
        self._stack.callback(self._quit)
        serial_qemu.close()
        control_qemu.close()
        from harness.guest.imports import load

        load()  # a kernel takes longer to boot
        from harness.guest.qmp import Qmp

        self._qmp = Qmp(control)
        self._inquest = inquest = Inquest(
            self.name, self.directory, self.qemu_command, self._console, self._process, self._qmp,
            self.spec.emulated,
        )  # fmt: skip
        try:
            self._qmp.connect(QMP_LIMIT_S * slowdown)
            self._port = self._qmp.forwarded_port(QMP_LIMIT_S * slowdown)
        except ConnectionError as error:
            inquest.ended_at_boot(f"QMP: {error}")
        if spec.gdb is not None:
            self._say("boot", "waits for gdb", gdb=str(spec.gdb))
        limit = spec.limit_s(spec.boot_timeout_s)
        state = self._console.await_boot(limit - (time.monotonic() - started))
        if state != "ready":
            inquest.boot_failed(state, limit, lambda: self._look(None))
        self.wall["ready"] = time.monotonic() - started
        try:
            self._connection()
        except ssh.ConnectError as error:
            if self._console.await_end(1.0) or splat.panic_line(self._console.data()):
                inquest.ended_at_boot(f"SSH: {error}")
            raise InfraError(
                f"{self.name}: init is ready but SSH is not: {error}",
                hint=f"less {self._log}",
                detail=self._console.tail(),
            ) from error
        self.wall["ssh"] = time.monotonic() - started
        self._say("boot", f"up after {self.wall['ssh']:.1f} s", wall=dict(self.wall))

    def _command(self, image: Path, disk: Path, serial: str, qmp_fd: int | None) -> list[str]:
        """QEMU's argv; without a QMP descriptor: with a shell, for a person."""
        spec = self.spec
        shell = ("harness.shell=1",) if qmp_fd is None else ()
        return qemu.command(
            bzimage=spec.bzimage.absolute(),
            initramfs=image,
            cmdline=(*spec.whole_cmdline, *shell),
            cpus=spec.cpus,
            memory_mib=spec.memory_mib,
            accelerator=spec.accelerator,
            disks=[disk],
            serial=serial,
            qmp=None if qmp_fd is None else f"socket,fd={qmp_fd}",
            gdb=None if qmp_fd is None else spec.gdb,
        )

    def _remove(self, path: Path) -> None:
        if not (self.keep_disk and path.suffix == ".img"):
            path.unlink(missing_ok=True)

    def _socketpair(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for end in pair:
            self._stack.callback(end.close)
        return pair

    def _write_qemu_cmd(self, archives: Sequence[Path]) -> None:
        here = self.directory.absolute()
        # Without the keys, which go with the machine: there is a shell on the console.
        names = [str(path) for path in archives if path.parent != here]
        by_hand = self._command(
            Path("initramfs.cpio"), Path("disk0.img"), "stdio,mux=on,signal=off", None
        )
        text = qemu.script(self.name, self.qemu_command, by_hand, names, self.spec.disk_mib)
        (self.directory / "qemu-cmd").write_text(text)

    def _quit(self) -> None:
        assert self._process is not None
        if self._process.poll() is None and self._qmp is not None:
            with contextlib.suppress(ConnectionError, subprocess.TimeoutExpired):
                self._qmp.execute("quit", GRACE_S)
                self._process.wait(GRACE_S)

    def _close_console(self) -> None:
        if self._console is not None:
            self._console.await_end(GRACE_S)
            self._console.close()

    def _close_qmp(self) -> None:
        qmp, self._qmp = self._qmp, None
        if qmp is not None:
            qmp.close()

    def _close_ssh(self) -> None:
        for connection in (self._ssh, self._stranded):
            ssh.close_quietly(connection)
        self._ssh = self._stranded = None

    # --- work ------------------------------------------------------------------

    def run(
        self,
        command: str,
        timeout_s: float = 60,
        on_stdout_line: ssh.Hearing | None = None,
    ) -> Completed:
        """Run a shell command in the guest, over SSH, to its end.

        timeout_s, and what on_stdout_line returns, is on KVM: the accelerator's slowdown stretches
        it.  A non-zero
        status is no error.  MachineLostError: the machine or the connection is
        gone.  WorkloadTimeoutError: not done in time (and killed, if the guest
        still answers).  Both carry what was received as `completed`.  InfraError:
        the host's disk is full.
        """
        outcome = self._run(command, timeout_s, on_stdout_line)
        if outcome.status is None:
            raise self._lost(command, outcome)
        return outcome.completed(command)

    def _run(
        self, command: str, timeout_s: float, on_line: ssh.Hearing | None
    ) -> ssh.Outcome:
        self._say("command", command)
        try:
            connection = self._connection()
        except ssh.ConnectError as error:
            return ssh.Outcome(why=f"SSH: {error}")
        limit = self.spec.limit_s(timeout_s)
        assert self._inquest is not None
        death, stretched = self._inquest.death, self.spec.limit_s
        outcome = connection.execute(command, limit, on_line, death, stretched)
        if outcome.status is None:
            self._stranded, self._ssh = self._ssh, None
        return outcome

    def read_file(self, path: str) -> bytes:
        """The content of a file in the guest; InfraError when it cannot be read there."""
        command = f"cat {shlex.quote(path)}"
        outcome = self._run(command, 60, None)
        if outcome.status is None:
            raise self._lost(command, outcome)
        if outcome.status != 0:
            said = outcome.stderr.decode(errors="replace").strip()
            raise InfraError(f"{self.name}: cannot read {path} in the guest: {said}")
        return bytes(outcome.stdout)

    def dmesg(self) -> str:
        """The guest's kernel log, as far as its buffer reaches back; InfraError without one."""
        done = self.run("dmesg")
        if done.status != 0 or not done.stdout:  # no log is not a clean log
            raise InfraError(f"{self.name}: dmesg failed: {done.status} {done.stderr.strip()}")
        return done.stdout

    def console(self) -> bytes:
        """Everything the serial console has said so far; also after the end."""
        return self._log.read_bytes() if self._log.exists() else b""

    def await_console(self, text: bytes, timeout_s: float) -> int:
        """Wait until the console has said `text`; returns the offset in bytes behind it.

        timeout_s is on KVM.  InfraError when it is not said by then.
        """
        assert self._console is not None
        limit = self.spec.limit_s(timeout_s)
        end = self._console.await_text(text, limit)
        if end is None:
            raise InfraError(
                f"{self.name}: the console did not say {text.decode(errors='replace').strip()!r}"
                f" in {limit:g} s",
                hint=f"less {self._log}",
            )
        return end

    def splats(self, part: slice = WHOLE) -> list[Splat]:
        """The kernel's complaints on the console so far; InfraError when its log has a gap.

        `part`: of these bytes of the console only.
        """
        return splat.scan(self._console.whole()[part] if self._console is not None else b"")

    def kill(self) -> None:
        """End QEMU at once, from any thread: who waits for the guest finds it gone."""
        self._killed = True
        if self._process is not None:
            self._process.kill()

    def invite(self) -> list[str]:
        """The command that takes a person into the guest; what it reads goes with the machine."""
        here = self.directory.absolute()
        for name in invitation.NAMES:
            self._stack.callback((here / name).unlink, missing_ok=True)
        return invitation.write(here, self._port, self._user, self._host)

    def interact(self) -> None:
        """The user's terminal on the serial shell (wants harness.shell=1), to Ctrl-]."""
        assert self._console is not None
        with contextlib.suppress(HarnessError):
            self.run(terminal.size_command(), 5)
        terminal.interact(self._console)

    def _connection(self) -> ssh.Connection:
        if self._ssh is None or not self._ssh.alive:
            ssh.close_quietly(self._ssh)
            self._ssh = None
            limit = SSH_LIMIT_S * self.spec.accelerator.slowdown
            self._ssh = ssh.Connection(self._port, self._user, self._host, limit)
        return self._ssh

    def _lost(self, command: str, outcome: ssh.Outcome) -> HarnessError:
        assert self._inquest is not None
        error = self._inquest.lost(command, outcome, lambda: self._look(outcome.number))
        if isinstance(error, MachineLostError):
            error.completed = outcome.completed(command)
        return error

    def _look(self, command: int | None) -> hang.Evidence:
        """What a machine that does not get on is waiting for; kills the command."""
        assert self._console is not None and self._qmp is not None
        slowdown = self.spec.accelerator.slowdown
        try:
            return hang.examine(
                self._console,
                self._qmp,
                lambda limit: ssh.Connection(self._port, self._user, self._host, limit),
                LOOK_S * slowdown,
                slowdown,
                command,
                self.directory.absolute() / "core" if self.spec.core else None,
                symbols.beside(self.spec.bzimage),
                lambda: self._killed,
            )
        finally:
            ssh.close_quietly(self._stranded)
            self._stranded = None
