# SPDX-License-Identifier: GPL-2.0
"""Cells that share a machine: who has which, what is cut out, what ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BootError, InfraError, MachineLostError
from harness.events import silent
from harness.experiment.runner import run_plan
from harness.guest.splat import Splat
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab, Script

WARN = Splat("warning", "WARNING: at x", "text")


def run(tmp_path: Path, lab: Lab, share: int = 3, **plan: Any) -> tuple[dict[str, Any], Path]:
    """run.json of "punch" on ext4 and xfs, control and stock: eight cells."""
    asked = {"kernels": ["control", "stock"], "workloads": ["punch"], **plan}
    cfg = config(tmp_path, cells_per_boot=share, **asked)
    run, _code = run_plan(
        cfg, "quick", tmp_path / "cache", tmp_path / "results", silent,
        jobs=1, rooms=lab.rooms(),
    )  # fmt: skip
    assert lab.still_open == []
    return json.loads((run.directory / "run.json").read_text()), run.directory


def turns(document: dict[str, Any]) -> list[tuple[str, int]]:
    return [
        (cell["machine"]["directory"].partition("/")[2], cell["machine"]["turn"])
        for cell in document["cells"]
    ]


def test_cells_of_a_kernel_share_boots(tmp_path: Path) -> None:
    lab = Lab()
    document, directory = run(tmp_path, lab)
    assert document["exit_code"] == 0
    assert lab.booted == ["001-control", "002-control", "003-stock"]
    assert turns(document) == [
        *(("001-control", turn) for turn in (1, 2, 3)),
        *(("002-control", turn) for turn in (1, 2, 3)),
        ("003-stock", 1), ("003-stock", 2),
    ]  # fmt: skip
    assert sum(command == "umount /mnt" for command in lab.commands) == 8
    assert not list(directory.glob("**/*.img"))
    # The boot's time is told once, by the cell that waited for it.
    assert ["ready" in cell["wall"] for cell in document["cells"][:3]] == [True, False, False]


def test_each_cell_has_its_part_of_the_console(tmp_path: Path) -> None:
    _document, directory = run(tmp_path, Lab())
    parts = {
        path.parent.name: path.read_text()
        for path in directory.glob("cells/control/ext4/*/console.log")
    }
    assert parts["punch@fault"].startswith("console\n")  # the boot
    assert "punch@fault+mkwrite" not in parts["punch@fault"]
    marks = [f"harness: {what} 'control/ext4/punch@off'" for what in ("begin", "end")]
    assert parts["punch@off"].splitlines() == marks
    script = (directory / "cells/control/ext4/punch@off/qemu-cmd").read_text()
    assert 'sh "$(dirname "$0")"/../../../../machines/001-control/qemu-cmd' in script


def test_a_bad_end_takes_the_machine_with_it(tmp_path: Path) -> None:
    bad = Script(outcomes=lambda _n, _on: "exposed")
    lab = Lab(**{"003-stock": bad, "004-stock": bad})
    document, directory = run(tmp_path, lab)
    assert lab.booted == ["001-control", "002-control", "003-stock", "004-stock"]
    assert turns(document)[-2:] == [("003-stock", 1), ("004-stock", 1)]
    kept = sorted(str(path.relative_to(directory)) for path in directory.glob("**/*.img"))
    assert kept == ["cells/stock/ext4/punch/disk.img", "cells/stock/xfs/punch/disk.img"]


def test_a_splat_is_the_cells_that_it_came_in(tmp_path: Path) -> None:
    lab = Lab(**{"001-control": Script(splats=[WARN])})
    document, _directory = run(tmp_path, lab)
    states = [cell["verdict"]["state"] for cell in document["cells"]]
    assert states[0] == "crashed"
    assert lab.booted[:2] == ["001-control", "002-control"]


def test_a_lost_machine_is_replaced(tmp_path: Path) -> None:
    lab = Lab(**{"001-control": Script(dies=MachineLostError("SSH is gone"), after=9)})
    document, _directory = run(tmp_path, lab)
    assert [cell["verdict"]["state"] for cell in document["cells"][:2]] == ["lost", "exposed"]
    assert turns(document)[:2] == [("001-control", 1), ("002-control", 1)]


def test_a_file_system_that_stays_busy_ends_the_machine_not_the_cell(tmp_path: Path) -> None:
    lab = Lab(**{"001-control": Script(statuses={"umount": 1})})
    document, _directory = run(tmp_path, lab)
    assert document["exit_code"] == 0
    assert turns(document)[:2] == [("001-control", 1), ("002-control", 1)]


@pytest.mark.parametrize("error", [BootError("panic"), InfraError("no port")])
def test_a_boot_that_fails(tmp_path: Path, error: Exception) -> None:
    # Twice for what is not the kernel's fault; then the next cells go on.
    lab = Lab(**{"001-control": Script(), "004-stock": Script(boot_error=error)})
    lab.scripts["003-stock"] = [Script(boot_error=error)]
    document, directory = run(tmp_path, lab)
    first = document["cells"][6]
    assert first["verdict"]["state"] == ("untested" if isinstance(error, BootError) else "lost")
    assert first["attempts"] == (1 if isinstance(error, BootError) else 2)
    assert (directory / first["directory"] / "console.log").exists()


def test_with_one_cell_a_boot_nothing_is_shared(tmp_path: Path) -> None:
    lab = Lab()
    document, directory = run(tmp_path, lab, share=1)
    assert len(lab.booted) == 8
    assert all("machine" not in cell for cell in document["cells"])
    assert not (directory / "machines").exists()


def test_several_workers_have_machines_of_their_own(tmp_path: Path) -> None:
    lab = Lab()
    cfg = config(tmp_path, cells_per_boot=2, kernels=["control", "stock"], workloads=["punch"])
    finished, code = run_plan(
        cfg, "quick", tmp_path / "cache", tmp_path / "results", silent,
        jobs=3, rooms=lab.rooms(),
    )  # fmt: skip
    assert code == 0
    names = [cell["name"] for cell in finished.document["cells"]]
    assert names == sorted(names, key=lambda name: ("stock" in name, "xfs" in name))
    seen = [tuple(cell["machine"].values()) for cell in finished.document["cells"]]
    assert len(set(seen)) == len(seen) == 8
    assert lab.still_open == []
