# SPDX-License-Identifier: GPL-2.0
"""No false report: debug kernels that boot and use each file system say nothing.

Slow, and no part of `make test`:  .venv/bin/pytest -m slow tests/faults/test_clean_boots.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import load
from harness.each_patch import smoke
from harness.guest.machine import Machine, MachineSpec
from harness.guest.qemu import probe_accelerator
from harness.guest.splat import emulator_fault, scan
from harness.kernel.build import ensure
from harness.places import cache_dir
from tests.faults.conftest import ROWS, Row

ROOT = Path(__file__).parents[2]
BOOTS = 10
KERNELS = ("candidate-lockdep", "candidate-kasan", "provoke", "provoke-debug", "provoke-kcsan")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 * 60)]


@pytest.mark.parametrize("number", range(1, BOOTS + 1))
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_clean_boot_is_clean(kernel: str, number: int, tmp_path: Path) -> None:
    cfg, cache = load(ROOT / "harness.toml"), cache_dir()
    accelerator = probe_accelerator("auto")
    spec = MachineSpec.of(
        cfg.guest["debug"], ensure(kernel, cfg, cache).bzimage, accelerator, programs={}
    )
    with Machine(spec, tmp_path, cfg.root, cache, name=kernel) as machine:
        for filesystem in cfg.filesystem.values():
            done = machine.run(smoke(filesystem))
            assert done.status == 0, done.stderr
        dmesg = machine.dmesg()
    assert emulator_fault(machine.console()) == ""
    assert [each.title for each in (*machine.splats(), *scan(dmesg.encode()))] == []
    if number == BOOTS:
        seen = f"no report in {BOOTS} boots"
        ROWS.append(Row(f"nothing, on {kernel}", "no report", seen, "console.log", BOOTS))
