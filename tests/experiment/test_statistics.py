# SPDX-License-Identifier: GPL-2.0
"""Exact intervals, against published and hand-computed values."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.experiment.statistics import (
    clopper_pearson,
    clustered,
    percent,
    rate_ratio,
    trials_needed,
    trials_to_exclude,
    trials_to_show,
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


def test_all_or_nothing_needs_no_library() -> None:
    """scipy takes half a second to import, while a guest boots on the same CPUs."""
    code = (
        "import sys\n"
        "from harness.experiment.statistics import clopper_pearson\n"
        "clopper_pearson(0, 100), clopper_pearson(100, 100)\n"
        "assert 'scipy' not in sys.modules\n"
        "clopper_pearson(1, 100)\n"
        "assert 'scipy' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.7, 0.9, 0.95])
@pytest.mark.parametrize("misses", [0, 1, 2, 5])
def test_trials_to_show_a_rate_with_misses(rate: float, misses: int) -> None:
    n = trials_to_show(rate, misses)
    assert clopper_pearson(n - misses, n)[0] >= rate
    if n > misses + 1:
        assert clopper_pearson(n - 1 - misses, n - 1)[0] < rate
    if not misses:
        assert n == trials_needed(rate)


def test_rate_ratio_of_a_published_example() -> None:
    # Breast cancer after fluoroscopy, 41 in 28,010 woman-years against 15 in 19,017
    # (Rothman & Greenland, Modern Epidemiology): 1.86, exact 95 % interval 1.01 to 3.61.
    ratio, low, high = rate_ratio((41, 28010), (15, 19017))
    assert ratio == pytest.approx(1.856, abs=1e-3)
    assert low == pytest.approx(1.005, abs=0.01)
    assert high == pytest.approx(3.61, abs=0.01)


def test_rate_ratio_at_the_ends() -> None:
    assert rate_ratio((0, 100), (0, 50)) == (None, 0.0, math.inf)
    ratio, low, high = rate_ratio((0, 100), (40, 100))
    assert (ratio, low) == (0.0, 0.0)
    # The upper end of 0 of 40: 1 - 0.025 ** (1 / 40), as odds.
    share = 1 - 0.025 ** (1 / 40)
    assert high == pytest.approx(share / (1 - share))
    ratio, low, high = rate_ratio((5, 10), (0, 10))
    assert (ratio, high) == (math.inf, math.inf)
    assert low > 0
    for bad in ((0, 0), (3, 2)):
        with pytest.raises(ValueError, match="not a rate"):
            rate_ratio(bad, (1, 2))


@given(st.integers(0, 40), st.integers(0, 40))
def test_rate_ratio_is_the_same_from_both_sides(a: int, b: int) -> None:
    _there, low, high = rate_ratio((a, 40), (b, 60))
    _back, below, above = rate_ratio((b, 60), (a, 40))
    assert low == pytest.approx(1 / above if above else math.inf)
    assert high == pytest.approx(1 / below if below else math.inf)


def test_alike_clusters_are_as_good_as_one_sample() -> None:
    interval, effect = clustered([(3, 10)] * 20)
    assert effect == 1.0
    assert interval == pytest.approx(clopper_pearson(60, 200))


def test_clusters_of_all_or_nothing_are_as_good_as_their_number() -> None:
    # Each boot's ten trials agree: they say what one of them would say.
    interval, effect = clustered([(10, 10)] * 6 + [(0, 10)] * 14)
    assert effect == pytest.approx(10 * 20 / 19)
    one = clopper_pearson(6, 20)
    assert interval[0] == pytest.approx(one[0], abs=0.01)
    assert interval[1] == pytest.approx(one[1], abs=0.01)
    assert interval[1] - interval[0] > 2 * (
        clopper_pearson(60, 200)[1] - clopper_pearson(60, 200)[0]
    )


def test_clusters_that_say_nothing() -> None:
    assert clustered([]) == ((0.0, 1.0), 1.0)
    assert clustered([(0, 0)]) == ((0.0, 1.0), 1.0)
    # No exposure in 20 boots of 50: the bound is that of 1000 trials.
    for counts, whole in (([(0, 50)] * 20, (0, 1000)), ([(7, 9)], (7, 9))):
        interval, effect = clustered(counts)
        assert effect == 1.0
        assert interval == pytest.approx(clopper_pearson(*whole))


@given(st.lists(st.integers(0, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))))
def test_clusters_never_claim_more_than_one_sample(counts: list[tuple[int, int]]) -> None:
    (low, high), effect = clustered(counts)
    hits, trials = sum(k for k, _ in counts), sum(n for _, n in counts)
    whole = clopper_pearson(hits, trials)
    assert effect >= 1
    assert low <= whole[0] + 1e-9
    assert high >= whole[1] - 1e-9
