# SPDX-License-Identifier: GPL-2.0
"""A replay machine on a fake QEMU: what it was told, what it answers, how it can end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import BootError, InfraError, MachineLostError, WorkloadTimeoutError
from harness.guest import orders
from harness.guest.process import Process
from harness.guest.replay import ReplayMachine
from harness.guest.script import script, stopped_at

Make = Callable[..., ReplayMachine]


def test_it_answers_what_it_was_told(machine: Make, fake_qemu: Callable[..., None]) -> None:
    fake_qemu(answers={"races/one": [1, "1..1\nnot ok 1 trial-1"], "mkfs": [0, ""]})
    lines: list[str] = []
    with machine() as running:
        assert running.run("mkfs /dev/nullb0").status == 0
        done = running.run("races/one --trials 3", 60, lines.append)
    assert (done.status, done.stdout) == (1, "1..1\nnot ok 1 trial-1\n")
    assert lines == ["1..1", "not ok 1 trial-1"]
    with pytest.raises(MachineLostError, match="was not told of it at its start"):
        running.run("something else")


def test_a_script_is_the_commands_it_was_told(
    machine: Make, fake_qemu: Callable[..., None]
) -> None:
    fake_qemu(answers={"races/one": [1, "1..1\n"], "mkfs": [0, "made\n"]})
    told = ["mkfs /dev/nullb0", "races/one --trials 3"]
    with machine() as running:
        done = running.run(script(told))
        assert (done.status, done.stdout) == (1, "made\n1..1\n")
        assert stopped_at(told, done).argv == told[1]
        with pytest.raises(MachineLostError, match=r"`something else`: .* not told of it"):
            running.run(script([told[0], "something else"]))


def test_two_boots_are_the_same_and_another_command_is_not(machine: Make) -> None:
    recordings = []
    for name, commands in (("one", ("true 1",)), ("two", ("true 1",)), ("three", ("true 2",))):
        with machine(name, commands) as running:
            assert running.recording is not None
            recordings.append(running.recording)
    one, two, three = recordings
    assert (one.trace, one.memory, one.machine) == (two.trace, two.memory, two.machine)
    assert one.memory != three.memory  # the fake's memory is its script
    assert one.machine == three.machine and "shift=5" in one.machine
    assert "/" not in one.machine.split(" -append")[0].replace("/proc", "/")


def test_the_initramfs_is_known_before_the_boot(machine: Make) -> None:
    running = machine()
    with running:
        assert running.recording is not None
    told = running.spec.told
    assert running.recording.initramfs == orders.digest(running.spec, running._cache)
    assert told is not None
    other = replace(running.spec, told=replace(told, commands=("mkfs /dev/nullb0",)))
    assert orders.digest(other, running._cache) != running.recording.initramfs


def test_nothing_is_left_but_what_a_person_may_want(machine: Make) -> None:
    with machine() as running:
        pass
    text = (running.directory / "qemu-cmd").read_text()
    assert "told.cpio >initramfs.cpio" in text and "memfd" not in text and "/proc/" not in text
    left = {path.name for path in running.directory.iterdir()}
    assert left == {"console.log", "qemu-cmd", "qemu-stderr", "told.cpio"}


@pytest.mark.parametrize(
    ("ends", "error", "words"),
    [
        ("panic", BootError, "panic at boot: .*fake panic"),
        ("silent", BootError, "did not reach user space in time"),
        ("exits", InfraError, "QEMU ended with exit status 1: fake qemu: cannot do that"),
    ],
)
def test_a_boot_that_fails_is_told_from_a_qemu_that_fails(
    ends: str, error: type[Exception], words: str, machine: Make, fake_qemu: Callable[..., None]
) -> None:
    fake_qemu(ends=ends)
    with pytest.raises(error, match=words):
        machine().__enter__()


@pytest.mark.parametrize(
    ("ends", "error", "words"),
    [
        ("dies", MachineLostError, "the kernel panicked: .*fake panic"),
        ("hangs", WorkloadTimeoutError, "not done in time"),
    ],
)
def test_a_machine_that_dies_under_its_work_is_lost(
    ends: str, error: type[Exception], words: str, machine: Make, fake_qemu: Callable[..., None]
) -> None:
    fake_qemu(ends=ends)
    with machine() as running, pytest.raises(error, match=words):
        running.run("races/one --trials 3")


def test_a_kernel_without_null_blk_is_named(machine: Make, fake_qemu: Callable[..., None]) -> None:
    fake_qemu(answers={"mkdir": [1, ""]})
    with pytest.raises(InfraError, match="no disk in memory"):
        machine().__enter__()


def test_memory_is_hashed_with_its_places() -> None:
    """Equal pages at other addresses are another memory; zeroes nobody touched are none."""
    import os

    from harness.guest.replay import _memory_digest

    digests = []
    for at in (0, 1 << 20):
        memory = os.memfd_create("test")
        os.ftruncate(memory, 4 << 20)
        os.pwrite(memory, b"x", at)
        digests.append(_memory_digest(memory))
        os.pwrite(memory, bytes(1 << 16), 2 << 20)  # touched, still zero
        assert _memory_digest(memory) == digests[-1]
        os.close(memory)
    assert digests[0] != digests[1]
    assert hashlib.sha256().hexdigest() not in digests


def test_half_a_report_is_none() -> None:
    assert orders.answers("harness: answer 0 status 0\n> text\n", ["true"]) == {}
    whole = f"harness: answer 0 status 0\n> > text\n! bad\n[ 1.0] {orders.DONE}\n"
    done = orders.answers(whole, ["true"])["true"]
    assert (done.status, done.stdout, done.stderr) == (0, "> text\n", "bad\n")


def test_ctrl_c_leaves_no_qemu(
    machine: Make, fake_qemu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu(ends="hangs")
    pids: list[int] = []

    def interrupted(self: Process, _timeout_s: float | None) -> int:
        pids.append(self.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(Process, "wait", interrupted)
    running = machine()
    with pytest.raises(KeyboardInterrupt):
        running.__enter__()
    assert not Path(f"/proc/{pids[0]}").exists()  # ended, and reaped
    assert not (running.directory / "initramfs.cpio").exists()


def test_it_can_be_ended_from_another_thread(
    machine: Make, fake_qemu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run does on Ctrl-C with several guests."""
    fake_qemu(ends="hangs")
    running = machine()
    whole = Process.wait

    def wait(self: Process, timeout_s: float | None) -> int:
        running.kill()
        return whole(self, timeout_s)

    monkeypatch.setattr(Process, "wait", wait)
    with pytest.raises((InfraError, MachineLostError)), running:
        running.run("races/one --trials 3")
