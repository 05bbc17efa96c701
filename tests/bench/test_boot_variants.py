# SPDX-License-Identifier: GPL-2.0
"""Other ways to start a machine, beside ours: none is quicker by a tenth.

One kernel that can be started in each of these ways, an init that says that it is there and
powers off, bare QEMU, boots in turns.  A microvm is not among them: five boots of six hung before
their first timer interrupt.  Run it with `make bench`; docs/guest.md has the figures.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config import Config, load
from harness.events import silent
from harness.guest import initramfs
from harness.guest.programs import compile_workloads
from harness.kernel import build
from harness.kernel.image import Image
from harness.places import cache_dir
from tests.bench import bare

ROOT = Path(__file__).parents[2]
KERNEL = "stock-vng"
ROUNDS = 7
# What a way must gain to be worth a change, as qboot did.
WORTH = 0.9
INIT = f"""{bare.SHEBANG}mount -t proc proc /proc
echo "there with $(nproc) CPUs"
poweroff -f
"""

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

Change = Callable[[list[str], Image], list[str]]


def put(option: str, value: str) -> Change:
    """Another value of an option that is given once."""

    def change(argv: list[str], _: Image) -> list[str]:
        at = argv.index(option) + 1
        return [*argv[:at], value, *argv[at + 1 :]]

    return change


def with_seabios(argv: list[str], _: Image) -> list[str]:
    """QEMU's own firmware."""
    at = argv.index("-bios")
    return [*argv[:at], *argv[at + 2 :]]


def uncompressed(argv: list[str], image: Image) -> list[str]:
    """The kernel as an ELF file: QEMU jumps to its PVH entry, and there is nothing to unpack."""
    return put("-kernel", str(image.vmlinux))(argv, image)


def with_boot_rom(argv: list[str], _: Image) -> list[str]:
    """The network card has its ROM to boot from, as QEMU gives it."""
    return [word.removesuffix(",romfile=") for word in argv]


VARIANTS: dict[str, list[Change]] = {
    "as `harness boot` starts it": [],
    "a boot ROM on the network card": [with_boot_rom],
    "uncompressed kernel (PVH)": [uncompressed],
    "SeaBIOS instead of qboot": [with_seabios],
}
SMALL = "an initramfs of busybox only"


@pytest.fixture(scope="module")
def cfg() -> Config:
    return load(ROOT / "harness.toml")


@pytest.fixture(scope="module")
def image(cfg: Config) -> Image:
    return build.ensure(KERNEL, cfg, cache_dir())


def archive(place: Path, *, small: bool) -> Path:
    """An initramfs with that init: all that a guest of ours has, or a shell."""
    if small:
        parts = initramfs.bare({}, ("busybox",), cache_dir())
    else:
        programs = compile_workloads(ROOT, cache_dir(), silent)
        parts = initramfs.common(programs, cache_dir(), ROOT)
    return bare.archive(place / ("small" if small else "whole"), INIT, parts)


def boot(cfg: Config, image: Image, place: Path, root: Path, changes: list[Change]) -> float:
    """Seconds from QEMU's start to its end, with both CPUs up."""
    argv = bare.command(cfg, image.bzimage, root, place)
    for change in changes:
        argv = change(argv, image)
    done = bare.boot(argv, limit_s=60.0)
    told = f"{' '.join(argv)}\nstatus {done.status}:\n{done.said[-2000:]}"
    assert done.status == 0 and "there with 2 CPUs" in done.said, told
    return done.seconds


def test_no_other_way_to_start_is_much_quicker(
    cfg: Config, image: Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, small = (archive(tmp_path, small=small) for small in (False, True))
    ways = [(name, whole, changes) for name, changes in VARIANTS.items()]
    ways.append((SMALL, small, []))
    seconds: dict[str, list[float]] = {name: [] for name, *_ in ways}
    for number in range(ROUNDS):
        shift = number % len(ways)
        for name, root, changes in ways[shift:] + ways[:shift]:
            seconds[name].append(boot(cfg, image, tmp_path, root, changes))
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ours = medians[next(iter(VARIANTS))]
    with capsys.disabled():
        print(f"\n{os.cpu_count()} CPUs, {ROUNDS} boots each")
        for name, median in medians.items():
            least, most = min(seconds[name]), max(seconds[name])
            print(f"| {name} | {median:.2f} s ({least:.2f} to {most:.2f}) | {median / ours:.2f} |")
    # What the harness does about it: no program that a plan does not need (plan.needed()).
    assert medians[SMALL] < WORTH * ours
    better = {name: round(median / ours, 2) for name, median in medians.items()}
    assert min(median for name, median in better.items() if name != SMALL) >= WORTH
