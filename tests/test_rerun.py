# SPDX-License-Identifier: GPL-2.0
"""A cell of an earlier run again: the very kernel, the very seed, or no answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness import rerun
from harness.config import Config
from harness.errors import UsageError
from harness.events import Listener, silent
from harness.kernel import build, image
from harness.kernel.image import Image
from tests.experiment.test_runner import SMALL, run
from tests.fakes import fake_machine
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab

STOCK = "stock/ext4/punch"


def test_the_entry_says_how(tmp_path: Path) -> None:
    document, _, _ = run(tmp_path, Lab())
    (entry,) = [cell for cell in document["cells"] if cell["name"] == STOCK]
    words = rerun.arguments(entry)
    assert words[:2] == ["run", "quick"] and "exec" not in words
    cell = rerun.planned(document, entry, config(tmp_path, **SMALL))
    assert (cell.name, cell.seed, cell.trials) == (STOCK, entry["seed"], entry["planned"])
    with pytest.raises(UsageError, match="does not plan stock/ext4/punch as in"):
        rerun.planned({**document, "seed": 99}, entry, config(tmp_path, **SMALL))


def test_the_very_kernel_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document, _, _ = run(tmp_path, Lab())
    cfg = config(tmp_path, **SMALL)
    made = fake_machine.image("stock", cfg, tmp_path)
    loaded: list[Path] = []

    def load(images: Path, identity: str) -> Image | None:
        loaded.append(images / identity)
        return None

    def ensure(_name: str, _cfg: Config, _cache: Path, _listen: Listener) -> Image:
        return made

    monkeypatch.setattr(image, "load", load)
    monkeypatch.setattr(build, "ensure", ensure)
    assert rerun.kernel(document, "stock", cfg, tmp_path, silent) is made
    assert loaded == [tmp_path / "kernels/stock/images" / made.id]
    made = dataclasses.replace(made, id="ba9876543210")
    with pytest.raises(UsageError, match=r"kernel stock was 0123456789ab in .*, now it is ba98"):
        rerun.kernel(document, "stock", cfg, tmp_path, silent)
    with pytest.raises(UsageError, match="had no kernel 'other'"):
        rerun.kernel(document, "other", cfg, tmp_path, silent)
    kept = dataclasses.replace(made, id="0123456789ab")
    monkeypatch.setattr(image, "load", lambda _images, _id: kept)
    assert rerun.kernel(document, "stock", cfg, tmp_path, silent) is kept


def test_the_line_for_gdb(tmp_path: Path) -> None:
    made = fake_machine.image("stock", config(tmp_path, **SMALL), tmp_path / "a b")
    made.vmlinux.parent.mkdir(parents=True)
    line = rerun.gdb_line(made, Path("/run/gdb"))
    assert line == f"gdb '{made.vmlinux}' -ex 'target remote /run/gdb'"
    helpers = made.vmlinux.with_name("vmlinux-gdb.py")
    helpers.touch()
    assert f"-ex 'source {helpers}'" in rerun.gdb_line(made, Path("/run/gdb")).replace('"', "'")
