# SPDX-License-Identifier: GPL-2.0
"""A cell over several boots: each boot is one cluster of trials that resemble each other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.experiment import store
from harness.experiment.cell import Attempt
from harness.experiment.plan import Cell, cell_seed
from harness.experiment.trial import Trial


def parts(cell: Cell, boots: int) -> Iterator[Cell]:
    """The same cell once for each boot: its trials shared out, each with a seed of its own.

    A cell of fewer trials than boots has a boot for each trial.
    """
    boots = min(boots, cell.trials)
    for number in range(boots):
        trials = cell.trials * (number + 1) // boots - cell.trials * number // boots
        yield dataclasses.replace(
            cell, trials=trials, seed=cell_seed(cell.seed, f"boot {number + 1}")
        )


def merge(attempts: Sequence[Attempt]) -> Attempt:
    """What all boots of a cell brought, as if it had been one.

    Trials are numbered on, each says its boot; whatever went wrong in any of them is
    what went wrong.  The others' fields are the first one's.
    """
    if len(attempts) == 1:
        return attempts[0]
    whole = dataclasses.replace(
        attempts[0], trials=[], splats=[], allowed=[], faults=[], problems=[], wall={}
    )
    for boot, attempt in enumerate(attempts, 1):
        for trial in attempt.trials:
            number = len(whole.trials) + 1
            whole.trials.append(
                Trial(number, trial.outcome, trial.window_hits, trial.why,
                      {**trial.data, "boot": boot})
            )  # fmt: skip
        whole.splats += attempt.splats
        whole.allowed += attempt.allowed
        whole.faults += [f"boot {boot}: {fault}" for fault in attempt.faults]
        whole.problems += [f"boot {boot}: {problem}" for problem in attempt.problems]
        for stage, seconds in attempt.wall.items():
            whole.wall[stage] = round(whole.wall.get(stage, 0.0) + seconds, 3)
        whole.fate = whole.fate or attempt.fate
        whole.death = whole.death or attempt.death
        whole.untested = whole.untested or attempt.untested
        whole.error = whole.error or attempt.error
        whole.emulator = whole.emulator or attempt.emulator
    whole.completed = all(attempt.completed for attempt in attempts)
    whole.booted = any(attempt.booted for attempt in attempts)
    whole.planned = sum(attempt.planned or 0 for attempt in attempts)
    return whole


def write_trials(directory: Path, trials: Sequence[Trial]) -> None:
    """trials.jsonl of the whole cell, beside those of its boots."""
    text = "".join(json.dumps(trial.to_json()) + "\n" for trial in trials)
    store.write_text(directory / "trials.jsonl", text)
