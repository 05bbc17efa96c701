# SPDX-License-Identifier: GPL-2.0
"""A run that ended early and is gone on with: what is finished stays, byte for byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InfraError, MachineLostError, UsageError
from harness.events import Event, silent
from harness.experiment import store
from harness.experiment.runner import resume_plan, run_plan
from harness.experiment.verdict import NOT_FIRED, Verdict
from harness.places import NEWEST_RUN
from tests.experiment.test_runner import NAMES, SMALL, only_run, saved, states
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab, Script

STOPS = Script(dies=KeyboardInterrupt(), after=20)


def cut_off(tmp_path: Path, at: str = NAMES[2], **options: Any) -> Path:
    """A run that the user interrupted in cell `at`; its directory."""
    lab = Lab(**{at: STOPS})
    run, code = run_plan(
        config(tmp_path, **SMALL), "quick", tmp_path / "cache", tmp_path / "results",
        workloads=["punch"], rooms=lab.rooms(), **options,
    )  # fmt: skip
    assert code == 130
    return run.directory


def again(
    tmp_path: Path, lab: Lab | None = None, name: str = NEWEST_RUN, **options: Any
) -> tuple[dict[str, Any], int, Lab]:
    lab = lab or Lab()
    cfg = options.pop("cfg", None) or config(tmp_path, **SMALL)
    run, code = resume_plan(
        cfg, tmp_path / "cache", tmp_path / "results", options.pop("listen", silent),
        run=name, rooms=lab.rooms(), **options,
    )  # fmt: skip
    return saved(run.directory), code, lab


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_finished_cells_stay_and_the_others_run(tmp_path: Path) -> None:
    directory = cut_off(tmp_path)
    before = saved(directory)
    assert before["not_run"] == NAMES[2:]
    kept = {name: contents(directory / "cells" / name) for name in NAMES[:2]}
    document, code, lab = again(tmp_path)
    assert (code, document["status"], document["not_run"]) == (0, "finished", [])
    assert lab.booted == NAMES[2:]
    assert only_run(tmp_path) == directory, "it goes on in its own directory"
    assert states(document) == dict(zip(NAMES, ["exposed"] * 2 + ["held"] * 2, strict=True))
    assert document["cells"][:2] == before["cells"]
    for name in NAMES[:2]:
        assert contents(directory / "cells" / name) == kept[name]
    assert document["seconds"] >= before["seconds"]
    assert document["sittings"] == 2
    assert "error" not in document


def test_the_control_that_fired_before_counts(tmp_path: Path) -> None:
    cut_off(tmp_path, NAMES[3])
    document, code, lab = again(tmp_path)
    assert lab.booted == NAMES[3:]
    assert (code, states(document)[NAMES[3]]) == (0, "held")


def test_the_control_that_did_not_fire_counts_too(tmp_path: Path) -> None:
    dud = Script(outcomes=lambda _n, _on: "held")
    lab = Lab(**{NAMES[0]: dud, NAMES[1]: dud, NAMES[3]: STOPS})
    run_plan(
        config(tmp_path, **SMALL), "quick", tmp_path / "cache", tmp_path / "results",
        workloads=["punch"], rooms=lab.rooms(),
    )  # fmt: skip
    document, code, _lab = again(tmp_path)
    assert code == 1
    assert document["cells"][3]["verdict"]["reason"] == NOT_FIRED


def test_what_a_cell_under_way_had_written_is_set_aside(tmp_path: Path) -> None:
    directory = cut_off(tmp_path)
    place = directory / "cells" / NAMES[2]
    partial = (place / "trials.jsonl").read_bytes()
    assert partial
    # As SIGKILL leaves it: the disk is there, a file was being written.
    (place / "disk0.img").write_text("disk")
    (directory / ".run.json.0123abcd").write_text("{")
    machine = directory / "machines" / "007-control"
    machine.mkdir(parents=True)
    (machine / "host_key").write_text("secret")
    document, code, _lab = again(tmp_path)
    assert code == 0
    assert (place / "interrupted-1" / "trials.jsonl").read_bytes() == partial
    assert len((place / "trials.jsonl").read_text().splitlines()) == 40
    assert not list(directory.rglob("disk*.img")) and not list(directory.rglob("host_key"))
    assert not list(directory.rglob(".run.json.*"))
    assert len(document["cells"]) == 4


def test_more_than_once(tmp_path: Path) -> None:
    directory = cut_off(tmp_path, NAMES[1])
    stops = Lab(**{NAMES[2]: STOPS})
    _document, code, _lab = again(tmp_path, stops)
    assert code == 130
    document, code, lab = again(tmp_path)
    assert (code, lab.booted, document["sittings"]) == (0, NAMES[2:], 3)
    assert (directory / "cells" / NAMES[2] / "interrupted-1").is_dir()


def test_a_killed_harness_left_status_running(tmp_path: Path) -> None:
    directory = cut_off(tmp_path)
    document = saved(directory)
    for key in ("error", "not_run", "exit_code"):
        del document[key]
    store.write_json(directory / "run.json", {**document, "status": "running"})
    with (directory / "run.log").open("a") as log:
        log.write("cut off in the midd")
    finished, code, lab = again(tmp_path)
    assert (code, lab.booted, finished["status"]) == (0, NAMES[2:], "finished")
    lines = (directory / "run.log").read_text().splitlines()
    assert "cut off in the midd" in lines


def test_a_run_that_failed_goes_on_when_the_reason_is_gone(tmp_path: Path) -> None:
    lab = Lab()
    lab.probe_error = InfraError("no QEMU")
    with pytest.raises(InfraError):
        run_plan(
            config(tmp_path, **SMALL), "quick", tmp_path / "cache", tmp_path / "results",
            workloads=["punch"], rooms=lab.rooms(),
        )  # fmt: skip
    document, code, healthy = again(tmp_path)
    assert (code, healthy.booted, document["status"]) == (0, NAMES, "finished")


def test_progress_counts_what_was_finished(tmp_path: Path) -> None:
    cut_off(tmp_path)
    events: list[Event] = []
    again(tmp_path, listen=events.append)
    (begun,) = (event for event in events if "cells" in event.data)
    assert (begun.done, begun.total) == (2, 4)
    starts = [event for event in events if event.message == "starts"]
    assert [event.done for event in starts] == [2, 3]


def test_the_budget_is_what_the_rest_would_have_had(tmp_path: Path) -> None:
    directory = cut_off(tmp_path, budget_s=400.0)
    document, _code, _lab = again(tmp_path)
    assert document["budget_s"] == 400.0
    entries = [json.loads((directory / "cells" / n / "cell.json").read_text()) for n in NAMES]
    # 400 s for four cells is 200 for the two that are left; jobs and overheads as before.
    assert entries[2]["seconds"] < 1.2 * entries[0]["seconds"]


# --- refused ---------------------------------------------------------------------


def test_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ended early"):
        again(tmp_path)
    run_plan(
        config(tmp_path, **SMALL), "quick", tmp_path / "cache", tmp_path / "results",
        workloads=["punch"], rooms=Lab().rooms(),
    )  # fmt: skip
    with pytest.raises(UsageError, match="ended early"):
        again(tmp_path)
    name = only_run(tmp_path).name
    with pytest.raises(UsageError, match=f"{name} is finished"):
        again(tmp_path, name=name)
    with pytest.raises(UsageError, match="no run 'nope'"):
        again(tmp_path, name="nope")
    with pytest.raises(UsageError, match="no run"):
        again(tmp_path, name="../cache")


def test_the_newest_is_taken_and_any_by_name(tmp_path: Path) -> None:
    older = cut_off(tmp_path)
    newer = older.with_name("29990101T000000Z-quick-ffff")
    shutil.copytree(older, newer)
    document = json.loads((newer / "run.json").read_text())
    store.write_json(newer / "run.json", {**document, "id": newer.name})
    finished, _code, _lab = again(tmp_path)
    assert finished["id"] == newer.name
    finished, _code, _lab = again(tmp_path, name=older.name)
    assert finished["id"] == older.name


def test_a_run_under_way_is_left_alone(tmp_path: Path) -> None:
    directory = cut_off(tmp_path)
    held = store.Run.reopen(directory)
    before = contents(directory)
    with pytest.raises(InfraError, match="still under way"):
        again(tmp_path)
    assert contents(directory) == before
    held.close()
    _document, code, _lab = again(tmp_path)
    assert code == 0


@pytest.mark.parametrize(
    "change, said",
    [
        ({"trials": {"control": 41, "stock": 50}}, r"cell control/ext4/punch@\S+ is not planned"),
        ({"kernels": ["control"]}, "cell stock/ext4/punch was planned then"),
        ({"kernels": ["control", "stock", "candidate"]}, "candidate/ext4/punch was not planned"),
    ],
    ids=["trials", "fewer", "more"],
)
def test_another_plan_is_another_run(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    directory = cut_off(tmp_path)
    before = contents(directory)
    with pytest.raises(UsageError, match=said) as caught:
        again(tmp_path, cfg=config(tmp_path, **{**SMALL, **change}))
    assert caught.value.hint == "harness run quick"
    assert contents(directory) == before


def test_other_kernels_or_workloads_are_another_run(tmp_path: Path) -> None:
    directory = cut_off(tmp_path)
    lab = Lab()
    lab.digest = "another one"
    with pytest.raises(UsageError, match="the workloads were 0123456789ab, now another one"):
        again(tmp_path, lab)
    document = saved(directory)
    document["kernels"]["control"]["id"] = "0ther"
    store.write_json(directory / "run.json", document)
    with pytest.raises(UsageError, match="kernel control was 0ther, now it is 0123456789ab"):
        again(tmp_path)
    assert saved(directory)["cells"] == document["cells"]


def test_a_run_of_another_verb(tmp_path: Path) -> None:
    directory = cut_off(tmp_path)
    document = saved(directory)
    del document["planned"]
    store.write_json(directory / "run.json", document)
    with pytest.raises(UsageError, match="ended early"):
        again(tmp_path)
    with pytest.raises(UsageError, match="'planned' is missing"):
        again(tmp_path, name=directory.name)


def test_a_verdict_survives_the_journal(tmp_path: Path) -> None:
    lost = Script(dies=MachineLostError("panicked"), after=23)
    run, _code = run_plan(
        config(tmp_path, **SMALL), "quick", tmp_path / "cache", tmp_path / "results",
        workloads=["punch"], rooms=Lab(**{NAMES[0]: lost}).rooms(),
    )  # fmt: skip
    for cell in saved(run.directory)["cells"]:
        assert Verdict.from_json(cell["verdict"]).to_json() == cell["verdict"]
