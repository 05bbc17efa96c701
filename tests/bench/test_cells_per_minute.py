# SPDX-License-Identifier: GPL-2.0
"""Cells per minute of plan default, where machines go from cell to cell and where they do not.

One kernel, one file system, few trials: what is left is what a cell costs beside its trials.
Run it with `make bench`; it builds the kernel first if it must.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config import load
from harness.kernel import build
from harness.places import cache_dir
from tests.bench import bare
from tests.vm.conftest import ROOT

# Its cells stand on their own: as expected when they fire, and then the machine stays.
KERNEL = "control"
TRIALS = "12"
SHARED = "cells_per_boot = 16\nmodes = "
# A boot of three seconds is saved for fifteen cells of sixteen; a cell of these takes about as
# long without it.
AT_LEAST = 1.2

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


def cells_per_minute(place: Path, changed: str) -> float:
    """Of a run of the plan in a checkout whose harness.toml is `changed`."""
    root = bare.checkout(place, changed, "vm", "workloads", "patches")
    done = bare.harness(root, "run", "default", "-k", KERNEL, "-f", "ext4", "--mode", "armed",
                        "--trials", TRIALS)  # fmt: skip
    document = json.loads((place / "results/latest/run.json").read_text())
    # So few trials prove little, and the exit code may say so.
    assert document["status"] == "finished" and not document["not_run"], done.stdout[-3000:]
    return float(60.0 * len(document["cells"]) / document["seconds"])


def test_a_machine_for_many_cells_pays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.ensure(KERNEL, load(ROOT / "harness.toml"), cache_dir())
    text = (ROOT / "harness.toml").read_text()
    assert text.count(SHARED) == 1
    each = text.replace(SHARED, SHARED.replace("16", "1"))
    shared = cells_per_minute(tmp_path / "shared", text)
    own = cells_per_minute(tmp_path / "own", each)
    with capsys.disabled():
        print(f"\ncells per minute: {shared:.1f}; with a boot for each {own:.1f}", end="")
        print(f"\nratio {shared / own:.2f}, at least {AT_LEAST}")
    assert shared >= AT_LEAST * own
