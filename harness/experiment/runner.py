# SPDX-License-Identifier: GPL-2.0
"""Runs a plan: kernels, workloads, then cell after cell, control kernels first."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import Config, Executor, RunMode
from harness.config import Plan as PlanEntry
from harness.errors import EXIT_INTERRUPTED, HarnessError, InfraError, UsageError
from harness.events import Event, Listener, silent
from harness.experiment import crew, facts, post, resume, statistics, store, verdict
from harness.experiment import plan as plans
from harness.experiment.bench import Figure, check_bench, measure
from harness.experiment.berth import Bootable
from harness.experiment.budget import Budget
from harness.experiment.compare import comparisons
from harness.experiment.plan import Cell
from harness.experiment.post import Carrier, Post
from harness.experiment.preflight import Job
from harness.experiment.told import check_replay
from harness.experiment.worker import Place, Shared, Worker
from harness.guest import imports, initramfs, programs, qemu
from harness.guest.machine import Machine, MachineSpec
from harness.guest.qemu import COUNTED, Accelerator
from harness.guest.replay import ReplayMachine
from harness.kernel import build
from harness.kernel.build import Image
from harness.places import NEWEST_RUN


def _machine(
    spec: MachineSpec, directory: Path, root: Path, cache: Path, listen: Listener, name: str
) -> Bootable:
    if spec.told is not None:
        return ReplayMachine(spec, directory, cache, listen, name)
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
    digest: Callable[[Mapping[str, Path]], str] = programs.digest
    machine: Callable[[MachineSpec, Path, Path, Path, Listener, str], Bootable] = _machine
    emulator: Callable[[], str] = facts.qemu
    measure: Callable[..., list[Figure]] = measure
    archives: Callable[[Mapping[str, Path], Path, Path], list[Path]] = initramfs.common
    carrier: Callable[[Executor, Listener], Carrier | None] = post.carrier


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
    jobs: int | None = None,
    budget_s: float | None = None,
    modes: Sequence[RunMode] = (),
    names: Sequence[str] = (),
    bench: Sequence[str] = (),
    core: bool = False,
    rooms: Rooms | None = None,
) -> tuple[store.Run, int]:
    """Runs plan `plan_name` and returns what was stored and the exit code.

    0: every verdict is what its kernel's role expects; 1: at least one is not;
    125: the only trouble is cells that could not be tested; 130: interrupted by
    Ctrl-C, with every finished cell kept.  The filters, `names`, `trials` and `seed` are
    those of plan.cells(); `jobs` and `budget_s` replace the plan's.  `core`: keep the
    memory of a guest that hangs.  `bench`: workloads of kind bench, measured on each kernel
    before the cells.  Raises UsageError before anything is written; BuildError and
    InfraError afterwards, with run.json saying "failed" and every finished cell kept.
    """
    cells = plans.cells(
        cfg, plan_name, kernels, filesystems, workloads, trials, seed, modes, names
    )
    check_bench(cfg, bench)
    check_replay(cfg, modes, budget_s)
    if core and cfg.executor.kind != "local":
        why = "--core: the memory of a guest stays on its host"
        raise UsageError(why, hint="take [executor] out of harness.toml, and run the cell here")
    run = store.Run(results_root, plan_name)
    runner = _Runner(cfg, cfg.plan[plan_name], cells, cache, run, listen, rooms or Rooms(), jobs)
    timed = budget_s is not None or trials is None
    if timed and not plans.replays(modes):  # a number that is asked for is not cut
        runner.budget_s = cfg.plan[plan_name].budget_s if budget_s is None else budget_s
    run.document.update(
        planned=[cell.name for cell in cells],
        seed=cfg.plan[plan_name].seed if seed is None else seed,
        filters={
            "kernels": list(kernels),
            "filesystems": list(filesystems),
            "workloads": list(workloads),
            "modes": list(modes),
            "trials": trials,
            **({"names": list(names)} if names else {}),
        },
        budget_s=runner.budget_s or None,
        jobs=runner.jobs,
        executor={"kind": cfg.executor.kind},
        core=core,
        bench=list(bench),
        host=facts.host(),
    )
    return _conduct(runner)


def resume_plan(
    cfg: Config,
    cache: Path,
    results_root: Path,
    listen: Listener = silent,
    *,
    run: str = NEWEST_RUN,
    jobs: int | None = None,
    rooms: Rooms | None = None,
) -> tuple[store.Run, int]:
    """Goes on with a run that ended early; what is finished stays as it is.

    Returns and raises what run_plan() does; UsageError as well when there is no such
    run, or when what it would be run with is not what it was run with.
    """
    directory = resume.find(results_root, run)
    again = store.Run.reopen(directory)
    try:
        document = again.document
        plan = resume.config_of(cfg, document)
        cells = plans.cells(cfg, plan, **resume.filters(document, directory))
        verdicts = resume.finished(cells, document)
        jobs = jobs or document["jobs"]
        runner = _Runner(
            cfg, cfg.plan[plan], cells, cache, again, listen, rooms or Rooms(), jobs, verdicts
        )
    except BaseException:
        again.close()
        raise
    # Of the time, what the cells that are left would have had.
    runner.budget_s = (document["budget_s"] or 0.0) * len(runner.left) / max(1, len(cells))
    for key in ("error", "not_run", "exit_code"):
        document.pop(key, None)
    document.update(status="running", sittings=document.get("sittings", 1) + 1)
    return _conduct(runner)


def _conduct(runner: _Runner) -> tuple[store.Run, int]:
    """A run to its end, however it ends."""
    run = runner.store
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
        if runner.carrier is not None:
            runner.carrier.close()
        with contextlib.suppress(InfraError):
            run.close()
    return run, code


class _Runner:
    """One run_plan() call; exists to keep what its steps share out of argument lists."""

    def __init__(
        self,
        cfg: Config,
        plan: PlanEntry,
        cells: Sequence[Cell],
        cache: Path,
        run: store.Run,
        listen: Listener,
        rooms: Rooms,
        jobs: int | None,
        verdicts: Mapping[str, verdict.Verdict] | None = None,
    ) -> None:
        """`verdicts`: of cells that are finished already, by name."""
        self.cfg, self.plan, self.cells = cfg, plan, cells
        self.verdicts = dict(verdicts or {})
        self.left = [cell for cell in cells if cell.name not in self.verdicts]
        self.cache, self.store, self.rooms = cache, run, rooms
        self.guest = cfg.guest[plan.guest]
        self._asked_jobs = jobs or cfg.executor.jobs
        self.jobs = self._asked_jobs or facts.jobs_of(plan, self.guest)
        self.carrier: Carrier | None = None  # None: cells are run in this process
        self.budget_s = 0.0  # for the cells, 0: no limit
        self.shared: Shared | None = None
        self.start = time.monotonic()
        self._listen, self._lock, self._loads = listen, threading.RLock(), False

    def listen(self, event: Event) -> None:
        """To run.log, then to the caller: one event at a time, from whatever thread."""
        with self._lock:
            self.store.log(event)
            if event.data.get("links") and not self._loads:
                # make has a CPU to spare when it links; a guest that boots has none.
                self._loads = True
                threading.Thread(target=imports.load, daemon=True).start()
            if event.kind == "trial" and "first_trial_s" not in self.store.document:
                self.store.document["first_trial_s"] = round(time.monotonic() - self.start, 1)
            self._listen(event)

    def run(self) -> int:
        """Everything, in order; returns the exit code."""
        document, stages = self.store.document, self.store.document.setdefault("stages", {})
        self.store.save()
        place = str(self.store.directory)
        self.listen(Event("run", self.store.id, f"results in {place}", data={"directory": place}))
        if os.geteuid() == 0:
            text = "run by root, for no reason: after set-up any user will do"
            self.listen(Event("note", self.store.id, text))
        self._warn_of_few_trials()
        # The quick checks come first: nobody should wait for a kernel to be
        # built only to read that QEMU is missing.
        with _stage(stages, "accelerator"):
            accelerator = self._accelerator()
        document["accelerator"] = accelerator.name
        document["accelerator_reason"] = accelerator.reason
        document["slowdown"] = accelerator.slowdown
        self.listen(Event("note", "accelerator", f"{accelerator.name}: {accelerator.reason}"))
        with _stage(stages, "workloads"):
            programs = self.rooms.compile_workloads(self.cfg.root, self.cache, self.listen)
            mine = plans.needed(self.cfg, {cell.workload for cell in self.cells}, programs)
            digest = self.rooms.digest(programs)
            resume.check_programs(digest, document)
            document["programs"] = digest
        document.setdefault("kernels", {})
        images: dict[str, Image] = {}
        with _stage(stages, "build"):
            for kernel in dict.fromkeys(cell.kernel for cell in self.left):
                image = self.rooms.ensure(kernel, self.cfg, self.cache, self.listen)
                resume.check_kernel(image, document)
                images[kernel] = image
                document["kernels"][kernel] = facts.kernel(image, self.cfg)
                self.store.keep_config(kernel, image.dotconfig)
                self.store.save()
        if document.get("bench"):
            with _stage(stages, "bench"):
                self._bench(images, programs)
        document["guest"] = facts.guest(self.plan.guest, self.guest)
        # Only a run that got as far as its first cell deserves to be the latest.
        self.store.save()
        self.store.point_latest()
        machines = resume.tidy(self.store, self.left) if self.verdicts else 0
        names, done = [cell.name for cell in self.cells], len(self.verdicts)
        known = f", {done} of them finished before" if done else ""
        self.listen(
            Event(
                "run",
                self.store.id,
                f"{len(names)} cells on {accelerator.name}{known}",
                done=done,
                total=len(names),
                data={"cells": names, "accelerator": accelerator.name},
            )
        )
        shared = self.shared = Shared(
            self.cfg, self.plan, self.cells, self.store, self.listen, self._machine,
            self._post(mine) if self.carrier is not None else None,
            accelerator, mine, images,
            Budget(self.budget_s, len(self.left), self.jobs) if self.budget_s else None,
            machines=machines,
        )  # fmt: skip
        for entry in document["cells"]:
            shared.know(entry, self.verdicts[entry["name"]])
        with _stage(stages, "cells"):
            # What must fire comes first: whether it did decides about the others.
            for role in plans.ORDER:
                due = [cell for cell in self.left if cell.role == role]
                crew.work(
                    due, self.jobs, lambda take: Worker(shared).run(take),
                    shared.stop, shared.kill,
                )  # fmt: skip
        document["comparisons"] = comparisons(document["cells"])
        code = verdict.exit_code(shared.verdicts)
        document.update(status="finished", exit_code=code, not_run=[])
        self.store.save()
        self._announce_end("finished")
        return code

    def _bench(self, images: Mapping[str, Image], programs: Mapping[str, Path]) -> None:
        """Figures of each kernel that a sitting before this one did not measure."""
        document = self.store.document
        figures = document.setdefault("figures", {})
        filesystems = list(dict.fromkeys(cell.filesystem for cell in self.cells))
        for kernel, image in images.items():
            if kernel not in figures:
                found = self.rooms.measure(
                    self.cfg, image, self.plan.guest, document["bench"], filesystems, programs,
                    self.store.directory / "bench", self._machine, self.listen,
                )  # fmt: skip
                figures[kernel] = {each.name: each.value for each in found}
                self.store.save()

    def _accelerator(self) -> Accelerator:
        """That of the run; connects to where its cells are run."""
        document, asked = self.store.document, self.guest.accel
        self.carrier = carrier = self.rooms.carrier(self.cfg.executor, self.listen)
        if carrier is None:
            if self.jobs * self.guest.cpus > facts.host_cpus():
                text = f"{self.jobs} guests of {self.guest.cpus} CPUs at once on "
                text += f"{facts.host_cpus()}: each is slower"
                self.listen(Event("note", self.store.id, text))
            replays = plans.replays(document["filters"]["modes"])
            accelerator = COUNTED if replays else self.rooms.probe_accelerator(asked)
            document["qemu"] = self.rooms.emulator()
            return accelerator
        accelerator, hosts = carrier.survey(asked, self.rooms.probe_accelerator)
        self.jobs = self._asked_jobs or len(hosts)
        document.update(
            jobs=self.jobs,
            qemu=next(iter(hosts.values())).qemu,
            executor={
                "kind": carrier.kind,
                "address": carrier.address,
                "workers": {worker: host.to_json() for worker, host in hosts.items()},
            },
        )
        text = f"{self.jobs} cells at once on {len(hosts)} workers of {carrier.address}"
        self.listen(Event("note", "executor", text))
        return accelerator

    def _post(
        self, programs: Mapping[str, Path]
    ) -> Callable[[Callable[[Job], MachineSpec]], Place]:
        """What makes a place for cells elsewhere; what all of them boot is made here, once."""
        carrier, rooms = self.carrier, self.rooms
        assert carrier is not None
        archives = rooms.archives(programs, self.cache, self.cfg.root)
        return lambda spec: Post(carrier, spec, archives, rooms.machine, rooms.probe_accelerator)

    def _machine(self, spec: MachineSpec, directory: Path, name: str) -> Bootable:
        return self.rooms.machine(spec, directory, self.cfg.root, self.cache, self.listen, name)

    def stop(self, status: str, code: int, why: str) -> None:
        """Writes down a run that ends early: what is finished stays, the rest is not run."""
        finished = {entry["name"] for entry in self.store.document["cells"]}
        names = [cell.name for cell in self.cells if cell.name not in finished]
        self.store.document.update(status=status, exit_code=code, error=why, not_run=names)
        self.store.save()
        for cell in self.shared.under_way if self.shared is not None else ():
            directory = self.store.cell_directory(cell.name)
            if cell.name in names:
                store.write_json(directory / "cell.json", {"name": cell.name, "status": "not run"})
                # Half a cell's scratch disk is of no use to anybody.
                store.delete_disks(directory)
        self._announce_end(status)  # why is the last line the user sees, from cli

    def _announce_end(self, message: str) -> None:
        data = {"directory": str(self.store.directory), "document": self.store.document}
        self.listen(Event("run", self.store.id, message, data=data))

    def _warn_of_few_trials(self) -> None:
        for cell in self.cells:
            rate = cell.min_rate
            if not cell.must_fire or rate >= 1:
                continue
            if cell.trials < (needed := statistics.trials_needed(rate)):
                text = f"{cell.trials} trials cannot show a rate of {rate}: at least {needed}"
                self.listen(Event("note", cell.name, f"{text} are needed"))


@contextlib.contextmanager
def _stage(stages: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    finally:
        stages[name] = round(time.monotonic() - start, 1)
