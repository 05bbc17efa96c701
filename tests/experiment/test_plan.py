# SPDX-License-Identifier: GPL-2.0
"""Which cells a plan has, in which order, with which seeds."""

from __future__ import annotations

import subprocess
import sys
from itertools import groupby

import msgspec
import pytest

from harness.errors import UsageError
from harness.experiment.plan import cell_seed, cells, program_key
from harness.experiment.statistics import clopper_pearson
from tests.fakes.experiment import config


def test_what_must_fire_runs_before_what_must_hold() -> None:
    cfg = config(kernels=["candidate", "stock", "elsewhere", "control"])
    order = [kernel for kernel, _ in groupby(cells(cfg, "quick"), lambda c: c.kernel)]
    assert order == ["control", "stock", "elsewhere", "candidate"]


def test_names_of_all_cells_of_two_kernels() -> None:
    names = [cell.name for cell in cells(config(), "quick", ["stock", "control"], ["xfs"])]
    assert names == [
        "control/xfs/punch@fault",
        "control/xfs/punch@fault+mkwrite",
        "control/xfs/punch@off",
        "control/xfs/plain@off",
        "stock/xfs/punch",
        "stock/xfs/plain",
    ]


def test_names_are_unique() -> None:
    names = [cell.name for cell in cells(config(), "quick")]
    assert len(set(names)) == len(names) == 2 * (4 + 2 + 2)


def test_a_gate_has_no_cell_on_a_control_kernel() -> None:
    found = cells(config(workloads=["splice"]), "quick")
    assert [cell.name for cell in found] == [
        "stock/ext4/splice", "stock/xfs/splice", "candidate/ext4/splice", "candidate/xfs/splice"
    ]  # fmt: skip
    assert {cell.kind for cell in found} == {"gate"}
    assert not any(cell.must_fire or cell.needs_fire for cell in found)


def test_what_is_open_on_stock_must_fire_there_and_has_no_off_cell() -> None:
    cfg = config(workloads=["dio"])
    found = {cell.name: cell for cell in cells(cfg, "quick")}
    assert list(found) == ["stock/ext4/dio", "candidate/ext4/dio"]  # and no cell on xfs
    assert [c.must_fire for c in found.values()] == [True, False]
    assert [c.needs_fire for c in found.values()] == [False, True]
    cfg.workload["dio"].switches.append("fault")  # the struct is frozen, its list is not
    assert cells(cfg, "quick", ["control"])[0].name == "control/ext4/dio@fault"
    assert len(cells(cfg, "quick", ["control"])) == 1


def test_a_workload_of_some_kernels_only() -> None:
    cfg = config(workloads=["plain"])
    cfg.workload["plain"].kernels.append("candidate")
    assert {cell.kernel for cell in cells(cfg, "quick")} == {"candidate"}


@pytest.mark.parametrize(
    "line, since, there",
    [
        ("6.12", "", True),
        ("6.12", "6.12", True),
        ("6.12", "6.2", True),  # numbers, not letters
        ("6.2", "6.12", False),
        ("5.10", "5.14", False),
        ("5.14", "6.1", False),
        ("7.2", "6.12", True),
        ("5.10.262", "5.10", True),
        ("next", "6.12", True),  # who knows
    ],
)
def test_a_workload_of_newer_lines_only(line: str, since: str, there: bool) -> None:
    cfg = config(workloads=["plain", "splice"])
    kernel = cfg.kernel["candidate"]
    cfg.tree[kernel.tree] = msgspec.structs.replace(cfg.tree[kernel.tree], line=line)
    cfg.workload["plain"] = msgspec.structs.replace(cfg.workload["plain"], since=since)
    found = {cell.workload for cell in cells(cfg, "quick", ["candidate"])}
    assert ("plain" in found) == there


def test_no_cell_left() -> None:
    with pytest.raises(UsageError, match="no cell is left: splice on ext4 has none on control"):
        cells(config(workloads=["splice"]), "quick", ["control"], ["ext4"])


def test_windows_go_by_filesystem_type() -> None:
    found = {cell.name: cell for cell in cells(config(), "quick")}
    assert found["stock/ext4/punch"].window == "ext4_punch:2000+filemap_fault:500"
    assert found["control/ext4/punch@off"].window == found["stock/ext4/punch"].window
    assert found["stock/xfs/punch"].window is None
    assert found["stock/ext4/plain"].windows == ()


def test_trials_by_role_and_overridden() -> None:
    asked = {cell.role: cell.trials for cell in cells(config(), "quick")}
    assert asked == {"control": 40, "stock": 50, "candidate": 60}
    assert {cell.trials for cell in cells(config(), "quick", trials=3)} == {3}


def test_a_workloads_own_trials_go_before_the_plans() -> None:
    cfg = config(workloads=["plain", "splice"])
    asked = {cell.name: cell.trials for cell in cells(cfg, "quick", filesystems=["xfs"])}
    assert asked["stock/xfs/splice"] == 3 and asked["candidate/xfs/splice"] == 4
    assert asked["stock/xfs/plain"] == 50
    assert {cell.trials for cell in cells(cfg, "quick", trials=7)} == {7}


def test_a_cell_alone_has_the_seed_it_has_in_the_plan() -> None:
    whole = {cell.name: cell.seed for cell in cells(config(), "quick")}
    alone = cells(config(), "quick", ["candidate"], ["xfs"], ["plain"])
    assert [whole[cell.name] for cell in alone] == [cell.seed for cell in alone]
    assert len(set(whole.values())) == len(whole)


def test_seed_depends_on_the_plans_seed_and_can_be_given() -> None:
    first, second = cells(config(), "quick", seed=1), cells(config(), "quick", seed=2)
    assert all(a.seed != b.seed for a, b in zip(first, second, strict=True))
    assert [c.seed for c in first] == [c.seed for c in cells(config(), "quick")]


def test_seed_is_the_same_in_another_process() -> None:
    code = "from harness.experiment.plan import cell_seed; print(cell_seed(5, 'a/b/c@off'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == cell_seed(5, "a/b/c@off")
    assert 0 < cell_seed(5, "a/b/c@off") < 2**31


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"kernels": ["stcok"]}, "no kernel 'stcok' in harness.toml (did you mean 'stock'?)"),
        ({"kernels": ["elsewher"]}, "(did you mean 'elsewhere'?)"),
        ({"filesystems": ["ext"]}, "did you mean 'ext4'?"),
        ({"workloads": ["zzz"]}, "(there is: dio, plain, punch, splice)"),
        ({"modes": ["unarmed"]}, "mode 'unarmed' is in harness.toml but not in plan 'quick'"),
    ],
)
def test_names_that_are_nowhere(filters: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        cells(config(), "quick", **filters)  # type: ignore[arg-type]
    assert message in caught.value.message
    assert caught.value.hint == "harness list"
    assert caught.value.exit_code == 2


def test_what_is_named_need_not_be_in_the_plan() -> None:
    assert not any(cell.kernel == "elsewhere" for cell in cells(config(), "quick"))
    named = cells(config(), "quick", ["elsewhere", "control"])
    assert {cell.kernel for cell in named} == {"control", "elsewhere"}
    # In the plan's order, and by role: what it is compared with runs first.
    assert [cell.role for cell in named] == sorted(
        [cell.role for cell in named], key=["control", "stock", "candidate"].index
    )


def test_unknown_plan() -> None:
    with pytest.raises(UsageError, match=r"no plan 'quik' in harness.toml \(did you mean 'quick'"):
        cells(config(), "quik")


def test_no_trials_for_a_role() -> None:
    cfg = config(trials={"control": 5})
    with pytest.raises(UsageError, match="no number of trials for role 'stock'"):
        cells(cfg, "quick")
    assert cells(cfg, "quick", trials=2)
    with pytest.raises(UsageError, match="at least one trial"):
        cells(cfg, "quick", trials=0)


def test_program_key() -> None:
    assert program_key("races/punch-read-fault.c") == "races/punch-read-fault"


def test_a_bound_decides_how_often_a_race_must_hold() -> None:
    cfg = config(bound=0.01, workloads=["punch", "dio", "splice"])
    number = {(cell.role, cell.workload): cell.trials for cell in cells(cfg, "quick")}
    # The claim of a verdict is then what was asked, and with one trial less it is not.
    assert clopper_pearson(0, number["candidate", "punch"])[1] <= 0.01
    assert clopper_pearson(0, number["candidate", "punch"] - 1)[1] > 0.01
    assert number["stock", "punch"] == number["candidate", "dio"] == number["candidate", "punch"]
    # What must fire, and gates, have the numbers of the plan.
    assert (number["control", "punch"], number["stock", "dio"]) == (40, 50)
    assert number["candidate", "splice"] == 4


# --- unarmed ----------------------------------------------------------------------


def test_a_mode_is_a_cell_of_its_own() -> None:
    cfg = config(modes=["armed", "unarmed"], workloads=["punch", "plain", "splice"])
    found = {cell.name: cell for cell in cells(cfg, "quick", ["control", "stock"], ["ext4"])}
    # What has no window has no other mode, and a gate's windows are part of it.
    assert list(found) == [
        "control/ext4/punch@fault",
        "control/ext4/punch@fault+mkwrite",
        "control/ext4/punch@off",
        "control/ext4/punch@fault~unarmed",
        "control/ext4/punch@fault+mkwrite~unarmed",
        "control/ext4/punch@off~unarmed",
        "control/ext4/plain@off",
        "stock/ext4/punch",
        "stock/ext4/punch~unarmed",
        "stock/ext4/plain",
        "stock/ext4/splice",
    ]
    unarmed = found["control/ext4/punch@fault~unarmed"]
    assert unarmed.window == "ext4_punch:0"
    assert (unarmed.must_fire, unarmed.may_fire, unarmed.needs_fire) == (False, True, False)
    held = found["stock/ext4/punch~unarmed"]
    assert (held.must_fire, held.may_fire, held.needs_fire) == (False, False, True)
    # Armed cells have the seeds that they have alone.
    alone = {cell.name: cell.seed for cell in cells(config(), "quick")}
    assert all(alone.get(name, cell.seed) == cell.seed for name, cell in found.items())


def test_one_mode_only() -> None:
    cfg = config(modes=["armed", "unarmed"], workloads=["punch"])
    found = cells(cfg, "quick", ["stock"], ["ext4"], modes=["unarmed"])
    assert [cell.name for cell in found] == ["stock/ext4/punch~unarmed"]
    with pytest.raises(UsageError, match="unarmed"):
        cells(config(), "quick", modes=["unarmed"])


def test_a_plan_of_few_trials_asks_for_less() -> None:
    control, stock = cells(config(min_rate=0.7), "quick", ["control", "stock"], ["ext4"])[::3][:2]
    assert (control.min_rate, control.fewest) == (0.7, 22)
    assert clopper_pearson(20, 22)[0] >= 0.7 > clopper_pearson(19, 21)[0]
    assert stock.fewest == 10
    few = cells(config(), "quick", ["stock"], ["ext4"], trials=4)[0]
    assert few.fewest == 4


def test_a_workload_may_have_one_mode_only() -> None:
    cfg = config(modes=["armed", "unarmed"], workloads=["punch"])
    cfg.workload["punch"].modes.append("armed")  # the struct is frozen, its list is not
    assert all(cell.armed for cell in cells(cfg, "quick"))
    with pytest.raises(UsageError, match="no cell is left"):
        cells(cfg, "quick", modes=["unarmed"])


def test_a_workload_that_fires_seldom_keeps_its_own_rate_and_all_its_trials() -> None:
    trials = {"control": 1, "stock": 80, "candidate": 80}
    cfg = config(min_rate=0.7, workloads=["dio"], trials=trials)
    dio = msgspec.structs.replace(cfg.workload["dio"], min_rate=0.2)
    cfg.workload["dio"] = dio
    stock = cells(cfg, "quick", ["stock"])[0]
    assert (stock.must_fire, stock.min_rate, stock.fewest) == (True, 0.2, 80)


def test_a_gate_may_be_cut_to_two_trials() -> None:
    assert cells(config(workloads=["splice"]), "quick", ["stock"])[0].fewest == 2
