# SPDX-License-Identifier: GPL-2.0
"""harness.toml grows at its end, and nothing else in it moves."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import load
from harness.errors import UsageError
from harness.series import table
from tests.conftest import TOML, Project, make_project

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,23}", fullmatch=True)
KERNEL = '\n[kernel.new]\nrole = "stock"\ntree = "six"\nfragments = ["base"]\n'


@given(name=NAMES, ending=st.sampled_from(["", "\n", "\n\n", "\n# the end", "\r\n"]))
@settings(max_examples=40, deadline=None)
def test_every_name_makes_a_table_and_the_rest_stays(name: str, ending: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        project = make_project(Path(place))
        text = TOML.rstrip("\n") + ending
        if ending == "\r\n":
            text = text.replace("\r\n", "\n").replace("\n", "\r\n")
        project.write(text)
        cfg = project.load()
        new = table.like_stock(cfg, "race-windows", "6.12")
        if name in cfg.kernel:
            return
        grown = table.append(cfg, table.kernel_text(name, new, "Why."))
        raw = project.path.read_bytes()
        assert raw.startswith(text.encode())
        assert (b"\r\n" in raw) == (ending == "\r\n")
        assert grown.kernel[name] == new
        assert list(grown.kernel) == [*cfg.kernel, name]
        assert [p.name for p in Path(place).glob(".*")] == []


@given(st.text(max_size=40))
def test_a_name_is_one_that_harness_toml_takes(name: str) -> None:
    fits = bool(name) and name.isascii() and all(c.isalnum() or c in "._-" for c in name)
    fits = fits and name[0].isalnum() and len(name) <= 24
    if fits:
        table.check_name("kernel", name, table.KERNEL_NAME_LENGTH)
    else:
        with pytest.raises(UsageError) as caught:
            table.check_name("kernel", name, table.KERNEL_NAME_LENGTH)
        assert "\n" not in caught.value.message and "\x1b" not in caught.value.message


def test_a_table_that_is_wrong_leaves_the_file_alone(project: Project) -> None:
    cfg = project.load()
    with pytest.raises(UsageError) as caught:
        table.append(cfg, KERNEL.replace("six", "seven"))
    line = TOML.count("\n") + 4
    assert caught.value.message == (
        f"{project.path}:{line}: kernel.new.tree: no [tree.seven] (there is: six)"
        " (with the new table; the file is left as it was)"
    )
    assert project.path.read_text() == TOML
    assert list(project.root.glob(".*")) == []


def test_a_link_stays_a_link_and_modes_stay(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target = elsewhere / "real.toml"
    project.path.rename(target)
    target.chmod(0o640)
    project.path.symlink_to(target)
    table.append(project.load(), KERNEL)
    assert project.path.is_symlink() and "new" in load(project.path).kernel
    assert target.stat().st_mode & 0o777 == 0o640
    project.path.unlink()
    target.replace(project.path)
    table.append(project.load(), KERNEL.replace("kernel.new", "kernel.newer"))
    assert project.path.stat().st_mode & 0o777 == 0o640
    assert "newer" in project.load().kernel


def test_a_kernel_is_like_the_stock_kernel_of_its_line(project: Project) -> None:
    cfg = project.load()
    assert table.like_stock(cfg, "mine", "6.12").series == ["race-windows", "mine"]
    assert table.like_stock(cfg, "race-windows", "6.12").series == ["race-windows"]
    with pytest.raises(UsageError, match=r"no \[tree.\*\] has line '6.6' \(there is: 6.12\)"):
        table.like_stock(cfg, "mine", "6.6")
