# SPDX-License-Identifier: GPL-2.0
"""The offsets that workloads/lib/align.c draws: compiled here, fed with a race of our own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# A takes 300 us, B's first access 100; the race pays where B starts `from` to `to`
# microseconds after A.
DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include "lib/align.h"

int main(int argc, char **argv)
{
	double from = atof(argv[4]), to = atof(argv[5]), before, after;
	enum align_mode mode;
	struct align al;
	int i, n = atoi(argv[3]);

	if (argc < 6 || !align_mode_named(argv[1], &mode))
		return 2;
	align_init(&al, mode, strtoull(argv[2], NULL, 0));
	printf("[");
	for (i = 0; i < n; i++) {
		double x = align_draw(&al);

		printf("%s%.6f", i ? "," : "", x);
		align_learn(&al, 300, 100, x >= from && x < to);
	}
	align_range(&al, &before, &after);
	printf(",%.3f,%.3f]\n", before, after);
	return 0;
}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("align")
    (place / "driver.c").write_text(DRIVER)
    lib = ROOT / "workloads"
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{lib}", "-o", "driver",
         "driver.c", str(lib / "lib/align.c"), "-lm"],
        cwd=place, check=True,
    )  # fmt: skip
    return place / "driver"


def draws(driver: Path, mode: str, seed: int, number: int, *pays: float) -> list[float]:
    argv: list[Any] = [driver, mode, seed, number, *(pays or (1, 0))]
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=True)
    values = json.loads(done.stdout)
    assert values[-2:] == ([110.0, 330.0] if number else [2.0, 2.0])
    found = values[:-2]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("mode", ["none", "barrier"])
def test_only_fuzzy_racers_are_delayed(driver: Path, mode: str) -> None:
    assert set(draws(driver, mode, 1, 50)) == {0.0}


def test_the_first_trials_learn(driver: Path) -> None:
    found = draws(driver, "fuzzy", 1, 100)
    assert set(found[:8]) == {0.0}
    assert 0.0 not in found[8:]


def test_the_seed_decides(driver: Path) -> None:
    assert draws(driver, "fuzzy", 7, 200) == draws(driver, "fuzzy", 7, 200)
    assert draws(driver, "fuzzy", 7, 200) != draws(driver, "fuzzy", 8, 200)


def test_any_point_of_one_meets_any_point_of_the_other(driver: Path) -> None:
    found = draws(driver, "fuzzy", 3, 4000)[8:]
    assert all(-110 <= x <= 330 for x in found)
    # No twentieth of the range is left out, and short delays are the likeliest.
    for n in range(20):
        low = -110 + 22 * n
        assert sum(low <= x < low + 22 for x in found) > 40
    assert sum(abs(x) < 5 for x in found) > 1.5 * len(found) * 10 / 440


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("pays", [(200.0, 215.0), (-60.0, -45.0)])
def test_where_it_paid_is_tried_again(driver: Path, seed: int, pays: tuple[float, float]) -> None:
    found = draws(driver, "fuzzy", seed, 1200, *pays)
    last = [pays[0] <= x < pays[1] for x in found[-400:]]
    # 15 of 440 us: one in 29 by chance.
    assert sum(last) > 8 * len(last) / 29
    # The rest of the range is not forgotten: the place may move.
    assert sum(last) < 0.8 * len(last)
