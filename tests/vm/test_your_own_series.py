# SPDX-License-Identifier: GPL-2.0
"""From git format-patch to a verdict and a letter, by the commands of docs/your-own-series.md."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.config import load
from harness.kernel import git, tree
from harness.places import cache_dir
from tests.series.test_docs import blocks
from tests.vm.conftest import ROOT

# A kernel of a name of its own, built from nothing, for one sentence of its log.
pytestmark = pytest.mark.slow
FILE, CALL = "mm/filemap.c", "\tpage_writeback_init();\n"
SAYS = "a series of one line was here"


@pytest.fixture
def kernel_dir() -> Iterator[Path]:
    """Where the kernel is built; not left behind if it was not there before."""
    place = cache_dir() / "kernels" / "mine"
    there = place.exists()
    yield place
    if not there:
        shutil.rmtree(place, ignore_errors=True)
        place.with_name("mine.lock").unlink(missing_ok=True)


def format_patch(linux: Path, original: str) -> None:
    """~/linux/outgoing, made by git format-patch from a commit that adds one line."""
    (linux / "mm").mkdir(parents=True)
    (linux / FILE).write_text(original)

    def run(*words: str) -> None:
        who = ["-c", "user.name=A Developer", "-c", "user.email=dev@example.org"]
        subprocess.run(["git", "-C", linux, *who, *words], check=True, capture_output=True)

    run("init", "--quiet")
    run("add", "-A")
    run("commit", "--quiet", "-m", "Linux 6.12")
    assert original.count(CALL) == 1
    (linux / FILE).write_text(original.replace(CALL, f'{CALL}\tpr_info("{SAYS}\\n");\n'))
    run("commit", "--quiet", "--signoff", "-am", "mm/filemap: say one thing")
    run("format-patch", "--quiet", "-o", "outgoing", "-1")


def test_the_three_commands_of_the_page(tmp_path: Path, kernel_dir: Path) -> None:
    root, home, bin_ = tmp_path / "checkout", tmp_path / "home", tmp_path / "bin"
    root.mkdir()
    shutil.copy(ROOT / "harness.toml", root)
    for part in ("patches", "vm", "workloads"):
        shutil.copytree(ROOT / part, root / part)
    cfg, cache = load(root / "harness.toml"), cache_dir()
    name = next(iter(cfg.tree))
    source_tree = tree.materialise(name, cfg.tree[name], root, cache)
    shown = git.attempt(source_tree.repo, "show", f"{source_tree.commit}:{FILE}")
    format_patch(home / "linux", shown.stdout)
    bin_.mkdir()
    program = bin_ / "harness"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m harness "$@"\n')
    program.chmod(0o755)
    env = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HARNESS_CACHE": str(cache),
    }
    for command in [*blocks()[0], *blocks()[1]]:
        done = subprocess.run(
            ["sh", "-c", command], cwd=root, env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        print(f"$ {command}\n{done.stdout}")
        assert done.returncode == 0, f"{command}\n{done.stdout}"
    results = root / "results/latest"
    run = json.loads((results / "run.json").read_text())
    mine = [cell for cell in run["cells"] if cell["kernel"] == "mine"]
    assert {cell["verdict"]["state"] for cell in mine} == {"held"}
    assert all(cell["verdict"]["as_expected"] for cell in run["cells"])
    # It was that kernel.
    logs = [(results / cell["directory"] / "dmesg.txt").read_text() for cell in mine]
    assert any(SAYS in log for log in logs)
    assert (results / "report.html").is_file()
    cover, patch = sorted((home / "to-post").iterdir())
    assert cover.name == "0000-cover-letter.patch"
    assert patch.name == "0001-mm-filemap-say-one-thing.patch"
    letter = cover.read_text()
    assert run["id"] in letter and "\nmine:\n" in letter and "mm/filemap: say one thing" in letter
    assert f'+\tpr_info("{SAYS}\\n");' in patch.read_text()
