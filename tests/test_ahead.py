# SPDX-License-Identifier: GPL-2.0
"""What is begun before it is asked for: the same answers, the same errors, and no leftovers."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ending
from harness.ahead import Ahead
from harness.config import Tree
from harness.errors import BuildError
from harness.events import Event
from harness.experiment.runner import Rooms
from harness.guest.programs import compile_workloads
from tests.fakes import kernel as fake
from tests.guest.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One workload, the project's own Makefile, a fake kernel."""
    workloads = tmp_path / "checkout/workloads"
    (workloads / "lib").mkdir(parents=True)
    (workloads / "preflight.c").write_text("int main(void) { return 0; }\n")
    (workloads / "lib/help.c").write_text("int help;\n")
    (workloads / "Makefile").write_text((ROOT / "workloads/Makefile").read_text())
    fake.linux(tmp_path / "checkout/linux")
    fake.write_fragment(tmp_path / "checkout", "base", "# Two CPUs.\nCONFIG_SMP=y\n")
    return tmp_path / "checkout"


def test_the_run_gets_what_it_would_have_made(checkout: Path, tmp_path: Path) -> None:
    cache, ear = tmp_path / "cache", fake.Ear()
    with Ahead(fake.experiment(checkout), ["stock"], cache) as ahead:
        rooms = ahead.rooms()
        made = rooms.compile_workloads(checkout, cache, ear)
        image = rooms.ensure("stock", fake.experiment(checkout), cache, ear)
    assert made == compile_workloads(checkout, cache)
    assert ear.said("note") == "1 programs"
    assert image.built
    assert image.bzimage.is_file()
    as_ever = Rooms(compile_workloads=rooms.compile_workloads, ensure=rooms.ensure)
    assert rooms == as_ever, "the other doors are the real ones"


def test_a_mistake_is_told_when_it_is_asked_for(checkout: Path, tmp_path: Path) -> None:
    (checkout / "workloads/preflight.c").write_text("int main(void) { return nothing; }\n")
    with Ahead(fake.experiment(checkout), [], tmp_path / "cache") as ahead:
        rooms = ahead.rooms()
        with pytest.raises(BuildError, match=r"preflight\.c:1:\d+: error: .*nothing"):
            rooms.compile_workloads(checkout, tmp_path / "cache", fake.Ear())


def test_a_run_that_ends_early_leaves_no_compiler(checkout: Path, tmp_path: Path) -> None:
    """And nothing half-written, which the next make would take for finished."""
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    (checkout / "workloads/Makefile").write_text(
        "all: $(OUT)/half\n$(OUT)/half:\n"
        f"\techo half > $@; sleep 600 & echo $$! > {begun}; wait\n"
    )
    with Ahead(fake.experiment(checkout), [], tmp_path / "cache"):
        compiler = os.pidfd_open(int(begun.read_text()))
    assert select.select([compiler], [], [], 10)[0], "the compiler goes on"
    os.close(compiler)
    assert not list((tmp_path / "cache").rglob("half"))


def test_what_is_told_after_the_question_is_heard_too(checkout: Path, tmp_path: Path) -> None:
    """A series of a thousand patches is applied for minutes."""
    fake.write_series(checkout, "one", {"0001-one.patch": fake.patch(
        "mm: one", {"mm/filemap.c": ("int filemap_5;", "int filemap_five;")})})  # fmt: skip
    tarball = tmp_path / "linux.tar"
    subprocess.run(["tar", "-C", checkout, "-cf", tarball, "linux"], check=True)
    tree = Tree(kind="tarball", line="6.12", path=str(tarball))
    cfg, ear = fake.experiment(checkout, series=["one"], tree=tree), fake.Ear()
    with Ahead(cfg, ["stock"], tmp_path / "cache") as ahead:
        image = ahead.rooms().ensure("stock", cfg, tmp_path / "cache", ear)
    assert image.built
    assert ear.said("series").splitlines() == ["0001-one.patch", "applied"]
    assert "importing linux.tar" in ear.said("tree")


def test_the_last_collection_is_left_out() -> None:
    """Of a second that a short command takes, a fifth was Python putting itself away."""
    code = (
        "import atexit, gc\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"  # called after ours
        f"from {ending.__name__} import prepare_process\n"
        "prepare_process(); prepare_process()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "True\n"


def test_events_of_the_maker_come_once(checkout: Path, tmp_path: Path) -> None:
    said: list[Event] = []
    with Ahead(fake.experiment(checkout), [], tmp_path / "cache") as ahead:
        ahead.programs(checkout, tmp_path / "cache", said.append)
    assert len(said) == 1
