# SPDX-License-Identifier: GPL-2.0
"""doctor: what is there, what is missing, and the command that brings it."""

from __future__ import annotations

import os
import shutil
import types
from pathlib import Path

import pytest

from harness import doctor
from harness.errors import InfraError
from harness.guest.qemu import Accelerator

REPOSITORY = Path(__file__).parent.parent


class Machine:
    """A fake host: a directory of programs, sizes, an accelerator."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs = tmp_path / "bin"
        self.cache = tmp_path / "cache"
        self.results = tmp_path / "work" / "results"
        self.programs.mkdir()
        self.cache.mkdir()
        self.results.parent.mkdir()
        self.accelerator: Accelerator | InfraError = Accelerator("tcg", 5.0, "KVM does not work")
        monkeypatch.setenv("PATH", str(self.programs))
        monkeypatch.setattr(doctor, "_SBIN", ())
        monkeypatch.setattr(doctor, "probe_accelerator", self.probe)
        monkeypatch.setattr(shutil, "disk_usage", self.disk_usage)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        self.disk_usage_of = {self.cache: 100 << 30, self.results.parent: 100 << 30}
        for need in doctor.needs():
            if not need.brings.startswith("/"):
                self.program(need.brings)

    def program(self, name: str, text: str = "#!/bin/sh\necho fake version 7.2\n") -> None:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def disk_usage(self, path: Path) -> types.SimpleNamespace:
        return types.SimpleNamespace(free=self.disk_usage_of[path])

    def probe(self, _asked: str) -> Accelerator:
        if isinstance(self.accelerator, InfraError):
            raise self.accelerator
        return self.accelerator

    def examine(self) -> tuple[int, list[str]]:
        said: list[str] = []
        code = doctor.examine(self.cache, self.results, said.append)
        return code, said


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A host that has everything; headers are those of the real one."""
    needs = [
        need if not need.brings.startswith("/") else doctor.Need(need.package, "/", need.why)
        for need in doctor.needs()
    ]
    made = Machine(tmp_path, monkeypatch)
    monkeypatch.setattr(doctor, "needs", lambda: needs)
    return made


def line(said: list[str], begins: str) -> str:
    (found,) = [text for text in said if text.startswith(begins)]
    return found


def test_a_machine_that_has_everything(machine: Machine) -> None:
    code, said = machine.examine()
    assert code == 0
    assert all(text.startswith("ok") for text in said[:-1])
    assert said[-1] == "try: harness run quick"
    assert "fake version 7.2" in line(said, "ok       QEMU")
    assert "5 times longer" in line(said, "ok       KVM")


def test_each_missing_tool_names_its_package(machine: Machine) -> None:
    for name in ("flex", "mkfs.xfs"):
        (machine.programs / name).unlink()
    code, said = machine.examine()
    assert code == 125
    assert "(package flex)" in line(said, "MISSING  tool     flex")
    assert "(package xfsprogs)" in line(said, "MISSING  tool     mkfs.xfs")
    assert said[-1] == "try: sudo apt-get install -y --no-install-recommends flex xfsprogs"


def test_root_needs_no_sudo(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (machine.programs / "bc").unlink()
    assert machine.examine()[1][-1] == "try: apt-get install -y --no-install-recommends bc"


def test_without_apt_the_packages_are_listed(machine: Machine) -> None:
    for name in ("apt-get", "bc"):
        (machine.programs / name).unlink()
    code, said = machine.examine()
    assert (code, said[-1]) == (125, "try: install what this system calls: bc apt")


def test_qemu_missing(machine: Machine) -> None:
    (machine.programs / doctor.QEMU).unlink()
    code, said = machine.examine()
    assert code == 125
    assert "is not installed (package qemu-system-x86)" in line(said, "MISSING  QEMU")
    assert said[-1].endswith(" qemu-system-x86")


def test_qemu_that_does_not_run(machine: Machine) -> None:
    machine.program(doctor.QEMU, "#!/bin/sh\nexit 3\n")
    code, said = machine.examine()
    assert code == 125
    assert "exit status 3" in line(said, "MISSING  QEMU")


def test_kvm_that_works(machine: Machine) -> None:
    machine.accelerator = Accelerator("kvm", 1.0, "a probe ran")
    assert line(machine.examine()[1], "ok       KVM") == "ok       KVM      works: a probe ran"


def test_a_probe_that_could_not_run(machine: Machine) -> None:
    machine.accelerator = InfraError("no room for a probe", hint="df -h")
    code, said = machine.examine()
    assert (code, said[-1]) == (125, "try: df -h")


def test_busybox_must_be_static(machine: Machine) -> None:
    shutil.copy("/usr/bin/env", machine.programs / "busybox")  # a dynamic program
    code, said = machine.examine()
    assert code == 125
    assert "is not static" in line(said, "MISSING  tool     ")
    assert said[-1].endswith(" busybox-static")


def test_a_full_disk(machine: Machine) -> None:
    machine.disk_usage_of[machine.cache] = 7 << 30
    code, said = machine.examine()
    assert code == 125
    assert "7.0 GiB free for cache" in line(said, "MISSING  disk")
    assert said[-1] == "try: HARNESS_CACHE=/some/roomy/directory harness doctor"


def test_what_the_cache_holds_need_not_be_free(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.disk_usage_of[machine.cache] = 2 << 30
    monkeypatch.setattr(doctor, "_size", lambda _: doctor.DISK_NEEDED - (1 << 30))
    assert machine.examine()[0] == 0


def test_results_have_a_disk_of_their_own(machine: Machine) -> None:
    machine.disk_usage_of[machine.results.parent] = 1 << 20
    code, said = machine.examine()
    assert code == 125
    assert said[-1] == f"try: df -h {machine.results.parent}"


def test_the_size_of_a_cache(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * (1 << 20))
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert 1 << 20 <= doctor._size(tmp_path) < 2 << 20


def test_every_line_of_the_list_says_why() -> None:
    needs = doctor.needs()
    assert {"gcc", "qemu-system-x86", "busybox-static"} <= {need.package for need in needs}
    assert len({need.package for need in needs}) == len(needs)
    assert all(len(need.why) > 10 for need in needs)


def test_packages_of_tests_have_a_list_of_the_same_form() -> None:
    of_tests = doctor.needs(REPOSITORY / "tests" / "packages.txt")
    assert "chromium" in {need.package for need in of_tests}
    assert all(len(need.why) > 10 for need in of_tests)


def test_packages_of_tests_are_not_missed(machine: Machine) -> None:
    assert not (machine.programs / "chromium").exists()
    assert machine.examine()[0] == 0


def test_a_harness_without_its_checkout(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="cannot read the list of packages"):
        doctor.needs(tmp_path / "packages.txt")
