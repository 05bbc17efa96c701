# SPDX-License-Identifier: GPL-2.0
"""What run.json tells of a cell and of what it ran on, so that others can judge and repeat it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from email.errors import MessageError
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from harness.config import Config, Guest, Plan, Tree
from harness.errors import UsageError
from harness.experiment.cell import Attempt
from harness.experiment.plan import Cell, replays
from harness.experiment.statistics import trials_needed
from harness.experiment.verdict import Verdict
from harness.guest.qemu import PROGRAM
from harness.guest.symbols import where
from harness.kernel import series
from harness.kernel.build import Image


def entry(cell: Cell, verdict: Verdict, attempt: Attempt) -> dict[str, Any]:
    """The entry of a cell under "cells"."""
    return {
        "name": cell.name,
        "kernel": cell.kernel,
        "role": cell.role,
        "tree": cell.tree,
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
    # A kernel that was named need not be in the plan.
    named = document.get("filters", {}).get("kernels", ())
    for kernel in dict.fromkeys([*cfg.plan[document["plan"]].kernels, *named]):
        entry = cfg.kernel[kernel]
        if kernel == cell.kernel or (entry.role in firing and entry.tree == cell.tree):
            argv += ["-k", kernel]
    argv += ["-f", cell.filesystem, "-w", cell.workload]
    if cell.needs_fire and cell.min_rate < 1:
        # --trials is for all cells, and fewer cannot show the rate.
        trials = max(trials, trials_needed(cell.min_rate))
    if replays(document.get("filters", {}).get("modes", ())):
        argv += ["--mode", "replay"]
    elif len(cfg.plan[document["plan"]].modes) > 1 and not (cell.needs_fire and not cell.armed):
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
    tree = cfg.tree[name := cfg.kernel[image.kernel].tree]
    return {**values, "tree": name, "source": _source(tree), "patches": _patches(image, tree, cfg)}


def _source(tree: Tree) -> str:
    what = {"debian": tree.package, "git": f"{tree.url} {tree.ref}"}.get(tree.kind, tree.path)
    return f"{tree.kind}: {what}"


def _patches(image: Image, tree: Tree, cfg: Config) -> list[dict[str, str]]:
    """Subject and sha256 of each patch; none where the files are gone since the build."""
    found = []
    for name in image.series:
        try:
            for path in series.patches(name, tree.line, cfg.root):
                content = path.read_bytes()
                patch = {"series": name, "file": path.name, "subject": _subject(content)}
                found.append({**patch, "hash": hashlib.sha256(content).hexdigest()[:12]})
        except (UsageError, OSError):
            continue
    return found


def _subject(patch: bytes) -> str:
    """What the patch does, of a mail that git format-patch wrote."""
    said = str(BytesHeaderParser().parsebytes(patch)["subject"] or "")
    with contextlib.suppress(MessageError, LookupError, ValueError):
        said = str(make_header(decode_header(said)))
    return re.sub(r"^\[[^]]*\] *", "", " ".join(said.split()))


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


def qemu() -> str:
    """The emulator's own account of its version; "" when it has none."""
    try:
        done = subprocess.run(
            [PROGRAM, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.split("\n", 1)[0].strip()


def load() -> float:
    """The host's load average over a minute: a busy host shifts every race."""
    return round(os.getloadavg()[0], 2)
