# SPDX-License-Identifier: GPL-2.0
"""Child processes of the kernel room: hermetic, and gone when we are gone.

Every child is the leader of a session of its own, so that one signal reaches
all of it, and asks the kernel for SIGTERM should we die without a word: make
passes a SIGTERM on to its compilers and removes their half-written targets,
which SIGKILL would leave behind for the next build to trust.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.errors import InfraError

# The C library's words; git's when a write of a pack comes up short; apt's.
_NO_SPACE = re.compile(
    "No space left on device|Disk quota exceeded|Out of diskspace|enough free space in"
)
_KEEP = ("PATH", "HOME", "TMPDIR", "SHELL", "CCACHE_DIR", "http_proxy", "https_proxy", "no_proxy")
_GRACE_S = 0.7  # between SIGTERM and SIGKILL; Ctrl-C must end in about a second
_PACKAGE = {
    "apt-get": "apt",
    "ld": "binutils",
    "xz": "xz-utils",
    "setpriv": "util-linux",
    "dpkg-deb": "dpkg",
}


@dataclass(frozen=True)
class Finished:
    """A child that ended: exit status and what it said."""

    status: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """Its last line that says something, for an error message."""
        lines = [line.strip() for line in (self.stderr + "\n" + self.stdout).splitlines()]
        return next((line for line in reversed(lines) if line), f"exit status {self.status}")


def environment(**extra: str) -> dict[str, str]:
    """The environment of a child: what it needs of ours, messages in English.

    Everything else (MAKEFLAGS of a surrounding make, KBUILD_*, ARCH, GIT_*)
    would change what is built without changing the kernel's id.
    """
    kept = {key: os.environ[key] for key in _KEEP if key in os.environ}
    return {**kept, "LC_ALL": "C", **extra}


def quoted(argv: Sequence[str | Path]) -> str:
    """The command as a person can paste it into a shell."""
    return shlex.join(str(word) for word in argv)


@contextlib.contextmanager
def started(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.PIPE,
    stderr: int | IO[bytes] | None = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """A running child; whatever ends the block by exception ends its whole group too.

    Raises InfraError when the program is not installed.
    """
    words = [str(word) for word in argv]
    if shutil.which(words[0]) is None:
        package = _PACKAGE.get(words[0], words[0])
        raise InfraError(f"{words[0]} is not installed", hint=f"apt-get install {package}")
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "--", *words],
        env=environment() if env is None else dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
        process.wait()
    except BaseException:
        stop(process)
        raise
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):  # a pipe nobody reads any more
                    stream.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the child and everything it started, within about a second."""
    if process.returncode is not None:
        return
    try:
        _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        # WNOWAIT: not reaped yet, so its group number cannot belong to anybody else.
        flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while os.waitid(os.P_PID, process.pid, flags) is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
) -> Finished:
    """Run to the end and return status and output; never raises for a bad status.

    A full disk raises OSError(ENOSPC), which `room_on` turns into a line for people.
    """
    feed = subprocess.PIPE if stdin is not None else subprocess.DEVNULL
    with started(argv, env=env, cwd=cwd, stdin=feed) as process:
        out, err = process.communicate(stdin)
    finished = Finished(
        process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
    )
    if finished.status != 0:
        check_space(finished.stderr + finished.stdout)
    return finished


def check_space(said: str) -> None:
    """OSError(ENOSPC) when what a failed program said means that the disk is full."""
    if _NO_SPACE.search(said):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check_room(directory: Path) -> None:
    """OSError(ENOSPC) when the disk has no room: not every program says why it failed."""
    with contextlib.suppress(FileNotFoundError):
        if shutil.disk_usage(directory).free < 4096:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def room_on(directory: Path) -> Iterator[None]:
    """Turn "the disk is full" from anywhere below into one InfraError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InfraError(
            f"{directory}: no space left on the disk",
            hint=f"free some space, or: export HARNESS_CACHE=DIRECTORY (see: df -h {directory})",
        ) from error
