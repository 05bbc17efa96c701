# SPDX-License-Identifier: GPL-2.0
"""Exact intervals for rates: how much N trials can say."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Literal

from scipy.special import betaincinv

CONFIDENCE = 0.95


def clopper_pearson(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact two-sided interval of a rate of which `k` of `n` trials were hits.

    Returns (low, high), both in [0, 1]; (0, 1) for n = 0: no trial says nothing.
    Clopper & Pearson, Biometrika 26 (1934): the interval covers the true rate
    in at least `confidence` of all experiments, whatever that rate is.
    Raises ValueError unless 0 <= k <= n and 0 < confidence < 1.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a proportion")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    if n == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    # scipy.special and not scipy.stats: the latter costs a second of start-up.
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return low, high


def trials_needed(rate: float, confidence: float = CONFIDENCE) -> int:
    """The fewest trials, all of them hits, whose interval starts at `rate` or above.

    A control cell with fewer trials cannot pass even when it fires every time.
    Raises ValueError unless 0 <= rate < 1.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a rate of {rate} cannot be reached by any number of trials")
    if rate == 0:
        return 1
    # For k = n the lower bound is tail ** (1 / n).
    return max(1, math.ceil(math.log((1 - confidence) / 2) / math.log(rate)))


def trials_to_exclude(rate: float, confidence: float = CONFIDENCE) -> int:
    """The fewest trials, none of them a hit, that exclude a rate of `rate` or above.

    One-sided, as "below 0.1 % at 95 %" is: (1 - rate) ** n <= 1 - confidence.  For
    small rates about 3 / rate at 95 %, the rule of three (Hanley & Lippman-Hand,
    JAMA 249, 1983).  Raises ValueError unless 0 < rate < 1.
    """
    if not 0 < rate < 1:
        raise ValueError(f"no number of trials excludes a rate of {rate}")
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))


def percent(rate: float, towards: Literal["nearest", "up", "down"] = "nearest") -> str:
    """A rate as a person reads it, three significant digits: 0.01146 -> "1.15 %".

    An upper bound must be rounded "up" and a lower bound "down", or the printed
    interval claims more than the exact one.
    """
    rounding = {"nearest": ROUND_HALF_EVEN, "up": ROUND_CEILING, "down": ROUND_FLOOR}[towards]
    value = Decimal(repr(float(rate))) * 100
    if value == 0:
        return "0 %"
    step = Decimal(1).scaleb(value.adjusted() - 2)
    rounded = value.quantize(step, rounding=rounding).normalize()
    return f"{rounded:f} %"
