# SPDX-License-Identifier: GPL-2.0
"""The errors a user may see: one line each, and the next command to type.

Exit codes are those `git bisect run` reads: 0 as expected, 1 not as expected,
2 usage, 125 could not test.
"""

from __future__ import annotations

from typing import Any

EXIT_EXPECTED = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_CANNOT_TEST = 125
EXIT_INTERRUPTED = 130


class HarnessError(Exception):
    """Something the user can act on.

    `message` is one line saying what is wrong and where; `hint` is the next
    command to type (may be empty); `detail` is longer evidence (log tail),
    printed below the line.
    """

    exit_code = EXIT_CANNOT_TEST
    # What a machine that hung was found to wait for, a guest.hang.Evidence; None: no hang.
    evidence: Any = None

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail


class UsageError(HarnessError):
    """The command line or harness.toml is wrong (exit code 2)."""

    exit_code = EXIT_USAGE


class InfraError(HarnessError):
    """The harness or the host is at fault, not the kernel (exit code 125)."""


class BuildError(HarnessError):
    """A tree, series, configuration or compilation failed (exit code 125)."""


class BootError(HarnessError):
    """The kernel did not reach user space: its fault, not ours (exit code 125)."""


class MachineLostError(HarnessError):
    """A machine that had booted is gone or no longer answers (exit code 125).

    `completed` is what was received of the command that was running, a
    guest.ssh.Completed with status -1; None when none was.
    """

    completed: Any = None


class WorkloadTimeoutError(MachineLostError):
    """A command in the guest did not end in its time (exit code 125)."""
