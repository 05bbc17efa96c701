# SPDX-License-Identifier: GPL-2.0
"""Cells on a real Dask cluster of two processes, with fake machines: killed, cancelled, alone."""

from __future__ import annotations

import _thread
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed
import msgspec
import pytest

from harness.errors import InfraError
from harness.experiment.runner import run_plan
from harness.words import Executor
from tests.experiment.test_post import run_plan_locally, timeless, written
from tests.experiment.test_runner import NAMES, SMALL, only_run, saved, states
from tests.fakes import elsewhere
from tests.fakes.elsewhere import Machines
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab, Script

ROOT = Path(__file__).parents[2]
BUSY_S = 60.0  # on a host that compiles kernels meanwhile
# There a worker has taken longer than that to start.
WORKER_S = 240.0
pytestmark = pytest.mark.timeout(2 * WORKER_S)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two workers of one thread."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "far"))
    with local_cluster(2) as cluster:
        yield cluster


def local_cluster(workers: int) -> Any:
    return distributed.LocalCluster(
        n_workers=workers, processes=True, threads_per_worker=1, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", worker_dashboard_address=None, silence_logs=60,
    )  # fmt: skip


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[Any]:
    """A scheduler, and one worker that nobody starts again."""
    with local_cluster(0) as cluster:
        argv = [sys.executable, "-m", "dask", "worker", cluster.scheduler_address]
        argv += ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        # Its fakes are in the tests, which are not installed.
        environment = {
            **os.environ, "HARNESS_CACHE": str(tmp_path / "far"), "PYTHONPATH": str(ROOT)
        }  # fmt: skip
        worker = subprocess.Popen(argv, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
        with worker:
            try:
                yield cluster
            finally:
                worker.kill()


def run(
    tmp_path: Path, address: str, machines: Machines, wait_s: float = WORKER_S
) -> tuple[dict[str, Any], int, Path]:
    """run.json of the small experiment on the cluster there, its exit code and directory."""
    executor = Executor(kind="dask", address=address, wait_s=wait_s)
    finished, code = run_plan(
        msgspec.structs.replace(config(tmp_path, **SMALL), executor=executor),
        "quick", tmp_path / "cache", tmp_path / "results", workloads=["punch"],
        rooms=elsewhere.rooms(machines),
    )  # fmt: skip
    return saved(finished.directory), code, finished.directory


def captive(tmp_path: Path, cell: str) -> Machines:
    """Machines, of which that of `cell` waits until it is killed."""
    for name in ("began", "killed"):
        os.mkfifo(tmp_path / name)
    return Machines(captive=cell, pipes=tmp_path)


def when_it_began(tmp_path: Path, act: Callable[[int], None]) -> threading.Thread:
    """Calls act(process id of the worker) as soon as the captive's reproducer runs."""

    def wait() -> None:
        act(int((tmp_path / "began").read_text()))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_it_is_a_local_run_up_to_timing(tmp_path: Path, cluster: Any) -> None:
    scripts = {NAMES[3]: Script(outcomes=lambda n, _on: "exposed" if n == 17 else "held")}
    local, code, here = run_plan_locally(tmp_path, Lab(**scripts))
    far, far_code, there = run(tmp_path, cluster.scheduler_address, Machines(scripts))
    assert code == far_code == 1
    assert timeless(far) == timeless(local)
    assert written(there) == written(here)
    assert far["jobs"] == 2
    assert set(far["executor"]["workers"]) == set(cluster.scheduler.workers)
    assert {cell["worker"]["address"] for cell in far["cells"]} <= set(cluster.scheduler.workers)
    # Nothing is left of it but what the next run will need.
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["artefacts"]
    assert not cluster.scheduler.tasks
    told = cluster.scheduler.task_metadata.items()
    assert [value for key, value in told if key.startswith("harness-")] == [{}]


@pytest.mark.parametrize("cell", [NAMES[1], NAMES[3]])
def test_a_worker_that_is_killed_costs_its_cell_only(
    tmp_path: Path, cluster: Any, cell: str
) -> None:
    # Dask would run it again three times; the pipe would be written to a second time.
    machines = captive(tmp_path, cell)
    killer = when_it_began(tmp_path, kill)
    document, code, directory = run(tmp_path, cluster.scheduler_address, machines)
    killer.join()
    assert code == 125
    local, _code, here = run_plan_locally(tmp_path, Lab())
    lost = [each for each in document["cells"] if each["verdict"]["state"] == "lost"]
    assert [each["name"] for each in lost] == [cell]
    where = lost[0]["worker"]["address"]
    assert where in document["executor"]["workers"]
    assert lost[0]["verdict"]["reason"] == f"worker {where} was lost"
    assert lost[0]["attempts"] == 1

    def others(document: dict[str, Any]) -> list[dict[str, Any]]:
        return [each for each in timeless(document)["cells"] if each["name"] != cell]

    assert others(document) == others(local)
    mine, theirs = (
        {k: v for k, v in written(place).items() if not k.startswith(f"cells/{cell}/")}
        for place in (directory, here)
    )
    assert mine == theirs


def test_no_worker_left_ends_the_run(tmp_path: Path, by_hand: Any) -> None:
    address = by_hand.scheduler_address
    # It comes while it is waited for ...
    _document, code, directory = run(tmp_path, address, Machines())
    assert code == 0
    shutil.rmtree(directory)
    # ... and goes, and nobody comes.
    machines = captive(tmp_path, NAMES[2])
    killer = when_it_began(tmp_path, kill)
    with pytest.raises(InfraError, match="no worker is left at tcp://") as caught:
        run(tmp_path, address, machines, wait_s=1.0)
    killer.join()
    assert caught.value.exit_code == 125
    assert caught.value.hint.startswith("dask worker tcp://")
    document = saved(only_run(tmp_path))
    assert (document["status"], document["exit_code"]) == ("failed", 125)
    assert list(states(document)) == NAMES[:2]
    assert document["not_run"] == NAMES[2:]


def test_the_end_of_the_scheduler_ends_the_run(tmp_path: Path, cluster: Any) -> None:
    machines = captive(tmp_path, NAMES[2])
    closer = when_it_began(tmp_path, lambda _pid: cluster.close())
    with pytest.raises(InfraError, match=r"the Dask scheduler at tcp://\S+ went away"):
        run(tmp_path, cluster.scheduler_address, machines)
    closer.join()
    document = saved(only_run(tmp_path))
    assert (document["status"], document["exit_code"]) == ("failed", 125)
    assert list(states(document)) == NAMES[:2]


def test_no_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.experiment.dask.CONNECT_S", 0.5)
    with pytest.raises(InfraError, match="no Dask scheduler answers at tcp://127") as caught:
        run(tmp_path, "tcp://127.0.0.1:9", Machines())
    assert caught.value.hint == "dask scheduler --port 9"
    assert saved(only_run(tmp_path))["cells"] == []


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InfraError, match="needs the Python package 'distributed'") as caught:
        run(tmp_path, "tcp://127.0.0.1:9", Machines())
    assert caught.value.hint == "pip install 'mapping-range-lock-harness[dask]'"


def test_ctrl_c_ends_the_machines_on_the_workers(tmp_path: Path, cluster: Any) -> None:
    times: dict[str, float] = {}

    def interrupt(_pid: int) -> None:
        times["interrupted"] = time.monotonic()
        _thread.interrupt_main()
        assert (tmp_path / "killed").read_text() == "killed\n"
        times["killed"] = time.monotonic()

    machines = captive(tmp_path, NAMES[0])
    interrupter = when_it_began(tmp_path, interrupt)
    document, code, _directory = run(tmp_path, cluster.scheduler_address, machines)
    returned = time.monotonic()
    assert (code, document["status"]) == (130, "interrupted")
    assert returned - times["interrupted"] < BUSY_S / 6
    interrupter.join(BUSY_S)
    assert times["killed"] - times["interrupted"] < BUSY_S / 6
    assert NAMES[0] in document["not_run"]


def test_a_driver_that_is_killed_leaves_no_machine(tmp_path: Path, cluster: Any) -> None:
    """Its cells are cancelled by the scheduler, which sees that it has gone."""
    pipes = captive(tmp_path, NAMES[0]).pipes
    program = (
        "from pathlib import Path\n"
        "from tests.experiment.test_dask import Machines, NAMES, run\n"
        f"run(Path({str(tmp_path)!r}), {cluster.scheduler_address!r},"
        f" Machines(captive=NAMES[0], pipes=Path({str(pipes)!r})))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as driver:
        (tmp_path / "began").read_text()
        driver.kill()
    assert (tmp_path / "killed").read_text() == "killed\n"


def test_local_runs_do_not_know_it(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from harness.experiment.runner import run_plan\n"
        "sys.exit('distributed' in sys.modules or 'dask' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
