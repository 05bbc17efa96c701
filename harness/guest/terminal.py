# SPDX-License-Identifier: GPL-2.0
"""The user's terminal on the guest's serial console.

The one place below the command line that writes to the terminal by itself: here
the terminal is the work, not the news of it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator

from harness.guest.console import Console

LEAVE = b"\x1d"  # Ctrl-]
TICK_S = 0.2
# Quoted in the middle, so that the shell's echo of the line is not its output.
_BEGIN, _END = b"harness-begins-here", b"harness-ends-here"


def size_command() -> str:
    """What to run in the guest so that its serial shell knows the terminal's size."""
    size = shutil.get_terminal_size()
    return f"stty -F /dev/ttyS0 rows {size.lines} cols {size.columns}"


def interact(console: Console) -> None:
    """Join stdin and stdout with the console.

    On a terminal: raw, until Ctrl-] or the machine's end.  Otherwise stdin's
    lines go to the shell and its output comes to stdout, until the shell has
    done the last of them.
    """
    if os.isatty(sys.stdin.fileno()):
        _raw(console)
    else:
        _piped(console)


def _out(data: bytes) -> None:
    with contextlib.suppress(OSError):
        view = memoryview(data)
        while view:
            view = view[os.write(sys.stdout.fileno(), view) :]


@contextlib.contextmanager
def _raw_mode(fd: int) -> Iterator[None]:
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _raw(console: Console) -> None:
    stdin = sys.stdin.fileno()
    _out(b"harness: the guest's serial console; Ctrl-] leaves and ends the machine\r\n")
    with _raw_mode(stdin):
        console.attach(_out)
        try:
            console.write(b"\r")  # the first prompt was printed before we looked
            while not console.ended:
                if not select.select([stdin], [], [], TICK_S)[0]:
                    continue
                typed = os.read(stdin, 1024)
                before, leave, _ = typed.partition(LEAVE)
                console.write(before)
                if leave or not typed:
                    break
        except OSError:
            pass  # the machine went away while we typed
        finally:
            console.detach(_out)
    _out(b"\n")


class _Between:
    """A sink that passes on what lies between two marks."""

    def __init__(self) -> None:
        self._held = b""
        self._open = False
        self.done = False

    def __call__(self, data: bytes) -> None:
        self._held += data
        if not self._open:
            _, found, rest = self._held.partition(_BEGIN + b"\r\n")
            if not found:
                return
            self._open, self._held = True, rest
        before, found, _ = self._held.partition(_END)
        # What may be the first half of the mark waits for the other half.
        ready = len(before) if found else max(0, len(self._held) - len(_END))
        if not self.done:
            _out(self._held[:ready].replace(b"\r\n", b"\n"))
        self._held = self._held[ready:]
        self.done = self.done or bool(found)


def _said(mark: bytes) -> bytes:
    return b"echo " + mark[:3] + b"''" + mark[3:] + b"\n"


def _piped(console: Console) -> None:
    between = _Between()
    console.attach(between)
    try:
        console.write(b"stty -echo; PS1=; PS2=\n" + _said(_BEGIN))
        for line in sys.stdin.buffer:
            console.write(line if line.endswith(b"\n") else line + b"\n")
        console.write(_said(_END))
        while not (between.done or console.ended):
            select.select([], [], [], TICK_S)
    except OSError:
        pass  # the machine went away
    finally:
        console.detach(between)
