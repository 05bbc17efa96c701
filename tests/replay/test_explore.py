# SPDX-License-Identifier: GPL-2.0
"""The walk over seeds and shifts, on a stand that is a function of the point."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config import Config, Window
from harness.errors import InfraError
from harness.events import Event, silent
from harness.experiment.cell import Attempt
from harness.experiment.plan import Cell
from harness.experiment.trial import Trial
from harness.guest.replay import Recording
from harness.replay import explore
from harness.replay.coordinate import Coordinate, read
from harness.replay.explore import Point, Walk, drawn, points
from harness.replay.stand import Shot
from tests.conftest import Project

CELL = Cell(
    kernel="control", role="control", filesystem="ext4", workload="punch", switch="fault",
    windows=(Window(name="ext4_punch", delay_us=2000),), trials=1, seed=1,
)  # fmt: skip
Fires = Callable[[Cell, int], tuple[int, str] | None]  # (trial, what the oracle says)


class Stand:
    """What a walk needs of replay.stand.Stand."""

    def __init__(self, fires: Fires, coordinate: Coordinate, noise: bool = False) -> None:
        self.fires, self.made, self.noise = fires, coordinate, noise
        self.shots: list[tuple[int, int, int]] = []
        self.error: InfraError | None = None

    def shoot(self, cell: Cell, shift: int, _directory: Path) -> Shot:
        self.shots.append((cell.seed, shift, cell.trials))
        attempt, fired = Attempt(error=self.error), self.fires(cell, shift)
        if fired is not None and fired[0] <= cell.trials:
            events = f"a+@{cell.seed} b+@2"
            attempt.trials = [Trial(fired[0], "exposed", why=fired[1], data={"events": events})]
        said = f"{cell.seed} {shift} {cell.trials}" + (f" {len(self.shots)}" if self.noise else "")
        return Shot(attempt, Recording(said, "m", 1.0, "i", "qemu"))

    def coordinate(self, cell: Cell, shift: int, shot: Shot, found: str, date: str) -> Coordinate:
        assert shot.fired is not None and shot.recording is not None
        import msgspec

        return msgspec.structs.replace(
            self.made, seed=cell.seed, shift=shift, trials=cell.trials, trial=shot.fired.number,
            signature=shot.signature, order=shot.order, trace=shot.recording.trace, found=found,
        )  # fmt: skip


def walk(stand: Stand, tmp_path: Path, **options: object) -> Walk:
    return Walk({"control": stand}, tmp_path, "harness explore", "today", silent, **options)  # type: ignore[arg-type, dict-item]


def test_each_exposure_is_kept_once_by_signature_and_order(
    tmp_path: Path, coordinate: Coordinate
) -> None:
    def fires(cell: Cell, shift: int) -> tuple[int, str]:
        return 1, f"{'odd' if cell.seed % 2 else 'even'}: {shift} pages"

    stand = Stand(fires, coordinate)
    one = walk(stand, tmp_path)
    found = one.run(list(points([CELL], range(1, 5), [2, 3], 1)), None)
    assert [(each.signature, each.seed, each.shift) for each in found] == [
        ("odd: N pages", 1, 2),
        ("even: N pages", 2, 2),
    ]
    assert one.exposed == 8
    assert {read(path).seed for path in (tmp_path / "coordinates").iterdir()} == {1, 2}


def test_the_fewest_trials_win(tmp_path: Path, coordinate: Coordinate) -> None:
    """Trial 30 of seed 1; of seed 2 the seventh, and the first of a seed that is made for it."""

    def fires(cell: Cell, _shift: int) -> tuple[int, str] | None:
        first_of_seven = 2 ^ (7 << 32) ^ (1 << 32)
        return {1: (30, "x"), 2: (7, "x"), first_of_seven: (1, "x")}.get(cell.seed)

    stand = Stand(fires, coordinate)
    found = walk(stand, tmp_path).run(list(points([CELL], range(1, 4), [2], 100)), None)
    assert [(each.seed, each.trials, each.trial) for each in found] == [
        (2 ^ (7 << 32) ^ (1 << 32), 1, 1)
    ]
    assert (1, 2, 30) in stand.shots  # seed 1 with no more than it took
    names = [path.name for path in (tmp_path / "coordinates").iterdir()]
    assert names == [f"{found[0].name}.toml"]  # the larger one has gone


def test_what_does_not_repeat_is_no_coordinate(tmp_path: Path, coordinate: Coordinate) -> None:
    told: list[Event] = []
    one = walk(Stand(lambda _cell, _shift: (1, "x"), coordinate, noise=True), tmp_path)
    one.listen = told.append
    assert one.run(list(points([CELL], [1], [2], 1)), None) == []
    assert any("not repeated" in event.message for event in told)
    assert not (tmp_path / "coordinates").exists()


def test_first_leaves_a_race_that_has_fired_and_not_the_others(
    tmp_path: Path, coordinate: Coordinate
) -> None:
    other = dataclasses.replace(CELL, workload="other")

    def fires(cell: Cell, _shift: int) -> tuple[int, str] | None:
        return (1, cell.workload) if cell.workload == "punch" or cell.seed == 2 else None

    stand = Stand(fires, coordinate)
    found = walk(stand, tmp_path, first=True).run(
        list(points([CELL, other], [1, 2, 3], [2], 1)), None
    )
    assert [(each.signature, each.seed) for each in found] == [("punch", 1), ("other", 2)]
    assert all(seed != 3 for seed, _shift, _trials in stand.shots)


def test_a_wanted_signature_is_waited_for(tmp_path: Path, coordinate: Coordinate) -> None:
    stand = Stand(lambda cell, _shift: (1, f"{'abc'[cell.seed - 1]}"), coordinate)
    one = walk(stand, tmp_path, first=True, wanted="c")
    assert [each.seed for each in one.run(list(points([CELL], [1, 2, 3], [2], 1)), None)] == [3]


def test_a_budget_ends_it_and_keeps_what_was_found(tmp_path: Path, coordinate: Coordinate) -> None:
    stand = Stand(lambda _cell, _shift: (1, "x"), coordinate)
    one = walk(stand, tmp_path)
    one.began -= 100
    assert one.run(list(points([CELL], range(1, 10), [2], 1)), 50) == []
    assert stand.shots == []


def test_ctrl_c_keeps_what_was_found(tmp_path: Path, coordinate: Coordinate) -> None:
    def fires(cell: Cell, _shift: int) -> tuple[int, str] | None:
        if cell.seed == 2:
            raise KeyboardInterrupt
        return 1, "x"

    one = walk(Stand(fires, coordinate), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        one.run(list(points([CELL], [1, 2], [2], 1)), None)
    assert len(list((tmp_path / "coordinates").iterdir())) == 1


def test_a_host_at_fault_ends_the_walk(tmp_path: Path, coordinate: Coordinate) -> None:
    stand = Stand(lambda _cell, _shift: None, coordinate)
    stand.error = InfraError("no QEMU")
    with pytest.raises(InfraError, match="no QEMU"):
        walk(stand, tmp_path).run([Point(CELL, 2)], None)


# --- windows as schedule points ----------------------------------------------------


@pytest.fixture
def cfg(project: Project) -> Config:
    return project.load()


def test_a_draw_is_its_seed_s_and_its_shift_s(cfg: Config) -> None:
    assert drawn(cfg, CELL, 1, 2) == drawn(cfg, CELL, 1, 2)
    assert len({drawn(cfg, CELL, seed, 2) for seed in range(20)}) > 15
    assert drawn(cfg, CELL, 1, 2) != drawn(cfg, CELL, 1, 3)


def test_a_draw_has_few_change_points_and_no_meeting(cfg: Config) -> None:
    xfs = dataclasses.replace(CELL, filesystem="xfs")
    names = set()
    for seed in range(200):
        first, *held = drawn(cfg, xfs, seed, 2)
        assert first.delay_us == 0 and first.name in ("xfs_punch", "filemap_fault")
        assert len(held) <= explore.MOST_POINTS
        held_names = {window.name for window in held}
        assert first.name not in held_names or held_names == {"xfs_punch", "filemap_fault"}
        assert held
        low, high = explore.DELAYS_US
        assert all(low <= window.delay_us <= high for window in held)
        names |= {window.name for window in held}
    assert names == {"xfs_punch", "filemap_fault"}
