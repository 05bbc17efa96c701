# SPDX-License-Identifier: GPL-2.0
"""One cell in one (fake) machine: what each way of going wrong is called."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BootError, InfraError, MachineLostError, WorkloadTimeoutError
from harness.events import Event, silent
from harness.experiment import cell as cell_room
from harness.experiment import store
from harness.experiment.cell import Attempt, command
from harness.experiment.plan import cells
from harness.experiment.preflight import Job, mismatches
from harness.experiment.trial import count
from harness.experiment.verdict import Verdict, judge
from harness.guest import hang
from harness.guest.machine import Completed, MachineSpec
from harness.guest.qemu import Accelerator
from harness.guest.splat import Splat
from tests.fakes.experiment import config
from tests.fakes.fake_machine import FakeMachine, Lab, Script

NAME = "stock/ext4/punch"
KASAN = b"[    9.0] BUG: KASAN: slab-use-after-free in f+0x1/0x2\r\n"
PANIC = Splat("panic", "Kernel panic - not syncing: Fatal exception", "text\nmore")
HUNG_TASK = Splat("hung_task", "INFO: task punch:1 blocked for more than N seconds", "trace")


def job(name: str = NAME, trials: int = 5) -> Job:
    cfg = config()
    (cell,) = (each for each in cells(cfg, "quick", trials=trials) if each.name == name)
    return Job(
        cell=cell,
        filesystem=cfg.filesystem[cell.filesystem],
        workload=cfg.workload[cell.workload],
        cpus=2,
        release=f"6.12.0-{cell.kernel}",
        timeout_s=60.0,
    )


def spec(tmp_path: Path) -> MachineSpec:
    return MachineSpec(
        bzimage=tmp_path / "bzImage",
        cpus=2,
        memory_mib=512,
        accelerator=Accelerator(name="tcg", slowdown=10.0, reason=""),
        disk_mib=64,
        programs={},
    )


def attempt(
    tmp_path: Path, script: Script, name: str = NAME, events: list[Event] | None = None
) -> Attempt:
    """Runs one cell that follows `script`."""
    machine = FakeMachine(Lab(), script, spec(tmp_path), tmp_path, name)
    listen = silent if events is None else events.append
    result = cell_room.run(job(name), machine, tmp_path, listen)
    assert not machine.is_open
    return result


def judged(result: Attempt, name: str = NAME) -> Verdict:
    cell = dataclasses.replace(job(name).cell, min_rate=0.1)
    return judge(cell, result.trials, result.evidence(control_fired=True))


def stored(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]


# --- all is well --------------------------------------------------------------


def test_a_healthy_cell(tmp_path: Path) -> None:
    events: list[Event] = []
    result = attempt(tmp_path, Script(), events=events)
    assert judged(result).as_expected
    assert [trial["outcome"] for trial in stored(tmp_path)] == ["held"] * 5
    assert stored(tmp_path)[0]["window_hits"] == {"ext4_punch": 1, "filemap_fault": 1}
    assert (tmp_path / "dmesg.txt").read_text().startswith("[    0.0")
    assert not (tmp_path / "splats").exists()
    assert not (tmp_path / "error.txt").exists()
    assert {"start", "ready", "ssh", "prepare", "trials"} <= set(result.wall)
    last = [event for event in events if event.kind == "trial"][-1]
    assert (last.subject, last.done, last.total) == (NAME, 5, 5)
    assert last.data == {"outcome": "held", "exposed": 0}


def test_exposures_on_control(tmp_path: Path) -> None:
    name = "control/ext4/punch@fault+mkwrite"
    result = attempt(tmp_path, Script(), name)
    assert count(result.trials)["exposed"] == 5
    assert judged(result, name).as_expected


def test_the_trial_that_settles_it_is_the_last(tmp_path: Path) -> None:
    script = Script(outcomes=lambda number, _on: "exposed" if number == 3 else "held")
    machine = FakeMachine(Lab(), script, spec(tmp_path), tmp_path, NAME)
    asked = dataclasses.replace(job(), enough=lambda trial: trial.outcome == "exposed")
    result = cell_room.run(asked, machine, tmp_path, silent)
    assert not machine.is_open
    assert [trial["outcome"] for trial in stored(tmp_path)] == ["held", "held", "exposed"]
    assert judged(result).state == "exposed" and judged(result).planned == 3
    # The log of the guest is read all the same.
    assert (tmp_path / "dmesg.txt").is_file() and not result.faults


def test_commands_in_the_guest() -> None:
    assert command(job("control/ext4/punch@fault+mkwrite")).split(" --seed ")[0] == (
        "/workloads/races/punch --dir /mnt --trials 5"
    )
    line = command(job("control/ext4/punch@fault+mkwrite"))
    assert "--switch fault+mkwrite" in line
    assert "--window ext4_punch:2000:100 --window filemap_fault:500:50" in line
    off = command(job("control/ext4/punch@off"))
    assert "--switch" not in off
    assert command(job("stock/xfs/plain")).endswith("--size 'a b'")


def test_file_system_is_made_and_mounted_first(tmp_path: Path) -> None:
    lab = Lab()
    spec = MachineSpec(Path(), 2, 512, Accelerator("tcg", 1.0, ""), 64, {})
    cell_room.run(job(), FakeMachine(lab, Script(), spec, tmp_path, NAME), tmp_path, silent)
    assert lab.commands[:4] == [
        "mkfs.ext4 -q /dev/vda",
        "mkdir -p /mnt",
        "mount -t ext4 -o noatime /dev/vda /mnt",
        "/workloads/preflight --dir /mnt",
    ]


# --- the guest is not what was asked for --------------------------------------


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"cpus_online": 1}, "cpus_online is 1, asked for 2"),
        ({"release": "6.12.0-other"}, "release is '6.12.0-other'"),
        ({"fs_type": "tmpfs"}, "fs_type is 'tmpfs'"),
        ({"block_size": 1024}, "block_size is 1024, asked for 4096"),
        ({"mount_options": ["rw"]}, "mount options noatime did not take effect"),
        ({"mount_options": None}, "mount options noatime"),
        ({"free_bytes": 1000}, "free_bytes is 1000"),
        ({"free_bytes": "lots"}, "free_bytes is 'lots'"),
        ({"affinity": [True, False]}, "affinity is [True, False]"),
        ({"affinity": [True]}, "affinity is [True]"),
        ({"affinity": []}, "affinity is []"),
    ],
)
def test_preflight_mismatch_is_untested(tmp_path: Path, seen: dict[str, Any], said: str) -> None:
    result = attempt(tmp_path, Script(preflight=seen))
    assert judged(result).state == "untested"
    assert said in judged(result).reason
    assert result.trials == []
    assert not result.never_ran  # the second try would find the same
    assert result.preflight is not None


def test_every_mismatch_is_named() -> None:
    assert len(mismatches(job(), {})) == 8


def test_a_reproducer_on_a_wrong_guest_answers_nothing(tmp_path: Path) -> None:
    """It has been started when the mismatch is read, and is stopped with the machine."""

    class Late(FakeMachine):
        def console(self) -> bytes:
            return super().console() + (b"" if self.is_open else KASAN)

    script = Script(preflight={"cpus_online": 1})
    machine = Late(Lab(), script, spec(tmp_path), tmp_path, NAME)
    result = cell_room.run(job(), machine, tmp_path, silent)
    assert b"KASAN" in machine.console()
    assert judged(result).state == "untested"
    assert "cpus_online" in judged(result).reason and not result.splats
    assert not result.trials


def test_a_mark_that_could_not_be_made_is_told(tmp_path: Path) -> None:
    class Full(FakeMachine):
        def run(self, command: str, *_: object, **__: object) -> Completed:
            return Completed(command, 1, "", "sh: can't create /dev/kmsg", 0.0)

    machine = Full(Lab(), Script(), spec(tmp_path), tmp_path, NAME)
    result = cell_room.run(job(), machine, tmp_path, silent)
    assert judged(result).reason == (
        "preparation: exited with status 1: sh: can't create /dev/kmsg"
    )


def test_what_a_reproducer_says_on_stderr_is_kept(tmp_path: Path) -> None:
    attempt(tmp_path, Script())
    assert "stderr: last words" in (tmp_path / "output.txt").read_text().splitlines()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "not json\n"])
def test_preflight_without_an_answer_is_untested(tmp_path: Path, text: str) -> None:
    result = attempt(tmp_path, Script(raw_preflight=text))
    assert judged(result).state == "untested"
    assert f"preflight printed no JSON object: {text.strip()!r}" in judged(result).reason
    assert not result.trials and not stored(tmp_path), "what it said is no evidence"


@pytest.mark.parametrize(
    ("program", "named"),
    [
        ("mkfs.ext4", "mkfs.ext4 -q /dev/vda"),
        ("mount", "mount -t ext4 -o noatime /dev/vda /mnt"),
        ("/workloads/preflight", "preflight"),
    ],
)
def test_preparation_that_fails_is_untested(tmp_path: Path, program: str, named: str) -> None:
    result = attempt(tmp_path, Script(statuses={program: 32}))
    assert judged(result).state == "untested"
    assert judged(result).reason == f"{named}: exited with status 32: {program}: no"
    assert not result.trials and not result.started


def test_reproducer_that_tests_nothing(tmp_path: Path) -> None:
    lines = ["KTAP version 1", "1..0 # SKIP no window ext4_punch"]
    result = attempt(tmp_path, Script(lines=lines, status=4))
    assert (judged(result).state, judged(result).reason) == ("untested", "no window ext4_punch")
    silent_skip = attempt(tmp_path / "..", Script(lines=[], status=4))
    assert judged(silent_skip).reason == "the reproducer exited with status 4: last words"


@pytest.mark.parametrize(
    "header", [{"switches": ["fault"]}, {"windows": {}}, {"windows": {"x": 1}}, {"seed": 1}]
)
def test_reproducer_that_ran_something_else(tmp_path: Path, header: dict[str, Any]) -> None:
    result = attempt(tmp_path, Script(header=header))
    assert judged(result).state == "lost"
    assert "the reproducer ran with" in judged(result).reason


# --- the machine dies ---------------------------------------------------------


def test_panic_in_the_middle(tmp_path: Path) -> None:
    # Three lines of head, two for each trial: dies inside trial 3.
    gone = MachineLostError(f"{NAME}: `x`: the kernel panicked", detail="console tail")
    result = attempt(tmp_path, Script(dies=gone, after=3 + 2 * 2 + 1, splats=[PANIC]))
    assert [trial["outcome"] for trial in stored(tmp_path)] == ["held", "held", "crashed"]
    assert [trial.number for trial in result.trials] == [1, 2, 3]
    assert judged(result).state == "crashed"
    assert PANIC.title in judged(result).claim
    assert not result.never_ran
    assert (tmp_path / "splats" / "01-panic.txt").read_text() == f"{PANIC.title}\n\ntext\nmore\n"
    assert "console tail" in (tmp_path / "error.txt").read_text()
    assert result.trials[-1].why == "`x`: the kernel panicked"


def test_panic_before_the_first_line_belongs_to_the_first_trial(tmp_path: Path) -> None:
    result = attempt(tmp_path, Script(dies=MachineLostError("gone"), splats=[PANIC]))
    assert [trial.outcome for trial in result.trials] == ["crashed"]
    assert not result.never_ran


@pytest.mark.parametrize(
    ("splats", "fate"), [((), "hung"), ((HUNG_TASK,), "hung"), ((HUNG_TASK, PANIC), "crashed")]
)
def test_timeout(tmp_path: Path, splats: tuple[Splat, ...], fate: str) -> None:
    late = WorkloadTimeoutError("not done in 600 s")
    result = attempt(tmp_path, Script(dies=late, after=5, splats=splats))
    assert [trial.outcome for trial in result.trials] == ["held", fate]
    assert judged(result).state == fate
    assert all(splat.title in judged(result).reason for splat in splats)


def test_what_a_hung_machine_said_is_kept(tmp_path: Path) -> None:
    late = WorkloadTimeoutError("not done in 600 s; race-b waits in down_read")
    files = {"stacks.txt": "== race-b", "registers.txt": "CPU#0"}
    late.evidence = hang.Evidence("race-b waits in down_read", files)
    result = attempt(tmp_path, Script(dies=late, after=5))
    assert "race-b waits in down_read" in judged(result).reason
    place = tmp_path / "hang"
    assert (place / "who.txt").read_text() == "race-b waits in down_read\n"
    assert {path.name for path in place.iterdir()} == {"who.txt", *files}


def test_connection_lost_in_the_middle(tmp_path: Path) -> None:
    result = attempt(tmp_path, Script(dies=MachineLostError("SSH is gone"), after=5))
    assert [trial.outcome for trial in result.trials] == ["held", "lost"]
    assert (judged(result).state, judged(result).reason) == ("lost", "SSH is gone")
    assert not result.never_ran


def test_infrastructure_before_the_first_trial_may_be_tried_again(tmp_path: Path) -> None:
    for script in (
        Script(dies_in_prepare=MachineLostError("SSH is gone")),
        Script(dies=MachineLostError("SSH is gone"), after=1),
        Script(boot_error=InfraError("no QEMU")),
    ):
        result = attempt(tmp_path, script)
        assert result.never_ran
        assert judged(result).state == "lost"
        assert result.trials == []


def test_a_kernel_that_dies_in_mount_is_not_tried_again(tmp_path: Path) -> None:
    result = attempt(
        tmp_path, Script(dies_in_prepare=MachineLostError("panicked"), splats=[PANIC])
    )
    assert judged(result).state == "crashed"
    assert not result.never_ran
    hung = attempt(tmp_path, Script(dies_in_prepare=WorkloadTimeoutError("mount: not done")))
    assert (judged(hung).state, judged(hung).reason) == ("hung", "mount: not done")
    assert not hung.never_ran


def test_kernel_that_does_not_boot(tmp_path: Path) -> None:
    error = BootError(f"{NAME}: panic at boot: VFS")
    result = attempt(tmp_path, Script(boot_error=error, splats=[PANIC]))
    assert result.boot_failed and not result.never_ran
    verdict = judged(result)
    assert (verdict.state, verdict.reason) == ("untested", "did not boot: panic at boot: VFS")
    assert (tmp_path / "splats" / "01-panic.txt").exists()


def test_death_after_the_last_trial(tmp_path: Path) -> None:
    gone = WorkloadTimeoutError("dmesg: not done")
    result = attempt(tmp_path, Script(dies_in_dmesg=gone))
    assert count(result.trials)["held"] == 5
    assert judged(result).state == "hung"


def test_the_emulators_fault_is_not_the_kernels(tmp_path: Path) -> None:
    script = Script(
        dies=MachineLostError("the emulator failed"),
        after=5,
        splats=[Splat("oops", "Oops: int3: 0000 [#1]", "")],
        console=b"[    3.0] Oops: int3: 0000 [#1] SMP\n",
    )
    result = attempt(tmp_path, script)
    assert (judged(result).state, judged(result).reason) == ("lost", "the emulator failed")
    survived = attempt(tmp_path, Script(splats=script.splats, console=script.console))
    assert judged(survived).state == "lost"
    # KVM runs no translations: there the same line is the kernel's own.
    on_kvm = dataclasses.replace(job(), emulated=False)
    machine = FakeMachine(Lab(), script, spec(tmp_path), tmp_path, NAME)
    assert judged(cell_room.run(on_kvm, machine, tmp_path, silent)).state == "crashed"


# --- what the console says ----------------------------------------------------


def test_splat_while_all_trials_held(tmp_path: Path) -> None:
    result = attempt(tmp_path, Script(splats=[HUNG_TASK]))
    assert judged(result).state == "crashed"
    assert judged(result).reason == HUNG_TASK.title


def test_splat_that_only_dmesg_shows(tmp_path: Path) -> None:
    line = "[    9.000000] WARNING: CPU: 1 PID: 77 at fs/iomap/x.c:1 iomap_x+0x1/0x2\n"
    result = attempt(tmp_path, Script(dmesg=line))
    assert [splat.kind for splat in result.splats] == ["warning"]
    assert judged(result).state == "crashed"


def test_scan_that_could_not_run(tmp_path: Path) -> None:
    result = attempt(tmp_path, Script(scan_error=OSError("console.log: no such file")))
    assert judged(result).state == "lost"
    assert "the console could not be scanned" in judged(result).reason
    assert count(result.trials)["held"] == 5
    assert not result.never_ran


# --- the reproducer misbehaves ------------------------------------------------


def test_exit_status_that_contradicts_the_trials(tmp_path: Path) -> None:
    for status, said in (
        (1, "exited with 1 (exposed) but reported no exposure"),
        (139, "exited with status 139: last words"),
        (127, "exited with status 127"),
    ):
        result = attempt(tmp_path, Script(status=status))
        assert judged(result).state == "lost"
        assert said in judged(result).reason
    exposed = attempt(tmp_path, Script(outcomes=lambda n, _on: "exposed", status=0))
    assert "reported an exposure" in exposed.faults[0]
    assert judged(exposed).state == "exposed"


def test_program_that_is_missing(tmp_path: Path) -> None:
    result = attempt(tmp_path, Script(lines=[], status=127))
    assert judged(result).state == "lost"
    assert "exited with status 127: last words" in judged(result).reason
    assert not result.never_ran


def test_reproducer_that_bails_out(tmp_path: Path) -> None:
    good = '# {"trial":1,"outcome":"held","window_hits":{"ext4_punch":1}}'
    lines = ["KTAP version 1", "1..5", good, "ok 1 trial-1", "Bail out! pwrite: No space left"]
    result = attempt(tmp_path, Script(lines=lines, status=4))
    assert [trial.outcome for trial in result.trials] == ["held", "lost"]
    assert result.trials[1].why == (
        "the reproducer ended after 1 of 5 trials: pwrite: No space left"
    )


def test_output_is_kept_as_it_came(tmp_path: Path) -> None:
    attempt(tmp_path, Script(lines=["junk \udc80", "more"], status=4))
    assert (tmp_path / "output.txt").read_text() == "junk \\udc80\nmore\nstderr: last words\n"


# --- the harness misbehaves ---------------------------------------------------


def test_a_bug_of_ours_costs_the_cell_only(tmp_path: Path) -> None:
    events: list[Event] = []
    result = attempt(tmp_path, Script(dies=ValueError("a bug"), after=5), events=events)
    assert judged(result).state == "lost"
    assert "internal error: ValueError: a bug" in judged(result).reason
    assert any("Traceback" in event.message for event in events)
    assert [trial.outcome for trial in result.trials] == ["held", "lost"]


def test_interrupt_closes_the_machine_and_keeps_the_trials(tmp_path: Path) -> None:
    lab = Lab()
    spec = MachineSpec(Path(), 2, 512, Accelerator("tcg", 1.0, ""), 64, {})
    machine = FakeMachine(lab, Script(dies=KeyboardInterrupt(), after=7), spec, tmp_path, NAME)
    with pytest.raises(KeyboardInterrupt):
        cell_room.run(job(), machine, tmp_path, silent)
    assert not machine.is_open
    assert len(stored(tmp_path)) == 2


def test_full_disk_stops_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = store.LineFile.append

    def full(lines: store.LineFile, line: str) -> None:
        if '"trial": 3' in line:
            raise store.DiskFullError("disk full")
        append(lines, line)

    monkeypatch.setattr(store.LineFile, "append", full)
    with pytest.raises(store.DiskFullError):
        attempt(tmp_path, Script())
    assert len(stored(tmp_path)) == 2
