# SPDX-License-Identifier: GPL-2.0
"""Threads that share work: all of it is done, and all end together."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from harness.experiment.crew import work

Take = Callable[[], int | None]


def never() -> None:
    raise AssertionError("nothing went wrong, nothing is to be aborted")


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_each_item_is_given_once(jobs: int) -> None:
    done: list[int] = []

    def body(take: Take) -> None:
        while (item := take()) is not None:
            done.append(item)

    work(range(1, 21), jobs, body, threading.Event(), never)
    assert sorted(done) == list(range(1, 21))


def test_nothing_to_do() -> None:
    work([], 3, lambda _take: never(), threading.Event(), never)


def test_they_work_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def body(take: Take) -> None:
        while take() is not None:
            both.wait(30)  # alone, nobody gets past here

    work([1, 2, 3, 4], 2, body, threading.Event(), never)


def test_the_first_failure_ends_all() -> None:
    aborted, stop, taken = threading.Event(), threading.Event(), []

    def body(take: Take) -> None:
        while (item := take()) is not None:
            taken.append(item)
            if item == 2:
                raise ValueError("two")
            assert aborted.wait(30)

    with pytest.raises(ValueError, match="two"):
        work([1, 2, 3, 4], 2, body, stop, aborted.set)
    assert stop.is_set()
    assert taken == [1, 2]


def test_an_interrupt_ends_all() -> None:
    aborted = threading.Event()

    def body(take: Take) -> None:
        take()
        os.kill(os.getpid(), signal.SIGINT)
        assert aborted.wait(30)

    with pytest.raises(KeyboardInterrupt):
        work([1, 2, 3], 1, body, threading.Event(), aborted.set)
    assert aborted.is_set()
