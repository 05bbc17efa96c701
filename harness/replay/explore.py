# SPDX-License-Identifier: GPL-2.0
"""`harness explore`: walks seeds and shifts, and keeps each distinct exposure as a coordinate.

A boot is a function of its coordinate, so a walk is a walk over inputs, and what it finds is
found again. Nothing is left to the host's load.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.config import Config, Window
from harness.errors import InfraError
from harness.events import Event, Listener
from harness.experiment import store
from harness.experiment.plan import Cell
from harness.replay import coordinate as coordinates
from harness.replay.coordinate import Coordinate
from harness.replay.stand import Shot, Stand

# Change points of one boot (PCT: a race needs few), and how long each holds a racer.
MOST_POINTS = 3
DELAYS_US = (10, 50_000)
OWN_WEIGHT = 4  # a race's own windows are drawn so many times as often as any other


@dataclass(frozen=True)
class Point:
    """One boot of a walk."""

    cell: Cell  # with its seed, its trials and its windows
    shift: int


def points(
    cells: Sequence[Cell],
    seeds: Iterable[int],
    shifts: Sequence[int],
    trials: int,
    draw: Callable[[Cell, int, int], tuple[Window, ...]] | None = None,
) -> Iterator[Point]:
    """Every cell at a seed and a shift before any at the next: a budget is spread over all."""
    for seed in seeds:
        for shift in shifts:
            for cell in cells:
                windows = cell.windows if draw is None else draw(cell, seed, shift)
                one = dataclasses.replace(cell, seed=seed, trials=trials, windows=windows)
                yield Point(one, shift)


def drawn(cfg: Config, cell: Cell, seed: int, shift: int) -> tuple[Window, ...]:
    """Windows as schedule points: a few that delay, drawn by seed and shift, the same each time.

    The first one only counts, so that the racers do not meet in it: whoever comes to a
    change point is held, as PCT lowers a thread's priority there.
    """
    kind = cfg.filesystem[cell.filesystem].type
    own = _names(cfg.workload[cell.workload].windows.get(kind, ()))
    # The first window of another race is inside what its racer A does, which this one does not.
    every = [entry.windows.get(kind, []) for entry in cfg.workload.values()]
    others = {name for windows in every for name in _names(windows)}
    others -= {windows[0].name for windows in every if windows}
    pool = sorted(set(own)) * OWN_WEIGHT + sorted(others - set(own))
    rng = random.Random(f"{cell.name} {seed} {shift}")
    found: dict[str, Window] = {}
    for _ in range(rng.randint(1, MOST_POINTS)):
        name = rng.choice(pool)
        low, high = map(math.log, DELAYS_US)
        delay = round(math.exp(rng.uniform(low, high)))
        found.setdefault(name, Window(name=name, delay_us=delay))
    # With all of its own drawn, one is named twice: the reproducer arms it as named last.
    counting = next((name for name in reversed(own) if name not in found), own[0])
    return (Window(name=counting, delay_us=0), *found.values())


def _names(windows: Iterable[Window]) -> list[str]:
    every = (name for w in windows for name in (w.name, w.partner, w.attempt) if name)
    return list(dict.fromkeys(every))


@dataclass
class Walk:
    """One `harness explore`, under way."""

    stands: Mapping[str, Stand]  # by kernel
    place: Path  # of its results
    command: str  # that found what it finds
    date: str
    listen: Listener
    first: bool = False  # leave a race after its first exposure
    wanted: str = ""  # only exposures with this signature count
    found: dict[tuple[str, str, str], Coordinate] = field(default_factory=dict)
    boots: int = 0
    exposed: int = 0
    untested: int = 0
    done: set[str] = field(default_factory=set)  # races that are left
    began: float = field(default_factory=time.monotonic)

    def run(self, walk: Sequence[Point], budget_s: float | None) -> list[Coordinate]:
        """All points, or as many as there is time for; what was found, in the order of finding."""
        booted = 0
        for number, point in enumerate(walk, 1):
            passed = time.monotonic() - self.began
            if budget_s is not None and passed > budget_s:
                text = f"the budget is used up after {number - 1} of {len(walk)} boots"
                self.listen(Event("note", "explore", text))
                break
            if self.first and point.cell.workload in self.done:
                continue
            self._look(point, number, len(walk))
            passed, booted = time.monotonic() - self.began, booted + 1
            left = passed / booted * self._left(walk[number:])
            if budget_s is not None:
                left = min(left, max(0.0, budget_s - passed))
            text = f"{len(self.found)} distinct exposures in {self.boots} boots"
            self.listen(Event("explore", "explore", text, number, len(walk), left))
        return list(self.found.values())

    def _left(self, walk: Sequence[Point]) -> int:
        """How many of these points will be looked at, at most."""
        if not self.first:
            return len(walk)
        # Most races fire at their first point: those that have not yet are counted once.
        return len({point.cell.workload for point in walk} - self.done)

    def _shoot(self, point: Point) -> Shot:
        self.boots += 1
        directory = self.place / "boots" / f"{self.boots:04}"
        shot = self.stands[point.cell.kernel].shoot(point.cell, point.shift, directory)
        if isinstance(shot.attempt.error, InfraError):
            raise shot.attempt.error
        return shot

    def _look(self, point: Point, number: int, total: int) -> None:
        shot = self._shoot(point)
        where = f"{point.cell.name} seed {point.cell.seed} shift {point.shift}"
        if shot.trouble:
            self.untested += 1
            self.listen(Event("note", where, f"untested: {shot.trouble}"))
            return
        if shot.fired is None or (self.wanted and shot.signature != self.wanted):
            return
        self.exposed += 1
        key = (point.cell.name, shot.signature, shot.order)
        known = self.found.get(key)
        if known is not None and known.trial <= shot.fired.number:
            return
        made = self._certified(point, shot)
        if made is None:
            self.listen(Event("note", where, "exposed, and not repeated: no coordinate"))
            return
        self.done.add(point.cell.workload)
        if known is not None:
            (self.place / "coordinates" / f"{known.name}.toml").unlink(missing_ok=True)
        self.found[key] = made
        path = self.place / "coordinates" / f"{made.name}.toml"
        with store.writing(self.place):
            coordinates.write(made, path)
        text = f"trial {made.trial}: {made.signature} [{made.order}]"
        self.listen(Event("explore", where, text, number, total, data={"coordinate": str(path)}))

    def _certified(self, point: Point, shot: Shot) -> Coordinate | None:
        """The smallest that still fires, and was seen to do the same twice."""
        for smaller in _smaller(point, shot):
            again = self._shoot(smaller)
            if again.fired is not None and again.signature == shot.signature:
                point, shot = smaller, again
                break
        again = self._shoot(point)
        one, two = shot.recording, again.recording
        if one is None or two is None or (one.trace, one.memory) != (two.trace, two.memory):
            return None
        stand = self.stands[point.cell.kernel]
        return stand.coordinate(point.cell, point.shift, shot, self.command, self.date)


def _smaller(point: Point, shot: Shot) -> Iterator[Point]:
    """Points that may fire with fewer trials; the best first."""
    assert shot.fired is not None
    number, cell = shot.fired.number, point.cell
    if number > 1:
        # A trial's random stream comes of seed ^ number << 32 (workloads/lib/racers.c): with
        # this seed the first trial has that of the one that fired.
        seed = cell.seed ^ (number << 32) ^ (1 << 32)
        yield Point(dataclasses.replace(cell, seed=seed, trials=1), point.shift)
    if number < cell.trials:
        yield Point(dataclasses.replace(cell, trials=number), point.shift)
