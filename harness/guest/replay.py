# SPDX-License-Identifier: GPL-2.0
"""A virtual machine that does the same every time, whatever the host does beside it.

Its CPUs take turns in one thread of QEMU and its clock counts their instructions
(-icount). Nothing of the host gets in: no network, no SSH, no disk of the host's, no
entropy. What it is to do is in its initramfs; what came of it is said on the serial
console, into a file, which never makes QEMU wait. docs/replay.md says what was measured.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from harness.errors import BootError, InfraError, MachineLostError, WorkloadTimeoutError
from harness.events import Event, Listener, silent
from harness.guest import orders, process, qemu, splat
from harness.guest.script import apart
from harness.guest.spec import MachineSpec
from harness.guest.splat import Splat
from harness.guest.ssh import Completed, Hearing

SHIFTS = range(11)  # of -icount (QEMU, docs/devel/tcg-icount.rst): 2**shift ns an instruction
# Under random.trust_*=off the kernel counts neither as entropy; -seed fixes the seed that
# QEMU leaves it, which it mixes in all the same.
CMDLINE = (
    "nokaslr", "norandmaps", "random.trust_cpu=off", "random.trust_bootloader=off",
    "null_blk.nr_devices=0",
)  # fmt: skip
_LOOK_S = 0.2
WHOLE = slice(None)
_PAGE = 1 << 16


def command(spec: MachineSpec, image: Path, shift: int, console: Path, memory: str) -> list[str]:
    """QEMU's argv. `memory`: the file that the guest's memory is; a debugger waits as in spec."""
    cpus = spec.cpus
    argv = [
        qemu.find_qemu(), *qemu.BARE,
        "-machine", "q35,memory-backend=ram",
        "-object", f"memory-backend-file,id=ram,size={spec.memory_mib}M,mem-path={memory},share=on",
        "-m", f"{spec.memory_mib}M",
        "-accel", "tcg,thread=single",
        "-icount", f"shift={shift},sleep=off",
        "-rtc", "base=2026-01-01,clock=vm",
        # RDRAND is the host's.
        "-cpu", "qemu64,-rdrand",
        "-seed", "1",
        "-smp", f"cpus={cpus},sockets={cpus},cores=1,threads=1",
        "-nic", "none",
        "-serial", f"file:{console}",
        "-kernel", str(spec.bzimage.absolute()),
        "-initrd", str(image),
        "-append", " ".join((*spec.whole_cmdline, *CMDLINE)),
    ]  # fmt: skip
    if spec.gdb is not None:
        argv += ["-S", "-gdb", f"unix:{spec.gdb},server=on,wait=off"]
    return argv


def machine_line(argv: Sequence[str]) -> str:
    """A command line of command() without what is another in each directory."""
    gone = {"-kernel": "KERNEL", "-initrd": "INITRAMFS", "-serial": "file:CONSOLE"}
    words, before = [Path(argv[0]).name], argv[0]
    for word in argv[1:]:
        words.append(gone.get(before, re.sub(r"mem-path=[^,]*", "mem-path=MEMORY", word)))
        before = word
    if "-gdb" in words:  # a debugger is no part of the machine
        at = words.index("-gdb")
        words = words[: at - 1] + words[at + 2 :]
    return shlex.join(words)


@dataclass(frozen=True)
class Recording:
    """What one machine did, from its start to its end."""

    console: str  # all that it said, lines ended by \n
    memory: str  # sha256 of its memory at its end
    seconds: float  # of the host
    initramfs: str  # sha256
    machine: str  # machine_line()

    @property
    def trace(self) -> str:
        """sha256 of all that it said, with its clock: one instruction more, and it differs."""
        return hashlib.sha256(self.console.encode()).hexdigest()


class ReplayMachine:
    """One guest that is told at its start what it will be asked; what cell.run() takes.

    Entering runs it from its boot to its end; run() then gives what it answered to a
    command. The thread that enters must live as long as it runs.
    """

    def __init__(
        self,
        spec: MachineSpec,
        directory: Path,
        cache: Path,
        listen: Listener = silent,
        name: str = "guest",
    ) -> None:
        """`spec` says what it is told; what it leaves is in `directory`, which is made."""
        assert spec.told is not None
        self.spec, self.told, self.directory, self.name = spec, spec.told, directory, name
        self.commands = orders.whole(spec.told.commands, spec)
        self.recording: Recording | None = None
        self.wall: dict[str, float] = {}
        self.keep_disk = False
        self._cache, self._listen = cache, listen
        self._process: process.Process | None = None
        self._killed = False
        self._answers: dict[str, Completed] = {}
        self._overtime = False

    @property
    def _log(self) -> Path:
        return self.directory / "console.log"

    def __enter__(self) -> ReplayMachine:
        """Run it to its end.

        BootError: the kernel did not reach user space. InfraError: QEMU cannot be started,
        or the kernel has no null_blk.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._log.unlink(missing_ok=True)
            self._log.touch()
            self._run()
        except OSError as error:
            raise InfraError(
                f"{self.name}: cannot write in {self.directory}: {error.strerror}",
                hint=f"df -h {self.directory}",
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is left of it but its directory's files."""

    def kill(self) -> None:
        """End it at once, from any thread."""
        self._killed = True
        if self._process is not None:
            self._process.kill()

    def _run(self) -> None:
        here = self.directory.absolute()
        image, began = here / "initramfs.cpio", time.monotonic()
        memory = os.memfd_create("guest", os.MFD_CLOEXEC)
        try:
            archives, written = orders.write_image(image, self.spec, self._cache)
            shift = self.told.shift
            argv = command(self.spec, image, shift, self._log, f"/proc/self/fd/{memory}")
            self._write_qemu_cmd(archives)
            self._say("boot", f"booting {self.spec.bzimage.name} (icount, shift {shift})")
            with process.Process(argv, (memory,), here / "qemu-stderr") as running:
                self._process = running
                status = self._wait(running)
            self.recording = Recording(
                console=_text(self._log),
                memory=_memory_digest(memory),
                seconds=time.monotonic() - began,
                initramfs=written,
                machine=machine_line(argv),
            )
        finally:
            os.close(memory)
            image.unlink(missing_ok=True)
        self.wall = {"ssh": 0.0, "replay": self.recording.seconds}
        self._judge(status)
        self._answers = orders.answers(self.recording.console, self.commands)
        disk = self._answers.get(self.commands[0])
        if disk is not None and disk.status != 0:
            raise InfraError(
                f"{self.name}: the kernel has no disk in memory: {disk.stderr.strip()[:200]}",
                hint="grep NULL_BLK vm/kconfig/guest.config",
            )

    def _write_qemu_cmd(self, archives: Sequence[Path]) -> None:
        """What boots the same machine again, by hand, and says all on the terminal."""
        by_hand = command(
            self.spec, Path("initramfs.cpio"), self.told.shift, Path("/dev/stdout"), "memory"
        )
        text = (
            f"#!/bin/sh\n# The machine of {self.name} again, to its end.\n"
            'set -e\ncd "$(dirname "$0")"\n'
            f"cat {shlex.join(map(str, archives))} >initramfs.cpio\n"
            f"exec {shlex.join(by_hand)}\n"
        )
        (self.directory / "qemu-cmd").write_text(text)

    def _wait(self, running: process.Process) -> int | None:
        """Its exit status; None: it was not done in time, and is killed."""
        if self.spec.gdb is not None:
            self._say("boot", "waits for gdb", gdb=str(self.spec.gdb))
        boot = self.spec.limit_s(self.spec.boot_timeout_s)
        limit = boot + self.spec.limit_s(self.told.limit_s)
        end, started = time.monotonic() + limit, time.monotonic()
        while True:
            try:
                return running.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                late = time.monotonic() > started + boot and orders.READY not in _text(self._log)
                if time.monotonic() > end or late:
                    self._overtime = True
                    return None

    def _judge(self, status: int | None) -> None:
        """Raise what it means that it never reached user space."""
        assert self.recording is not None
        said = self.recording.console
        if orders.READY in said:
            return
        tail = "\n".join(said.splitlines()[-60:])
        hint = f"less {self._log}"
        if panic := splat.panic_line(said.encode()):
            raise BootError(f"{self.name}: panic at boot: {panic}", hint=hint, detail=tail)
        if status is None:
            raise BootError(
                f"{self.name}: did not reach user space in time", hint=hint, detail=tail
            )
        if status != 0 or not said:
            stderr = (self.directory / "qemu-stderr").read_text(errors="replace").strip()
            last = (stderr.splitlines() or ["it said nothing"])[-1]
            raise InfraError(
                f"{self.name}: QEMU ended with {process.ending(status)}: {last}",
                hint=f"sh {self.directory / 'qemu-cmd'}",
                detail=stderr,
            )
        raise BootError(f"{self.name}: the machine reset itself", hint=hint, detail=tail)

    def run(
        self,
        command: str,
        timeout_s: float = 60,
        on_stdout_line: Hearing | None = None,
    ) -> Completed:
        """What it answered to a command, or the lines of a script, that it was told at its start.

        MachineLostError: it went down before it could say so; WorkloadTimeoutError: it was not
        done in time.
        """
        return apart(command, lambda line: self._answer(line, on_stdout_line))

    def _answer(
        self, command: str, on_stdout_line: Hearing | None
    ) -> Completed:
        if (answer := self._answers.get(command)) is not None:
            if on_stdout_line is not None:
                for line in answer.stdout.splitlines():
                    on_stdout_line(line)
            return answer
        shown = command if len(command) <= 60 else f"{command[:57]}..."
        said = self.recording.console if self.recording is not None else ""
        hint, detail = f"less {self._log}", "\n".join(said.splitlines()[-60:])
        where = f"{self.name}: `{shown}`"
        if self._overtime:
            raise WorkloadTimeoutError(f"{where}: not done in time", hint=hint, detail=detail)
        if panic := splat.panic_line(said.encode()):
            why = f"the kernel panicked: {panic}"
            raise MachineLostError(f"{where}: {why}", hint=hint, detail=detail)
        done = orders.DONE in said
        why = "was not told of it at its start" if done else "went down before it was done"
        raise MachineLostError(f"{where}: the machine {why}", hint=hint, detail=detail)

    def dmesg(self) -> str:
        """The kernel's log since user space; what is older is on the console."""
        return self.run(orders.DMESG).stdout

    def console(self) -> bytes:
        """All that the serial console said."""
        return self._log.read_bytes() if self._log.exists() else b""

    def splats(self, part: slice = WHOLE) -> list[Splat]:
        """The kernel's complaints on the console, or on these bytes of it."""
        return splat.scan(self.console()[part])

    def await_console(self, text: bytes, timeout_s: float) -> int:
        """The offset behind the last place of `text` on the console; it says nothing more.

        InfraError when it is not there.
        """
        at = self.console().rfind(text)
        if at < 0:
            raise InfraError(
                f"{self.name}: the console did not say {text.decode(errors='replace').strip()!r}",
                hint=f"less {self._log}",
            )
        return at + len(text)

    def _say(self, kind: str, message: str, **data: object) -> None:
        self._listen(Event(kind, self.name, message, data=data))


def _text(log: Path) -> str:
    return log.read_bytes().decode(errors="replace").replace("\r", "")


def _memory_digest(memory: int) -> str:
    """sha256 of what is not zero in the guest's memory, with its place."""
    whole, size, at = hashlib.sha256(), os.fstat(memory).st_size, 0
    zero = bytes(_PAGE)
    while at < size:
        try:
            at = os.lseek(memory, at, os.SEEK_DATA) // _PAGE * _PAGE
        except OSError:  # no more of it was ever touched
            break
        page = os.pread(memory, _PAGE, at)
        if page != zero[: len(page)]:
            whole.update(at.to_bytes(8, "little"))
            whole.update(page)
        at += _PAGE
    return whole.hexdigest()
