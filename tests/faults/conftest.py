# SPDX-License-Identifier: GPL-2.0
"""A checkout of its own for each campaign: the project's kernels and workloads, its own plan."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from harness.config import load
from harness.kernel.build import ensure
from harness.places import cache_dir
from tests.vm.conftest import ROOT, harness, qemus

LIMIT_S = 3600
# The project's own tree, kernel and file system, word for word: no kernel is built anew.
TAKEN = ('[tree."debian-6.12"]', "[kernel.stock]", "[kernel.provoke]", "[filesystem.ext4]")
GUEST = """
[guest.small]
cpus = 2
memory_mib = 512
accel = "auto"
disk_mib = 256

"""


def tables() -> str:
    """The tables of harness.toml that a campaign has in common with it."""
    text = (ROOT / "harness.toml").read_text()
    parts = [re.search(rf"^{re.escape(head)}\n(?:.+\n)+", text, re.MULTILINE) for head in TAKEN]
    return "\n".join(part.group() for part in parts if part) + GUEST


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

    def write(
        self,
        faults: Sequence[str],
        trials: int = 1,
        kernel: str = "stock",
        instead: Mapping[str, str] | None = None,
        **plan: Any,
    ) -> list[str]:
        """A plan of one cell for each of `faults`, in their order; the cells' names.

        `instead`: lines of its harness.toml, and what is to stand there.
        """
        if kernel != "stock":
            ensure(kernel, load(ROOT / "harness.toml"), cache_dir())
        text = [tables()]
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
            f"[plan.truth]\nkernels = ['{kernel}']\nfilesystems = ['ext4']\nguest = 'small'\n"
            f"workloads = {json.dumps(names)}\n"
            f"trials = {{ stock = {trials}, candidate = {trials} }}\n"
        )
        text += [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
        whole = "".join(text)
        for old, new in (instead or {}).items():
            assert old in whole
            whole = whole.replace(old, new)
        (self.place / "harness.toml").write_text(whole)
        for room in ("patches", "vm", "workloads"):
            link = self.place / room
            if not link.exists():
                link.symlink_to(ROOT / room)
        return [f"{kernel}/ext4/{name}" for name in names]

    def start(
        self, *args: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """The program, in the campaign's place."""
        config = self.place / "harness.toml"
        return harness(*args, cwd=self.place, config=config, environment=environment)

    def run(self, *args: str, **options: Any) -> tuple[int, str]:
        """Exit code, and everything it said."""
        process = self.start(*args, **options)
        try:
            while True:
                self._note_peak(process.pid)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    said, _ = process.communicate(timeout=0.2)
                    break
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert "Traceback" not in said, said
        return process.returncode, said

    def _note_peak(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            if found := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
                (self.place / "peak").write_text(found[1])

    def peak_mib(self) -> int:
        """The most memory that the last run() was seen to use, without QEMU."""
        return int((self.place / "peak").read_text()) >> 10

    def document(self) -> dict[str, Any]:
        """run.json of the newest run."""
        value = json.loads((self.place / "results/latest/run.json").read_text())
        assert isinstance(value, dict)
        return value

    def left_behind(self) -> list[str]:
        """What should not be there when nothing runs: QEMUs, disks, keys."""
        rubbish = [f"qemu {pid}" for pid in qemus(self.place)]
        keys = ("initramfs.cpio", "keys.cpio", "host_key")
        for pattern in (*keys, "machines/*/*.img", ".*.????????"):
            rubbish += [str(path) for path in self.place.glob(f"results/*/**/{pattern}")]
        return rubbish


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    ensure("stock", load(ROOT / "harness.toml"), cache_dir())
    return Campaign(tmp_path)
