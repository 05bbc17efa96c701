# SPDX-License-Identifier: GPL-2.0
"""What befalls the harness and QEMU from outside, while a real run is under way."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import load
from harness.kernel.build import ensure
from harness.places import cache_dir
from tests.experiment.test_resume import contents
from tests.faults.conftest import ROWS, Campaign, Row
from tests.vm.conftest import ROOT, qemus

pytestmark = pytest.mark.slow
CELLS = 6
LIMIT_S = 120.0


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """What condition() gives as soon as it gives something; fails when the run ends first."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.002)
    raise AssertionError("it did not come about")


def hanging(campaign: Campaign, **plan: Any) -> tuple[subprocess.Popen[str], int]:
    """A run whose one trial never ends, and its QEMU."""
    campaign.write(["hang"], jobs=1, **plan)
    process = campaign.start("run", "truth")

    def under_way() -> list[int]:
        # The reproducer's own word: before it no trial is under way, and the cell would
        # be run once more.
        said = [path.read_text() for path in campaign.place.glob("results/*/cells/**/output.txt")]
        return qemus(campaign.place) if any('"workload"' in text for text in said) else []

    (pid,) = wait_for(under_way, process)
    return process, pid


def only_verdict(campaign: Campaign) -> dict[str, Any]:
    (cell,) = campaign.document()["cells"]
    verdict = cell["verdict"]
    assert isinstance(verdict, dict)
    return verdict


@pytest.mark.parametrize(
    "number, said",
    [(signal.SIGKILL, "QEMU ended with signal SIGKILL"), (signal.SIGSTOP, "stopped QEMU")],
)
def test_qemu_killed_or_stopped(campaign: Campaign, number: signal.Signals, said: str) -> None:
    process, pid = hanging(campaign)
    os.kill(pid, number)
    out, _ = process.communicate()
    verdict = only_verdict(campaign)
    assert (verdict["state"], process.returncode) == ("lost", 125), out
    assert said in verdict["reason"]
    assert campaign.left_behind() == []
    ROWS.append(Row(f"{number.name} to QEMU", "lost, exit 125", "lost, exit 125", "error.txt"))


def test_qemu_refused_at_start(campaign: Campaign, tmp_path: Path) -> None:
    campaign.write([""])
    place = tmp_path / "bin"
    place.mkdir()
    fake = place / "qemu-system-x86_64"
    fake.write_text("#!/bin/sh\necho 'qemu: no such machine' >&2\nexit 1\n")
    fake.chmod(0o755)
    code, said = campaign.run("run", "truth", environment={"PATH": f"{place}:{os.environ['PATH']}"})
    assert code == 125
    assert "QEMU ended with exit status 1: qemu: no such machine" in said
    assert campaign.left_behind() == []
    ROWS.append(Row("QEMU refuses to start", "exit 125", f"exit {code}", "the line it ends with"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting wants root")
def test_results_full(campaign: Campaign) -> None:
    campaign.write([""] * CELLS, cells_per_boot=1)
    results = campaign.place / "results"
    results.mkdir()
    # Room for a few machines: each has an initramfs of 14 MiB and a disk that is written to.
    size = ["mount", "-t", "tmpfs", "-o", "size=400m", "none", str(results)]
    subprocess.run(size, check=True)
    try:
        ballast = results / "ballast"
        code, said = campaign.run("run", "truth", "-w", "c001-clean", "-w", "c002-clean")
        assert code == 0, said
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        code, said = campaign.run("run", "truth")
        assert code == 125
        assert "disk full" in said or "No space left" in said
        ballast.unlink()
        code, said = campaign.run("run", "truth")
        assert code == 0, said
    finally:
        subprocess.run(["umount", "-l", str(results)], check=True)
    assert qemus(campaign.place) == []
    ROWS.append(
        Row("results/ has no room left", "exit 125; well again with room", "so it was", "run.json")
    )


def test_a_corrupted_image_is_not_booted(campaign: Campaign) -> None:
    cfg = load(ROOT / "harness.toml")
    image = ensure("stock", cfg, cache_dir())
    stat = image.bzimage.stat()
    whole = image.bzimage.read_bytes()
    broken = bytearray(whole)
    broken[len(broken) // 2] ^= 0xFF
    image.bzimage.write_bytes(broken)
    os.utime(image.bzimage, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    campaign.write([""])
    code, said = campaign.run("run", "truth")
    assert code == 0, said
    assert ensure("stock", cfg, cache_dir()).bzimage.read_bytes() == whole
    ROWS.append(Row("a bit flips in a cached bzImage", "made again", "made again", "build.log"))


def test_panic_at_boot(campaign: Campaign) -> None:
    """Each cell says so; the kernel is not booted again and again."""
    line = 'accel = "auto"'
    campaign.write([""] * 4, jobs=1, instead={line: f'{line}\ncmdline = ["rdinit=/nowhere"]'})
    code, said = campaign.run("run", "truth")
    assert code == 125, said
    verdicts = [cell["verdict"] for cell in campaign.document()["cells"]]
    assert [verdict["state"] for verdict in verdicts] == ["untested"] * 4
    assert all("panic at boot: Kernel panic" in v["reason"] for v in verdicts[:2])
    assert all("did not boot in 2 earlier cells" in v["reason"] for v in verdicts[2:])
    assert campaign.left_behind() == []
    ROWS.append(
        Row("kernel panic at boot", "untested, exit 125", "untested, exit 125", "console.log")
    )


# What mke2fs made is overwritten, the superblock excepted, and an error is to panic.
# busybox has an mke2fs of its own, which would come first.
DAMAGE = (
    '/sbin/mke2fs -q -F -t ext4 -b 4096 -e panic "$0" && '
    'dd if=/dev/urandom of="$0" bs=4096 seek=16 count=8000 conv=notrunc 2>/dev/null'
)


def test_panic_while_mounting(campaign: Campaign) -> None:
    mkfs = re.search(
        r'^mkfs = \["mkfs.ext4".*\]$', (ROOT / "harness.toml").read_text(), re.MULTILINE
    )
    assert mkfs is not None
    broken = f"mkfs = {json.dumps(['sh', '-c', DAMAGE])}"
    campaign.write(["", ""], jobs=1, instead={mkfs[0]: broken, '["noatime"]': '["errors=panic"]'})
    code, said = campaign.run("run", "truth")
    assert code == 1, said
    cells = campaign.document()["cells"]
    assert [cell["verdict"]["state"] for cell in cells] == ["crashed"] * 2
    assert all("panic forced after error" in cell["verdict"]["reason"] for cell in cells)
    assert all(cell["splats"][-1]["kind"] == "panic" for cell in cells)
    assert campaign.left_behind() == []
    ROWS.append(
        Row("kernel panic while mounting", "crashed, exit 1", "crashed, exit 1", "splats")
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting wants root")
def test_cache_full(campaign: Campaign, tmp_path: Path) -> None:
    """Kernels are there, but nothing else fits."""
    campaign.write([""])
    cache = tmp_path / "cache"
    cache.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(cache)], check=True)
    try:
        for room in ("kernels", "trees", "apt"):
            (cache / room).symlink_to(cache_dir() / room)
        environment = {"HARNESS_CACHE": str(cache)}
        code, said = campaign.run("run", "truth", environment=environment)
        assert code == 125
        assert "no space left" in said.lower()
        assert "df -h" in said or "free some space" in said
    finally:
        subprocess.run(["umount", "-l", str(cache)], check=True)
    assert campaign.left_behind() == []
    ROWS.append(Row("the cache has no room left", "exit 125", f"exit {code}", "the last line"))


def test_a_workload_that_rotted_in_the_cache(campaign: Campaign) -> None:
    """A program that fails would be blamed on the kernel."""
    campaign.write([""])
    code, said = campaign.run("run", "truth")
    assert code == 0, said
    programs = cache_dir() / "workloads" / f"set-{campaign.document()['programs']}"
    truth = programs / "gates/truth"
    whole = truth.read_bytes()
    truth.write_bytes(whole[: len(whole) // 2])
    code, said = campaign.run("run", "truth")
    assert code == 0, said
    assert truth.read_bytes() == whole
    ROWS.append(Row("half of a cached workload is gone", "made again", "made again", "run.json"))


def finished_cells(run: Path) -> dict[str, dict[str, bytes]]:
    """The files of each finished cell; run.json is whole whenever it is there."""
    path = run / "run.json"
    if not path.exists():
        return {}
    document = json.loads(path.read_text())
    return {
        cell["name"]: {
            name: data
            for name, data in contents(run / cell["directory"]).items()
            if not name.startswith("interrupted-")
        }
        for cell in document["cells"]
    }


def test_killed_at_twenty_random_moments(campaign: Campaign) -> None:
    """SIGKILL to the whole process group; then --resume, until a run of it ends by itself."""
    names = campaign.write([""] * CELLS, cells_per_boot=2)
    draw = random.Random(20)
    kills = 0
    while kills < 20:
        process = campaign.start("run", "truth")
        before: dict[str, dict[str, bytes]] = {}
        while True:
            # A whole run takes 8 to 20 s, of which the first is imports and compilers.
            moment = time.monotonic() + draw.uniform(0.3, 8.0)
            while time.monotonic() < moment and process.poll() is None:
                time.sleep(0.01)
            if process.poll() is not None:
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            latest = campaign.place / "results/latest"
            run = latest.resolve() if latest.exists() else None
            now = finished_cells(run) if run is not None else {}
            if run is not None:
                for name, files in before.items():
                    assert now[name] == files, f"{name} was finished, and changed"
                before = now
            wait_for_no_qemu(campaign)
            resumable = [
                path for path in campaign.place.glob("results/2*/run.json")
                if json.loads(path.read_text())["status"] != "finished"
            ]  # fmt: skip
            process = campaign.start("run", *(["--resume"] if resumable else ["truth"]))
        said, _ = process.communicate()
        assert process.returncode == 0, said
        document = campaign.document()
        assert document["status"] == "finished", said
        assert sorted(cell["name"] for cell in document["cells"]) == sorted(names)
        after = finished_cells((campaign.place / "results/latest").resolve())
        assert {name: after[name] for name in before} == before
        assert campaign.left_behind() == []
    ROWS.append(
        Row("SIGKILL to the harness and all it started, then --resume", "finished cells unchanged",
            "unchanged; the rest run", "run.json", kills)
    )  # fmt: skip


def wait_for_no_qemu(campaign: Campaign) -> None:
    deadline = time.monotonic() + 10
    while qemus(campaign.place):
        assert time.monotonic() < deadline, "QEMU outlived the harness"
        time.sleep(0.01)
