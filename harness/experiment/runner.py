# SPDX-License-Identifier: GPL-2.0
"""Runs a plan: kernels, workloads, then cell after cell, control kernels first."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import Config
from harness.config import Plan as PlanEntry
from harness.errors import EXIT_INTERRUPTED, HarnessError, InfraError
from harness.events import Event, Listener, silent
from harness.experiment import cell as cells_room
from harness.experiment import facts, store, verdict
from harness.experiment import plan as plans
from harness.experiment.plan import Cell
from harness.experiment.preflight import Guest, Job
from harness.experiment.statistics import trials_needed
from harness.guest import programs, qemu
from harness.guest.machine import Machine, MachineSpec
from harness.guest.qemu import Accelerator
from harness.kernel import build
from harness.kernel.build import Image

# A kernel that failed to boot this often, and never did, is not tried again:
# each further try costs a whole boot timeout and says nothing new.
BOOT_FAILURES = 2
# Workload.timeout_s is for up to so many trials; more of them have more time.
TIMEOUT_TRIALS = 400


def _machine(
    spec: MachineSpec, directory: Path, root: Path, cache: Path, listen: Listener, name: str
) -> Guest:
    machine = Machine(spec, directory, root, cache, listen=listen, name=name)
    # Whether the scratch disk is worth keeping is known only after the verdict.
    machine.keep_disk = True
    return machine


@dataclass(frozen=True)
class Rooms:
    """The other rooms' doors, replaceable by fakes."""

    ensure: Callable[[str, Config, Path, Listener], Image] = build.ensure
    compile_workloads: Callable[[Path, Path, Listener], dict[str, Path]] = (
        programs.compile_workloads
    )
    probe_accelerator: Callable[[str], Accelerator] = qemu.probe_accelerator
    machine: Callable[[MachineSpec, Path, Path, Path, Listener, str], Guest] = _machine


def run_plan(
    cfg: Config,
    plan_name: str,
    cache: Path,
    results_root: Path,
    listen: Listener = silent,
    *,
    kernels: Sequence[str] = (),
    filesystems: Sequence[str] = (),
    workloads: Sequence[str] = (),
    trials: int | None = None,
    seed: int | None = None,
    rooms: Rooms | None = None,
) -> tuple[store.Run, int]:
    """Runs plan `plan_name` and returns what was stored and the exit code.

    0: every verdict is what its kernel's role expects; 1: at least one is not;
    125: the only trouble is cells that could not be tested; 130: interrupted by
    Ctrl-C, with every finished cell kept.  The filters, `trials` and `seed` are
    those of plan.cells().  Raises UsageError before anything is written;
    BuildError and InfraError afterwards, with run.json saying "failed" and every
    finished cell kept.
    """
    cells = plans.cells(cfg, plan_name, kernels, filesystems, workloads, trials, seed)
    run = store.Run(results_root, plan_name)
    runner = _Runner(cfg, cfg.plan[plan_name], cells, cache, run, listen, rooms or Rooms())
    run.document.update(
        seed=cfg.plan[plan_name].seed if seed is None else seed,
        filters={
            "kernels": list(kernels),
            "filesystems": list(filesystems),
            "workloads": list(workloads),
            "trials": trials,
        },
        host=facts.host(),
    )
    try:
        code = runner.run()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
        runner.stop("interrupted", code, "interrupted by the user")
    except Exception as error:
        code = error.exit_code if isinstance(error, HarnessError) else 125
        # The disk may be full: an older run.json is whole, and says "running".
        with contextlib.suppress(InfraError):
            runner.stop("failed", code, str(error))
        raise
    finally:
        with contextlib.suppress(InfraError):
            run.close()
    return run, code


class _Runner:
    """One run_plan() call; exists to keep what the cells share out of argument lists."""

    def __init__(
        self,
        cfg: Config,
        plan: PlanEntry,
        cells: Sequence[Cell],
        cache: Path,
        run: store.Run,
        listen: Listener,
        rooms: Rooms,
    ) -> None:
        self.cfg, self.plan, self.cells = cfg, plan, cells
        self.cache, self.store, self.rooms = cache, run, rooms
        self.guest = cfg.guest[plan.guest]
        self.images: dict[str, Image] = {}
        self.programs: Mapping[str, Path] = {}
        self.accelerator: Accelerator | None = None
        self.verdicts: list[verdict.Verdict] = []
        self.under_way: Cell | None = None
        self.fired: set[tuple[str, str]] = set()  # filesystem, workload
        self.booted: set[str] = set()
        self.boot_failures: Counter[str] = Counter()
        self.start = time.monotonic()
        self._listen = listen

    def listen(self, event: Event) -> None:
        """To run.log, then to the caller."""
        self.store.log(event)
        if event.kind == "trial" and "first_trial_s" not in self.store.document:
            self.store.document["first_trial_s"] = round(time.monotonic() - self.start, 1)
        self._listen(event)

    def run(self) -> int:
        """Everything, in order; returns the exit code."""
        document, stages = self.store.document, self.store.document.setdefault("stages", {})
        self.store.save()
        place = str(self.store.directory)
        self.listen(
            Event("run", self.store.id, f"results in {place}", data={"directory": place})
        )
        self._warn_of_few_trials()
        # The quick checks come first: nobody should wait for a kernel to be
        # built only to read that QEMU is missing.
        with _stage(stages, "accelerator"):
            accelerator = self.accelerator = self.rooms.probe_accelerator(self.guest.accel)
        document["accelerator"] = accelerator.name
        document["accelerator_reason"] = accelerator.reason
        document["slowdown"] = accelerator.slowdown
        self.listen(Event("note", "accelerator", f"{accelerator.name}: {accelerator.reason}"))
        with _stage(stages, "workloads"):
            self.programs = self.rooms.compile_workloads(self.cfg.root, self.cache, self.listen)
            self._check_programs()
        document["kernels"] = {}
        with _stage(stages, "build"):
            for kernel in dict.fromkeys(cell.kernel for cell in self.cells):
                image = self.rooms.ensure(kernel, self.cfg, self.cache, self.listen)
                self.images[kernel] = image
                document["kernels"][kernel] = facts.kernel(image, self.cfg)
                self.store.save()
        document["guest"] = facts.guest(self.plan.guest, self.guest)
        # Only a run that got as far as its first cell deserves to be the latest.
        self.store.save()
        self.store.point_latest()
        names = [cell.name for cell in self.cells]
        self.listen(
            Event(
                "run",
                self.store.id,
                f"{len(names)} cells on {accelerator.name}",
                done=0,
                total=len(names),
                data={"cells": names, "accelerator": accelerator.name},
            )
        )
        with _stage(stages, "cells"):
            for number, cell in enumerate(self.cells):
                self._cell(number, cell)
        code = verdict.exit_code(self.verdicts)
        document.update(status="finished", exit_code=code, not_run=[])
        self.store.save()
        self._announce_end("finished")
        return code

    def stop(self, status: str, code: int, why: str) -> None:
        """Writes down a run that ends early: what is finished stays, the rest is not run."""
        finished = {entry["name"] for entry in self.store.document["cells"]}
        names = [cell.name for cell in self.cells if cell.name not in finished]
        self.store.document.update(status=status, exit_code=code, error=why, not_run=names)
        self.store.save()
        if self.under_way is not None and self.under_way.name in names:
            name = self.under_way.name
            directory = self.store.cell_directory(name)
            store.write_json(directory / "cell.json", {"name": name, "status": "not run"})
            # Half a cell's scratch disk is of no use to anybody.
            _delete_disks(directory)
        self._announce_end(status)  # why is the last line the user sees, from cli

    def _announce_end(self, message: str) -> None:
        data = {"directory": str(self.store.directory), "document": self.store.document}
        self.listen(Event("run", self.store.id, message, data=data))

    def _cell(self, number: int, cell: Cell) -> None:
        self.under_way = cell
        began, load = time.monotonic(), facts.load()
        self.listen(
            Event("cell", cell.name, "starts", number, len(self.cells), data={"state": "boot"})
        )
        directory = self.store.cell_directory(cell.name)
        attempts = 1
        if self.boot_failures[cell.kernel] >= BOOT_FAILURES and cell.kernel not in self.booted:
            times = self.boot_failures[cell.kernel]
            attempt = cells_room.Attempt(
                untested=f"kernel {cell.kernel!r} did not boot in {times} earlier cells"
            )
        else:
            attempt = self._attempt(cell, directory)
            if attempt.never_ran:
                why = "; ".join(attempt.faults)
                self.listen(Event("note", cell.name, f"no trial ran, once more: {why}"))
                _set_aside(directory)
                attempts = 2
                attempt = self._attempt(cell, directory)
                if attempt.never_ran and not self.booted and attempt.error is not None:
                    # Nothing has worked yet in this run: every cell would say the same.
                    raise attempt.error
        min_rate = self.cfg.workload[cell.workload].min_rate
        fired = (cell.filesystem, cell.workload) in self.fired
        judged = verdict.judge(cell, min_rate, attempt.trials, attempt.evidence(fired))
        if cell.must_fire and judged.as_expected:
            self.fired.add((cell.filesystem, cell.workload))
        entry = {
            **facts.entry(cell, judged, attempt, min_rate),
            "attempts": attempts,
            "host_load": load,
            "wall": {**attempt.wall, "cell": round(time.monotonic() - began, 1)},
            "directory": str(directory.relative_to(self.store.directory)),
            "rerun": facts.rerun(self.cfg, self.store.document, cell),
        }
        # From here on the cell counts as finished, whatever interrupts us.
        self.verdicts.append(judged)
        self.store.document["cells"].append(entry)
        store.write_json(
            directory / "cell.json",
            {**entry, "preflight": attempt.preflight, "header": attempt.header},
        )
        store.write_text(
            directory / "rerun",
            facts.rerun_script(self.cfg, entry["rerun"]),
            0o755,
        )
        self.store.save()
        self.under_way = None
        if judged.as_expected or judged.state in ("untested", "lost"):
            # The disk is evidence against a kernel only; kept after a full host disk
            # it would take the next cells' room.
            _delete_disks(directory)
        self.listen(
            Event(
                "cell",
                cell.name,
                judged.claim,
                number + 1,
                len(self.cells),
                data={"state": judged.state, "verdict": judged.to_json()},
            )
        )

    def _attempt(self, cell: Cell, directory: Path) -> cells_room.Attempt:
        assert self.accelerator is not None
        image, workload = self.images[cell.kernel], self.cfg.workload[cell.workload]
        spec = MachineSpec.of(self.guest, image.bzimage, self.accelerator, self.programs)
        planned = plans.planned_trials(self.plan, workload, cell.role) or cell.trials
        job = Job(
            cell=cell,
            filesystem=self.cfg.filesystem[cell.filesystem],
            workload=workload,
            cpus=self.guest.cpus,
            release=image.release,
            # --trials may ask for many times what the time was meant for.
            timeout_s=workload.timeout_s
            * max(1.0, cell.trials / min(planned, TIMEOUT_TRIALS)),
            emulated=self.accelerator.name == "tcg",
        )
        machine = self.rooms.machine(
            spec, directory, self.cfg.root, self.cache, self.listen, cell.name
        )
        attempt = cells_room.run(job, machine, directory, self.listen)
        if attempt.booted:
            self.booted.add(cell.kernel)
        self.boot_failures[cell.kernel] += attempt.boot_failed
        return attempt

    def _check_programs(self) -> None:
        wanted = {
            plans.program_key(self.cfg.workload[cell.workload].source) for cell in self.cells
        }
        missing = sorted(({"preflight"} | wanted) - set(self.programs))
        if missing:
            raise InfraError(
                f"no program was built for {', '.join(missing)} in {self.cfg.root / 'workloads'}",
                hint=f"make -C {self.cfg.root / 'workloads'}",
            )

    def _warn_of_few_trials(self) -> None:
        for cell in self.cells:
            rate = self.cfg.workload[cell.workload].min_rate
            if cell.must_fire and rate < 1 and cell.trials < trials_needed(rate):
                text = f"{cell.trials} trials cannot show a rate of {rate}: at least"
                self.listen(Event("note", cell.name, f"{text} {trials_needed(rate)} are needed"))


def _set_aside(directory: Path) -> None:
    """Moves a first attempt's files into attempt-1/: evidence, but not the verdict's."""
    place = directory / "attempt-1"
    with store.writing(directory):
        place.mkdir()
        for path in list(directory.iterdir()):
            if path != place:
                shutil.move(path, place / path.name)
    _delete_disks(place)


def _delete_disks(directory: Path) -> None:
    for path in directory.glob("*.img"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _stage(stages: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    finally:
        stages[name] = round(time.monotonic() - start, 1)
