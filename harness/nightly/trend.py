# SPDX-License-Identifier: GPL-2.0
"""A figure over the nights, and where it became another one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# A point must be so many standard deviations away from its segment, whatever the tolerance.
SPREADS = 4.0
FEWEST_STEPS = 4  # that tell noise from change
_TO_SIGMA = 1.4826  # of a median absolute deviation, for a normal distribution


@dataclass(frozen=True)
class Change:
    """Where a segment begins."""

    at: int  # index of its first point
    ratio: float  # its median to that of the one before


def changes(values: Sequence[float], tolerance: float) -> list[Change]:
    """The points at which a series of positive values shifts by more than `tolerance`.

    Figures that are counts of instructions repeat exactly, so that one point is enough;
    where they do not, what is usual from one night to the next raises the bar.  A lone
    outlier is two changes: it went, and it came back.
    """
    if not values:
        return []
    logs = [math.log(value) for value in values]
    bar = max(math.log1p(tolerance), SPREADS * _spread(logs))
    begins = [0]
    for at in range(1, len(values)):
        if abs(logs[at] - statistics.median(logs[begins[-1] : at])) > bar:
            begins.append(at)
    # What follows in a segment says more of it than its first point.
    medians = [
        statistics.median(values[begin:end]) for begin, end in pairwise([*begins, len(values)])
    ]
    return [
        Change(begin, after / before)
        for begin, (before, after) in zip(begins[1:], pairwise(medians), strict=True)
    ]


def _spread(logs: Sequence[float]) -> float:
    """The standard deviation of a point, from one night to the next."""
    steps = [abs(after - before) for before, after in pairwise(logs)]
    if len(steps) < FEWEST_STEPS:
        return 0.0
    # Few of the steps are changes: the median knows only the noise.  Each is of two points.
    return _TO_SIGMA * statistics.median_low(steps) / math.sqrt(2)
