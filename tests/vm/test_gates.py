# SPDX-License-Identifier: GPL-2.0
"""Gates on a real kernel: each holds there, and each way to fail is seen to fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from harness.experiment.preflight import MOUNT_POINT
from harness.guest.machine import Machine
from tests.vm.conftest import Lab

PUNCH, TRUNCATE = "--window {type}_punch:200000", "--window {type}_truncate:200000"


@dataclass(frozen=True)
class Gate:
    """One workload of harness.toml, short enough for a test."""

    command: str
    plants: tuple[str, ...]
    filesystems: tuple[str, ...] = ("ext4", "xfs-reflink")
    holds: bool = True  # on stock


GATES = {
    "write-mmap-self": Gate("copy-self --via write", ("cache", "disk")),
    "dio-mmap-self": Gate("copy-self --via dio", ("cache", "disk")),
    "dio-whole-tail": Gate("dio-whole --mode tail", ("cache", "disk")),
    "splice-self": Gate("copy-self --via splice", ("cache", "disk")),
    "write-mmap-cross": Gate("write-mmap-cross", ("cache", "disk")),
    "populate-punch": Gate("populate-punch", ("cache", "disk")),
    "fault-storm-truncate": Gate("fault-storm-truncate", ("slow", "cache", "disk")),
    "fsync-reflink": Gate("fsync-reflink", ("cache", "disk"), ("xfs-reflink",)),
    "swap-boot": Gate("ext4-flags --mode swap-boot", ("cache", "disk"), ("ext4",)),
    "journal-flag": Gate("ext4-flags --mode journal-flag", ("cache", "disk"), ("ext4",)),
    "stress": Gate("stress --seconds 2", ("cache", "leak", "fsck")),
    "disjoint-inside": Gate(f"disjoint --mode inside {PUNCH}", ("early",)),
}


@pytest.fixture(scope="module", params=["ext4", "xfs-reflink"])
def filesystem(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = request.param
    yield name


def run(machine: Machine, filesystem: str, command: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit status, trials, whole output of one gate."""
    command = command.format(type=filesystem.split("-")[0])
    done = machine.run(f"/workloads/gates/{command} --dir {MOUNT_POINT}", timeout_s=120)
    trials = [
        json.loads(line[2:]) for line in done.stdout.splitlines()
        if line.startswith('# {"trial"')
    ]
    return done.status, trials, done.stdout


# Not every gate is for every file system: no test that has nothing to do.
for_its_filesystems = pytest.mark.parametrize(
    ("filesystem", "name"),
    [(filesystem, name) for name, gate in GATES.items() for filesystem in gate.filesystems],
    indirect=["filesystem"],
)


@pytest.mark.parametrize("name", GATES)
def test_a_gate_holds_on_stock(lab: Lab, stock: Machine, filesystem: str, name: str) -> None:
    gate = GATES[name]
    lab.mount(stock, filesystem)
    status, trials, said = run(stock, filesystem, f"{gate.command} --trials 3")
    if filesystem not in gate.filesystems:
        assert status == 4 and "# SKIP" in said
        return
    assert [trial["outcome"] for trial in trials] == ["held"] * 3, said
    assert status == 0


@for_its_filesystems
def test_a_gate_finds_what_is_planted(
    lab: Lab, stock: Machine, filesystem: str, name: str
) -> None:
    gate = GATES[name]
    for kind in gate.plants:
        lab.mount(stock, filesystem)
        status, trials, said = run(stock, filesystem, f"{gate.command} --trials 2 --plant {kind}")
        assert [trial["outcome"] for trial in trials] == ["exposed", "held"], f"{kind}: {said}"
        assert status == 1


def test_a_direct_read_that_meets_a_store_is_counted(
    lab: Lab, stock: Machine, filesystem: str
) -> None:
    """It fails with EIO on a good kernel; stress took one in 60 for a disk error."""
    lab.mount(stock, filesystem)
    status, trials, said = run(
        stock, filesystem, "stress --seconds 1 --trials 1 --plant collision"
    )
    assert [trial["outcome"] for trial in trials] == ["held"], said
    assert trials[0]["dio_collisions"] >= 1, said
    assert status == 0


@for_its_filesystems
def test_a_stuck_gate_says_who_waits_for_what(
    lab: Lab, stock: Machine, filesystem: str, name: str
) -> None:
    gate = GATES[name]
    lab.mount(stock, filesystem)
    status, (trial,), said = run(
        stock, filesystem, f"{gate.command} --trials 2 --plant stuck --bound 6"
    )
    assert trial["outcome"] == "exposed", said
    assert trial["stuck"] and trial["killable"]
    # The planted thread sits in pause(2); the report must name it and where.
    assert "race-b S" in trial["threads"] and "pause" in trial["threads"], said
    assert "Bail out!" in said
    assert status == 1
    # Nothing of it is left to disturb the next one.
    assert stock.run(f"umount {MOUNT_POINT}").status == 0


@pytest.mark.parametrize(
    ("mode", "window", "filesystems"),
    [
        ("fault", PUNCH, ("ext4", "xfs-reflink")),
        ("read", PUNCH, ("ext4",)),
        ("truncate", TRUNCATE, ("ext4", "xfs-reflink")),
    ],
)
def test_a_disjoint_access_waits_where_one_lock_covers_the_file(
    lab: Lab, stock: Machine, filesystem: str, mode: str, window: str, filesystems: tuple[str, ...]
) -> None:
    lab.mount(stock, filesystem)
    command = f"disjoint --mode {mode} {window} --trials 3"
    status, trials, said = run(stock, filesystem, command)
    if filesystem not in filesystems:
        assert status == 4 and "# SKIP" in said
        return
    assert [trial["outcome"] for trial in trials] == ["exposed"] * 3, said
    assert all("waited" in trial["why"] for trial in trials)
    # It is the hold that it waits for, and not the slowness of the machine.
    assert all(trial["beside_us"] > 0.8 * trial["left_us"] > 0 for trial in trials)


@pytest.mark.parametrize(("mode", "window"), [("fault", PUNCH), ("truncate", TRUNCATE)])
def test_a_disjoint_access_does_not_wait_where_the_lock_has_ranges(
    lab: Lab, candidate: Machine, filesystem: str, mode: str, window: str
) -> None:
    lab.mount(candidate, filesystem)
    _, trials, said = run(candidate, filesystem, f"disjoint --mode {mode} {window} --trials 3")
    assert [trial["outcome"] for trial in trials] == ["held"] * 3, said
    assert all(0 < trial["beside_us"] < 0.1 * trial["left_us"] for trial in trials)


@pytest.mark.parametrize("mode", ["large", "tail", "extend"])
def test_a_direct_write_is_whole_where_it_pins_its_source(
    lab: Lab, candidate: Machine, filesystem: str, mode: str
) -> None:
    """`large`: as many segments as wrap the 16 bits in which the block layer counts them."""
    lab.mount(candidate, filesystem)
    trials = 2 if mode == "large" else 8
    _, done, said = run(candidate, filesystem, f"dio-whole --mode {mode} --trials {trials}")
    assert [trial["outcome"] for trial in done] == ["held"] * trials, said


def test_a_lock_that_keeps_nobody_out_does_not_pass_for_a_fine_one(
    lab: Lab, stock: Machine, control: Machine
) -> None:
    """What is inside the hole must wait: else the trial is invalid, or exposed if that is asked."""
    lab.mount(stock, "ext4")
    _, trials, said = run(
        stock, "ext4", f"disjoint --mode fault {PUNCH} --trials 1 --plant early"
    )
    assert trials[0]["outcome"] == "untested" and "did not wait" in trials[0]["why"], said
    lab.mount(control, "ext4")
    _, trials, said = run(
        control, "ext4", f"disjoint --mode inside {PUNCH} --switch fault --trials 3"
    )
    assert [trial["outcome"] for trial in trials] == ["exposed"] * 3, said
    _, trials, said = run(
        control, "ext4", f"disjoint --mode fault {PUNCH} --switch fault --trials 3"
    )
    assert [trial["outcome"] for trial in trials] == ["untested"] * 3, said


CASES = "KTAP version 1\\n1..1\\n    KTAP version 1\\n    1..2\\n"
RUN = (
    "run state={state} seconds=1 seed=3 span=64 threads=2 max_wait_ms=5000 acquired=10"
    " max_wait_us=77 violations={violations} overdue=0 stalled=0\\n"
)
THREAD = "thread kind=reader nr={nr} acquired={acquired} violations=0 overdue=0\\n"


def stats(state: str = "done", violations: int = 0, acquired: int = 5, threads: int = 2) -> str:
    """What the torture test's stats file says."""
    return RUN.format(state=state, violations=violations) + "".join(
        THREAD.format(nr=nr, acquired=acquired) for nr in range(threads)
    )


@pytest.mark.parametrize(
    ("gate", "file", "text", "outcome"),
    [
        ("kunit", "s/results", f"{CASES}    ok 1 a\\n    ok 2 b\\nok 1 s\\n", "held"),
        ("kunit", "s/results", f"{CASES}    ok 1 a\\n    not ok 2 b\\nnot ok 1 s\\n", "exposed"),
        ("kunit", "s/results", f"{CASES}    ok 1 a\\n    ok 2 b\\n", "untested"),
        ("kunit", "s/results", f"{CASES}    ok 1 a # SKIP\\nok 1 s\\n", "untested"),
        ("range-torture", "stats", stats(), "held"),
        ("range-torture", "stats", stats(violations=1), "exposed"),
        ("range-torture", "stats", stats(state="stuck"), "exposed"),
        ("range-torture", "stats", stats(acquired=0), "exposed"),
        ("range-torture", "stats", stats(threads=1), "untested"),
        ("range-torture", "stats", "run state=none\\n", "untested"),
    ],
)
def test_a_kernel_test_is_read_and_not_believed_blindly(
    stock: Machine, gate: str, file: str, text: str, outcome: str
) -> None:
    """Against a directory that looks like debugfs: the parser, without such a kernel."""
    root = "/tmp/fake"
    stock.run(f"rm -rf {root}; mkdir -p {root}/s; : >{root}/s/run; : >{root}/run; : >{root}/seed")
    assert stock.run(f"printf '{text}' >{root}/{file}").status == 0
    options = "--suite s" if gate == "kunit" else "--seconds 1"
    done = stock.run(f"/workloads/gates/{gate} --dir /tmp --trials 1 --root {root} {options}")
    assert f'"outcome":"{outcome}"' in done.stdout, done.stdout


def test_a_kernel_without_its_tests_is_untested(stock: Machine) -> None:
    for gate in ("kunit", "range-torture"):
        done = stock.run(f"/workloads/gates/{gate} --dir /tmp --trials 1")
        assert done.status == 4, done.stdout
        assert "1..0 # SKIP" in done.stdout
