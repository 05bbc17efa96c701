# SPDX-License-Identifier: GPL-2.0
"""steps(): the kernel in miniature after each of its patches."""

from __future__ import annotations

from pathlib import Path

import filelock
import pytest

from harness.config import Config
from harness.errors import BuildError, UsageError
from harness.events import Event
from harness.kernel import build
from harness.kernel.steps import steps
from tests.fakes import kernel as fake

ONE = fake.patch("mm: one", {"mm/filemap.c": ("int filemap_5;", "int filemap_five;")})
TWO = fake.patch("mm: two", {"mm/truncate.c": ("int truncate_5;", "int truncate_five;")})
THREE = fake.patch("fs: three", {"fs/inode.c": ("int inode_5;", "int inode_five;")})
NAMES = ["0001-one.patch", "0001-two.patch", "0002-three.patch"]


@pytest.fixture
def cfg(root: Path) -> Config:
    fake.write_series(root, "first", {NAMES[0]: ONE})
    fake.write_series(root, "second", {NAMES[1]: TWO, NAMES[2]: THREE})
    return fake.experiment(root, series=["first", "second"])


def source(cache: Path) -> Path:
    return cache / "kernels/stock/src"


def is_whole(cache: Path) -> bool:
    """Whether the worktree has the last patch."""
    return "inode_five" in (source(cache) / "fs/inode.c").read_text()


def test_every_patch_is_a_kernel_of_its_own(cfg: Config, cache: Path) -> None:
    seen = []
    for step in steps("stock", cfg, cache):
        text = step.image.vmlinux.read_text()
        marks = [mark in text for mark in ("filemap_five", "truncate_five", "inode_five")]
        assert marks == [n < step.number for n in range(3)]
        assert step.image.release == f"6.12.9-stock-{step.image.id}"
        assert step.image.release in step.image.bzimage.read_text()
        seen.append((step.number, step.total, step.patch.name))
    assert seen == list(zip([1, 2, 3], [3] * 3, NAMES, strict=True))
    # The last one is the whole kernel, and is kept as such.
    assert not build.ensure("stock", cfg, cache).built


def test_a_step_compiles_what_its_patch_changes(cfg: Config, cache: Path) -> None:
    marks = []
    for step in steps("stock", cfg, cache):
        log = step.image.log.read_text()
        marks.append(log.count("  CC "))
    assert marks == [4, 5, 6]  # one log of all: the whole kernel, then one file each


def test_from_a_series_and_a_patch_on(cfg: Config, cache: Path) -> None:
    def those(**options: object) -> list[tuple[int, int, str]]:
        return [
            (step.number, step.total, step.patch.name)
            for step in steps("stock", cfg, cache, **options)  # type: ignore[arg-type]
        ]

    assert those(after="second") == [(1, 2, NAMES[1]), (2, 2, NAMES[2])]
    assert those(after="second", first=2) == [(2, 2, NAMES[2])]
    assert those(first=3) == [(3, 3, NAMES[2])]


def test_what_is_not_there_is_named(cfg: Config, cache: Path) -> None:
    with pytest.raises(UsageError, match=r"has no series 'secnd' \(did you mean 'second'\?\)"):
        next(steps("stock", cfg, cache, after="secnd"))
    with pytest.raises(UsageError, match="no patch 3: kernel 'stock' has 2 to build from series"):
        next(steps("stock", cfg, cache, after="second", first=3))
    with pytest.raises(UsageError, match="no kernel 'stok'"):
        next(steps("stok", cfg, cache))


def test_the_first_that_does_not_build_is_named(root: Path, cache: Path) -> None:
    wrong = TWO.replace("int truncate_five;", "int SYNTAX_ERROR;")
    fake.write_series(root, "all", dict(zip(NAMES, [ONE, wrong, THREE], strict=True)))
    done = []
    with pytest.raises(BuildError) as caught:
        for step in steps("stock", fake.experiment(root, series=["all"]), cache):
            done.append(step.number)
    assert done == [1]
    assert caught.value.message.startswith(f"patch 2 of 3 ({NAMES[1]}): kernel stock: ")
    assert "mm/truncate.c" in caught.value.message
    assert caught.value.hint.startswith("less ")
    assert is_whole(cache)


def test_stopping_early_leaves_the_whole_kernel(cfg: Config, cache: Path) -> None:
    each = steps("stock", cfg, cache)
    next(each)
    assert not is_whole(cache)
    each.close()
    assert is_whole(cache)
    # And the lock is free again.
    filelock.FileLock(cache / "kernels/stock.lock").acquire(timeout=0).lock.release()


def test_ctrl_c_in_a_build_leaves_the_whole_kernel(cfg: Config, cache: Path) -> None:
    def interrupt(event: Event) -> None:
        if event.kind == "build" and event.message.startswith("CC "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(steps("stock", cfg, cache, interrupt))
    assert is_whole(cache)
    assert [step.number for step in steps("stock", cfg, cache)] == [1, 2, 3]


def test_an_option_is_asked_for_from_the_patch_on_that_brings_it(root: Path, cache: Path) -> None:
    brings = fake.patch("lib: option", {"Kconfig": ("config MORE\n", "config MORE\nconfig NEW\n")})
    fake.write_series(root, "all", {NAMES[0]: ONE, NAMES[1]: brings})
    fake.write_fragment(root, "new", "# It is new.\nCONFIG_NEW=y\n")
    cfg = fake.experiment(root, series=["all"], fragments=["base", "new"])
    asked = ["CONFIG_NEW=y" in step.image.dotconfig.read_text()
             for step in steps("stock", cfg, cache)]  # fmt: skip
    assert asked == [False, True]


def test_an_option_that_is_there_and_refused_stops(root: Path, cache: Path) -> None:
    fake.write_series(root, "all", {NAMES[0]: ONE})
    fake.write_fragment(root, "needs", "# No MORE.\nCONFIG_NEEDS_MORE=y\n")
    cfg = fake.experiment(root, series=["all"], fragments=["base", "needs"])
    with pytest.raises(BuildError, match=r"^patch 1 of 1 .*CONFIG_NEEDS_MORE=y was not taken"):
        next(steps("stock", cfg, cache))
