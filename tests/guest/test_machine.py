# SPDX-License-Identifier: GPL-2.0
"""Machines on a fake QEMU: what works, and what each way of dying is called."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import (
    BootError,
    HarnessError,
    InfraError,
    MachineLostError,
    WorkloadTimeoutError,
)
from harness.events import Event
from harness.guest import inquest, ssh
from harness.guest.machine import Completed, Machine
from harness.guest.qemu import Accelerator
from harness.guest.script import script

Make = Callable[..., Machine]


def alive(tmp_path: Path) -> list[int]:
    """Process ids of fake QEMUs of this test that still run."""
    started = [int(path.name.split("-")[1]) for path in (tmp_path / "fake").glob("guest-*")]
    return [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_runs_commands_and_reads_files(machine: Make, tmp_path: Path, events: list[Event]) -> None:
    lines: list[str] = []
    with machine() as guest:
        done = guest.run("printf 'a\\nb'; echo wrong >&2; exit 3", on_stdout_line=lines.append)
        again = guest.run("/workloads/races/one")
        (tmp_path / "file").write_bytes(b"\x00\xff\r\n")
        content = guest.read_file(str(tmp_path / "file"))
        assert [p.name for p in guest.directory.glob("disk*")] == ["disk0.img"]
        assert (guest.directory / "disk0.img").stat().st_size == 4 << 20
    assert (done.status, done.stdout, done.stderr) == (3, "a\nb", "wrong\n")
    assert lines == ["a", "b"]
    assert (again.status, again.stdout) == (7, "from the workload\n")
    assert content == b"\x00\xff\r\n"
    assert set(guest.wall) == {"start", "ready", "ssh"}
    assert guest.wall["ready"] <= guest.wall["ssh"]
    assert [event.kind for event in events[:2]] == ["boot", "boot"]
    assert b"last words" in guest.console(), "the console was not recorded to its end"
    assert guest.splats() == []
    left = {path.name for path in guest.directory.iterdir()}
    assert left == {"console.log", "qemu-cmd", "qemu-stderr"}
    assert not alive(tmp_path)


def test_streams_larger_than_any_buffer(machine: Make) -> None:
    with machine() as guest:
        done = guest.run("head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; echo end")
    assert len(done.stderr) == 3000000
    assert len(done.stdout) == 3000004


def test_a_program_that_floods_its_output_is_given_up(
    machine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "MOST_BYTES", 1 << 20)
    with machine() as guest:
        done = guest.run("head -c 3000000 /dev/zero >&2; echo fine")
        assert (done.stdout, len(done.stderr)) == ("fine\n", 1 << 20)
        with pytest.raises(MachineLostError, match="the command said more than 1 MiB") as caught:
            guest.run("yes", timeout_s=60)
        assert len(caught.value.completed.stdout) <= 1 << 20


def test_a_file_that_is_not_there(machine: Make) -> None:
    with machine() as guest, pytest.raises(InfraError, match="cannot read /no/such in the guest"):
        guest.read_file("/no/such")


def test_qemu_cmd_boots_the_same_machine_by_hand(machine: Make) -> None:
    with machine(cmdline=("quirk=1",)) as guest:
        script = (guest.directory / "qemu-cmd").read_text()
        words = " ".join(guest.qemu_command)
    assert "console=ttyS0 panic=-1 loglevel=7 no_timer_check" in words and "quirk=1" in words
    assert "harness.shell=1" not in words
    for word in (".cpio >initramfs.cpio", "truncate -s 4M", "harness.shell=1", "quirk=1"):
        assert word in script
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    by_hand = script.splitlines()[-1]
    assert "fd=" not in by_hand, "a shell has no such descriptors"


@pytest.mark.parametrize(
    ("scenario", "error", "said"),
    [
        ("panic", BootError, "panic at boot: Kernel panic - not syncing: fake panic"),
        ("hang", BootError, r"did not reach user space in 1.5 s; .* last line: .*Run /init"),
        ("silent", BootError, "did not reach user space in 1.5 s; its console never said a word"),
        ("reset", BootError, "reset itself before it reached user space; last line: .*Run /init"),
        ("exits", InfraError, "QEMU ended with exit status 1: fake qemu: cannot do that"),
        ("no-server", InfraError, "SSH server did not start"),
        ("other-host-key", InfraError, "host key is not the one made for this machine"),
    ],
)
def test_boots_that_fail(
    machine: Make, tmp_path: Path, scenario: str, error: type[HarnessError], said: str
) -> None:
    limit = 1.5 if scenario in ("hang", "silent") else 20.0
    guest = machine(scenario, boot_timeout_s=limit)
    with pytest.raises(error, match=said) as caught, guest:
        pytest.fail("it booted")
    assert type(caught.value) is error
    assert not alive(tmp_path)
    if scenario == "panic":
        assert "end Kernel panic" in caught.value.detail, "the trace behind the panic is missing"
    if scenario == "hang":
        assert "CPU 0 is halted at ffffffff81000000" in caught.value.detail
        assert "CPU 1 runs at ffffffff81234567" in caught.value.detail
    if scenario == "exits":
        assert "-kernel" in caught.value.detail, "the command that failed is missing"
    assert not list(guest.directory.glob("*.img"))


def test_boots_again_after_a_fault_of_the_emulator(machine: Make, events: list[Event]) -> None:
    with machine("int3-once") as guest:
        assert guest.run("echo up").stdout == "up\n"
    assert (guest.directory / "console.emulator-fault-1.log").exists()
    assert [event.message for event in events if "booting again" in event.message]
    assert guest.splats() == [], "the log of the failed boot is not this machine's"


def test_a_real_panic_is_not_tried_again(machine: Make, tmp_path: Path) -> None:
    with pytest.raises(BootError), machine("panic"):
        pass
    assert len(list((tmp_path / "fake").glob("guest-*"))) == 1


def test_a_panic_between_the_marker_and_ssh_is_the_kernels(machine: Make) -> None:
    with pytest.raises(BootError, match=r"panic at boot: .*fake panic"), machine("panic-at-ssh"):
        pass


def test_a_console_log_with_a_gap_is_not_a_clean_one(machine: Make) -> None:
    with machine() as guest:
        pass
    log = guest.directory / "console.log"
    log.write_bytes(log.read_bytes()[:-5])
    with pytest.raises(InfraError, match=r"console\.log has \d+ of \d+ bytes"):
        guest.splats()
    log.unlink()
    with pytest.raises(InfraError, match="has 0 of"):
        guest.splats()


@pytest.mark.parametrize(("status", "text"), [(1, "half"), (0, "")])
def test_a_kernel_log_that_cannot_be_read_is_not_a_clean_one(
    machine: Make, monkeypatch: pytest.MonkeyPatch, status: int, text: str
) -> None:
    with machine() as guest:
        done = Completed("dmesg", status, text, "", 0.1)
        monkeypatch.setattr(guest, "run", lambda _command: done)
        with pytest.raises(InfraError, match="dmesg failed"):
            guest.dmesg()


def test_a_guest_that_panics_at_work(machine: Make) -> None:
    with machine() as guest:
        with pytest.raises(MachineLostError, match=r"kernel panicked: .*fake panic") as caught:
            guest.run("die")
        assert not isinstance(caught.value, WorkloadTimeoutError)
        received = caught.value.completed
        assert isinstance(received, Completed)
        assert (received.status, received.stdout) == (-1, "last words of the guest\n")
        with pytest.raises(MachineLostError, match="kernel panicked"):
            guest.run("echo again")
    assert [each.kind for each in guest.splats()] == ["panic"]


def test_qemu_killed_at_work(machine: Make, tmp_path: Path) -> None:
    with machine() as guest:
        victim = alive(tmp_path)[0]

        def kill(_line: str) -> None:
            os.kill(victim, signal.SIGKILL)

        with pytest.raises(MachineLostError, match="QEMU ended with signal SIGKILL") as caught:
            guest.run("echo started; exec sleep 30", on_stdout_line=kill)
    assert caught.value.completed.stdout == "started\n"


def test_ssh_lost_while_qemu_runs(machine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquest, "DYING_S", 0.1)
    with machine() as guest:
        with pytest.raises(MachineLostError, match=r"SSH: .* while QEMU runs") as caught:
            guest.run("lose-ssh")
        assert caught.value.completed.stdout == "last words of the guest\n"
        with pytest.raises(MachineLostError, match=r"SSH: .*refused"):
            guest.run("echo again")


def test_a_time_out_kills_the_command(machine: Make) -> None:
    with machine() as guest:
        pid = ""

        def remember(line: str) -> None:
            nonlocal pid
            pid = line

        with pytest.raises(WorkloadTimeoutError, match=r"not done in 0\.5 s; killed") as caught:
            guest.run("echo $$; sleep 60; echo no", timeout_s=0.5, on_stdout_line=remember)
        assert caught.value.completed.stdout == f"{pid}\n"
        evidence = caught.value.evidence
        assert evidence.answered
        names = {"registers.txt", "cpus.txt", "stacks.txt", "sysrq.txt"}
        assert evidence.files.keys() == names
        assert "CPU#1" in evidence.files["registers.txt"]
        assert not Path(f"/proc/{pid}").exists()
        assert guest.run("echo fine").stdout == "fine\n"


def test_a_time_out_is_stretched_by_the_accelerator(machine: Make) -> None:
    slow = Accelerator("tcg", 3.0, "a test")
    late = pytest.raises(WorkloadTimeoutError, match=r"not done in 0\.6 s")
    with machine(accelerator=slow) as guest, late:
        guest.run("sleep 60", timeout_s=0.2)


def test_who_hears_it_gives_it_another_limit(machine: Make) -> None:
    """More than it had, or less; as the accelerator stretches it."""
    slow = Accelerator("tcg", 3.0, "a test")
    with machine(accelerator=slow) as guest:
        done = guest.run(
            "echo more; sleep 1; echo end", timeout_s=0.2, on_stdout_line=lambda _: 10.0
        )
        assert done.stdout == "more\nend\n"
        late = pytest.raises(WorkloadTimeoutError, match=r"`sleep 60`: not done in 0\.6 s")
        with late:
            guest.run(
                script(["echo less", "sleep 60"]), timeout_s=600, on_stdout_line=lambda _: 0.2
            )


def test_a_full_host_disk_is_not_the_guests_fault(machine: Make) -> None:
    with machine() as guest, pytest.raises(InfraError, match="No space left on device"):
        guest.run("fill-host-disk", timeout_s=20)


def test_a_qemu_that_will_not_go_is_killed(machine: Make, tmp_path: Path) -> None:
    with machine("boots,stubborn") as guest:
        assert alive(tmp_path)
    assert not alive(tmp_path)
    assert b"harness: ready" in guest.console()


def test_ctrl_c_at_work_leaves_nothing(machine: Make, tmp_path: Path) -> None:
    def interrupt(_line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), machine() as guest:
        guest.run("echo started; sleep 60", on_stdout_line=interrupt)
    assert not alive(tmp_path)


def test_ctrl_c_during_the_boot_leaves_nothing(machine: Make, tmp_path: Path) -> None:
    guest = machine("hang")

    def interrupt() -> None:
        while b"Run /init" not in guest.console():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), guest:
        pytest.fail("it booted")
    assert not alive(tmp_path)
    assert not list(guest.directory.glob("*.img"))


def test_two_machines_side_by_side(machine: Make, tmp_path: Path) -> None:
    one, two = machine(), machine()
    two.directory = tmp_path / "other"
    with one, two:
        assert one.run("echo 1").stdout == "1\n"
        assert two.run("echo 2").stdout == "2\n"
    assert not alive(tmp_path)


def test_no_kernel_image(machine: Make, tmp_path: Path) -> None:
    with (
        pytest.raises(InfraError, match="no kernel image"),
        machine(bzimage=tmp_path / "missing"),
    ):
        pass


def test_a_directory_that_cannot_be_written(machine: Make, tmp_path: Path) -> None:
    guest = machine()
    (tmp_path / "file").write_text("")
    guest.directory = tmp_path / "file" / "cell"
    with pytest.raises(InfraError, match="cannot write in"), guest:
        pass
