# SPDX-License-Identifier: GPL-2.0
"""A cell's machine that is told at its start what it will be asked (guest/replay.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from harness.config import Config, RunMode
from harness.errors import UsageError
from harness.experiment.cell import command
from harness.experiment.plan import program_key, replays
from harness.experiment.preflight import Job, commands
from harness.guest.spec import MachineSpec, Told

# What `run --mode replay` takes: the boot spends fewest instructions on waiting, and a timer
# of 100 us still leaves a CPU thousands of them.
SHIFT = 5


def check_replay(cfg: Config, modes: Sequence[RunMode], budget_s: float | None) -> None:
    """UsageError for what `run --mode replay` cannot have."""
    if not replays(modes):
        return
    if cfg.executor.kind != "local":
        raise UsageError(
            "--mode replay: its machines run on this host",
            hint="take [executor] out of harness.toml",
        )
    if budget_s is not None:
        raise UsageError(
            "--mode replay: a budget is time of the host, which would change what is run",
            hint="give --trials instead",
        )


def told(job: Job, spec: MachineSpec, shift: int = SHIFT) -> MachineSpec:
    """`spec` for a replay machine that does what the job takes, with no other program in it."""
    keys = ("preflight", program_key(job.workload.source))
    return dataclasses.replace(
        spec,
        programs={key: spec.programs[key] for key in keys},
        told=Told([*commands(job), command(job)], shift, job.timeout_s),
    )
