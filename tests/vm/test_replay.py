# SPDX-License-Identifier: GPL-2.0
"""Exposures that repeat, on the real control kernel.

What is stored repeats on the host it was found on. Where kernel, QEMU or tools are others it is
found again first, by what its file says: then the new one has to repeat.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.places import COORDINATES
from harness.replay.coordinate import Coordinate, read
from tests.vm.conftest import ROOT

STORED = sorted((ROOT / COORDINATES).glob("*.toml"))
# A replay takes ten seconds, and finding one again two or three of them.  So many a day, the
# next ones tomorrow: each is seen twice a week.
A_DAY = 4


def of_today(stored: list[Path]) -> list[Path]:
    """Some of them; every one has its day."""
    turns = max(1, -(-len(stored) // A_DAY))
    turn = datetime.datetime.now(datetime.UTC).date().toordinal() % turns
    return stored[turn::turns]


def run(*words: str, where: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "harness", "--config", str(ROOT / "harness.toml"), *words]
    return subprocess.run(
        argv, cwd=where, capture_output=True, text=True, check=False, env=None, timeout=2000
    )


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def here(path: Path, where: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A coordinate that can be replayed here, and its first replay."""
    done = run("replay", str(path), where=where)
    if done.returncode != 125:
        return path, done
    assert "recorded with another" in done.stderr, done.stderr
    assert f"try: harness explore --again {path}" in done.stderr
    again = run("explore", "--again", str(path), where=where)
    assert again.returncode == 0, again.stdout + again.stderr
    (found,) = re.findall(r"harness replay (\S+)", again.stdout)
    return where / found, run("replay", str(where / found), where=where)


def test_every_race_with_a_coordinate_is_of_the_suite() -> None:
    assert len({read(path).workload for path in STORED}) >= 15
    assert {read(path).filesystem[:3] for path in STORED} == {"ext", "xfs"}


@pytest.mark.parametrize("path", of_today(STORED), ids=lambda path: path.stem)
def test_a_stored_exposure_is_the_same_to_the_last_bit(path: Path, where: Path) -> None:
    _path, done = here(path, where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 identical" in done.stdout


def test_another_seed_is_another_boot_and_its_first_line_is_named(where: Path) -> None:
    """The comparison can fail: of a coordinate with one digit changed."""
    path, done = here(STORED[0], where)
    assert done.returncode == 0
    one: Coordinate = read(path)
    other = where / "other.toml"
    other.write_text(path.read_text().replace(one.trace, "0" * 64))
    done = run("replay", str(other), where=where)
    assert done.returncode == 1
    assert "0 of 1 identical" in done.stdout
    other.write_text(path.read_text().replace(one.initramfs, "0" * 64))
    done = run("replay", str(other), where=where)
    assert done.returncode == 125
    assert "recorded with another initramfs" in done.stderr


def test_gdb_says_where_each_cpu_is(where: Path) -> None:
    stored = next(path for path in STORED if path.stem.startswith("punch-write-fault"))
    path, _done = here(stored, where)
    done = run("replay", str(path), "--gdb", "--before", "2", where=where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"stopped at window hit \d+ of \d+ before the exposure: race-[ab] in \w+",
                     done.stdout)  # fmt: skip
    assert "CPU 0: " in done.stdout and "CPU 1: " in done.stdout
    assert re.search(r"    __race_window lib/race_window.c:\d+\n", done.stdout)
