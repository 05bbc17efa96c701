# SPDX-License-Identifier: GPL-2.0
"""Nights on fake trees and machines: what is built, what is run, what the page is told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.errors import InfraError, UsageError
from harness.events import Event
from harness.experiment import plan
from harness.nightly import choose, decide, record
from tests.fakes.fake_machine import Script
from tests.fakes.nights import SEVEN, SIX, World, settings, told

CELL = "candidate/ext4/punch"
EXPOSED = Script(outcomes=lambda number, on: "exposed" if on or number == 3 else "held")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, settings(tmp_path))


def test_the_first_night_builds_and_runs_all(world: World) -> None:
    with world.counting() as made:
        night, place = world.night()
    assert (night.status, night.exit_code, night.findings) == ("finished", 0, [])
    assert made == ["control", "control-7", "stock", "stock-7", "candidate", "candidate-7"]
    assert len(night.cells) == len(world.booted) == 10
    assert all(cell.ran and cell.as_expected for cell in night.cells.values())
    assert {cell.why for cell in night.cells.values()} == {"changed"}
    assert record.load(place) == night
    assert night.kernels["stock"].figures == {"cold/ext4/ns": 1000.0}
    assert night.trees[SIX].series["lock"].verdict == "applies"


def test_a_second_night_of_the_same_builds_and_measures_nothing(world: World) -> None:
    world.night()
    measured = len(world.measured)
    with world.counting() as made:
        night, _ = world.night()
    assert made == [] and len(world.measured) == measured
    assert night.findings == [] and night.exit_code == 0
    assert {cell.why for cell in night.cells.values()} == {"rest"}
    assert night.kernels["stock"].figures == {"cold/ext4/ns": 1000.0}
    assert [kernel.changed for kernel in night.kernels.values()] == [[]] * 6


def test_only_what_a_moved_tree_concerns_is_built(world: World) -> None:
    world.night()
    world.heads[SEVEN], world.versions[SEVEN] = "c" * 40, "7.2.2"
    with world.counting() as made:
        night, _ = world.night()
    assert sorted(made) == ["candidate-7", "control-7", "stock-7"]
    assert told(night) == {"moved": [SEVEN]}
    assert night.kernels["stock-7"].changed == ["tree"]
    whys = {name: cell.why for name, cell in night.cells.items()}
    assert {why for name, why in whys.items() if "-7/" in name} == {"changed"}
    assert {why for name, why in whys.items() if "-7/" not in name} == {"rest"}
    # What tells most came first.
    assert [name.split("/")[0] for name in world.booted[:2]] == ["control-7", "control-7"]


def test_a_changed_patch_is_named_and_builds_its_kernels_only(world: World) -> None:
    world.night()
    patch = world.root / "patches/lock/6.12/0002-two.patch"
    patch.write_text("something else\n")
    world.scripts = {CELL: EXPOSED}
    with world.counting() as made:
        night, _ = world.night()
    assert made == ["candidate"]
    (finding,) = night.findings
    assert (finding.kind, finding.subject, finding.bad) == ("new failure", CELL, True)
    assert finding.likely == "series lock/0002-two.patch changed"
    assert finding.command == f"harness bisect --kernel candidate --cell {CELL} --series lock"
    assert night.exit_code == 1


def test_a_failure_is_new_once_and_then_still_there_and_then_fixed(world: World) -> None:
    first, _ = world.night()
    world.heads[SIX] = "d" * 40
    world.scripts = {CELL: EXPOSED}
    night, _ = world.night()
    assert told(night)["new failure"] == [CELL]
    (finding,) = (f for f in night.findings if f.kind == "new failure")
    assert finding.since == first.id
    assert finding.likely == f"tree six: {'a' * 12}..{'d' * 12}"
    assert finding.command == (
        f"harness bisect --kernel candidate --cell {CELL} {'a' * 12} {'d' * 12}"
    )
    night, _ = world.night()
    assert told(night) == {"still failing": [CELL]} and night.exit_code == 1
    assert night.cells[CELL].why == "failing"
    assert world.booted[0].startswith("control/ext4/punch")  # that what it needs to count
    world.heads[SIX], world.scripts = "e" * 40, {}
    night, _ = world.night()
    assert told(night) == {"moved": [SIX], "fixed": [CELL]} and night.exit_code == 0


def test_a_build_that_breaks_is_one_finding_and_is_not_tried_again(world: World) -> None:
    world.night()
    world.heads[SIX] = "d" * 40
    world.broken = {name: f"kernel {name}: mm/filemap.c:3: error: x" for name in
                    ("control", "stock", "candidate")}  # fmt: skip
    night, _ = world.night()
    assert told(night)["new failure"] == ["control", "stock", "candidate"]
    assert night.kernels["stock"].outcome == "does not build"
    assert "not run" not in told(night), "a cell of a kernel that is not there is no finding"
    assert night.cells["stock/ext4/punch"].reason == "kernel: does not build"
    assert night.cells["stock-7/ext4/punch"].as_expected
    finding = next(f for f in night.findings if f.subject == "stock")
    assert finding.command == f"harness bisect --kernel stock --for build {'a' * 12} {'d' * 12}"
    with world.counting() as made:
        night, _ = world.night()
    assert made == []
    assert told(night) == {"still failing": ["control", "stock", "candidate"]}
    world.heads[SIX], world.broken = "e" * 40, {}
    night, _ = world.night()
    assert told(night)["fixed"] == ["control", "stock", "candidate"] and night.exit_code == 0


def test_a_series_that_conflicts_is_told_once(world: World) -> None:
    world.night()
    world.heads[SIX] = "d" * 40
    world.conflicts = {("lock", SIX): "mm/filemap.c:12"}
    world.broken = {
        "candidate": "series lock: 0001-one.patch does not apply to tree six (6.12.2): x"
    }
    night, _ = world.night()
    assert told(night) == {"moved": [SIX], "new failure": ["candidate"]}
    assert night.kernels["candidate"].outcome == "does not apply"
    assert night.trees[SIX].series["lock"].where == "0001-one.patch: mm/filemap.c:12"
    (finding,) = (f for f in night.findings if f.kind == "new failure")
    assert "--for apply" in finding.command


def test_a_kernel_that_does_not_boot_is_a_failure_and_its_cells_one_story(world: World) -> None:
    from harness.errors import BootError

    world.cfg = settings(world.root, filesystems=["ext4", "xfs"])
    world.night()
    world.heads[SIX] = "d" * 40
    world.scripts = {"stock/*": Script(boot_error=BootError("kernel panic: no init"))}
    night, _ = world.night()
    (finding,) = (f for f in night.findings if f.subject.startswith("stock/"))
    assert finding.kind == "new failure" and "did not boot" in finding.text
    assert finding.more == ["stock/xfs/punch"] and night.exit_code == 1


def test_a_cell_of_two_minds_is_flaky_and_comes_early(world: World) -> None:
    world.night()
    world.scripts = {CELL: EXPOSED}
    night, _ = world.night()
    assert told(night) == {"flaky": [CELL]} and night.exit_code == 1
    (finding,) = night.findings
    assert finding.likely == "nothing that it is made of changed"
    assert "in 1 of 2 nights, exposed in 1 of" in finding.text
    world.scripts = {}
    night, _ = world.night()
    assert told(night) == {"flaky": [CELL]} and night.exit_code == 0
    night, _ = world.night()
    assert night.cells[CELL].why == "flaky"


def test_a_figure_that_grows_is_slower_and_says_since_when(world: World) -> None:
    for _ in range(3):
        last, _ = world.night()
    world.heads[SIX], world.figures = "d" * 40, {"stock": 1200.0}
    night, _ = world.night()
    slower = next(f for f in night.findings if f.kind == "slower")
    assert slower.subject == "stock/cold/ext4/ns" and slower.since == last.id
    assert "1000 -> 1200 guest instructions, +20.0%" in slower.text
    assert night.exit_code == 1
    night, _ = world.night()
    assert night.findings == [] and night.exit_code == 0, "it is told once"
    world.heads[SIX], world.figures = "e" * 40, {}
    night, _ = world.night()
    assert told(night)["faster"] == ["stock/cold/ext4/ns"] and night.exit_code == 0


def test_a_bench_that_cannot_be_run_does_not_end_the_night(world: World) -> None:
    world.bench_error = "bench cold gave no figures"
    night, _ = world.night()
    assert night.status == "finished" and night.exit_code == 125
    assert set(told(night)) == {"could not test"}


def test_a_tree_that_cannot_be_fetched_costs_its_kernels_only(world: World) -> None:
    world.night()
    world.dead_trees = {SEVEN: "tree seven: the server does not answer"}
    night, _ = world.night()
    assert night.status == "finished" and night.exit_code == 125
    assert told(night) == {"could not test": [SEVEN]}
    assert night.kernels["stock-7"].outcome == "no tree"
    assert not night.cells["stock-7/ext4/punch"].ran and night.cells["stock/ext4/punch"].ran
    world.dead_trees = {}
    night, _ = world.night()
    assert night.findings == [] and night.exit_code == 0


def test_new_workloads_and_a_new_compiler_make_all_cells_new(world: World) -> None:
    world.night()
    world.digest = "ba9876543210"
    with world.counting() as made:
        night, _ = world.night()
    assert made == [] and {cell.why for cell in night.cells.values()} == {"changed"}
    world.toolchain = "gcc 13"
    with world.counting() as made:
        night, _ = world.night()
    assert len(made) == 6 and night.kernels["stock"].changed == ["toolchain"]


def test_the_budget_keeps_what_tells_most(world: World) -> None:
    first, place = world.night()
    for cell in first.cells.values():
        cell.seconds = 6.0
    record.save(first, place)
    world.heads[SEVEN], world.cell_s = "c" * 40, 6.0
    night, _ = world.night(budget_h=32 / 3600)
    ran = {name for name, cell in night.cells.items() if cell.ran}
    assert ran and all("-7/" in name for name in ran)
    assert {cell.reason for cell in night.cells.values() if not cell.ran} == {"no time was left"}
    assert night.status == "finished" and night.exit_code == 0
    assert "not run" in told(night)


def test_without_time_for_builds_nothing_is_built(world: World) -> None:
    world.build_s = 100
    with world.counting() as made:
        night, _ = world.night(budget_h=150 / 3600)
    assert made == ["control", "control-7"]
    assert night.kernels["stock"].outcome == "not tried"
    assert night.kernels["stock"].error == "no time was left"
    assert told(night)["not run"][0] == "stock"


@pytest.mark.parametrize("moment", range(0, 60, 3))
def test_a_night_that_was_cut_off_is_gone_on_with(world: World, moment: int) -> None:
    world.night()
    world.heads[SIX] = "d" * 40
    seen = 0

    def interrupt(_event: Event) -> bool:
        nonlocal seen
        seen += 1
        return seen == moment + 1

    world.interrupt = interrupt
    with world.counting() as made:
        with pytest.raises(KeyboardInterrupt):
            world.night()
        world.interrupt = lambda _event: False
        night, _ = world.night()
    assert sorted(made) == ["candidate", "control", "stock"], "none is built twice"
    assert night.status == "finished" and night.exit_code == 0
    assert all(cell.ran and cell.as_expected for cell in night.cells.values())
    assert {each.status for each, _ in record.nights(world.root / "results")} == {"finished"}
    assert told(night) == {"moved": [SIX]}


def test_a_night_that_was_cut_off_and_is_of_yesterday_is_marked(world: World) -> None:
    world.interrupt = lambda event: event.kind == "trial"
    with pytest.raises(KeyboardInterrupt):
        world.night()
    world.interrupt = lambda _event: False
    world.heads[SIX] = "d" * 40
    night, _ = world.night()
    every = [each for each, _ in record.nights(world.root / "results")]
    assert [each.status for each in every] == ["finished", "unfinished"]
    assert "kernel" in every[1].why and night.exit_code == 0


def test_two_nights_at_once_are_refused(world: World) -> None:
    with record.alone(world.root / "results"), pytest.raises(InfraError, match="under way"):
        world.night()


def test_without_its_table_there_is_no_night(world: World) -> None:
    world.cfg = msgspec.structs.replace(world.cfg, nightly=None)
    with pytest.raises(UsageError, match=r"no \[nightly\]"):
        world.night()


def test_little_time_is_spent_on_whole_races(world: World) -> None:
    """Not on the controls of all: a stock cell says something only beside its control."""
    cells = plan.cells(world.cfg, "quick", workloads=["punch", "plain"])
    order = choose.order(cells, {cell.name: "new" for cell in cells}, [], 14)
    races = [choice.cell.workload for choice in order]
    assert sorted(races, key=["punch", "plain"].index) == races
    for workload in ("punch", "plain"):
        roles = [choice.cell.role for choice in order if choice.cell.workload == workload]
        assert roles == sorted(roles, key=["control", "stock", "candidate"].index)
        assert set(roles) == {"control", "stock", "candidate"}


def test_a_bench_is_run_on_the_kernels_that_it_is_for(world: World) -> None:
    assert world.cfg.nightly is not None
    nightly = msgspec.structs.replace(world.cfg.nightly, measured=["stock"])
    world.cfg = msgspec.structs.replace(world.cfg, nightly=nightly)
    night, _ = world.night()
    assert [name for name, kernel in night.kernels.items() if kernel.figures] == ["stock"]
    assert "could not test" not in told(night)


def test_a_conflict_of_a_series_that_no_kernel_has_there_is_no_failure(world: World) -> None:
    world.conflicts = {("lock", SEVEN): "mm/filemap.c:12"}
    night, _ = world.night()
    assert f"{SEVEN}/lock" in told(night)["new failure"]
    kernel = night.kernels["candidate-7"]
    kernel.parts = {k: v for k, v in kernel.parts.items() if not k.startswith("series lock/")}
    assert f"{SEVEN}/lock" not in {f.subject for f in decide.decide(night, [], world.cfg)}


def test_a_series_is_tried_again_where_it_or_the_tree_is_another(world: World) -> None:
    world.night()
    assert len(world.checked) == 4
    world.checked.clear()
    night, _ = world.night()
    assert world.checked == []
    assert {port.verdict for tree in night.trees.values() for port in tree.series.values()} == {
        "applies"
    }
    world.heads[SEVEN] = "e" * 40
    world.night()
    assert sorted(world.checked) == [("lock", SEVEN), ("windows", SEVEN)]
    world.checked.clear()
    (world.root / "patches/lock/6.12/0002-two.patch").write_text("lock two, again\n")
    world.night()
    assert ("lock", SIX) in world.checked and ("lock", SEVEN) not in world.checked
