# SPDX-License-Identifier: GPL-2.0
"""Ratios, their intervals, and goals: met, missed, not measured."""

from __future__ import annotations

import random
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bench import judge
from harness.bench.histogram import Histogram
from harness.bench.record import Asked, Document, Row, Sample
from harness.config import Goal

KERNELS = ["rwsem", "range"]
GOAL = Goal(workloads=["cold"], figure="p50_ticks", most=1.01)


def asked(**changes: Any) -> Asked:
    values: dict[str, Any] = {
        "kernels": KERNELS,
        "candidate": "range",
        "filesystems": ["ext4", "xfs"],
        "workloads": ["cold"],
        "boots": 10,
        "guest": "bench",
        "device": "/dev/nullb0",
        "goals": [GOAL],
        "figures": {"cold": ["p50_ticks"]},
        "only": {},
    }
    return Asked(**{**values, **changes})


def histogram(*values: int) -> Histogram:
    buckets = sorted((value, values.count(value)) for value in set(values))
    return Histogram("visit", "ns", 10, len(values), sum(values), min(values), max(values), buckets)


def sample(
    kernel: str, value: float, clock: str = "icount", number: int = 1, filesystem: str = "ext4"
) -> Sample:
    rows = {"cold": Row({"p50_ticks": value}, [histogram(int(value) % 1000, 5)])}
    return Sample(clock, number, kernel, filesystem, 1.0, rows)


def document(*samples: Sample, **changes: Any) -> Document:
    return Document(
        id="20261130T000000Z-bench-0000", status="finished", started="", seconds=1.0,
        asked=asked(**changes), host={}, qemu="QEMU 7.2",
        kernels={k: {"id": "0" * 12} for k in KERNELS}, samples=list(samples),
    )  # fmt: skip


def verdicts(made: Document) -> dict[str, judge.Verdict]:
    return {v.filesystem: v for v in judge.verdicts(made, judge.lines(made))}


def test_a_counted_figure_is_met_or_missed_to_the_instruction() -> None:
    base = sample("rwsem", 10_000)
    at, above = sample("range", 10_100), sample("range", 10_101)
    assert verdicts(document(base, at))["ext4"].met is True
    missed = verdicts(document(base, above))["ext4"]
    assert missed.met is False and missed.text == "1.01, at most 1.01"
    assert verdicts(document(base, at))["xfs"].met is None
    assert verdicts(document(base))["ext4"].text == "not measured"
    assert verdicts(document(sample("rwsem", 0), at))["ext4"].text == "rwsem has 0"


def test_bytes_are_counted_from_the_base() -> None:
    goal = Goal(workloads=["cold"], figure="p50_ticks", more=16.0)
    for bytes_, met in ((1080, True), (1081, False), (1000, True)):
        made = document(sample("rwsem", 1064), sample("range", bytes_), goals=[goal])
        assert verdicts(made)["ext4"].met is met
    assert verdicts(made)["ext4"].text == "-64 ticks, at most +16"


def test_a_time_is_missed_only_beyond_doubt() -> None:
    goal = Goal(workloads=["cold"], figure="p50_ticks", most=1.0, clock="tcg")
    rng = random.Random(1)

    def boots(factor: float, noise: float) -> list[Sample]:
        return [
            sample(kernel, 1e6 * by * (1 + noise * rng.random()), "tcg", number)
            for number in range(1, 11)
            for kernel, by in (("rwsem", 1.0), ("range", factor))
        ]

    assert verdicts(document(*boots(1.2, 0.01), goals=[goal]))["ext4"].met is False
    assert verdicts(document(*boots(1.0, 0.3), goals=[goal]))["ext4"].met is True
    assert verdicts(document(*boots(0.5, 0.01), goals=[goal]))["ext4"].met is True
    # Nobody asked for boots in the host's time: then no goal is about them.
    assert not verdicts(document(goals=[goal], boots=0))


def test_goals_are_about_what_was_asked_for() -> None:
    both = document(filesystems=["xfs"], goals=[GOAL])
    assert list(verdicts(both)) == ["xfs"]
    only = document(only={"cold": ["xfs"]})
    assert list(verdicts(only)) == ["xfs"]
    assert not verdicts(document(workloads=[], figures={}))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(1, 1e9), st.floats(1, 1e9)), min_size=1, max_size=12))
def test_a_ratio_is_of_medians_and_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    base, other = [a for a, _ in pairs], [b for _, b in pairs]
    made = judge.ratio(base, other)
    assert made is not None and made.value == median(other) / median(base)
    assert made.low <= made.high
    assert judge.ratio(base, other) == made, "drawn anew it is the same"
    if len(pairs) > 1 and len(set(pairs)) == 1:
        assert made.low == made.high == pytest.approx(made.value)


def test_what_slows_a_whole_round_cancels_out() -> None:
    """Boots are compared with those of their round: the host's load is in neither ratio."""
    rng = random.Random(2)
    load = [1 + 5 * rng.random() for _ in range(10)]
    made = judge.ratio([1000 * by for by in load], [1020 * by for by in load])
    assert made is not None
    assert made.low == pytest.approx(1.02) and made.high == pytest.approx(1.02)
    apart = judge.ratio([1000 * by for by in load], [1020 * by for by in load[::-1]])
    assert apart is not None and apart.high - apart.low > 2 * (made.high - made.low)


def test_an_interval_covers_the_truth() -> None:
    """Of 100 benches whose true ratio is 1.1, an interval of 95 % may miss a few."""
    rng, missed = random.Random(3), 0
    for _ in range(100):
        base = [rng.gauss(1000, 50) for _ in range(10)]
        other = [rng.gauss(1100, 50) for _ in range(10)]
        made = judge.ratio(base, other)
        assert made is not None
        missed += not made.low <= 1.1 <= made.high
    assert missed <= 12


def test_nothing_to_compare_with() -> None:
    assert judge.ratio([], []) is None
    assert judge.ratio([0.0, 0.0], [1.0, 2.0]) is None


def test_the_histograms_of_all_boots_are_one() -> None:
    made = document(
        sample("rwsem", 10, "tcg", 1), sample("rwsem", 20, "tcg", 2), sample("range", 30, "tcg", 1)
    )
    found = judge.pooled(made, "cold", "ext4", "tcg", "visit")
    assert found["rwsem"].buckets == [(5, 2), (10, 1), (20, 1)]
    assert found["range"].count == 2
    assert judge.pooled(made, "cold", "xfs", "tcg", "visit") == {}
    assert judge.pooled(made, "cold", "ext4", "tcg", "hold") == {}


def test_medians_over_boots_and_their_number() -> None:
    made = document(
        *(sample("rwsem", v, "tcg", n) for n, v in enumerate((10, 30, 20), 1)),
        *(sample("range", v, "tcg", n) for n, v in enumerate((10, 60), 1)),
    )
    (line,) = judge.lines(made)
    assert line.values == {"rwsem": 20, "range": 35} and line.boots == {"rwsem": 3, "range": 2}
    # Only rounds that both have are compared: 10 and 30 with 10 and 60.
    assert line.ratios["range"].value == 35 / 20
    assert line.spread["rwsem"] == (10, 30) and line.unit == "ticks"
