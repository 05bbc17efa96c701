# SPDX-License-Identifier: GPL-2.0
"""What workloads/lib/histogram.c and schedule.c count, against what harness/bench reads of it."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bench.histogram import Histogram, floor, merged, read
from harness.errors import InfraError

ROOT = Path(__file__).parents[2]
TOP = 2**40
# Counts what it is given on standard input.
COUNT = r"""
#include <stdio.h>
#include "lib/histogram.h"

static struct histogram a, b, *h = &a;

int main(void)
{
	unsigned long long value;

	histogram_clear(&a);
	histogram_clear(&b);
	/* In turns into two, which are then one. */
	while (scanf("%llu", &value) == 1) {
		histogram_add(h, value);
		h = h == &a ? &b : &a;
	}
	histogram_merge(&a, &b);
	histogram_print(&a, "op", "ns");
	printf("%llu ", (unsigned long long)histogram_at(&a, 0.5));
	printf("%llu\n", (unsigned long long)histogram_at(&a, 0.99));
	return 0;
}
"""
# Operations every millisecond; the one of number 20 is blocked for a hundred of them.
BLOCKED = r"""
#include <stdio.h>
#include <time.h>
#include "lib/schedule.h"

int main(void)
{
	struct timespec blocked = { 0, 100000000 };
	struct schedule s;
	int i;

	schedule_begin(&s, schedule_now(), 1000000);
	printf("[");
	for (i = 0; i < 200; i++) {
		unsigned long long arrival = schedule_wait(&s);

		if (i == 20)
			nanosleep(&blocked, NULL);
		printf("%s[%llu,", i ? "," : "", arrival);
		printf("%llu]", (unsigned long long)schedule_now() - arrival);
	}
	printf("]\n");
	return 0;
}
"""


def compiled(source: str, place: Path) -> Path:
    (place / "driver.c").write_text(source)
    program = place / "driver"
    workloads = ROOT / "workloads"
    subprocess.run(
        ["gcc", "-O2", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Werror", f"-I{workloads}",
         "-o", str(program), str(place / "driver.c"), str(workloads / "lib/histogram.c"),
         str(workloads / "lib/schedule.c")],
        check=True,
    )  # fmt: skip
    return program


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(COUNT, tmp_path_factory.mktemp("counter"))


def counted(counter: Path, values: list[int]) -> tuple[Histogram, list[float]]:
    text = "\n".join(map(str, values))
    done = subprocess.run([counter], input=text, capture_output=True, text=True, check=True)
    (one,) = read(done.stdout.splitlines())
    return one, [float(word) for word in done.stdout.splitlines()[-1].split()]


values = st.integers(0, TOP - 1) | st.integers(0, 5000)


@settings(max_examples=25, deadline=None)
@given(st.lists(values, min_size=1, max_size=200))
def test_what_c_counts_python_reads(counter: Path, seen: list[int]) -> None:
    one, (p50, p99) = counted(counter, seen)
    assert (one.count, one.sum) == (len(seen), sum(seen))
    assert (one.min, one.max) == (min(seen), max(seen))
    assert (one.quantile(0.5), one.quantile(0.99)) == (p50, p99), "C and Python agree"
    for part in (0.0, 0.5, 0.9, 0.99, 0.999, 1.0):
        exact = sorted(seen)[min(int(part * len(seen)), len(seen) - 1)]
        assert exact * (1 - 1 / 1024) - 1 <= one.quantile(part) <= exact
    shares = [share for share, _ in one.curve()]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1


def test_what_is_too_large_is_counted_all_the_same(counter: Path) -> None:
    one, _ = counted(counter, [1, 2**60])
    assert one.count == 2 and one.max == 2**60
    assert one.quantile(0.99) == pytest.approx(TOP, rel=0.001)
    empty, _ = counted(counter, [])
    assert (empty.count, empty.min) == (0, 0)
    with pytest.raises(ValueError, match="empty"):
        empty.quantile(0.5)


@given(st.integers(0, 31 * 1024 - 1))
def test_buckets_are_no_wider_than_a_thousandth(bucket: int) -> None:
    low, high = floor(bucket, 10), floor(bucket + 1, 10)
    assert low < high and (high - low == 1 or (high - low) / low <= 1 / 1024)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(values, max_size=50), min_size=1, max_size=4))
def test_boots_are_added_up(counter: Path, boots: list[list[int]]) -> None:
    together = merged([counted(counter, seen)[0] for seen in boots])
    every, _ = counted(counter, [value for seen in boots for value in seen])
    assert together == every


def test_what_cannot_be_added_up_is_not(counter: Path) -> None:
    one, _ = counted(counter, [1])
    other = json.loads(json.dumps({f: getattr(one, f) for f in one.__struct_fields__}))
    (wrong,) = read([f"# {json.dumps({**other, 'unit': 'ticks'})}"])
    with pytest.raises(ValueError, match="not of one kind"):
        merged([one, wrong])
    with pytest.raises(ValueError, match="no histogram"):
        merged([])


GOOD = '# {"histogram":"op","unit":"ns","bits":10,"count":3,"sum":9,"min":1,"max":5,"buckets":'


@pytest.mark.parametrize(
    "line",
    [
        GOOD + "[[1,2]]}",  # one is missing
        GOOD + "[[5,1],[1,2]]}",  # not ascending
        GOOD + "[[1,4],[5,-1]]}",
        GOOD + '[[1,"2"],[5,1]]}',
        GOOD + "[[1,2],[5,",  # the guest died
        '# {"histogram":"op"}',
    ],
)
def test_a_broken_one_is_one_line(line: str) -> None:
    with pytest.raises(InfraError, match="not a histogram"):
        read([line])
    assert len(read([GOOD + "[[1,2],[5,1]]}", "ok 1", '# {"trial":1}'])) == 1


@given(st.text())
def test_whatever_else_a_guest_prints_is_passed_over(text: str) -> None:
    assert read([f"x{line}" for line in text.splitlines()]) == []
    assert read([f'# {{"trial"{text}']) == []


def test_who_is_blocked_for_a_hundred_intervals_makes_a_hundred_late(tmp_path: Path) -> None:
    """No coordinated omission: a closed loop would have one late operation of 200."""
    program = compiled(BLOCKED, tmp_path)
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    taken = json.loads(done.stdout)
    arrivals = [arrival for arrival, _ in taken]
    assert [b - a for a, b in pairwise(arrivals)] == [1_000_000] * 199
    late = [latency / 1e6 for _, latency in taken[20:120]]
    # That of number 20 + i has waited 100 - i of them; a busy host can only add to that.
    assert all(ms >= 100 - i for i, ms in enumerate(late))
    assert sum(ms >= 10 for ms in late) >= 90
