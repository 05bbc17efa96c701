# SPDX-License-Identifier: GPL-2.0
"""A kernel ready to be run again and again: one cell, one boot, from its start to its end."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.config import Config
from harness.events import Listener, silent
from harness.experiment import allow, cell, facts
from harness.experiment.cell import Attempt
from harness.experiment.plan import Cell
from harness.experiment.preflight import Job
from harness.experiment.told import told
from harness.experiment.trial import Trial
from harness.guest import orders, qemu, replay, symbols
from harness.guest.programs import compile_workloads
from harness.guest.replay import Recording, ReplayMachine
from harness.guest.spec import MachineSpec
from harness.kernel.image import Image
from harness.replay.coordinate import Coordinate, line_marks, order, signature

# Of every reproducer here: it says what it came to and when.
WORDS = ("--clock",)


@dataclass(frozen=True)
class Shot:
    """What came of one boot."""

    attempt: Attempt
    recording: Recording | None  # None: it did not come to its end

    @property
    def fired(self) -> Trial | None:
        """The trial that was exposed, or that the kernel died of."""
        for trial in self.attempt.trials:
            if trial.outcome in ("exposed", "crashed"):
                return trial
        return None

    @property
    def signature(self) -> str:
        """What it is known by; "" when nothing fired."""
        if self.attempt.splats:
            return signature(self.attempt.splats[0].title)
        return signature(self.fired.why) if self.fired is not None else ""

    @property
    def order(self) -> str:
        """Of the racers' steps in the trial that fired."""
        events = self.fired.data.get("events", "") if self.fired is not None else ""
        return order(str(events))

    @property
    def trouble(self) -> str:
        """Why nothing was tested; "" when it was."""
        if self.attempt.error is not None and self.fired is None:
            return self.attempt.error.message
        return self.attempt.untested or "; ".join(self.attempt.faults)


Machines = Callable[..., ReplayMachine]


class Stand:
    """An image, its programs and a guest; shoot() boots one cell on them."""

    def __init__(
        self,
        cfg: Config,
        image: Image,
        cache: Path,
        guest: str,
        listen: Listener = silent,
        machines: Machines = ReplayMachine,
    ) -> None:
        """Compiles the workloads. BuildError, InfraError: they do not, or QEMU is missing."""
        self.cfg, self.image, self.cache, self.listen = cfg, image, cache, listen
        self.guest = cfg.guest[guest]
        self.programs = compile_workloads(cfg.root, cache, listen)
        self.qemu = facts.qemu()
        self._machines = machines

    def job(self, one: Cell) -> Job:
        """The cell with all that running it takes; it ends with the first exposure."""
        entry = self.cfg.workload[one.workload]
        return Job(
            cell=one,
            filesystem=self.cfg.filesystem[one.filesystem],
            workload=msgspec.structs.replace(entry, args=[*entry.args, *WORDS, "--first"]),
            cpus=self.guest.cpus,
            release=self.image.release,
            timeout_s=entry.timeout_s,
            allow=allow.rules(self.cfg, one.kernel),
            symbols=symbols.beside(self.image.bzimage),
            enough=lambda trial: trial.outcome == "exposed",
            device=orders.DEVICE,
        )

    def spec(self, one: Cell, shift: int, gdb: Path | None = None) -> MachineSpec:
        """The machine, with the cell's own program in it and no other, and what it is told."""
        spec = MachineSpec.of(self.guest, self.image.bzimage, qemu.COUNTED, self.programs)
        return dataclasses.replace(told(self.job(one), spec, shift), gdb=gdb)

    def initramfs(self, one: Cell) -> str:
        """sha256 of what the cell's guest boots from."""
        return orders.digest(self.spec(one, 0), self.cache)

    def machine_line(self, one: Cell, shift: int) -> str:
        """QEMU's command line for the cell, without paths."""
        place = Path()
        return replay.machine_line(
            replay.command(self.spec(one, shift), place, shift, place, str(place))
        )

    def machine(
        self, one: Cell, shift: int, directory: Path, gdb: Path | None = None
    ) -> ReplayMachine:
        """The cell's machine, not started; with a socket that gdb will come to, it waits there."""
        return self._machines(self.spec(one, shift, gdb), directory, self.cache, silent, one.name)

    def run(self, one: Cell, machine: ReplayMachine, directory: Path) -> Shot:
        """Boots machine(), and says what came of it. Its files are left in `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        return Shot(cell.run(self.job(one), machine, directory, silent), machine.recording)

    def shoot(self, one: Cell, shift: int, directory: Path) -> Shot:
        """machine() and run()."""
        return self.run(one, self.machine(one, shift, directory), directory)

    def coordinate(self, one: Cell, shift: int, shot: Shot, found: str, date: str) -> Coordinate:
        """Of a shot that fired."""
        fired, recording = shot.fired, shot.recording
        assert fired is not None and recording is not None
        return Coordinate(
            kernel=self.image.kernel,
            kernel_id=self.image.id,
            bzimage=bzimage_digest(self.image),
            initramfs=recording.initramfs,
            qemu=self.qemu,
            machine=recording.machine,
            filesystem=one.filesystem,
            workload=one.workload,
            switch=one.switch,
            windows=list(one.windows),
            seed=one.seed,
            shift=shift,
            trials=one.trials,
            trial=fired.number,
            signature=shot.signature,
            order=shot.order,
            trace=recording.trace,
            memory=recording.memory,
            lines=line_marks(recording.console),
            found=found,
            date=date,
        )


def bzimage_digest(image: Image) -> str:
    """sha256 of the kernel as it is booted."""
    return hashlib.sha256(image.bzimage.read_bytes()).hexdigest()


def cell_of(cfg: Config, coordinate: Coordinate) -> Cell:
    """The one cell of a coordinate; its names are in harness.toml (see replaying.check())."""
    kernel, workload = cfg.kernel[coordinate.kernel], cfg.workload[coordinate.workload]
    return Cell(
        kernel=coordinate.kernel,
        role=kernel.role,
        filesystem=coordinate.filesystem,
        workload=coordinate.workload,
        switch=coordinate.switch,
        windows=tuple(coordinate.windows),
        trials=coordinate.trials,
        seed=coordinate.seed,
        kind=workload.kind,
        fires_on=tuple(workload.fires_on),
        armed=any(window.delay_us for window in coordinate.windows),
        tree=kernel.tree,
        unaided=kernel.unaided,
    )
