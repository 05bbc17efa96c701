# SPDX-License-Identifier: GPL-2.0
"""Fourteen nights on real kernels: what breaks is told, since when, and bisect finds it.

About an hour on two CPUs, most of it compiling: `make fortnight`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.config import Config, load
from harness.events import Event
from harness.experiment import runner
from harness.kernel import build, tree
from harness.nightly import night as nights
from harness.nightly import verb
from harness.nightly.record import Night
from harness.places import cache_dir
from tests.fakes.nights import told
from tests.nightly.made_up import MadeUp, replacing

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(4 * 3600)]
ROOT = Path(__file__).parents[2]
CELL = "night-stock/ext4/punch-read-fault"
FAULT = "		fpin = do_sync_mmap_readahead(vmf);\n"
# Where no patch of the series looks.
INIT = "void __init pagecache_init(void)\n{\n"
AHEAD = "	/* If we don't want any read-ahead, don't bother */\n"
KERNELS = ("night-control", "night-stock", "night-old")


@dataclass
class World:
    """The trees, the configuration, and what is counted."""

    made_up: MadeUp
    cfg: Config
    results: Path
    day: int = 1
    makes: list[str] = field(default_factory=list)  # kernels whose make was started
    nights: list[Night] = field(default_factory=list)

    def night(self, monkeypatch: pytest.MonkeyPatch) -> tuple[Night, list[str], str]:
        """Tonight: what was found, the kernels that were compiled, and the page."""
        monkeypatch.setenv("HARNESS_NOW", f"2026-11-{self.day:02}T22:00:00+00:00")
        self.day += 1
        before = len(self.makes)

        def ensure(name: str, cfg: Config, cache: Path, listen: Any) -> build.Image:
            def counting(event: Event) -> None:
                # Said once for each build, before the first make.
                if event.kind == "build" and event.message.startswith("updating the worktree"):
                    self.makes.append(name)
                listen(event)

            return build.ensure(name, cfg, cache, counting)

        doors = nights.Doors(rooms=dataclasses.replace(runner.Rooms(), ensure=ensure))
        night, place = nights.run(self.cfg, cache_dir(), self.results, doors=doors)
        self.nights.append(night)
        said = f"night {len(self.nights)}: {night.stages}, built {self.makes[before:]}"
        print(said, dict(told(night)), file=sys.__stderr__, flush=True)
        page = verb.write(self.results, self.cfg, place)[1].read_text()
        return night, self.makes[before:], page

    def bisect(self, night: Night, kind: str, subject: str, capsys: Any) -> dict[str, Any]:
        """Types the command of a finding; what it said as JSON."""
        finding = next(f for f in night.findings if f.kind == kind and f.subject == subject)
        argv = shlex.split(finding.command)
        assert argv[:2] == ["harness", "bisect"], finding.command
        capsys.readouterr()
        code = cli.main(["--config", str(self.cfg.path), *argv[1:], "--json"])
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert code == 0, lines[-3:]
        result: dict[str, Any] = next(line["result"] for line in lines if "result" in line)
        print("bisect:", result, file=sys.__stderr__, flush=True)
        return result


def source(name: str) -> tree.Source:
    cfg = load(ROOT / "harness.toml")
    return tree.materialise(name, cfg.tree[name], cfg.root, cache_dir())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("fortnight")
    made_up = MadeUp(root / "linux.git")
    for branch, name in (("main", "debian-6.12"), ("old", "debian-6.1")):
        found = source(name)
        made_up.begin(branch, found.repo, found.commit)
    for link in ("patches", "workloads"):
        (root / link).symlink_to(ROOT / link)
    shutil.copytree(ROOT / "vm", root / "vm")
    # It has the most files of all, and no part in this.
    (root / "vm/kconfig/no-xfs.config").write_text(
        "# ext4 only.\n# CONFIG_XFS_FS is not set\n"
    )
    toml = (ROOT / "harness.toml").read_text()
    ours = r"(tree|kernel|plan|nightly|bench)\b"  # the rest of harness.toml serves here, too
    head = re.sub(rf"(?ms)^\[+{ours}.*?(?=^\[+(?!\[*{ours})|\Z)", "", toml)
    head = re.sub(r"(?m)^kernels = \[.*\]\n", "", head)  # workloads of kernels that are not here
    (root / "harness.toml").write_text(head + TABLES)
    for name in KERNELS:
        # Objects may stay, images may not: night 1 is to build.
        shutil.rmtree(cache_dir() / "kernels" / name / "images", ignore_errors=True)
    yield World(made_up, load(root / "harness.toml"), root / "results")


TABLES = """
[tree.night-main]
kind = "git"
url = "linux.git"
ref = "main"
line = "6.12"

[tree.night-old]
kind = "git"
url = "linux.git"
ref = "old"
line = "6.1"

[kernel.night-control]
role = "control"
tree = "night-main"
series = ["race-windows", "reopen-races"]
fragments = ["base", "guest", "filesystems", "trim", "race-windows", "reopen-races", "no-xfs"]

[kernel.night-stock]
role = "stock"
tree = "night-main"
series = ["race-windows"]
fragments = ["base", "guest", "filesystems", "trim", "race-windows", "no-xfs"]

[kernel.night-old]
role = "stock"
tree = "night-old"
fragments = ["base", "guest", "filesystems", "trim", "linux-6.1", "no-xfs"]
unaided = true

[plan.fortnight]
kernels = ["night-control", "night-stock", "night-old"]
filesystems = ["ext4"]
workloads = ["punch-read-fault"]
guest = "small"
cells_per_boot = 4
budget_s = 60
min_rate = 0.7
trials = { control = 40, stock = 60 }

[nightly]
plan = "fortnight"
budget_h = 3.0
bench = ["fault-cold"]
measured = ["night-control", "night-stock"]
"""


def test_a_fortnight(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up, main = world.made_up, ["night-control", "night-stock"]
    monkeypatch.chdir(world.cfg.root)

    def lines(*commits: tuple[str, str, Any]) -> list[str]:
        return [made_up.commit("main", *commit) for commit in commits]

    # 1: everything is new, and good.
    night, makes, page = world.night(monkeypatch)
    assert night.exit_code == 0 and night.findings == [], night.findings
    assert sorted(makes) == sorted(KERNELS)
    assert "All as expected" in page
    figures = night.kernels["night-stock"].figures
    cost = figures["fault-cold/ext4/hole_1_p50_ns"]

    # 2: nothing has changed, and nothing is built.
    night, makes, _ = world.night(monkeypatch)
    assert (night.exit_code, makes) == (0, [])

    # 3: the old branch moves, and is the only one that is built.
    made_up.commit("old", "mm: say so", "mm/filemap.c", replacing(
        "/*\n * Shared mappings", "/* Here. */\n/*\n * Shared mappings"))  # fmt: skip
    night, makes, page = world.night(monkeypatch)
    assert (night.exit_code, makes) == (0, ["night-old"])
    # The series for it apply a line further down, which is told, too.
    assert set(told(night)) == {"moved"} and "night-old" in told(night)["moved"]
    assert "tree night-old" in page

    # 4: of four commits one does not compile.
    made_up.noise("main", 1)
    (broken,) = lines(("mm: break the build", "mm/filemap.c",
                       replacing(INIT, INIT + "\tnobody_has_this();\n")))  # fmt: skip
    made_up.noise("main", 2)
    made_up.noise("main", 3)
    night, makes, page = world.night(monkeypatch)
    assert night.exit_code == 1 and makes == main
    assert set(told(night)["new failure"]) == set(main)
    assert "does not build" in page and "night-stock/ext4" not in page.split("## Series")[0]
    found = world.bisect(night, "new failure", "night-stock", capsys)
    assert found["first_bad"]["commit"] == broken

    # 5: still so, and nobody tries again.
    night, makes, page = world.night(monkeypatch)
    assert (night.exit_code, makes) == (1, []) and set(told(night)) == {"still failing"}

    # 6: that is mended, but now it does not boot.
    lines(("mm: mend the build", "mm/filemap.c", replacing("\tnobody_has_this();\n", "")))
    made_up.noise("main", 4)
    panic = '\tif (PAGE_SHIFT)\n\t\tpanic("made up");\n'
    (broken,) = lines(("mm: break the boot", "mm/filemap.c", replacing(INIT, INIT + panic)))
    made_up.noise("main", 5)
    night, makes, page = world.night(monkeypatch)
    assert night.exit_code == 1 and makes == main
    assert set(told(night)["fixed"]) == set(main)
    assert CELL in told(night)["new failure"] and "did not boot" in page
    found = world.bisect(night, "new failure", CELL, capsys)
    assert found["first_bad"]["commit"] == broken

    # 7: mended.
    lines(("mm: mend the boot", "mm/filemap.c",
           replacing(panic, "")))  # fmt: skip
    night, makes, page = world.night(monkeypatch)
    assert night.exit_code == 0 and CELL in told(night)["fixed"]

    # 8: the series conflicts with one of three commits.
    made_up.noise("main", 6)
    (broken,) = lines(("mm: another word", "mm/filemap.c",
                       replacing(FAULT, FAULT.replace("(vmf)", "( vmf )"))))  # fmt: skip
    made_up.noise("main", 7)
    night, makes, page = world.night(monkeypatch)
    assert night.exit_code == 1 and makes == []
    assert night.trees["night-main"].series["race-windows"].verdict == "conflicts"
    assert "conflicts" in page and "0004-mm-filemap" in page
    found = world.bisect(night, "new failure", "night-stock", capsys)
    assert found["first_bad"]["commit"] == broken

    # 9: taken back.
    lines(("mm: the word of before", "mm/filemap.c",
           replacing(FAULT.replace("(vmf)", "( vmf )"), FAULT)))  # fmt: skip
    night, makes, page = world.night(monkeypatch)
    assert night.exit_code == 0 and "fixed" in told(night)

    # 10: the lock is dropped in one of four commits.
    made_up.noise("main", 8)
    made_up.noise("main", 9)
    (broken,) = lines(("mm: who needs a lock", "mm/filemap.c", replacing(
        '#include "internal.h"\n',
        '#include "internal.h"\n\n'
        "#define filemap_invalidate_lock_shared(mapping) do { } while (0)\n"
        "#define filemap_invalidate_unlock_shared(mapping) do { } while (0)\n")))  # fmt: skip
    made_up.noise("main", 10)
    night, makes, page = world.night(monkeypatch)
    assert night.exit_code == 1 and makes == main
    assert CELL in told(night)["new failure"]
    assert page.index(f"{CELL}: exposed") < page.index("## Series")
    found = world.bisect(night, "new failure", CELL, capsys)
    assert found["first_bad"]["commit"] == broken

    # 11: still open; nothing is built.
    night, makes, page = world.night(monkeypatch)
    assert (night.exit_code, makes) == (1, []) and CELL in told(night)["still failing"]

    # 12: locked again.
    lines(("mm: we do", "mm/filemap.c", replacing(
        "#define filemap_invalidate_lock_shared(mapping) do { } while (0)\n"
        "#define filemap_invalidate_unlock_shared(mapping) do { } while (0)\n", "")))  # fmt: skip
    night, makes, page = world.night(monkeypatch)
    assert night.exit_code == 0 and CELL in told(night)["fixed"]

    # 13: a fault costs a fifth more; of four commits it is the first.
    loops = round(cost * 0.2 / 3)  # about three instructions each
    (broken,) = lines(("mm: take a breath", "mm/filemap.c", replacing(
        AHEAD, f"\tfor (int i = 0; i < {loops}; i++)\n\t\tbarrier();\n\n" + AHEAD)))  # fmt: skip
    for number in (11, 12, 13):
        made_up.noise("main", number)
    night, makes, page = world.night(monkeypatch)
    assert night.exit_code == 1 and makes == main
    figure = "fault-cold/ext4/hole_1_p50_ns"
    assert f"night-stock/{figure}" in told(night)["slower"]
    ratio = night.kernels["night-stock"].figures[figure] / cost
    assert 1.1 < ratio < 1.4
    found = world.bisect(night, "slower", f"night-stock/{figure}", capsys)
    assert found["first_bad"]["commit"] == broken

    # 14: told once.
    night, makes, page = world.night(monkeypatch)
    assert (night.exit_code, makes) == (0, [])
    assert len(world.nights) == 14
    assert world.makes.count("night-old") == 2, "the old tree changed once"
