# SPDX-License-Identifier: GPL-2.0
"""What all tests share: a small project directory that harness.config.load accepts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import config

TOML = """\
[tree.six]
kind = "debian"
package = "linux-source-6.12"
line = "6.12"

[kernel.stock]
role = "stock"
tree = "six"
series = ["race-windows"]
fragments = ["base", "guest"]

[kernel.control]
role = "control"
tree = "six"
series = [
    "race-windows",
    "reopen-races",  # the switches
]
fragments = ["base", "guest"]

[guest.small]
cpus = 2
memory_mib = 512

[filesystem.ext4]
type = "ext4"
mkfs = ["mkfs.ext4", "-q"]
mount = ["noatime"]

[filesystem.xfs]
type = "xfs"
mkfs = ["mkfs.xfs", "-q"]

[workload.punch]
kind = "race"
source = "races/punch.c"
switches = ["fault", "fault+mkwrite"]
windows.ext4 = [{ name = "ext4_punch", delay_us = 2000 }]
windows.xfs = [
    { name = "xfs_punch", delay_us = 2000, probability = 50 },
    { name = "filemap_fault", delay_us = 5 },
]

[plan.quick]
kernels = ["control", "stock"]
filesystems = ["ext4", "xfs"]
workloads = ["punch"]
guest = "small"
trials = { control = 10, stock = 20 }
"""


@dataclass(frozen=True)
class Project:
    """A directory with a harness.toml and the files that it points to."""

    root: Path
    toml: str = TOML

    @property
    def path(self) -> Path:
        return self.root / "harness.toml"

    def write(self, text: str | bytes) -> Path:
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self.path

    def load(self) -> config.Config:
        return config.load(self.path)


def make_project(root: Path) -> Project:
    """Fill the existing directory `root`."""
    for series in ("race-windows", "reopen-races"):
        folder = root / "patches" / series / "6.12"
        folder.mkdir(parents=True)
        (folder / "series").write_text("")
    (root / "vm" / "kconfig").mkdir(parents=True)
    for fragment in ("base", "guest"):
        (root / "vm" / "kconfig" / f"{fragment}.config").write_text("")
    (root / "workloads" / "races").mkdir(parents=True)
    (root / "workloads" / "races" / "punch.c").write_text("")
    project = Project(root)
    project.write(TOML)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A valid project in a directory of its own."""
    return make_project(tmp_path)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is flushed for the sake of a power cut costs a fake most of its time."""
    # Not by `monkeypatch`: a test's own would then be undone after the fixtures it is used in.
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("vm") is None:
            patch.setattr(os, "fsync", lambda _descriptor: None)
        yield
