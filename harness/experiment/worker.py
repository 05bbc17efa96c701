# SPDX-License-Identifier: GPL-2.0
"""Runs cells of a run one after another, in one of several threads: from boot to verdict.

The boots are a Place's: of this process, in a Berth, or elsewhere, by Post.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from harness.config import Config
from harness.config import Plan as PlanEntry
from harness.events import Event, Listener
from harness.experiment import allow, cluster, facts, store, verdict
from harness.experiment import cell as cells_room
from harness.experiment import plan as plans
from harness.experiment.berth import Berth, Bootable
from harness.experiment.budget import Budget
from harness.experiment.plan import Cell
from harness.experiment.preflight import DEVICE, Job
from harness.experiment.told import told
from harness.guest import orders, symbols
from harness.guest.machine import MachineSpec
from harness.guest.qemu import COUNTED, Accelerator
from harness.kernel.build import Image

# A kernel that failed to boot this often, and never did, is not tried again:
# each further try costs a whole boot timeout and says nothing new.
BOOT_FAILURES = 2
# Workload.timeout_s is for up to so many trials; more of them have more time.
TIMEOUT_TRIALS = 400


def job_of(
    cfg: Config,
    plan: PlanEntry,
    cell: Cell,
    image: Image,
    accelerator: Accelerator,
    seconds: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Job:
    """A cell of `plan` on `image`, with all that running it takes."""
    workload = cfg.workload[cell.workload]
    planned = plans.planned_trials(plan, workload, cell.role) or cell.trials
    return Job(
        cell=cell,
        filesystem=cfg.filesystem[cell.filesystem],
        workload=workload,
        cpus=cfg.guest[plan.guest].cpus,
        release=image.release,
        # --trials may ask for many times what the time was meant for.
        timeout_s=workload.timeout_s * max(1.0, cell.trials / min(planned, TIMEOUT_TRIALS)),
        seconds=seconds,
        allow=allow.rules(cfg, cell.kernel),
        emulated=accelerator.name == "tcg",
        device=orders.DEVICE if accelerator == COUNTED else DEVICE,
        symbols=symbols.beside(image.bzimage),
        stopped=stopped,
    )


class StoppedError(Exception):
    """The run ends early: the cell under way has no verdict."""


class Place(Protocol):
    """Where a worker's cells are booted, one after another."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def attempt(self, job: Job, directory: Path, listen: Listener) -> cells_room.Attempt: ...
    def settle(self, good: bool, directory: Path) -> None: ...
    def story(self) -> dict[str, Any]: ...
    def kill(self) -> None: ...



@dataclass
class Shared:
    """What the workers of a run have in common; to be changed under `lock` only."""

    cfg: Config
    plan: PlanEntry
    cells: Sequence[Cell]  # all of the run, in their order
    store: store.Run
    listen: Listener
    machine: Callable[[MachineSpec, Path, str], Bootable]
    post: Callable[[Callable[[Job], MachineSpec]], Place] | None  # None: cells are booted here
    accelerator: Accelerator
    programs: Mapping[str, Path]
    images: Mapping[str, Image]
    budget: Budget | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    stop: threading.Event = field(default_factory=threading.Event)
    verdicts: list[verdict.Verdict] = field(default_factory=list)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)  # by cell name
    under_way: list[Cell] = field(default_factory=list)
    fired: set[tuple[str, str, str]] = field(default_factory=set)  # tree, filesystem, workload
    booted: set[str] = field(default_factory=set)
    boot_failures: Counter[str] = field(default_factory=Counter)
    machines: int = 0  # shared ones so far: they are numbered
    places: list[Place] = field(default_factory=list)

    def know(self, entry: dict[str, Any], judged: verdict.Verdict) -> None:
        """A cell is finished, with this entry in run.json."""
        if judged.state == "exposed" and (
            entry["may_fire"] or (entry["must_fire"] and judged.as_expected)
        ):
            self.fired.add((entry.get("tree", ""), entry["filesystem"], entry["workload"]))
        self.verdicts.append(judged)
        self.entries[entry["name"]] = entry

    def kill(self) -> None:
        """Ends every machine that runs, from any thread."""
        for place in list(self.places):
            place.kill()

    def machine_directory(self, kernel: str) -> Path:
        """A new place for a machine that cells share: machines/<number>-<kernel>/."""
        with self.lock:
            self.machines += 1
            number = self.machines
        return self.store.machine_directory(f"{number:03}-{kernel}")


class Worker:
    """One thread's share of the cells; run() is its whole life."""

    def __init__(self, shared: Shared) -> None:
        self._all = shared
        guest = shared.plan.guest
        self._guest = shared.cfg.guest[guest]
        # A cell of several boots has all of them to itself, and so has one that is to repeat.
        alone = shared.plan.boots > 1 or shared.accelerator == COUNTED
        limit = 1 if alone else shared.plan.cells_per_boot
        self._place: Place
        if shared.post is None:
            self._place = Berth(self._boot, shared.machine_directory, limit)
        else:
            self._place = shared.post(self._spec)
        shared.places.append(self._place)

    def run(self, take: Callable[[], Cell | None]) -> None:
        """Runs what take() gives until it gives None; raises what ends the run."""
        with self._place:
            while (cell := take()) is not None:
                self._cell(cell)

    def _cell(self, cell: Cell) -> None:
        shared = self._all
        began, load = time.monotonic(), facts.load()
        with shared.lock:
            shared.under_way.append(cell)
            done = len(shared.verdicts)
        self._say(cell, "starts", done, state="boot")
        directory = shared.store.cell_directory(cell.name)
        seconds = shared.budget.share() if shared.budget is not None else None
        attempts, attempt = self._boots(cell, directory, seconds)
        fired = (cell.tree, cell.filesystem, cell.workload) in shared.fired
        judged = verdict.judge(cell, attempt.trials, attempt.evidence(fired))
        # What is allowed has still tainted the kernel: lockdep is off after its first report.
        clean = not (attempt.faults or attempt.allowed)
        self._place.settle(judged.as_expected and clean, directory)
        took = time.monotonic() - began
        if shared.budget is not None:
            shared.budget.spent(took, attempt.wall.get("trials", 0.0))
        entry = {
            **facts.entry(cell, judged, attempt),
            "host_load": load,
            **self._place.story(),  # elsewhere there is another load
            "attempts": attempts,
            "seconds": None if seconds is None else round(seconds, 2),
            "wall": {**attempt.wall, "cell": round(took, 1)},
            "directory": str(directory.relative_to(shared.store.directory)),
            "rerun": facts.rerun(shared.cfg, shared.store.document, cell, judged.planned),
        }
        with shared.lock:
            self._keep(cell, judged, attempt, entry, directory)
            done = len(shared.verdicts)
        self._say(cell, judged.claim, done, state=judged.state, verdict=judged.to_json())

    def _keep(
        self,
        cell: Cell,
        judged: verdict.Verdict,
        attempt: cells_room.Attempt,
        entry: dict[str, Any],
        directory: Path,
    ) -> None:
        """Writes a cell down: from here on it counts as finished, whatever interrupts us."""
        shared = self._all
        shared.know(entry, judged)
        # In the plan's order, whichever was done first.
        shared.store.document["cells"] = [
            shared.entries[each.name] for each in shared.cells if each.name in shared.entries
        ]
        store.write_json(
            directory / "cell.json",
            {**entry, "preflight": attempt.preflight, "header": attempt.header},
        )
        script = facts.rerun_script(shared.cfg, entry["rerun"])
        store.write_text(directory / "rerun", script, 0o755)
        shared.store.save()
        shared.under_way.remove(cell)
        if judged.as_expected or judged.state in ("untested", "lost"):
            # The disk is evidence against a kernel only; kept after a full host disk
            # it would take the next cells' room.
            store.delete_disks(directory)

    def _boots(
        self, cell: Cell, directory: Path, seconds: float | None
    ) -> tuple[int, cells_room.Attempt]:
        """A cell over all its boots; how often the one that took most tries was tried."""
        boots = self._all.plan.boots
        if boots == 1:
            return self._tried(cell, directory, seconds)
        tries, attempts = 1, []
        for number, part in enumerate(cluster.parts(cell, boots), 1):
            place = directory / f"boot-{number:02}"
            with store.writing(directory):
                place.mkdir()
            share = None if seconds is None else seconds / boots
            most, attempt = self._tried(part, place, share)
            tries = max(tries, most)
            attempts.append(attempt)
            if attempt.fate or attempt.splats or attempt.faults or attempt.untested:
                break  # the verdict stands, and the next boot would add nothing to it
            store.delete_disks(place)
        whole = cluster.merge(attempts)
        cluster.write_trials(directory, whole.trials)
        return tries, whole

    def _tried(
        self, cell: Cell, directory: Path, seconds: float | None
    ) -> tuple[int, cells_room.Attempt]:
        """One boot of a cell, once more if no trial ran and the kernel is not to blame."""
        shared = self._all
        attempt = self._attempt(cell, directory, seconds)
        if not attempt.never_ran:
            return 1, attempt
        why = "; ".join(attempt.faults)
        shared.listen(Event("note", cell.name, f"no trial ran, once more: {why}"))
        self._place.settle(False, directory)
        store.set_aside(directory, "attempt")
        attempt = self._attempt(cell, directory, seconds)
        if attempt.never_ran and not shared.booted and attempt.error is not None:
            # Nothing has worked yet in this run: every cell would say the same.
            raise attempt.error
        return 2, attempt

    def _attempt(self, cell: Cell, directory: Path, seconds: float | None) -> cells_room.Attempt:
        shared = self._all
        failures = shared.boot_failures[cell.kernel]
        if failures >= BOOT_FAILURES and cell.kernel not in shared.booted:
            return cells_room.Attempt(
                untested=f"kernel {cell.kernel!r} did not boot in {failures} earlier cells"
            )
        job = self._job(cell, seconds)
        attempt = self._place.attempt(job, directory, shared.listen)
        if shared.stop.is_set() and (attempt.error or not attempt.completed):
            raise StoppedError(cell.name)
        with shared.lock:
            if attempt.booted:
                shared.booted.add(cell.kernel)
            shared.boot_failures[cell.kernel] += attempt.boot_failed
        return attempt

    def _job(self, cell: Cell, seconds: float | None) -> Job:
        shared = self._all
        return job_of(
            shared.cfg, shared.plan, cell, shared.images[cell.kernel], shared.accelerator,
            seconds, shared.stop.is_set,
        )  # fmt: skip

    def _spec(self, job: Job) -> MachineSpec:
        shared = self._all
        image = shared.images[job.cell.kernel]
        spec = MachineSpec.of(self._guest, image.bzimage, shared.accelerator, shared.programs)
        if shared.accelerator == COUNTED:
            return told(job, spec)
        return dataclasses.replace(spec, core=bool(shared.store.document.get("core")))

    def _boot(self, job: Job, directory: Path, name: str) -> Bootable:
        return self._all.machine(self._spec(job), directory, name)

    def _say(self, cell: Cell, message: str, done: int, **data: object) -> None:
        total = len(self._all.cells)
        self._all.listen(Event("cell", cell.name, message, done, total, data=data))
