# SPDX-License-Identifier: GPL-2.0
"""Builds of the real tree: nothing twice, little after a small change, the same bits anywhere."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest

from harness.config import load
from harness.events import silent
from harness.kernel import build, make
from harness.kernel.build import ensure
from tests.vm.conftest import ROOT, Lab, _say


def compiled(log: Path) -> list[str]:
    return re.findall(r"^  CC  +(\S+)", log.read_text(), re.M)


def test_an_unchanged_kernel_starts_no_make(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.image("stock")

    def no_make(*_args: object, **_options: object) -> None:
        raise AssertionError("make was started")

    monkeypatch.setattr(make, "run", no_make)
    assert lab.image("stock").built is False


def test_same_bits_elsewhere_and_little_to_do_after_a_small_change(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One build in another cache serves both questions."""
    here = lab.image("stock")
    cache = tmp_path / "elsewhere"
    (cache / "trees").mkdir(parents=True)
    # The tree is not in question: share the clone, which is read only.
    name = f"{lab.cfg.kernel['stock'].tree}.git"
    shutil.copytree(lab.cache / "trees" / name, cache / "trees" / name, symlinks=True)
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("vm", "workloads"):
        (root / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "harness.toml", root)
    shutil.copytree(ROOT / "patches", root / "patches")
    # What the lab's kernels have compiled serves here, too, whatever its directory was ...
    monkeypatch.setenv("CCACHE_DIR", os.environ.get("CCACHE_DIR", str(lab.cache / "ccache")))

    there = ensure("stock", load(root / "harness.toml"), cache, _say)
    assert there.built
    assert there.id == here.id
    assert hashlib.sha256(there.bzimage.read_bytes()).hexdigest() == (
        hashlib.sha256(here.bzimage.read_bytes()).hexdigest()
    )
    from_nothing = len(compiled(there.log))
    assert from_nothing > 1000

    # ... and is what the compiler makes here.
    home = cache / "kernels" / "stock"
    kept = {path: path.read_bytes() for path in (home / "o" / "mm").glob("*.o")}
    assert len(kept) > 30
    for path in kept:
        path.unlink()
    makefile = make.Makefile("stock", home / "src", home / "o", home / "mm.log")
    recipe = build.resolve("stock", load(root / "harness.toml"), cache, silent)
    settings = build.make_settings(makefile, recipe)
    env = {**build.caching(makefile), "CCACHE_DISABLE": "1"}
    make.run(makefile, ["mm/"], jobs=os.cpu_count() or 1, settings=settings, env=env)
    assert [path.name for path, was in kept.items() if path.read_bytes() != was] == []

    # One line of one patch: what a window in XFS says.
    (patch,) = (root / "patches/race-windows/6.12").glob("0003-xfs-*")
    text = patch.read_text()
    assert "+	if (newsize <= oldsize)" in text
    patch.write_text(text.replace("+	if (newsize <= oldsize)", "+	if (newsize < oldsize)"))
    again = ensure("stock", load(root / "harness.toml"), cache, _say)
    assert again.built and again.id != there.id
    redone = compiled(again.log)
    assert "fs/xfs/xfs_iops.o" in redone
    # The rest is what carries the release string.
    assert len(redone) < 20, redone
