# SPDX-License-Identifier: GPL-2.0
"""A kernel's worktree: one commit to the last file, or it is found out and made again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import config
from harness.errors import BuildError
from harness.kernel import build, git, make
from tests.fakes import kernel as fake

NOTE = "where nothing is anybody's"


def _series(root: Path, word: str) -> None:
    changed = {"mm/filemap.c": ("int filemap_5;", f"int filemap_{word};")}
    fake.write_series(root, "one", {"0001-one.patch": fake.patch(f"mm: {word}", changed)})


@pytest.fixture
def built(root: Path, cache: Path) -> config.Config:
    """A kernel that was built, and has another patch now."""
    _series(root, "five")
    cfg = fake.experiment(root, series=["one"])
    build.ensure("stock", cfg, cache)
    _series(root, "v")
    return cfg


@pytest.fixture
def source(built: config.Config, cache: Path) -> Path:
    return cache / "kernels/stock/src"


def _repo(source: Path) -> Path:
    return Path(fake.git(source, "rev-parse", "--path-format=absolute", "--git-common-dir"))


def _whole(source: Path) -> bool:
    with git.looking(source, fake.git(source, "rev-parse", "HEAD")) as look:
        return look.whole


def _edit(source: Path) -> None:
    (source / "fs/inode.c").write_text("int edited_by_hand;\n")


def _edit_the_patched(source: Path) -> None:
    (source / "mm/filemap.c").write_text("int edited_by_hand;\n")


def _stray(source: Path) -> None:
    (source / "mm/stray.h").write_text("")


def _ignored(source: Path) -> None:
    (source / "mm/stray.o").write_text("")  # the kernel's .gitignore has *.o
    (source / ".gitignore").write_text("*.o\n")


def _delete(source: Path) -> None:
    (source / "fs/namei.c").unlink()


def _break(source: Path) -> None:
    (source / "scripts/cc.sh").write_text("echo mm/x.c:1: error: broken by hand >&2; exit 1\n")


def _no_tool(source: Path) -> None:
    (source / "scripts/cc.sh").write_text("echo sh: 1: frobnicate: not found >&2; exit 127\n")


def _half_a_worktree(source: Path) -> None:
    private = Path(fake.git(source, "rev-parse", "--absolute-git-dir"))
    (private / "commondir").write_text("")


def _directory(source: Path) -> None:
    file = source / "fs/inode.c"
    file.unlink()
    (file / "deep").mkdir(parents=True)
    (file / "deep/stray.c").write_text("")


def _killed_move(source: Path) -> None:
    """Files and index are another commit's, HEAD is not."""
    fake.git(source, "read-tree", "-m", "-u", "HEAD", "HEAD~1")


def _locks(source: Path) -> None:
    private = Path(fake.git(source, "rev-parse", "--absolute-git-dir"))
    (private / "index.lock").write_text("")
    (private / "HEAD.lock").write_text("")
    (source / "fs/inode.c").write_text("int edited_by_hand;\n")


@pytest.mark.parametrize(
    "change",
    [
        _edit,
        _edit_the_patched,
        _stray,
        _ignored,
        _delete,
        _break,
        _no_tool,
        _half_a_worktree,
        _directory,
        _killed_move,
        _locks,
    ],
)
def test_what_somebody_changed_is_not_built(
    built: config.Config, cache: Path, source: Path, change: Callable[[Path], None]
) -> None:
    want = build.ensure("stock", built, cache.with_name("another")).vmlinux.read_text()
    change(source)
    image = build.ensure("stock", built, cache)
    assert image.vmlinux.read_text() == want
    assert "int filemap_v;" in want
    assert fake.git(source, "status", "--porcelain", "--ignored") == ""
    assert _whole(source)


def test_what_an_interrupted_make_made_of_it_is_made_again(
    built: config.Config, cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the file is what it was by the time of the next build."""
    file = source / "fs/inode.c"
    text, times = file.read_text(), file.stat()
    file.write_text("int edited_by_hand;\n")
    run = make.run

    def interrupted(*words: Any, **options: Any) -> None:
        run(*words, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(make, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build.ensure("stock", built, cache)
    monkeypatch.setattr(make, "run", run)
    assert "edited" in (cache / "kernels/stock/o/fs/inode.o").read_text()
    file.write_text(text)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    fake.git(source, "status")  # git believes it now
    assert _whole(source)
    record = cache / "kernels/stock/o/fs/.inode.o.cmd"
    assert record.exists()
    removed: list[Path] = []
    unlink = Path.unlink

    def watched(path: Path, *args: Any, **options: Any) -> None:
        removed.append(path)
        unlink(path, *args, **options)

    monkeypatch.setattr(Path, "unlink", watched)
    build.ensure("stock", built, cache)
    assert record in removed, "kbuild makes again what has no record"


def test_it_is_said(built: config.Config, cache: Path, source: Path) -> None:
    _edit(source)
    ear = fake.Ear()
    build.ensure("stock", built, cache, ear)
    assert NOTE in ear.said("note") and str(source) in ear.said("note")


def test_what_nobody_changed_is_made_once(root: Path, built: config.Config, cache: Path) -> None:
    ear = fake.Ear()
    image = build.ensure("stock", built, cache, ear)
    assert NOTE not in ear.said("note")
    assert image.log.read_text().count("bzImage scripts_gdb") == 1
    assert ear.said("build").count("updating the worktree") == 1


def test_it_is_looked_at_from_the_link_on(
    built: config.Config, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    begin = git.Look.begin

    def noted(self: git.Look) -> None:
        seen.append("look")
        begin(self)

    monkeypatch.setattr(git.Look, "begin", noted)
    build.ensure("stock", built, cache, lambda event: seen.append(event.message))
    assert seen.index("look") < seen.index("LD vmlinux")
    assert "look" not in seen[: seen.index("LD vmlinux") - 1]


@pytest.mark.parametrize("how", ["checkout", "an editor", "status", "commit"])
def test_what_was_changed_and_changed_back_is_seen(how: str, source: Path) -> None:
    """Another file when make compiled it, none when it is looked at."""
    file = source / "fs/inode.c"
    text = file.read_text()
    os.utime(file, (1e9, 1e9))  # git looks at seconds only, and a kernel's build takes many
    fake.git(source, "status")
    with git.looking(source, fake.git(source, "rev-parse", "HEAD")) as look:
        _edit(source)
        if how == "checkout":
            fake.git(source, "checkout", "--", "fs/inode.c")
        elif how == "commit":
            fake.git(source, "commit", "--quiet", "--all", "--message", "mine")
        else:
            file.write_text(text)
            if how == "status":
                fake.git(source, "status")
        assert not look.whole


def test_a_patch_that_does_not_compile_is_to_blame(
    root: Path, built: config.Config, cache: Path, source: Path
) -> None:
    changed = {"scripts/cc.sh": ("cp", "echo mm/x.c:1: error: broken >&2; exit 1; cp")}
    fake.write_series(root, "one", {"0001-one.patch": fake.patch("scripts: broken", changed)})
    ear = fake.Ear()
    with pytest.raises(BuildError, match=r"mm/x\.c:1: broken"):
        build.ensure("stock", built, cache, ear)
    assert NOTE not in ear.said("note")
    _series(root, "v")
    assert "int filemap_v;" in build.ensure("stock", built, cache).vmlinux.read_text()


@pytest.mark.parametrize("trusted", [True, False])
def test_every_kind_of_change(source: Path, trusted: bool) -> None:
    """A move by the files that differ leaves what git checkout leaves, or leaves it to that."""
    repo, before = _repo(source), fake.git(source, "rev-parse", "HEAD")
    (source / "scripts/cc.sh").chmod(0o755)
    (source / "Kconfig").unlink()
    (source / "Kconfig").symlink_to("Makefile")
    (source / ":(glob)[*").write_text("a name\n")
    (source / "new/deep").mkdir(parents=True)
    (source / "new/deep/file").write_text("deep\n")
    shutil.rmtree(source / "fs")
    if not trusted:  # git restore does not put a directory in a file's place
        (source / "mm/filemap.c").unlink()
        (source / "mm/filemap.c").mkdir()
        (source / "mm/filemap.c/deep").write_text("deep\n")
        (source / "fs").write_text("a file\n")
    fake.git(source, "add", "--all")
    fake.git(source, "commit", "--quiet", "--message", "all kinds")
    after = fake.git(source, "rev-parse", "HEAD")
    untouched = (source / "Makefile").stat().st_mtime_ns
    for commit in (before, after, before, before):
        assert _whole(source)
        moved = git.trusted_move(source, repo, commit)
        assert moved or not trusted
        assert moved or not git.move_worktree(source, repo, commit)
        assert fake.git(source, "rev-parse", "HEAD") == commit
        assert fake.git(source, "status", "--porcelain", "--ignored") == ""
        found = {path for path in source.rglob("*") if path.is_symlink() or not path.is_dir()}
        listed = fake.git(source, "ls-files", "-z").split("\0")
        assert found - {source / ".git"} == {source / name for name in listed if name}
    assert not (source / "new").exists(), "a directory of files that went"
    assert (source / "Makefile").stat().st_mtime_ns == untouched


def test_another_content_with_the_old_time_is_seen(source: Path) -> None:
    assert _whole(source)
    file = source / "fs/inode.c"
    text, times = file.read_text(), file.stat()
    file.write_text(text.replace("i", "j"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not _whole(source)


def test_a_worktree_of_another_repository_is_not_trusted(source: Path, tmp_path: Path) -> None:
    head = fake.git(source, "rev-parse", "HEAD")
    assert not git.trusted_move(source, tmp_path, head)
    assert not git.trusted_move(tmp_path / "nothing", _repo(source), head)


def test_what_was_made_since_is_made_again(tmp_path: Path) -> None:
    """kbuild makes again what has no record of its command."""
    old, new = tmp_path / "mm/.old.o.cmd", tmp_path / ".vmlinux.cmd"
    old.parent.mkdir()
    for file in (old, new, tmp_path / "vmlinux"):
        file.write_text("")
    os.utime(old, (1e9 - 2, 1e9 - 2))
    os.utime(new, (1e9 - 0.01, 1e9 - 0.01))  # the clock of files ticks
    make.distrust_since(tmp_path, 1e9)
    assert old.exists() and (tmp_path / "vmlinux").exists() and not new.exists()
