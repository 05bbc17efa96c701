# SPDX-License-Identifier: GPL-2.0
from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import BuildError, UsageError
from harness.kernel import command, excerpt, git, series, tree
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


@pytest.fixture
def excerpts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each excerpt that was tried, whether it was made."""
    few: list[bool] = []
    make = excerpt.Excerpt.make

    def noted(self: excerpt.Excerpt) -> bool:
        few.append(make(self))
        return few[-1]

    monkeypatch.setattr(excerpt.Excerpt, "make", noted)
    return few


def _both_ways(
    source: tree.Source, names: list[str], root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """The commit by way of an excerpt, and by the whole tree."""
    with monkeypatch.context() as patched:
        patched.setattr(git, "sparse_worktree", None)  # or it would not be the excerpt's
        first = series.apply(source, names, root, cache)
    for ref in fake.git(source.repo, "for-each-ref", "--format=%(refname)").splitlines():
        if ref.startswith("refs/harness/series"):
            fake.git(source.repo, "update-ref", "-d", ref)  # or it would not be applied again
    with monkeypatch.context() as patched:
        patched.setattr(excerpt.Excerpt, "make", lambda _: False)
        return first, series.apply(source, names, root, cache)


def test_every_kind_of_patch_gives_the_commit_of_the_excerpts(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linux = root / "linux"
    (linux / ".gitattributes").write_text("*.c diff=cpp\n")
    (linux / "mm/a space").write_text("one\ntwo\n")
    (linux / "mm/a[1]*.c").write_text("int odd;\n")
    source = tree.materialise("fake", fake.experiment(root).tree["fake"], root, cache)
    work = root / "work"
    fake.git(source.repo, "worktree", "add", "--detach", str(work), source.commit)
    commits: list[Callable[[], object]] = [
        lambda: (work / "mm/filemap.c").write_text("int other;\n"),
        lambda: (work / "scripts/cc.sh").chmod(0o755),
        lambda: (work / "mm/a[1]*.c").unlink(),
        lambda: (work / "mm/a space").rename(work / "mm/another space"),
        lambda: (work / "mm/binary").write_bytes(bytes(range(256)) * 9),
        lambda: (work / "mm/link").symlink_to("filemap.c"),
        lambda: shutil.rmtree(work / "fs"),
        lambda: (work / "deep/er").mkdir(parents=True),
        lambda: (work / "mm/binary").write_bytes(bytes(range(255, -1, -1)) * 9),
    ]
    (work / "mm/gone").write_text("brought and taken\n")
    for number, change in enumerate(commits):
        change()
        (work / "deep").mkdir(exist_ok=True)
        (work / f"deep/{number}").write_text(f"{number}\n")
        if number == 4:
            (work / "mm/gone").unlink()
        fake.git(work, "add", "--all")
        fake.git(
            work, "commit", "--quiet", "--author=Jos\xe9 <j@example.org>", "--message",
            f"mm: {number} \u2014 why\n\n  as it is\n\n--8<--\n\nSigned-off-by: J <j@example.org>",
        )  # fmt: skip
    place = fake.write_series(root, "all", {})
    fake.git(
        work, "format-patch", "--quiet", "--binary", "-M", "-o", str(place), source.commit
    )
    made = sorted(path.name for path in place.glob("*.patch"))
    (place / "series").write_text("".join(f"{name}\n" for name in made))
    first, second = _both_ways(source, ["all"], root, cache, monkeypatch)
    assert first == second
    assert fake.git(source.repo, "diff", "--stat", first, fake.git(work, "rev-parse", "HEAD")) == ""
    assert not source.repo.with_suffix(".am").exists()


def test_what_only_the_excerpts_can_tell_is_left_to_it(
    root: Path, cache: Path, source: tree.Source, excerpts: list[bool]
) -> None:
    """A file where a directory is, one below a file, one whose name git writes in C's way."""
    for path in ("mm", "mm/filemap.c/deep"):
        text = fake.patch("x", {path: ("", "one\n")}, root)
        fake.write_series(root, "bad", {"0001-x.patch": text})
        with pytest.raises(BuildError):
            series.apply(source, ["bad"], root, cache)
    assert excerpts == [False, False]
    excerpts.clear()
    name = "mm/\\303\\251.c"
    text = NEW
    for side in "ab":
        text = text.replace(f"{side}/mm/range_lock.c", f'"{side}/{name}"')
    fake.write_series(root, "odd", {"0001-x.patch": text})
    commit = series.apply(source, ["odd"], root, cache)
    assert fake.git(source.repo, "show", f"{commit}:mm/\xe9.c") == "int range_lock;"
    assert excerpts == []


UNSEEN = {
    "other prefixes": "diff --git i/{0} w/{0}\nnew file mode 100644\n--- /dev/null\n+++ w/{0}\n",
    "no git": "diff -ruN linux.orig/{0} linux/{0}\n"
    "--- linux.orig/{0}\t1970-01-01 00:00:00 +0000\n+++ linux/{0}\t2026-01-01 00:00:00 +0000\n",
    "a double slash": "diff --git a/mm//filemap.c b/mm//filemap.c\nnew file mode 100644\n"
    "--- /dev/null\n+++ b/mm//filemap.c\n",
}  # fmt: skip


@pytest.mark.parametrize("how", UNSEEN)
def test_a_file_that_a_patch_names_in_another_way_is_not_overwritten(
    how: str, root: Path, cache: Path, source: tree.Source
) -> None:
    """It brings a file that the tree has: git am of the whole tree refuses that."""
    head, _, tail = NEW.partition("diff --git")
    body = tail[tail.index("@@") :]
    text = head + UNSEEN[how].format("mm/filemap.c") + body
    fake.write_series(root, "one", {"0001-x.patch": text})
    with pytest.raises(BuildError, match=r"0001-x\.patch does not apply"):
        series.apply(source, ["one"], root, cache)


def test_what_git_does_not_take_back(cache: Path, source: tree.Source) -> None:
    """More than a pipe holds, for a repository that lacks what it stands on."""
    few = excerpt.Excerpt(source.repo, source.commit, ["mm/filemap.c"], cache / "few")
    assert few.make()
    for number in range(3):
        text = "".join(f"int more_{number}_{line};\n" for line in range(20_000))
        (few.place / "mm/filemap.c").write_text(text)
        fake.git(few.place, "commit", "--quiet", "--all", "--message", "more")
    few._commit = "0123456789" * 4
    before = sorted(path.name for path in source.repo.iterdir())
    assert few.give_back("refs/harness/series/x") is None
    assert sorted(path.name for path in source.repo.iterdir()) == before
    assert git.resolve(source.repo, "refs/harness/series/x") is None
    few._commit = source.commit
    assert few.give_back("refs/harness/series/x") == git.resolve(
        source.repo, "refs/harness/series/x"
    )


def test_half_of_what_is_told_is_nothing(
    cache: Path, source: tree.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = excerpt.Excerpt(source.repo, source.commit, ["mm/filemap.c"], cache / "few")
    assert few.make()
    (few.place / "mm/filemap.c").write_text("int other;\n")
    fake.git(few.place, "commit", "--quiet", "--all", "--message", "other")
    argv = git.argv

    def cut(where: Path, *words: str | Path) -> list[str]:
        line = argv(where, *words)
        # Through the last file's name, and no word of failure.
        less = f"{command.quoted(line)} | sed -e '/^M /q' | head -c -4"
        return ["sh", "-c", less] if words[0] == "fast-export" else line

    monkeypatch.setattr(git, "argv", cut)
    assert few.give_back("refs/harness/series/x") is None
    assert git.resolve(source.repo, "refs/harness/series/x") is None


def test_an_excerpt_that_git_does_not_take_back_is_done_without(
    root: Path, cache: Path, source: tree.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.write_series(root, "one", {"0001-one.patch": ONE})
    monkeypatch.setattr(excerpt.Excerpt, "give_back", lambda *_: None)
    commit = series.apply(source, ["one"], root, cache)
    assert "filemap_five" in fake.git(source.repo, "show", f"{commit}:mm/filemap.c")


@pytest.mark.parametrize("left", ["a worktree", "an excerpt", "a directory"])
def test_scratch_left_by_a_killed_run_is_no_obstacle(
    root: Path, cache: Path, source: tree.Source, left: str
) -> None:
    scratch = source.repo.with_suffix(".am")
    if left == "a worktree":
        fake.git(source.repo, "worktree", "add", "--detach", str(scratch), source.commit)
    elif left == "an excerpt":
        assert excerpt.Excerpt(source.repo, source.commit, ["mm/filemap.c"], scratch).make()
    else:
        (scratch / ".git").mkdir(parents=True)
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
