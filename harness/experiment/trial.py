# SPDX-License-Identifier: GPL-2.0
"""What a reproducer prints (KTAP with one JSON line per trial) -> trials.

The reader believes a trial only when both lines say the same: the JSON line
carries the facts, the result line confirms that it arrived whole.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Outcome = Literal["exposed", "held", "untested", "crashed", "hung", "lost"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

# What KTAP can say of a trial, and the only outcome that agrees with it.
_AGREES: dict[str, Outcome] = {"ok": "held", "not ok": "exposed", "skip": "untested"}

_PLAN = re.compile(r"1\.\.([0-9]{1,9})(?:\s+#\s*SKIP\b\s*(.*))?", re.IGNORECASE)
_RESULT = re.compile(r"(ok|not ok) ([0-9]{1,9})(?:\s+(?:- )?(.*))?")
_BAIL = re.compile(r"Bail out!\s*(.*)", re.IGNORECASE)
_SKIP = re.compile(r"#\s*SKIP\b", re.IGNORECASE)
_NAMED = re.compile(r"trial-([0-9]+)(?![0-9])")


@dataclass(frozen=True)
class Trial:
    """One attempt of a reproducer at its race."""

    number: int  # from 1
    outcome: Outcome
    window_hits: Mapping[str, int] = field(default_factory=dict)  # by window name
    why: str = ""  # what the oracle saw, or why nothing was tested
    data: Mapping[str, Any] = field(default_factory=dict)  # the reproducer's other keys

    def to_json(self) -> dict[str, Any]:
        """The line of trials.jsonl."""
        return {
            **self.data,
            "trial": self.number,
            "outcome": self.outcome,
            "window_hits": dict(self.window_hits),
            "why": self.why,
        }


class Reader:
    """Reads a reproducer's stdout line by line; never raises on what it is fed.

    Unknown lines are skipped.  `header` is the reproducer's own account of its
    settings, `skip` why it tested nothing at all ("1..0 # SKIP why"), `problems`
    breaches of the format that cost no trial.
    """

    def __init__(self, expected: int, early: bool = False) -> None:
        """`expected`: how many trials were asked for; `early`: it may end before, in time.

        It then says at the end how many there were ("1..17"), and `expected` is that.
        """
        self.expected = expected
        self._early = early
        self.header: dict[str, Any] | None = None
        self.skip: str | None = None
        self.bail = ""  # why it gave up on the way ("Bail out! why")
        self.began = False  # past its own preparations: a trial was under way
        self.problems: list[str] = []
        self._pending: dict[int, Trial] = {}  # JSON seen, result line not yet
        self._seen: dict[int, Outcome] = {}

    def feed(self, line: str) -> Trial | None:
        """Takes one line; returns the trial that it completes, if it does."""
        line = line.strip()
        if line.startswith("#"):
            self._diagnostic(line[1:].strip())
            return None
        if match := _BAIL.fullmatch(line):
            self.bail = match[1] or "no reason given"
            return None
        if match := _PLAN.fullmatch(line):
            self._plan(int(match[1]), match[2])
            return None
        if match := _RESULT.fullmatch(line):
            return self._result(match[1], int(match[2]), match[3] or "")
        return None

    def enough(self) -> None:
        """No more trials are wanted than there have been."""
        self._pending.clear()
        self.expected = len(self._seen)

    def end(self, fate: Outcome | None = None, why: str = "") -> list[Trial]:
        """No more lines will come: the trials that are owed.

        `fate` is what became of a machine that died on the way ("crashed",
        "hung", "lost"): the one trial under way gets it.  Without a fate the
        program ended by itself: a trial without a result line, and the first of
        those that never came, are "lost".
        """
        owed = []
        under_way = self._under_way()
        for number, trial in sorted(self._pending.items()):
            if number != under_way or fate is None:
                reason = "the reproducer printed no result line for this trial"
                owed.append(_with(trial, "lost", reason))
        if fate is not None and under_way is not None:
            known = self._pending.get(under_way, Trial(under_way, fate))
            owed.append(_with(known, fate, why))
        elif fate is None and not owed and under_way is not None and (self._seen or not self.skip):
            # "1..0 # SKIP" excuses a program that tried nothing, not one that stopped.
            reason = f"the reproducer ended after {len(self._seen)} of {self.expected} trials"
            reason += f": {self.bail}" if self.bail else ""
            owed.append(Trial(under_way, "lost", why=reason))
        for trial in owed:
            self._seen[trial.number] = trial.outcome
        self._pending.clear()
        return owed

    def _under_way(self) -> int | None:
        """The trial that had begun when the lines stopped; None = all were done."""
        if self._pending:
            return max(self._pending)
        if len(self._seen) >= self.expected:
            return None
        return max(self._seen, default=0) + 1

    def _plan(self, number: int, skip: str | None) -> None:
        if number == 0:
            why = (skip or "").strip()
            self.skip = why or "the reproducer planned no trial and did not say why"
            return
        self.began = True
        if self._early and number == len(self._seen) < self.expected:
            self.expected = number
        if number != self.expected:
            self.problems.append(f"asked for {self.expected} trials, the reproducer plans {number}")

    def _diagnostic(self, text: str) -> None:
        if not text.startswith("{"):
            return
        try:
            value = json.loads(text, parse_constant=str)  # NaN is not JSON
        except (ValueError, RecursionError):
            return  # torn, or somebody else's comment: the result line will miss it
        if "trial" not in value:
            if self.header is None and "workload" in value:
                self.header = value
                self.began = True  # it is said when all is prepared
            return
        trial = _from_json(value)
        if trial is None:
            self.problems.append(f"a trial has no proper number: {text[:120]}")
            return
        earlier = self._pending.get(trial.number)
        if earlier is not None and earlier.outcome != trial.outcome:
            reason = f"reported twice: {earlier.outcome}, then {trial.outcome}"
            trial = _with(trial, "lost", reason)
        self._pending[trial.number] = trial
        self.began = True

    def _result(self, word: str, number: int, rest: str) -> Trial | None:
        named = _NAMED.match(rest)
        if number < 1 or (named and int(named[1][:12]) != number):
            return None  # torn or mixed up: the trial's own result line is missed later
        self.began = True
        said = _AGREES["skip" if word == "ok" and _SKIP.search(rest) else word]
        pending = self._pending.pop(number, None)
        trial = pending or Trial(number, "lost", why="the trial's JSON line is missing or torn")
        if trial.outcome not in (said, "lost"):
            reason = f"JSON says {trial.outcome}, the result line says {said}"
            trial = _with(trial, "lost", reason)
        first = self._seen.get(number)
        if first is None:
            self._seen[number] = trial.outcome
            return trial
        # The first report stands, but two that differ mean the reproducer cannot
        # be trusted: that must cost a "lost", or an exposure could go unseen.
        if first == trial.outcome or (pending is None and first == said):
            self.problems.append(f"trial {number} was reported twice, as {first} both times")
            return None
        return _with(trial, "lost", f"reported twice: first {first}, then {said}")


def read(lines: Iterable[str], expected: int) -> list[Trial]:
    """All trials of a finished program's output, those it owes included."""
    reader = Reader(expected)
    trials = [trial for line in lines if (trial := reader.feed(line)) is not None]
    return trials + reader.end()


def count(trials: Iterable[Trial]) -> dict[Outcome, int]:
    """How many trials had which outcome; every outcome is a key."""
    found = Counter(trial.outcome for trial in trials)
    return {outcome: found[outcome] for outcome in OUTCOMES}


def by_boot(trials: Iterable[Trial]) -> list[tuple[int, int]]:
    """(exposed, exposed + held) of each boot; of all trials if they name none."""
    found: dict[object, list[int]] = {}
    for trial in trials:
        count = found.setdefault(trial.data.get("boot"), [0, 0])
        count[0] += trial.outcome == "exposed"
        count[1] += trial.outcome in ("exposed", "held")
    return [(hits, valid) for hits, valid in found.values()]


def _with(trial: Trial, outcome: Outcome, why: str) -> Trial:
    return Trial(trial.number, outcome, trial.window_hits, why, trial.data)


def _from_json(value: dict[str, Any]) -> Trial | None:
    number = value.pop("trial")
    if not _is_count(number) or number < 1:
        return None
    outcome, hits = value.pop("outcome", None), value.pop("window_hits", {})
    why = str(value.pop("why", ""))
    if not isinstance(hits, dict) or not all(_is_count(hit) for hit in hits.values()):
        return Trial(number, "lost", {}, f"window_hits are not counters: {str(hits)[:80]}", value)
    # A program cannot report its own machine's end: those three are not its to say.
    if outcome not in _AGREES.values():
        return Trial(number, "lost", hits, f"unknown outcome {str(outcome)[:80]!r}", value)
    return Trial(number, outcome, hits, why, value)


def _is_count(value: object) -> bool:
    # Bounded: Python's integers are not, and a 5000-digit one cannot be written as JSON.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
