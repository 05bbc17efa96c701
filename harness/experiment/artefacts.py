# SPDX-License-Identifier: GPL-2.0
"""Files that are named by their content: made on one host, kept on others that need them.

artefacts/<sha256> in a cache: a file that is there is whole, and one that is not the file it
is called is thrown away and asked for again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfraError

UNUSED_AFTER_S = 30 * 86400.0


@dataclass(frozen=True)
class Artefact:
    """A file that a machine is made of, wherever it lies."""

    sha256: str
    name: str  # for a person: "bzImage"


_known: dict[tuple[Path, int, int], str] = {}
_lock = threading.Lock()


def of(path: Path) -> Artefact:
    """The artefact that a file is, read once for each of its states; InfraError if it is gone."""
    try:
        status = path.stat()
        state = path, status.st_mtime_ns, status.st_size
        with _lock:
            if state not in _known:
                _known[state] = _digest(path)
            return Artefact(_known[state], path.name)
    except OSError as error:
        raise InfraError(f"cannot read {path}: {error.strerror}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Shelf:
    """The artefacts of one cache; any number of processes may use it at once."""

    def __init__(self, cache: Path) -> None:
        self.directory = cache / "artefacts"

    def path(self, artefact: Artefact) -> Path:
        """Where it is, if it is there."""
        return self.directory / artefact.sha256

    def has(self, artefact: Artefact) -> bool:
        """Whether it is there, and whole: a bit that flipped is not the kernel's fault."""
        path = self.path(artefact)
        try:
            whole = of(path).sha256 == artefact.sha256
            if whole:
                # In use; when it was changed stays, or it would be read again.
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            else:
                path.unlink()
        except (InfraError, OSError):
            return False
        return whole

    def put(self, artefact: Artefact, content: bytes) -> None:
        """Keeps it: whole or not at all.  InfraError when it cannot be written, or is another."""
        path = self.path(artefact)
        part = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._tidy()
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if _digest(part) != artefact.sha256:
                raise InfraError(f"{artefact.name} did not arrive as it was sent")
            part.replace(path)
        except OSError as error:
            raise InfraError(
                f"cannot write {path}: {error.strerror}", hint=f"df -h {self.directory.parent}"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """What nobody has used for long goes."""
        for old in self.directory.iterdir():
            with contextlib.suppress(OSError):
                if old.stat().st_atime < time.time() - UNUSED_AFTER_S:
                    old.unlink()
