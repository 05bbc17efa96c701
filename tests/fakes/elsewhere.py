# SPDX-License-Identifier: GPL-2.0
"""Fake machines that can be sent to where parcels are run, and an executor that runs them."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from harness.config import Config
from harness.errors import MachineLostError
from harness.events import Event, Listener
from harness.experiment.artefacts import Artefact, Shelf
from harness.experiment.post import Carrier
from harness.experiment.runner import Rooms
from harness.guest.machine import Completed, MachineSpec
from harness.guest.qemu import Accelerator
from harness.guest.ssh import Hearing
from harness.kernel.build import Image
from tests.fakes.fake_machine import FakeMachine, Lab, Script


def probe(_asked: str) -> Accelerator:
    """As the Lab's."""
    return Accelerator(name="tcg", slowdown=10.0, reason="no vmx in /proc/cpuinfo")


@dataclass(frozen=True)
class Machines:
    """Makes the machines of a run, in whatever process; `captive` names the cell of a Captive."""

    scripts: Mapping[str, Script] = field(default_factory=dict)
    captive: str = ""
    pipes: Path = Path()  # of the Captive

    def __call__(
        self,
        spec: MachineSpec,
        directory: Path,
        _root: Path,
        _cache: Path,
        listen: Listener,
        name: str,
    ) -> FakeMachine:
        lab = Lab(**self.scripts)
        assert spec.bzimage.read_text().startswith("kernel ")
        assert [path.read_text() for path in spec.archives] == ["base", "workloads"]
        listen(Event("boot", name, f"booting {spec.bzimage.name} in {directory}"))
        (directory / "disk0.img").write_text("disk\n")
        (directory / "qemu-cmd").write_text(f"qemu -kernel {spec.bzimage} {directory}/disk0.img\n")
        if name == self.captive:
            return Captive(lab, lab.script(name), spec, directory, name, self.pipes)
        return FakeMachine(lab, lab.script(name), spec, directory, name)


class Captive(FakeMachine):
    """A machine whose reproducer says in the pipe "began" who runs it, and then never ends.

    When it is killed it says so in the pipe "killed".
    """

    def __init__(
        self, lab: Lab, script: Script, spec: MachineSpec, directory: Path, name: str, pipes: Path
    ) -> None:
        super().__init__(lab, script, spec, directory, name)
        self.pipes, self.over, self.lock = pipes, threading.Event(), threading.Lock()

    def _reproducer(
        self, _command: str, _argv: list[str], _on_line: Hearing | None
    ) -> Completed:
        (self.pipes / "began").write_text(f"{os.getpid()}\n")
        self.over.wait()
        raise MachineLostError("it was killed")

    def kill(self) -> None:
        with self.lock:
            if not self.over.is_set():
                self.over.set()
                (self.pipes / "killed").write_text("killed\n")


class Pool(Carrier):
    """Any executor of this host, with a cache of its own."""

    kind = "pool"
    address = "here"

    def __init__(self, executor: Executor, cache: Path) -> None:
        super().__init__(executor, cache)
        self.cache = cache
        self.supplied: list[str] = []
        self.closed = False

    def supply(self, worker: str, artefact: Artefact, content: bytes) -> None:
        self.supplied.append(artefact.name)
        Shelf(self.cache).put(artefact, content)

    def close(self) -> None:
        self.closed = True
        super().close()


def rooms(machines: Machines, carrier: Callable[..., Carrier] | None = None) -> Rooms:
    """A Lab's doors, with kernels and archives that are files and machines that can be sent."""
    local = Lab().rooms()

    def ensure(name: str, cfg: Config, cache: Path, listen: Listener) -> Image:
        image = local.ensure(name, cfg, cache, listen)
        image.bzimage.parent.mkdir(parents=True, exist_ok=True)
        image.bzimage.write_text(f"kernel {name}")
        return image

    def archives(_programs: Mapping[str, Path], cache: Path, _root: Path) -> list[Path]:
        cache.mkdir(parents=True, exist_ok=True)
        for name in ("base", "workloads"):
            (cache / name).write_text(name)
        return [cache / "base", cache / "workloads"]

    doors = dataclasses.replace(
        local, ensure=ensure, archives=archives, machine=machines, probe_accelerator=probe
    )
    return doors if carrier is None else dataclasses.replace(doors, carrier=carrier)
