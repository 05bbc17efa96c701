# SPDX-License-Identifier: GPL-2.0
"""No build and no boot too many: the kernels of plan default, on fakes."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from harness.config import load
from harness.events import silent
from harness.experiment import plan
from harness.experiment.runner import run_plan
from tests.fakes.fake_machine import Lab

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_plan_builds_once_and_boots_as_little_as_it_can(tmp_path: Path, jobs: int) -> None:
    cfg = load(ROOT / "harness.toml")
    entry = cfg.plan["default"]
    # Of all cells a fifth, and enough trials for a control to be believed.
    entry = msgspec.structs.replace(
        entry, budget_s=0, jobs=jobs, filesystems=["ext4"], workloads=entry.workloads[:10],
        trials=dict.fromkeys(entry.trials, 30),
    )  # fmt: skip
    cfg = msgspec.structs.replace(cfg, plan={**cfg.plan, "default": entry})
    lab = Lab()
    lab.programs = [plan.program_key(each.source) for each in cfg.workload.values()]
    lab.programs.append("preflight")
    run, _ = run_plan(
        cfg, "default", tmp_path / "cache", tmp_path / "results", silent, jobs=jobs,
        rooms=lab.rooms(),
    )  # fmt: skip
    assert sorted(lab.built) == sorted(entry.kernels)
    document = json.loads((run.directory / "run.json").read_text())
    bad = [cell["name"] for cell in document["cells"] if not cell["verdict"]["as_expected"]]
    assert not bad, "a bad verdict ends its machine: this test needs good ones"
    kernels = Counter(cell.kernel for cell in plan.cells(cfg, "default"))
    assert sum(kernels.values()) == len(document["cells"]) > 3 * entry.cells_per_boot
    least = {name: math.ceil(cells / entry.cells_per_boot) for name, cells in kernels.items()}
    boots = Counter(name.partition("-")[2] for name in lab.booted)
    if jobs == 1:
        assert boots == least
    else:
        # Each worker may leave the last machine of a kernel early.
        assert all(least[name] <= boots[name] < least[name] + jobs for name in least)
