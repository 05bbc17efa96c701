# SPDX-License-Identifier: GPL-2.0
"""Cells behind an executor: what is sent, what comes back, what becomes of what does not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.errors import InfraError, MachineLostError, UsageError
from harness.events import Event, silent
from harness.experiment import artefacts, parcel, post
from harness.experiment.artefacts import Shelf
from harness.experiment.parcel import Parcel
from harness.experiment.post import Carrier, NobodyLeftError, keep
from harness.experiment.runner import run_plan
from harness.guest.qemu import Accelerator
from harness.guest.splat import Splat
from harness.words import Executor as ExecutorTable
from tests.experiment.test_runner import NAMES, SMALL, only_run, saved, states
from tests.fakes import elsewhere
from tests.fakes.elsewhere import Machines, Pool
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab, Script

PANIC = Splat("panic", "Kernel panic - not syncing: x", "text")
SCRIPTS = {
    NAMES[0]: Script(dies=MachineLostError("panicked"), after=23, splats=[PANIC]),
    NAMES[3]: Script(outcomes=lambda n, _on: "exposed" if n == 17 else "held"),
}


class Here(Executor):
    """Runs a call when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def run(
    tmp_path: Path, machines: Machines | None = None, pool: Carrier | None = None, **options: Any
) -> tuple[dict[str, Any], int, Path]:
    """run.json of a run of "punch" on ext4 by `pool`, its exit code and its directory."""
    pool = pool or Pool(ThreadPoolExecutor(2), tmp_path / "far")
    finished, code = run_plan(
        config(tmp_path, **SMALL), "quick", tmp_path / "cache", tmp_path / "results",
        options.pop("listen", silent), workloads=["punch"], jobs=options.pop("jobs", 2),
        rooms=elsewhere.rooms(machines or Machines(), lambda _table, _listen: pool), **options,
    )  # fmt: skip
    return saved(finished.directory), code, finished.directory


# What differs between two runs of the same cells, wherever they are.
TIMES = {"seconds", "started", "id", "stages", "first_trial_s", "host", "jobs", "qemu", "executor"}
CELL_TIMES = {"wall", "host_load", "worker"}


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """run.json without what is timing or says who ran it."""
    kept = {key: value for key, value in document.items() if key not in TIMES}
    kept["cells"] = [
        {key: value for key, value in cell.items() if key not in CELL_TIMES}
        for cell in document["cells"]
    ]
    return kept


def written(directory: Path) -> dict[str, str]:
    """The files of all cells, but for those that tell times and paths."""
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in sorted(directory.glob("cells/**/*"))
        if path.is_file()
        and path.suffix != ".img"  # disks stay where they are
        and path.name not in ("cell.json", "qemu-cmd")
    }


def test_it_is_a_local_run_up_to_timing(tmp_path: Path) -> None:
    local, code, here = run_plan_locally(tmp_path, Lab(**SCRIPTS))
    far, far_code, there = run(tmp_path, Machines(SCRIPTS))
    assert code == far_code == 1
    assert timeless(far) == timeless(local)
    assert written(there) == written(here)
    assert states(far)[NAMES[0]] == "crashed"
    assert far["executor"]["kind"] == "pool"
    assert far["cells"][0]["worker"]["cpus"] >= 1


def run_plan_locally(tmp_path: Path, lab: Lab) -> tuple[dict[str, Any], int, Path]:
    finished, code = run_plan(
        config(tmp_path, **SMALL), "quick", tmp_path / "cache", tmp_path / "results",
        workloads=["punch"], jobs=2, rooms=lab.rooms(),
    )  # fmt: skip
    document = saved(finished.directory)
    assert document["executor"] == {"kind": "local"}
    return document, code, finished.directory


def test_each_file_is_sent_once_and_nothing_else_is_left(tmp_path: Path) -> None:
    pool = Pool(ThreadPoolExecutor(1), tmp_path / "far")
    run(tmp_path, pool=pool, jobs=1)
    run(tmp_path, pool=(again := Pool(ThreadPoolExecutor(1), tmp_path / "far")), jobs=1)
    assert pool.supplied == ["bzImage", "base", "workloads", "bzImage"]  # two kernels
    assert again.supplied == []
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["artefacts"]
    assert pool.closed


def test_cells_over_boots_are_sent_boot_by_boot(tmp_path: Path) -> None:
    cfg = config(tmp_path, **SMALL, boots=4)
    pool = Pool(ThreadPoolExecutor(2), tmp_path / "far")
    finished, code = run_plan(
        cfg, "quick", tmp_path / "cache", tmp_path / "results", workloads=["punch"], jobs=2,
        rooms=elsewhere.rooms(Machines(), lambda _table, _listen: pool),
    )  # fmt: skip
    assert code == 0
    assert {cell["verdict"]["boots"] for cell in saved(finished.directory)["cells"]} == {4}


def test_what_is_written_names_the_files_here(tmp_path: Path) -> None:
    events: list[Event] = []
    document, _code, directory = run(tmp_path, listen=events.append)
    place = directory / document["cells"][-1]["directory"]
    bzimage = tmp_path / "cache/stock/bzImage"
    assert (place / "qemu-cmd").read_text() == f"qemu -kernel {bzimage} {place}/disk0.img\n"
    assert not (place / "disk0.img").exists()
    trials = [event for event in events if event.kind == "trial"]
    assert len(trials) == 3 * 40 + 50
    (booted,) = [e.message for e in events if e.kind == "boot" and e.subject == NAMES[3]]
    assert booted == f"booting bzImage in {place}"


# --- what comes is not believed -------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\0b", "splats/../../x"])
def test_no_file_is_written_elsewhere(tmp_path: Path, name: str) -> None:
    place = tmp_path / "run/cell"
    place.mkdir(parents=True)
    with pytest.raises(InfraError, match="a name that is none"):
        keep({name: b"x"}, place, {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_files_come_with_their_directories(tmp_path: Path) -> None:
    keep({"hang/who.txt": b"\xff", "a..b": b"1"}, tmp_path, {})
    assert (tmp_path / "hang/who.txt").read_bytes() == b"\xff"
    assert (tmp_path / "a..b").read_bytes() == b"1"


def test_what_is_sent_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcel, "MOST_BYTES", 4)
    (tmp_path / "splats").mkdir()
    (tmp_path / "splats/01-oops.txt").write_bytes(b"12345678")
    (tmp_path / "console.log").write_bytes(b"begins-and-ends")
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    for name in ("disk0.img", "keys.cpio", "host_key"):
        (tmp_path / name).touch()
    files = dict(parcel._files(tmp_path))
    assert set(files) == {"console.log", "splats/01-oops.txt"}
    assert files["splats/01-oops.txt"] == b"12345678"
    assert re.fullmatch(rb"begi\n\[7 bytes were left on \S+\]\nends", files["console.log"])


def test_an_artefact_is_what_it_is_called_or_it_is_not_there(tmp_path: Path) -> None:
    source = tmp_path / "bzImage"
    source.write_bytes(b"kernel")
    artefact, shelf = artefacts.of(source), Shelf(tmp_path)
    assert not shelf.has(artefact)
    with pytest.raises(InfraError, match="bzImage did not arrive as it was sent"):
        shelf.put(artefact, b"kernal")
    assert list(shelf.directory.iterdir()) == []
    shelf.put(artefact, b"kernel")
    assert shelf.has(artefact)
    shelf.path(artefact).write_bytes(b"ke")  # a disk that was full
    assert not shelf.has(artefact)
    shelf.put(artefact, b"kernel")
    assert shelf.has(artefact)


def test_what_a_killed_worker_left_is_removed(tmp_path: Path) -> None:
    with parcel._desk(tmp_path) as used:
        left = tmp_path / "parcel-left"
        left.mkdir()
        for path in (used, left):
            (path / "disk0.img").touch()
            os.utime(path, (0, 0))
        with parcel._desk(tmp_path) as mine:
            assert used.exists() and mine.exists()
            assert not left.exists()
    assert list(tmp_path.iterdir()) == []


# --- what goes wrong --------------------------------------------------------------


class Unlucky(Pool):
    """Raises instead of an answer for one cell, which was begun or not."""

    def __init__(self, tmp_path: Path, cell: str, error: Exception, begun: str, times: int) -> None:
        super().__init__(Here(), tmp_path / "far")
        self.cell, self.error, self.where, self.times = cell, error, begun, times
        self.sent: list[str] = []

    def submit(self, sent: Parcel) -> Future[parcel.Answer]:
        self.sent.append(sent.job.cell.name)
        if sent.job.cell.name == self.cell and self.times:
            self.times -= 1
            return failed(self.error)
        return super().submit(sent)

    def begun(self, sent: Parcel) -> str:
        return self.where


def failed(error: Exception) -> Future[parcel.Answer]:
    future: Future[parcel.Answer] = Future()
    future.set_exception(error)
    return future


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("comm closed"), "worker tcp://w:1 was lost"),
        (InfraError("the disk is full"), "worker tcp://w:1: the disk is full"),
        (TimeoutError("comm"), "worker tcp://w:1 was lost"),
    ],
)
def test_a_cell_that_was_begun_is_lost_and_no_other(
    tmp_path: Path, error: Exception, why: str
) -> None:
    pool = Unlucky(tmp_path, NAMES[1], error, "tcp://w:1", times=1)
    document, code, directory = run(tmp_path, pool=pool)
    assert code == 125
    assert states(document) == dict(
        zip(NAMES, ["exposed", "lost", "held", "held"], strict=True)
    )
    cell = document["cells"][1]
    assert (cell["verdict"]["reason"], cell["verdict"]["outcomes"]["lost"]) == (why, 1)
    assert (cell["attempts"], cell["worker"]) == (1, {"address": "tcp://w:1"})
    assert pool.sent.count(NAMES[1]) == 1
    (trial,) = (directory / cell["directory"] / "trials.jsonl").read_text().splitlines()
    assert json.loads(trial)["outcome"] == "lost"


def test_a_cell_that_was_not_begun_is_sent_again(tmp_path: Path) -> None:
    pool = Unlucky(tmp_path, NAMES[1], RuntimeError("killed"), "", times=post.FAILURES - 1)
    document, code, _directory = run(tmp_path, pool=pool)
    assert code == 0
    assert document["cells"][1]["attempts"] == 1


def test_what_can_never_be_sent_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    pool = Unlucky(tmp_path, NAMES[0], TypeError("cannot pickle"), "", times=99)
    with pytest.raises(InfraError, match="it could not be run: TypeError: cannot pickle"):
        run(tmp_path, pool=pool, jobs=1)
    assert pool.sent.count(NAMES[0]) == 2 * post.FAILURES
    assert saved(only_run(tmp_path))["status"] == "failed"


def test_the_end_of_the_cluster_is_the_end_of_the_run(tmp_path: Path) -> None:
    class Gone(Unlucky):
        def check(self) -> None:
            raise NobodyLeftError("the Dask scheduler went away")

    pool = Gone(tmp_path, NAMES[2], RuntimeError("killed"), "w", times=1)
    with pytest.raises(InfraError, match="went away"):
        run(tmp_path, pool=pool, jobs=1)
    document = saved(only_run(tmp_path))
    assert (document["status"], document["exit_code"]) == ("failed", 125)
    assert list(states(document)) == NAMES[:2]
    assert document["not_run"] == NAMES[2:]


def test_the_end_that_is_found_while_an_answer_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "TICK_S", 0.01)

    class Silent(Unlucky):
        """Answers one cell never, and says only once that nobody is left."""

        told = False

        def submit(self, sent: Parcel) -> Future[parcel.Answer]:
            return Future() if sent.job.cell.name == self.cell else super().submit(sent)

        def check(self) -> None:
            if not self.told:
                self.told = True
                raise NobodyLeftError("no worker is left")

    with pytest.raises(InfraError, match="no worker is left"):
        run(tmp_path, pool=Silent(tmp_path, NAMES[2], RuntimeError(), "w", times=0), jobs=1)
    assert saved(only_run(tmp_path))["not_run"] == NAMES[2:]


class Picky(Pool):
    """Two workers, each of which may be refused; the first has the next word."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(Here(), tmp_path / "far")
        self.refused: dict[str, str] = {}

    def submit(self, sent: Parcel) -> Future[parcel.Answer]:
        if "w1" not in self.refused:
            return Here().submit(parcel.Refusal, "w1", "KVM does not work here")
        return super().submit(sent)

    def refuse(self, worker: str, why: str) -> None:
        self.refused[worker] = why


def test_a_worker_that_is_not_like_the_others_is_not_used(tmp_path: Path) -> None:
    pool = Picky(tmp_path)
    document, code, _directory = run(tmp_path, pool=pool)
    assert code == 0
    assert pool.refused == {"w1": "KVM does not work here"}
    assert {cell["attempts"] for cell in document["cells"]} == {1}


def test_another_harness_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcel, "version", iter("abcdefgh").__next__)
    with pytest.raises(InfraError, match="it has another version of the harness"):
        run(tmp_path)


def kvm(asked: str) -> Accelerator:
    return Accelerator("kvm", 1.0, f"asked for {asked}")


def test_one_accelerator_for_all_workers(tmp_path: Path) -> None:
    class Two(Pool):
        def hosts(self, asked: str, probe: parcel.Probe) -> dict[str, parcel.Host]:
            return {"w1": parcel.look(asked, kvm), "w2": parcel.look(asked, elsewhere.probe)}

    accelerator, hosts = Two(Here(), tmp_path).survey("auto", elsewhere.probe)
    assert accelerator.name == "tcg"
    assert accelerator.reason.endswith(" keeps all from KVM: no vmx in /proc/cpuinfo")
    assert set(hosts) == {"w1", "w2"}


def test_a_worker_without_the_accelerator_that_is_asked_for(tmp_path: Path) -> None:
    def broken(_asked: str) -> Accelerator:
        raise InfraError("KVM does not work here: no vmx", hint='set accel = "auto" or "tcg"')

    with pytest.raises(InfraError, match=r"cannot be used: KVM .* \(try: set accel"):
        Pool(Here(), tmp_path).survey("kvm", broken)


def test_a_plain_executor_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="lacks bzImage"):
        run(tmp_path, pool=Carrier(Here(), tmp_path / "far"))


def test_a_core_stays_where_it_is(tmp_path: Path) -> None:
    cfg = config(tmp_path, **SMALL)
    table = ExecutorTable(kind="dask", address="tcp://127.0.0.1:1")
    cfg = msgspec.structs.replace(cfg, executor=table)
    with pytest.raises(UsageError, match="--core"):
        run_plan(cfg, "quick", tmp_path / "cache", tmp_path / "results", core=True)


def test_symbols_are_the_senders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Symbols:
        def annotate(self, text: str, _stopped: Callable[[], bool]) -> str:
            return f"{text} (fs/x.c:7)"

    monkeypatch.setattr("harness.guest.symbols.beside", lambda _bzimage: Symbols())
    splat = Splat("warning", "WARNING: at x_punch", "x_punch+0x1/0x2")
    document, _code, directory = run(tmp_path, Machines({NAMES[3]: Script(splats=[splat])}))
    assert document["cells"][3]["splats"][0]["at"] == "fs/x.c:7"
    (told,) = directory.glob("cells/stock/**/splats/*.txt")
    assert told.read_text() == "WARNING: at x_punch\nat fs/x.c:7\n\nx_punch+0x1/0x2 (fs/x.c:7)\n"
