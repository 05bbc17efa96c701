# SPDX-License-Identifier: GPL-2.0
"""A fake QEMU first in PATH, and machines that boot on it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.events import Event
from harness.guest.machine import Machine, MachineSpec
from harness.guest.qemu import Accelerator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts the fake in PATH; call it with a scenario of tests/fakes/qemu.py."""
    bin_, place = tmp_path / "bin", tmp_path / "fake"
    bin_.mkdir()
    place.mkdir()
    program = bin_ / "qemu-system-x86_64"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.fakes.qemu "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("FAKE_QEMU_DIR", str(place))

    def scenario(name: str) -> None:
        monkeypatch.setenv("FAKE_QEMU", name)

    return scenario


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all machines of a test session: the base archive is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def events() -> list[Event]:
    """What the machines of a test have told their listener."""
    return []


@pytest.fixture
def machine(
    tmp_path: Path, cache: Path, fake_qemu: Callable[[str], None], events: list[Event]
) -> Callable[..., Machine]:
    """machine("panic,stubborn", cpus=4): a machine on the fake, not yet entered."""
    image = tmp_path / "bzImage"
    image.write_bytes(b"kernel")
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho from the workload\nexit 7\n")
    spec = MachineSpec(
        bzimage=image,
        cpus=2,
        memory_mib=64,
        accelerator=Accelerator("tcg", 1.0, "a test"),
        disk_mib=4,
        programs={"races/one": program},
        boot_timeout_s=20.0,
    )

    def make(scenario: str = "boots", **changes: Any) -> Machine:
        fake_qemu(scenario)
        return Machine(
            replace(spec, **changes), tmp_path / "cell", ROOT, cache, events.append, "one"
        )

    return make
