# SPDX-License-Identifier: GPL-2.0
"""The workloads: C programs compiled for the guest by their own Makefile."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shlex
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from filelock import FileLock

from harness.errors import BuildError, InfraError
from harness.events import Event, Listener, silent
from harness.guest.firstprocess import first_error
from harness.guest.initramfs import interpreter
from harness.guest.process import Process

GRACE_S = 0.7  # between SIGTERM and SIGKILL
SET = "set-"  # in the name of a place: programs of one content
KNOWN = "known.json"
UNASKED = (KNOWN, "make.log", ".lock")  # by make
LOOK_S = 0.1  # how often a thread that waits for make looks whether it shall stop
UNUSED_AFTER_S = 2 * 86400.0  # longer than any run


def compile_workloads(
    root: Path, cache: Path, listen: Listener = silent, stop: threading.Event | None = None
) -> dict[str, Path]:
    """Compile <root>/workloads; key ("races/punch-read-fault") -> static binary.

    make decides what is out of date, and is asked when a file has changed since it was.  Each
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
    with FileLock(out / ".lock"):
        sources, known = _state(source), _Known.read(out)
        kept = {}
        if known is not None and known.state == sources + _state(out):
            kept = known.programs(out.parent)
        if not kept:
            kept = _made(argv, out, stop)
            if kept and not _elsewhere(source, out):
                _Known(sources + _state(out), digest(kept), sorted(kept)).write(out)
    listen(Event("note", "workloads", f"{len(kept)} programs", len(kept), len(kept)))
    return kept


def _made(argv: list[str], out: Path, stop: threading.Event | None) -> dict[str, Path]:
    """Copies of what make makes of the workloads."""
    _make(argv, out, stop)
    programs = {
        str(path.relative_to(out)): path
        for path in sorted(out.rglob("*"))
        if path.is_file() and _is_program(path)
    }
    for key, path in programs.items():
        if interpreter(_head(path)) is not None:
            raise BuildError(
                f"workload {key} is not linked statically; the guest has no libraries for it",
                hint=f"file {path}",
            )
    return _kept(programs, out.parent)


@dataclass(frozen=True)
class _Known:
    """What the last make left: how all files were then, and the set of its programs."""

    state: list[list[str | int]]
    digest: str
    keys: list[str]

    @classmethod
    def read(cls, out: Path) -> _Known | None:
        try:
            return cls(**json.loads((out / KNOWN).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def programs(self, store: Path) -> dict[str, Path]:
        """That set; empty when it is not there as it was."""
        place = store / f"{SET}{self.digest}"
        kept = {key: place / key for key in self.keys}
        if not _is(place, kept, self.digest):
            return {}
        os.utime(place)
        return kept

    def write(self, out: Path) -> None:
        part = out / f".{KNOWN}.{os.getpid()}"
        part.write_text(json.dumps(dataclasses.asdict(self)))
        part.replace(out / KNOWN)


def _state(place: Path) -> list[list[str | int]]:
    """All that make looks at: names, times and sizes."""
    found: list[list[str | int]] = []
    for where, below, names in os.walk(place, followlinks=True):
        below.sort()
        for name in sorted(names):
            path = os.path.join(where, name)  # noqa: PTH118 - hundreds of them, at each start
            # An editor's lock is a link to nowhere, and its copies come and go.
            with contextlib.suppress(OSError):
                stat = os.stat(path)  # noqa: PTH116
                if name not in UNASKED and S_ISREG(stat.st_mode):
                    found.append([path, stat.st_mtime_ns, stat.st_size])
    return found


def _elsewhere(source: Path, out: Path) -> bool:
    """Whether a program is made of a header that is not in `source`, where _state() looks."""
    for rules in out.rglob("*.d"):
        for word in rules.read_text(errors="replace").replace("\\\n", " ").split():
            path = os.path.normpath(source / word.rstrip(":"))
            if not Path(path).is_relative_to(source) and not Path(path).is_relative_to(out):
                return True
    return False


def _make(argv: list[str], out: Path, stop: threading.Event | None) -> None:
    """make, to its end; BuildError with what is wrong."""
    log = out / "make.log"
    with Process(argv, (), log) as make:
        try:
            status = _wait(make, stop)
        except BaseException:
            # Told, not killed, make removes what its compilers left half-written:
            # the next one would take that for finished.
            make.stop(GRACE_S)
            raise
    said = log.read_text(errors="replace")
    if status == 0:
        return
    if "No space left on device" in said:
        raise InfraError(
            f"workloads: {out}: no space left on the disk",
            hint=f"free some space, or: export HARNESS_CACHE=DIRECTORY (see: df -h {out})",
        )
    hint = shlex.join(["make", *argv[1:]])
    raise BuildError(f"workloads: {first_error(said)}", hint=hint, detail=said[-4000:])


def _wait(make: Process, stop: threading.Event | None) -> int:
    while stop is not None:
        if stop.is_set():
            raise InterruptedError("make is stopped")
        with contextlib.suppress(subprocess.TimeoutExpired):
            return make.wait(LOOK_S)
    return make.wait(None)


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


def _head(path: Path) -> bytes:
    """Of an ELF file: its header, and that of its program, which linkers put next to it."""
    with path.open("rb") as file:
        return file.read(4096)


def _is_program(path: Path) -> bool:
    """Whether a file is a linked ELF program, not an object, list or lock."""
    head = _head(path)
    if len(head) < 18 or head[:4] != b"\x7fELF":
        return False
    (kind,) = struct.unpack_from("<H", head, 16)
    return kind in (2, 3)  # ET_EXEC, ET_DYN
