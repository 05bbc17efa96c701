# SPDX-License-Identifier: GPL-2.0
"""A checkout of its own for each campaign: the project's kernels and workloads, its own plan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from harness.config import load
from harness.kernel.build import ensure
from harness.places import cache_dir
from tests.vm.conftest import ROOT, qemus

LIMIT_S = 3600
TABLES = """
[tree."debian-6.12"]
kind = "debian"
package = "linux-source-6.12"
line = "6.12"

[kernel.stock]
role = "stock"
tree = "debian-6.12"
series = ["race-windows"]
fragments = ["base", "guest", "filesystems", "trim", "race-windows"]

[guest.small]
cpus = 2
memory_mib = 512
accel = "auto"
disk_mib = 256

[filesystem.ext4]
type = "ext4"
mkfs = ["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=1"]
mount = ["noatime"]
block_size = 4096
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of it boots kernels; what takes minutes is for `make faults` only."""
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.timeout(LIMIT_S))


@dataclass(frozen=True)
class Row:
    """A line of docs/reliability.md: what was done, what had to come of it, what came."""

    fault: str
    expected: str
    seen: str
    evidence: str
    times: int = 1


ROWS: list[Row] = []
HEAD = """<!-- SPDX-License-Identifier: GPL-2.0 -->
# What happened when everything went wrong

Made by `make faults`, which injects each of these faults into real runs on a real kernel and
fails where anything but the expected came of it. In no case was a QEMU, a scratch disk or a key
left behind.

"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", type=Path, help="write the campaign's table to this file")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    path = session.config.getoption("--reliability", None)
    if path is None or exitstatus != 0:
        return
    release = load(ROOT / "harness.toml").tree["debian-6.12"].line
    number = sum(row.times for row in ROWS)
    lines = [f"Kernel {release}, {date.today().isoformat()}, {number} faults:\n"]
    lines.append("| fault | expected | seen | evidence | times |\n|---|---|---|---|---|")
    lines += [
        f"| {row.fault} | {row.expected} | {row.seen} | {row.evidence} | {row.times} |"
        for row in ROWS
    ]
    path.write_text(HEAD + "\n".join(lines) + "\n")


@dataclass(frozen=True)
class Campaign:
    """A place with a harness.toml in which each workload does what its name says."""

    place: Path

    def write(self, faults: Sequence[str], trials: int = 1, **plan: Any) -> list[str]:
        """A plan of one cell for each of `faults`, in their order; the cells' names."""
        text = [TABLES]
        names = []
        for number, fault in enumerate(faults, 1):
            names.append(f"c{number:03}-{fault or 'clean'}")
            args = json.dumps(["--plant", fault] if fault else [])
            text.append(
                f"[workload.{names[-1]}]\nkind = 'gate'\nsource = 'gates/truth.c'\n"
                f"args = {args}\ntimeout_s = 2.0\n"
            )
        settings = {"jobs": 2, "cells_per_boot": 8, **plan}
        text.append(
            f"[plan.truth]\nkernels = ['stock']\nfilesystems = ['ext4']\nguest = 'small'\n"
            f"workloads = {json.dumps(names)}\ntrials = {{ stock = {trials} }}\n"
        )
        text += [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
        (self.place / "harness.toml").write_text("".join(text))
        for room in ("patches", "vm", "workloads"):
            link = self.place / room
            if not link.exists():
                link.symlink_to(ROOT / room)
        return [f"stock/ext4/{name}" for name in names]

    def start(self, *args: str, environment: Mapping[str, str] | None = None) -> Any:
        """The program, as a user starts it, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *args],
            cwd=self.place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )  # fmt: skip

    def run(self, *args: str, **options: Any) -> tuple[int, str]:
        """Exit code, and everything it said."""
        process = self.start(*args, **options)
        try:
            said, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert "Traceback" not in said, said
        return process.returncode, said

    def document(self) -> dict[str, Any]:
        """run.json of the newest run."""
        value = json.loads((self.place / "results/latest/run.json").read_text())
        assert isinstance(value, dict)
        return value

    def left_behind(self) -> list[str]:
        """What should not be there when nothing runs: QEMUs, disks, keys."""
        rubbish = [f"qemu {pid}" for pid in qemus(self.place)]
        for pattern in ("initramfs.cpio", "host_key", "machines/*/*.img", ".*.????????"):
            rubbish += [str(path) for path in self.place.glob(f"results/*/**/{pattern}")]
        return rubbish


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    ensure("stock", load(ROOT / "harness.toml"), cache_dir())
    return Campaign(tmp_path)
