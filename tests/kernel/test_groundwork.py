# SPDX-License-Identifier: GPL-2.0
"""git's part of a build, done before the build is asked for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness import config
from harness.errors import BuildError
from harness.events import silent
from harness.kernel import build, series
from harness.kernel.groundwork import Groundwork
from tests.fakes import kernel as fake


def _tarred(root: Path, names: tuple[str, ...]) -> config.Config:
    """An experiment on the fake kernel as a tarball: what is looked at once only."""
    tarball = root / "linux.tar"
    if not tarball.exists():
        subprocess.run(["tar", "-C", root, "-cf", tarball, "linux"], check=True)
    tree = config.Tree(kind="tarball", line="6.12", path="linux.tar")
    return fake.experiment(root, series=names, tree=tree)


def _series(root: Path, name: str, word: str) -> None:
    changed = {"mm/filemap.c": ("int filemap_5;", f"int filemap_{word};")}
    fake.write_series(root, name, {"0001-one.patch": fake.patch(f"mm: {word}", changed)})


@pytest.fixture
def built(root: Path, cache: Path) -> config.Config:
    """A kernel that was built, and has another patch now."""
    _series(root, "one", "five")
    build.ensure("stock", _tarred(root, ("one",)), cache)
    _series(root, "one", "v")
    return _tarred(root, ("one",))


def test_the_build_finds_its_patches_applied(
    built: config.Config, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groundwork = Groundwork("stock", built, cache)
    groundwork.wait()

    def done_before(*_: object) -> None:
        raise AssertionError("that has been done")

    monkeypatch.setattr(series, "_am", done_before)
    image = groundwork.ensure("stock", built, cache, silent)
    assert image.built
    assert "int filemap_v;" in image.vmlinux.read_text()


def test_a_kernel_that_is_there_is_left_alone(built: config.Config, cache: Path) -> None:
    build.ensure("stock", built, cache)
    stray = cache / "kernels/stock/src/stray.c"
    stray.write_text("")
    groundwork = Groundwork("stock", built, cache)
    assert not groundwork.ensure("stock", built, cache, silent).built
    assert stray.exists()


def test_a_patch_that_does_not_apply_is_told_by_the_build(
    root: Path, built: config.Config, cache: Path
) -> None:
    _series(root, "one", "w")
    path = root / "patches/one/6.12/0001-one.patch"
    path.write_text(path.read_text().replace("-int filemap_5;", "-int filemap_6;"))
    groundwork = Groundwork("stock", built, cache)
    with pytest.raises(BuildError, match=r"series one: 0001-one\.patch does not apply"):
        groundwork.ensure("stock", built, cache, silent)


def test_a_tree_is_fetched_when_somebody_waits_for_it(
    built: config.Config, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(_repo(built, cache))
    looked: list[str] = []
    monkeypatch.setattr(build, "resolve", lambda name, *_: looked.append(name))
    groundwork = Groundwork("stock", built, cache)
    groundwork._thread.join()
    assert not looked


def _repo(cfg: config.Config, cache: Path) -> Path:
    return build.resolve("stock", cfg, cache, silent).source.repo
