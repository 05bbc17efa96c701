# SPDX-License-Identifier: GPL-2.0
"""`harness bench` on real kernels: what is counted repeats, and a range lock gains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.bench import record
from harness.bench.measure import measure
from harness.bench.record import Boot, Sample
from harness.events import silent
from harness.guest.machine import Machine, MachineSpec
from harness.guest.qemu import probe_accelerator
from tests.vm.conftest import ROOT, Lab, harness

WORKLOADS = ["cold-fault", "hot-read", "fault-beside-punch"]


def boot(lab: Lab, kernel: str, number: int, place: Path) -> Sample:
    """One counted boot on ext4."""
    wanted = record.ask(lab.cfg, [kernel], ["ext4"], WORKLOADS)

    def machine(spec: MachineSpec, directory: Path, name: str) -> Machine:
        return Machine(spec, directory, lab.cfg.root, lab.cache, name=name)

    return measure(
        lab.cfg, wanted, Boot("icount", number, kernel, "ext4"), lab.image(kernel), lab.programs,
        probe_accelerator("tcg"), place, machine, silent,
    )  # fmt: skip


@pytest.fixture(scope="module")
def samples(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Sample]]:
    place = tmp_path_factory.mktemp("bench")
    return {
        kernel: [boot(lab, kernel, number + 1, place) for number in range(boots)]
        for kernel, boots in (("stock", 2), ("candidate", 1))
    }


def test_what_is_counted_is_the_same_twice(samples: dict[str, list[Sample]]) -> None:
    first, second = samples["stock"]
    for workload in ("cold-fault", "hot-read"):
        one, two = first.rows[workload], second.rows[workload]
        assert one.figures["p50_ticks"] == two.figures["p50_ticks"], workload
        assert one.histograms[0].count == two.histograms[0].count > 1000
    # Beside another CPU: to a slice.
    waits = [each.rows["fault-beside-punch"].figures["visit_p99_ns"] for each in samples["stock"]]
    assert max(waits) <= 1.05 * min(waits)


def test_a_fault_beside_a_punch_waits_for_an_rwsem_and_not_for_a_range(
    samples: dict[str, list[Sample]],
) -> None:
    stock = samples["stock"][0].rows["fault-beside-punch"].figures
    candidate = samples["candidate"][0].rows["fault-beside-punch"].figures
    assert stock["visit_p99_ns"] > 0.5 * stock["hold_p50_ns"], "stock waits for the punch"
    assert candidate["visit_p99_ns"] < 0.1 * stock["visit_p99_ns"]


def sleeps(kernel: str) -> dict[str, int]:
    """How often docs/who-waits.sh saw the visitor below a truncate on XFS in which function."""
    script = f"FS=xfs HOLDER=truncate; {(ROOT / 'docs/who-waits.sh').read_text()}"
    program = harness("boot", "--guest", "bench", kernel, "-q", "--exec", script, cwd=ROOT)
    said, _ = program.communicate(timeout=600)
    assert program.returncode == 0, said
    found: dict[str, int] = {}
    for count, function in re.findall(r"^ *([0-9]+) +(\w+)", said, re.MULTILINE):
        found[function] = found.get(function, 0) + int(count)
    return found


def test_below_a_truncate_of_xfs_what_is_left_is_the_ilock() -> None:
    stock, candidate = sleeps("stock"), sleeps("candidate")
    # down_read() is __sched, of which a stack says nothing: the caller comes first.
    assert stock["filemap_fault"] > 0 and stock["xfs_ilock_for_iomap"] > 0, stock
    assert "filemap_fault" not in candidate, candidate
    assert candidate["xfs_ilock_for_iomap"] > 0, candidate
