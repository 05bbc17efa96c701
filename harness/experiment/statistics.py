# SPDX-License-Identifier: GPL-2.0
"""Exact intervals for rates: how much N trials can say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Literal

CONFIDENCE = 0.95


def _beta_quantile(a: float, b: float, p: float) -> float:
    """Where the beta distribution has `p` below it."""
    # With one of them 1 it has a closed form: all trials hit, or none did.  That is what most
    # cells come to, and scipy takes half a second to import (scipy.stats a whole one).
    if b == 1:
        return math.pow(p, 1 / a)
    if a == 1:
        return -math.expm1(math.log1p(-p) / b)
    from scipy.special import betaincinv

    return float(betaincinv(a, b, p))


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
    low = 0.0 if k == 0 else _beta_quantile(k, n - k + 1, tail)
    high = 1.0 if k == n else _beta_quantile(k + 1, n - k, 1 - tail)
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


def trials_to_show(rate: float, misses: int, confidence: float = CONFIDENCE) -> int:
    """The fewest trials that show `rate` as trials_needed() does when `misses` are no hits.

    Raises ValueError unless 0 <= rate < 1.
    """
    low = trials_needed(rate, confidence) + misses
    # The bound grows with the trials: doubled until it is enough, then halved down to.
    high = low
    while clopper_pearson(high - misses, high, confidence)[0] < rate:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if clopper_pearson(middle - misses, middle, confidence)[0] < rate:
            low = middle + 1
        else:
            high = middle
    return high


def trials_to_exclude(rate: float, confidence: float = CONFIDENCE) -> int:
    """The fewest trials, none of them a hit, that exclude a rate of `rate` or above.

    One-sided, as "below 0.1 % at 95 %" is: (1 - rate) ** n <= 1 - confidence.  For
    small rates about 3 / rate at 95 %, the rule of three (Hanley & Lippman-Hand,
    JAMA 249, 1983).  Raises ValueError unless 0 < rate < 1.
    """
    if not 0 < rate < 1:
        raise ValueError(f"no number of trials excludes a rate of {rate}")
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))


def rate_ratio(
    first: tuple[int, int], second: tuple[int, int], confidence: float = CONFIDENCE
) -> tuple[float | None, float, float]:
    """How many times the rate of `second` the rate of `first` is: ratio, low, high.

    Each is (hits, trials).  The interval is the exact one for two Poisson rates, from
    the binomial distribution of the hits given their sum (Przyborowski & Wilenski,
    Biometrika 31, 1940): it covers the ratio in at least `confidence` of all
    experiments, and more where the rates are high.  The ratio is None, and the
    interval (0, inf), when nobody hit.  Raises ValueError for what is no proportion
    and when one has no trials.
    """
    for hits, trials in (first, second):
        if not 0 <= hits <= trials or not trials:
            raise ValueError(f"{hits} of {trials} is not a rate to compare")
    (a, n), (b, m) = first, second
    if not a + b:
        return None, 0.0, math.inf
    share = clopper_pearson(a, a + b, confidence)
    low, high = (p / (1 - p) * m / n if p < 1 else math.inf for p in share)
    return (a / n) / (b / m) if b else math.inf, low, high


def clustered(
    counts: Sequence[tuple[int, int]], confidence: float = CONFIDENCE
) -> tuple[tuple[float, float], float]:
    """The interval of a rate whose trials come in clusters, and the design effect.

    `counts`: (hits, trials) of each cluster, a boot.  Trials of one boot resemble each
    other; so the exact interval is taken for as many trials as have the same variance
    when they are independent (Korn & Graubard, Survey Methodology 24, 1998), which are
    never more than there are.  One cluster, or no hit and no miss, says nothing about
    resemblance: the design effect is 1 then.
    """
    hits, trials = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    if not trials:
        return (0.0, 1.0), 1.0
    rate, number = hits / trials, sum(1 for _, n in counts if n)
    effect = 1.0
    if number > 1 and 0 < hits < trials:
        # The variance of a ratio estimate over clusters, against that of one sample.
        spread = sum((k - rate * n) ** 2 for k, n in counts)
        variance = number / (number - 1) * spread / trials**2
        effect = max(1.0, variance / (rate * (1 - rate) / trials))
    effective = trials / effect
    tail = (1 - confidence) / 2
    k, n = rate * effective, effective
    low = 0.0 if not hits else _beta_quantile(k, n - k + 1, tail)
    high = 1.0 if hits == trials else _beta_quantile(k + 1, n - k, 1 - tail)
    return (low, high), effect


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
