# SPDX-License-Identifier: GPL-2.0
"""`harness replay` and `harness explore` from the command line, on boots that are made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness import cli
from harness.errors import InfraError
from harness.experiment.cell import Attempt
from harness.guest.replay import Recording
from harness.kernel import build, image
from harness.places import COORDINATES
from harness.replay import replaying, stand
from harness.replay.coordinate import Coordinate, line_marks, write
from harness.replay.stand import Shot
from tests.conftest import Project

CONSOLE = "one\ntwo\nthree\n"
GOOD = Recording(CONSOLE, "e" * 64, 2.0, "c" * 64, "qemu -icount shift=5")


class Stand:
    """What the verbs need of replay.stand.Stand."""

    recordings: Iterator[Recording | None]
    qemu, initramfs_now, line_now = "QEMU 7.2", "c" * 64, "qemu"

    def __init__(self, cfg: Any, image: Any, *_rest: Any) -> None:
        self.cfg, self.image = cfg, image

    def initramfs(self, _one: Any) -> str:
        return self.initramfs_now

    def machine_line(self, _one: Any, shift: int) -> str:
        return f"{self.line_now} -icount shift={shift}"

    def shoot(self, _one: Any, _shift: int, _directory: Path) -> Shot:
        recording = next(self.recordings)
        error = None if recording is not None else InfraError("QEMU is missing")
        return Shot(Attempt(error=error), recording)


@pytest.fixture
def stored(
    project: Project, coordinate: Coordinate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Coordinate:
    """A coordinate in workloads/coordinates of a project that is here, whose boots are GOOD."""
    project.write(project.path.read_text() + project.toml[project.toml.index("[plan.quick]") :]
                  .replace("plan.quick", "plan.default"))  # fmt: skip
    made = msgspec.structs.replace(
        coordinate, trace=GOOD.trace, memory=GOOD.memory, machine=GOOD.machine,
        lines=line_marks(CONSOLE), qemu=Stand.qemu, initramfs=GOOD.initramfs,
    )  # fmt: skip
    write(made, project.root / COORDINATES / "one.toml")

    class Resolved:
        identity = made.kernel_id

    class Kernel:
        kernel, id, bzimage = "control", made.kernel_id, tmp_path / "bzImage"

    monkeypatch.chdir(project.root)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image, "load", lambda _images, _id: None)
    monkeypatch.setattr(build, "ensure", lambda *_: Kernel())
    monkeypatch.setattr(build, "resolve", lambda *_: Resolved)
    for module in (replaying, stand):
        monkeypatch.setattr(module, "bzimage_digest", lambda _image: made.bzimage)
    monkeypatch.setattr(stand, "Stand", Stand)
    return made


def replay(recordings: list[Recording | None], *words: str) -> int:
    Stand.recordings = iter(recordings)
    return cli.main(["replay", *words])


def test_the_same_every_time_is_0(stored: Coordinate, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay([GOOD] * 3, "one", "--times", "3") == 0
    assert "one: 3 of 3 identical, trace" in capsys.readouterr().out


def test_one_that_differs_is_1_and_its_line_is_named(
    stored: Coordinate, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Recording("one\n2\nthree\n", GOOD.memory, 2.0, GOOD.initramfs, GOOD.machine)
    assert replay([GOOD, other], "one", "--times", "2") == 1
    said = capsys.readouterr().out
    assert "1 of 2 identical" in said and "line 2 now says: 2" in said


def test_memory_alone_is_enough_to_differ(
    stored: Coordinate, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Recording(CONSOLE, "f" * 64, 2.0, GOOD.initramfs, GOOD.machine)
    assert replay([other], "one") == 1
    assert "its console is the same, the guest's memory is not" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("line_now", "qemu -m 2G", "recorded with another guest: qemu -icount"),
        ("qemu", "QEMU 9.0", "recorded with another QEMU: QEMU 7.2, here it is QEMU 9.0"),
        ("initramfs_now", "0" * 64, "recorded with another initramfs (tools or programs): ccccc"),
    ],
)
def test_what_cannot_be_the_same_is_125_and_says_how_to_go_on(
    attribute: str, value: str, words: str, stored: Coordinate, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(Stand, attribute, value)
    assert replay([], "one") == 125
    said = capsys.readouterr().err
    assert words in said and "try: harness explore --again" in said


def test_another_kernel_is_not_built(
    stored: Coordinate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Other:
        identity = "ba9876543210"

    monkeypatch.setattr(build, "resolve", lambda *_: Other)
    monkeypatch.setattr(build, "ensure", lambda *_: pytest.fail("it was built"))
    assert replay([], "one") == 125
    said = capsys.readouterr().err
    assert "recorded with another kernel: 0123456789ab, here it is ba9876543210" in said


def test_a_host_at_fault_is_125(stored: Coordinate, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay([None], "one") == 125
    assert "QEMU is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay", "oen"], "no coordinate 'oen' (did you mean 'one'?)"),
        (["replay", "one", "--before", "3"], "--before goes with --gdb"),
        (["replay", "one", "one", "--gdb"], "--gdb takes one coordinate"),
        (["explore", "--seeds", "4..1"], "must be A..B"),
        (["explore", "--shifts", "0..11"], "must be A..B"),
        (["explore", "--again", "one", "-w", "punch"], "--again has all of that from the file"),
        (["explore", "--update"], "--update goes with --again"),
        (["explore", "--windows", "--unarmed"], "not allowed with argument"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, stored: Coordinate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err


def test_a_race_that_is_gone_is_named(
    stored: Coordinate, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = msgspec.structs.replace(stored, workload="pinch")
    write(gone, Path("gone.toml"))
    assert cli.main(["replay", "gone.toml"]) == 2
    assert "gone.toml: no workload 'pinch' in harness.toml" in capsys.readouterr().err
