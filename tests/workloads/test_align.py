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
	double from = atof(argv[4]), to = atof(argv[5]), odd = atof(argv[6]), before, after;
	enum align_mode mode;
	struct align al;
	int i, n = atoi(argv[3]);

	if (argc < 7 || !align_mode_named(argv[1], &mode))
		return 2;
	align_init(&al, mode, strtoull(argv[2], NULL, 0));
	printf("[");
	for (i = 0; i < n; i++) {
		struct aligned how = align_draw(&al, mode == ALIGN_NONE ? ALIGN_LOOSE : 0);
		double x = how.offset_us;

		printf("%s%.6f", i ? "," : "", x);
		/* Every fifth trial the host was elsewhere for @odd microseconds. */
		align_learn(&al, &how, i % 5 == 4 ? odd : 300, 100, x >= from && x < to);
	}
	align_range(&al, &before, &after);
	printf(",%.3f,%.3f]\n", before, after);
	return 0;
}
"""
# Way number w exposes one in argv[3 + w] trials, at a millisecond each.
WAYS = r"""
#include <stdio.h>
#include <stdlib.h>
#include "lib/align.h"

int main(int argc, char **argv)
{
	int i, n = atoi(argv[2]), seen[ALIGN_WAYS] = { 0 };
	enum align_mode mode;
	struct align al;

	if (argc < 12 || !align_mode_named(argv[1], &mode))
		return 2;
	align_init(&al, mode, 1);
	printf("[");
	for (i = 0; i < n; i++) {
		int way = align_way(&al, atoi(argv[11])), one_in = atoi(argv[3 + way]);

		align_yielded(&al, way, one_in && ++seen[way] % one_in == 0, 1e-3);
		printf("%s\"%s\"", i ? "," : "", align_way_name(way));
	}
	printf("]\n");
	return 0;
}
"""


def compiled(place: Path, source: str) -> Path:
    (place / "driver.c").write_text(source)
    lib = ROOT / "workloads"
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{lib}", "-o", "driver",
         "driver.c", str(lib / "lib/align.c"), "-lm"],
        cwd=place, check=True,
    )  # fmt: skip
    return place / "driver"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("align"), DRIVER)


@pytest.fixture(scope="module")
def ways_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("ways"), WAYS)


def output(*argv: Any) -> list[Any]:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def draws(
    driver: Path, mode: str, seed: int, number: int, *pays: float, odd: float = 300
) -> list[float]:
    values = output(driver, mode, seed, number, *(pays or (1, 0)), odd)
    known = number and mode != "none"
    assert values[-2:] == ([110.0, 330.0] if known else [2.0, 2.0])
    return values[:-2]


@pytest.mark.parametrize("mode", ["none", "barrier"])
def test_only_fuzzy_racers_are_delayed(driver: Path, mode: str) -> None:
    assert set(draws(driver, mode, 1, 50)) == {0.0}


def test_the_first_trials_learn(driver: Path) -> None:
    found = draws(driver, "fuzzy", 1, 200)
    assert set(found[:8]) == {0.0}
    # No delay at all stays one way in many.
    assert 0 < found[8:].count(0.0) < 40


def test_a_host_that_was_elsewhere_does_not_spread_the_offsets(driver: Path) -> None:
    found = draws(driver, "fuzzy", 1, 300, odd=50_000)
    assert all(-110 <= x <= 330 for x in found[16:])


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
    assert sum(0 < abs(x) < 5 for x in found) > 1.5 * len(found) * 10 / 440


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("pays", [(200.0, 215.0), (-60.0, -45.0)])
def test_where_it_paid_is_tried_again(driver: Path, seed: int, pays: tuple[float, float]) -> None:
    found = draws(driver, "fuzzy", seed, 1200, *pays)
    last = [pays[0] <= x < pays[1] for x in found[-400:]]
    # 15 of 440 us: one in 29 by chance.
    assert sum(last) > 8 * len(last) / 29
    # The rest of the range is not forgotten: the place may move.
    assert sum(last) < 0.8 * len(last)


@pytest.mark.parametrize(
    "mode, way", [("none", "loose"), ("barrier", "aligned")], ids=["none", "barrier"]
)
def test_only_fuzzy_trials_are_run_in_more_than_one_way(
    ways_driver: Path, mode: str, way: str
) -> None:
    assert set(output(ways_driver, mode, 50, *[1] * 8, 7)) == {way}


WAYS_IN_ORDER = [
    "aligned", "warm", "loose", "warm+loose",
    "solo", "warm+solo", "loose+solo", "warm+loose+solo",
]  # fmt: skip


@pytest.mark.parametrize("best", range(8))
def test_the_way_that_pays_for_its_time_is_taken(ways_driver: Path, best: int) -> None:
    one_in = [20] * 8
    one_in[best] = 4
    found = output(ways_driver, "fuzzy", 2000, *one_in, 7)
    assert found[-1000:].count(WAYS_IN_ORDER[best]) > 700
    # All were tried, and while nothing pays none is given up.
    assert set(found) == set(WAYS_IN_ORDER)
    nothing = output(ways_driver, "fuzzy", 2000, *[0] * 8, 7)
    assert min(nothing.count(way) for way in WAYS_IN_ORDER) > 50


@pytest.mark.parametrize("can", range(8))
def test_what_a_race_cannot_is_not_tried(ways_driver: Path, can: int) -> None:
    found = set(output(ways_driver, "fuzzy", 500, *[2] * 8, can))
    assert found == {name for way, name in enumerate(WAYS_IN_ORDER) if not way & ~can}
