# SPDX-License-Identifier: GPL-2.0
"""`harness series import`: what lands in patches/ and harness.toml, and what never does."""

from __future__ import annotations

import base64
import mailbox
from pathlib import Path

import pytest

from harness.kernel import series, tree
from tests.fakes import kernel as fake
from tests.series.conftest import Desk, Outgoing, change, numbered

ONE, TWO = change("mm: one", 1), change("mm: two", 8)


def paths(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def applied(desk: Desk, name: str, before: tuple[str, ...] = ()) -> list[str]:
    """Subjects of the commits that the series becomes on the fake tree."""
    cfg = desk.load()
    desk.cache.mkdir(exist_ok=True)
    source = tree.materialise("six", cfg.tree["six"], cfg.root, desk.cache)
    commit = series.apply(source, [*before, name], cfg.root, desk.cache)
    log = fake.git(source.repo, "log", "--reverse", "--format=%s", f"{source.commit}..{commit}")
    return log.splitlines()


def test_a_folder_of_format_patch_files(desk: Desk, outgoing: Outgoing) -> None:
    source = outgoing(
        {
            "0000-cover-letter.patch": "From 0 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\n"
            "Subject: [PATCH 0/2] mm: both\n\nWhy both.\n\nA (2):\n  mm: one\n  mm: two\n\n"
            " mm/filemap.c | 4 ++--\n 1 file changed\n",
            "0001-mm-one.patch": numbered(ONE, "1/2"),
            "0002-mm-two.patch": numbered(TWO, "2/2"),
            "notes.txt": "not a mail",
        }
    )
    said = desk.type("series", "import", "mine", source)
    assert f"{desk.folder('mine')}: 2 patches" in said
    assert "next: harness series check mine" in said
    assert sorted(p.name for p in desk.folder("mine").iterdir()) == [
        "0001-mm-one.patch", "0002-mm-two.patch", "cover-letter.txt", "series",
    ]  # fmt: skip
    assert (desk.folder("mine") / "series").read_text() == "0001-mm-one.patch\n0002-mm-two.patch\n"
    assert (desk.folder("mine") / "cover-letter.txt").read_text() == "mm: both\n\nWhy both.\n"
    assert applied(desk, "mine") == ["mm: one", "mm: two"]


def test_an_mbox_a_maildir_and_one_file_come_to_the_same(desk: Desk, tmp_path: Path) -> None:
    mails = [numbered(TWO, "2/2"), numbered(ONE, "1/2")]
    (tmp_path / "t.mbox").write_text("".join(mails))
    box = mailbox.Maildir(tmp_path / "box")
    for text in mails:
        box.add(text.split("\n", 1)[1])
    desk.type("series", "import", "a", tmp_path / "t.mbox")
    desk.type("series", "import", "b", tmp_path / "box")
    both = [{p.name: p.read_bytes() for p in desk.folder(name).iterdir()} for name in "ab"]
    assert both[0] == both[1]
    assert list(both[0]["series"].split()) == [b"0001-mm-one.patch", b"0002-mm-two.patch"]


def test_b4_has_the_cover_letter_in_a_file_beside(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "v3.mbx").write_text(numbered(ONE, "v3 1/1"))
    (tmp_path / "v3.cover").write_text(
        "From: A <a@example.org>\nSubject: [PATCH v3 0/1] mm: what it is\n\nWhy.\n"
    )
    desk.type("series", "import", "mine", tmp_path / "v3.mbx")
    assert (desk.folder("mine") / "cover-letter.txt").read_text() == "mm: what it is\n\nWhy.\n"


def test_a_quilt_series_file_chooses(desk: Desk, outgoing: Outgoing) -> None:
    source = outgoing(
        {"b.patch": numbered(ONE, "2/3"), "a.patch": numbered(TWO, "3/3"),
         "series": "# mine\nb.patch -p1\n"}
    )  # fmt: skip
    desk.type("series", "import", "mine", source)
    assert (desk.folder("mine") / "series").read_text() == "0001-mm-one.patch\n"
    (source / "series").write_text("../b.patch\n")
    assert "not the name of a patch" in desk.type("series", "import", "x", source, code=2)


def test_a_range_of_a_git_repository(desk: Desk, tmp_path: Path) -> None:
    repo = fake.linux(tmp_path / "theirs")
    fake.git(repo, "init", "--quiet")
    # What a repository asks of git must not change what is taken from it.
    for key, value in (("diff.noprefix", "true"), ("format.coverLetter", "true"),
                       ("format.attach", "x"), ("format.subjectPrefix", "RFC"),
                       ("diff.external", "touch evil"), ("color.ui", "always")):  # fmt: skip
        fake.git(repo, "config", key, value)
    fake.git(repo, "add", "-A")
    fake.git(repo, "commit", "--quiet", "-m", "linux")
    fake.git(repo, "tag", "v6.12")
    for number, what in ((2, "mm: first"), (7, "mm: second")):
        file = repo / "mm/filemap.c"
        file.write_text(file.read_text().replace(f"filemap_{number};", f"filemap_{number}_new;"))
        fake.git(repo, "commit", "--quiet", "-am", what)
    for name, revisions in (("a", "v6.12.."), ("b", "v6.12"), ("c", "HEAD~2..master")):
        desk.type("series", "import", name, "--git", repo, revisions)
        assert applied(desk, name) == ["mm: first", "mm: second"]
    assert not (repo / "evil").exists() and not (desk.root / "evil").exists()
    said = desk.type("series", "import", "d", "--git", repo, "v6.13..", code=2)
    assert "no range 'v6.13..'" in said and "  try: git -C " in said
    assert "no commit in it" in desk.type("series", "import", "d", "--git", repo, "HEAD..", code=2)
    fake.git(repo, "checkout", "--quiet", "-b", "side", "v6.12")
    fake.git(repo, "commit", "--quiet", "--allow-empty", "-m", "aside")
    fake.git(repo, "merge", "--quiet", "--no-ff", "-m", "merged", "master")
    said = desk.type("series", "import", "d", "--git", repo, "v6.12..side", code=2)
    assert "has merges, which cannot be patches" in said
    assert "no git repository" in desk.type("series", "import", "d", "--git", "/", "a..", code=2)
    assert not desk.folder("d").exists()


def test_nothing_is_overwritten_but_by_force(desk: Desk, outgoing: Outgoing) -> None:
    source = outgoing({"1.patch": ONE})
    desk.type("series", "import", "mine", source)
    (source / "1.patch").write_text(TWO)
    before = paths(desk.root)
    said = desk.type("series", "import", "mine", source, code=2)
    assert "is there already" in said and "--force" in said
    assert paths(desk.root) == before
    desk.type("series", "import", "mine", "--force", source)
    assert (desk.folder("mine") / "series").read_text() == "0001-mm-two.patch\n"
    assert sorted(p.name for p in (desk.root / "patches/mine").iterdir()) == ["6.12"]


def test_with_a_kernel(desk: Desk, outgoing: Outgoing) -> None:
    before = desk.toml.read_text()
    source = outgoing({"1.patch": ONE})
    said = desk.type("series", "import", "mine", source, "--kernel", "mine-1")
    assert "next: harness run quick -k control -k mine-1" in said
    after = desk.toml.read_text()
    assert after.startswith(before)
    assert after[len(before) :] == (
        f"\n# Series mine, imported from {source}.\n[kernel.mine-1]\n"
        'role = "candidate"\ntree = "six"\nseries = ["windows", "mine"]\nfragments = ["base"]\n'
    )
    assert desk.load().kernel["mine-1"].series == ["windows", "mine"]
    assert applied(desk, "mine", ("windows",)) == ["fs: windows", "mm: one"]
    # The next version of it: the kernel stays as its owner may have changed it.
    desk.type("series", "import", "mine", source, "--kernel", "mine-1", "--force")
    assert desk.toml.read_text() == after


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["a/b", "SOURCE"], "series name 'a/b'"),
        (["../x", "SOURCE"], "series name '../x'"),
        (["-x", "SOURCE"], ""),
        (["x", "SOURCE", "--line", "../6"], "tree line name '../6'"),
        (["x", "SOURCE", "--kernel", "a b"], "kernel name 'a b'"),
        (["x", "SOURCE", "--kernel", "n" * 25], "at most 24"),
        (["x", "SOURCE", "--kernel", "stock"], "there is a kernel 'stock', and it has no series"),
        (["x", "SOURCE", "--kernel", "k", "--line", "5.4"], "no [tree.*] has line '5.4'"),
        (["x"], "required: SOURCE"),
        (["x", "SOURCE", "--git", "a", "b.."], "unrecognized arguments: b.."),
        (["x", "nowhere"], "no file or folder nowhere"),
        (["x", "linux/mm"], "no *.patch in it"),
    ],
)
def test_a_wrong_command_line_changes_nothing(
    argv: list[str], said: str, desk: Desk, outgoing: Outgoing
) -> None:
    source = outgoing({"1.patch": ONE})
    before, toml = paths(desk.root), desk.toml.read_bytes()
    argv = [str(source) if word == "SOURCE" else word for word in argv]
    assert said in desk.type("series", "import", *argv, code=2)
    assert (paths(desk.root), desk.toml.read_bytes()) == (before, toml)


def test_a_harness_toml_that_would_be_wrong_is_left_alone(
    desk: Desk, outgoing: Outgoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = outgoing({"1.patch": ONE})
    desk.type("series", "import", "mine", source)
    before, toml = paths(desk.root), desk.toml.read_bytes()
    (source / "1.patch").write_text(TWO)
    # A remark that ends its comment would be taken for a key.
    monkeypatch.setattr("harness.series.importing.printable", lambda _text: "x\nevil = 1")
    said = desk.type("series", "import", "mine", source, "--kernel", "k", "--force", code=2)
    assert "left as it was" in said and "evil" in said and ".new" not in said
    assert (paths(desk.root), desk.toml.read_bytes()) == (before, toml)
    assert (desk.folder("mine") / "series").read_text() == "0001-mm-one.patch\n"  # the old one


@pytest.mark.parametrize(
    "subject",
    ["../../../evil", "/etc/evil", "a\nb: c", "$(evil)", "\x1b[2J", "a" * 500, "", "..", "-r"],
)
def test_a_hostile_subject_stays_in_the_folder(
    subject: str, desk: Desk, outgoing: Outgoing
) -> None:
    coded = f"=?utf-8?b?{base64.b64encode(subject.encode()).decode()}?="
    source = outgoing({"1.patch": ONE.replace("mm: one", coded)})
    before = paths(desk.root)
    said = desk.type("series", "import", "mine", source)
    assert "\x1b" not in said
    new = paths(desk.root) - before
    (patch,) = (name for name in new if name.endswith(".patch"))
    assert new == {
        "patches/mine", "patches/mine/6.12", "patches/mine/6.12/series",
        f"patches/mine/6.12/{Path(patch).name}",
    }  # fmt: skip
    assert len(applied(desk, "mine")) == 1


def test_the_list_says_who_uses_what(desk: Desk, outgoing: Outgoing) -> None:
    desk.type("series", "import", "mine", outgoing({"1.patch": ONE}))
    (desk.folder("mine") / "series").write_text("gone.patch\n")
    lines = [line.split() for line in desk.type("series", "list").splitlines()]
    assert lines == [
        ["series", "line", "patches", "kernels"],
        ["mine", "6.12", "broken", "(no", "kernel)"],
        ["windows", "6.12", "1", "stock", "control"],
    ]
