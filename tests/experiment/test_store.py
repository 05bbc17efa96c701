# SPDX-License-Identifier: GPL-2.0
"""results/: whole files, no two runs in one place, full disks named."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.events import Event
from harness.experiment import store
from harness.experiment.store import DiskFullError, LineFile, Run, write_json, write_text


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync fails as it does on a full disk with delayed allocation."""

    def fsync(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


def test_run_directory_and_document(tmp_path: Path) -> None:
    run = Run(tmp_path / "results", "quick")
    assert re.fullmatch(r"\d{8}T\d{6}Z-quick-[0-9a-f]{4}", run.id)
    run.save()
    saved = json.loads((run.directory / "run.json").read_text())
    assert saved["id"] == run.directory.name == run.id
    assert (saved["plan"], saved["status"], saved["cells"]) == ("quick", "running", [])
    assert saved["started"].endswith("+00:00")
    run.close()


def test_runs_of_the_same_second_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffixes = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(secrets, "token_hex", lambda _n: next(suffixes))
    stamp = datetime.now(UTC)

    class Frozen:
        @staticmethod
        def now(_zone: object) -> object:
            return stamp

    monkeypatch.setattr(store, "datetime", Frozen)
    suffixes = iter(["aaaa", "aaaa", "bbbb", "cccc"])
    first, second = Run(tmp_path, "p"), Run(tmp_path, "p")
    assert first.directory != second.directory


def test_plan_name_cannot_leave_the_results(tmp_path: Path) -> None:
    run = Run(tmp_path, "../x y")
    assert run.directory.parent == tmp_path
    assert run.document["plan"] == "../x y"


def test_latest_is_replaced(tmp_path: Path) -> None:
    first, second = Run(tmp_path, "p"), Run(tmp_path, "p")
    first.point_latest()
    assert (tmp_path / "latest").resolve() == first.directory
    second.point_latest()
    assert (tmp_path / "latest").resolve() == second.directory
    assert not (tmp_path / "latest").readlink().is_absolute()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([first.id, second.id, "latest"])


def test_latest_that_is_a_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "latest" / "x").mkdir(parents=True)
    run = Run(tmp_path, "p")
    with pytest.raises(InfraError, match="cannot write results"):
        run.point_latest()
    assert not list(tmp_path.glob(".latest*"))


def test_write_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})

    def interrupted(_fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_write_mode_and_odd_characters(tmp_path: Path) -> None:
    write_text(tmp_path / "rerun", "a\udc80b\n", 0o755)
    assert (tmp_path / "rerun").read_text() == "a\\udc80b\n"
    assert (tmp_path / "rerun").stat().st_mode & 0o777 == 0o755


@pytest.mark.usefixtures("full_disk")
def test_full_disk_is_one_line_that_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError) as caught:
        write_json(tmp_path / "run.json", {})
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint.startswith("df -h")
    assert caught.value.exit_code == 125
    assert list(tmp_path.iterdir()) == []


def test_full_disk_in_a_line_file(tmp_path: Path) -> None:
    lines = LineFile(tmp_path / "a")
    lines._stream.close()
    lines._stream = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
    with pytest.raises(DiskFullError):
        lines.append("x")


def test_unwritable_results(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(InfraError, match="cannot write results to"):
        Run(tmp_path / "results", "p")


def test_lines_are_there_before_close(tmp_path: Path) -> None:
    with LineFile(tmp_path / "trials.jsonl") as lines:
        lines.append("one")
        assert (tmp_path / "trials.jsonl").read_text() == "one\n"
    lines.close()


def test_log(tmp_path: Path) -> None:
    run = Run(tmp_path, "p")
    run.log(Event("build", "stock", "CC a\nb", done=3, total=None))
    run.log(Event("trial", "cell", "held", done=3, total=9))
    first, second = (run.directory / "run.log").read_text().splitlines()
    assert first.endswith("build stock: CC a\\nb [3/?]")
    time, rest = second.split(" ", 1)
    assert rest == "trial cell: held [3/9]"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", time)


def test_cell_directory(tmp_path: Path) -> None:
    run = Run(tmp_path, "p")
    path = run.cell_directory("control/ext4/punch@fault+mkwrite")
    assert path == run.directory / "cells/control/ext4/punch@fault+mkwrite"
    assert path.is_dir()


def test_runs_of_one_second_come_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    # The suffix is drawn by lot: of two in a second, "the newest" was either of them.
    ended = {
        "20261130T071556Z-quick-a": 400,  # began earlier, ended last
        "20261130T071557Z-bisect-0": 100,
        "20261130T071557Z-quick-9": 200,
        "20261130T071557Z-bisect-f": 300,
    }
    for name, seconds in ended.items():
        (tmp_path / name).mkdir()
        write_text(tmp_path / name / "run.json", "{}")
        os.utime(tmp_path / name / "run.json", (seconds, seconds))
    (tmp_path / store.LATEST).symlink_to(name)
    (tmp_path / "20991130T071556Z-empty").mkdir()
    assert [path.name for path in store.began(tmp_path, "run.json")] == list(ended)
    assert store.began(tmp_path / "missing", "run.json") == []


def test_a_run_that_is_removed_while_runs_are_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("20261130T071556Z-quick-a", "20261130T071557Z-quick-b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()

    def remove_b(path: Path) -> bool:
        if path.name.endswith("b"):
            shutil.rmtree(path)
        return False

    monkeypatch.setattr(Path, "is_symlink", remove_b)
    assert [path.name for path in store.began(tmp_path, "run.json")] == ["20261130T071556Z-quick-a"]
