# SPDX-License-Identifier: GPL-2.0
"""Two kernels and the same race: how many times the one's rate the other's is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.experiment.statistics import rate_ratio

# Each is compared with those after it.
ROLES = ("stock", "candidate")


def comparisons(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each workload, file system and mode: the rate ratio of every two kernels.

    `cells` are those of run.json.  Only what has no switch and was exposed on one of
    the two: between two rates of zero there is no ratio.  Two trees are two things.  An
    end of the interval that is not bounded is None.
    """
    alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for cell in cells:
        if cell["role"] in ROLES:
            key = (cell.get("tree"), cell["workload"], cell["filesystem"], cell["armed"])
            alike.setdefault(key, []).append(cell)
    found = []
    for (_tree, workload, filesystem, armed), several in alike.items():
        several = sorted(several, key=lambda cell: ROLES.index(cell["role"]))
        for n, base in enumerate(several):
            for other in several[n + 1 :]:
                first, second = (_counts(cell["verdict"]) for cell in (other, base))
                if not (first[0] or second[0]) or not (first[1] and second[1]):
                    continue
                ratio, low, high = rate_ratio(first, second)
                found.append(
                    {
                        "workload": workload,
                        "filesystem": filesystem,
                        "armed": armed,
                        "kernel": other["kernel"],
                        "against": base["kernel"],
                        "ratio": _finite(ratio),
                        "interval": [low, _finite(high)],
                    }
                )
    return found


def _counts(verdict: Mapping[str, Any]) -> tuple[int, int]:
    held = verdict["outcomes"]["held"]
    return verdict["exposed"], verdict["exposed"] + held


def _finite(value: float | None) -> float | None:
    # JSON has no infinity.
    return None if value is None or math.isinf(value) else value
