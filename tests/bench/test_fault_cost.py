# SPDX-License-Identifier: GPL-2.0
"""What the range lock adds to a cold fault, in guest instructions.

Under -icount the guest's clock counts instructions: a busy host changes nothing,
and two boots of a kernel give the same figure.  The fault is in a hole, where
nothing is read, so that the lock is as large a share as it can be.  Cache misses
are not modelled.  Run it with `make bench`; the table is in docs/range-lock.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.events import silent
from harness.experiment.bench import measure
from harness.guest.machine import Machine, MachineSpec
from tests.vm.conftest import Lab

KERNELS = ("stock", "candidate-tree", "candidate")
WORST_RATIO = 1.01  # of candidate to stock

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


def instructions(lab: Lab, kernel: str, filesystem: str, place: Path) -> float:
    """Of the median cold fault in the first trial after a boot."""

    def machine(spec: MachineSpec, directory: Path, name: str) -> Machine:
        return Machine(spec, directory, lab.cfg.root, lab.cache, name=name)

    figures = measure(
        lab.cfg, lab.image(kernel), "small", ["fault-cold"], [filesystem], lab.programs, place,
        machine, silent,
    )  # fmt: skip
    found = {figure.name: figure.value for figure in figures}
    return found[f"fault-cold/{filesystem}/hole_1_p50_ns"]


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_a_fault_costs_no_more_than_with_an_rwsem(
    lab: Lab, filesystem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cost = {kernel: instructions(lab, kernel, filesystem, tmp_path / kernel) for kernel in KERNELS}
    with capsys.disabled():
        for kernel, count in cost.items():
            print(f"\n{filesystem:5} {kernel:15} {count:.0f}, {count / cost['stock']:.4f}", end="")
    assert cost["candidate"] <= WORST_RATIO * cost["stock"]
    assert cost["candidate"] < cost["candidate-tree"], "the fast path has no reason to be"
