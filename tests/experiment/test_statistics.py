# SPDX-License-Identifier: GPL-2.0
"""Exact intervals, against published and hand-computed values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.experiment.statistics import (
    clopper_pearson,
    percent,
    trials_needed,
    trials_to_exclude,
)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (7, 1000, 0.00282, 0.01437),
        (0, 300, 0.0, 0.01222),
        (15, 20, 0.509, 0.913),
        (36, 36, 0.9026, 1.0),
        (0, 0, 0.0, 1.0),
        (1, 1, 0.025, 1.0),
    ],
)
def test_known_intervals(k: int, n: int, low: float, high: float) -> None:
    assert clopper_pearson(k, n) == pytest.approx((low, high), abs=5e-5, rel=1e-3)


def test_other_confidence() -> None:
    # Zero of 299 excludes 1 % at 95 % one-sided, that is at 90 % two-sided.
    assert clopper_pearson(0, 299, 0.90)[1] < 0.01 < clopper_pearson(0, 298, 0.90)[1]


@given(st.integers(0, 400), st.integers(0, 400))
def test_bounds_solve_the_binomial_equations(k: int, n: int) -> None:
    """The definition: at each bound the tail beyond the observation weighs 2.5 %."""
    if k > n:
        k, n = n, k
    low, high = clopper_pearson(k, n)

    def at_most(successes: int, rate: float) -> float:
        return math.fsum(
            math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(successes + 1)
        )

    assert 0 <= low <= (k / n if n else 0.5) <= high <= 1
    if k > 0:
        assert 1 - at_most(k - 1, low) == pytest.approx(0.025, abs=1e-9)
    if k < n:
        assert at_most(k, high) == pytest.approx(0.025, abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_not_a_proportion(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a proportion"):
        clopper_pearson(k, n)


def test_confidence_must_be_inside() -> None:
    with pytest.raises(ValueError, match="confidence"):
        clopper_pearson(1, 2, 1.0)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 0.95, 0.99])
def test_trials_needed_is_the_smallest_that_can_reach(rate: float) -> None:
    n = trials_needed(rate)
    assert clopper_pearson(n, n)[0] >= rate - 1e-12
    assert n == 1 or clopper_pearson(n - 1, n - 1)[0] < rate


def test_trials_needed_for_the_default() -> None:
    assert trials_needed(0.9) == 36
    with pytest.raises(ValueError, match="cannot be reached"):
        trials_needed(1.0)


@pytest.mark.parametrize(
    ("rate", "towards", "text"),
    [
        (0.011461, "up", "1.15 %"),
        (0.011461, "down", "1.14 %"),
        (0.96378, "down", "96.3 %"),
        (0.99999, "down", "99.9 %"),
        (0.99999, "up", "100 %"),
        (1.0, "up", "100 %"),
        (0.0, "down", "0 %"),
        (0.5, "nearest", "50 %"),
        (0.0000123, "nearest", "0.00123 %"),
    ],
)
def test_percent(rate: float, towards: str, text: str) -> None:
    assert percent(rate, towards) == text  # type: ignore[arg-type]


@given(st.just(0.0) | st.floats(1e-9, 1))
def test_percent_never_claims_too_much(rate: float) -> None:
    assert float(percent(rate, "up")[:-2]) >= rate * 100 * (1 - 1e-12)
    assert float(percent(rate, "down")[:-2]) <= rate * 100 * (1 + 1e-12)


@pytest.mark.parametrize(
    ("rate", "confidence", "trials"),
    # races.md 3.4, computed from (1 - p) ** n; 0.1 % at 95 % is the rule of three's 3000.
    [(0.1, 0.95, 29), (0.1, 0.99, 44), (0.05, 0.95, 59), (0.05, 0.99, 90), (0.01, 0.95, 299),
     (0.01, 0.99, 459), (0.005, 0.95, 598), (0.005, 0.99, 919), (0.001, 0.95, 2995),
     (0.001, 0.99, 4603)],
)
def test_trials_to_exclude_a_rate(rate: float, confidence: float, trials: int) -> None:
    assert trials_to_exclude(rate, confidence) == trials
    assert (1 - rate) ** trials <= 1 - confidence < (1 - rate) ** (trials - 1)


def test_no_trials_exclude_nothing_or_everything() -> None:
    for rate in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="excludes"):
            trials_to_exclude(rate)
