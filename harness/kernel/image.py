# SPDX-License-Identifier: GPL-2.0
"""Finished images, kept by id: a build in progress never touches one that is in use.

images/<id>/ is filled beside and renamed, with image.json in it: a directory
that exists is complete, and its stamp tells whether the bzImage is still the
one that was written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STAMP = "image.json"
_GOING = "going"  # under images/: what is being removed
_KEEP = 3  # images per kernel: going back to the last state of a patch costs no make
_FILES = ("bzimage", "vmlinux", "dotconfig", "log", "scripts")
# Of the kernel's own scripts/: what tells file and line of a stack trace.
DECODERS = ("decode_stacktrace.sh", "decodecode", "faddr2line")
_SETUP_MAGIC = b"HdrS"


@dataclass(frozen=True)
class Image:
    """A kernel that can be booted."""

    kernel: str  # its name in harness.toml
    role: str
    id: str  # 12 hex digits
    release: str  # what `uname -r` prints
    bzimage: Path
    vmlinux: Path
    dotconfig: Path
    log: Path  # of the build that made it
    scripts: Path  # of the kernel's own: DECODERS
    built: bool  # False: it was there, no make was started
    seconds: float  # this call of ensure(), wall time
    source_commit: str  # of the tree's bare repository, series applied
    series: list[str]
    compiler: str  # first line of gcc --version


def load(images: Path, identity: str) -> Image | None:
    """The image `identity` under `images`, None when it is not there whole.

    The bzImage's content is compared with the sha256 in its stamp: a cache that a full
    disk or a bad one damaged must not be blamed on the kernel.  It takes 20 ms.
    """
    directory = images / identity
    try:
        stamp: dict[str, Any] = json.loads((directory / _STAMP).read_text())
        fields = {**stamp["image"], **{key: directory / stamp["image"][key] for key in _FILES}}
        image = Image(**fields)
        whole = hashlib.sha256(image.bzimage.read_bytes()).hexdigest() == stamp["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not whole or not image.vmlinux.is_file() or not image.dotconfig.is_file():
        return None
    if not image.scripts.is_dir():
        return None
    with contextlib.suppress(OSError):
        os.utime(directory / _STAMP)  # in use: `store` removes the oldest
    return image


def store(images: Path, image: Image) -> Image:
    """Copy the files of `image` to images/<id>/ and write its stamp; the stored image.

    vmlinux is a link, for let_go() to undo: a hundred megabytes, which the disk would be busy
    with while the first guest boots.  The caller holds the kernel's lock.  Older images beyond
    a few are removed.
    """
    directory, new = images / image.id, images / "new"
    for stale in (new, directory):
        shutil.rmtree(stale, ignore_errors=True)
    new.mkdir(parents=True)
    names = {"bzimage": "bzImage", "vmlinux": "vmlinux", "dotconfig": "config", "log": "build.log"}
    for key, name in names.items():
        copy = _linked if key == "vmlinux" else shutil.copy2
        copy(getattr(image, key), new / name)
    (new / "scripts").mkdir()
    for name in DECODERS:
        with contextlib.suppress(FileNotFoundError):  # an old tree may lack one
            shutil.copy2(image.scripts / name, new / "scripts" / name)
    _gdb_scripts(image, new)
    names["scripts"] = "scripts"
    stamp = {
        "image": {**dataclasses.asdict(image), **names},
        "sha256": hashlib.sha256((new / "bzImage").read_bytes()).hexdigest(),
    }
    (new / _STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
    new.rename(directory)
    _prune(images, keep=directory)
    return dataclasses.replace(
        image,
        bzimage=directory / names["bzimage"],
        vmlinux=directory / names["vmlinux"],
        dotconfig=directory / names["dotconfig"],
        log=directory / names["log"],
        scripts=directory / names["scripts"],
    )


def _linked(file: Path, to: Path) -> None:
    try:
        to.hardlink_to(file)
    except OSError:  # a file system that has no links
        shutil.copy2(file, to)


def let_go(objects: Path) -> None:
    """Before make in O=: the vmlinux there is an image's, and is not to be written to."""
    vmlinux = objects / "vmlinux"
    with contextlib.suppress(FileNotFoundError):
        if vmlinux.stat().st_nlink > 1:
            vmlinux.unlink()  # make links it again whenever anything has changed


def _gdb_scripts(image: Image, to: Path) -> None:
    """The kernel's own commands for gdb, where its vmlinux-gdb.py looks for them."""
    if not (image.scripts / "gdb" / "vmlinux-gdb.py").is_file():
        return
    shutil.copytree(image.scripts / "gdb", to / "scripts" / "gdb")
    shutil.copy2(image.scripts / "gdb" / "vmlinux-gdb.py", to / "vmlinux-gdb.py")
    made = image.vmlinux.parent / "scripts/gdb/linux/constants.py"  # `make scripts_gdb`
    if made.is_file():
        shutil.copy2(made, to / "scripts/gdb/linux/constants.py")


def _prune(images: Path, keep: Path) -> None:
    """All but the last used go, in a thread: a vmlinux takes the disk a tenth of a second."""

    def last_used(directory: Path) -> float:
        with contextlib.suppress(OSError):
            return (directory / _STAMP).stat().st_mtime
        return 0.0

    others = [entry for entry in images.iterdir() if entry not in (keep, images / _GOING)]
    old = sorted(others, key=last_used, reverse=True)[_KEEP - 1 :]
    going = images / _GOING
    going.mkdir(exist_ok=True)
    for entry in old:
        with contextlib.suppress(OSError):
            entry.rename(going / f"{entry.name}-{time.time_ns()}")
    # A process that ends before leaves it to the next one.
    threading.Thread(
        target=shutil.rmtree, args=(going, True), name="prune", daemon=True
    ).start()


def banner(bzimage: Path) -> str:
    """The version line inside a bzImage, "" when it has no setup header.

    Documentation/arch/x86/boot.rst: kernel_version at 0x20e is the offset of a
    string, less 0x200; it begins with what `uname -r` prints.
    """
    with bzimage.open("rb") as file:
        setup = file.read(0x10000)
    if setup[0x202:0x206] != _SETUP_MAGIC or len(setup) < 0x210:
        return ""
    start = int(struct.unpack_from("<H", setup, 0x20E)[0]) + 0x200
    return setup[start : start + 256].split(b"\0", 1)[0].decode(errors="replace")
