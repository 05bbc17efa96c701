# SPDX-License-Identifier: GPL-2.0
"""A kernel tree in miniature with a history, and machines that do what its source says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.bisect import once, verb
from harness.config import Config
from harness.errors import BootError, WorkloadTimeoutError
from harness.events import Listener
from harness.experiment.bench import Figure
from harness.experiment.runner import Rooms
from harness.guest.machine import Completed, MachineSpec
from harness.guest.splat import Splat
from harness.guest.ssh import Hearing
from harness.kernel import build
from harness.kernel.image import Image
from tests.conftest import TOML
from tests.fakes import kernel as fake
from tests.fakes.fake_machine import FakeMachine, Lab, Script

FILE = "fs/namei.c"
WARNING = Splat("warning", "WARNING in filemap_fault", "WARNING: mm/filemap.c:1\nCall Trace:")
OTHER = Splat("bug", "BUG in other_thing", "BUG: other")
PANIC = Splat("panic", "Kernel panic - not syncing: VFS: no root", "Kernel panic")
# What a line of source makes of a guest.
OPEN, RARE, CRASH, CRASH_ELSE = "RACE_OPEN", "RARELY_OPEN", "WARN_HERE", "BUG_ELSEWHERE"
HANGS, NO_BOOT, SILENT_BOOT = "HANGS_HERE", "NO_BOOT", "SILENT_BOOT"
NO_BUILD, NO_BUILD_ELSE = "SYNTAX_ERROR", "UNDEFINED"
SLOW = "SLOW_HERE"
DROPPED, UNTESTABLE = "SITE_DROPPED", "UNTESTABLE"
BUSY, BUSY_FOR_LONG = "BUSY_ONCE", "BUSY_FOR_LONG"  # most trials do not count


def script_of(source: str, before: int = 0) -> Script:
    """The behaviour of a guest whose kernel was made from this and booted so often before."""
    script = Script()
    release = next(line for line in source.splitlines() if line.startswith("6.12.9-"))
    script.preflight = {"release": release}
    if UNTESTABLE in source:
        script.preflight = {"release": release, "cpus_online": 1}
    if OPEN in source:
        script.outcomes = lambda _number, _on: "exposed"
    if RARE in source:
        script.outcomes = lambda number, _on: "held" if number % 4 else "exposed"
    if DROPPED in source:
        script.outcomes = lambda _number, _on: "held"
    if BUSY_FOR_LONG in source or (BUSY in source and not before):
        script.outcomes = lambda number, _on: "held" if number % 4 == 1 else "untested"
    if CRASH in source:
        script.splats = [WARNING]
    if CRASH_ELSE in source:
        script.splats = [OTHER]
    if HANGS in source:
        script.dies, script.after = WorkloadTimeoutError("did not end"), 8
    if NO_BOOT in source:
        script.boot_error, script.splats = BootError("Kernel panic"), [PANIC]
    if SILENT_BOOT in source:
        script.boot_error = BootError("says nothing")
    return script


class Guest(FakeMachine):
    """A machine of paper that knows its own name and reads its own console."""

    def run(
        self,
        command: str,
        timeout_s: float = 60,
        on_stdout_line: Hearing | None = None,
    ) -> Completed:
        if command == "uname -r":
            self.lab.commands.append(command)
            return Completed(command, 0, str(self.script.preflight["release"]) + "\n", "", 0.1)
        return super().run(command, timeout_s, on_stdout_line)


@dataclass
class Yard:
    """A project, its tree's history, and what was built and booted."""

    root: Path
    cache: Path
    capture: pytest.CaptureFixture[str]
    lab: Lab = field(default_factory=Lab)
    commits: list[str] = field(default_factory=list)
    boots: list[str] = field(default_factory=list)  # the source of each kernel that was booted
    on_boot: Callable[[int], None] = lambda _number: None
    said: str = ""  # by the last bisect()
    measured: list[str] = field(default_factory=list)

    @property
    def linux(self) -> Path:
        return self.root / "linux"

    def history(self, states: Sequence[str]) -> list[str]:
        """One commit for each text that FILE has beside what is in it; their ids."""
        original = (fake.LINUX / FILE).read_text()
        for number, state in enumerate(states):
            (self.linux / FILE).write_text(original + f"int step_{number};\n{state}\n")
            fake.git(self.linux, "commit", "--quiet", "-am", f"mm: step {number}")
            self.commits.append(fake.git(self.linux, "rev-parse", "HEAD"))
        return self.commits

    def rooms(self) -> Rooms:
        paper = self.lab.rooms()

        def machine(
            spec: MachineSpec, directory: Path, _root: Path, _cache: Path, _listen: Listener,
            name: str,
        ) -> FakeMachine:  # fmt: skip
            self.on_boot(len(self.boots))
            source = spec.bzimage.read_text()
            script = script_of(source, self.boots.count(source))
            self.boots.append(source)
            guest = Guest(self.lab, script, spec, directory, name)
            self.lab.machines.append(guest)
            return guest

        return Rooms(
            build.ensure, paper.compile_workloads, paper.probe_accelerator, paper.digest,
            machine, paper.emulator, self._measure,
        )  # fmt: skip

    def _measure(self, _cfg: Config, image: Image, *_: Any) -> list[Figure]:
        source = image.bzimage.read_text()
        self.measured.append(source)
        if NO_BOOT in source:
            raise BootError("Kernel panic")
        return [Figure("cold/ext4/ns", 1203.0 if SLOW in source else 1000.0)]

    def type(self, *argv: str, code: int = 0) -> str:
        """What `harness ARGV` says; its exit code must be `code`."""
        self.capture.readouterr()
        got = cli.main(list(argv))
        out, err = self.capture.readouterr()
        assert "Traceback" not in out + err
        assert got == code, out + err
        return out + err

    def bisect(self, *argv: str, code: int = 0) -> dict[str, Any]:
        """bisect.json of `harness bisect ARGV`."""
        self.said = self.type("bisect", *argv, code=code)
        return self.document()

    def document(self) -> dict[str, Any]:
        newest = max((self.root / "results").glob("*-bisect-*/bisect.json"),
                     key=lambda path: path.stat().st_mtime_ns)  # fmt: skip
        value: dict[str, Any] = json.loads(newest.read_text())
        return value

    def journals(self) -> list[Path]:
        return sorted((self.root / "results").glob("*-bisect-*/journal.jsonl"))

    def marks(self, document: Mapping[str, Any]) -> dict[int, str]:
        """Number of the commit -> what it was said to be."""
        return {
            self.commits.index(each["commit"]): each["mark"] for each in document["decisions"]
        }


@pytest.fixture
def yard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Yard]:
    """The program in a project whose tree is a git repository."""
    # Beside a commit that was skipped git takes, of those equally far, the one whose name sorts
    # first, and the time is in the names.
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_DATE", "2026-01-01T00:00:00Z")
    root = tmp_path / "root"
    root.mkdir()
    linux = fake.linux(root / "linux")
    fake.git(linux, "init", "--quiet", "-b", "master")
    fake.git(linux, "add", "-A")
    fake.git(linux, "commit", "--quiet", "-m", "Linux 6.12")
    windows = fake.patch("fs: windows", {"fs/inode.c": ("int inode_2;", "int inode_two;")})
    fake.write_series(root, "windows", {"0001-windows.patch": windows})
    fake.write_fragment(root, "base", "# Two CPUs.\nCONFIG_SMP=y\n")
    (root / "workloads/races").mkdir(parents=True)
    (root / "workloads/races/punch.c").write_text("")
    text = TOML.replace(
        'kind = "debian"\npackage = "linux-source-6.12"',
        'kind = "git"\nurl = "linux"\nref = "master"',
    )
    text = text.replace('["race-windows"]', '["windows"]').replace('"reopen-races",', "")
    text = text.replace('"race-windows",', '"windows",').replace('["base", "guest"]', '["base"]')
    (root / "harness.toml").write_text(text)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(root)
    yard = Yard(root, tmp_path / "cache", capsys)
    for module in (verb, once):
        monkeypatch.setattr(module, "Rooms", yard.rooms)
    yield yard
