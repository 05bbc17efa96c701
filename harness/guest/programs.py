# SPDX-License-Identifier: GPL-2.0
"""The workloads: C programs compiled for the guest by their own Makefile."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import struct
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from harness.errors import BuildError, InfraError
from harness.events import Event, Listener, silent
from harness.guest.initramfs import interpreter
from harness.guest.process import Process

GRACE_S = 0.7  # between SIGTERM and SIGKILL
SET = "set-"  # in the name of a place: programs of one content
UNUSED_AFTER_S = 2 * 86400.0  # longer than any run


def compile_workloads(root: Path, cache: Path, listen: Listener = silent) -> dict[str, Path]:
    """Compile <root>/workloads; key ("races/punch-read-fault") -> static binary.

    make decides what is out of date: unchanged sources start no compiler.  Each
    checkout has its own place in the cache, and two runs in one take turns.  The
    binaries are copies that nobody changes: what is compiled while a run is under
    way does not get into its later machines.  BuildError with the first compiler
    error; InfraError when make is missing.
    """
    source = root / "workloads"
    checkout = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:12]
    out = cache / "workloads" / checkout
    out.mkdir(parents=True, exist_ok=True)
    make_path = shutil.which("make")
    if make_path is None:
        raise InfraError("make is not installed", hint="sudo apt-get install make")
    argv = [make_path, "--no-print-directory", "-C", str(source), f"OUT={out}"]
    hint = shlex.join(["make", *argv[1:]])
    log = out / "make.log"
    with FileLock(out / ".lock"), Process(argv, (), log) as make:
        try:
            status = make.wait(None)
        except BaseException:
            # Told, not killed, make removes what its compilers left half-written:
            # the next one would take that for finished.
            make.stop(GRACE_S)
            raise
        said = log.read_text(errors="replace")
        if status != 0:
            if "No space left on device" in said:
                raise InfraError(
                    f"workloads: {out}: no space left on the disk",
                    hint=f"free some space, or: export HARNESS_CACHE=DIRECTORY (see: df -h {out})",
                )
            raise BuildError(f"workloads: {_first_error(said)}", hint=hint, detail=said[-4000:])
        programs = {
            str(path.relative_to(out)): path
            for path in sorted(out.rglob("*"))
            if path.is_file() and _is_program(path)
        }
        for key, path in programs.items():
            if interpreter(path.read_bytes()) is not None:
                raise BuildError(
                    f"workload {key} is not linked statically; the guest has no libraries for it",
                    hint=f"file {path}",
                )
        kept = _kept(programs, out.parent)
    listen(Event("note", "workloads", f"{len(programs)} programs", len(programs), len(programs)))
    return kept


def digest(programs: Mapping[str, Path]) -> str:
    """What tells one set of programs from another: compile_workloads() named their place so."""
    key, path = next(iter(programs.items()))
    return path.parents[key.count("/")].name.removeprefix(SET)


def _digest(programs: Mapping[str, Path]) -> str:
    """Of their names and contents: of 50 MB, on all CPUs."""
    whole = hashlib.sha256()
    keys = sorted(programs)
    with ThreadPoolExecutor() as crew:
        contents = crew.map(_sha256, [programs[key] for key in keys])
        for key, content in zip(keys, contents, strict=True):
            whole.update(f"{key} {content}\n".encode())
    return whole.hexdigest()[:12]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _kept(programs: Mapping[str, Path], store: Path) -> dict[str, Path]:
    """Copies of the programs in a place that is named after their content."""
    name = _digest(programs)
    place = store / f"{SET}{name}"
    if place.is_dir() and not _is(place, programs, name):
        shutil.rmtree(place)  # a disk that was full, or a bad one
    if place.is_dir():
        os.utime(place)
    else:
        now = time.time()
        for old in store.glob(f"{SET}*"):
            with contextlib.suppress(OSError):
                if old.stat().st_mtime < now - UNUSED_AFTER_S:
                    shutil.rmtree(old)
        half = store / f".half-{os.getpid()}"
        shutil.rmtree(half, ignore_errors=True)
        try:
            for key, path in programs.items():
                (half / key).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, half / key)
            # Another checkout may have made the same set in the meantime.
            with contextlib.suppress(OSError):
                half.rename(place)
        except OSError as error:
            raise InfraError(
                f"workloads: cannot write {place}: {error.strerror}", hint=f"df -h {store}"
            ) from error
        finally:
            shutil.rmtree(half, ignore_errors=True)
    return {key: place / key for key in programs}


def _is(place: Path, programs: Mapping[str, Path], name: str) -> bool:
    """Whether `place` has the programs of which `name` is the digest."""
    try:
        return _digest({key: place / key for key in programs}) == name
    except OSError:
        return False


def _is_program(path: Path) -> bool:
    """Whether a file is a linked ELF program, not an object, list or lock."""
    with path.open("rb") as file:
        head = file.read(18)
    if len(head) < 18 or head[:4] != b"\x7fELF":
        return False
    (kind,) = struct.unpack_from("<H", head, 16)
    return kind in (2, 3)  # ET_EXEC, ET_DYN


def _first_error(said: str) -> str:
    """The first line of a failed make that names the mistake."""
    for pattern in (r"^.*\berror: .*$", r"^.*undefined reference.*$", r"^make.*\*\*\*.*$"):
        found = re.search(pattern, said, re.MULTILINE)
        if found:
            return found.group().strip()
    return "make failed and did not say why"
