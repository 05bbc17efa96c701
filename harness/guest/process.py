# SPDX-License-Identifier: GPL-2.0
"""A child process that never outlives us and is always reaped."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from harness.errors import InfraError


def _prefix() -> list[str]:
    """What makes a child die with us, even when we are killed outright."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise InfraError("setpriv is not installed", hint="sudo apt-get install util-linux")
    return [setpriv, "--pdeathsig", "KILL", "--"]


def started(argv: Sequence[str]) -> list[str]:
    """argv as it is started: it dies with the thread that starts it."""
    return [*_prefix(), *argv]


def ending(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"


class Process:
    """A child in a session of its own; always reaped, whatever happens."""

    def __init__(self, argv: Sequence[str], fds: Sequence[int], stderr: Path) -> None:
        """Start argv with `fds` handed down; what it says goes to the file `stderr`.

        It dies with the thread that starts it (setpriv --pdeathsig): that thread
        must live as long as the child shall.  InfraError when it cannot be started.
        """
        self._stderr = stderr
        argv = started(argv)
        try:
            with stderr.open("wb") as errors:
                self._child = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                    pass_fds=fds, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise InfraError(
                f"cannot start {argv[len(_prefix())]}: {error.strerror}", hint=shlex.join(argv)
            ) from error

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop(0.0)

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._child.pid

    def poll(self) -> int | None:
        """Exit status (negative: signal), None while it runs."""
        return self._child.poll()

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it (SIGSTOP, a debugger): it is there and does nothing."""
        with contextlib.suppress(OSError, IndexError):
            # proc(5): pid (name) state; the name may hold anything.
            stat = Path(f"/proc/{self.pid}/stat").read_text(errors="replace")
            return stat.rpartition(") ")[2][0] in "Tt"
        return False

    def wait(self, timeout_s: float | None) -> int:
        """Wait for the end; subprocess.TimeoutExpired after timeout_s seconds."""
        return self._child.wait(timeout_s)

    def last_words(self) -> str:
        """The last line of its stderr, or a word that there is none."""
        with contextlib.suppress(OSError):
            lines = self._stderr.read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1]
        return "it said nothing"

    def kill(self) -> None:
        """SIGKILL, from any thread, without waiting; not sent to what is reaped already."""
        self._child.kill()

    def stop(self, grace_s: float) -> None:
        """Terminate, after grace_s seconds kill, with all it started; reaped on return.

        A second Ctrl-C shortens the grace, it does not leave the child behind.
        """
        if self._child.poll() is not None:
            return
        try:
            if grace_s > 0:
                self._child.terminate()
                deadline = time.monotonic() + grace_s
                # WNOWAIT: not reaped yet, so that its group's number is still its own.
                flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
                while not os.waitid(os.P_PID, self.pid, flags) and time.monotonic() < deadline:
                    time.sleep(0.01)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._child.wait()
