# SPDX-License-Identifier: GPL-2.0
"""How many trials without a hit it takes to say that a commit does not have it.

A hit is certain; that there is none is a matter of confidence.  What may go wrong is
divided in two: one half for the rate, which was measured where it shows and of which
the lower bound is taken; the other for the commits that are said not to have it, in
equal shares, since a bisection is wrong as soon as one of them is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.experiment.statistics import clopper_pearson, clustered


@dataclass(frozen=True)
class Rate:
    """How often it shows where it does: `hits` of `units`, at least `low`."""

    hits: int
    units: int  # trials or boots
    low: float
    risk: float  # that the rate is below `low` after all


def measured(counts: Sequence[tuple[int, int]], confidence: float) -> Rate:
    """The rate of (hits, units) of each boot, at least one of them a hit.

    Sampling may stop at a certain number of hits: the lower end of the exact interval
    is as good then (the more units, the lower).  Trials of one boot resemble each
    other; the bound for clusters is taken when it is lower.
    """
    hits, units = (sum(column) for column in zip(*counts, strict=True))
    low = clopper_pearson(hits, units, confidence)[0]
    if len(counts) > 1:
        low = min(low, clustered(counts, confidence)[0][0])
    return Rate(hits, units, low, (1 - confidence) / 2)


def known(rate: float) -> Rate:
    """A rate that is not measured, because it is always or because somebody says so."""
    return Rate(0, 0, rate, 0.0)


@dataclass(frozen=True)
class Odds:
    """What each decision takes, for a bisection of about so many steps."""

    confidence: float
    steps: int
    rate: Rate

    def risk(self, number: int) -> float:
        """What may be risked in the decision `number`, from 1, that something does not show.

        As many as there are steps have equal shares, and so has the end where it does
        not show; the rest is halved again and again for those that git may add.
        """
        share = (1 - self.confidence) / 2 / (self.steps + 2)
        extra = number - (self.steps + 1)
        return share if extra <= 0 else share / 2.0 ** min(extra, 1000)

    def misses(self, number: int) -> int:
        """The units without a hit that decision `number` takes."""
        if self.rate.low >= 1:
            return 1
        # statistics.trials_to_exclude(), for risks that 1 - confidence has no digits for.
        wanted = math.log(self.risk(number)) / math.log1p(-self.rate.low)
        return max(1, math.ceil(wanted))

    def reached(self, misses: Iterable[int]) -> float:
        """The confidence of the whole, when these numbers of misses were seen."""
        kept = (1 - (1 - self.rate.low) ** number for number in misses)
        return (1 - self.rate.risk) * math.prod(kept)


def steps(commits: int) -> int:
    """How many commits git tests to find one of so many."""
    return max(1, math.ceil(math.log2(max(1, commits))))
