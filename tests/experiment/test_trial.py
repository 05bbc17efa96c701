# SPDX-License-Identifier: GPL-2.0
"""The reader of what a reproducer prints."""

from __future__ import annotations

import json
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from harness.experiment.trial import OUTCOMES, Outcome, Reader, Trial, count, read

WORDS = {"exposed": "not ok", "held": "ok", "untested": "ok"}


def lines(number: int, outcome: str, hits: int = 1) -> list[str]:
    """The two lines of one trial, as the contract has them."""
    value = {"trial": number, "outcome": outcome, "window_hits": {"w": hits}, "byte": 17}
    skip = " # SKIP window not reached" if outcome == "untested" else ""
    return [f"# {json.dumps(value)}", f"{WORDS[outcome]} {number} trial-{number}{skip}"]


def output(outcomes: Iterable[str]) -> list[str]:
    result = ["KTAP version 1", "1..3", '# {"workload":"w","seed":1}']
    for number, outcome in enumerate(outcomes, 1):
        result += lines(number, outcome)
    return result


def outcomes_of(trials: Iterable[Trial]) -> list[Outcome]:
    return [trial.outcome for trial in trials]


def test_a_whole_output() -> None:
    found = read(output(["exposed", "held", "untested"]), expected=3)
    assert outcomes_of(found) == ["exposed", "held", "untested"]
    assert [trial.number for trial in found] == [1, 2, 3]
    assert found[0].window_hits == {"w": 1}
    assert found[0].data == {"byte": 17}
    assert found[0].to_json()["outcome"] == "exposed"


def test_header() -> None:
    reader = Reader(3)
    for line in output(["held"]):
        reader.feed(line)
    assert reader.header == {"workload": "w", "seed": 1}


def test_trials_come_out_as_they_are_completed() -> None:
    reader = Reader(2)
    json_line, result_line = lines(1, "held")
    assert reader.feed(json_line) is None
    assert reader.feed(result_line) == Trial(1, "held", {"w": 1}, "", {"byte": 17})


def test_junk_between_the_lines_is_skipped() -> None:
    junk = ["", "[  1.5] BUG: something", "# {not json", "# [1, 2]", "ok", "1..x", "#"]
    mixed = [part for line in output(["held", "exposed"]) for part in [line, *junk]]
    assert outcomes_of(read(mixed, expected=2)) == ["held", "exposed"]


def test_result_without_json_is_lost() -> None:
    (found,) = read(["ok 1 trial-1"], expected=1)
    assert found.outcome == "lost"
    assert "JSON line is missing" in found.why


def test_torn_json_is_lost() -> None:
    torn, result = lines(1, "held")
    (found,) = read([torn[:-5], result], expected=1)
    assert found.outcome == "lost"


def test_json_without_result_is_lost() -> None:
    (found,) = read(lines(1, "held")[:1], expected=1)
    assert found.outcome == "lost"
    assert "no result line" in found.why


def test_contradictions_are_lost() -> None:
    for said, result in (
        ("held", "not ok 1 trial-1"),
        ("exposed", "ok 1 trial-1"),
        ("exposed", "ok 1 trial-1 # SKIP so"),
        ("untested", "ok 1 trial-1"),
        ("held", "ok 1 trial-1 # SKIP so"),
    ):
        (found,) = read([lines(1, said)[0], result], expected=1)
        assert found.outcome == "lost", (said, result)
        assert f"JSON says {said}" in found.why


def test_a_program_cannot_report_a_crash_or_an_unknown_outcome() -> None:
    for outcome in ("crashed", "hung", "lost", "fine", None, 3, ["held"]):
        line = "# " + json.dumps({"trial": 1, "outcome": outcome})
        (found,) = read([line, "ok 1 trial-1"], expected=1)
        assert found.outcome == "lost"
        assert "unknown outcome" in found.why


def test_window_hits_must_be_counters() -> None:
    bad: tuple[object, ...] = ([], {"w": -1}, {"w": "1"}, {"w": True}, {"w": 1.5}, {"w": 10**30})
    for hits in bad:
        line = "# " + json.dumps({"trial": 1, "outcome": "held", "window_hits": hits})
        (found,) = read([line, "ok 1 trial-1"], expected=1)
        assert found.outcome == "lost", hits
        assert found.window_hits == {}


def test_duplicates_that_agree_count_once() -> None:
    reader = Reader(2)
    twice = [*lines(1, "held"), *lines(1, "held"), "ok 1 trial-1"]
    found = [trial for line in twice if (trial := reader.feed(line))]
    assert outcomes_of(found) == ["held"]
    assert len(reader.problems) == 2


def test_duplicates_that_differ_cost_a_lost_trial() -> None:
    found = read([*lines(1, "held"), *lines(1, "exposed")], expected=1)
    assert outcomes_of(found) == ["held", "lost"]
    assert "reported twice" in found[1].why
    (one,) = read([lines(1, "held")[0], *lines(1, "exposed")], expected=1)
    assert one.outcome == "lost"


def test_torn_last_line_is_not_taken_for_another_trial() -> None:
    reader = Reader(20)
    for line in [*lines(1, "held"), lines(12, "held")[0]]:
        reader.feed(line)
    assert reader.feed("ok 1") is None  # torn from "ok 12 trial-12"
    assert reader.feed("ok 12 trial-1") is None
    (found,) = reader.end("crashed", "panic")
    assert (found.number, found.outcome) == (12, "crashed")


def test_program_that_ends_early_owes_one_trial() -> None:
    found = read(output(["held", "held"]), expected=3)
    assert outcomes_of(found) == ["held", "held", "lost"]
    assert found[2].why == "the reproducer ended after 2 of 3 trials"


def test_fate_goes_to_the_trial_under_way_and_to_no_other() -> None:
    for begun in ([], lines(3, "held")[:1]):
        reader = Reader(3)
        for line in [*output(["held", "held"]), *begun]:
            reader.feed(line)
        (found,) = reader.end("hung", "no answer")
        assert (found.number, found.outcome, found.why) == (3, "hung", "no answer")


def test_no_fate_when_all_trials_are_done() -> None:
    reader = Reader(1)
    for line in lines(1, "held"):
        reader.feed(line)
    assert reader.end("crashed", "on the way out") == []


def test_skip_does_not_excuse_a_program_that_stopped() -> None:
    reader = Reader(3)
    for line in [
        '# {"trial":1,"outcome":"held","window_hits":{"w":1}}',
        "ok 1 trial-1",
        "1..0 # SKIP enough of it",
    ]:
        reader.feed(line)
    assert [trial.outcome for trial in reader.end()] == ["lost"]


def test_skip_of_everything() -> None:
    reader = Reader(5)
    reader.feed("1..0 # SKIP no such window")
    assert reader.skip == "no such window"
    assert reader.end() == []


def test_count_has_every_outcome() -> None:
    assert count([]) == dict.fromkeys(OUTCOMES, 0)


FRAGMENTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["KTAP version 1", "1..3", "1..0 # SKIP x", "ok 1", "not ok 2 trial-2", "ok 3 # skip"]
    ),
    st.builds(lambda n, o: lines(n, o)[0], st.integers(0, 4), st.sampled_from([*WORDS])),
    st.builds(lambda n, o: lines(n, o)[1], st.integers(0, 4), st.sampled_from([*WORDS])),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["trial", "outcome", "window_hits", "why", "workload", "x"]), inner
        ),
        max_leaves=8,
    ).map(lambda value: f"# {json.dumps(value)}"),
)


@given(st.lists(FRAGMENTS, max_size=12), st.integers(1, 5), st.sampled_from([None, "crashed"]))
def test_never_raises_and_always_says_something(
    text: list[str], expected: int, fate: Outcome | None
) -> None:
    reader = Reader(expected)
    found = [trial for line in text if (trial := reader.feed(line))] + reader.end(fate, "why")
    for trial in found:
        assert trial.outcome in OUTCOMES
        json.loads(json.dumps(trial.to_json()))
    # Silence is not a pass: whatever came in, something is said of it.
    assert found or reader.skip is not None
    # "held" takes a JSON line that says so.
    said = sum('"held"' in line for line in text)
    assert count(found)["held"] <= said


@given(st.lists(st.sampled_from([*WORDS]), min_size=1, max_size=30), st.integers(0, 4000))
def test_any_tear_loses_at_most_the_last_trial(outcomes: list[str], position: int) -> None:
    text = "\n".join(line for n, o in enumerate(outcomes, 1) for line in lines(n, o))
    torn = text[: position % (len(text) + 1)]
    reader = Reader(len(outcomes))
    found = [trial for line in torn.split("\n") if (trial := reader.feed(line))]
    whole = torn.count("trial-")
    assert len(found) in (whole, whole - 1, whole + 1)
    sure = [t.outcome for t in found[: max(0, whole - 1)]]
    assert sure == outcomes[: len(sure)]


@given(st.integers(1, 40), st.data())
def test_deep_nesting_does_not_raise(depth: int, data: st.DataObject) -> None:
    opener = data.draw(st.sampled_from(['{"trial":', "[", '{"a":[']))
    Reader(1).feed("# " + opener * (depth * 500))


# --- with a limit -----------------------------------------------------------------


def limited(outcomes: Iterable[str], plan: str) -> tuple[Reader, list[Trial]]:
    reader = Reader(9, early=True)
    text = [line for line in output(outcomes) if line != "1..3"]
    found = [trial for line in [*text, plan] if (trial := reader.feed(line)) is not None]
    return reader, found + reader.end()


def test_a_plan_at_the_end_says_how_many_there_were() -> None:
    reader, found = limited(["held", "exposed"], "1..2")
    assert outcomes_of(found) == ["held", "exposed"]
    assert (reader.expected, reader.began, reader.problems) == (2, True, [])


def test_a_plan_at_the_end_must_be_right() -> None:
    reader, found = limited(["held", "exposed"], "1..3")
    assert outcomes_of(found) == ["held", "exposed", "lost"]
    assert reader.problems


def test_a_program_that_stops_without_a_plan_owes_a_trial() -> None:
    _reader, found = limited(["held"], "# bye")
    assert outcomes_of(found) == ["held", "lost"]


def test_without_a_limit_fewer_are_too_few() -> None:
    reader = Reader(9)
    text = [*output(["held"]), "1..1"]
    found = [trial for line in text if (trial := reader.feed(line)) is not None]
    assert outcomes_of(found + reader.end()) == ["held", "lost"]
