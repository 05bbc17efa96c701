# SPDX-License-Identifier: GPL-2.0
"""Real kernels on a Dask cluster of two worker processes, one of which is killed on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import msgspec
import pytest

from harness.experiment.runner import run_plan
from harness.words import Executor
from tests.vm.conftest import Lab, qemus

TRIALS = 40


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Its workers have a cache of their own, in which nothing is."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "far"))
    with distributed.LocalCluster(
        n_workers=2, processes=True, threads_per_worker=1, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", worker_dashboard_address=None, silence_logs=60,
    ) as cluster:  # fmt: skip
        yield cluster


def run(lab: Lab, results: Path, executor: Executor) -> tuple[dict[str, Any], int, Path]:
    """Four cells: control with each switch of a race, and with none, and stock."""
    finished, code = run_plan(
        msgspec.structs.replace(lab.cfg, executor=executor), "quick", lab.cache, results,
        lambda event: print(event.subject, event.message), kernels=["control", "stock"],
        filesystems=["ext4"], workloads=["punch-read-fault"], trials=TRIALS,
    )  # fmt: skip
    return json.loads((finished.directory / "run.json").read_text()), code, finished.directory


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


class Killer(threading.Thread):
    """Kills the worker of the first cell that has reported a trial."""

    def __init__(self, place: Path) -> None:
        super().__init__(daemon=True)
        self.place = place

    def run(self) -> None:
        while True:
            for trials in self.place.glob("parcel-*/trials.jsonl"):
                with contextlib.suppress(OSError):
                    if trials.read_text().count("\n") >= 3:
                        (qemu,) = qemus(trials.parent)
                        os.kill(parent(qemu), signal.SIGKILL)
                        return
            time.sleep(0.02)


def test_a_worker_that_is_killed_costs_its_cell_only(
    lab: Lab, cluster: Any, tmp_path: Path
) -> None:
    for kernel in ("control", "stock"):
        lab.image(kernel)
    far = tmp_path / "far"
    killer = Killer(far)
    killer.start()
    executor = Executor(kind="dask", address=cluster.scheduler_address)
    document, code, directory = run(lab, tmp_path / "results", executor)
    killer.join()
    assert code != 0
    assert document["status"] == "finished"
    assert qemus(far) == [], "the guest of a worker that was killed must die with it"
    local, _local_code, here = run(lab, tmp_path / "local", Executor())

    cells = {cell["name"]: cell for cell in document["cells"]}
    assert list(cells) == [cell["name"] for cell in local["cells"]]
    (lost,) = [cell for cell in cells.values() if cell["verdict"]["state"] == "lost"]
    assert lost["verdict"]["reason"] == f"worker {lost['worker']['address']} was lost"
    assert document["accelerator"] == local["accelerator"]
    for alone in local["cells"]:
        cell = cells[alone["name"]]
        for key in ("seed", "planned", "windows", "must_fire", "splats"):
            assert cell[key] == alone[key], cell["name"]
        if cell is lost:
            continue
        # How often it fires is a matter of time, and this may be a busy host.
        assert cell["verdict"]["trials"] == alone["verdict"]["trials"] == TRIALS
        assert (cell["verdict"]["exposed"] > 0) == (alone["verdict"]["exposed"] > 0), cell["name"]
        place = directory / cell["directory"]
        for name in ("trials.jsonl", "console.log", "dmesg.txt", "qemu-cmd", "rerun"):
            assert (place / name).stat().st_size > 0, f"{cell['name']}: {name}"
        told, alone_told = (
            json.loads((run / cell["directory"] / "cell.json").read_text())
            for run in (directory, here)
        )
        for key in ("release", "cpus_online", "fs_type", "mount_options"):
            assert told["preflight"][key] == alone_told["preflight"][key], cell["name"]
        assert told["header"] == alone_told["header"]
        assert str(lab.image(cell["kernel"]).bzimage) in (place / "qemu-cmd").read_text()
        assert str(far) not in (place / "qemu-cmd").read_text()
