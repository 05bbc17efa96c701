# SPDX-License-Identifier: GPL-2.0
"""`harness clean`: what may go, how much room that makes, and then away with it."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.config import Config
from harness.report import runs

DAY_S = 86400.0


@dataclass(frozen=True)
class Item:
    """Something that may go: a run, a kernel, an archive.  size in bytes."""

    path: Path
    what: str
    size: int


def find(cfg: Config, cache: Path, results: Path, older_than_s: float) -> list[Item]:
    """What nobody needs: runs and left-overs that are older, kernels that harness.toml lost.

    A run that is under way, the latest one, and what belongs to a kernel of harness.toml
    stay.  Age is that of the last change.
    """
    limit = time.time() - older_than_s
    found = [_item(path, what) for path, what in _candidates(cfg, cache, results, limit)]
    return [item for item in found if item.size >= 0]


def _candidates(
    cfg: Config, cache: Path, results: Path, limit: float
) -> Iterator[tuple[Path, str]]:
    latest = (results / "latest").resolve()
    for path in runs.every(results):
        if path != latest and _changed(path / "run.json") < limit and not _under_way(path):
            yield path, "run"
    for pattern, what in (("*-bisect-*", "bisection"), ("*-bench-*", "bench")):
        for path in sorted(results.glob(pattern)):
            old = not (path / "run.json").exists() and _changed(path / "run.log") < limit
            if old and not _under_way(path):
                yield path, what
    for path in sorted(cache.glob("boot-*")):
        if _changed(path) < limit:
            yield path, "what a boot left"
    for path in sorted(cache.glob("parcel-*")):
        if _changed(path) < limit and not _under_way(path):
            yield path, "what a worker left"
    for path in sorted((cache / "kernels").glob("*")):
        if path.is_dir() and path.name not in cfg.kernel and _changed(path) < limit:
            yield path, "kernel that harness.toml does not have"
    limit = min(limit, time.time() - DAY_S)  # a run under way may boot with them
    for path in sorted((cache / "initramfs").glob("*")):
        if _changed(path) < limit:
            yield path, "initramfs"
    for path in sorted((cache / "workloads").glob("set-*")):
        if _changed(path) < limit:
            yield path, "workloads"
    for path in sorted((cache / "artefacts").glob("*")):
        if _changed(path) < limit:
            yield path, "artefact"


def remove(item: Item) -> None:
    """Away with it; OSError when that is not possible."""
    if item.path.is_dir():
        shutil.rmtree(item.path)
    else:
        item.path.unlink(missing_ok=True)


def size(count: int) -> str:
    """A number of bytes as a person reads it."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")  # somebody else removed it: it is no longer ours to remove


def _under_way(path: Path) -> bool:
    """Whether somebody runs it: the lock of store.Run."""
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(held)
    return False


def _item(path: Path, what: str) -> Item:
    total = 0
    for place, _directories, files in os.walk(path):
        for name in files:
            try:
                total += Path(place, name).lstat().st_blocks * 512
            except OSError:
                continue
    if path.is_file():
        total = path.stat().st_blocks * 512
    return Item(path, what, total)
