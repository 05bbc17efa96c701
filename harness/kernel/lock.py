# SPDX-License-Identifier: GPL-2.0
"""One run at a time on a tree or a kernel; the other one says that it waits."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from harness.events import Event, Listener

_POLL_S = 0.1  # a Ctrl-C is seen this soon


@contextlib.contextmanager
def held(path: Path, subject: str, listen: Listener) -> Iterator[None]:
    """Hold the lock file `path`, waiting for it with one Event that says so.

    The lock goes with its process, whatever kills it; the file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    said = False
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except filelock.Timeout:
            if not said:
                listen(Event("note", subject, f"waiting for another run (it holds {path})"))
                said = True
            time.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()
