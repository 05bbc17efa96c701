# SPDX-License-Identifier: GPL-2.0
"""Looks at one commit after the other: series, build, boot, trials.

One worktree and one O=, those of the kernel, so that each build is as small as the
difference to the last one.  They are held as long as the bench stands, and the worktree
is put back afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness import config
from harness.bisect.question import Kind, Sight, conflict_title, failure_title
from harness.bisect.span import Span
from harness.errors import BootError, BuildError, HarnessError, InfraError, MachineLostError
from harness.events import Event, Listener
from harness.experiment import cell as cells_room
from harness.experiment import facts, store
from harness.experiment.allow import divide, rules
from harness.experiment.berth import Bootable
from harness.experiment.cell import Attempt
from harness.experiment.plan import Cell, cell_seed
from harness.experiment.runner import Rooms
from harness.experiment.trial import Trial
from harness.experiment.verdict import Verdict, judge
from harness.experiment.worker import job_of
from harness.guest.machine import MachineSpec
from harness.guest.qemu import Accelerator
from harness.guest.splat import Splat
from harness.kernel import build, git, image, lock, make
from harness.kernel.image import Image


@dataclass
class Stand:
    """What looking at commits needs of the guest's side."""

    cfg: config.Config
    plan: config.Plan
    kernel: str
    cell: Cell | None  # None: nothing is run
    cache: Path
    listen: Listener
    rooms: Rooms
    seed: int
    programs: dict[str, Path] = field(default_factory=dict)
    accelerator: Accelerator | None = None
    figure: str = ""  # "fault-cold/ext4/hole_1_p50_ns": what is measured, if anything is

    def prepare(self) -> None:
        """What is cheap to find missing: QEMU, a compiler.  InfraError."""
        guest = self.cfg.guest[self.plan.guest]
        self.accelerator = self.rooms.probe_accelerator(guest.accel)
        self.programs = self.rooms.compile_workloads(self.cfg.root, self.cache, self.listen)

    def _spec(self, made: Image) -> MachineSpec:
        assert self.accelerator is not None
        guest = self.cfg.guest[self.plan.guest]
        return MachineSpec.of(guest, made.bzimage, self.accelerator, self.programs)

    def boot(self, made: Image, directory: Path) -> Sight:
        """Whether an image boots, by booting it and asking for its name."""
        machine = self.rooms.machine(
            self._spec(made), directory, self.cfg.root, self.cache, self.listen, self.kernel
        )
        try:
            with machine:
                said = machine.run("uname -r").stdout.strip()
        except BootError as error:
            told: list[Splat] = []
            with contextlib.suppress(HarnessError, OSError):
                told, _allowed = divide(machine.splats(), rules(self.cfg, self.kernel))
            titles = tuple(dict.fromkeys(each.title for each in told))
            return Sight("boot", titles, error.message, boots=1)
        except MachineLostError as error:
            return Sight("lost", why=error.message, boots=1)
        if said != made.release:
            return Sight("lost", why=f"uname -r says {said!r}, not {made.release!r}", boots=1)
        return Sight("booted", boots=1)

    def measured(self, made: Image, directory: Path) -> Sight:
        """What a commit costs, from one boot: these figures repeat exactly."""
        workload, filesystem, _ = self.figure.split("/")
        guest = self.plan.guest

        def machine(spec: MachineSpec, place: Path, name: str) -> Bootable:
            return self.rooms.machine(
                spec, place, self.cfg.root, self.cache, self.listen, name
            )

        try:
            found = self.rooms.measure(
                self.cfg, made, guest, [workload], [filesystem], self.programs, directory,
                machine, self.listen,
            )  # fmt: skip
        except BootError as error:
            return Sight("boot", why=error.message, boots=1)
        except (InfraError, MachineLostError) as error:
            return Sight("lost", why=error.message, boots=1)
        value = next((each.value for each in found if each.name == self.figure), None)
        if value is None:
            return Sight("lost", why=f"no figure {self.figure}", boots=1)
        return Sight("measured", boots=1, value=value)

    def attempt(
        self, made: Image, directory: Path, trials: int, hits: int, seed: int
    ) -> tuple[Attempt, Verdict]:
        """One boot of the cell with so many trials at most, fewer when `hits` are exposed."""
        assert self.cell is not None and self.accelerator is not None
        cell = dataclasses.replace(self.cell, trials=trials, seed=seed)
        seen = 0

        def enough(trial: Trial) -> bool:
            nonlocal seen
            seen += trial.outcome == "exposed"
            return bool(hits) and seen >= hits

        job = job_of(self.cfg, self.plan, cell, made, self.accelerator)
        job = dataclasses.replace(job, enough=enough)
        machine = self.rooms.machine(
            self._spec(made), directory, self.cfg.root, self.cache, self.listen, cell.name
        )
        attempt = cells_room.run(job, machine, directory, self.listen)
        # Whoever looks at one cell alone does not ask whether the control kernel fires.
        judged = judge(cell, attempt.trials, attempt.evidence(True))
        entry = {**facts.entry(cell, judged, attempt), "preflight": attempt.preflight}
        store.write_json(directory / "cell.json", {**entry, "kernel_id": made.id})
        store.delete_disks(directory)
        return attempt, judged

    def sight(self, made: Image, directory: Path, trials: int, hits: int, seed: int) -> Sight:
        """attempt(), once more if no trial ran for no fault of the kernel's."""
        attempt, judged = self.attempt(made, directory, trials, hits, seed)
        boots = 1
        if attempt.never_ran:
            self.listen(Event("note", self.kernel, "no trial ran, once more: " + judged.reason))
            store.set_aside(directory, "attempt")
            attempt, judged = self.attempt(made, directory, trials, hits, seed)
            boots = 2
        titles = tuple(dict.fromkeys(each.title for each in attempt.splats))
        count = judged.outcomes
        kind: Kind = judged.state
        if attempt.boot_failed:
            kind = "boot"
        return Sight(
            kind, titles, judged.reason or judged.claim, count["exposed"], count["held"],
            judged.trials, boots=boots,
        )  # fmt: skip


class Bench:
    """The kernel's side: from a commit to what was seen of it.  See opened()."""

    def __init__(
        self, recipe: build.Recipe, span: Span, makefile: make.Makefile, stand: Stand,
        results: Path, jobs: int,
    ) -> None:  # fmt: skip
        self._recipe, self._span, self._makefile = recipe, span, makefile
        self._stand, self._results, self._jobs = stand, results, jobs
        self._built: tuple[str, Image] | None = None  # the commit that O= has, and its image

    def look(self, commit: str, number: int, upto: Kind, trials: int, hits: int) -> Sight:
        """The `number`th look at a commit, no further than `upto`.

        "apply" and "build" need no machine; "boot" boots, "slower" measures; anything else
        runs the cell, with `trials` and `hits` as in Stand.attempt().  Raises InfraError for
        what is no commit's fault.
        """
        began = time.monotonic()
        directory = self._directory(commit, number)
        sight = self._look(commit, number, directory, upto, trials, hits)
        where = str(directory.relative_to(self._results))
        seconds = round(time.monotonic() - began, 1)
        return dataclasses.replace(sight, seconds=seconds, directory=where)

    def _look(
        self, commit: str, number: int, directory: Path, upto: Kind, trials: int, hits: int
    ) -> Sight:
        stand, builds = self._stand, 0
        if self._built is None or self._built[0] != commit:
            self._built = None
            try:
                whole = self._span.whole(
                    self._recipe, commit, stand.cfg.root, stand.cache, stand.listen
                )
            except BuildError as error:
                _write(directory, error)
                return Sight("apply", (conflict_title(error.message),), error.message)
            if upto == "apply":
                return Sight("built", why="applies")
            try:
                made = self._make(commit, whole)
            except BuildError as error:
                _write(directory, error)
                with contextlib.suppress(OSError):
                    shutil.copy(self._makefile.log, directory / "build.log")
                title = failure_title(error.message)
                return Sight("build", (title,), error.message, builds=1)
            self._built, builds = (commit, made), int(made.built)
        made = self._built[1]
        if upto == "build":
            return Sight("built", builds=builds)
        if upto == "boot":
            sight = stand.boot(made, directory)
        elif upto == "slower":
            sight = stand.measured(made, directory)
        else:
            seed = cell_seed(stand.seed, f"{commit} {number}")
            sight = stand.sight(made, directory, trials, hits, seed)
        return dataclasses.replace(sight, builds=builds)

    def _make(self, commit: str, whole: str) -> Image:
        recipe = self._span.recipe(self._recipe, commit)
        kept = image.load(self._makefile.source.parent / "images", recipe.identity)
        if kept is not None:
            self._stand.listen(Event("build", recipe.name, f"{kept.release} is up to date"))
            return dataclasses.replace(kept, built=False)
        self._makefile.log.write_bytes(b"")
        return build.build_commit(
            self._makefile, recipe, whole, self._stand.listen, self._jobs
        )

    def _directory(self, commit: str, number: int) -> Path:
        """steps/<commit>/<number>/, empty: what an interrupted look left is set aside."""
        directory = self._results / "steps" / commit[:12] / f"{number:02}"
        with store.writing(self._results):
            directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            store.set_aside(directory, "interrupted")
        return directory


def _write(directory: Path, error: BuildError) -> None:
    """error.txt, as a cell has it."""
    told = filter(None, (error.message, error.hint, error.detail))
    store.write_text(directory / "error.txt", "\n".join(told) + "\n")


@contextlib.contextmanager
def opened(
    recipe: build.Recipe, span: Span, stand: Stand, results: Path, jobs: int | None = None
) -> Iterator[Bench]:
    """A bench that has the kernel's worktree to itself; afterwards it is as it was."""
    home = stand.cache / "kernels" / recipe.name
    build.check_paths(stand.cache)
    with lock.held(home.with_name(f"{recipe.name}.lock"), recipe.name, stand.listen):
        makefile = build.start_log(recipe, stand.cache)
        there = (makefile.source / ".git").is_file()
        before = git.resolve(makefile.source, "HEAD") if there else None
        try:
            yield Bench(recipe, span, makefile, stand, results, jobs or os.cpu_count() or 1)
        finally:
            if before is not None:
                git.move_worktree(makefile.source, recipe.source.repo, before)
