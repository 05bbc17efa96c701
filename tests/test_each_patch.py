# SPDX-License-Identifier: GPL-2.0
"""`harness build KERNEL --each-patch`, with the kernel in miniature and machines of paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from harness import cli, each_patch
from harness.errors import BootError, InfraError, MachineLostError
from harness.guest.machine import BOOT_ATTEMPTS, Completed
from harness.guest.qemu import Accelerator
from harness.guest.splat import Splat
from tests.conftest import TOML
from tests.fakes import kernel as fake

NAMES = ["0001-one.patch", "0002-two.patch"]
PATCHES = [
    fake.patch("mm: one", {"mm/filemap.c": ("int filemap_5;", "int filemap_five;")}),
    fake.patch("fs: two", {"fs/inode.c": ("int inode_5;", "int inode_five;")}),
]
ONE, TWO = (f"patch {n} of 2 ({name})" for n, name in enumerate(NAMES, 1))
WARNING = Splat("warning", "WARNING: mm/filemap.c:1", "WARNING: mm/filemap.c:1\nCall Trace:")


@dataclass
class Guests:
    """What the machines do, and what they were asked."""

    booted: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    splats: Callable[[str], list[Splat]] = lambda _name: []
    on_boot: Callable[[str], None] = lambda _name: None
    status: Callable[[str], int] = lambda _command: 0
    console: bytes = b""
    release: str = ""  # instead of the right one
    lost: bool = False  # at mkfs of ext4


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guests]:
    """The program in a project of two patches on the fake tree."""
    guests = Guests()
    root = tmp_path / "root"
    root.mkdir()
    fake.linux(root / "linux")
    fake.write_series(root, "ours", dict(zip(NAMES, PATCHES, strict=True)))
    fake.write_fragment(root, "base", "# Two CPUs.\nCONFIG_SMP=y\n")
    (root / "workloads/races").mkdir(parents=True)
    (root / "workloads/races/punch.c").write_text("")
    debian, here = 'kind = "debian"\npackage = "linux-source-6.12"', 'kind = "dir"\npath = "linux"'
    text = TOML.replace(debian, here)
    text = text.replace('["race-windows"]', '["ours"]').replace('"reopen-races",', "")
    text = text.replace('"race-windows",', '"ours",').replace('["base", "guest"]', '["base"]')
    (root / "harness.toml").write_text(text)

    class Machine:
        def __init__(self, spec: Any, directory: Path, *_: object, name: str, **_k: object) -> None:
            self.spec, self.name = spec, name

        def __enter__(self) -> Self:
            guests.on_boot(self.name)
            guests.booted.append(self.name)
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def run(self, command: str) -> Completed:
            guests.commands.append(command)
            if guests.lost and "mkfs.ext4" in command:
                raise MachineLostError(f"{self.name}: the machine is gone", hint="less console.log")
            banner = self.spec.bzimage.read_text()
            release = next(line for line in banner.splitlines() if line.startswith("6.12.9-"))
            out = (guests.release or release) if command == "uname -r" else ""
            status = guests.status(command)
            return Completed(command, status, out, "no space" if status else "", 0.0)

        def dmesg(self) -> str:
            return ""

        def console(self) -> bytes:
            return guests.console

        def splats(self) -> list[Splat]:
            return guests.splats(self.name)

    monkeypatch.setattr(each_patch, "Machine", Machine)
    monkeypatch.setattr(
        each_patch, "probe_accelerator", lambda _asked: Accelerator("tcg", 5.0, "asked for")
    )
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(root)
    yield guests


def test_each_patch_is_built_and_booted_and_has_a_line(
    guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["build", "stock", "--each-patch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": built in ")[0] for line in lines] == [ONE, TWO]
    assert all(", booted in " in line for line in lines)
    assert guests.booted == [ONE, TWO]
    # Every file system is used on every one.
    assert sum("mkfs.xfs" in command for command in guests.commands) == 2
    assert sum("mkfs.ext4" in command for command in guests.commands) == 2


def test_no_boot(guests: Guests, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", "stock", "--each-patch", "--no-boot", "--from", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{TWO}: built in ") and "booted" not in out
    assert guests.booted == []


@pytest.mark.parametrize("trouble", ["splat", "status", "release"])
def test_a_patch_that_is_not_well_stops_with_1(
    trouble: str, guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    what = {
        "splat": "WARNING: mm/filemap.c:1",
        "status": "ext4 exited with status 1: no space",
        "release": "uname -r says '6.12.9', not '6.12.9-stock-",
    }[trouble]
    if trouble == "splat":
        guests.splats = lambda _name: [WARNING]
    elif trouble == "status":
        guests.status = lambda command: int("mkfs.ext4" in command)
    else:
        guests.release = "6.12.9"
    assert cli.main(["build", "stock", "--each-patch", "--series", "ours"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{ONE}: built in ") and out.endswith(", NOT well\n")
    assert f"harness: {ONE}: {what}" in err
    assert "  try: harness build stock --each-patch --series ours\n" in err
    assert ("Call Trace:" in err) == (trouble == "splat")
    assert guests.booted == [ONE]


def test_a_patch_that_does_not_boot_is_named_with_how_to_go_on(
    guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    def panic(name: str) -> None:
        if name == TWO:
            raise BootError(f"{name}: Kernel panic", hint="less console.log", detail="the tail")

    guests.on_boot = panic
    assert cli.main(["build", "stock", "--each-patch"]) == 125
    err = capsys.readouterr().err.splitlines()
    at = err.index(f"harness: {TWO}: Kernel panic")
    assert err[at + 1 : at + 3] == ["  try: less console.log", "the tail"]
    assert err[-1] == "when that is put right: harness build stock --each-patch --from 2"


INT3 = b"[    1.0] Oops: int3: 0000 [#1]\n"


@pytest.mark.parametrize("lost", [False, True])
def test_where_the_emulator_failed_the_patch_is_booted_again(
    lost: bool, guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    def boot(_name: str) -> None:
        first = not guests.booted
        guests.console = INT3 if first else b""
        guests.splats = lambda _name: [WARNING] if first else []
        guests.lost = lost and first

    guests.on_boot = boot
    assert cli.main(["build", "stock", "--each-patch"]) == 0
    out, err = capsys.readouterr()
    assert guests.booted == [ONE, ONE, TWO]
    assert out.count(", booted in ") == 2 and "NOT well" not in out
    assert f"{ONE}: booting again, the emulator failed: Oops: int3" in err


@pytest.mark.parametrize("lost", [False, True])
def test_an_emulator_that_fails_every_time_is_not_the_patchs_fault(
    lost: bool, guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    guests.console, guests.lost = INT3, lost
    guests.splats = lambda _name: [WARNING]
    assert cli.main(["build", "stock", "--each-patch"]) == InfraError.exit_code
    assert guests.booted == [ONE] * BOOT_ATTEMPTS
    assert "QEMU ran code that had been patched away" in capsys.readouterr().err


def test_a_machine_that_is_lost_otherwise_is_not_booted_again(
    guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    guests.lost = True
    assert cli.main(["build", "stock", "--each-patch"]) == MachineLostError.exit_code
    assert guests.booted == [ONE]
    err = capsys.readouterr().err
    assert "the machine is gone" in err and "everything about this boot: " in err


def test_ctrl_c_says_how_to_go_on(guests: Guests, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(name: str) -> None:
        if name == TWO:
            raise KeyboardInterrupt

    guests.on_boot = interrupt
    assert cli.main(["build", "stock", "--each-patch"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "interrupted; what is compiled is kept;"
        " go on with: harness build stock --each-patch --from 2"
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--each-patch"], "--each-patch takes one kernel"),
        (["stock", "control", "--each-patch"], "--each-patch takes one kernel"),
        (["stock", "--series", "ours"], "--series goes with --each-patch"),
        (["stock", "--from", "2"], "--from goes with --each-patch"),
        (["stock", "--no-boot"], "--no-boot goes with --each-patch"),
        (["stok", "--each-patch"], "no kernel 'stok'"),
        (["stock", "--each-patch", "--from", "0"], "argument --from: must be a whole number"),
        (["stock", "--each-patch", "--from", "3"], "no patch 3: kernel 'stock' has 2 to build"),
        (["stock", "--each-patch", "--series", "hours"], "did you mean 'ours'?"),
    ],
)
def test_a_wrong_command_line(
    argv: list[str], said: str, guests: Guests, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["build", *argv]) == 2
    assert said in capsys.readouterr().err
    assert guests.booted == []
