# SPDX-License-Identifier: GPL-2.0
"""Panics, hangs, deaths and interruptions with real kernels and a real QEMU."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import signal
import subprocess
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.pid import for_each_task

from harness.errors import BootError, MachineLostError, WorkloadTimeoutError
from harness.experiment.preflight import MOUNT_POINT
from harness.guest import ssh
from tests.vm.conftest import ROOT, Lab, harness, qemus


def test_a_panic_at_boot_is_the_kernels_fault(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(BootError) as caught, lab.machine("stock", tmp_path, "rdinit=/nowhere"):
        pass
    assert "panic" in caught.value.message.lower()
    assert "\n" not in caught.value.message
    assert "Kernel panic - not syncing" in caught.value.detail
    assert qemus(tmp_path) == []


def test_a_hang_at_boot_ends_at_the_limit(lab: Lab, tmp_path: Path) -> None:
    machine = lab.machine("stock", tmp_path, "harness.hang=1", boot_timeout_s=2.0)
    with pytest.raises(BootError) as caught, machine:
        pass
    assert "\n" not in caught.value.message
    assert "stopping here" in caught.value.detail  # the console's last words
    assert qemus(tmp_path) == []


def test_a_panic_in_the_middle_is_told_from_silence(lab: Lab, tmp_path: Path) -> None:
    with lab.machine("stock", tmp_path) as machine:

        def crash(line: str) -> None:
            # Only now: a line that the guest's SSH server has not sent dies with it.
            assert line == "before"
            second = ssh.Connection(machine._port, machine._user, machine._host, 30)
            second.execute("touch /run/go", 30)
            second.close()

        wait = "while ! test -e /run/go; do usleep 10000; done"
        with pytest.raises(MachineLostError) as caught:
            machine.run(
                f"echo before; {wait}; echo c >/proc/sysrq-trigger; sleep 1000",
                on_stdout_line=crash,
            )
        assert "panic" in caught.value.message.lower()
        assert caught.value.completed is not None
        assert caught.value.completed.stdout == "before\n"
    assert [splat.kind for splat in machine.splats()][:1] in (["oops"], ["panic"], ["bug"])


FROZEN = f"xfs_io -x -c freeze {MOUNT_POINT}"


def test_a_trial_that_hangs_says_who_waits_for_what(lab: Lab, tmp_path: Path) -> None:
    """The file system is frozen: nobody gets to write before a thaw that never comes."""
    race = f"/workloads/races/punch-read-fault --dir {MOUNT_POINT}"
    with lab.machine("stock", tmp_path / "m") as guest:
        lab.mount(guest, "ext4")
        with pytest.raises(WorkloadTimeoutError, match="not done in 5 s; killed; ") as caught:
            guest.run(f"{FROZEN} && {race}", timeout_s=1)
        evidence = caught.value.evidence
        assert guest.run("echo well").stdout == "well\n"
    assert evidence.answered
    at = r"\(\S+\.[ch]:\d+\)"
    assert re.search(
        rf"^punch-read-faul waits in percpu_rwsem_wait {at} < \w+ {at} < ", evidence.summary
    )
    assert evidence.summary in caught.value.message
    assert "do_sys_open" in evidence.files["stacks.txt"]
    for said in ("Show Blocked State", "Show backtrace of all active CPUs", "Show State"):
        assert said in evidence.files["sysrq.txt"]
    assert "CPU#1" in evidence.files["registers.txt"]


def test_a_machine_without_ssh_is_asked_on_its_serial_line(lab: Lab, tmp_path: Path) -> None:
    with lab.machine("stock", tmp_path / "m") as guest:
        lab.mount(guest, "ext4")
        with pytest.raises(WorkloadTimeoutError, match="SSH does not answer any more") as caught:
            guest.run(
                f"{FROZEN} && (mkdir {MOUNT_POINT}/x &) && killall -STOP dropbear && sleep 1000",
                timeout_s=1,
            )
    evidence = caught.value.evidence
    assert not evidence.answered
    assert re.search(r"mkdir waits in percpu_rwsem_wait \(kernel/\S+:\d+\) < ", evidence.summary)
    assert "Show Blocked State" in evidence.files["sysrq.txt"]


def test_the_memory_of_a_guest_that_hangs(lab: Lab, tmp_path: Path) -> None:
    """drgn reads the core: the task that never ends is in it, with the function it waits in."""
    guest = lab.machine("stock", tmp_path / "m")
    guest.spec = dataclasses.replace(guest.spec, core=True)
    with guest:
        lab.mount(guest, "ext4")
        with pytest.raises(WorkloadTimeoutError) as caught:
            guest.run(f"{FROZEN} && mkdir {MOUNT_POINT}/x", timeout_s=1)
    core = caught.value.evidence.core
    assert core is not None and core.stat().st_blocks * 512 < guest.spec.memory_mib << 19
    program = drgn.Program()
    program.set_core_dump(core)
    program.load_debug_info([lab.image("stock").vmlinux])
    tasks = [task for task in for_each_task(program) if task.comm.string_() == b"mkdir"]
    assert len(tasks) == 1
    assert "percpu_rwsem_wait" in str(program.stack_trace(tasks[0]))


def test_a_qemu_that_dies_is_not_the_kernels_fault(lab: Lab, tmp_path: Path) -> None:
    with lab.machine("stock", tmp_path) as machine:
        (pid,) = qemus(tmp_path)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(MachineLostError) as caught:
            machine.run("true")
        assert "QEMU" in caught.value.message
    assert machine.splats() == []


def wait_for_trial(process: subprocess.Popen[str], place: Path, cells: int) -> None:
    """Returns while `cells` cells are in run.json and a trial of another one is under way."""
    while process.poll() is None:
        done = [cell for path in place.glob("results/2*/run.json")
                for cell in json.loads(path.read_text())["cells"]]
        begun = [path for path in place.glob("results/*/cells/**/trials.jsonl")
                 if path.stat().st_size and not (path.parent / "cell.json").exists()]
        if len(done) >= cells and begun:
            return
    raise AssertionError(f"the run ended before it could be interrupted:\n{process.stdout.read()}"
                         if process.stdout else "")


RUN = ("run", "quick", "-k", "control", "-f", "ext4", "-w", "punch-read-fault", "--trials", "80")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_was_finished(
    lab: Lab, tmp_path: Path, number: signal.Signals
) -> None:
    lab.image("control")
    process = harness(*RUN, cwd=tmp_path)
    wait_for_trial(process, tmp_path, cells=1)
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert qemus(tmp_path) == []
    document = json.loads((tmp_path / "results/latest/run.json").read_text())
    assert document["status"] == "interrupted"
    assert len(document["cells"]) >= 1
    assert document["cells"][0]["verdict"]["trials"] == 80
    assert document["not_run"]


def test_a_killed_harness_leaves_no_qemu_and_finished_cells(lab: Lab, tmp_path: Path) -> None:
    lab.image("control")
    process = harness(*RUN, cwd=tmp_path)
    wait_for_trial(process, tmp_path, cells=1)
    watches = [os.pidfd_open(pid) for pid in qemus(tmp_path)]
    assert watches
    process.kill()
    process.wait()
    # The kernel kills QEMU with its parent; pidfd readability is its end.
    for watch in watches:
        assert select.select([watch], [], [], 30)[0], "QEMU outlived the harness"
        os.close(watch)
    document = json.loads((tmp_path / "results/latest/run.json").read_text())
    assert {cell["verdict"]["trials"] for cell in document["cells"]} == {80}


def test_two_runs_in_one_checkout_never_meet(lab: Lab, tmp_path: Path) -> None:
    lab.image("control")
    both = [harness(*RUN[:-1], "40", cwd=tmp_path) for _ in range(2)]
    ends = [(process.communicate()[0], process.returncode) for process in both]
    # With twice the CPUs that the host has, a racer may come too late for its window;
    # whether each found its race is not the question here.
    assert all(code in (0, 1, 125) for _, code in ends), ends
    runs = sorted(path for path in (tmp_path / "results").iterdir() if not path.is_symlink())
    assert len(runs) == 2
    for path in runs:
        document = json.loads((path / "run.json").read_text())
        assert document["status"] == "finished"
        assert len(document["cells"]) == 3
        assert all(cell["verdict"]["trials"] == 40 for cell in document["cells"])
    assert (tmp_path / "results/latest").resolve() in [path.resolve() for path in runs]
    assert qemus(tmp_path) == []


def test_one_cpu_is_untested_not_held(lab: Lab, tmp_path: Path) -> None:
    """The trap that once cost us a wrong conclusion: a guest with one CPU holds everything."""
    config = (ROOT / "harness.toml").read_text()
    for name in ("patches", "vm", "workloads"):
        (tmp_path / name).symlink_to(ROOT / name)
    config = config.replace('accel = "auto"', 'accel = "auto"\ncmdline = ["maxcpus=1"]', 1)
    (tmp_path / "harness.toml").write_text(config)
    lab.image("stock")
    process = subprocess.run(
        ["harness", "run", "quick", "-k", "stock", "-f", "ext4", "-w", "truncate-regrow",
         "--trials", "5"],
        executable=str(ROOT / ".venv/bin/harness"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 125, process.stdout + process.stderr
    document = json.loads((tmp_path / "results/latest/run.json").read_text())
    (cell,) = document["cells"]
    assert cell["verdict"]["state"] == "untested"
    assert "cpus_online is 1, asked for 2" in cell["verdict"]["reason"]
