# SPDX-License-Identifier: GPL-2.0
"""What run.json tells of a cell and of what it ran on, so that others can judge and repeat it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.config import Config, Guest, Plan
from harness.experiment.cell import Attempt
from harness.experiment.plan import Cell
from harness.experiment.statistics import trials_needed
from harness.experiment.verdict import Verdict
from harness.guest.symbols import where
from harness.kernel.build import Image


def entry(cell: Cell, verdict: Verdict, attempt: Attempt) -> dict[str, Any]:
    """The entry of a cell under "cells"."""
    return {
        "name": cell.name,
        "kernel": cell.kernel,
        "role": cell.role,
        "filesystem": cell.filesystem,
        "workload": cell.workload,
        "kind": cell.kind,
        "switch": cell.variant or None,
        "armed": cell.armed,
        "window": cell.window,
        "windows": [
            {
                "name": window.name,
                "delay_us": window.delay_us,
                "probability": window.probability,
                "partner": window.partner or None,
                "attempt": window.attempt or None,
            }
            for window in cell.windows
        ],
        "planned": cell.trials,
        "seed": cell.seed,
        "must_fire": cell.must_fire,
        "may_fire": cell.may_fire,
        "min_rate": cell.min_rate if cell.must_fire else None,
        "verdict": verdict.to_json(),
        "splats": [
            {
                "kind": splat.kind,
                "title": splat.title,
                "at": where(splat) or None,
                "interleaved": splat.interleaved,
            }
            for splat in attempt.splats
        ],
        "allowed": [
            {"kind": each.splat.kind, "title": each.splat.title, "reason": each.reason}
            for each in attempt.allowed
        ],
        "problems": attempt.problems,
    }


def rerun(cfg: Config, document: Mapping[str, Any], cell: Cell, trials: int) -> str:
    """The command that runs this cell again, with what its verdict depends on.

    `trials`: how many there were.  A verdict on a kernel that must hold needs the cells
    of the same file system and workload that must fire; the seed is the plan's, from
    which the cell's follows.
    """
    firing = {*cell.fires_on, "control"} if cell.needs_fire else set()
    argv = ["run", document["plan"]]
    if cfg.path.name not in ("", "harness.toml"):
        argv = ["--config", cfg.path.name, *argv]
    for kernel in dict.fromkeys(cfg.plan[document["plan"]].kernels):
        if kernel == cell.kernel or cfg.kernel[kernel].role in firing:
            argv += ["-k", kernel]
    argv += ["-f", cell.filesystem, "-w", cell.workload]
    if cell.needs_fire and cell.min_rate < 1:
        # --trials is for all cells, and fewer cannot show the rate.
        trials = max(trials, trials_needed(cell.min_rate))
    if len(cfg.plan[document["plan"]].modes) > 1 and not (cell.needs_fire and not cell.armed):
        argv += ["--mode", "armed" if cell.armed else "unarmed"]
    argv += ["--trials", str(trials), "--seed", str(document["seed"])]
    return f"exec .venv/bin/harness {shlex.join(argv)}"


def rerun_script(cfg: Config, command: str) -> str:
    """The file "rerun": `command` in the checkout, from wherever the script is started."""
    checkout = shlex.quote(str(cfg.path.parent.absolute()))
    program = shlex.quote(str(Path(sys.prefix) / "bin" / "harness"))
    arguments = command.partition(" .venv/bin/harness ")[2]
    return (
        "#!/bin/sh\n"
        f"cd {checkout} || exit 125\n"
        f"[ -x .venv/bin/harness ] || exec {program} {arguments}\n"
        f"{command}\n"
    )


def kernel(image: Image, cfg: Config) -> dict[str, Any]:
    """The entry of a kernel under "kernels": what it was built from, and with what."""
    values = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(image).items()
    }
    return {**values, "tree": cfg.kernel[image.kernel].tree}


def guest(name: str, asked: Guest) -> dict[str, Any]:
    """The "guest": what was asked for; preflight made sure that it was given."""
    return {"name": name, **{key: getattr(asked, key) for key in asked.__struct_fields__}}


def host_cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def jobs_of(plan: Plan, guest: Guest) -> int:
    """Guests at once: what the plan says, or as many as the host has CPUs for."""
    return plan.jobs or max(1, host_cpus() // guest.cpus)


def host() -> dict[str, Any]:
    """The machine under the machines: rates are comparable only on the same one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": host_cpus(),
        "memory_mib": memory >> 20,
        "load": load(),
        "python": platform.python_version(),
    }


def load() -> float:
    """The host's load average over a minute: a busy host shifts every race."""
    return round(os.getloadavg()[0], 2)
