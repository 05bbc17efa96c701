# SPDX-License-Identifier: GPL-2.0
"""One cell in one machine: boot, file system, preflight, reproducer, console scan.

Every cell has a boot of its own, so that no cell inherits another one's damage
and each cell directory holds the whole story.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from harness.errors import BootError, HarnessError, MachineLostError, WorkloadTimeoutError
from harness.events import Event, Listener
from harness.experiment import store
from harness.experiment.allow import Allowed, divide
from harness.experiment.plan import Cell, program_key
from harness.experiment.preflight import (
    LIMIT_S,
    MOUNT_POINT,
    Guest,
    Job,
    UntestableError,
    commands,
    ended,
    heard,
    not_prepared,
)
from harness.experiment.trial import Outcome, Reader, Trial
from harness.experiment.verdict import Evidence
from harness.guest import hang, splat
from harness.guest.machine import Completed
from harness.guest.script import script, stopped_at
from harness.guest.splat import Splat
from harness.guest.symbols import decoded, where

# The reproducer's contract: all held, at least one exposed, nothing testable.
EXIT_STATUS = {0: "held", 1: "exposed", 4: "untested"}
_SHARED = re.compile(r"^\d{3}-[\w.-]+: ")  # the name of a machine that cells share
# Kinds of splat that say "stuck", not "broken".
HANGS = frozenset({"hung_task", "soft_lockup", "hard_lockup", "rcu_stall"})


class _EnoughError(Exception):
    """What has been seen is all that was wanted."""


@dataclass
class Attempt:
    """What one boot of a cell brought: trials, and everything seen around them."""

    trials: list[Trial] = field(default_factory=list)
    splats: list[Splat] = field(default_factory=list)
    allowed: list[Allowed] = field(default_factory=list)  # by harness.toml: no splats
    fate: Outcome | None = None  # what became of a machine that died
    death: str = ""  # and what was seen of it
    faults: list[str] = field(default_factory=list)
    untested: str = ""
    error: HarnessError | None = None  # that ended the attempt
    booted: bool = False
    started: bool = False  # preflight was well, and the reproducer's turn has come
    announced: str = ""  # preflight's line
    # Bytes of the console that count: on a guest that was not what was asked the reproducer
    # runs until it is stopped, and what the kernel says to that answers nothing.
    until: int | None = None
    began: bool = False  # a trial was under way
    completed: bool = False  # the reproducer ended by itself
    header: dict[str, Any] | None = None
    preflight: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)
    planned: int | None = None  # trials that it had the time for
    emulator: str = ""  # what QEMU itself did wrong: then the kernel is not to blame
    wall: dict[str, float] = field(default_factory=dict)  # seconds per stage

    @property
    def boot_failed(self) -> bool:
        """The kernel never reached user space: its own fault."""
        return isinstance(self.error, BootError) and not self.emulator

    @property
    def never_ran(self) -> bool:
        """No trial ran, and the kernel is not to blame: the cell may be run once more."""
        return (
            bool(self.error or self.faults)
            and not (self.trials or self.completed or self.boot_failed)
            and self.fate in (None, "lost")
        )

    def evidence(self, control_fired: bool) -> Evidence:
        """What verdict.judge() wants to know."""
        return Evidence(
            # A kernel that does not boot could not be tested; its splats are kept
            # in splats/, but they are no answer to the race's question.
            splats=() if self.boot_failed or self.emulator else [s.title for s in self.splats],
            fate=self.fate,
            death=self.death,
            faults=self.faults,
            untested=self.untested,
            control_fired=control_fired,
            planned=self.planned,
        )


def run(job: Job, machine: Guest, directory: Path, listen: Listener) -> Attempt:
    """Boots `machine`, runs the cell's trials, closes it, and scans its whole console.

    Writes trials.jsonl, output.txt, dmesg.txt and splats/ in `directory` (the
    machine writes console.log and qemu-cmd there).  What goes wrong in the guest
    or with it is told in the Attempt; raises store.DiskFullError when results
    cannot be written, and lets KeyboardInterrupt through with the machine closed.
    """
    attempt = Attempt()
    reader = Reader(job.cell.trials, early=job.seconds is not None)
    with (
        store.LineFile(directory / "trials.jsonl") as trials,
        store.LineFile(directory / "output.txt") as output,
    ):

        def record(trial: Trial) -> None:
            attempt.trials.append(trial)
            trials.append(json.dumps(trial.to_json()))
            _tell(listen, job.cell, attempt)

        def on_line(line: str) -> float | None:
            if not attempt.started:
                return prepared(line)
            output.append(line)
            trial = reader.feed(line)
            attempt.began = reader.began
            if trial is not None:
                record(trial)
                if job.enough(trial):
                    raise _EnoughError
            return None

        def prepared(line: str) -> float | None:
            try:
                attempt.preflight = heard(job, line)
            except UntestableError:
                attempt.until = len(machine.console())
                raise
            if attempt.preflight is None:
                return None
            attempt.started, attempt.announced = True, line
            stages.next("trials")
            running = {"state": "running"}
            listen(Event("cell", job.cell.name, "trials begin", data=running))
            return job.timeout_s

        dmesg = ""
        try:
            with machine:
                attempt.booted = True
                whole = [*commands(job), command(job)]
                try:
                    with _Stages(attempt.wall, "prepare") as stages:
                        done = machine.run(script(whole), LIMIT_S, on_line)
                except _EnoughError:  # the machine ends with what still runs in it
                    reader.enough()
                    attempt.completed = True
                else:
                    done, made = stopped_at(whole, done), done
                    if not attempt.started or (done.status != 0 and done.argv != whole[-1]):
                        attempt.started = False
                        raise not_prepared(whole, made)
                    for line in done.stderr.splitlines():
                        output.append(f"stderr: {line}")
                    attempt.completed = True
                    # Its own words only.
                    said = done.stdout.partition(attempt.announced)[2]
                    _judge_exit(dataclasses.replace(done, stdout=said), reader, attempt)
                dmesg = machine.dmesg()
        except UntestableError as why:
            attempt.untested, attempt.preflight = str(why), why.seen
        except store.DiskFullError:
            raise
        except HarnessError as error:
            attempt.error = error
        except Exception as error:
            # A bug of ours must not cost the cells that are still to come.
            attempt.faults.append(f"internal error: {type(error).__name__}: {error}")
            listen(Event("note", job.cell.name, traceback.format_exc()))
        attempt.wall.update({stage: round(s, 3) for stage, s in machine.wall.items()})
        _scan(job, machine, dmesg, attempt)
        _settle(job.cell, attempt, reader, record)
    attempt.header, attempt.problems = reader.header, reader.problems
    attempt.planned = reader.expected
    if reader.skip is not None and not attempt.trials:
        attempt.untested = reader.skip
    _check_header(job.cell, attempt)
    if dmesg:
        store.write_text(directory / "dmesg.txt", dmesg)
    if attempt.error is not None:
        told = [attempt.error.message, attempt.error.hint, attempt.error.detail]
        if isinstance(attempt.error, MachineLostError) and attempt.error.completed:
            told.append(attempt.error.completed.stderr)
        store.write_text(directory / "error.txt", "\n".join(filter(None, told)) + "\n")
        _write_hang(directory, attempt.error.evidence)
    write_splats(directory, attempt)
    return attempt


def command(job: Job) -> str:
    """The reproducer's command line in the guest, quoted for its shell."""
    cell = job.cell
    argv = [f"/workloads/{program_key(job.workload.source)}", "--dir", MOUNT_POINT]
    argv += ["--trials", str(cell.trials), "--seed", str(cell.seed)]
    if job.seconds is not None:
        argv += ["--limit", f"{job.seconds:.2f}", "--at-least", str(cell.fewest)]
    if cell.switch:
        argv += ["--switch", cell.switch]
    for window in cell.windows:
        argv += ["--window", window.argument]
    return shlex.join([*argv, *job.workload.args])


def _judge_exit(done: Completed, reader: Reader, attempt: Attempt) -> None:
    """Whether the program's end fits what it reported."""
    exposed = any(trial.outcome == "exposed" for trial in attempt.trials)
    if done.status not in EXIT_STATUS:
        attempt.faults.append(f"the reproducer {ended(done)}")
    elif (done.status == 1) != exposed:
        seen = "an exposure" if exposed else "no exposure"
        attempt.faults.append(
            f"the reproducer exited with {done.status} ({EXIT_STATUS[done.status]})"
            f" but reported {seen}"
        )
    elif done.status == 4 and not attempt.trials and reader.skip is None:
        reader.skip = f"the reproducer {ended(done)}"


def _scan(job: Job, machine: Guest, dmesg: str, attempt: Attempt) -> None:
    """Splats of the whole console; a scan that could not run is a fault of the cell.

    dmesg is scanned too: what is below the console's log level is only there.
    """
    try:
        if attempt.until is None:
            found = [*machine.splats(), *splat.scan(dmesg.encode())]
        else:
            found = splat.scan(machine.console()[: attempt.until])
        if job.emulated:
            attempt.emulator = splat.emulator_fault(machine.console())
    except Exception as error:
        if attempt.booted or not isinstance(error, HarnessError | OSError):
            attempt.faults.append(f"the console could not be scanned: {error}")
        return
    unique = list({(each.kind, each.title): each for each in reversed(found)}.values())
    told = decoded(unique[::-1], job.symbols, job.stopped)
    attempt.splats, attempt.allowed = divide(told, job.allow)


def _settle(
    cell: Cell, attempt: Attempt, reader: Reader, record: Callable[[Trial], None]
) -> None:
    """What an attempt's end means: the fate of the machine, and the trials still owed."""
    error = attempt.error
    if attempt.untested:
        return
    if error is None:
        attempt.faults += [attempt.emulator] if attempt.emulator else []
    else:
        said = error.message.removeprefix(f"{cell.name}: ")  # the reader knows the cell ...
        said = _SHARED.sub("", said)  # ... and need not know its machine
        if attempt.boot_failed:
            attempt.untested = f"did not boot: {said}"
            return
        if isinstance(error, MachineLostError):
            attempt.fate, attempt.death = _fate(error, attempt), said
        if attempt.fate in (None, "lost"):
            attempt.faults.append(said)
    owed: list[Trial] = []
    if attempt.completed:
        owed = reader.end()
    elif attempt.began or (attempt.started and attempt.fate in ("crashed", "hung")):
        # Its first lines come with the end of trial 1 (a pipe is buffered), so a
        # silent reproducer may have been in it: believed when the kernel died.
        why = attempt.death or "; ".join(attempt.faults)
        owed = reader.end(attempt.fate or "lost", why)
    for trial in owed:
        record(trial)


def _fate(error: MachineLostError, attempt: Attempt) -> Outcome:
    """A machine that died: by its kernel's hand, by hanging, or by our own fault."""
    splats = attempt.splats
    if attempt.emulator:
        return "lost"
    if isinstance(error, WorkloadTimeoutError):
        return "hung" if all(each.kind in HANGS for each in splats) else "crashed"
    return "crashed" if splats else "lost"


def _check_header(cell: Cell, attempt: Attempt) -> None:
    """The reproducer's account of its settings against what it was told."""
    header = attempt.header or {}
    asked = {
        "switches": sorted(filter(None, cell.switch.split("+"))),
        "windows": {window.name: window.delay_us for window in cell.windows},
        "seed": cell.seed,
    }
    for key, value in asked.items():
        if key not in header:
            continue
        said = header[key]
        if key == "switches" and isinstance(said, list):
            said = sorted(map(str, said))
        if said != value:
            attempt.faults.append(f"the reproducer ran with {key} {said!r}, asked for {value!r}")


class _Stages:
    """Seconds of each stage, from one to the next to the end of the block."""

    def __init__(self, wall: dict[str, float], first: str) -> None:
        self._wall, self._stage, self._since = wall, first, time.monotonic()

    def next(self, stage: str) -> None:
        """The one that was is over."""
        now = time.monotonic()
        self._wall[self._stage] = round(now - self._since, 3)
        self._stage, self._since = stage, now

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.next("")


def _tell(listen: Listener, cell: Cell, attempt: Attempt) -> None:
    exposed = sum(trial.outcome == "exposed" for trial in attempt.trials)
    last = attempt.trials[-1]
    listen(
        Event(
            "trial",
            cell.name,
            f"{last.outcome}{': ' + last.why if last.why else ''}",
            done=len(attempt.trials),
            total=cell.trials,
            data={"outcome": last.outcome, "exposed": exposed},
        )
    )


def _write_hang(directory: Path, evidence: hang.Evidence | None) -> None:
    """hang/: who waits for what, and what was asked to know it."""
    if evidence is None:
        return
    place = directory / "hang"
    with store.writing(directory):
        place.mkdir(exist_ok=True)
    store.write_text(place / "who.txt", f"{evidence.summary or 'nobody could say'}\n")
    for name, text in evidence.files.items():
        store.write_text(place / name, text)
    if evidence.core is not None:
        with store.writing(directory):
            shutil.move(evidence.core, place / "core")


def write_splats(directory: Path, attempt: Attempt) -> None:
    """splats/: each complaint with its place, those that are allowed with the reason."""
    told = [(each, "") for each in attempt.splats]
    told += [(each.splat, f"allowed: {each.reason}\n") for each in attempt.allowed]
    if not told:
        return
    place = directory / "splats"
    with store.writing(directory):
        place.mkdir(exist_ok=True)
    for number, (each, why) in enumerate(told, 1):
        at = f"at {line}\n" if (line := where(each)) else ""
        text = f"{each.title}\n{at}{why}\n{each.text}\n"
        store.write_text(place / f"{number:02}-{each.kind}.txt", text)
