# SPDX-License-Identifier: GPL-2.0
"""`harness new`: what is begun is whole, and nothing is left of what cannot be."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.experiment.plan import cells
from harness.kernel import build
from tests.fakes import kernel as fake
from tests.series.conftest import Desk, change

REPOSITORY = Path(__file__).parents[2]


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def workloads(desk: Desk) -> Desk:
    """The real library, so that the race can be compiled."""
    shutil.copytree(REPOSITORY / "workloads", desk.root / "workloads", dirs_exist_ok=True)
    for old in (desk.root / "workloads").glob("*/*.c"):
        if old.parent.name in ("races", "gates", "bench"):
            old.unlink()
    (desk.root / "workloads/races/punch.c").write_text("int main(void) { return 0; }\n")
    return desk


def test_a_race_is_compiled_and_in_the_plan_when_named(workloads: Desk, tmp_path: Path) -> None:
    before = workloads.toml.read_text()
    said = workloads.type("new", "race", "punch-mine")
    assert "next: harness run quick -w punch-mine" in said
    assert workloads.toml.read_text().startswith(before)
    source = workloads.root / "workloads/races/punch-mine.c"
    assert "TODO" not in source.read_text() and "@NAME@" not in source.read_text()
    cfg = workloads.load()
    planned = [cell.name for cell in cells(cfg, "quick", workloads=["punch-mine"])]
    assert planned == [
        "control/ext4/punch-mine@readahead", "control/ext4/punch-mine@punch",
        "control/ext4/punch-mine@off", "stock/ext4/punch-mine",
    ]  # fmt: skip
    (window,) = cfg.workload["punch-mine"].windows["ext4"]
    assert window.argument == "ext4_punch:20000:100@readahead_submitted/readahead"
    out = tmp_path / "out"
    program = out / "races/punch-mine"
    subprocess.run(
        ["make", "-s", "-C", str(workloads.root / "workloads"), f"OUT={out}", str(program)],
        check=True, capture_output=True,
    )  # fmt: skip
    # It finds what is planted, whatever the file system: that needs no race.
    (tmp_path / "dir").mkdir()
    argv = [str(program), "--dir", str(tmp_path / "dir"), "--trials", "2", "--plant", "cache"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr  # exposed
    assert "punch-mine" in done.stdout


def test_a_race_takes_the_switches_and_file_systems_there_are(workloads: Desk) -> None:
    with workloads.toml.open("a") as file:
        file.write(
            '\n[switch.punch]\nwhat = "x"\n[switch.fault]\nwhat = "x"\n[switch.mkwrite]\n'
            'what = "x"\n[filesystem.small]\ntype = "ext4"\nmkfs = ["mkfs.ext4"]\n'
        )
    workloads.type("new", "race", "a.b")
    assert workloads.load().workload["a.b"].switches == ["punch"]
    assert workloads.load().workload["a.b"].filesystems == ["ext4", "small"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../x", "race name '../x'"),
        ('a"b', "race name"),
        ("a b", "race name 'a b'"),
        ("x" * 65, "at most 64"),
        ("punch", "there is a workload 'punch'"),
        ("other", "other.c is there already"),
    ],
)
def test_a_name_that_will_not_do(name: str, said: str, workloads: Desk) -> None:
    (workloads.root / "workloads/races/other.c").write_text("int other;\n")
    before = snapshot(workloads.root)
    assert said in workloads.type("new", "race", name, code=2)
    assert snapshot(workloads.root) == before


def test_a_race_whose_table_is_refused_leaves_no_file(
    workloads: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.skeleton._race_table", lambda *_: '[workload.x]\nkind = "rice"\n')
    before = snapshot(workloads.root)
    assert "the file is left as it was" in workloads.type("new", "race", "x", code=2)
    assert snapshot(workloads.root) == before


def test_a_series_applies_and_builds_and_is_clean(desk: Desk) -> None:
    before = desk.toml.read_text()
    said = desk.type("new", "series", "mine")
    assert "next: harness run quick -k control -k mine" in said
    after = desk.toml.read_text()
    assert after.startswith(before)
    cfg = desk.load()
    assert cfg.kernel["mine"].series == ["windows", "mine"]
    assert "after windows: applies" in desk.type("series", "check", "mine", "--no-checkpatch")
    (patch,) = desk.folder("mine").glob("*.patch")
    text = patch.read_text()
    assert '+\tpr_debug("mine: the page cache is set up\\n");' in text
    assert "\nSigned-off-by: A Developer <dev@example.org>\n---\n" in text
    assert "\nFrom: A Developer <dev@example.org>\n" in text
    assert max(len(line) for line in text.split("\n---\n")[0].splitlines()) <= 75
    image = build.ensure("mine", cfg, desk.cache)
    assert image.built
    source = desk.cache / "kernels/mine/src/mm/filemap.c"
    assert "mine: the page cache is set up" in source.read_text()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["stock"], "there is a kernel 'stock'"),
        (["taken"], "taken/6.12 is there already"),
        (["n" * 25], "at most 24"),
        (["../x"], "series name '../x'"),
        (["x", "--line", "5.4"], "no [tree.*] has line '5.4'"),
    ],
)
def test_a_series_that_cannot_be_begun(argv: list[str], said: str, desk: Desk) -> None:
    fake.write_series(desk.root, "taken", {"1.patch": change("x", 1)})
    before = snapshot(desk.root)
    assert said in desk.type("new", "series", *argv, code=2)
    assert snapshot(desk.root) == before


def test_a_series_needs_somebody_and_some_place(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "home/.gitconfig").write_text("[user]\n\tuseConfigOnly = true\n")
    said = desk.type("new", "series", "mine", code=2)
    assert "git does not know who you are" in said and "try: git config --global" in said
    (tmp_path / "home/.gitconfig").write_text("[user]\n\tname = A\n\temail = a@example.org\n")
    fake_file = desk.root / "linux/mm/filemap.c"
    fake_file.write_text(fake_file.read_text().replace("page_writeback_init", "gone"))
    assert "no call of page_writeback_init()" in desk.type("new", "series", "mine", code=2)
    assert "mine" not in desk.load().kernel
