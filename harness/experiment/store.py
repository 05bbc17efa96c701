# SPDX-License-Identifier: GPL-2.0
"""results/: one directory per run, every file whole or absent, nothing finished lost.

The layout is described in docs/results.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from harness.errors import InfraError
from harness.events import Event

LATEST = "latest"
_TIME = len("20261125T120000Z")


class DiskFullError(InfraError):
    """No room left under results/: the run cannot go on (exit code 125)."""


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turns an OSError from writing under `directory` into one line for the user.

    Raises DiskFullError when the disk or the quota is full, InfraError otherwise.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"disk full while writing results to {directory}; what was finished before is kept",
                hint=f"df -h {directory}",
            ) from error
        raise InfraError(
            f"cannot write results to {directory}: {error.strerror or error}",
            hint=f"ls -ld {directory}",
        ) from error


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file that is whole at any moment, even across a power cut.

    Temporary file beside it, fsync, rename, fsync of the directory.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path.parent):
        try:
            with temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes `value` as JSON for people and programs, atomically."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def delete_disks(directory: Path) -> None:
    """Removes the scratch disks in `directory`, which nobody will want to look at."""
    for path in directory.glob("*.img"):
        path.unlink(missing_ok=True)


def set_aside(directory: Path, what: str) -> None:
    """Moves an attempt's files into <what>-<n>/: evidence, but not the verdict's."""
    number = 1
    while (directory / f"{what}-{number}").exists():
        number += 1
    place = directory / f"{what}-{number}"
    with writing(directory):
        place.mkdir()
        for path in list(directory.iterdir()):
            if not path.name.startswith(("attempt-", "interrupted-")):
                shutil.move(path, place / path.name)
    delete_disks(place)


class LineFile:
    """A file that grows by whole lines which reach the kernel at once.

    Unbuffered, so that what was appended survives our own death; fsync on
    close, so that it survives the host's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path.parent):
            self._stream = path.open("ab", buffering=0)
            self._end_torn_line()

    def _end_torn_line(self) -> None:
        """What was cut off in the middle of a line does not take the next one with it."""
        if self._stream.tell():
            with self.path.open("rb") as written:
                written.seek(-1, os.SEEK_END)
                if written.read() != b"\n":
                    self._stream.write(b"\n")

    def append(self, line: str) -> None:
        """Adds one line.  Raises DiskFullError or InfraError."""
        rest = line.encode("utf-8", "backslashreplace") + b"\n"
        with writing(self.path.parent):
            while rest:
                rest = rest[self._stream.write(rest) or 0 :]

    def close(self) -> None:
        """Forces the lines to the disk; closing twice is harmless."""
        if self._stream.closed:
            return
        with writing(self.path.parent):
            try:
                os.fsync(self._stream.fileno())
            finally:
                self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def read_run(directory: Path) -> dict[str, Any]:
    """The run.json of a run.  InfraError when there is none that can be read."""
    path = directory / "run.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict) or not {"plan", "status", "seconds", "cells"} <= set(value):
            raise ValueError("it is not a run's")
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise InfraError(f"cannot read {path}: {said}", hint=f"ls -l {directory}") from error
    return value


class Run:
    """One execution of a plan: results/<id>/ and what run.json will say."""

    def __init__(self, root: Path, plan: str) -> None:
        """Makes the directory.  Raises DiskFullError or InfraError."""
        started = datetime.now(UTC)
        name, directory = _make_directory(root, plan, started)
        document: dict[str, Any] = {
            "id": name,
            "plan": plan,
            "status": "running",
            "started": started.isoformat(timespec="seconds"),
            "seconds": 0.0,
            "cells": [],
        }
        self._hold(directory)
        self._open(document)

    @classmethod
    def reopen(cls, directory: Path, document: dict[str, Any] | None = None) -> Self:
        """A run that ended early, to go on with; `document` stands in for its run.json.

        InfraError when its run.json cannot be read, or while somebody is running it.
        """
        run = cls.__new__(cls)
        run._hold(directory)
        try:
            run._open(read_run(directory) if document is None else document)
        except BaseException:
            os.close(run._held)
            raise
        return run

    def _hold(self, directory: Path) -> None:
        self.root, self.id, self.directory = directory.parent, directory.name, directory
        # Held while it is run, let go of by the kernel however that ends.
        self._held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._held)
            raise InfraError(
                f"run {self.id} is still under way", hint=f"tail -f {directory / 'run.log'}"
            ) from error

    def _open(self, document: dict[str, Any]) -> None:
        self.document = document
        self._before = float(document["seconds"])  # of earlier sittings
        self._began = time.monotonic()
        self._log = LineFile(self.directory / "run.log")
        # Builds and machines may speak from threads of their own.
        self._lock = threading.Lock()

    def save(self) -> None:
        """Writes run.json as of now."""
        self.document["seconds"] = round(self._before + time.monotonic() - self._began, 1)
        write_json(self.directory / "run.json", self.document)

    def log(self, event: Event) -> None:
        """Adds one event to run.log: UTC time, kind, subject, message, progress."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        progress = ""
        if event.done is not None:
            progress = f" [{event.done}/{'?' if event.total is None else event.total}]"
        text = f"{now} {event.kind} {event.subject}: {event.message}{progress}"
        with self._lock:
            self._log.append(text.replace("\n", "\\n"))

    def cell_directory(self, name: str) -> Path:
        """Makes cells/<kernel>/<filesystem>/<workload>[@variant]/ and returns it."""
        path = self.directory / "cells" / name
        with writing(self.directory):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def machine_directory(self, name: str) -> Path:
        """Makes machines/<name>/, for a machine that several cells use, and returns it."""
        path = self.directory / "machines" / name
        with writing(self.directory):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def keep_config(self, kernel: str, dotconfig: Path) -> None:
        """Copies a kernel's configuration to kernels/<name>.config, while it is there."""
        place = self.directory / "kernels"
        with contextlib.suppress(OSError):
            text = dotconfig.read_text(encoding="utf-8", errors="backslashreplace")
            with writing(self.directory):
                place.mkdir(exist_ok=True)
            write_text(place / f"{kernel}.config", text)

    def point_latest(self) -> None:
        """Makes results/latest this run, atomically: readers see the old or the new one."""
        temporary = self.root / f".{LATEST}.{secrets.token_hex(4)}"
        with writing(self.root):
            temporary.symlink_to(self.id)
            try:
                temporary.replace(self.root / LATEST)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def close(self) -> None:
        """Closes run.log and lets go of the run."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        self._log.close()


def began(root: Path, file: str) -> list[Path]:
    """The directories under `root` that hold `file`, in the order in which they began.

    Links are left out: a run has one name.  So is what somebody removes in the meantime.
    """
    found: list[tuple[str, int, Path]] = []
    for path in root.glob(f"*/{file}"):
        if not path.parent.is_symlink():
            # The name begins with the time.  Of two of the same second, the one that ended last.
            with contextlib.suppress(FileNotFoundError):
                found.append((path.parent.name[:_TIME], path.stat().st_mtime_ns, path.parent))
    return [directory for _, _, directory in sorted(found)]


def _make_directory(root: Path, plan: str, started: datetime) -> tuple[str, Path]:
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", plan)
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        while True:
            # The suffix keeps apart two runs that start in the same second, and
            # mkdir decides in case even that is equal.
            name = f"{started:%Y%m%dT%H%M%SZ}-{safe}-{secrets.token_hex(2)}"
            try:
                (root / name).mkdir()
            except FileExistsError:
                continue
            return name, root / name
