# SPDX-License-Identifier: GPL-2.0
"""The guest's process 1: vm/init.c, compiled once for each content it has had."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import threading
from pathlib import Path

from harness.errors import BuildError, InfraError
from harness.guest.process import Process

COMPILE = (
    *("gcc", "-O2", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"),
    *("-static", "-s"),
)


def program(source: Path, cache: Path) -> bytes:
    """The static program that `source` is compiled to, kept in the cache by content.

    BuildError with the compiler's first error; InfraError when there is no compiler, or the
    program cannot be written.
    """
    if shutil.which(COMPILE[0]) is None:
        raise InfraError("gcc is not installed", hint="sudo apt-get install gcc")
    try:
        named = f"init-{_digest(shlex.join(COMPILE).encode() + source.read_bytes())}"
        place = cache / "initramfs"
        for path in place.glob(f"{named}-*"):
            data = path.read_bytes()
            if path.name == f"{named}-{_digest(data)}":  # else it has rotted
                return data
        place.mkdir(parents=True, exist_ok=True)
        # Two threads, or two runs, may make the same one: whole or not at all.
        part = place / f".{named}.{os.getpid()}-{threading.get_ident()}"
        log = part.with_name(f"{part.name}.log")
        argv = [*COMPILE, "-o", str(part), str(source)]
        try:
            with Process(argv, (), log) as gcc:
                status = gcc.wait(None)
            if status != 0:
                said = log.read_text(errors="replace")
                raise BuildError(first_error(said, "gcc"), hint=shlex.join(argv), detail=said)
            data = part.read_bytes()
            part.replace(place / f"{named}-{_digest(data)}")
        finally:
            part.unlink(missing_ok=True)
            log.unlink(missing_ok=True)
        return data
    except OSError as error:
        raise InfraError(
            f"cannot make the guest's init of {source}: {error.strerror}", hint=f"df -h {cache}"
        ) from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def first_error(said: str, who: str = "make") -> str:
    """The first line of a failed make, or compiler, that names the mistake."""
    for pattern in (r"^.*\berror: .*$", r"^.*undefined reference.*$", r"^make.*\*\*\*.*$"):
        found = re.search(pattern, said, re.MULTILINE)
        if found:
            return found.group().strip()
    return f"{who} failed and did not say why"
