# SPDX-License-Identifier: GPL-2.0
"""Mutation testing of the race suite: each lock site turned off alone, every race tried.

A mutant is a control kernel with one switch on.  It is killed by a reproducer that
is exposed on it (or that the kernel complains under).  One that nothing kills is a
lock site whose loss the suite would not notice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.config import Config, Workload
from harness.errors import (
    EXIT_CANNOT_TEST,
    EXIT_EXPECTED,
    EXIT_UNEXPECTED,
    HarnessError,
    UsageError,
)
from harness.events import Event, Listener, silent
from harness.experiment import cell as cells_room
from harness.experiment import crew
from harness.experiment import plan as plans
from harness.experiment.allow import divide, rules
from harness.experiment.plan import OFF, Cell
from harness.experiment.preflight import MOUNT_POINT, Guest, Job, UntestableError, prepare
from harness.experiment.trial import Reader
from harness.guest.splat import Splat

# A reproducer that must fire does so nearly always; a mutant has this many trials to live.
TRIALS = 3
_LIMIT_S = 30.0  # of one program, on KVM


@dataclass(frozen=True)
class Mutant:
    """A switch on a file system; OFF is no mutant, but the kernel that must not fire."""

    switch: str
    filesystem: str


def _name(mutant: Mutant) -> str:
    return f"{mutant.filesystem}/{mutant.switch}"


@dataclass
class Fate:
    """What the reproducers did to a mutant."""

    mutant: Mutant
    ran: list[str] = field(default_factory=list)
    killed_by: dict[str, str] = field(default_factory=dict)  # workload -> why
    untested: dict[str, str] = field(default_factory=dict)  # workload -> why
    trials: int = 0

    def to_json(self) -> dict[str, Any]:
        """The entry of mutants.json under "matrix"."""
        return {
            "switch": self.mutant.switch,
            "filesystem": self.mutant.filesystem,
            "ran": self.ran,
            "killed_by": list(self.killed_by),
            "why": self.killed_by,
            "untested": self.untested,
            "trials": self.trials,
        }


@dataclass(frozen=True)
class Matrix:
    """The kill matrix of one run."""

    fates: Sequence[Fate]

    @property
    def mutants(self) -> list[Fate]:
        """Those with a switch on."""
        return [fate for fate in self.fates if fate.mutant.switch != OFF]

    @property
    def survivors(self) -> list[Mutant]:
        """Lock sites whose loss nothing noticed."""
        return [fate.mutant for fate in self.mutants if not fate.killed_by]

    @property
    def false_alarms(self) -> list[dict[str, str]]:
        """Exposures with every switch off."""
        return [
            {"filesystem": fate.mutant.filesystem, "workload": workload, "why": why}
            for fate in self.fates
            if fate.mutant.switch == OFF
            for workload, why in fate.killed_by.items()
        ]

    @property
    def exit_code(self) -> int:
        """0: all killed, no false alarm; 125: a survivor that was not really tried; else 1."""
        if self.false_alarms:
            return EXIT_UNEXPECTED
        alive = [fate for fate in self.mutants if not fate.killed_by]
        if not alive:
            return EXIT_EXPECTED
        tried = all(set(fate.ran) - set(fate.untested) for fate in alive)
        return EXIT_UNEXPECTED if tried else EXIT_CANNOT_TEST

    def lines(self) -> list[str]:
        """The matrix for a person: one line for each mutant, then what is wrong."""
        width = max((len(_name(fate.mutant)) for fate in self.mutants), default=0)
        lines = []
        for fate in self.mutants:
            killers = ", ".join(fate.killed_by) or "SURVIVED"
            lines.append(f"{_name(fate.mutant):{width}}  {killers}")
        lines += [
            f"FALSE ALARM {alarm['filesystem']}/{alarm['workload']}: {alarm['why']}"
            for alarm in self.false_alarms
        ]
        dead = len(self.mutants) - len(self.survivors)
        lines.append(
            f"{dead} of {len(self.mutants)} killed, {len(self.false_alarms)} false alarms"
        )
        return lines

    def to_json(self) -> dict[str, Any]:
        """mutants.json, but for what the caller knows of run and kernel."""
        return {
            "matrix": [fate.to_json() for fate in self.mutants],
            "survivors": [vars(mutant) for mutant in self.survivors],
            "false_alarms": self.false_alarms,
            "off": [fate.to_json() for fate in self.fates if fate.mutant.switch == OFF],
        }


@dataclass(frozen=True)
class Bench:
    """Where mutants are tried: a way to boot, and what every job needs."""

    cfg: Config
    kernel: str
    release: str
    cpus: int
    emulated: bool
    seed: int
    boot: Callable[[str], Guest]  # a machine that is not started, by a name for its files
    kill: Callable[[], None] = lambda: None  # ends all that were, from any thread


def selection(
    cfg: Config,
    plan: str,
    filesystems: Sequence[str] = (),
    workloads: Sequence[str] = (),
    switches: Sequence[str] = (),
) -> list[tuple[str, list[str], list[str]]]:
    """(file system, switches with a site there, workloads for it), of plan `plan`.

    The filters keep only those names.  Raises UsageError for one that is unknown and
    when nothing is left.
    """
    planned, where = cfg.plan[plan], f"the mutants of plan {plan!r}"
    # As in a plan that is run: a race that is named need not be in the plan.
    listed = dict.fromkeys([*planned.workloads, *(n for n in workloads if n in cfg.workload)])
    races = [name for name in listed if _takes_part(cfg.workload[name])]
    races = plans.chosen("workload", workloads, races, where, cfg.workload)
    sites = plans.chosen("switch", switches, list(cfg.switch), where, cfg.switch)
    selected = []
    for name in plans.chosen("filesystem", filesystems, planned.filesystems, where, cfg.filesystem):
        here = [site for site in sites if name in (cfg.switch[site].filesystems or [name])]
        fit = [race for race in races if name in (cfg.workload[race].filesystems or [name])]
        if here and fit:
            selected.append((name, here, fit))
    if not selected:
        raise UsageError(f"plan {plan!r}: no switch and race are left", hint="harness list")
    return selected


def _takes_part(workload: Workload) -> bool:
    """What is open on stock fires whatever the switches say: it can kill nothing."""
    return workload.kind == "race" and bool(workload.switches) and not workload.fires_on


def run(
    bench: Bench,
    chosen: Sequence[tuple[str, Sequence[str], Sequence[str]]],
    trials: int = TRIALS,
    listen: Listener = silent,
    keep: Callable[[Matrix], None] = lambda _matrix: None,
    jobs: int = 1,
) -> Matrix:
    """Try every workload on every mutant, one boot for each file system, `jobs` at once.

    A machine that a mutant brings down is booted again.  `keep` gets the matrix after
    each workload, so that what is finished outlives an interruption; it and `listen` are
    called by one thread at a time.  Raises what booting raises, when nothing has run yet
    in a boot.
    """
    hunt = _Hunt(bench, chosen, trials, listen, keep)
    stop = threading.Event()

    def body(take: Callable[[], tuple[str, Sequence[str], Sequence[str]] | None]) -> None:
        while (item := take()) is not None:
            hunt.on(*item)

    crew.work(chosen, jobs, body, stop, bench.kill)
    keep(hunt.matrix)
    return hunt.matrix


class _Hunt:
    """One run(): what the threads of several file systems share."""

    def __init__(
        self,
        bench: Bench,
        chosen: Sequence[tuple[str, Sequence[str], Sequence[str]]],
        trials: int,
        listen: Listener,
        keep: Callable[[Matrix], None],
    ) -> None:
        self._bench, self._trials, self._listen, self._keep = bench, trials, listen, keep
        self._fates = {
            Mutant(switch, filesystem): Fate(Mutant(switch, filesystem))
            for filesystem, switches, _ in chosen
            for switch in (OFF, *switches)
        }
        self.matrix = Matrix(list(self._fates.values()))
        self._total = sum((1 + len(s)) * len(workloads) for _, s, workloads in chosen)
        self._began, self._done = time.monotonic(), 0
        self._lock = threading.Lock()

    def on(self, filesystem: str, switches: Sequence[str], workloads: Sequence[str]) -> None:
        """All mutants of one file system."""
        todo = [(workload, switch) for workload in workloads for switch in (OFF, *switches)]
        boots = 0
        while todo:
            boots += 1
            ended = _in_one_boot(
                self._bench, filesystem, boots, todo, self._fates, self._trials
            )
            for workload, switch in ended:
                with self._lock:
                    self._tell(filesystem, workload, switch)
                    if switch == (OFF, *switches)[-1]:
                        self._keep(self.matrix)
        for switch in switches:
            killers = self._fates[Mutant(switch, filesystem)].killed_by
            told = f"killed by {', '.join(killers)}" if killers else "SURVIVED"
            with self._lock:
                self._listen(Event("note", f"{filesystem}/{switch}", told))

    def _tell(self, filesystem: str, workload: str, switch: str) -> None:
        self._done += 1
        left = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        told = _told(self._fates[Mutant(switch, filesystem)], workload)
        subject = f"{filesystem}/{workload}@{switch}"
        self._listen(Event("boot", subject, told, self._done, self._total, left))


def _told(fate: Fate, workload: str) -> str:
    if workload in fate.killed_by:
        return "exposed"
    return "untested" if workload in fate.untested else "held"


def _complaints(bench: Bench, machine: Guest) -> list[Splat]:
    counts, _allowed = divide(machine.splats(), rules(bench.cfg, bench.kernel))
    return counts


def _in_one_boot(
    bench: Bench,
    filesystem: str,
    number: int,
    todo: list[tuple[str, str]],
    fates: dict[Mutant, Fate],
    trials: int,
) -> Iterator[tuple[str, str]]:
    """Works off `todo` until it is empty or the machine is gone; yields what is done."""
    ran = False
    try:
        with bench.boot(f"{filesystem}-{number}") as machine:
            seen = len(_complaints(bench, machine))
            while todo:
                workload, switch = todo[0]
                fate = fates[Mutant(switch, filesystem)]
                ran = True
                complete = _try(bench, machine, workload, fate, trials)
                splats = _complaints(bench, machine)
                if len(splats) > seen:
                    # What has complained once is not asked again.
                    fate.killed_by.setdefault(workload, splats[seen].title)
                    complete = False
                todo.pop(0)
                yield workload, switch
                if not complete:
                    return
    except HarnessError as error:
        if not ran or not todo:
            raise
        workload, switch = todo.pop(0)
        fate = fates[Mutant(switch, filesystem)]
        _note(fate, workload)
        fate.killed_by[workload] = f"the machine went down: {error.message}"
        yield workload, switch


def _note(fate: Fate, workload: str) -> None:
    if workload not in fate.ran:
        fate.ran.append(workload)


def _try(bench: Bench, machine: Guest, workload: str, fate: Fate, trials: int) -> bool:
    """Runs one reproducer on a fresh file system; whether the machine is fit for more."""
    entry = bench.cfg.workload[workload]
    filesystem = bench.cfg.filesystem[fate.mutant.filesystem]
    switch = "" if fate.mutant.switch == OFF else fate.mutant.switch
    name = plans.cell_name(
        bench.kernel, fate.mutant.filesystem, workload, fate.mutant.switch
    )
    cell = Cell(
        kernel=bench.kernel,
        role="control",
        filesystem=fate.mutant.filesystem,
        workload=workload,
        switch=switch,
        windows=tuple(entry.windows.get(filesystem.type, ())),
        trials=trials,
        seed=plans.cell_seed(bench.seed, name),
    )
    job = Job(cell, filesystem, entry, bench.cpus, bench.release, _LIMIT_S, bench.emulated)
    machine.run(f"umount {MOUNT_POINT}")  # fails before the first
    _note(fate, workload)
    try:
        prepare(job, machine)
    except UntestableError as why:
        fate.untested[workload] = str(why)
        return False
    reader = Reader(trials)
    seen = []
    done = machine.run(
        cells_room.command(job) + " --first",
        job.timeout_s,
        lambda line: seen.append(trial) if (trial := reader.feed(line)) else None,
    )
    fate.trials += len(seen)
    exposed = [trial.why for trial in seen if trial.outcome == "exposed"]
    held = [trial for trial in seen if trial.outcome == "held"]
    if exposed:
        fate.killed_by[workload] = exposed[0]
    elif not held:
        told = reader.skip or reader.bail or next((each.why for each in seen), done.stderr.strip())
        fate.untested[workload] = told or f"exited with status {done.status}"
    return done.status in cells_room.EXIT_STATUS


def kernel_of(cfg: Config, plan: str) -> str:
    """The control kernel of a plan; UsageError if it has none."""
    for name in cfg.plan[plan].kernels:
        if cfg.kernel[name].role == "control":
            return name
    raise UsageError(
        f"plan {plan!r} has no kernel of role 'control', which mutants are made of",
        hint="harness list",
    )
