# SPDX-License-Identifier: GPL-2.0
"""Accelerators and QEMU's command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import InfraError, UsageError
from harness.guest import qemu
from harness.guest.qemu import Accelerator, command, probe_accelerator, run_probe
from harness.guest.qmp import forwarded_port

TCG = Accelerator("tcg", 5.0, "")


@pytest.fixture(autouse=True)
def forget_the_last_probe() -> Iterator[None]:
    qemu.why_no_kvm.cache_clear()
    yield
    qemu.why_no_kvm.cache_clear()


def test_auto_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "why_no_kvm", lambda: "no vmx or svm in /proc/cpuinfo")
    found = probe_accelerator("auto")
    assert (found.name, found.slowdown) == ("tcg", qemu.SLOWDOWN["tcg"])
    assert "no vmx or svm" in found.reason
    with pytest.raises(InfraError, match="KVM does not work here: no vmx or svm"):
        probe_accelerator("kvm")


def test_kvm_is_taken_when_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "why_no_kvm", lambda: "")
    assert [probe_accelerator(asked).name for asked in ("auto", "kvm", "tcg")] == [
        "kvm",
        "kvm",
        "tcg",
    ]
    assert probe_accelerator("kvm").slowdown == 1.0


@pytest.mark.parametrize("asked", ["auto", "kvm", "tcg"])
def test_a_missing_qemu_is_said_at_once(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after the kernels were built: the probe is what a run does first."""
    monkeypatch.setattr(qemu, "why_no_kvm", lambda: "no vmx or svm in /proc/cpuinfo")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfraError, match="qemu-system-x86_64 is not installed"):
        probe_accelerator(asked)


def test_an_unknown_accelerator() -> None:
    with pytest.raises(UsageError, match="hvf"):
        probe_accelerator("hvf")


def test_the_probe_machine_runs(fake_qemu: Callable[[str], None]) -> None:
    fake_qemu("boots")
    assert run_probe("kvm") == ""


def test_the_probe_machine_hangs(fake_qemu: Callable[[str], None]) -> None:
    fake_qemu("probe-hang")
    assert run_probe("kvm", limit_s=0.3) == "a probe machine hung for 0 s"


def test_the_probe_machine_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / qemu.PROGRAM
    program.write_text("#!/bin/sh\necho MSR trouble >&2\nkill -ABRT $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert run_probe("kvm") == "a probe machine ended with signal SIGABRT: MSR trouble"


def test_qemu_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfraError, match="qemu-system-x86_64 is not installed") as caught:
        qemu.find_qemu()
    assert caught.value.hint == "sudo apt-get install qemu-system-x86"


def build(**changes: object) -> list[str]:
    arguments: dict[str, object] = {
        "bzimage": Path("/k/bzImage"),
        "initramfs": Path("/i"),
        "cmdline": ["a", "b=c"],
        "cpus": 4,
        "memory_mib": 512,
        "accelerator": TCG,
        "disks": [Path("/d/one,two.img")],
        "serial": "socket,fd=5",
        "qmp": "socket,fd=6",
    }
    return command(**(arguments | changes))  # type: ignore[arg-type]


def test_the_command_line(fake_qemu: Callable[[str], None]) -> None:
    fake_qemu("boots")
    argv = build()
    assert Path(argv[0]).name == qemu.PROGRAM
    for words in (
        "-nodefaults", "-no-user-config", "-no-reboot", "-display none", "-machine q35",
        "-accel tcg,thread=multi", "-m 512M", "-kernel /k/bzImage", "-initrd /i",
        "-smp cpus=4,sockets=4,cores=1,threads=1", "-chardev socket,fd=5,id=serial0",
        "-chardev socket,fd=6,id=qmp0", "hostfwd=tcp:127.0.0.1:0-10.0.2.15:22",
    ):  # fmt: skip
        assert words in " ".join(argv)
    assert argv[argv.index("-append") + 1] == "a b=c"
    assert "restrict=on" in " ".join(argv)
    (drive,) = [word for word in argv if word.startswith("if=none,id=disk")]
    assert "file=/d/one,,two.img,cache" in drive, "a comma in a path ends QEMU's option"


def test_the_quicker_firmware_where_there_is_one(
    fake_qemu: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_qemu("boots")
    for there in (True, False):
        monkeypatch.setattr(qemu, "has_firmware", lambda there=there: there)
        assert ("-bios qboot.rom" in " ".join(build())) == there
        # A stored coordinate is of a machine with SeaBIOS.
        assert "-bios" not in build(accelerator=qemu.COUNTED)
    monkeypatch.undo()
    program = tmp_path / qemu.PROGRAM
    program.write_text(f'#!/bin/sh\n[ "$*" = "-L help" ] && printf "/none\\n{tmp_path}\\n"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    qemu.has_firmware.cache_clear()
    assert not qemu.has_firmware()
    (tmp_path / qemu.FIRMWARE).touch()
    qemu.has_firmware.cache_clear()
    assert qemu.has_firmware()
    qemu.has_firmware.cache_clear()


def test_instructions_are_counted_and_cpus_take_turns(fake_qemu: Callable[[str], None]) -> None:
    fake_qemu("boots")
    counted, sliced = (" ".join(build(accelerator=each)) for each in (qemu.COUNTED, qemu.SLICED))
    for line in (counted, sliced):
        assert "-icount shift=0,sleep=off" in line and "-accel tcg,thread=single" in line
    assert "filter-buffer" not in counted
    # The filter is of the network device that is there anyway.
    assert "filter-buffer,id=slices,netdev=net0,queue=rx,interval=20" in sliced
    assert "-icount" not in " ".join(build())


def test_by_hand_the_console_has_a_monitor_and_no_qmp(fake_qemu: Callable[[str], None]) -> None:
    fake_qemu("boots")
    argv = " ".join(build(qmp=None, serial="stdio,mux=on"))
    assert "qmp0" not in argv and "-mon chardev=serial0,mode=readline" in argv
    assert "thread=multi" not in " ".join(build(accelerator=Accelerator("kvm", 1.0, "")))


def test_the_forwarded_port() -> None:
    # As QEMU 7.2.22 printed it.
    said = (
        "Hub -1 (net0):\r\n"
        "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
        "  UDP[236 sec]       12 192.168.1.1 5353 10.0.2.15 22 0 0\r\n"
        "  TCP[HOST_FORWARD]  11       127.0.0.1 39293       10.0.2.15    22     0     0\r\n"
    )
    assert forwarded_port(said) == 39293
    with pytest.raises(ConnectionError):
        forwarded_port("Hub -1 (net0):\r\n")
