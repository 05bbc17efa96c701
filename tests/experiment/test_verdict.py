# SPDX-License-Identifier: GPL-2.0
"""What trials are worth, by the kernel's role."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import Window
from harness.experiment.plan import Cell
from harness.experiment.trial import OUTCOMES, Trial
from harness.experiment.verdict import NOT_FIRED, Evidence, Verdict, exit_code, judge
from tests.fakes.experiment import cell, trial, trials

NOTHING = Evidence()
ON = cell("control", "fault")
OFF = cell("control")
STOCK = cell("stock", trials=320)


def verdict(state: str, as_expected: bool) -> Verdict:
    judged = judge(STOCK, trials(held=1), NOTHING)
    return Verdict(**{**vars(judged), "state": state, "as_expected": as_expected})


# --- control ------------------------------------------------------------------


def test_control_that_fires() -> None:
    judged = judge(ON, trials(exposed=98, held=2), NOTHING)
    assert (judged.state, judged.as_expected, judged.reason) == ("exposed", True, "")
    assert judged.rate == 0.98
    assert judged.interval == pytest.approx((0.9296, 0.9976), abs=1e-4)
    assert judged.claim == "exposed in 98 of 100 armed trials: rate 92.9 % to 99.8 % at 95 %"


def test_control_that_fires_too_rarely() -> None:
    judged = judge(ON, trials(exposed=95, held=5), NOTHING)
    assert (judged.state, judged.as_expected) == ("exposed", False)
    assert "exposed in 95 of 100" in judged.reason
    assert "90 % is asked" in judged.reason
    less = dataclasses.replace(ON, min_rate=0.8)
    assert judge(less, trials(exposed=95, held=5), NOTHING).as_expected


def test_control_with_too_few_trials_says_how_many_are_needed() -> None:
    judged = judge(ON, trials(exposed=35), NOTHING)
    assert "at least 36 trials" in judged.reason
    # No kernel could have passed: that is no verdict on this one.
    assert (judged.state, judged.as_expected) == ("untested", False)
    assert exit_code([judged]) == 125
    missed = judge(ON, trials(exposed=34, held=1), NOTHING)
    assert (missed.state, exit_code([missed])) == ("exposed", 1)
    assert judge(ON, trials(exposed=36), NOTHING).as_expected


def test_where_any_rate_will_do_few_valid_trials_are_a_rate() -> None:
    """An unarmed trial gets to the race by luck: stock's dio-write-fault, 15 of 31."""
    by_luck = dataclasses.replace(ON, armed=False, trials=30)
    assert by_luck.may_fire
    judged = judge(by_luck, trials(exposed=1, held=14, untested=16), NOTHING)
    assert (judged.state, judged.as_expected) == ("exposed", True)
    judged = judge(by_luck, trials(held=14, untested=16), NOTHING)
    assert (judged.state, judged.as_expected) == ("held", True)
    judged = judge(by_luck, trials(untested=16), NOTHING)
    assert (judged.state, judged.as_expected) == ("untested", False)


def test_a_guests_words_cannot_reach_for_the_terminal() -> None:
    judged = judge(STOCK, [trial(1, "held")], Evidence(splats=["BUG: \x1b[2J\x1b]0;evil\x07"]))
    assert judged.claim.isprintable() and judged.reason.isprintable()
    assert r"\x1b[2J" in judged.claim


@pytest.mark.parametrize("of", [ON, cell("stock")])
def test_a_cell_of_mostly_invalid_trials_is_untested(of: Cell) -> None:
    wanted = {"exposed": 49} if of is ON else {"held": 49}
    judged = judge(of, trials(**wanted, untested=51), NOTHING)
    assert (judged.state, judged.as_expected) == ("untested", False)
    assert judged.reason.startswith("only 49 of 100 trials were valid")
    wanted = dict.fromkeys(wanted, 50)
    assert judge(of, trials(**wanted, untested=50), NOTHING).as_expected


def test_an_exposure_among_invalid_trials_is_still_one() -> None:
    judged = judge(STOCK, trials(exposed=1, held=9, untested=90), NOTHING)
    assert (judged.state, judged.as_expected) == ("exposed", False)


def test_control_that_does_not_fire() -> None:
    judged = judge(ON, trials(held=100), NOTHING)
    assert (judged.state, judged.as_expected) == ("held", False)
    assert "did not fire with the lock site 'fault' off" in judged.reason
    assert exit_code([judged]) == 1


def test_control_exposures_without_window_hits_do_not_count() -> None:
    judged = judge(ON, trials(exposed=100, hits=0), NOTHING)
    assert (judged.state, judged.as_expected) == ("untested", False)


def test_control_with_all_switches_off_must_hold() -> None:
    assert judge(OFF, trials(held=100), NOTHING).as_expected
    broken = judge(OFF, trials(held=99, exposed=1), NOTHING)
    assert (broken.state, broken.as_expected) == ("exposed", False)
    # It needs no other control cell: it is one.
    assert judge(OFF, trials(held=100), Evidence(control_fired=False)).as_expected


# --- stock and candidate ------------------------------------------------------


@pytest.mark.parametrize("role", ["stock", "candidate"])
def test_held(role: str) -> None:
    judged = judge(cell(role, trials=320), trials(held=320), NOTHING)
    assert (judged.state, judged.as_expected) == ("held", True)
    # 1.146 %: an upper bound is rounded up.
    assert judged.claim == "held in 320 of 320 armed trials: rate below 1.15 % at 95 %"
    assert judged.outcomes == {**dict.fromkeys(OUTCOMES, 0), "held": 320}


def test_one_exposure_is_enough() -> None:
    judged = judge(STOCK, trials(held=319, exposed=1), Evidence(control_fired=False))
    assert (judged.state, judged.as_expected) == ("exposed", False)
    assert judged.reason
    assert exit_code([judged]) == 1


def test_control_has_not_fired() -> None:
    judged = judge(STOCK, trials(held=320), Evidence(control_fired=False))
    assert (judged.state, judged.reason) == ("untested", NOT_FIRED)
    assert "320 of 320 armed trials held" in judged.claim
    assert exit_code([judged]) == 125


def test_no_window_hits_is_untested() -> None:
    judged = judge(STOCK, trials(held=320, hits=0), NOTHING)
    assert (judged.state, judged.as_expected) == ("untested", False)
    assert "'ext4_punch' was never hit" in judged.reason


def test_fewer_trials_than_planned_are_not_held() -> None:
    judged = judge(STOCK, trials(held=319), NOTHING)
    assert (judged.state, judged.as_expected) == ("lost", False)
    assert judged.reason == "only 319 of 320 trials were reported"


def test_unarmed_needs_no_hits() -> None:
    judged = judge(cell(windows=[], trials=5), trials(held=5, hits=0), NOTHING)
    assert judged.as_expected
    assert "unarmed" in judged.claim
    assert judged.window_hits == 0


def test_hits_are_those_of_the_first_window() -> None:
    windows = [Window(name="a", delay_us=1), Window(name="b", delay_us=1)]
    found = [Trial(n, "held", {"a": 0, "b": 3, "c": 1}) for n in (1, 2)]
    judged = judge(cell(windows=windows), found, NOTHING)
    assert judged.window_hits == 0
    assert judged.window_hits_by_name == {"a": 0, "b": 6, "c": 2}
    assert judged.state == "untested"


def test_untested_trials_are_not_in_the_rate() -> None:
    judged = judge(cell("stock"), trials(held=60, untested=40), NOTHING)
    assert judged.trials == 100
    assert judged.claim.startswith("held in 60 of 60 armed trials")
    assert judged.as_expected


def test_only_untested_trials() -> None:
    found = [trial(1, "untested", 0, "window not reached"), trial(2, "untested", 0, "other")]
    judged = judge(STOCK, found, NOTHING)
    assert (judged.state, judged.reason) == ("untested", "window not reached")
    assert (judged.rate, judged.interval) == (None, (0.0, 1.0))


# --- gates, and what is open on stock ----------------------------------------


def test_a_gate_needs_no_control() -> None:
    gate = cell("stock", kind="gate", windows=[], trials=5)
    judged = judge(gate, trials(held=5, hits=0), Evidence(control_fired=False))
    assert (judged.state, judged.as_expected) == ("held", True)


def test_a_gate_that_fails_says_how() -> None:
    gate = cell("candidate", kind="gate", windows=[], trials=2)
    found = [trial(1, "held", 0), trial(2, "exposed", 0, "truncate took 9 s, its bound is 2 s")]
    judged = judge(gate, found, NOTHING)
    assert (judged.state, judged.as_expected) == ("exposed", False)
    assert judged.reason == (
        "the gate failed in 1 of 2 trials: truncate took 9 s, its bound is 2 s"
    )
    assert exit_code([judged]) == 1


@pytest.mark.parametrize("kind", ["race", "gate"])
def test_what_is_open_on_stock_must_fire_there(kind: str) -> None:
    stock = cell("stock", kind=kind, fires_on=["stock"], trials=60)
    fired = judge(stock, trials(exposed=60), Evidence(control_fired=False))
    assert (fired.state, fired.as_expected, fired.reason) == ("exposed", True, "")
    silent = judge(stock, trials(held=60), NOTHING)
    assert (silent.state, silent.as_expected) == ("held", False)
    assert silent.reason == "did not fire on stock, where it must: this is open there"
    assert exit_code([silent]) == 1
    rarely = judge(stock, trials(exposed=30, held=30), NOTHING)
    assert not rarely.as_expected and "90 % is asked" in rarely.reason
    few = judge(stock, trials(exposed=9), NOTHING)
    assert (few.state, exit_code([few])) == ("untested", 125)


@pytest.mark.parametrize("kind", ["race", "gate"])
def test_what_is_open_on_stock_must_have_fired_there_to_hold_elsewhere(kind: str) -> None:
    candidate = cell("candidate", kind=kind, fires_on=["stock"], trials=60)
    assert judge(candidate, trials(held=60), NOTHING).as_expected
    judged = judge(candidate, trials(held=60), Evidence(control_fired=False))
    assert (judged.state, judged.as_expected) == ("untested", False)
    assert judged.reason == "has not fired in this run, as it must on stock"
    # An exposure needs no such proof.
    judged = judge(candidate, trials(exposed=1), Evidence(control_fired=False))
    assert (judged.state, judged.as_expected) == ("exposed", False)


# --- what else was seen -------------------------------------------------------


def test_a_splat_is_not_a_pass() -> None:
    for asked, found in (
        (STOCK, trials(held=320)),
        (ON, trials(exposed=100)),
        (OFF, trials(held=9)),
    ):
        judged = judge(asked, found, Evidence(splats=["BUG: bad", "BUG: bad", "WARNING: x"]))
        assert (judged.state, judged.as_expected) == ("crashed", False)
        assert judged.reason == "BUG: bad; WARNING: x"
        assert exit_code([judged]) == 1


def test_crash_and_hang_are_told_apart_and_counted() -> None:
    for fate in ("crashed", "hung"):
        found = [*trials(held=3), trial(4, fate, why="gone")]
        evidence = Evidence(fate=fate, death="gone")
        judged = judge(STOCK, found, evidence)
        assert judged.state == fate
        assert judged.claim == f"{fate} in 4 of 320 planned armed trials: gone"
        assert judged.outcomes["held"] == 3
        assert exit_code([judged]) == 1


def test_a_hang_is_explained_by_its_splat() -> None:
    evidence = Evidence(splats=["INFO: task x blocked"], fate="hung", death="no answer")
    judged = judge(STOCK, trials(held=1, hung=1), evidence)
    assert (judged.state, judged.reason) == ("hung", "no answer; INFO: task x blocked")


def test_death_after_the_last_trial_still_counts() -> None:
    judged = judge(STOCK, trials(held=320), Evidence(fate="hung", death="stuck in exit"))
    assert (judged.state, judged.as_expected) == ("hung", False)


def test_harness_faults_are_lost() -> None:
    judged = judge(STOCK, trials(held=320), Evidence(faults=["console not scanned"]))
    assert (judged.state, judged.reason) == ("lost", "console not scanned")
    assert exit_code([judged]) == 125
    assert judge(STOCK, trials(held=319, lost=1), NOTHING).state == "lost"


def test_a_fault_spoils_the_exposure_we_want_but_not_the_one_we_fear() -> None:
    fault = Evidence(faults=["console not scanned"])
    assert judge(ON, trials(exposed=100), fault).state == "lost"
    assert judge(OFF, trials(held=99, exposed=1), fault).state == "exposed"
    assert judge(STOCK, trials(held=99, exposed=1), fault).state == "exposed"


def test_untested_reason_is_kept() -> None:
    judged = judge(STOCK, [], Evidence(untested="preflight: cpus_online is 1"))
    assert (judged.state, judged.claim) == ("untested", "untested: preflight: cpus_online is 1")
    assert judged.trials == 0


# --- together -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 0),
        ([("held", True), ("exposed", True)], 0),
        ([("held", True), ("untested", False)], 125),
        ([("lost", False), ("untested", False)], 125),
        ([("lost", False), ("exposed", False)], 1),
        ([("crashed", False)], 1),
        ([("hung", False), ("untested", False)], 1),
        ([("held", False)], 1),
    ],
)
def test_exit_code(states: list[tuple[str, bool]], code: int) -> None:
    assert exit_code([verdict(*state) for state in states]) == code


@given(
    st.sampled_from(
        [ON, OFF, STOCK, cell("candidate", windows=[]), cell("candidate", kind="gate"),
         cell("stock", fires_on=["stock"])]
    ),
    st.dictionaries(st.sampled_from(OUTCOMES), st.integers(0, 50)),
    st.integers(0, 2),
    st.builds(
        Evidence,
        splats=st.lists(st.text("ab", min_size=1, max_size=3), max_size=2),
        fate=st.sampled_from([None, "crashed", "hung", "lost"]),
        faults=st.lists(st.text("ab", min_size=1, max_size=3), max_size=1),
        untested=st.sampled_from(["", "why"]),
        control_fired=st.booleans(),
    ),
)
def test_nothing_passes_by_silence(
    asked: object, outcomes: dict[str, int], hits: int, evidence: Evidence
) -> None:
    found = trials(hits, **outcomes)
    judged = judge(asked, found, evidence)  # type: ignore[arg-type]
    json.dumps(judged.to_json(), allow_nan=False)
    assert sum(judged.outcomes.values()) == judged.trials == len(found)
    assert judged.as_expected == (judged.reason == "")
    if judged.as_expected:
        assert not evidence.splats and not evidence.faults and evidence.fate is None
        assert not any(judged.outcomes[bad] for bad in ("crashed", "hung", "lost"))
        assert judged.outcomes["held"] + judged.outcomes["exposed"] > 0
        assert asked.must_fire or judged.exposed == 0  # type: ignore[attr-defined]
        assert hits > 0 or not asked.windows  # type: ignore[attr-defined]
        assert evidence.control_fired or asked.role == "control"  # type: ignore[attr-defined]


# --- unarmed ----------------------------------------------------------------------


def test_unarmed_an_open_race_may_fire_or_not() -> None:
    chance = dataclasses.replace(ON, armed=False)
    for found in (trials(exposed=3, held=97), trials(held=100), trials(exposed=100)):
        judged = judge(chance, found, NOTHING)
        assert judged.as_expected
        assert "unarmed trials" in judged.claim
    assert not judge(chance, trials(held=100, hits=0), NOTHING).as_expected
    assert judge(chance, trials(exposed=2, held=9), Evidence(faults=["x"])).state == "lost"
    assert judge(chance, trials(held=9), Evidence(splats=["BUG"])).state == "crashed"


def test_unarmed_what_must_hold_must_hold() -> None:
    stock = dataclasses.replace(STOCK, armed=False)
    assert judge(stock, trials(held=320), NOTHING).as_expected
    judged = judge(stock, trials(held=319, exposed=1), NOTHING)
    assert (judged.state, judged.as_expected) == ("exposed", False)


def test_a_budget_decides_how_many_were_planned() -> None:
    judged = judge(STOCK, trials(held=40), Evidence(planned=40))
    assert (judged.state, judged.planned) == ("held", 40)
    assert judge(STOCK, trials(held=39), Evidence(planned=40)).state == "lost"
