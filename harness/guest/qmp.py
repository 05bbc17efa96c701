# SPDX-License-Identifier: GPL-2.0
"""QEMU's control protocol, for callers that are no coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from qemu.qmp import QMPClient, QMPError, Runstate

T = TypeVar("T")
# As in ssh.py: what is logged here is raised here as well.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class Qmp:
    """QMP on a socket that QEMU was started with, in a thread with its event loop."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient("harness")
        self._gatherer: asyncio.Task[None] | None = None
        self.events: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()

    def _call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def connect(self, timeout_s: float) -> None:
        """Greet; ConnectionError when QEMU does not answer in time or is gone."""

        async def work() -> None:
            await self._client.connect(self._line)
            self._gatherer = asyncio.ensure_future(self._gather())

        try:
            self._call(work(), timeout_s)
        except (QMPError, OSError, TimeoutError) as error:
            raise ConnectionError(str(error) or "no greeting") from error
        except AssertionError as error:
            # The library's own: QEMU greeted, and was gone before it could look again.
            raise ConnectionError("QEMU was gone right after its greeting") from error

    async def _gather(self) -> None:
        async for event in self._client.events:
            self.events.append(dict(event))

    def await_end(self, timeout_s: float) -> None:
        """Wait until QEMU has closed its end and all events before that are in `events`."""

        async def work() -> None:
            while self._client.runstate == Runstate.RUNNING:
                await self._client.runstate_changed()
            while not self._client.events.empty():
                await asyncio.sleep(0)  # to the gatherer
            await asyncio.sleep(0)

        with contextlib.suppress(QMPError, OSError, TimeoutError):
            self._call(work(), timeout_s)

    def execute(self, name: str, timeout_s: float, **arguments: object) -> Any:
        """Run a command; ConnectionError when there is no answer in time."""
        try:
            return self._call(self._client.execute(name, dict(arguments) or None), timeout_s)
        except (QMPError, OSError, TimeoutError) as error:
            raise ConnectionError(f"QMP {name}: {error or 'no answer'}") from error

    def hmp(self, line: str, timeout_s: float, cpu: int = 0) -> str:
        """A human monitor command's text, as of one CPU; ConnectionError as above."""
        arguments = {"command-line": line, "cpu-index": cpu}
        return str(self.execute("human-monitor-command", timeout_s, **arguments))

    def forwarded_port(self, timeout_s: float) -> int:
        """The host port that leads to the guest's SSH server; ConnectionError if none."""
        return forwarded_port(self.hmp("info usernet", timeout_s))

    def close(self) -> None:
        """Disconnect and end the thread."""

        async def work() -> None:
            if self._gatherer is not None:
                self._gatherer.cancel()
            await self._client.disconnect()

        with contextlib.suppress(Exception):
            self._call(work(), 0.5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(0.5)
        if not self._thread.is_alive():
            self._loop.close()
        self._line.close()


def forwarded_port(usernet: str) -> int:
    """Host port of the forwarding to guest port 22 in `info usernet`; ConnectionError.

    "  TCP[HOST_FORWARD]  11       127.0.0.1 39293       10.0.2.15    22     0     0"
    """
    found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\s", usernet)
    if found is None:
        raise ConnectionError(f"no forwarded port in QEMU's answer: {usernet!r}")
    return int(found.group(1))
