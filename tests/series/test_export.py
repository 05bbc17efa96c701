# SPDX-License-Identifier: GPL-2.0
"""`harness series export`: what git send-email gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.series import letter
from tests.fakes import kernel as fake
from tests.series.conftest import Desk, Outgoing, change

ONE = change("mm: one", 3).replace("---\ndiff", "---\nv2: better\n\ndiff", 1)
TWO = change("fs: two", 8, "fs/inode.c")


def cell(kernel: str, role: str, exposed: int, trials: int, **more: Any) -> dict[str, Any]:
    interval = [exposed / trials * 0.9, min(1.0, exposed / trials + 0.01)]
    # Two more trials say nothing.
    outcomes = {"exposed": exposed, "held": trials - exposed, "untested": 2}
    verdict = {"state": "exposed" if exposed else "held", "as_expected": True,
               "trials": trials + 2, "outcomes": outcomes, "interval": interval}  # fmt: skip
    return {"kernel": kernel, "role": role, "filesystem": "ext4", "workload": "punch-read",
            "armed": True, "must_fire": role == "control", "verdict": verdict, **more}  # fmt: skip


RUN: dict[str, Any] = {
    "id": "20261125T000000Z-quick-abcd",
    "accelerator": "tcg",
    "cells": [cell("control", "control", 100, 100), cell("stock", "stock", 0, 320),
              cell("candidate", "candidate", 7, 320)],
    "not_run": [{"name": "x"}],
}  # fmt: skip


def write_run(root: Path, run: dict[str, Any]) -> None:
    place = root / "results" / run["id"]
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps(run))
    (root / "results" / "latest").symlink_to(place.name)


def test_mails_with_a_cover_letter(desk: Desk, tmp_path: Path) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": ONE, "2.patch": TWO})
    write_run(desk.root, RUN)
    (tmp_path / "cover.txt").write_text("mm: both of them\n\nThey are good.\n")
    said = desk.type("series", "export", "mine", tmp_path / "out", "--run", "latest",
                     "--cover", tmp_path / "cover.txt", "--reroll-count", "3")  # fmt: skip
    assert f"next: git send-email {tmp_path / 'out'}" in said
    names = ["0000-cover-letter.patch", "0001-mm-one.patch", "0002-fs-two.patch"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    cover, one, two = ((tmp_path / "out" / name).read_text() for name in names)
    head, body = cover.split("\n\n", 1)
    assert "Subject: [PATCH v3 0/2] mm: both of them" in head
    assert "From: A Developer <dev@example.org>" in head and "\nDate: " in head
    assert body.startswith("They are good.\n\nRun 20261125T000000Z-quick-abcd, tcg:\n")
    assert "\nA Developer (2):\n  mm: one\n  fs: two\n" in body
    assert "\n fs/inode.c   | 2 +-\n mm/filemap.c | 2 +-\n 2 files changed, " in body
    assert max(len(line) for line in body.splitlines()) <= 72
    assert "Subject: [PATCH v3 1/2] mm: one\n" in one
    assert "\n---\nv2: better\n\ndiff --git " in one  # for the reader, not for the log
    assert "Subject: [PATCH v3 2/2] fs: two\n" in two


def test_there_and_back_again(desk: Desk, outgoing: Outgoing, tmp_path: Path) -> None:
    (tmp_path / "cover.txt").write_text("mm: both of them\n\nThey are good.\n")
    fake.write_series(desk.root, "mine", {"1.patch": ONE, "2.patch": TWO})
    desk.type("series", "export", "mine", "out", "--cover", tmp_path / "cover.txt")
    desk.type("series", "import", "again", "out")
    write_run(desk.root, RUN)
    desk.type("series", "export", "again", "out2", "--run", "latest")
    desk.type("series", "import", "third", "out2")
    files = [{p.name: p.read_bytes() for p in desk.folder(n).iterdir()} for n in ("again", "third")]
    assert files[0] == files[1]
    # What an export adds to the text of a cover letter does not pile up.
    assert files[0]["cover-letter.txt"] == b"mm: both of them\n\nThey are good.\n"


def test_without_a_text_it_cannot_be_sent_by_mistake(desk: Desk) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": ONE})
    said = desk.type("series", "export", "mine", "out")
    assert "next: write the text of out/0000-cover-letter.patch" in said
    text = Path("out/0000-cover-letter.patch").read_text()
    assert "*** SUBJECT HERE ***" in text and "*** BLURB HERE ***" in text
    Path("out/notes.txt").write_text("mine")
    assert "has patches already" in desk.type("series", "export", "mine", "out", code=2)
    fake.write_series(desk.root, "mine", {"2.patch": TWO})
    desk.type("series", "export", "mine", "out", "--force")
    assert sorted(p.name for p in Path("out").iterdir()) == [
        "0000-cover-letter.patch", "0001-fs-two.patch", "notes.txt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["mine", "out", "--run", "gone"], "no run 'gone' in results"),
        (["mine", "out", "--cover", "gone"], "--cover gone: no such file"),
        (["gone", "out"], "no series 'gone'"),
        (["mine", "out", "--line", "5.4"], "has no patches for tree line '5.4'"),
        (["mine", "linux/Makefile"], "cannot write it"),
    ],
)
def test_a_wrong_command_line(argv: list[str], said: str, desk: Desk) -> None:
    fake.write_series(desk.root, "mine", {"1.patch": ONE})
    assert said in desk.type("series", "export", *argv, code=2)
    assert not Path("out").exists()


def test_the_table_of_a_run() -> None:
    assert letter.table(RUN) == [
        "Run 20261125T000000Z-quick-abcd, tcg:",
        "",
        "filesystem  race                           verdict   exposed, % (95 %)",
        "-" * 72,
        "stock:",
        "ext4        punch-read                     held      0/320 <1",
        "candidate:",
        "ext4        punch-read                     exposed   7/320 1.96-3.19",
        "-" * 72,
        "control: the race fired in 1 of 1 cells with a lock off",
        "3 of 3 cells are as expected",
        "1 not run",
    ]


@given(
    kernel=st.text(max_size=70), workload=st.text(max_size=70), trials=st.integers(1, 10**6),
    data=st.data(),
)  # fmt: skip
def test_it_has_72_columns_whatever_is_in_it(
    kernel: str, workload: str, trials: int, data: st.DataObject
) -> None:
    exposed = data.draw(st.integers(0, trials))
    one = cell(kernel, "candidate", exposed, trials, workload=workload)
    for line in letter.table({"id": kernel, "cells": [one]}):
        assert len(line) <= 72 and line.isprintable()
