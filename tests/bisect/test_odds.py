# SPDX-License-Identifier: GPL-2.0
"""How sure a bisection is: the reckoning, and simulated cells."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bisect import odds
from harness.bisect.odds import Odds
from harness.bisect.question import Kind, Sight
from harness.bisect.search import Search, Terms
from harness.bisect.walk import Mark
from harness.errors import InfraError


@given(
    low=st.floats(0.001, 1), steps=st.integers(1, 20), confidence=st.floats(0.5, 0.999),
    extra=st.integers(0, 60),
)  # fmt: skip
def test_what_is_promised_is_reached(
    low: float, steps: int, confidence: float, extra: int
) -> None:
    # The rate's own half is spent when it was measured.
    rate = odds.Rate(20, 25, low, (1 - confidence) / 2)
    reckoning = Odds(confidence, steps, rate)
    misses = [reckoning.misses(number) for number in range(1, steps + 2 + extra)]
    assert reckoning.reached(misses) >= confidence - 1e-9
    # And no more trials than that takes.
    if misses[0] > 1:
        assert (1 - low) ** (misses[0] - 1) > reckoning.risk(1)


def test_figures() -> None:
    always = odds.measured([(10, 10), (10, 10)], 0.95)
    assert 0.83 < always.low < 0.84  # 0.025 ** (1 / 20)
    assert Odds(0.95, 4, always).misses(1) == 4
    rare = odds.measured([(10, 100), (10, 100)], 0.95)
    assert 0.06 < rare.low < 0.063
    assert 80 < Odds(0.95, 4, rare).misses(1) < 100
    # Boots that differ tell that their trials resemble each other.
    assert odds.measured([(1, 50), (19, 50)], 0.95).low < 0.1
    assert Odds(0.95, 4, odds.known(1)).misses(3) == 1
    assert [odds.steps(n) for n in (1, 2, 3, 8, 9, 1000)] == [1, 1, 2, 3, 4, 10]


@dataclass
class Line:
    """A line of commits, "0" to str(n): both range and walk, as git would halve it."""

    number: int
    first_bad: str = ""
    suspects: list[str] = field(default_factory=list)
    good: str = "0"

    def __post_init__(self) -> None:
        self.low, self.high = 0, self.number
        self.next = ""
        self._go()

    @property
    def bad(self) -> str:
        return str(self.number)

    @property
    def steps(self) -> int:
        return odds.steps(self.number)

    def name(self, commit: str) -> str:
        return commit

    def mark(self, mark: Mark) -> None:
        if mark == "bad":
            self.high = int(self.next)
        else:
            self.low = int(self.next)
        self._go()

    def _go(self) -> None:
        done = self.high - self.low == 1
        self.first_bad = str(self.high) if done else ""
        self.next = "" if done else str((self.low + self.high) // 2)


class Cell:
    """Simulated looks: exposed with probability p in each trial, from the culprit on."""

    def __init__(self, p: float, culprit: int, seed: str, backwards: bool = False) -> None:
        self.p, self.culprit, self.random = p, culprit, random.Random(seed)
        self.backwards = backwards
        self.taken: dict[str, list[Sight]] = {}
        self.trials = 0

    def looks(self, commit: str) -> list[Sight]:
        return self.taken.get(commit, [])

    def look(self, commit: str, upto: Kind, trials: int, hits: int) -> Sight:
        open_ = (int(commit) >= self.culprit) != self.backwards
        exposed = tried = 0
        while tried < trials and not (hits and exposed >= hits):
            tried += 1
            exposed += open_ and self.random.random() < self.p
        self.trials += tried
        kind: Kind = "exposed" if exposed else "held"
        sight = Sight(kind, exposed=exposed, held=tried - exposed, trials=tried)
        self.taken.setdefault(commit, []).append(sight)
        return sight


def answer(
    p: float, number: int, culprit: int, confidence: float, seed: str, backwards: bool = False
) -> bool | None:
    """Whether the simulated bisection finds it; None: it says that it cannot."""
    cell, line = Cell(p, culprit, seed, backwards), Line(number)
    terms = Terms(confidence=confidence, trials=400, open=backwards, must_fire=backwards)
    try:
        found = Search(terms, line, cell, lambda _line, _decision: None).run(lambda: line)
    except InfraError:
        return None
    assert found.confidence >= confidence
    return int(found.first_bad) == culprit


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    p=st.floats(0.02, 1.0), number=st.integers(2, 200), place=st.floats(0, 1),
    confidence=st.sampled_from([0.8, 0.9, 0.95]), backwards=st.booleans(),
)  # fmt: skip
def test_it_is_wrong_no_oftener_than_it_says(
    p: float, number: int, place: float, confidence: float, backwards: bool
) -> None:
    culprit = 1 + round(place * (number - 1))
    seeds = [f"{p} {number} {culprit} {n}" for n in range(150)]
    try:
        answers = [answer(p, number, culprit, confidence, s, backwards) for s in seeds]
    except Exception as error:
        # Too rare to be seen at all at the end that has it: told, and no answer.
        assert "the same" in str(error), error
        assert (1 - p) ** 400 > 1e-6
        return
    wrong = sum(each is False for each in answers)
    # Three standard deviations of luck beside what is promised.
    promised = 1 - confidence
    assert wrong / 150 <= promised + 3 * (promised * confidence / 150) ** 0.5


@pytest.mark.parametrize("p", [0.05, 0.3])
def test_it_is_not_wrong_all_the_same_when_it_matters(p: float) -> None:
    """Over many: below the promise itself, with the culprit where most is to be missed."""
    wrong = sum(answer(p, 64, 1, 0.9, f"{p} {n}") is False for n in range(600))
    assert wrong / 600 < 0.1
    # An early culprit is met by exposures, a late one by trials that hold.
    late = sum(answer(p, 64, 64, 0.9, f"{p} {n}") is False for n in range(100))
    assert late == 0
