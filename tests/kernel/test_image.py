# SPDX-License-Identifier: GPL-2.0
from __future__ import annotations

import dataclasses
import errno
import os
import struct
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.guest import symbols
from harness.kernel import image


def _image(directory: Path, identity: str) -> image.Image:
    directory.mkdir(exist_ok=True)
    paths = {name: directory / name for name in ("bzimage", "vmlinux", "dotconfig", "log")}
    for path in paths.values():
        path.write_text(identity)
    scripts = directory / "scripts"
    scripts.mkdir(exist_ok=True)
    (scripts / "decode_stacktrace.sh").write_text("#!/bin/bash\n")
    return image.Image(
        kernel="stock",
        role="stock",
        id=identity,
        release=f"6.12.9-stock-{identity}",
        built=True,
        seconds=1.0,
        source_commit="0" * 40,
        series=["one"],
        compiler="gcc 12",
        scripts=scripts,
        **paths,
    )


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    images = tmp_path / "images"
    stored = image.store(images, _image(tmp_path / "o", "aaaaaaaaaaaa"))
    assert stored.bzimage.parent == images / "aaaaaaaaaaaa"
    assert image.load(images, "aaaaaaaaaaaa") == stored
    assert (stored.scripts / "decode_stacktrace.sh").is_file()  # not those of a later worktree
    assert symbols.beside(stored.bzimage) is not None
    assert image.load(images, "bbbbbbbbbbbb") is None


def test_the_next_make_does_not_write_to_a_stored_vmlinux(tmp_path: Path) -> None:
    made = _image(tmp_path / "o", "aaaaaaaaaaaa")
    stored = image.store(tmp_path / "images", made)
    assert stored.vmlinux.samefile(made.vmlinux), "a hundred megabytes were copied"
    before = stored.vmlinux.read_bytes()
    image.let_go(tmp_path / "o")
    image.let_go(tmp_path / "o")  # it is gone already
    with made.vmlinux.open("ab") as file:  # whatever a linker does
        file.write(b"more")
    assert stored.vmlinux.read_bytes() == before
    image.let_go(tmp_path / "o")
    assert made.vmlinux.exists(), "it is make's own, and need not be linked again"


def test_no_links_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    made = _image(tmp_path / "o", "aaaaaaaaaaaa")
    stored = image.store(tmp_path / "images", made)
    assert stored.vmlinux.read_bytes() == made.vmlinux.read_bytes()


def test_moved_cache_still_serves(tmp_path: Path) -> None:
    image.store(tmp_path / "images", _image(tmp_path / "o", "aaaaaaaaaaaa"))
    (tmp_path / "images").rename(tmp_path / "moved")
    loaded = image.load(tmp_path / "moved", "aaaaaaaaaaaa")
    assert loaded is not None
    assert loaded.bzimage.is_file()


def test_only_the_last_used_are_kept(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for number, identity in enumerate("abcd"):
        stored = image.store(images, _image(tmp_path / "o", identity))
        os.utime(stored.bzimage.with_name("image.json"), (number, number))
        if identity == "c":
            assert image.load(images, "a") is not None  # used again just now
    _pruned()
    assert sorted(path.name for path in images.iterdir()) == ["a", "c", "d"]


def _pruned() -> None:
    for thread in threading.enumerate():
        if thread.name == "prune":
            thread.join()


def test_what_a_killed_process_did_not_remove_goes_with_the_next(tmp_path: Path) -> None:
    images = tmp_path / "images"
    left = images / "going/old-1"
    left.mkdir(parents=True)
    (left / "vmlinux").write_text("")
    image.store(images, _image(tmp_path / "o", "a"))
    _pruned()
    assert sorted(path.name for path in images.iterdir()) == ["a"]


def test_half_stored_image_is_no_image(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "new").mkdir(parents=True)  # what a run that died leaves
    (images / "new" / "bzImage").write_text("half")
    assert image.load(images, "new") is None
    stored = image.store(images, _image(tmp_path / "o", "a"))
    assert dataclasses.replace(stored) == image.load(images, "a")
    assert not (images / "new").exists()


def test_banner_is_read_where_the_boot_protocol_says(tmp_path: Path) -> None:
    setup = bytearray(0x1000)
    setup[0x202:0x206] = b"HdrS"
    setup[0x20E:0x210] = struct.pack("<H", 0x300)
    text = b"6.12.9-stock-aaaaaaaaaaaa (harness@harness) #1 SMP\0"
    setup[0x500 : 0x500 + len(text)] = text
    path = tmp_path / "bzImage"
    path.write_bytes(setup)
    assert image.banner(path) == text[:-1].decode()


@given(st.binary(max_size=0x300))
def test_banner_of_anything_is_text(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\0" * 0x202 + b"HdrS" + content)
        file.flush()
        assert isinstance(image.banner(Path(file.name)), str)
