# SPDX-License-Identifier: GPL-2.0
"""Complaints of the kernel that harness.toml allows: told, but no cell's fault."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.config import Allow, Config
from harness.guest.splat import Splat


@dataclass(frozen=True)
class Allowed:
    """A complaint, and why it may be passed over."""

    splat: Splat
    reason: str


def rules(config: Config, kernel: str) -> list[Allow]:
    """The [[allow]] of a kernel's tree."""
    return [each for each in config.allow if each.tree == config.kernel[kernel].tree]


def divide(splats: Iterable[Splat], allow: Sequence[Allow]) -> tuple[list[Splat], list[Allowed]]:
    """What counts, and what is allowed; each in its order.  The first rule that fits decides."""
    counts: list[Splat] = []
    allowed: list[Allowed] = []
    for splat in splats:
        rule = next((each for each in allow if re.fullmatch(each.title, splat.title)), None)
        if rule is None:
            counts.append(splat)
        else:
            allowed.append(Allowed(splat, rule.reason))
    return counts, allowed
