# SPDX-License-Identifier: GPL-2.0
"""Two kernels and the same race."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.experiment.compare import comparisons
from harness.experiment.statistics import rate_ratio
from harness.report.verdicts import summary


def cell(role: str, exposed: int, held: int, **more: Any) -> dict[str, Any]:
    return {
        "role": role, "kernel": role, "workload": "dio", "filesystem": "ext4", "armed": True,
        "verdict": {"exposed": exposed, "outcomes": {"held": held}}, **more,
    }  # fmt: skip


def test_candidate_against_stock() -> None:
    (found,) = comparisons([cell("stock", 98, 2), cell("candidate", 0, 1000)])
    assert (found["kernel"], found["against"], found["ratio"]) == ("candidate", "stock", 0.0)
    low, high = rate_ratio((0, 1000), (98, 100))[1:]
    assert found["interval"] == [low, pytest.approx(high)]
    assert high < 0.004
    assert json.loads(json.dumps([found], allow_nan=False))[0]["ratio"] == 0.0


def test_what_has_no_ratio_is_left_out() -> None:
    cells = [
        cell("control", 9, 0), cell("stock", 0, 9), cell("candidate", 0, 9),
        cell("stock", 3, 6, armed=False), cell("candidate", 0, 0, armed=False),
        cell("stock", 3, 6, filesystem="xfs"),
    ]  # fmt: skip
    assert comparisons(cells) == []


def test_an_open_end_is_none() -> None:
    (found,) = comparisons([cell("stock", 0, 50), cell("candidate", 9, 41, kernel="c1")])
    assert found["ratio"] is None
    assert found["interval"][0] > 1
    assert found["interval"][1] is None


def test_armed_and_unarmed_are_two_comparisons() -> None:
    cells = [cell(role, n, 10 - n, armed=armed)
             for armed in (True, False) for role, n in (("candidate", 1), ("stock", 8))]
    assert [found["armed"] for found in comparisons(cells)] == [True, False]


def test_a_person_reads_it() -> None:
    run = {"id": "r", "status": "finished", "seconds": 1.0, "cells": [],
           "comparisons": comparisons([cell("stock", 98, 2), cell("candidate", 0, 1000)])}
    line = summary(run)[0]
    assert line.startswith("candidate against stock, dio on ext4: rate ratio 0 [0 to 0.00")
