# SPDX-License-Identifier: GPL-2.0
"""Trees and patches are data: nothing in them writes outside, runs, or fills the memory."""

from __future__ import annotations

import io
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import config
from harness.errors import HarnessError
from harness.kernel import archive, build, git, series, tree
from tests.fakes import kernel as fake

EVIL = b"#!/bin/sh\ntouch {}\n"


def tarball(path: Path, change: Callable[[tarfile.TarFile], None], root: Path) -> Path:
    """The fake kernel in a tarball, and what change() adds to it."""
    with tarfile.open(path, "w") as tar:
        tar.add(root / "linux", arcname="linux-6.12", filter=lambda info: info)
        change(tar)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"evil\n", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def materialised(place: Path, root: Path, cache: Path) -> None:
    """All that happens to a tree: it is imported, and checked out in a worktree."""
    definition = config.Tree(kind="tarball", line="6.12", path=str(place))
    source = tree.materialise("fake", definition, root, cache)
    git.move_worktree(cache / "worktree", source.repo, source.commit)


def outside(tmp_path: Path) -> set[str]:
    """Files that are neither in the cache nor where the test put them."""
    return {
        str(path.relative_to(tmp_path))
        for path in tmp_path.rglob("*")
        if path.is_file() and path.relative_to(tmp_path).parts[0] not in ("root", "cache")
    }


@pytest.mark.parametrize(
    "name",
    ["linux-6.12/../../../evil", "../evil", "/evil", "linux-6.12/a/../../../../evil",
     "linux-6.12/.git/hooks/post-checkout", ".git/hooks/post-checkout", "linux-6.12/.GIT/config"],
)  # fmt: skip
def test_a_member_of_a_tarball_cannot_leave_the_tree(
    name: str, root: Path, cache: Path, tmp_path: Path
) -> None:
    place = tarball(root / "linux.tar", lambda tar: add(tar, name, mode=0o755), root)
    before = outside(tmp_path)
    # Refused, or kept inside: both will do.
    try:
        materialised(place, root, cache)
    except HarnessError as error:
        assert "\n" not in error.message
    assert outside(tmp_path) == before
    assert not Path("/evil").exists()
    hooks = [p for p in cache.rglob("hooks/post-checkout") if "evil" in p.read_text()]
    assert not hooks


def test_a_file_cannot_be_written_through_a_link(root: Path, cache: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()

    def change(tar: tarfile.TarFile) -> None:
        add(tar, "linux-6.12/out", b"", type=tarfile.SYMTYPE, linkname=str(target))
        add(tar, "linux-6.12/out/evil")

    place = tarball(root / "linux.tar", change, root)
    try:
        materialised(place, root, cache)
    except HarnessError as error:
        assert "\n" not in error.message
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("path", ["../../evil", "/evil", ".git/hooks/post-commit", "../../.ssh/x"])
def test_a_patch_cannot_leave_the_tree(
    path: str, root: Path, cache: Path, source: tree.Source, tmp_path: Path
) -> None:
    patch = fake.patch("mm: evil", {path: ("", "evil\n")})
    fake.write_series(root, "evil", {"0001-evil.patch": patch})
    before = outside(tmp_path)
    with pytest.raises(HarnessError) as caught:
        series.apply(source, ["evil"], root, cache)
    assert "\n" not in caught.value.message
    assert outside(tmp_path) == before
    assert not Path("/evil").exists()


@pytest.mark.parametrize(
    "name", ["../evil", "/etc", "a/../../b", "$(touch evil)", "`x`", "a b", "\x1b[2J", "-x", "a;b"]
)
def test_a_hostile_name_is_refused_in_one_line(
    name: str, root: Path, cache: Path, tmp_path: Path
) -> None:
    cfg = fake.experiment(root, series=[name])
    before = outside(tmp_path)
    with pytest.raises(HarnessError) as caught:
        build.resolve("stock", cfg, cache, lambda _event: None)
    assert "\n" not in caught.value.message
    assert outside(tmp_path) == before


def test_a_huge_member_is_not_held_in_memory(root: Path, cache: Path) -> None:
    size = 300 << 20

    class Zeroes(io.RawIOBase):
        left = size

        def readable(self) -> bool:
            return True

        def read(self, n: int = -1) -> bytes:
            n = min(n if n >= 0 else self.left, self.left)
            self.left -= n
            return bytes(n)

    def change(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("linux-6.12/huge")
        info.size = size
        tar.addfile(info, Zeroes())

    place = tarball(root / "linux.tar", change, root)
    repo = cache / "repo.git"
    fake.git(cache, "init", "--quiet", "--bare", str(repo))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    archive.commit(repo, archive.reading(place), "huge", lambda _event: None)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown << 10 < 100 << 20, f"it grew by {grown >> 10} MiB"
