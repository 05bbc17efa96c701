# SPDX-License-Identifier: GPL-2.0
"""Coordinates, and replay machines on a fake QEMU."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.guest import initramfs, qemu
from harness.guest.replay import ReplayMachine
from harness.guest.spec import MachineSpec, Told
from harness.replay.coordinate import Coordinate
from harness.words import Window

ROOT = Path(__file__).parents[2]
COMMANDS = ("mkfs /dev/nullb0", "races/one --trials 3")


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts the fake in PATH; call it with what tests/fakes/replay_qemu.py is to do."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    program = bin_ / qemu.PROGRAM
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.fakes.replay_qemu "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def scenario(**told: Any) -> None:
        monkeypatch.setenv("FAKE_REPLAY", json.dumps(told))

    scenario()
    return scenario


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """An initramfs without this host's megabytes."""
    monkeypatch.setattr(initramfs, "_plain_entries", lambda _tools: {})


@pytest.fixture
def machine(
    tmp_path: Path, fake_qemu: Callable[..., None], no_tools: None
) -> Callable[..., ReplayMachine]:
    """machine(): one on the fake, not yet entered; its boots may take a second."""
    image = tmp_path / "bzImage"
    image.write_bytes(b"kernel")
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")

    def make(name: str = "cell", commands: tuple[str, ...] = COMMANDS) -> ReplayMachine:
        spec = MachineSpec(
            bzimage=image, cpus=2, memory_mib=64, disk_mib=4, boot_timeout_s=1.0,
            accelerator=qemu.Accelerator("icount", 1.0, "a test"), programs={"races/one": program},
            told=Told(commands, 5, 1.0),
        )  # fmt: skip
        return ReplayMachine(spec, tmp_path / name, tmp_path / "cache", name=name)

    return make


@pytest.fixture
def coordinate() -> Coordinate:
    """One that is whole."""
    return Coordinate(
        kernel="control", kernel_id="0123456789ab", bzimage="b" * 64, initramfs="c" * 64,
        qemu="QEMU emulator version 7.2.22 (fake)", machine="qemu-system-x86_64 -icount shift=5",
        filesystem="ext4", workload="punch", switch="fault+mkwrite",
        windows=[Window(name="ext4_punch", delay_us=20000, partner="filemap_filled")],
        seed=1, shift=5, trials=2, trial=2, signature='"old" data in N pages', order="a+ b+ a- b-",
        trace="d" * 64, memory="e" * 64, lines="", found="harness explore", date="2026-11-30",
    )  # fmt: skip
