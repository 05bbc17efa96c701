# SPDX-License-Identifier: GPL-2.0
"""One night from the heads of the trees to its findings, written down after every step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.config import Config, Nightly
from harness.errors import EXIT_INTERRUPTED, HarnessError, UsageError
from harness.events import Event, Listener, silent
from harness.experiment import facts, plan, resume, runner, store
from harness.experiment.runner import Rooms
from harness.kernel.build import Image
from harness.nightly import choose, decide, kernels, record
from harness.nightly.history import between
from harness.nightly.record import CellNight, Night
from harness.series import check

# What a cell takes at least, boot and file system included, where no night has shown it.
CELL_S = 6.0
NO_TIME = "no time was left"


@dataclass(frozen=True)
class Doors:
    """The other rooms, replaceable by fakes."""

    rooms: Rooms = field(default_factory=Rooms)
    trees: kernels.Trees = field(default_factory=kernels.Trees)
    check: Callable[..., check.Report] = check.check
    clock: Callable[[], float] = time.monotonic


def run(
    cfg: Config,
    cache: Path,
    results: Path,
    listen: Listener = silent,
    *,
    budget_h: float | None = None,
    doors: Doors | None = None,
) -> tuple[Night, Path]:
    """Tonight, or the rest of a night that was cut off; what was found, and where it is.

    KeyboardInterrupt leaves a night that the next call goes on with, unless something
    it depends on has changed by then: it is then marked unfinished and a new one begins.
    Raises UsageError without [nightly] in harness.toml, InfraError while another night
    is under way or results cannot be written.
    """
    if cfg.nightly is None:
        raise UsageError(f"{cfg.path}: no [nightly]: which plan?", hint="less docs/nightly.md")
    budget_s = 3600 * (cfg.nightly.budget_h if budget_h is None else budget_h)
    with record.alone(results):
        conductor = _Conductor(cfg, cfg.nightly, cache, results, listen, doors or Doors())
        conductor.begin(budget_s)
        conductor.run()
    return conductor.night, conductor.directory


class _Conductor:
    """One call of run(); keeps what its steps share out of argument lists."""

    def __init__(
        self,
        cfg: Config,
        settings: Nightly,
        cache: Path,
        results: Path,
        listen: Listener,
        doors: Doors,
    ) -> None:
        self.cfg, self.settings, self.cache, self.results = cfg, settings, cache, results
        self.listen, self.doors = listen, doors
        self.start, self.before = doors.clock(), 0.0
        self.images: dict[str, Image] = {}

    # --- its frame -------------------------------------------------------------------

    def begin(self, budget_s: float) -> None:
        """A new night, or the last one if it was cut off and nothing has changed since."""
        every = list(record.nights(self.results))
        cut = next(iter(every), None)
        cut = cut if cut is not None and cut[0].status == "running" else None
        self.earlier = [night for night, _ in every if cut is None or night is not cut[0]]
        self.kernels = kernels.Kernels(self.cfg, self.cache, self.listen, self.doors.trees)
        cells = plan.cells(self.cfg, self.settings.plan)
        self.cells = cells
        names = list(dict.fromkeys(cell.kernel for cell in cells))
        self.look = self.kernels.look(names)
        self.programs = self.doors.rooms.compile_workloads(
            self.cfg.root, self.cache, self.listen
        )
        digest = self.doors.rooms.digest(self.programs)
        if cut is not None:
            night, directory = cut
            if changed := self._changed(night, digest):
                night.status, night.why = "unfinished", f"cut off, and then {changed}"
                record.save(night, directory)
                self.earlier = [night, *self.earlier]
                cut = None
        if cut is None:
            night, directory = record.begin(self.results, self.settings.plan, budget_s)
        self.night, self.directory = night, directory
        self.before = night.seconds
        night.programs = digest
        self.listen(
            Event("night", night.id, f"in {directory}", data={"directory": str(directory)})
        )

    def _changed(self, night: Night, digest: str) -> str:
        """What makes a night that was cut off another one; "" = nothing."""
        if night.plan != self.settings.plan:
            return "the plan was another one"
        if night.programs and night.programs != digest:
            return "the workloads changed"
        for name, looked in self.look.items():
            was = night.kernels.get(name)
            if was is not None and was.id and was.id != looked.id:
                return f"kernel {name} became {looked.id}"
        return ""

    def run(self) -> None:
        """All steps; the night is written down whatever happens."""
        night = self.night
        try:
            with self._stage("trees"):
                self._trees()
            with self._stage("kernels"):
                self._kernels()
            with self._stage("bench"):
                self._bench()
            with self._stage("cells"):
                self._cells()
            night.status = "finished"
            night.ended = record.now().isoformat(timespec="seconds")
        finally:
            night.seconds = self._seconds()
            history = between(self.cfg, self.cache)
            night.findings = decide.decide(night, self.earlier, self.cfg, history)
            night.exit_code = decide.exit_code(night)
            record.save(night, self.directory)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = self.doors.clock()
        try:
            yield
        finally:
            spent = self.doors.clock() - began
            self.night.stages[name] = round(self.night.stages.get(name, 0.0) + spent, 1)
            self.night.seconds = self._seconds()
            record.save(self.night, self.directory)

    def _seconds(self) -> float:
        return round(self.before + self.doors.clock() - self.start, 1)

    def _left(self) -> float:
        return self.night.budget_s - self._seconds()

    # --- its steps -------------------------------------------------------------------

    def _trees(self) -> None:
        """The heads, and how every series fares on them."""
        night, rooms = self.night, self.doors.rooms
        accelerator = rooms.probe_accelerator(self.cfg.guest[self._guest].accel)
        night.accelerator, night.qemu = accelerator.name, rooms.emulator()
        night.host = facts.host()
        used = dict.fromkeys(self.cfg.kernel[name].tree for name in self.look)
        for name in used:
            night.trees[name] = self.kernels.tree(name, self.earlier)
        for name, folder in self.kernels.folders():
            for tree_name, of in check.trees(self.cfg, name):
                tree = night.trees.get(tree_name)
                if tree is not None and not tree.error and folder:
                    tree.series[name] = self._port(name, tree_name, of, tree.commit)
        record.save(night, self.directory)

    def _port(self, name: str, tree_name: str, of: str, commit: str) -> record.Port:
        """How a series fares on a tree: as it did, when both are what they were."""
        key = kernels.port_key(self.cfg, tree_name, of, commit)
        for night in self.earlier:
            known = night.trees[tree_name].series.get(name) if tree_name in night.trees else None
            if known is not None and known.key == key:
                return known
        made = kernels.port(
            self.cfg, name, tree_name, of, self.cache, self.listen, self.doors.check
        )
        made.key = key
        return made

    def _kernels(self) -> None:
        """Each is built that changed; what cannot be built is one finding, not the end."""
        night = self.night
        for name, looked in self.look.items():
            was = night.kernels.get(name)
            if was is not None and was.outcome in record.BROKEN and was.id == looked.id:
                continue  # found out before the night was cut off
            kernel = night.kernels[name] = self.kernels.kernel(name, looked, self.earlier, was)
            if kernel.outcome == "no tree" or kernel.outcome in record.BROKEN:
                pass
            elif self._left() <= 0 and not self.kernels.there(name, looked):
                kernel.outcome, kernel.error = "not tried", NO_TIME
            else:
                image = self.kernels.ensure(name, kernel, self.doors.rooms.ensure)
                if image is not None:
                    self.images[name] = image
            record.save(night, self.directory)

    def _bench(self) -> None:
        """Figures of each kernel that has not been measured as it is."""
        night, settings = self.night, self.settings
        if not settings.bench:
            return
        of_plan = self.cfg.plan[settings.plan].filesystems
        filesystems = settings.filesystems or of_plan
        for name, image in self.images.items():
            kernel = night.kernels[name]
            if kernel.figures or name not in (settings.measured or self.images):
                continue
            kernel.figures = self._known_figures(name, kernel.id)
            if kernel.figures:
                continue
            if self._left() <= 0:
                kernel.bench_error = NO_TIME
                continue
            try:
                figures = self.doors.rooms.measure(
                    self.cfg, image, self._guest, settings.bench, filesystems, self.programs,
                    self.directory / "bench", self._machine, self.listen,
                )  # fmt: skip
                kernel.figures = {each.name: each.value for each in figures}
                kernel.bench_error = ""
            except store.DiskFullError:
                raise
            except HarnessError as error:
                kernel.bench_error = error.message.splitlines()[0]
            record.save(night, self.directory)

    def _known_figures(self, name: str, identity: str) -> dict[str, float]:
        """Of an earlier night with the same kernel, workloads and QEMU: they would be the same."""
        night = self.night
        for each in self.earlier:
            kernel = each.kernels.get(name)
            if (
                kernel is not None
                and (kernel.id, each.programs, each.qemu) == (identity, night.programs, night.qemu)
                and kernel.figures
            ):
                return dict(kernel.figures)
        return {}

    def _cells(self) -> None:
        """Those that tell most first, as long as there is time."""
        night = self.night
        keys = {cell.name: self._key(cell) for cell in self.cells}
        for cell in self.cells:
            known = night.cells.get(cell.name)
            if known is None or not known.ran:
                night.cells[cell.name] = CellNight(
                    cell.kernel, keys[cell.name], reason=self._why_not(cell)
                )
        for name in list(night.runs):
            self._resume(name)
        testable = [cell for cell in self.cells if cell.kernel in self.images]
        choices = choose.order(testable, keys, self.earlier, self.settings.window)
        for batch in (("changed",), ("failing", "flaky"), ("rest",)):
            due = [
                choice
                for choice in choices
                if choice.why in batch and not night.cells[choice.cell.name].ran
            ]
            self._batch(self._fitting(due), {choice.cell.name: choice.why for choice in choices})

    def _why_not(self, cell: plan.Cell) -> str:
        outcome = self.night.kernels[cell.kernel].outcome
        return NO_TIME if outcome in ("built", "up to date") else f"kernel: {outcome}"

    def _fitting(self, due: Sequence[choose.Choice]) -> list[choose.Choice]:
        """As many of them, from the first, as there is time for."""
        left, jobs = self._left(), self._jobs
        fitting = []
        for choice in due:
            past = choose.history(choice.cell.name, self.earlier, self.settings.window)
            # A budget shortens a cell, but not below its boot and its fewest trials.
            left -= min(CELL_S, past[0].seconds if past and past[0].seconds else CELL_S) / jobs
            if left < 0:
                break
            fitting.append(choice)
        return fitting

    def _batch(self, due: Sequence[choose.Choice], why: dict[str, str]) -> None:
        if not due:
            return
        night = self.night
        cells = [c for c in choose.with_proof(due, self.cells) if c.kernel in self.images]
        entry = self.cfg.plan[self.settings.plan]
        left = self._left()
        share = entry.budget_s * len(cells) / len(self.cells)
        budget = min(left, share) if share else left
        names = [cell.name for cell in cells]
        self.listen(Event("night", night.id, f"{len(names)} cells: {due[0].why}"))
        run_id = ""

        def noting(event: Event) -> None:
            nonlocal run_id
            directory = event.data.get("directory")
            if event.kind == "run" and directory and not run_id:
                run_id = Path(directory).name
                night.runs.append(run_id)
                record.save(night, self.directory)
            self.listen(event)

        try:
            finished, code = runner.run_plan(
                self.cfg, self.settings.plan, self.cache, self.results, noting,
                names=names, budget_s=budget, rooms=self.doors.rooms,
            )  # fmt: skip
        finally:
            if run_id:
                self._absorb(run_id, why)
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        assert finished.id == run_id

    def _resume(self, name: str) -> None:
        """A run of this night that was cut off is gone on with."""
        directory = self.results / name
        document = store.read_run(directory)
        if document["status"] != "finished" and document["cells"]:
            try:
                resume.find(self.results, name)
                _, code = runner.resume_plan(
                    self.cfg, self.cache, self.results, self.listen,
                    run=name, rooms=self.doors.rooms,
                )  # fmt: skip
            except UsageError:
                code = 0  # it cannot go on; its cells are run in another
            if code == EXIT_INTERRUPTED:
                self._absorb(name, {})
                raise KeyboardInterrupt
        self._absorb(name, {})

    def _absorb(self, run_id: str, why: dict[str, str]) -> None:
        """The verdicts of a run become the night's."""
        night = self.night
        for entry in store.read_run(self.results / run_id)["cells"]:
            cell, verdict = night.cells[entry["name"]], entry["verdict"]
            if cell.ran and cell.run != run_id:
                continue  # the first verdict stands
            cell.state, cell.as_expected = verdict["state"], verdict["as_expected"]
            cell.reason, cell.exposed = verdict["reason"], verdict["exposed"]
            cell.valid = verdict["exposed"] + verdict["outcomes"]["held"]
            cell.rate, cell.interval = verdict["rate"], tuple(verdict["interval"])
            cell.may_fire, cell.must_fire = entry["may_fire"], entry["must_fire"]
            cell.splats = [splat["title"] for splat in entry["splats"]]
            cell.run, cell.seconds = run_id, entry["wall"]["cell"]
            cell.why = why.get(entry["name"], cell.why)
        record.save(night, self.directory)

    # --- what they share -------------------------------------------------------------

    @property
    def _guest(self) -> str:
        return self.cfg.plan[self.settings.plan].guest

    @property
    def _jobs(self) -> int:
        return facts.jobs_of(self.cfg.plan[self.settings.plan], self.cfg.guest[self._guest])

    def _machine(self, spec: object, directory: Path, name: str) -> object:
        return self.doors.rooms.machine(
            spec, directory, self.cfg.root, self.cache, self.listen, name  # type: ignore[arg-type]
        )

    def _key(self, cell: plan.Cell) -> str:
        """Of all that a verdict depends on."""
        night = self.night
        kernel = night.kernels.get(cell.kernel)
        return kernels.key(
            self.cfg, cell, kernel.id if kernel else "", self._guest,
            [night.programs, night.accelerator, night.qemu],
        )  # fmt: skip
