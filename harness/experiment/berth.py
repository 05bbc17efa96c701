# SPDX-License-Identifier: GPL-2.0
"""Where a worker's cells are run: a machine for each, or one for several in turn.

A shared machine saves the others their boot.  Each cell has a file system of its
own, and marks in the kernel's log cut out its part of console and dmesg.  A cell
that ends in anything but the verdict that was expected ends the machine with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from harness.errors import HarnessError, InfraError
from harness.events import Listener
from harness.experiment import cell, store
from harness.experiment.cell import Attempt
from harness.experiment.preflight import MOUNT_POINT, Guest, Job
from harness.guest.machine import Completed
from harness.guest.script import script, stopped_at
from harness.guest.splat import Splat
from harness.guest.ssh import Hearing

# For a line to come over an emulated serial port, on KVM; a busy host included.
MARK_LIMIT_S = 5.0


class Bootable(Guest, Protocol):
    """A guest that can be shared, and ended from another thread: guest.machine.Machine."""

    def await_console(self, text: bytes, timeout_s: float) -> int: ...
    def splats(self, part: slice = ...) -> list[Splat]: ...
    def kill(self) -> None: ...


Boot = Callable[[Job, Path, str], Bootable]  # directory of its files, name: not started


class Berth:
    """The machines of one worker, one after another.  A context manager.

    kill() may be called from any thread, all else is for the worker's own: QEMU
    dies with the thread that started it.
    """

    def __init__(self, boot: Boot, place: Callable[[str], Path], limit: int) -> None:
        """`limit` cells share a boot; with 1 a cell's machine has the cell's directory.

        place(kernel) makes a new directory for a shared machine.
        """
        self.limit = limit
        self._boot, self._place = boot, place
        self._guest: Bootable | None = None  # the one that kill() is for
        self._kernel = ""
        self._directory = Path()
        self._cells = 0  # that the shared machine has had
        self.heard = 0  # bytes of its console that are some cell's

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.discard()

    def guest(self, job: Job, directory: Path) -> Guest:
        """The guest for a cell; entering it boots, unless the machine of the last one will do."""
        if self.limit > 1:
            return _Stay(self, job, directory)
        self._guest = self._boot(job, directory, job.cell.name)
        return self._guest

    def attempt(self, job: Job, directory: Path, listen: Listener) -> Attempt:
        """One boot of a cell, or its turn in one, as cell.run() tells it."""
        return cell.run(job, self.guest(job, directory), directory, listen)

    def settle(self, good: bool, directory: Path) -> None:
        """After a cell's verdict: keeps the machine, or ends it; a bad one's disk is evidence."""
        if self.limit == 1:
            self._guest = None
        elif not good:
            self.discard(directory)
        elif self._cells >= self.limit:
            self.discard()

    def kill(self) -> None:
        """Ends QEMU at once; who waits for the guest gets MachineLostError."""
        if (guest := self._guest) is not None:
            guest.kill()

    def story(self) -> dict[str, Any]:
        """Which boot the last cell had, and the how manieth of it that was."""
        if self.limit == 1 or not self._cells:
            return {}
        return {"machine": {"directory": f"machines/{self._directory.name}", "turn": self._cells}}

    # --- of the shared machine -------------------------------------------------

    def machine(self, job: Job) -> tuple[Bootable, bool]:
        """The shared machine for `job`; True: a new one, not started."""
        if self._guest is not None and self._kernel == job.cell.kernel:
            self._cells += 1
            return self._guest, False
        self.discard()
        self._kernel, self._cells, self.heard = job.cell.kernel, 1, 0
        self._directory = self._place(job.cell.kernel)
        self._guest = self._boot(job, self._directory, self._directory.name)
        return self._guest, True

    def discard(self, disks_to: Path | None = None) -> None:
        """Closes the shared machine, if there is one; its disks move to `disks_to` or go."""
        guest, self._guest = self._guest, None
        if guest is not None and self.limit > 1:
            guest.__exit__(None, None, None)
        if self.limit > 1 and self._cells:
            if disks_to is not None:
                with store.writing(disks_to):
                    for image in self._directory.glob("*.img"):
                        shutil.move(image, disks_to / image.name)
            store.delete_disks(self._directory)


class _Stay:
    """One cell's time in a machine that may have had others: a Guest like any."""

    def __init__(self, berth: Berth, job: Job, directory: Path) -> None:
        self._berth, self._job, self._place = berth, job, directory
        self._machine: Bootable | None = None
        self._part = slice(0, None)  # of the console, in bytes
        self._begun = False
        self._left: Completed | None = None  # the last command of the last script
        self._wall: Mapping[str, float] = {}

    @property
    def wall(self) -> Mapping[str, float]:
        """Seconds of the boot, if this cell was the one that waited for it."""
        return self._wall

    def __enter__(self) -> Self:
        self._machine, new = self._berth.machine(self._job)
        self._write_qemu_cmd()
        try:
            if new:
                self._machine.__enter__()
                self._wall = dict(self._machine.wall)
            # What the kernel says at boot is the first one's, and what it says between two
            # cells the second one's: it must be somebody's.
            self._part = slice(self._berth.heard, None)
        except BaseException:
            self._berth.discard(self._place)
            self._write_console()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        assert self._machine is not None
        try:
            if kind is None:
                self._leave()
            else:
                self._berth.discard(self._place)
        finally:
            self._write_console()

    def _write_console(self) -> None:
        with store.writing(self._place):
            (self._place / "console.log").write_bytes(self.console())

    def _leave(self) -> None:
        assert self._machine is not None
        try:
            # What the kernel has to say of it is still this cell's.
            left = self._left or self._last()[1]
            if left.status != 0:
                raise InfraError(f"{left.argv}: {left.stderr.strip()}")
            text = self._text("end").encode() + b"\r\n"
            self._berth.heard = self._machine.await_console(text, MARK_LIMIT_S)
            self._part = slice(self._part.start, self._berth.heard)
        except HarnessError:
            self._berth.discard(self._place)

    def _last(self, *first: str) -> tuple[str, Completed]:
        """Does `first` and leaves the file system; its stdout, and where it stopped, if it did."""
        assert self._machine is not None
        commands = [*first, f"umount {MOUNT_POINT}", self._mark("end")]
        done = self._machine.run(script(commands))
        self._left = stopped_at(commands, done)
        return done.stdout, self._left

    def _text(self, what: str) -> str:
        return f"harness: {what} '{self._job.cell.name}'"

    def _mark(self, what: str) -> str:
        """The command that writes a line to the kernel's log."""
        return f"echo {shlex.quote(self._text(what))} >/dev/kmsg"

    def _write_qemu_cmd(self) -> None:
        machine = self._berth.story()["machine"]["directory"]
        run = next(p for p in self._place.parents if (p / machine).is_dir())
        path = os.path.relpath(run / machine, self._place)
        store.write_text(
            self._place / "qemu-cmd",
            "#!/bin/sh\n# The machine that this cell shared with others.\n"
            f'exec sh "$(dirname "$0")"/{shlex.quote(path)}/qemu-cmd\n',
        )

    # --- what a cell asks of its guest -------------------------------------------

    def run(
        self,
        command: str,
        timeout_s: float = 60,
        on_stdout_line: Hearing | None = None,
    ) -> Completed:
        """As Machine.run(); the first also says in the kernel's log that the cell begins."""
        assert self._machine is not None
        if not self._begun:
            self._begun, command = True, f"{self._mark('begin')} || exit\n{command}"
        return self._machine.run(command, timeout_s, on_stdout_line)

    def dmesg(self) -> str:
        """The kernel's log from this cell's mark on; all of it when the mark has gone.

        The last that a cell asks: its file system is unmounted in the same breath.
        """
        assert self._machine is not None
        text, left = self._last("dmesg")
        if not text or (left.status != 0 and left.argv == "dmesg"):  # no log is not a clean log
            raise InfraError(f"dmesg failed: {left.status} {left.stderr.strip()}")
        if self._part.start == 0:
            return text
        return text[max(0, text.rfind(self._text("begin"))) :]

    def console(self) -> bytes:
        """This cell's part."""
        return b"" if self._machine is None else self._machine.console()[self._part]

    def splats(self) -> list[Splat]:
        """Of this cell's part; InfraError when the console's log has a gap."""
        return [] if self._machine is None else self._machine.splats(self._part)
