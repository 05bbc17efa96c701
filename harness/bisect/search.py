# SPDX-License-Identifier: GPL-2.0
"""The search: what the ends show, how sure a look must be, then git's commits one by one.

A pure function of its looks (see journal.py): no clock, no chance, nothing of the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from harness.bisect import odds
from harness.bisect.odds import Odds, Rate
from harness.bisect.question import (
    FINE,
    TOLERANCE,
    Answer,
    End,
    Kind,
    Question,
    Sight,
    Wanted,
    of,
)
from harness.bisect.walk import Mark
from harness.errors import EXIT_UNEXPECTED, HarnessError, InfraError, UsageError
from harness.experiment.statistics import percent

# The rate is measured until so many hits; in trials, so many of one boot.
HITS = 20
HITS_OF_A_BOOT = 10
BOOTS = 5  # likewise, where a boot is the unit ...
MOST_BOOTS = 20  # ... and no longer
MOST_TRIALS = 400  # of one boot, when a step takes many: what a workload's timeout is for
MOST = {"trial": 200_000, "boot": 1000, "try": 1}  # of a step
# A boot costs more than these; and of a handful, on a busy host, none may count.
LEAST_TRIALS = 10
TRIES = 3  # looks that were lost, or of whose trials too few count, before one is given up


class NothingToFindError(HarnessError):
    """Both ends are the same (exit code 1)."""

    exit_code = EXIT_UNEXPECTED


class Range(Protocol):
    """What the search must know of a span.Span."""

    @property
    def good(self) -> str: ...
    @property
    def bad(self) -> str: ...
    @property
    def steps(self) -> int: ...
    def name(self, commit: str) -> str: ...


class Stepper(Protocol):
    """What it must know of a walk.Walk."""

    next: str
    first_bad: str
    suspects: list[str]

    def mark(self, mark: Mark) -> None: ...


class Looks(Protocol):
    """What it must know of a journal.Journal."""

    def look(self, commit: str, upto: Kind, trials: int, hits: int) -> Sight: ...
    def looks(self, commit: str) -> list[Sight]: ...


@dataclass(frozen=True)
class Terms:
    """What was asked for."""

    want: Wanted | None = None  # None: whatever BAD shows
    confidence: float = 0.95
    rate: float | None = None  # of the sign, where it is known
    trials: int = 100  # of one boot, at most, while nobody knows the rate
    open: bool = False  # the cell's race can be had ...
    must_fire: bool = False  # ... and exposed is what is expected


@dataclass
class Tally:
    """The looks at one commit, counted."""

    counts: list[tuple[int, int]] = field(default_factory=list)  # hits, units of each look
    other: Sight | None = None  # what ended it, if that was another sign
    last: Sight | None = None

    @property
    def hits(self) -> int:
        return sum(hits for hits, _units in self.counts)

    @property
    def units(self) -> int:
        return sum(units for _hits, units in self.counts)


@dataclass(frozen=True)
class Decision:
    """What a commit is said to be, and by what."""

    commit: str
    mark: Mark
    hits: int
    units: int
    why: str  # what was seen


@dataclass(frozen=True)
class Finding:
    """How it ended."""

    question: Question
    rate: Rate
    first_bad: str  # "" when only skipped commits are left: then one of ...
    suspects: list[str]
    decisions: list[Decision]  # the ends first
    confidence: float


class Search:
    """One bisection; run() is its whole life."""

    def __init__(
        self, terms: Terms, span: Range, looks: Looks,
        say: Callable[[str, Decision | None], None],
    ) -> None:  # fmt: skip
        """say(line, decision) is told each step."""
        self._terms, self._span, self._looks, self._say = terms, span, looks, say
        self._misses: list[int] = []  # units of each decision that nothing shows
        self._decisions: list[Decision] = []

    def run(self, start: Callable[[], Stepper]) -> Finding:
        """Both ends, then the commits that start() gives.

        UsageError when the ends are the wrong way round or BAD is not what was asked
        for; NothingToFindError when both are the same; InfraError when one of them
        cannot be tested.
        """
        question = self._question()
        shown = self._rate(question)
        reckoning = Odds(self._terms.confidence, self._span.steps, shown)
        self._affordable(question, reckoning)
        self._other_end(question, reckoning)
        walk = start()
        while walk.next:
            walk.mark(self._step(walk.next, question, reckoning))
        return Finding(
            question, shown, walk.first_bad, walk.suspects, self._decisions,
            reckoning.reached(self._misses),
        )  # fmt: skip

    # --- the ends -----------------------------------------------------------------

    def _end(self, end: End) -> str:
        return self._span.bad if end == "bad" else self._span.good

    def _first(self, end: End) -> Sight:
        """The first look at an end, before anybody knows what to look for."""
        want = self._terms.want
        upto: Kind = want if want in ("apply", "build", "boot", "slower") else "held"
        hits = 0 if want in ("crashed", "hung") else HITS_OF_A_BOOT
        sight = self._looks.look(self._end(end), upto, self._terms.trials, hits)
        self._say(f"{end.upper()} ({self._span.name(self._end(end))}): {sight}", None)
        return sight

    def _question(self) -> Question:
        """What to look for, from what the ends show."""
        want, open_ = self._terms.want, self._terms.open
        if want == "slower":
            return self._slower()
        if want == "held":
            sight = self._first("good")
            if (found := of(sight, "good", open_)) is None:
                raise UsageError(
                    f"GOOD shows nothing that could be gone at BAD: {sight}",
                    hint="harness bisect without --for held",
                )
            return found
        bad = self._first("bad")
        found = of(bad, "bad", open_)
        if want:
            if found is None or found.kind != want:
                raise UsageError(
                    f"BAD does not show {want!r}, it is: {bad}", hint="harness bisect without --for"
                )
            return found
        if found is not None and not (found.kind == "exposed" and self._terms.must_fire):
            return found
        if found is None and bad.kind not in FINE:
            raise _cannot("BAD", bad)
        return self._gone(bad)

    def _slower(self) -> Question:
        """Halfway between what both ends cost, on a scale of ratios."""
        values = {}
        for end in ("bad", "good"):
            sight = self._first(end)
            if sight.value is None:
                raise _cannot(end.upper(), sight)
            values[end] = sight.value
        good, bad = values["good"], values["bad"]
        if bad < good / (1 + TOLERANCE):
            raise UsageError(
                f"BAD costs less than GOOD ({bad:.0f}, {good:.0f}): the wrong way round",
                hint="harness bisect with the two exchanged",
            )
        if bad <= good * (1 + TOLERANCE):
            raise NothingToFindError(
                f"GOOD and BAD cost the same: {good:.0f} and {bad:.0f} guest instructions",
                hint="harness bisect with an older GOOD or a newer BAD",
            )
        return Question("slower", "", "bad", limit=math.sqrt(good * bad))

    def _gone(self, bad: Sight) -> Question:
        """BAD is as expected: then it is what GOOD shows, if GOOD must show it."""
        good = self._first("good")
        found = of(good, "good", self._terms.open)
        if found is not None and found.kind == "exposed" and self._terms.must_fire:
            if bad.kind != "exposed":
                return found
            raise NothingToFindError(
                f"GOOD and BAD are the same: both {good.kind}, as they must be",
                hint="harness bisect with an older GOOD or a newer BAD",
            )
        if found is None and good.kind not in FINE:
            raise _cannot("GOOD", good)
        if found is None and bad.kind in FINE:
            raise NothingToFindError(
                f"GOOD and BAD are the same: {bad}",
                hint="harness bisect with more --trials, an older GOOD or a newer BAD",
            )
        raise UsageError(
            f"GOOD is not as expected and BAD is ({good}; {bad}): the wrong way round",
            hint="harness bisect with the two exchanged, or --for held for what ended it",
        )

    def _rate(self, question: Question) -> Rate:
        """How often the sign shows at the end that has it."""
        commit = self._end(question.at)
        if question.unit == "try":
            shown, tally = odds.known(1.0), self._sample(commit, question, 1, 1)
        elif self._terms.rate is not None:
            shown, tally = odds.known(self._terms.rate), self._sample(commit, question, 1, 1)
        else:
            trial = question.unit == "trial"
            hits = HITS if trial else BOOTS
            units = 2 * self._terms.trials if trial else MOST_BOOTS
            tally = self._sample(commit, question, hits, units)
            shown = odds.measured(tally.counts, self._terms.confidence)
        if not tally.hits:
            raise _cannot(question.at.upper(), tally.other or tally.last)
        rate = f"a rate of at least {percent(shown.low, 'down')}" if shown.units else "each time"
        if self._terms.rate is not None and question.unit != "try":
            rate = f"a rate of {percent(shown.low)}, as you say"
        count = f"{tally.hits} of {tally.units} {_units(question, tally.units)}"
        self._decide(commit, question.at, tally, f"{question}: {count} show it, {rate}")
        return shown

    def _affordable(self, question: Question, reckoning: Odds) -> None:
        """InfraError when a step would take days."""
        number = reckoning.misses(1)
        if number > MOST[question.unit]:
            raise InfraError(
                f"{question} shows so rarely that each step would take {number}"
                f" {_units(question, number)}",
                hint="harness bisect with --rate, if you know it better, or --confidence 0.8",
            )

    def _other_end(self, question: Question, reckoning: Odds) -> None:
        end = question.other_end
        tally = self._sample(self._end(end), question, 1, reckoning.misses(1))
        if tally.hits:
            raise NothingToFindError(
                f"GOOD and BAD are the same: both show {question}",
                hint="harness bisect with an older GOOD or a newer BAD",
            )
        if tally.other is not None:
            raise _cannot(end.upper(), tally.other)
        self._misses.append(tally.units)
        self._decide(self._end(end), end, tally, _absent(question, tally))

    # --- the steps ----------------------------------------------------------------

    def _step(self, commit: str, question: Question, reckoning: Odds) -> Mark:
        tally = self._sample(commit, question, 1, reckoning.misses(len(self._misses) + 1))
        if tally.hits:
            named = question.title or question.kind == "slower"
            self._decide(commit, question.at, tally, f"{question}" if named else str(tally.last))
        elif tally.other is not None:
            why = f"{tally.other}: not what {question.at.upper()} shows"
            self._decide(commit, "skip", tally, why)
        else:
            self._misses.append(tally.units)
            self._decide(commit, question.other_end, tally, _absent(question, tally))
        return self._decisions[-1].mark

    def _decide(self, commit: str, mark: Mark, tally: Tally, why: str) -> None:
        decision = Decision(commit, mark, tally.hits, tally.units, why)
        self._decisions.append(decision)
        self._say(f"{self._span.name(commit)}: {mark}: {why}", decision)

    def _sample(self, commit: str, question: Question, hits: int, units: int) -> Tally:
        """Looks at a commit until so many hits, or so many units, or another sign."""
        tally, lost = Tally(), 0
        for sight in self._sights(commit, question, tally, hits, units):
            answer: Answer = question.answer(sight)
            tally.last = sight
            if answer == "other":
                if sight.kind == "lost" or (sight.kind == "untested" and sight.trials):
                    lost += 1
                    if lost < TRIES:
                        continue
                if hits > 1 and question.unit == "boot":
                    # Where the rate is measured it counts against it.
                    answer, counted = "miss", (0, 1)
                else:
                    tally.other = sight
                    return tally
            else:
                counted = question.counts(sight)
            tally.counts.append(counted)
            if tally.hits >= hits or tally.units >= units:
                return tally
        raise AssertionError("unreachable")

    def _sights(
        self, commit: str, question: Question, tally: Tally, hits: int, units: int
    ) -> Iterator[Sight]:
        """Those that were taken before, and then new ones, for what is still wanted."""
        yield from list(self._looks.looks(commit))
        kind = question.kind
        while True:
            if kind in ("apply", "build", "boot", "slower"):
                yield self._looks.look(commit, kind, 1, 1)
            elif question.unit == "boot":
                yield self._looks.look(commit, "held", self._terms.trials, 0)
            else:
                most = max(self._terms.trials, MOST_TRIALS)
                if hits > 1:  # the rate is measured
                    most = self._terms.trials
                wanted = min(max(units - tally.units, LEAST_TRIALS), most)
                still = min(hits - tally.hits, HITS_OF_A_BOOT)
                yield self._looks.look(commit, "held", wanted, still)


def _units(question: Question, number: int) -> str:
    several = {"trial": "trials", "boot": "boots", "try": "tries"}
    return question.unit if number == 1 else several[question.unit]


def _absent(question: Question, tally: Tally) -> str:
    if question.kind == "slower":
        return f"{tally.last}"
    if question.unit == "try":
        return "it does not show"
    return f"0 of {tally.units} {_units(question, tally.units)} show it"


def _cannot(end: str, sight: Sight | None) -> InfraError:
    where = f" (see {sight.directory} in the results)" if sight and sight.directory else ""
    return InfraError(
        f"{end} cannot be tested: {sight}{where}", hint=f"harness bisect with another {end}"
    )
