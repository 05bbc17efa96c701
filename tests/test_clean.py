# SPDX-License-Identifier: GPL-2.0
"""What may go and what must stay."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from harness import clean
from tests.experiment.test_runner import SMALL, run
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab

OLD = time.time() - 10 * clean.DAY_S


def aged(path: Path) -> Path:
    if not path.exists():
        path.mkdir(parents=True)
        (path / "file").write_bytes(bytes(5000))
    for each in [*path.rglob("*"), path]:
        os.utime(each, (OLD, OLD))
    return path


def test_what_is_old_and_unused_goes(tmp_path: Path) -> None:
    cfg, cache, results = config(tmp_path, **SMALL), tmp_path / "cache", tmp_path / "results"
    old, held, latest = (run(tmp_path, Lab())[2] for _ in range(3))
    for directory in (old, held, latest):
        aged(directory)
    boot = aged(cache / "boot-stock-abc")
    lost, used = aged(cache / "kernels" / "gone"), aged(cache / "kernels" / "stock")
    programs = aged(cache / "workloads" / "set-0123")
    fresh = cache / "boot-stock-new"
    fresh.mkdir()
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        found = clean.find(cfg, cache, results, 7 * clean.DAY_S)
    finally:
        os.close(lock)
    assert {item.path for item in found} == {old, boot, lost, programs}
    assert all(item.size >= 4096 for item in found)
    for item in found:
        clean.remove(item)
    assert all(path.exists() for path in (held, latest, used, fresh))
    assert not any(path.exists() for path in (old, boot, lost, programs))
    assert [item.path for item in clean.find(cfg, cache, results, 7 * clean.DAY_S)] == [held]


@pytest.mark.parametrize(("kind", "what"), [("bisect", "bisection"), ("bench", "bench")])
def test_what_has_no_cells_goes_too(kind: str, what: str, tmp_path: Path) -> None:
    cfg, results = config(tmp_path, **SMALL), tmp_path / "results"
    for name in (f"20261101T000000Z-{kind}-0123", f"20261102T000000Z-{kind}-run-4567"):
        (results / name).mkdir(parents=True)
        (results / name / "run.log").write_text("said\n")
        aged(results / name)
    found = clean.find(cfg, tmp_path / "cache", results, 7 * clean.DAY_S)
    assert [item.what for item in found] == [what] * 2
    (results / name / "run.log").write_text("and more\n")
    assert len(clean.find(cfg, tmp_path / "cache", results, 7 * clean.DAY_S)) == 1


def test_nothing_is_old(tmp_path: Path) -> None:
    assert clean.find(config(tmp_path, **SMALL), tmp_path / "no", tmp_path / "none", 0) == []


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (2048, "2 KiB"), (5 << 20, "5 MiB"), (3 << 30, "3.0 GiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert clean.size(count) == text
