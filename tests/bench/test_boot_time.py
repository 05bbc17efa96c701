# SPDX-License-Identifier: GPL-2.0
"""From QEMU's start to a command's output: our guest against virtme-ng's.

The same bzImage for both (it has the 9p and virtio-console that virtme-ng wants),
the same CPUs and memory, no KVM, boots taken in turns so that a busy host slows
both.  Run it with `make bench`; it builds the kernel first if it must.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import config
from harness.guest.machine import Machine, MachineSpec
from harness.guest.qemu import probe_accelerator
from harness.kernel import build
from harness.places import cache_dir

ROOT = Path(__file__).parents[2]
VIRTME = "virtme-ng==1.42"
BOOTS = 5
WORST_RATIO = 0.4

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def image() -> Path:
    """The kernel that both can boot, with the file that virtme-ng looks for beside it."""
    cfg = config.load(ROOT / "harness.toml")
    return build.ensure("stock-vng", cfg, cache_dir()).bzimage


@pytest.fixture(scope="module")
def virtme() -> Path:
    """virtme-ng from PyPI, in a directory of its own in the cache."""
    place = cache_dir() / "bench" / VIRTME.replace("==", "-")
    if not (place / "bin/vng").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(place), VIRTME]
        subprocess.run(pip, check=True)
    return place


def ours(image: Path, directory: Path) -> float:
    """Seconds from QEMU's start to the first SSH command's output."""
    spec = MachineSpec(
        bzimage=image,
        cpus=2,
        memory_mib=1024,
        accelerator=probe_accelerator("tcg"),
        disk_mib=512,
        programs={},
    )
    came = 0.0

    def line(_line: str) -> None:
        nonlocal came
        came = time.monotonic()

    entered = time.monotonic()
    with Machine(spec, directory, ROOT, cache_dir()) as machine:
        machine.run("echo output", on_stdout_line=line)
        return came - entered - machine.wall["start"]


def theirs(image: Path, virtme: Path, place: Path) -> float:
    """Seconds of `vng --run IMAGE --disable-kvm -- true`, whole."""
    here = place / "bzImage"
    if not here.exists():
        shutil.copy(image, here)
        (place / "modules.order").touch()
    path = f"{virtme / 'bin'}:{os.environ['PATH']}"
    options = ["--run", str(here), "--disable-kvm", "--cpus", "2", "--memory", "1G"]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(virtme / "bin/vng"), *options, "--", "true"],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(virtme)},
        cwd=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, f"vng failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return seconds


def test_first_output_takes_two_fifths_of_virtme_ng(
    image: Path, virtme: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds: dict[str, list[float]] = {"ours": [], "vng": []}
    for number in range(BOOTS):
        seconds["ours"].append(ours(image, tmp_path / f"ours-{number}"))
        seconds["vng"].append(theirs(image, virtme, tmp_path))
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ratio = medians["ours"] / medians["vng"]
    with capsys.disabled():
        for name, taken in seconds.items():
            each = " ".join(f"{one:.2f}" for one in taken)
            print(f"\n{name:5} median {medians[name]:.2f} s of {each}", end="")
        print(f"\nratio of medians {ratio:.2f}, at most {WORST_RATIO}")
    assert ratio <= WORST_RATIO
