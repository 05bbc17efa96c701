# SPDX-License-Identifier: GPL-2.0
"""Machines without QEMU, and the other rooms' doors, for tests of experiment/.

A FakeMachine honours the interface of guest.machine.Machine: it boots or does
not, answers mkfs, mount, preflight and the reproducer, and may die on the way.
By default it behaves as a healthy kernel: races fire with a switch on, and hold
without.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from harness.config import Config
from harness.events import Event, Listener
from harness.experiment.runner import Rooms
from harness.guest.machine import Completed, MachineSpec
from harness.guest.qemu import Accelerator
from harness.guest.script import apart
from harness.guest.splat import Splat
from harness.guest.ssh import Hearing
from harness.kernel.build import Image

RESULT = {"exposed": "not ok", "held": "ok", "untested": "ok"}


@dataclass
class Script:
    """What goes on in one boot; the defaults are a healthy guest."""

    boot_error: BaseException | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)  # program -> exit status
    preflight: Mapping[str, Any] = field(default_factory=dict)  # what differs
    raw_preflight: str | None = None
    outcomes: Callable[[int, bool], str] = lambda _number, on: "exposed" if on else "held"
    hits: int = 1
    data: Mapping[str, Any] = field(default_factory=dict)  # what each trial says besides
    header: Mapping[str, Any] = field(default_factory=dict)  # what differs
    lines: Sequence[str] | None = None  # instead of all output
    status: int | None = None  # instead of the fitting one
    dies: BaseException | None = None  # raised by run() of the reproducer ...
    after: int = 0  # ... when so many of its lines were printed
    dies_in_prepare: BaseException | None = None
    dies_in_dmesg: BaseException | None = None
    splats: Sequence[Splat] = ()
    scan_error: Exception | None = None
    console: bytes = b"console\n"
    dmesg: str = "[    0.000000] Linux version\n"


class FakeMachine:
    """One boot that follows a Script."""

    def __init__(
        self, lab: Lab, script: Script, spec: MachineSpec, directory: Path, name: str
    ) -> None:
        self.lab, self.script, self.spec = lab, script, spec
        self.directory, self.name = directory, name
        self.wall = {"start": 0.1, "ready": 1.5, "ssh": 1.6}
        self.is_open = False
        self.said = b""  # the marks that were written to the kernel's log
        self.mounted = ""  # the file system
        self.limit_s = 0.0  # that what runs has

    def __enter__(self) -> Self:
        (self.directory / "console.log").write_bytes(self.script.console)
        (self.directory / "disk.img").write_text("disk\n")
        if self.script.boot_error is not None:
            raise self.script.boot_error
        self.is_open = True
        self.lab.booted.append(self.name)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.is_open = False

    def run(
        self,
        command: str,
        timeout_s: float = 60,
        on_stdout_line: Hearing | None = None,
    ) -> Completed:
        """A command, or the lines of a script, as the guest's shell takes them."""
        self.limit_s = timeout_s
        mark, _, rest = command.partition(" || exit\n")
        if rest:
            self._one(mark, timeout_s, None)
        return apart(rest or mark, lambda line: self._one(line, timeout_s, on_stdout_line))

    def _one(
        self, command: str, timeout_s: float, on_stdout_line: Hearing | None
    ) -> Completed:
        assert self.is_open
        self.lab.commands.append(command)
        argv = shlex.split(command)
        if argv[-1] == ">/dev/kmsg":
            self.said += argv[1].encode() + b"\r\n"
        if argv[0] == "mount":
            self.mounted = argv[2]
        if self.script.dies_in_prepare is not None:
            raise self.script.dies_in_prepare
        if argv[0].startswith(("/workloads/races/", "/workloads/gates/")):
            self.lab.timeouts.append(self.limit_s)
            return self._reproducer(command, argv, on_stdout_line)
        status = self.script.statuses.get(argv[0], 0)
        if argv[0] == "dmesg":
            return Completed(command, status, self.dmesg(), "", 0.1)
        stdout = self._preflight(argv) if argv[0] == "/workloads/preflight" else ""
        if on_stdout_line is not None:
            for line in stdout.splitlines():
                self.limit_s = on_stdout_line(line) or self.limit_s
        return Completed(command, status, stdout, f"{argv[0]}: no" if status else "", 0.1)

    def dmesg(self) -> str:
        assert self.is_open
        if self.script.dies_in_dmesg is not None:
            raise self.script.dies_in_dmesg
        return self.script.dmesg

    def console(self) -> bytes:
        return self.script.console + self.said

    def await_console(self, text: bytes, timeout_s: float) -> int:
        assert text in self.console()
        return self.console().rindex(text) + len(text)

    def kill(self) -> None:
        self.lab.killed.append(self.name)

    def splats(self, part: slice = slice(None)) -> list[Splat]:
        assert part.stop or not self.is_open, "it is complete only when the machine is closed"
        if self.script.scan_error is not None:
            raise self.script.scan_error
        return list(self.script.splats)

    def _preflight(self, argv: list[str]) -> str:
        if self.script.raw_preflight is not None:
            return self.script.raw_preflight
        kernel = self.name.split("/")[0].rpartition("-")[2]  # or 001-stock
        seen = {
            "release": f"6.12.0-{kernel}",
            "cpus_online": self.spec.cpus,
            "affinity": [True] * self.spec.cpus,
            "fs_type": self.mounted,
            "block_size": 4096,
            "reflink": False,
            "mount_options": ["rw", "noatime"],
            "free_bytes": 400 << 20,
            "clocksource": "tsc",
        }
        return json.dumps({**seen, **self.script.preflight}) + "\n"

    def _reproducer(
        self, command: str, argv: list[str], on_line: Hearing | None
    ) -> Completed:
        script, printed = self.script, []
        source = script.lines if script.lines is not None else self._output(argv)
        for number, line in enumerate(source):
            if script.dies is not None and number == script.after:
                raise script.dies
            printed.append(line)
            if on_line is not None:
                on_line(line)
        if script.dies is not None:
            raise script.dies
        status = int(any(line.startswith("not ok") for line in printed))
        if script.status is not None:
            status = script.status
        return Completed(command, status, "\n".join(printed), "last words", 1.0)

    def _output(self, argv: list[str]) -> Iterator[str]:
        asked = dict(zip(argv[1::2], argv[2::2], strict=False))
        windows = [argv[i + 1].split(":") for i, word in enumerate(argv) if word == "--window"]
        switches = asked["--switch"].split("+") if "--switch" in asked else []
        header = {
            "workload": argv[0].rpartition("/")[2],
            "seed": int(asked["--seed"]),
            "switches": switches,
            "windows": {name: int(delay) for name, delay, _probability in windows},
        }
        yield "KTAP version 1"
        wanted = int(asked["--trials"])
        if "--limit" in asked:  # half a second for each
            wanted = min(wanted, max(int(asked["--at-least"]), int(2 * float(asked["--limit"]))))
        else:
            yield f"1..{wanted}"
        yield "# " + json.dumps({**header, **self.script.header})
        for number in range(1, wanted + 1):
            outcome = self.script.outcomes(number, bool(switches))
            hits = {name: self.script.hits for name, *_ in windows}
            told = {"trial": number, "outcome": outcome, "window_hits": hits}
            yield "# " + json.dumps({**told, **self.script.data})
            skip = " # SKIP not reached" if outcome == "untested" else ""
            yield f"{RESULT[outcome]} {number} trial-{number}{skip}"
        if "--limit" in asked:
            yield f"1..{wanted}"


class Lab:
    """All machines of a run, and what was asked of them."""

    def __init__(self, **scripts: Script | list[Script]) -> None:
        """`scripts`: cell name -> its boots, one Script each; the last is repeated."""
        self.scripts = {
            name: script if isinstance(script, list) else [script]
            for name, script in scripts.items()
        }
        self.default = Script()
        self.machines: list[FakeMachine] = []
        self.booted: list[str] = []
        self.killed: list[str] = []
        self.commands: list[str] = []
        self.timeouts: list[float] = []
        self.built: list[str] = []
        self.build_error: BaseException | None = None
        self.probe_error: BaseException | None = None
        self.digest = "0123456789ab"  # of the programs
        self.programs = ["preflight", "races/punch", "races/plain", "races/dio", "gates/splice"]

    def script(self, name: str) -> Script:
        """The next boot of cell `name`; "stock/*" serves all cells of a kernel."""
        found = self.scripts.get(name) or self.scripts.get(name.split("/")[0] + "/*")
        if not found:
            return self.default
        return found.pop(0) if len(found) > 1 else found[0]

    @property
    def still_open(self) -> list[str]:
        """Machines that nobody closed."""
        return [machine.name for machine in self.machines if machine.is_open]

    def rooms(self) -> Rooms:
        """The doors for run_plan()."""

        def ensure(name: str, cfg: Config, cache: Path, listen: Listener) -> Image:
            listen(Event("build", name, "CC", done=1, total=1))
            if self.build_error is not None:
                raise self.build_error
            self.built.append(name)
            return image(name, cfg, cache)

        def compile_workloads(_root: Path, cache: Path, _listen: Listener) -> dict[str, Path]:
            return {key: cache / key for key in self.programs}

        def probe(_asked: str) -> Accelerator:
            if self.probe_error is not None:
                raise self.probe_error
            return Accelerator(name="tcg", slowdown=10.0, reason="no vmx in /proc/cpuinfo")

        def machine(
            spec: MachineSpec,
            directory: Path,
            _root: Path,
            _cache: Path,
            _listen: Listener,
            name: str,
        ) -> FakeMachine:
            self.machines.append(FakeMachine(self, self.script(name), spec, directory, name))
            return self.machines[-1]

        return Rooms(
            ensure,
            compile_workloads,
            probe,
            lambda _programs: self.digest,
            machine,
            lambda: "QEMU emulator version 7.2.0",
        )


def image(name: str, cfg: Config, cache: Path) -> Image:
    """A kernel that was built before; its files do not exist."""
    return Image(
        kernel=name,
        role=cfg.kernel[name].role,
        id="0123456789ab",
        release=f"6.12.0-{name}",
        bzimage=cache / name / "bzImage",
        vmlinux=cache / name / "vmlinux",
        dotconfig=cache / name / ".config",
        log=cache / name / "log",
        scripts=cache / name / "scripts",
        built=False,
        seconds=0.0,
        source_commit="c0ffee",
        series=list(cfg.kernel[name].series),
        compiler="gcc 12",
    )
