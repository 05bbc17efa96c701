# SPDX-License-Identifier: GPL-2.0
"""A root directory with the fake kernel, and a cache, for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.kernel import tree
from tests.fakes import kernel as fake


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Directory of an experiment: linux/ (the fake tree) and one fragment."""
    directory = tmp_path / "root"
    directory.mkdir()
    fake.linux(directory / "linux")
    fake.write_fragment(directory, "base", "# Two CPUs.\nCONFIG_SMP=y\n")
    return directory


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def source(root: Path, cache: Path) -> tree.Source:
    """The fake tree, materialised."""
    cfg = fake.experiment(root)
    return tree.materialise("fake", cfg.tree["fake"], root, cache)
