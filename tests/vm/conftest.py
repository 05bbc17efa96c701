# SPDX-License-Identifier: GPL-2.0
"""Real kernels for the vm tests: those of the plan `quick`, built once, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from harness.config import Config, load
from harness.events import Event
from harness.experiment.preflight import MOUNT_POINT
from harness.guest.machine import Machine, MachineSpec
from harness.guest.programs import compile_workloads
from harness.guest.qemu import probe_accelerator
from harness.kernel.build import ensure
from harness.kernel.image import Image
from harness.places import cache_dir

ROOT = Path(__file__).parents[2]
# A kernel from nothing, on a slow machine, besides what the test itself does.
BUILD_LIMIT_S = 45 * 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here boots a kernel; the first test of all may have to build it."""
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.timeout(BUILD_LIMIT_S))


def _say(event: Event) -> None:
    """Shown by pytest when a fixture fails; a CI's log shows where the minutes went."""
    if event.done is None:
        print(f"{event.kind} {event.subject}: {event.message}", flush=True)


@dataclass(frozen=True)
class Lab:
    """What a test needs to boot a machine by hand."""

    cfg: Config
    cache: Path
    programs: Mapping[str, Path]

    @classmethod
    def here(cls) -> Self:
        """That of this checkout, with its workloads compiled."""
        cfg, cache = load(ROOT / "harness.toml"), cache_dir()
        return cls(cfg, cache, compile_workloads(cfg.root, cache, _say))

    def image(self, kernel: str) -> Image:
        return ensure(kernel, self.cfg, self.cache, _say)

    def machine(
        self, kernel: str, directory: Path, *cmdline: str, boot_timeout_s: float = 30.0
    ) -> Machine:
        guest = self.cfg.guest[self.cfg.plan["quick"].guest]
        spec = MachineSpec(
            bzimage=self.image(kernel).bzimage,
            cpus=guest.cpus,
            memory_mib=guest.memory_mib,
            accelerator=probe_accelerator(guest.accel),
            disk_mib=guest.disk_mib,
            programs=self.programs,
            cmdline=cmdline,
            boot_timeout_s=boot_timeout_s,
        )
        return Machine(spec, directory, self.cfg.root, self.cache, name=kernel)

    def mount(self, machine: Machine, filesystem: str) -> None:
        """A fresh file system of harness.toml, mounted where the cells have it."""
        fs = self.cfg.filesystem[filesystem]
        options = ",".join(fs.mount) or "defaults"
        machine.run(f"umount {MOUNT_POINT}")  # fails when nothing is mounted yet
        for command in (
            f"mkdir -p {MOUNT_POINT}",
            f"{' '.join(fs.mkfs)} /dev/vda",
            f"mount -t {fs.type} -o {options} /dev/vda {MOUNT_POINT}",
        ):
            done = machine.run(command)
            assert done.status == 0, f"{command}: {done.stderr}"


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab.here()


@pytest.fixture(scope="module")
def control(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A control machine that the module's tests share; none may damage it."""
    with lab.machine("control", tmp_path_factory.mktemp("control")) as machine:
        yield machine


@pytest.fixture(scope="module")
def stock(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """As above, of the kernel that must hold."""
    with lab.machine("stock", tmp_path_factory.mktemp("stock")) as machine:
        yield machine


@pytest.fixture(scope="module")
def candidate(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """As above, of the kernel with the range lock."""
    with lab.machine("candidate", tmp_path_factory.mktemp("candidate")) as machine:
        yield machine


def harness(
    *args: str,
    cwd: Path,
    config: Path = ROOT / "harness.toml",
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """The program, as a user starts it, in a session of its own; `environment` is added."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "--config", str(config), *args],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
    )


def qemus(directory: Path) -> list[int]:
    """Process ids of QEMUs whose command line or working files are under `directory`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"qemu-system" in words[0] and any(bytes(directory) in word for word in words):
            found.append(int(path.parent.name))
    return found
