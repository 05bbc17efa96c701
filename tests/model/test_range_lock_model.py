# SPDX-License-Identifier: GPL-2.0
"""The model of the range lock holds, and stops holding when any one thing is taken out.

Spin searches every interleaving of three tasks.  The cases here are chosen to take seconds.
All forms at once for all three tasks (FORMS0..2=4095, RANGES 1, 2, 5, one round) were searched
too: 47.1 million states without the fast path, 58.5 million with it, no error, three to seven
minutes and 5 GB each.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MODEL = Path(__file__).with_name("range_lock.pml")
READ, WRITE, READALL, WRITEALL, DOWN, KREAD, KWRITE, DOWNALL = (1 << i for i in range(8))
TRYREAD, TRYWRITE, TRYREADALL, TRYWRITEALL = (1 << i for i in range(8, 12))

# What decides what is looked at, and is no mutant.
SETTINGS = {"FAST", "SC", "LOOP", "COUNTS", "ROUNDS"}

OVERLAP = r"assertion violated .*holds"
STUCK = r"invalid end state"
STARVED = r"acceptance cycle"


@dataclass(frozen=True)
class Search:
    """One run of spin: what each of three tasks does, and which macros are defined."""

    forms: tuple[int, int, int]
    ranges: tuple[int, int, int] = (1, 2, 1)
    macros: tuple[str, ...] = ()
    rounds: int = 1
    liveness: bool = False
    finds: str = ""  # pattern of the error; none if it has to hold
    name: str = field(default="", kw_only=True)

    @property
    def label(self) -> str:
        return self.name or "-".join(self.macros)

    def flags(self) -> list[str]:
        flags = [f"-D{macro}" for macro in self.macros]
        flags += [f"-DFORMS{i}={value}" for i, value in enumerate(self.forms)]
        flags += [f"-DRANGES{i}={value}" for i, value in enumerate(self.ranges)]
        flags += ["-DLOOP", "-DSC"] if self.liveness else [f"-DROUNDS={self.rounds}"]
        # Counts are checked where nothing is broken: a mutant has to do harm that is seen.
        return flags if self.finds else [*flags, "-DCOUNTS"]


def both(name: str, search: Search) -> list[Search]:
    """The search without and with the fast path."""
    return [
        Search(search.forms, search.ranges, search.macros + extra, search.rounds, search.liveness,
               name=name + suffix)
        for suffix, extra in (("", ()), ("-fast", ("FAST",)))
    ]


HOLDS = [
    *both("ranges", Search((WRITE | DOWN, READ | KREAD | KWRITE, READ | WRITE), (1, 2, 5))),
    *both("whole", Search((WRITEALL | DOWNALL, READALL, WRITE | KWRITE), (1, 1, 2))),
    *both("mixed", Search((READALL | WRITEALL, READ | KWRITE, WRITE | DOWN), (1, 1, 5))),
    *both("readers-twice", Search((WRITE, READALL, READALL), rounds=2)),
    *both("drain-twice", Search((READ, WRITE | KWRITE, READ), rounds=2)),
    *both("killed-any-time", Search((READ, KWRITE, WRITE), macros=("NO_KILL_RECHECK",), rounds=2)),
    *both("try", Search((READ | TRYREAD, TRYWRITE, WRITE | KWRITE | TRYWRITE), (1, 2, 5))),
    *both("try-whole", Search((READ | TRYREADALL, TRYWRITEALL, WRITEALL | WRITE), (1, 1, 2))),
    *both("try-twice", Search((READ, TRYWRITE, WRITE | KWRITE), rounds=2)),
    *both("whole-twice", Search((READ, WRITEALL, TRYWRITEALL), rounds=2)),
    *both("served", Search((WRITE, READ, READ), liveness=True)),
    *both("served-mixed", Search((WRITE, READ | READALL, READ | WRITE), (1, 1, 6), liveness=True)),
]

MUTANTS = [
    Search((WRITE, READ, WRITE), macros=("NO_WAIT_BARRIER",), finds=STUCK),
    Search((WRITE, READ, WRITE), macros=("NO_WAKE_BARRIER",), finds=STUCK),
    Search((WRITE, READ, WRITE), macros=("WAKE_BEFORE_STORE",), finds=STUCK),
    Search((WRITE, WRITE, KWRITE), (1, 2, 4), macros=("NO_TICKET",), finds=OVERLAP),
    Search((WRITE, READ, READ), macros=("NO_FIFO",), liveness=True, finds=STARVED),
    Search((WRITE, READ, READ), macros=("FAST", "NO_FIFO"), liveness=True, finds=STARVED),
    Search((READ, KWRITE, READ), macros=("NO_KILL_DEQUEUE",), finds=STUCK),
    Search((READ, KWRITE, READ), macros=("NO_KILL_WAKE",), finds=STUCK),
    Search((DOWN, READ, WRITE), macros=("NO_DOWNGRADE_WAKE",), finds=STUCK),
    Search((DOWN, READ, WRITE), macros=("DOWNGRADE_ALL",), finds=OVERLAP),
    Search((WRITE, READALL, WRITE), (1, 2, 4), macros=("NO_CONVERT_MARK",), finds=STUCK),
    Search((WRITE, READALL, READALL), macros=("NO_CONVERT_ONCE",), rounds=2, finds=STUCK),
    Search((READ, WRITEALL, WRITE), macros=("NO_WRITER_FLAG",), finds=OVERLAP),
    Search((READ, WRITE, READ), macros=("FAST", "NO_CMPXCHG"), finds=OVERLAP),
    Search((READ, WRITE, READ), macros=("FAST", "NO_CLOSED_RECHECK"), finds=OVERLAP),
    Search((READ, WRITE, READ), macros=("FAST", "NO_DRAIN_WAKE"), finds=STUCK),
    Search((READ, WRITE | KWRITE, READ), macros=("FAST", "NO_DRAIN_RECHECK"), rounds=2,
           finds=OVERLAP),
    Search((WRITE, WRITE, READ), (1, 4, 1), macros=("FAST", "NO_GATE_COUNT"), finds=STUCK),
    Search((READ, TRYWRITE, READ), macros=("FAST", "NO_TRY_RECHECK"), finds=OVERLAP),
    Search((TRYREAD, WRITEALL, TRYREADALL), macros=("FAST", "NO_TRY_GATE"), finds=OVERLAP),
]


def spin(search: Search, where: Path) -> str:
    """What the verifier prints; it stops at the first error."""
    where.mkdir()
    # A mutant is found at once: it is the compiler that takes the time.
    optimize = "-O0" if search.finds else "-O1"
    kind = "-DNFAIR=3" if search.liveness else "-DSAFETY"
    cc = ["gcc", optimize, "-w", "-DCOLLAPSE", kind, "-o", "pan", "pan.c"]
    pan = ["./pan", "-m3000000", *(["-a", "-f"] if search.liveness else [])]
    out = ""
    for command in (["spin", "-a", *search.flags(), str(MODEL)], cc, pan):
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
        out = done.stdout + done.stderr
        # Spin calls a model with a syntax error a success.
        assert done.returncode == 0 and (command is pan or "Error" not in out), out
    return out


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Search, Future[str]]]:
    """All searches that were asked for, started at once: as many at a time as there are CPUs."""
    wanted = [
        item.callspec.params["search"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    base = tmp_path_factory.mktemp("spin")
    pool = ThreadPoolExecutor(os.cpu_count())
    yield {s: pool.submit(spin, s, base / str(i)) for i, s in enumerate(wanted)}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("search", HOLDS, ids=lambda s: s.label)
def test_holds(search: Search, runs: dict[Search, Future[str]]) -> None:
    out = runs[search].result()
    assert "errors: 0" in out, out
    # All of it was searched.
    assert "Search not completed" not in out and "max search depth too small" not in out, out


@pytest.mark.parametrize("search", MUTANTS, ids=lambda s: s.label)
def test_mutant_is_found(search: Search, runs: dict[Search, Future[str]]) -> None:
    out = runs[search].result()
    assert re.search(rf"^pan:1: {search.finds}", out, re.MULTILINE), out


def test_every_mutant_of_the_model_is_run() -> None:
    text = MODEL.read_text(encoding="utf-8")
    macros = set(re.findall(r"^#ifn?def (\w+)", text, re.MULTILINE)) - SETTINGS
    assert macros == {macro for s in MUTANTS + HOLDS for macro in s.macros} - SETTINGS
    # The comment at the top lists them.
    assert macros == set(re.findall(r"^ \*   ([A-Z_]{3,}) ", text, re.MULTILINE))
