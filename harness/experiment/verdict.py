# SPDX-License-Identifier: GPL-2.0
"""The trials of a cell -> one verdict, and whether the kernel's role expects it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from harness.errors import EXIT_CANNOT_TEST, EXIT_EXPECTED, EXIT_UNEXPECTED
from harness.experiment.plan import Cell
from harness.experiment.statistics import clopper_pearson, clustered, percent, trials_needed
from harness.experiment.trial import Outcome, Trial, by_boot, count
from harness.plain import printable

NOT_FIRED = "control has not fired in this run"
# A rate over the few trials in which the set-up happened to work says little
# about the kernel and much about the set-up.  Not where any rate will do: there luck
# decides how many trials get to the race at all, and the rate is of those that did.
MIN_VALID = 0.5


@dataclass(frozen=True)
class Evidence:
    """What running a cell brought to light, beside its trials.

    Every field has a default that means "nothing wrong".
    """

    splats: Sequence[str] = ()  # titles, whole console
    fate: Outcome | None = None  # "crashed", "hung", "lost": the machine died on the way
    death: str = ""  # what was seen of that
    faults: Sequence[str] = ()  # of the harness: each one costs the cell its verdict
    untested: str = ""  # why nothing was tried or nothing counts (preflight, skip, boot)
    control_fired: bool = True  # the same workload and filesystem, where it must fire
    planned: int | None = None  # trials that there was time for; None = all of the cell's


@dataclass(frozen=True)
class Verdict:
    """One cell's answer; `rate` and `interval` are over exposed + held trials only."""

    state: Outcome  # the cell in one word
    as_expected: bool
    claim: str  # one sentence for a mailing list
    reason: str  # why it is not as expected; "" when it is
    trials: int  # that have an outcome
    planned: int
    outcomes: dict[Outcome, int]
    exposed: int
    rate: float | None  # None: no trial counts
    interval: tuple[float, float]  # Clopper-Pearson, 95 %, for clusters if there are
    boots: int  # clusters: boots with a trial
    design_effect: float  # by what the clusters make the variance larger; 1 = not at all
    window_hits: int  # of the first window, the race's own; summed over the trials
    window_hits_by_name: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The "verdict" of a cell in run.json."""
        return {**dataclasses.asdict(self), "interval": list(self.interval)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What to_json() gave.  TypeError, ValueError if it is something else."""
        low, high = value["interval"]
        return cls(**{**value, "interval": (low, high)})


def judge(cell: Cell, trials: Sequence[Trial], evidence: Evidence) -> Verdict:
    """The verdict of one cell, from all its trials and what else was seen.

    Pure: the same input gives the same verdict.
    """
    min_rate = cell.min_rate
    outcomes = count(trials)
    exposed, valid = outcomes["exposed"], outcomes["exposed"] + outcomes["held"]
    by_name = {window.name: 0 for window in cell.windows}
    for trial in trials:
        for name, hits in trial.window_hits.items():
            by_name[name] = by_name.get(name, 0) + hits
    window_hits = by_name[cell.windows[0].name] if cell.windows else 0
    clusters = by_boot(trials)
    interval, effect = clopper_pearson(exposed, valid), 1.0
    if len(clusters) > 1:
        interval, effect = clustered(clusters)
    armed = bool(cell.windows) and cell.armed
    planned = cell.trials if evidence.planned is None else evidence.planned

    reached = not cell.windows or window_hits > 0
    if cell.unaided and cell.kind == "race":
        # Without windows, that both were at it at the same time is all that can be known.
        reached = any(trial.data.get("order") == "overlap" for trial in trials)
    state, reason = _state(cell, planned, trials, outcomes, evidence, reached)
    if cell.must_fire and state == "exposed" and _too_few(exposed, valid, min_rate):
        # It fired every time, and no number so small shows the rate that is asked.
        state, reason = "untested", _too_low(exposed, valid, interval[0], min_rate)
    as_expected = state == "held" or (state == "exposed" and cell.may_fire)
    if cell.must_fire:
        as_expected = state == "exposed" and interval[0] >= min_rate
        if state == "held":
            reason = _silent(cell)
        elif state == "exposed" and not as_expected:
            reason = _too_low(exposed, valid, interval[0], min_rate)
    elif state == "exposed":
        reason = _open(cell, trials, exposed, valid)
    ran = "armed" if armed else "unaided" if cell.unaided else "unarmed"
    return Verdict(
        state=state,
        as_expected=as_expected,
        # Both may quote the guest.
        claim=printable(
            _claim(state, reason, exposed, valid, interval, ran, len(trials), planned)
        ),
        reason="" if as_expected else printable(reason),
        trials=len(trials),
        planned=planned,
        outcomes=outcomes,
        exposed=exposed,
        rate=exposed / valid if valid else None,
        interval=interval,
        boots=len(clusters),
        design_effect=effect,
        window_hits=window_hits,
        window_hits_by_name=by_name,
    )


def not_fired(cell: Cell) -> str:
    """Why a cell that held is untested: its workload fired nowhere in this run."""
    if not cell.fires_on:
        return NOT_FIRED
    return f"has not fired in this run, as it must on {' and '.join(cell.fires_on)}"


def _silent(cell: Cell) -> str:
    if cell.switch:
        return f"the race did not fire with the lock site {cell.switch!r} off"
    return f"did not fire on {cell.role}, where it must: this is open there"


def _open(cell: Cell, trials: Sequence[Trial], exposed: int, valid: int) -> str:
    if cell.kind != "gate":
        return "the race is open"
    why = next((trial.why for trial in trials if trial.outcome == "exposed" and trial.why), "")
    return f"the gate failed in {exposed} of {valid} trials" + (f": {why}" if why else "")


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """What a finished run says to `git bisect run`: 0, 1 or 125.

    A single verdict against expectation outweighs any number of cells that
    could not be tested: it is a result, and the others are not.
    """
    wrong = [verdict.state for verdict in verdicts if not verdict.as_expected]
    if not wrong:
        return EXIT_EXPECTED
    return EXIT_CANNOT_TEST if set(wrong) <= {"untested", "lost"} else EXIT_UNEXPECTED


def _state(
    cell: Cell,
    planned: int,
    trials: Sequence[Trial],
    outcomes: dict[Outcome, int],
    evidence: Evidence,
    reached: bool,
) -> tuple[Outcome, str]:
    """The cell in one word and why; the worst that happened wins."""
    whys = {trial.outcome: trial.why for trial in reversed(trials) if trial.why}
    titles = list(dict.fromkeys(evidence.splats))
    if evidence.fate == "hung" or outcomes["hung"]:
        # What the kernel says of a hang ("blocked for more than") explains it.
        return "hung", "; ".join([evidence.death or whys.get("hung", "the machine hung"), *titles])
    if evidence.fate == "crashed" or outcomes["crashed"] or titles:
        return "crashed", "; ".join(titles) or evidence.death or "the machine died"
    troubles = [*evidence.faults]
    if evidence.fate == "lost" or outcomes["lost"]:
        troubles.append(evidence.death or whys.get("lost", "the machine was lost"))
    # An exposure nobody wanted is evidence even from a limping run; the one a
    # control kernel owes us is not.
    valid = outcomes["exposed"] + outcomes["held"]
    few = valid < MIN_VALID * len(trials) and not cell.may_fire
    if outcomes["exposed"] and not (cell.open and (troubles or few or not reached)):
        return "exposed", ""
    if troubles:
        return "lost", "; ".join(dict.fromkeys(troubles))
    if evidence.untested:
        return "untested", evidence.untested
    if not valid:
        return "untested", whys.get("untested", "no trial was valid")
    if few:
        why = f"only {valid} of {len(trials)} trials were valid"
        return "untested", f"{why}: {whys['untested']}" if "untested" in whys else why
    if not reached and cell.unaided:
        return "untested", "the two never overlapped, and there is no window to make them"
    if not reached:
        return "untested", f"window {cell.windows[0].name!r} was never hit"
    if cell.needs_fire and not evidence.control_fired:
        return "untested", not_fired(cell)
    if len(trials) < planned:
        return "lost", f"only {len(trials)} of {planned} trials were reported"
    return "held", ""


def _too_few(exposed: int, valid: int, min_rate: float) -> bool:
    return exposed == valid and (min_rate >= 1 or valid < trials_needed(min_rate))


def _too_low(exposed: int, valid: int, low: float, min_rate: float) -> str:
    reason = (
        f"exposed in {exposed} of {valid}: the rate is at least {percent(low, 'down')} at 95 %,"
        f" and {percent(min_rate)} is asked"
    )
    if exposed == valid and min_rate < 1:
        reason += f" (that takes at least {trials_needed(min_rate)} trials)"
    return reason


def _claim(
    state: Outcome,
    reason: str,
    exposed: int,
    valid: int,
    interval: tuple[float, float],
    ran: str,
    tried: int,
    planned: int,
) -> str:
    low, high = percent(interval[0], "down"), percent(interval[1], "up")
    held = valid - exposed
    if state == "held":
        return f"held in {held} of {valid} {ran} trials: rate below {high} at 95 %"
    if state == "exposed":
        return f"exposed in {exposed} of {valid} {ran} trials: rate {low} to {high} at 95 %"
    if state in ("crashed", "hung"):
        also = f", exposed in {exposed} of {valid}" if exposed else ""
        return f"{state} in {tried} of {planned} planned {ran} trials{also}: {reason}"
    if valid and not exposed:
        return f"{state} ({held} of {valid} {ran} trials held): {reason}"
    return f"{state}: {reason}"
