# SPDX-License-Identifier: GPL-2.0
"""Where a figure becomes another one."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.nightly.trend import changes


def test_a_step_is_one_change_and_a_spike_is_two() -> None:
    (step,) = changes([100, 100, 100, 120, 120], 0.05)
    assert step.at == 3 and step.ratio == pytest.approx(1.2)
    up, down = changes([100, 100, 150, 100], 0.05)
    assert (up.at, down.at) == (2, 3) and down.ratio < 1 < up.ratio


def test_what_is_within_the_tolerance_is_none() -> None:
    assert changes([100, 104, 99, 103], 0.05) == []
    assert changes([100], 0.05) == changes([], 0.05) == []


def test_a_noisy_figure_needs_more() -> None:
    noise = random.Random(1)
    values = [100 * noise.uniform(0.9, 1.1) for _ in range(40)]
    assert len(changes(values, 0.05)) < 4  # a tolerance alone would see dozens
    (step,) = changes([*values[:10], 300], 0.05)
    assert step.at == 10


@given(
    st.lists(st.sampled_from([500, 600, 900, 2000]), min_size=1, max_size=5),
    st.integers(3, 6),
)
def test_every_step_of_an_exact_figure_is_found(levels: list[int], nights: int) -> None:
    values = [float(level) for level in levels for _ in range(nights)]
    told = [change.at for change in changes(values, 0.05)]
    assert told == [n * nights for n, (a, b) in enumerate(pairwise(levels), 1) if a != b]
