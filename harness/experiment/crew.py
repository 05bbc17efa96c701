# SPDX-License-Identifier: GPL-2.0
"""Threads that share a list of work, and all end when one fails or the user says so."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

# How often those who have not noticed are told again that it is over.
AGAIN_S = 0.05


def work(
    items: Sequence[T],
    jobs: int,
    body: Callable[[Callable[[], T | None]], None],
    stop: threading.Event,
    abort: Callable[[], None],
) -> None:
    """Runs body(take) in up to `jobs` threads; take() gives the next item, None at the end.

    Returns when all have ended.  When one raises, or the caller's thread is
    interrupted, `stop` is set, no further item is given, abort() is called until
    the others have ended too (it must make what they wait for fail, and may be
    called from this thread at any moment), and the first exception is raised.
    """
    waiting = deque(items)
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def take() -> T | None:
        try:
            # One operation: no lock is needed between the threads.
            return None if stop.is_set() else waiting.popleft()
        except IndexError:
            return None

    def run() -> None:
        try:
            body(take)
        except BaseException as error:
            ends.put(error)
        else:
            ends.put(None)

    count = min(jobs, len(items))
    # Daemons: what they wait for dies with them, and nothing else is theirs.
    threads = [threading.Thread(target=run, name=f"cells-{n}", daemon=True) for n in range(count)]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            if (error := ends.get()) is not None:
                raise error
    except BaseException:
        while alive := [thread for thread in threads if thread.is_alive()]:
            stop.set()
            abort()
            alive[0].join(AGAIN_S)
        raise
    for thread in threads:  # each is on its last instructions
        thread.join()
