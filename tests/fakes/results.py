# SPDX-License-Identifier: GPL-2.0
"""Runs with every kind of verdict, written by the project's own runner on fake machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.config import Config
from harness.errors import InfraError, WorkloadTimeoutError
from harness.events import silent
from harness.experiment import facts, store
from harness.experiment.mutants import Fate, Matrix, Mutant
from harness.experiment.runner import run_plan
from harness.guest.hang import Evidence
from harness.guest.splat import Splat
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab, Script, image

# What a guest may write to spoil a page, a terminal or a parser.
HOSTILE = "<script>alert(1)</script> \x1b[31m&amp; ]]> ok 1 fake\udce9 # SKIP"
OOPS = Splat(
    "kasan",
    "KASAN: use-after-free in filemap_fault <b>bold</b>",
    "BUG: KASAN: use-after-free in filemap_fault+0x12/0x340 (mm/filemap.c:3321)\n"
    f"Read of size 8 by task punch/74 {HOSTILE}\nCall Trace:\n <TASK>\n"
    " filemap_fault+0x12/0x340 (mm/filemap.c:3321)\n </TASK>",
)
STUCK = Splat("hung_task", "INFO: task punch blocked in down_write_range", "INFO: task punch:74")
CONSOLE = (
    "".join(f"[    1.{n:06}] line {n} of the boot\r\n" for n in range(200))
    + "[    2.000001] BUG: KASAN: use-after-free in filemap_fault+0x12/0x340\r\n"
    + f"[    2.000002] {HOSTILE}\r\n"
    + "[    2.000003] "
    + "x" * 5000
    + "\r\n"
).encode("utf-8", "surrogateescape")
WAITS = "punch (74) waits in range_lock for [0, 4095] held by kworker (9)"
PATCH = """\
From 1234567890123456789012345678901234567890 Mon Sep 17 00:00:00 2001
From: A Developer <a@example.org>
Date: Mon, 23 Nov 2026 08:41:29 +0000
Subject: [PATCH 1/1] mm: lock only the range of
 a fault <now>

Body.
---
"""

EXPOSED, CRASHED = "stock/ext4/plain", "candidate/ext4/punch"
HUNG, UNTESTED, LOST = "candidate/ext4/splice", "stock/ext4/punch", "candidate/xfs/punch"
FIRES = "stock/ext4/dio"
SILENT = "control/xfs/punch@fault"


@dataclass(frozen=True)
class Results:
    """A directory results/ in `root`."""

    root: Path
    finished: Path  # exposed, held, crashed, hung, untested and lost cells
    interrupted: Path  # and cells that were not run
    mutants: str  # the name of the kill matrix beside them


def make(root: Path) -> Results:
    """Fills root/results/; the runs are the same whenever and wherever they are made."""
    cfg = _config(root)
    results = root / "results"
    finished, code = run_plan(
        cfg, "quick", root / "cache", results, silent, jobs=2, rooms=_troubled().rooms()
    )
    assert code == 1
    stopped = Lab(**{"stock/ext4/plain": Script(dies=KeyboardInterrupt(), after=9)})
    interrupted, code = run_plan(
        cfg, "quick", root / "cache", results, silent, jobs=1, rooms=stopped.rooms()
    )
    assert code == 130
    return Results(
        root, finished.directory, interrupted.directory, _mutants(cfg, root / "cache", results)
    )


def _config(root: Path) -> Config:
    folder = root / "patches" / "range" / "6.12"
    folder.mkdir(parents=True)
    (folder / "series").write_text("0001-mm.patch\n")
    (folder / "0001-mm.patch").write_text(PATCH)
    cfg = config(root, workloads=["punch", "plain", "dio", "splice"])
    kernels = dict(cfg.kernel)
    kernels["candidate"] = msgspec.structs.replace(kernels["candidate"], series=["range"])
    for name, options in (
        ("stock", "CONFIG_A=y\n# CONFIG_RANGE is not set\n"),
        ("control", "CONFIG_A=y\n"),
        ("candidate", "CONFIG_A=m\nCONFIG_RANGE=y\n"),
    ):
        dotconfig = root / "cache" / name / ".config"
        dotconfig.parent.mkdir(parents=True)
        dotconfig.write_text(options)
    return msgspec.structs.replace(cfg, kernel=kernels)


def _troubled() -> Lab:
    """Machines on which everything goes wrong that a verdict has a word for."""
    hung = WorkloadTimeoutError("the workload did not end in 60 s")
    hung.evidence = Evidence(
        summary=WAITS, files={"stacks.txt": f"punch (74):\n range_lock+0x1/0x2\n{HOSTILE}\n"}
    )
    lab = Lab(
        **{
            EXPOSED: Script(outcomes=lambda n, _on: "exposed" if n % 5 == 0 else "held"),
            CRASHED: Script(splats=[OOPS], console=CONSOLE),
            HUNG: Script(dies=hung, after=5, splats=[STUCK]),
            UNTESTED: Script(preflight={"cpus_online": 1}),
            LOST: Script(dies=InfraError(f"the host cannot write {HOSTILE}"), after=30),
            SILENT: Script(outcomes=lambda _n, _on: "held"),
        }
    )
    fires = Script(
        outcomes=lambda _n, _on: "exposed",
        data={"order": "overlap", "way": "aligned", "why": f"old data {HOSTILE}"},
    )
    lab.scripts[FIRES] = [fires]
    return lab


def _mutants(cfg: Config, cache: Path, results: Path) -> str:
    """As `harness mutants` keeps it, with a survivor and a false alarm."""
    kept = store.Run(results, "mutants-quick")
    fates = [
        Fate(Mutant("fault", "ext4"), ["punch", "plain"], {"punch": f"old data {HOSTILE}"}, {}, 3),
        Fate(Mutant("mkwrite", "ext4"), ["punch", "plain"], {}, {"plain": "not reached"}, 6),
        Fate(Mutant("off", "ext4"), ["punch", "plain"], {"plain": "old data"}, {}, 4),
    ]
    document = {
        "run": kept.id,
        "plan": "quick",
        "trials": 3,
        "seed": 1,
        "host": facts.host(),
        "kernel": facts.kernel(image("control", cfg, cache), cfg),
        **Matrix(fates).to_json(),
    }
    store.write_json(kept.directory / "mutants.json", document)
    kept.close()
    return kept.id
