# SPDX-License-Identifier: GPL-2.0
"""The archive, read back by a reader that is as strict as the kernel."""

from __future__ import annotations

import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BuildError, InfraError
from harness.guest import initramfs
from harness.guest.firstprocess import program
from harness.guest.initramfs import Entry, directory, interpreter, newc, regular
from tests.fakes.cpio import members
from tests.guest.conftest import ROOT

NAME = st.from_regex(r"[a-z]{1,8}(/[a-zé]{1,30}){0,3}", fullmatch=True)


@given(st.dictionaries(NAME, st.binary(max_size=40), max_size=6))
def test_what_is_put_in_comes_out(files: dict[str, bytes]) -> None:
    entries = {f"d/{name}.f": regular(f"d/{name}.f", data) for name, data in files.items()}
    archive = newc(entries)
    found = members(archive)
    for name, data in files.items():
        assert found[f"d/{name}.f"].data == data
        parent = str(Path(f"d/{name}.f").parent)
        assert found[parent].order < found[f"d/{name}.f"].order, "a child before its parent"
        assert stat.S_ISDIR(found[parent].mode)
    assert archive == newc(dict(reversed(entries.items()))), "the order of asking shows"
    # Another archive may follow.
    assert set(members(archive + newc({"z": directory("z")}))) == {*found, "z"}


def elf(interp: bytes | None, kind: int = 3) -> bytes:
    header = b"\x7fELF\x02\x01".ljust(16, b"\0") + struct.pack("<HH", 2, 62)
    header = header.ljust(0x20, b"\0") + struct.pack("<Q", 64)
    header = header.ljust(0x36, b"\0") + struct.pack("<HH", 56, 1)
    header = header.ljust(64, b"\0")
    body = struct.pack("<IIQQQQQQ", kind, 0, 120, 0, 0, len(interp or b""), 0, 0)
    return header + body + (interp or b"")


def test_interpreter_of_dynamic_and_static_programs() -> None:
    assert interpreter(elf(b"/lib64/ld.so\0")) == "/lib64/ld.so"
    assert interpreter(elf(None, kind=1)) is None
    assert interpreter(b"#!/bin/sh\n") is None


@given(st.binary(max_size=300), st.integers(0, 400))
def test_interpreter_of_broken_files(junk: bytes, cut: int) -> None:
    interpreter((elf(b"/lib64/ld.so\0") + junk)[:cut])
    interpreter(b"\x7fELF\x02\x01" + junk)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    place = tmp_path_factory.mktemp("image")
    program = place / "program"
    program.write_bytes(elf(None, kind=1))
    key = place / "key"
    key.write_bytes(b"host key")
    out = initramfs.build(
        place / "out.cpio", {"races/one": program}, "ssh-ed25519 AAAA\n", key, place, ROOT
    )
    return out.read_bytes()


def test_the_guest_has_what_it_needs(image: bytes) -> None:
    found = members(image)
    for name in ("bin/busybox", "sbin/dropbear", "sbin/mke2fs", "sbin/mkfs.xfs", "init"):
        assert found[name].mode == stat.S_IFREG | 0o755, name
    assert interpreter(found["init"].data) is None
    assert b"harness.hang=1" in found["init"].data
    assert found["bin/sh"].data == b"busybox"
    assert found["sbin/mkfs.ext4"].data == b"mke2fs"
    assert found["workloads/races/one"].mode == stat.S_IFREG | 0o755
    assert found["dev/console"].mode == stat.S_IFCHR | 0o600
    assert found["dev/console"].device == (5, 1)


def test_every_library_and_loader_is_there(image: bytes) -> None:
    found = members(image)
    for name, member in found.items():
        if name.startswith("sbin/") and stat.S_ISREG(member.mode):
            loader = interpreter(member.data)
            assert loader is None or loader.lstrip("/") in found, name
    libraries = {Path(name).name for name in found if ".so" in name}
    assert {"libc.so.6", "libtomcrypt.so.1"} <= libraries


def test_secrets_are_private(image: bytes) -> None:
    found = members(image)
    assert found["etc/dropbear/host_key"].mode == stat.S_IFREG | 0o600
    assert found["root/.ssh/authorized_keys"].mode == stat.S_IFREG | 0o600
    assert found["root/.ssh/authorized_keys"].data == b"ssh-ed25519 AAAA\n"
    for name in ("root", "root/.ssh", "etc/dropbear"):
        assert found[name].mode == stat.S_IFDIR | 0o700


def test_the_base_is_made_once_and_follows_its_sources(tmp_path: Path) -> None:
    files = tmp_path / "vm/files/etc"
    files.mkdir(parents=True)
    (files / "passwd").write_text("one")
    source = tmp_path / "vm/init.c"
    source.write_text("int main(void) { return 1; }\n")

    def base() -> tuple[Path, int]:
        made = initramfs.common({}, tmp_path / "cache", tmp_path)
        return made[0], made[0].stat().st_ino

    first = base()
    assert base() == first, "it was written again"
    whole = first[0].read_bytes()
    first[0].write_bytes(whole.replace(b"one", b"onf"))
    initramfs._seen_whole.clear()  # as a new process
    assert base()[0].read_bytes() == whole, "what had rotted was used"
    assert base()[0] == first[0]  # it is known to be whole now
    first[0].unlink()  # as `harness clean` does, while a run is under way
    assert base()[0].read_bytes() == whole
    first = base()
    source.write_text("int main(void) { return 2; }\n")
    assert base()[0] != first[0]


def test_the_first_process_is_compiled_once_and_its_mistakes_are_told(tmp_path: Path) -> None:
    source, cache = tmp_path / "init.c", tmp_path / "cache"
    source.write_text("int main(void) { return 1; }\n")
    made = program(source, cache)
    (path,) = (cache / "initramfs").iterdir()
    before = path.stat()
    assert program(source, cache) == made
    assert path.stat().st_ino == before.st_ino
    path.write_bytes(made[:-1])
    assert program(source, cache) == made, "what had rotted was used"
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(BuildError, match=r"init\.c:1:\d+: error: .*nothing") as caught:
        program(source, cache)
    assert caught.value.hint.startswith("gcc ")
    assert [path.name for path in (cache / "initramfs").iterdir()] == [path.name]
    with pytest.raises(InfraError, match=r"cannot make the guest's init of .*no\.c: No such"):
        program(tmp_path / "no.c", cache)


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InfraError, match="no-such-tool") as caught:
        initramfs.find_tool("no-such-tool", "some-package")
    assert caught.value.hint == "sudo apt-get install some-package"


def test_tools_outside_a_users_path_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert initramfs.find_tool("mke2fs", "e2fsprogs").name == "mke2fs"


def test_a_dynamic_workload_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(elf(b"/lib64/ld.so\0"))
    key = tmp_path / "key"
    key.write_bytes(b"")
    with pytest.raises(InfraError, match="races/one is not linked statically"):
        initramfs.build(tmp_path / "out", {"races/one": program}, "", key, tmp_path, ROOT)
    with pytest.raises(InfraError, match="cannot read"):
        initramfs.build(tmp_path / "out", {"x": tmp_path / "no"}, "", key, tmp_path, ROOT)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "directory"
    target.mkdir()
    with pytest.raises(InfraError, match="cannot write"):
        initramfs.join(target, [])
    assert [path.name for path in tmp_path.iterdir()] == ["directory"], "a part was left behind"


def test_an_entry_larger_than_its_name_suggests() -> None:
    entry = Entry("dev/x", stat.S_IFBLK | 0o600, device=(254, 17))
    assert members(newc({"dev/x": entry}))["dev/x"].device == (254, 17)
