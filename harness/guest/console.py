# SPDX-License-Identifier: GPL-2.0
"""The serial console: every byte kept, and pexpect fed while the machine boots.

pexpect keeps all it has read in one buffer, so it sees only the boot; a soak
run's megabytes go to the file alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pexpect
from pexpect import fdpexpect

from harness.errors import InfraError
from harness.plain import printable

READY = rb"harness: ready\r?\n"
NO_SERVER = rb"harness: the SSH server did not start[^\r\n]*\r?\n"
PANIC = rb"Kernel panic - not syncing[^\r\n]*\r?\n"

LOOK_S = 0.2  # the end of the line wakes nobody
# What is kept of a console: a guest that floods it must fill neither disk nor memory.  A
# whole night's console with all that lockdep says is a tenth of it.
MOST_BYTES = 32 << 20
FLOOD = b"\n[harness: the console said more than %d MiB; the rest is not kept]\n"

MOST_OF_A_LINE = 1000  # characters that a person is shown

# Looked at again when more comes: longer than any line that is waited for.
LOOK_BACK = 128 << 10

Boot = Literal["ready", "panic", "no-server", "ended", "silent", "flood"]


@dataclass(frozen=True)
class Silence:
    """How long the console has been quiet, and its last line."""

    seconds: float
    last_line: str


class Console:
    """Records a serial line and lets a person or pexpect take part."""

    def __init__(self, line: socket.socket, log: Path) -> None:
        """Start recording `line` to the end of `log`; OSError when it cannot be opened."""
        self._line = line
        self._log_path = log
        # Unbuffered: what was received survives our own SIGKILL.
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._began = self._last = time.monotonic()
        self._sinks: list[Callable[[bytes], None]] = []
        self._lock = threading.Lock()
        self.error: OSError | None = None  # the log could not be written
        self.received = 0  # bytes: what the log must have
        self._thread = threading.Thread(target=self._record, name="console", daemon=True)
        self._thread.start()

    def _record(self) -> None:
        while True:
            try:
                data = self._line.recv(65536)
            except OSError:
                return
            if not data:
                return
            self._last = time.monotonic()
            self._keep(data)
            self.received += len(data)  # after the write: the log has never less
            with self._lock:
                for sink in self._sinks:
                    sink(data)

    def _keep(self, data: bytes) -> None:
        # A full disk must not stop the reading: QEMU would block on its serial port.
        room = MOST_BYTES - self.received
        if room < len(data):
            data = data[:room] + FLOOD % (MOST_BYTES >> 20) if room >= 0 else b""
        view = memoryview(data)
        while view and self.error is None:
            try:
                view = view[os.write(self._log, view) :]
            except OSError as error:
                self.error = error

    def data(self) -> bytes:
        """Everything the console has said so far."""
        return self._log_path.read_bytes()

    def whole(self) -> bytes:
        """As data(); InfraError when the log lacks what came: it may be a complaint."""
        if self.received > MOST_BYTES:
            raise InfraError(
                f"{self._log_path}: the guest floods its console: {self.received >> 20} MiB, of"
                f" which {MOST_BYTES >> 20} are kept",
                hint=f"less {self._log_path}",
            )
        received = self.received  # before the reading: more may come meanwhile
        log = self.data() if self._log_path.exists() else b""
        if len(log) < received:
            raise InfraError(
                f"{self._log_path} has {len(log)} of {received} bytes",
                hint=f"df -h {self._log_path.parent}",
            )
        return log

    def tail(self, lines: int = 30) -> str:
        """The last lines, for a person: cut where one is endless, without control characters."""
        with self._log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - lines * MOST_OF_A_LINE))
            text = log.read().decode(errors="replace").replace("\r", "").replace("\t", " ")
        last = text.rstrip().split("\n")[-lines:]
        return "\n".join(printable(line)[-MOST_OF_A_LINE:] for line in last)

    def silence(self) -> Silence:
        """For how long nothing came, and what came last."""
        return Silence(time.monotonic() - self._last, self.tail(1))

    def write(self, data: bytes) -> None:
        """Type on the console; OSError when the machine is gone."""
        self._line.sendall(data)

    def attach(self, sink: Callable[[bytes], None]) -> None:
        """Pass on what comes from now on; sink is called in the recorder's thread."""
        with self._lock:
            self._sinks.append(sink)

    def detach(self, sink: Callable[[bytes], None]) -> None:
        """Undo attach(); after the return, sink is not called again."""
        with self._lock, contextlib.suppress(ValueError):
            self._sinks.remove(sink)

    @property
    def ended(self) -> bool:
        """Whether the other end has closed the line and all of it was recorded."""
        return not self._thread.is_alive()

    def await_end(self, timeout_s: float) -> bool:
        """Wait until the line is closed and drained; False when it is not."""
        self._thread.join(timeout_s)
        return self.ended

    def await_text(self, text: bytes, timeout_s: float) -> int | None:
        """Wait until `text` was said; the offset behind its last place, None: not in time."""
        news = threading.Event()

        def sink(_data: bytes) -> None:
            news.set()

        deadline = time.monotonic() + timeout_s
        looked = 0  # up to there, but for what begins there
        self.attach(sink)
        try:
            while True:
                ended = self.ended  # before the look: nothing comes after it
                news.clear()
                with self._log_path.open("rb") as log:
                    log.seek(looked)
                    new = log.read()
                if (at := new.rfind(text)) >= 0:
                    return looked + at + len(text)
                looked = max(looked, looked + len(new) - len(text) + 1)
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    return None
                news.wait(min(left, LOOK_S))
        finally:
            self.detach(sink)

    def await_boot(self, timeout_s: float) -> Boot:
        """Wait for the first of: ready marker, panic, no SSH server, end of line, time out.

        And "flood": more than is kept of a console, and still none of these.
        """
        ours, theirs = socket.socketpair()
        feed = _Feed(theirs)
        self.attach(feed)
        try:
            listener = fdpexpect.fdspawn(ours.fileno(), timeout=timeout_s, maxread=65536)
            # What was said before we listened.  The sink is in place already, so
            # nothing is lost, and a line seen twice does no harm.
            before = self.data()[-65536:]
            # In a thread: a guest that floods its console may have filled the line to us.
            threading.Thread(
                target=self._pump, args=(theirs, feed, before), name="pump", daemon=True
            ).start()
            found = listener.expect(
                [READY, PANIC, NO_SERVER, pexpect.EOF, pexpect.TIMEOUT],
                timeout=timeout_s,
                searchwindowsize=LOOK_BACK,
            )
            names: tuple[Boot, ...] = ("ready", "panic", "no-server", "ended", "silent")
            return "flood" if names[found] == "ended" and feed.full else names[found]
        finally:
            # Closing our end first: a recorder blocked in its send is let go.
            ours.close()
            self.detach(feed)
            theirs.close()

    def _pump(self, theirs: socket.socket, feed: _Feed, before: bytes) -> None:
        """What was said before, what has come since, and the end when it comes."""
        with contextlib.suppress(OSError):
            theirs.sendall(before)
        with self._lock:
            feed.begin()
        self._thread.join()
        with contextlib.suppress(OSError):
            theirs.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Stop recording; call await_end() first to have every byte."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self._thread.join(1.0)
        self._line.close()
        if self._log >= 0 and self.ended:
            os.close(self._log)
            self._log = -1


class _Feed:
    """A sink that is one end of a socket pair, quiet when the other is gone.

    pexpect keeps what it reads: it is given as much as is kept of a console, and no more.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._given = 0
        self._early: list[bytes] | None = []  # until begin()
        self.full = False

    def __call__(self, data: bytes) -> None:
        self._given += len(data)
        if self._early is None:
            self._pass(data)
        elif self._given <= MOST_BYTES:
            self._early.append(data)

    def begin(self) -> None:
        """Pass on what has come, and from now on at once."""
        early, self._early = self._early or [], None
        for data in early:
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            if not self.full:
                self._end.sendall(data)
            if self._given > MOST_BYTES and not self.full:
                self.full = True
                self._end.shutdown(socket.SHUT_WR)
