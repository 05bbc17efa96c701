# SPDX-License-Identifier: GPL-2.0
"""The histograms that the programs of workloads/bench/ print: read, added up, asked.

Buckets are those of workloads/lib/histogram.c: one for each value below 2**bits, then
2**bits for each power of two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from harness.errors import InfraError

_MARK = '# {"histogram"'
_SHOWN = 120  # characters of a line in an error


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often each value was seen; values in `unit`, "ns" or "ticks"."""

    histogram: str  # its name: what was timed
    unit: str
    bits: int
    count: int
    sum: int
    min: int
    max: int
    buckets: list[tuple[int, int]]  # (number of the bucket, values in it), ascending

    def quantile(self, part: float) -> float:
        """The value at or below which a share `part` of all lies: its bucket's lower end.

        ValueError for an empty histogram.
        """
        if not self.count:
            raise ValueError(f"histogram {self.histogram} is empty")
        rank, seen = min(int(part * self.count), self.count - 1), 0
        for bucket, number in self.buckets:
            seen += number
            if seen > rank:
                return float(floor(bucket, self.bits))
        return float(self.max)

    def curve(self) -> Iterator[tuple[float, float]]:
        """(share of values above it, value) of each bucket, ascending in value."""
        seen = 0
        for bucket, number in self.buckets:
            yield (self.count - seen) / self.count, float(floor(bucket, self.bits))
            seen += number


def floor(bucket: int, bits: int) -> int:
    """The smallest value of a bucket."""
    shift, sub = bucket >> bits, bucket & ((1 << bits) - 1)
    return bucket if not shift else ((1 << bits) + sub) << (shift - 1)


def read(lines: Iterable[str]) -> list[Histogram]:
    """The histograms among the lines a program printed; InfraError for a broken one."""
    found = []
    for line in lines:
        if not line.startswith(_MARK):
            continue
        try:
            one = msgspec.json.decode(line[2:], type=Histogram)
        except msgspec.MsgspecError as error:
            raise InfraError(f"not a histogram: {line[:_SHOWN]!r}: {error}") from error
        numbers = [number for number, _ in one.buckets]
        if (
            sum(number for _, number in one.buckets) != one.count
            or numbers != sorted(set(numbers))
            or not 0 < one.bits < 32
            or any(number < 0 for pair in one.buckets for number in pair)
        ):
            raise InfraError(f"not a histogram: {line[:_SHOWN]!r}: its buckets do not add up")
        found.append(one)
    return found


def merged(several: Sequence[Histogram]) -> Histogram:
    """All that was seen by any of them, which are of one kind.  ValueError for none."""
    if not several:
        raise ValueError("no histogram")
    first, counts = several[0], dict[int, int]()
    if any(one.bits != first.bits or one.unit != first.unit for one in several):
        raise ValueError(f"histograms of {first.histogram} are not of one kind")
    for one in several:
        for bucket, number in one.buckets:
            counts[bucket] = counts.get(bucket, 0) + number
    filled = [one for one in several if one.count]
    return Histogram(
        first.histogram,
        first.unit,
        first.bits,
        sum(one.count for one in several),
        sum(one.sum for one in several),
        min((one.min for one in filled), default=0),
        max((one.max for one in filled), default=0),
        sorted(counts.items()),
    )
