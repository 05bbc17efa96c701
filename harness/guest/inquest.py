# SPDX-License-Identifier: GPL-2.0
"""What a machine died of, told apart: kernel, emulator, QEMU, connection, host."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.errors import (
    BootError,
    HarnessError,
    InfraError,
    MachineLostError,
    WorkloadTimeoutError,
)
from harness.guest import process, splat
from harness.guest.console import Boot, Console
from harness.guest.hang import Evidence, ended
from harness.guest.script import under_way
from harness.guest.ssh import Outcome

if TYPE_CHECKING:
    from harness.guest.qmp import Qmp

QMP_LIMIT_S = 5.0
# A dying guest loses its connection this long before QEMU is gone, at most.
DYING_S = 1.0
STOPPED = "somebody stopped QEMU (SIGSTOP)"
SILENT = "its console never said a word"


@dataclass(frozen=True)
class Inquest:
    """The witnesses of one machine: its console, its process, QEMU's own word."""

    name: str
    directory: Path
    argv: Sequence[str]
    console: Console
    process: process.Process
    qmp: Qmp
    emulated: bool  # only then may a fault be the emulator's

    @property
    def log(self) -> Path:
        """The console's log."""
        return self.directory / "console.log"

    def boot_failed(
        self, state: Boot, limit: float, look: Callable[[], Evidence] = Evidence
    ) -> NoReturn:
        """Raise what a boot that ended in `state` means; look() at one that hangs."""
        hint = f"less {self.log}"
        if state == "panic":
            # The trace follows the line that says so; QEMU exits after it.
            self.console.await_end(3.0)
        elif state == "ended":
            self.ended_at_boot("the console was closed")
        elif state == "flood":
            raise BootError(
                f"{self.name}: floods its console instead of reaching user space:"
                f" {self.console.received >> 20} MiB",
                hint=hint,
                detail=self.console.tail(),
            )
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
        if self.process.stopped:
            raise InfraError(
                f"{self.name}: {STOPPED} before it reached user space",
                hint=f"kill -CONT {self.process.pid}",
            )
        quiet = self.console.silence()
        last = (
            f"its console has been silent for {quiet.seconds:.0f} s, last line: {quiet.last_line}"
            if quiet.last_line
            else SILENT
        )
        tail = self.console.tail()  # its own last words, before it is asked
        evidence = look()
        error = BootError(
            f"{self.name}: did not reach user space in {round(limit, 1):g} s; {last}",
            hint=hint,
            detail=f"{evidence.summary}\n{tail}",
        )
        error.evidence = evidence
        raise error

    def ended_at_boot(self, why: str) -> NoReturn:
        """Raise what it means that QEMU ended, or stopped answering, during the boot."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2.0)
        self.console.await_end(1.0)
        status, log = self.process.poll(), self.console.data()
        if splat.panic_line(log):
            self.boot_failed("panic", 0.0)
        if status == 0 and (log or self._last_event()):
            raise BootError(
                f"{self.name}: the machine reset itself before it reached user space; "
                + (f"last line: {self.console.tail(1)}" if log else SILENT),
                hint=f"less {self.log}",
                detail=self.console.tail(60),
            )
        if status is not None:
            why = f"QEMU ended with {process.ending(status)}: {self.process.last_words()}"
        raise InfraError(
            f"{self.name}: {why}",
            hint=f"sh {self.directory / 'qemu-cmd'}",
            detail=f"{shlex.join(self.argv)}\n{self._stderr()}",
        )

    def _last_event(self) -> str:
        """Why QEMU says it ended by itself: "guest-reset", "guest-shutdown"; "" if not."""
        self.qmp.await_end(QMP_LIMIT_S)  # it said so before it went, and is read in a thread
        for event in reversed(list(self.qmp.events)):
            if event.get("event") == "SHUTDOWN" and event["data"].get("guest"):
                return str(event["data"].get("reason", "guest"))
        return ""

    def _stderr(self) -> str:
        return (self.directory / "qemu-stderr").read_text(errors="replace")

    def death(self) -> str:
        """Why the machine can do no more work; "" while it can."""
        if self._host_fault():
            return "the host's disk is full"
        if self.process.stopped:
            return STOPPED
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
        self, command: str, outcome: Outcome, look: Callable[[], Evidence]
    ) -> HarnessError:
        """What to raise for a command that did not end in the time that it had.

        look() finds out what it waits for and ends it in the guest.
        """
        command = under_way(command, outcome.stderr.decode(errors="replace"))
        shown = command if len(command) <= 60 else f"{command[:57]}..."
        where = f"{self.name}: `{shown}`"
        hint = f"less {self.log}"
        if not outcome.timed_out and not self._host_fault():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(DYING_S)
        if self.process.poll() is not None:
            self.console.await_end(1.0)
        fault, log = self._host_fault(), self.console.data()
        if fault:
            return InfraError(
                f"{self.name}: the host cannot write {fault}", hint=f"df -h {self.directory}"
            )
        status, panic = self.process.poll(), splat.panic_line(log)
        detail = self.console.tail(60)
        emulator = splat.emulator_fault(log) if self.emulated else ""
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
            said = self._last_event() or self.process.last_words()
            return MachineLostError(
                f"{where}: QEMU ended with {process.ending(status)}: {said}",
                hint=hint,
                detail=f"{self._stderr()}\n{detail}",
            )
        quiet = self.console.silence()
        last = f"console silent for {quiet.seconds:.0f} s, last line: {quiet.last_line}"
        if not outcome.timed_out or self.process.stopped:
            why = STOPPED if self.process.stopped else f"{outcome.why}, while QEMU runs"
            return MachineLostError(f"{where}: {why}; {last}", hint=hint, detail=detail)
        evidence = look()
        if not evidence.answered and ended(evidence.files, command):
            why = "SSH does not answer any more, but the kernel lives and the program has ended"
            lost = MachineLostError(f"{where}: {why}; {last}", hint=hint, detail=detail)
            lost.evidence = evidence
            return lost
        end = "killed" if evidence.answered else f"SSH does not answer any more; {last}"
        why = f"; {evidence.summary}" if evidence.summary else ""
        error = WorkloadTimeoutError(
            f"{where}: not done in {round(outcome.limit_s, 1):g} s; {end}{why}",
            hint=hint,
            detail=detail,
        )
        error.evidence = evidence
        return error
