# SPDX-License-Identifier: GPL-2.0
"""What a machine died of, told apart: kernel, emulator, QEMU, connection, host."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness.errors import (
    BootError,
    HarnessError,
    InfraError,
    MachineLostError,
    WorkloadTimeoutError,
)
from harness.guest import process, splat
from harness.guest.console import Boot, Console
from harness.guest.qmp import Qmp
from harness.guest.ssh import Outcome

QMP_LIMIT_S = 5.0


@dataclass(frozen=True)
class Inquest:
    """The witnesses of one machine: its console, its process, QEMU's own word."""

    name: str
    directory: Path
    argv: Sequence[str]
    console: Console
    process: process.Process
    qmp: Qmp

    @property
    def log(self) -> Path:
        """The console's log."""
        return self.directory / "console.log"

    def boot_failed(self, state: Boot, limit: float) -> NoReturn:
        """Raise what a boot that ended in `state` means."""
        hint = f"less {self.log}"
        if state == "panic":
            # The trace follows the line that says so; QEMU exits after it.
            self.console.await_end(3.0)
        elif state == "ended":
            self.ended_at_boot("the console was closed")
        elif state == "no-server":
            raise InfraError(
                f"{self.name}: the guest's SSH server did not start",
                hint=hint,
                detail=self.console.tail(),
            )
        panic = splat.panic_line(self.console.data())
        if panic:
            raise BootError(
                f"{self.name}: panic at boot: {panic}", hint=hint, detail=self.console.tail(60)
            )
        quiet = self.console.silence()
        last = (
            f"its console has been silent for {quiet.seconds:.0f} s, last line: {quiet.last_line}"
            if quiet.last_line
            else "its console never said a word"
        )
        raise BootError(
            f"{self.name}: did not reach user space in {limit:.0f} s; {last}",
            hint=hint,
            detail=f"{self._cpu_states()}\n{self.console.tail()}",
        )

    def ended_at_boot(self, why: str) -> NoReturn:
        """Raise what it means that QEMU ended, or stopped answering, during the boot."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2.0)
        self.console.await_end(1.0)
        status, log = self.process.poll(), self.console.data()
        if splat.panic_line(log):
            self.boot_failed("panic", 0.0)
        if status == 0 and log:
            raise BootError(
                f"{self.name}: the machine reset itself before it reached user space",
                hint=f"less {self.log}",
                detail=self.console.tail(60),
            )
        ended = "still runs" if status is None else f"ended with {process.ending(status)}"
        raise InfraError(
            f"{self.name}: {why}; QEMU {ended}: {self.process.last_words()}",
            hint=f"sh {self.directory / 'qemu-cmd'}",
            detail=f"{shlex.join(self.argv)}\n{self._stderr()}",
        )

    def _stderr(self) -> str:
        return (self.directory / "qemu-stderr").read_text(errors="replace")

    def _cpu_states(self) -> str:
        """Where each CPU is, from QEMU's monitor; "" when it does not answer."""
        try:
            registers = self.qmp.hmp("info registers -a", QMP_LIMIT_S)
        except ConnectionError as error:
            return str(error)
        states = re.findall(r"CPU#(\d+).*?[RE]IP=(\S+).*?HLT=(\d)", registers, re.DOTALL)
        return "\n".join(
            f"CPU {number} {'halted' if halted == '1' else 'running'} at {at}"
            for number, at, halted in states
        )

    def death(self) -> str:
        """Why the machine can do no more work; "" while it can."""
        if self._host_fault():
            return "the host's disk is full"
        status = self.process.poll()
        return "" if status is None else f"QEMU ended with {process.ending(status)}"

    def _host_fault(self) -> str:
        """What the host failed to write, and why; "" when all is well."""
        if self.console.error is not None:
            return f"{self.log}: {self.console.error.strerror}"
        for event in list(self.qmp.events):
            data = event.get("data", {})
            if event.get("event") == "BLOCK_IO_ERROR" and data.get("action") == "stop":
                return f"the scratch disk in {self.directory}: {data.get('reason', 'I/O error')}"
        return ""

    def lost(
        self, command: str, outcome: Outcome, limit: float, kill: Callable[[], bool]
    ) -> HarnessError:
        """What to raise for a command that did not end within `limit` seconds.

        kill() ends the command in the guest and says whether the guest answered.
        """
        shown = command if len(command) <= 60 else f"{command[:57]}..."
        where = f"{self.name}: `{shown}`"
        hint = f"less {self.log}"
        if not outcome.timed_out:
            # A dying guest loses its connection a moment before QEMU is gone.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
        if self.process.poll() is not None:
            self.console.await_end(1.0)
        fault, log = self._host_fault(), self.console.data()
        if fault:
            return InfraError(
                f"{self.name}: the host cannot write {fault}", hint=f"df -h {self.directory}"
            )
        status, panic = self.process.poll(), splat.panic_line(log)
        detail = self.console.tail(60)
        emulator = splat.emulator_fault(log)
        if emulator:
            return MachineLostError(
                f"{where}: the emulator failed, not the kernel: {emulator}",
                hint=hint, detail=detail,
            )  # fmt: skip
        if panic:
            return MachineLostError(
                f"{where}: the kernel panicked: {panic}", hint=hint, detail=detail
            )
        if status is not None:
            return MachineLostError(
                f"{where}: QEMU ended with {process.ending(status)}: {self.process.last_words()}",
                hint=hint,
                detail=f"{self._stderr()}\n{detail}",
            )
        quiet = self.console.silence()
        last = f"console silent for {quiet.seconds:.0f} s, last line: {quiet.last_line}"
        if not outcome.timed_out:
            return MachineLostError(
                f"{where}: {outcome.why}, while QEMU runs; {last}", hint=hint, detail=detail
            )
        killed = kill()
        return WorkloadTimeoutError(
            f"{where}: not done in {limit:.0f} s; "
            + ("killed" if killed else f"SSH does not answer any more; {last}"),
            hint=hint,
            detail=self.console.tail(60),
        )
