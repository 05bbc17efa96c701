# SPDX-License-Identifier: GPL-2.0
"""`harness bisect` on a real kernel: which of four patches lets page faults past the lock?"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from harness.config import load
from harness.kernel import series, tree
from harness.kernel.git import out
from harness.places import cache_dir
from tests.vm.conftest import ROOT, harness

FILE, CALL = "mm/filemap.c", "\tpage_writeback_init();\n"
FAULT = "/**\n * filemap_fault - read in file data for page fault handling\n"
UNLOCKED = """\
#define filemap_invalidate_lock_shared(mapping)		do { } while (0)
#define filemap_invalidate_unlock_shared(mapping)	do { } while (0)

"""
LOCKED = """\
#undef filemap_invalidate_lock_shared
#undef filemap_invalidate_unlock_shared

"""


def patches(original: str, place: Path) -> None:
    """Four commits, the third of which is the culprit, as git format-patch writes them."""
    linux = place / "linux"
    (linux / "mm").mkdir(parents=True)
    text = original

    def run(*words: str) -> None:
        who = ["-c", "user.name=A Developer", "-c", "user.email=dev@example.org"]
        subprocess.run(["git", "-C", linux, *who, *words], check=True, capture_output=True)

    def commit(subject: str) -> None:
        (linux / FILE).write_text(text)
        run("add", "-A")
        run("commit", "--quiet", "-m", subject)

    run("init", "--quiet")
    commit("Linux 6.12")
    for number in (1, 2, 3, 4):
        if number == 3:
            at = text.index(FAULT)
            text = text[:at] + UNLOCKED + text[at:]
            at = text.index("\n}\n", text.index("\nvm_fault_t filemap_fault(")) + 3
            text = text[:at] + LOCKED + text[at:]
            commit("mm/filemap: page faults are in a hurry")
        else:
            text = text.replace(CALL, f'{CALL}\tpr_info("step {number}\\n");\n')
            commit(f"mm/filemap: say {number}")
    run("format-patch", "--quiet", "-o", str(place / "out"), "-4")


def test_the_patch_that_reopened_a_race(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    root.mkdir()
    for part in ("patches", "vm", "workloads"):
        shutil.copytree(ROOT / part, root / part)
    # The kernel keeps its name, and with it its worktree and O=.
    text = (ROOT / "harness.toml").read_text()
    old = 'role = "stock"\ntree = "debian-6.12"\nseries = ["race-windows"]'
    assert old in text
    text = text.replace(old, old.replace('["race-windows"]', '["race-windows", "hasty"]'), 1)
    (root / "patches/hasty/6.12").mkdir(parents=True)
    (root / "patches/hasty/6.12/series").write_text("")
    (root / "harness.toml").write_text(text)
    cfg, cache = load(root / "harness.toml"), cache_dir()
    name = cfg.kernel["stock"].tree
    source = tree.materialise(name, cfg.tree[name], root, cache)
    windows = series.apply(source, ["race-windows"], root, cache)
    patches(out(source.repo, "show", f"{windows}:{FILE}") + "\n", tmp_path)
    found = sorted((tmp_path / "out").glob("*.patch"))
    for path in found:
        shutil.copy(path, root / "patches/hasty/6.12")
    listing = "".join(f"{path.name}\n" for path in found)
    (root / "patches/hasty/6.12/series").write_text(listing)

    said = harness(
        "bisect", "--cell", "stock/ext4/punch-read-fault", "--series", "hasty", cwd=root,
        config=root / "harness.toml",
    )  # fmt: skip
    output, _ = said.communicate()
    print(output)
    assert said.returncode == 0, output
    (result,) = root.glob("results/*/bisect.json")
    answer = json.loads(result.read_text())
    assert answer["first_bad"]["subject"] == "mm/filemap: page faults are in a hurry"
    assert answer["first_bad"]["name"].startswith("patch 3 of 4 (0003-")
    assert answer["confidence"] >= 0.95 and answer["cost"]["steps"] == 2
    # The ends and two patches between them; before the first patch it may be there already.
    assert answer["cost"]["builds"] <= 4
    assert answer["question"]["kind"] == "exposed" and answer["skipped"] == []
    assert "first bad: patch 3 of 4 (0003-" in output
