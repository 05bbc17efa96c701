# SPDX-License-Identifier: GPL-2.0
"""Commands that a guest runs in one go, to the first that fails.

Each one over SSH by itself costs a channel and three forks: 60 ms under TCG.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from harness.guest.ssh import Completed

_HEAD = "set -e"
_MARK = "+ harness: command "  # on stderr before each, on a line of its own whatever was said
_SAY = "printf '\\n"


def script(commands: Sequence[str]) -> str:
    """One command that does these one after another; each is a line."""
    lines = (f"{_SAY}{_MARK}{n}\\n' >&2\n{each}" for n, each in enumerate(commands, 1))
    return "\n".join([_HEAD, *lines])


def stopped_at(commands: Sequence[str], done: Completed) -> Completed:
    """Of a script that ended: the command it stopped at, and what that one said on stderr.

    With the script's own line when the shell did not get to the first of them.
    """
    begun, said = _begun(done.stderr)
    if not 1 <= begun <= len(commands):
        return done
    return dataclasses.replace(done, argv=commands[begun - 1], stderr=said.rstrip("\n"))


def under_way(command: str, stderr: str) -> str:
    """Of a script that did not end: the command that it was at, by what it said so far."""
    _, found, rest = command.partition(f"{_HEAD}\n{_SAY}")
    commands, (begun, _) = _commands(rest), _begun(stderr)
    return commands[begun - 1] if found and 1 <= begun <= len(commands) else command


def apart(command: str, one: Callable[[str], Completed]) -> Completed:
    """The same for a machine that takes commands one by one; what is no script goes as it is."""
    head, _, rest = command.partition("\n")
    if head != _HEAD:
        return one(command)
    done = Completed(command, 0, "", "", 0.0)
    for number, line in enumerate(_commands(rest), 1):
        last = one(line)
        done = Completed(
            command,
            last.status,
            done.stdout + last.stdout,
            f"{done.stderr}\n{_MARK}{number}\n{last.stderr}",
            done.seconds + last.seconds,
        )
        if last.status != 0:
            break
    return done


def _commands(body: str) -> list[str]:
    return body.split("\n")[1::2]


def _begun(stderr: str) -> tuple[int, str]:
    """How many commands have begun, and what came after the last mark.

    A program that prints a mark is believed only if it is the next one's.
    """
    number, said = 0, stderr
    while (found := f"\n{said}".find(f"\n{_MARK}{number + 1}\n")) >= 0:
        number += 1
        said = said[found + len(f"{_MARK}{number}\n") :]
    return number, said
