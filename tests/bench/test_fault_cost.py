# SPDX-License-Identifier: GPL-2.0
"""What the range lock adds to a cold fault, in guest instructions.

Under -icount the guest's clock counts instructions: a busy host changes nothing,
and two boots of a kernel give the same figure.  The fault is in a hole, where
nothing is read, so that the lock is as large a share as it can be.  Cache misses
are not modelled.  Run it with `make bench`; the table is in docs/range-lock.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.experiment.preflight import MOUNT_POINT
from harness.guest import qemu
from tests.vm.conftest import Lab

KERNELS = ("stock", "candidate-tree", "candidate")
WORST_RATIO = 1.01  # of candidate to stock

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

COMMAND = qemu.command


def counted(**given: Any) -> list[str]:
    """The usual command line, with a clock that counts instructions."""
    argv = COMMAND(**given)
    argv[argv.index("-accel") + 1] = "tcg,thread=single"
    argv[argv.index("-cpu") + 1] = "qemu64,-rdrand"
    return [*argv, "-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm"]


def instructions(lab: Lab, kernel: str, filesystem: str, place: Path) -> int:
    """Of the median cold fault in the first trial after a boot."""
    with lab.machine(kernel, place) as guest:
        lab.mount(guest, filesystem)
        done = guest.run(
            f"/workloads/bench/fault-cold --threads 1 --trials 1 --dir {MOUNT_POINT}",
            timeout_s=120,
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith('# {"trial"')]
    assert lines, f"{done.stdout}{done.stderr}"
    return int(json.loads(lines[0][2:])["hole_1_p50_ns"])


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_a_fault_costs_no_more_than_with_an_rwsem(
    lab: Lab,
    filesystem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(qemu, "command", counted)
    cost = {kernel: instructions(lab, kernel, filesystem, tmp_path / kernel) for kernel in KERNELS}
    with capsys.disabled():
        for kernel, count in cost.items():
            print(f"\n{filesystem:5} {kernel:15} {count}, {count / cost['stock']:.4f}", end="")
    assert cost["candidate"] <= WORST_RATIO * cost["stock"]
    assert cost["candidate"] < cost["candidate-tree"], "the fast path has no reason to be"
