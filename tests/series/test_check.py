# SPDX-License-Identifier: GPL-2.0
"""`harness series check` and `apply`: where a series goes on, and how clean it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.kernel import build
from harness.series.check import Finding, summary
from tests.fakes import kernel as fake
from tests.series.conftest import Desk, change

ONE, TWO = change("mm: one", 3), change("fs: two", 8, "fs/inode.c")


def add_tree(desk: Desk, name: str, line: str) -> Path:
    """A second tree with a kernel like stock, on a copy of the first."""
    shutil.copytree(desk.root / "linux", desk.root / name)
    with desk.toml.open("a") as file:
        file.write(f'\n[tree.{name}]\nkind = "dir"\npath = "{name}"\nline = "{line}"\n')
    return desk.root / name


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def check(desk: Desk, *argv: str, code: int = 0) -> list[str]:
    said = desk.type("series", "check", "mine", *argv, code=code)
    progress = ("series ", "tree ", "build ")
    return [line for line in said.splitlines() if not line.startswith(progress)]


@pytest.fixture(autouse=True)
def no_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.series.sparse.which", lambda _name: None)


def test_it_applies(desk: Desk) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": ONE, "2.patch": TWO})
    assert check(desk) == [
        "six (6.12.9), after windows: applies",
        "  checkpatch: clean",
        "sparse: not run: sparse is not installed (apt-get install sparse)",
    ]


def test_it_stands_on_what_its_kernel_has_before_it(desk: Desk) -> None:
    # Only with this series in between does the next one fit.
    fake.write_series(desk.root, "first", {"1.patch": ONE})
    base = desk.root / "elsewhere"
    fake.linux(base)
    edit(base / "mm/filemap.c", "int filemap_3;", "int filemap_xxx;")
    after = fake.patch("mm: after", {"mm/filemap.c": ("filemap_xxx", "filemap_y")}, base)
    fake.write_series(desk.root, "mine", {"1.patch": after})
    assert check(desk, code=1)[0] == "six (6.12.9), after windows: conflicts"
    with desk.toml.open("a") as file:
        file.write('[kernel.k]\nrole = "candidate"\ntree = "six"\nfragments = ["base"]\n')
        file.write('series = ["first", "mine"]\n')
    assert check(desk)[0] == "six (6.12.9), after first: applies"


def test_offsets_are_told(desk: Desk) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": change("mm: one", 8)})
    edit(desk.root / "linux/mm/filemap.c", "int filemap_1;\n", "int a;\nint b;\nint filemap_1;\n")
    lines = check(desk)
    assert lines[0].endswith(": applies with offset")
    assert lines[1] == "  1.patch: found at: mm/filemap.c:8: 2 lines down"


def test_a_conflict_has_a_place_and_ends_the_trying(desk: Desk) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": TWO, "2.patch": ONE, "3.patch": TWO})
    edit(desk.root / "linux/mm/filemap.c", "int filemap_3;", "long filemap_3;")
    lines = check(desk, "--no-checkpatch", code=1)
    assert lines[:2] == [
        "six (6.12.9), after windows: conflicts",
        "  2.patch: does not fit: mm/filemap.c:1",
    ]
    assert not any("3.patch" in line for line in lines)


def test_a_file_that_is_not_there_is_a_conflict(desk: Desk) -> None:
    (desk.root / "linux/mm/truncate.c").unlink()
    fake.write_series(desk.root, "mine", {"1.patch": change("mm: one", 3, "mm/truncate.c")})
    assert "  1.patch: does not fit: mm/truncate.c: does not exist in index" in check(desk, code=1)


def test_what_is_upstream_is_passed_over(desk: Desk) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": ONE, "2.patch": TWO})
    edit(desk.root / "linux/mm/filemap.c", "int filemap_3;", "int filemap_xxx;")
    lines = check(desk)
    assert lines[:2] == ["six (6.12.9), after windows: applies", "  already upstream: 1.patch"]
    edit(desk.root / "linux/fs/inode.c", "int inode_8;", "int inode_xxxxxxxx;")
    assert check(desk)[0] == "six (6.12.9), after windows: already upstream"


def test_a_line_without_a_port(desk: Desk) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": ONE})
    fake.write_series(desk.root, "mine", {"1.patch": TWO}, line="5.4")
    other = add_tree(desk, "seven", "6.18")
    assert check(desk)[2:4] == [
        "seven (6.12.9): no port",
        "  no patches for 6.18; those for 6.12: applies",  # the nearest line, not 5.4
    ]
    edit(other / "mm/filemap.c", "int filemap_3;", "long filemap_3;")
    # Nobody said that it would apply there: nothing is wrong.
    assert "  no patches for 6.18; those for 6.12: conflicts" in check(desk)


def test_what_checkpatch_finds(desk: Desk) -> None:
    bad = change("mm: one", 3, to="three; \t").replace("\t;", "\t")
    fake.write_series(desk.root, "mine", {"1.patch": change("x", 5, to="XXX")})
    lines = check(desk)
    assert lines[1] == "  checkpatch: 1 warning"
    assert lines[2].endswith("WARNING:FIXME: it says XXX") and lines[2].startswith("    1.patch:")
    fake.write_series(desk.root, "mine", {"1.patch": bad})
    assert check(desk, code=1)[1] == "  checkpatch: 1 error"
    assert check(desk, "--no-checkpatch")[1] == "  checkpatch: not run: not asked for"
    (desk.root / "linux/scripts/checkpatch.pl").write_text("die 'broken'")
    assert "WARNING:HARNESS: checkpatch itself failed: broken at" in "\n".join(check(desk))
    (desk.root / "linux/scripts/checkpatch.pl").unlink()
    assert "  checkpatch: not run: no scripts/checkpatch.pl in this tree" in check(desk)


def test_a_patch_cannot_write_to_the_terminal(desk: Desk) -> None:
    bad = change("x", 5, to="XXX").replace("filemap_XXX", "filemap_\x1b[2JXXX")
    fake.write_series(desk.root, "mine", {"\x1b[2J.patch": bad})
    assert "\x1b" not in "\n".join(check(desk))


def test_summary() -> None:
    assert summary([]) == "clean"
    found = [Finding(1, "ERROR", "X: a"), *[Finding(2, "WARNING", "X: : ERROR: b")] * 2]
    assert summary(found) == "1 error, 2 warnings"


def test_it_builds_after_each_patch(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": ONE, "2.patch": TWO})
    said = "\n".join(check(desk, "--build", code=2))
    assert "--build needs a kernel with the series 'mine'" in said
    with desk.toml.open("a") as file:
        file.write('[kernel.k]\nrole = "candidate"\ntree = "six"\nfragments = ["base"]\n')
        file.write('series = ["windows", "mine"]\n')
    lines = check(desk, "--build", "--no-boot")
    built = [line.split(": built")[0] for line in lines if ": built" in line]
    assert built == ["patch 1 of 2 (1.patch)", "patch 2 of 2 (2.patch)"]
    said = "\n".join(check(desk, "--build", "--kernel", "stock", code=2))
    assert "no kernel 'stock' with the series 'mine'" in said
    assert "goes with --build" in "\n".join(check(desk, "--no-boot", code=2))
    # What each_patch says of a kernel that is not well is what counts.
    monkeypatch.setattr("harness.each_patch.run", lambda *_a, **_k: 125)
    check(desk, "--build", code=125)


def test_sparse_looks_at_what_is_built(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words about a changed line count; those about the rest are a number."""
    fake.write_series(desk.root, "mine", {"1.patch": ONE})
    with desk.toml.open("a") as file:
        file.write('[kernel.k]\nrole = "candidate"\ntree = "six"\nfragments = ["base"]\n')
        file.write('series = ["windows", "mine"]\n')
    with (desk.root / "linux/Makefile").open("a") as file:
        file.write(
            "\nifeq ($(C),2)\nmm/filemap.o: FORCE\n"
            '\t@echo "$(CURDIR)/mm/filemap.c:4:5: warning: yours"\n'
            '\t@echo "$(CURDIR)/mm/filemap.c:9:5: warning: old"\n'
            "endif\n"
        )
    monkeypatch.setattr("harness.series.sparse.which", lambda _name: "/usr/bin/sparse")
    assert "sparse: not run: kernel k is not built (harness build k)" in check(desk)
    build.ensure("k", desk.load(), desk.cache)
    lines = check(desk, code=1)
    assert lines[2:] == [
        "sparse: 1 on lines it changes, 1 on lines it leaves alone (1 files)",
        "  mm/filemap.c:4: warning: yours",
    ]


# --- apply -------------------------------------------------------------------------


def test_apply_makes_a_worktree_to_look_at(desk: Desk, tmp_path: Path) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": ONE})
    said = desk.type("series", "apply", "mine", "--to", tmp_path / "look")
    assert str(tmp_path / "look") in said.splitlines()
    assert "int filemap_xxx;" in (tmp_path / "look/mm/filemap.c").read_text()
    assert "int inode_two;" in (tmp_path / "look/fs/inode.c").read_text()  # windows
    log = fake.git(tmp_path / "look", "log", "--format=%s").splitlines()
    assert log[:2] == ["mm: one", "fs: windows"]
    said = desk.type("series", "apply", "mine", "--to", tmp_path / "look", code=2)
    assert "look is not empty" in said
    assert "no series 'miner'" in desk.type("series", "apply", "miner", code=2)


def test_apply_follows_the_series_but_loses_nobodys_work(desk: Desk) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": ONE})
    place = Path(desk.type("series", "apply", "mine").split("\n")[-2].strip())
    place = desk.cache / "worktrees" / "mine-6.12"
    fake.write_series(desk.root, "mine", {"1.patch": ONE, "2.patch": TWO})
    desk.type("series", "apply", "mine")
    assert "inode_xxxxxxxx" in (place / "fs/inode.c").read_text()
    (place / "fs/inode.c").write_text("mine\n")
    assert "changes that are not committed" in desk.type("series", "apply", "mine", code=2)
    fake.git(place, "commit", "--quiet", "-am", "fs: mine")
    said = desk.type("series", "apply", "mine", code=2)
    assert "has commits of its own" in said
    assert (place / "fs/inode.c").read_text() == "mine\n"
    # The hint is how it comes back.
    desk.type("series", "import", "mine", "--force", "--git", place, "HEAD~3..")
    assert len((desk.folder("mine") / "series").read_text().split()) == 3
    desk.type("series", "apply", "mine", code=2)  # still theirs: a commit of another id


def test_a_series_that_does_not_apply_is_one_line(desk: Desk) -> None:
    edit(desk.root / "linux/mm/filemap.c", "int filemap_3;", "long filemap_3;")
    fake.write_series(desk.root, "mine", {"1.patch": ONE})
    said = desk.type("series", "apply", "mine", code=125)
    assert "harness: series mine: 1.patch does not apply to tree six (6.12.9): mm/filemap.c" in said
