# SPDX-License-Identifier: GPL-2.0
"""Commands that a guest runs in one go, to the first that fails.

Each one over SSH by itself costs a channel and three forks: 60 ms under TCG.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from harness.guest.ssh import Completed

_HEAD = "set -ex"
_TRACE = "+ "  # what the shell's -x puts before each command, on stderr


def script(commands: Sequence[str]) -> str:
    """One command that does these one after another; each is a line."""
    return "\n".join([_HEAD, *commands])


def stopped_at(commands: Sequence[str], done: Completed) -> Completed:
    """Of a script that failed: the command it stopped at, and what that one said on stderr.

    With the script's own line when the shell did not get to the first of them.
    """
    told = done.stderr.rstrip("\n").split("\n")
    begun = [number for number, line in enumerate(told) if line.startswith(_TRACE)]
    if not begun:
        return done
    command = commands[min(len(begun), len(commands)) - 1]
    said = "\n".join(told[begun[-1] + 1 :])
    return dataclasses.replace(done, argv=command, stderr=said)


def apart(command: str, one: Callable[[str], Completed]) -> Completed:
    """The same for a machine that takes commands one by one; what is no script goes as it is."""
    head, _, rest = command.partition("\n")
    if head != _HEAD:
        return one(command)
    done = Completed(command, 0, "", "", 0.0)
    for line in rest.split("\n"):
        last = one(line)
        done = Completed(
            command,
            last.status,
            done.stdout + last.stdout,
            f"{done.stderr}{_TRACE}{line}\n{last.stderr}",
            done.seconds + last.seconds,
        )
        if last.status != 0:
            break
    return done
