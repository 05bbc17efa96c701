# SPDX-License-Identifier: GPL-2.0
from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import BuildError, UsageError
from harness.kernel import command, git, series, tree
from tests.fakes import kernel as fake

ONE = fake.patch("mm: one", {"mm/filemap.c": ("int filemap_5;", "int filemap_five;")})
TWO = fake.patch("fs: two", {"fs/inode.c": ("int inode_2;", "int inode_two;")})
NEW = fake.patch("mm: new", {"mm/range_lock.c": ("", "int range_lock;\n")})
BAD = fake.patch("mm: three", {"mm/filemap.c": ("int filemap_5;", "int filemap_cinque;")})


def test_apply_gives_the_patched_files_and_authors(
    root: Path, cache: Path, source: tree.Source
) -> None:
    fake.write_series(root, "one", {"0001-one.patch": ONE, "0002-new.patch": NEW})
    commit = series.apply(source, ["one"], root, cache)
    assert "int filemap_five;" in fake.git(source.repo, "show", f"{commit}:mm/filemap.c")
    assert fake.git(source.repo, "show", f"{commit}:mm/range_lock.c") == "int range_lock;"
    log = fake.git(source.repo, "log", "--format=%an|%cn|%ad|%cd|%s", commit)
    date = "Mon Nov 2 10:00:00 2026 +0100"
    assert log.splitlines()[:2] == [
        f"A Developer|harness|{date}|{date}|mm: new",
        f"A Developer|harness|{date}|{date}|mm: one",
    ]
    # The other files of the tree are all there: sparse was the worktree, not the commit.
    names = set(fake.git(source.repo, "ls-tree", "-r", "--name-only", commit).splitlines())
    base = set(fake.git(source.repo, "ls-tree", "-r", "--name-only", source.commit).splitlines())
    assert names == base | {"mm/range_lock.c"}


def test_same_patches_same_commit_in_another_cache(
    root: Path, tmp_path: Path, source: tree.Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.write_series(root, "one", {"0001-one.patch": ONE})
    first = series.apply(source, ["one"], root, cache)
    # A user whose git signs commits, rewrites line ends and runs hooks gets the same.
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\nname=Somebody\nemail=s@example.org\n[commit]\ngpgSign=true\n[core]\nautocrlf=true\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Somebody")
    other = tmp_path / "other"
    again = tree.materialise("fake", fake.experiment(root).tree["fake"], root, other)
    assert again.commit == source.commit
    assert series.apply(again, ["one"], root, other) == first


def test_unchanged_series_runs_no_am(
    root: Path, cache: Path, source: tree.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = fake.write_series(root, "one", {"0001-one.patch": ONE})
    fake.write_series(root, "two", {"0001-two.patch": TWO})
    both = series.apply(source, ["one", "two"], root, cache)

    def never(*_: object) -> str:
        raise AssertionError("git am was started")

    monkeypatch.setattr(series, "_am", never)
    assert series.apply(source, ["one", "two"], root, cache) == both
    assert series.apply(source, ["one"], root, cache) == fake.git(
        source.repo, "rev-parse", f"{both}~"
    )
    (directory / "0001-one.patch").write_text(ONE.replace("filemap_five", "filemap_v"))
    with pytest.raises(AssertionError):
        series.apply(source, ["one"], root, cache)


def test_no_series_is_the_tree_itself(root: Path, cache: Path, source: tree.Source) -> None:
    assert series.apply(source, [], root, cache) == source.commit


def test_patch_that_does_not_apply_is_named_and_the_hint_reproduces_it(
    root: Path, cache: Path, source: tree.Source, tmp_path: Path
) -> None:
    fake.write_series(root, "one", {"0001-one.patch": ONE})
    fake.write_series(root, "more", {"0001-two.patch": TWO, "0002-three.patch": BAD})
    with pytest.raises(BuildError) as caught:
        series.apply(source, ["one", "more"], root, cache)
    error = caught.value
    for part in ("series more", "0002-three.patch", "mm/filemap.c", "line 3", "tree fake"):
        assert part in error.message
    assert "\n" not in error.message
    # Pasted into a shell with no git identity, it fails at the very same patch.
    env = {**command.environment(), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    shown = subprocess.run(["sh", "-c", error.hint], capture_output=True, text=True, env=env)
    assert shown.returncode != 0
    assert "patch failed: mm/filemap.c:3" in shown.stderr
    assert "Patch failed at 0003 mm: three" in shown.stdout + shown.stderr


def test_refused_series_leaves_nothing_and_works_once_corrected(
    root: Path, cache: Path, source: tree.Source
) -> None:
    directory = fake.write_series(root, "one", {"0001-one.patch": ONE, "0002-three.patch": BAD})
    with pytest.raises(BuildError):
        series.apply(source, ["one"], root, cache)
    assert fake.git(source.repo, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert not source.repo.with_suffix(".am").exists()
    good = fake.patch("mm: three", {"mm/filemap.c": ("int filemap_10;", "int filemap_ten;")})
    (directory / "0002-three.patch").write_text(good)
    commit = series.apply(source, ["one"], root, cache)
    assert "filemap_ten" in fake.git(source.repo, "show", f"{commit}:mm/filemap.c")


def test_the_worktree_that_stays_serves_other_series(
    root: Path, cache: Path, source: tree.Source
) -> None:
    fake.write_series(root, "new", {"0001-new.patch": NEW})
    fake.write_series(root, "one", {"0001-one.patch": ONE})
    scratch = source.repo.with_suffix(".am")
    seen = []
    for name in ("new", "one", "new"):
        commit = series.apply(source, [name], root, cache)
        seen.append(fake.git(source.repo, "diff", "--name-only", source.commit, commit))
        assert [str(path.relative_to(scratch)) for path in scratch.rglob("*.c")] == [seen[-1]]
        ref = fake.git(source.repo, "for-each-ref", "--format=%(refname)", "refs/harness/series")
        fake.git(source.repo, "update-ref", "-d", ref)  # or it would not be applied again
    assert seen == ["mm/range_lock.c", "mm/filemap.c", "mm/range_lock.c"]


@pytest.mark.parametrize("left", ["a lock", "no index", "no .git", "a repository made anew"])
def test_the_worktree_that_stays_is_made_again_when_it_is_not_in_order(
    left: str, root: Path, cache: Path, source: tree.Source
) -> None:
    fake.write_series(root, "one", {"0001-one.patch": ONE})
    series.apply(source, ["one"], root, cache)
    scratch = source.repo.with_suffix(".am")
    private = Path(fake.git(scratch, "rev-parse", "--absolute-git-dir"))
    if left == "a lock":
        (private / "index.lock").touch()
    elif left == "no index":
        (private / "index").unlink()
    elif left == "no .git":
        (scratch / ".git").unlink()
    else:
        shutil.rmtree(private)
    again = ONE.replace("filemap_five", "filemap_v")
    fake.write_series(root, "one", {"0001-one.patch": again})
    commit = series.apply(source, ["one"], root, cache)
    assert "filemap_v" in fake.git(source.repo, "show", f"{commit}:mm/filemap.c")
    assert fake.git(source.repo, "diff", "--name-only", source.commit, commit) == "mm/filemap.c"


def test_a_cache_that_was_copied_leaves_the_first_alone(
    root: Path, cache: Path, source: tree.Source
) -> None:
    """The copy's worktree says that it is one of the first cache's repository."""
    fake.write_series(root, "one", {"0001-one.patch": ONE})
    series.apply(source, ["one"], root, cache)
    there = source.repo.with_suffix(".am")
    before = fake.git(there, "rev-parse", "HEAD")
    shutil.copytree(cache, cache.with_name("copy"), symlinks=True)
    copied = dataclasses.replace(
        source, repo=cache.with_name("copy") / source.repo.relative_to(cache)
    )
    fake.write_series(root, "one", {"0001-one.patch": ONE.replace("filemap_five", "filemap_v")})
    commit = series.apply(copied, ["one"], root, cache.with_name("copy"))
    assert "filemap_v" in fake.git(copied.repo, "show", f"{commit}:mm/filemap.c")
    assert fake.git(there, "rev-parse", "HEAD") == before


def test_scratch_left_by_a_killed_run_is_no_obstacle(
    root: Path, cache: Path, source: tree.Source
) -> None:
    scratch = source.repo.with_suffix(".am")
    fake.git(source.repo, "worktree", "add", "--detach", str(scratch), source.commit)
    fake.write_series(root, "one", {"0001-one.patch": ONE})
    commit = series.apply(source, ["one"], root, cache)
    assert "filemap_five" in fake.git(source.repo, "show", f"{commit}:mm/filemap.c")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (fake.patch("x", {"mm/gone.c": ("", "")}).replace("new file mode 100644\n", "")
         + "--- a/mm/gone.c\n+++ b/mm/gone.c\n@@ -1 +1 @@\n-a\n+b\n", "mm/gone.c"),
        ("this is no mail\n", "format"),
        (ONE.replace("@@ -3", "@@ -x"), ""),
    ],
)  # fmt: skip
def test_other_refusals_say_what_git_said(
    root: Path, cache: Path, source: tree.Source, text: str, told: str
) -> None:
    fake.write_series(root, "one", {"0001-x.patch": text})
    with pytest.raises(BuildError) as caught:
        series.apply(source, ["one"], root, cache)
    assert "0001-x.patch" in caught.value.message
    assert told in caught.value.message


def test_series_file_order_comments_and_options(root: Path) -> None:
    directory = fake.write_series(root, "one", {"b.patch": ONE, "a.patch": TWO})
    (directory / "series").write_text("\n# first b\nb.patch -p1\na.patch # then a\n")
    assert [path.name for path in series.patches("one", "6.12", root)] == ["b.patch", "a.patch"]
    (directory / "series").write_text("b.patch -p0\n")
    with pytest.raises(UsageError, match=r"series:1: only -p1"):
        series.patches("one", "6.12", root)


def test_the_first_patches_of_a_series(root: Path) -> None:
    directory = fake.write_series(root, "one", {"a.patch": ONE, "b.patch": TWO, "c.patch": NEW})
    names = [path.name for path in series.patches("one:2", "6.12", root)]
    assert names == ["a.patch", "b.patch"]
    assert len(series.patches("one:3", "6.12", root)) == 3
    with pytest.raises(UsageError) as caught:
        series.patches("one:4", "6.12", root)
    assert str(caught.value) == f"{directory / 'series'} has 3 patches, not 4"
    assert caught.value.hint == "write 'one', or a smaller number, in harness.toml"


def test_missing_names_come_with_the_nearest(root: Path) -> None:
    directory = fake.write_series(root, "race-windows", {"0001-one.patch": ONE})
    with pytest.raises(UsageError, match=r"no series 'race-window'.*mean 'race-windows'"):
        series.patches("race-window", "6.12", root)
    with pytest.raises(UsageError, match=r"tree line '6.13'.*mean '6.12'"):
        series.patches("race-windows", "6.13", root)
    (directory / "series").write_text("0001-one.patch\n0001-on.patch\n")
    with pytest.raises(UsageError, match=r"series:2: no patch '0001-on.patch'.*'0001-one.patch'"):
        series.patches("race-windows", "6.12", root)
    (directory / "series").unlink()
    with pytest.raises(UsageError, match="no file named 'series'"):
        series.patches("race-windows", "6.12", root)


def test_paths_with_pattern_characters_are_checked_out(root: Path, cache: Path) -> None:
    odd = root / "linux" / "mm" / "a[1]*.c"
    odd.write_text("int odd;\n")
    text = fake.patch("mm: odd", {"mm/a[1]*.c": ("int odd;", "int even;")}, root / "linux")
    fake.write_series(root, "one", {"0001-odd.patch": text})
    made = tree.materialise("fake", fake.experiment(root).tree["fake"], root, cache)
    commit = series.apply(made, ["one"], root, cache)
    assert git.out(made.repo, "show", f"{commit}:mm/a[1]*.c") == "int even;"
