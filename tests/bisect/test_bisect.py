# SPDX-License-Identifier: GPL-2.0
"""`harness bisect` over a git tree and over a series: the right commit, by the right sign."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config import load
from harness.kernel import tree
from tests.bisect import conftest as yards
from tests.bisect.conftest import Yard
from tests.fakes import kernel as fake

CELL = "stock/ext4/punch"
N = 9  # commits: GOOD is the first


def states(culprit: int, token: str, **others: str) -> list[str]:
    """FILE from commit 0 on; `others`: s3="TOKEN" for single commits."""
    found = [f"int {token};" if number >= culprit else "" for number in range(N)]
    for key, text in others.items():
        found[int(key[1:])] += f" int {text};"
    return found


@pytest.mark.parametrize(
    ("culprit", "token", "said"),
    [
        (1, yards.OPEN, "exposed in"),
        (8, yards.OPEN, "exposed in"),
        (4, yards.RARE, "exposed in"),
        (4, yards.CRASH, "crashed: WARNING in filemap_fault"),
        (5, yards.HANGS, "hung"),
        (3, yards.NO_BUILD, "does not build: fs/namei.c: expected ';' before 'SYNTAX_ERROR'"),
        (4, yards.NO_BOOT, "does not boot: Kernel panic - not syncing: VFS: no root"),
        (5, yards.SILENT_BOOT, "does not boot"),
    ],
)
def test_the_commit_that_did_it(yard: Yard, culprit: int, token: str, said: str) -> None:
    commits = yard.history(states(culprit, token))
    found = yard.bisect("--cell", CELL, commits[0], commits[-1])
    assert found["first_bad"]["commit"] == commits[culprit]
    assert f"first bad: {commits[culprit][:12]}: mm: step {culprit}" in yard.said
    assert said in yard.said
    assert found["confidence"] >= 0.95
    # log2 of eight, and the two ends.
    assert found["cost"]["steps"] == 3
    assert found["cost"]["builds"] <= 5
    assert yard.lab.still_open == []


def test_a_control_cell_that_stopped_firing(yard: Yard) -> None:
    commits = yard.history(states(5, yards.DROPPED))
    found = yard.bisect("--cell", "control/ext4/punch@fault", commits[0], commits[-1])
    assert found["first_bad"]["commit"] == commits[5]
    assert found["question"]["at"] == "good" and found["question"]["kind"] == "exposed"
    assert "sign, shown by GOOD: control/ext4/punch@fault: exposed" in yard.said


def test_a_series_that_does_not_apply_any_more(yard: Yard) -> None:
    commits = yard.history(states(9, ""))
    inode = yard.linux / "fs/inode.c"
    inode.write_text(inode.read_text().replace("int inode_2;", "int inode_deux;"))
    fake.git(yard.linux, "commit", "--quiet", "-am", "fs: rename")
    bad = fake.git(yard.linux, "rev-parse", "HEAD")
    commits.append(bad)
    commits += yard.history([f"int later_{n};" for n in range(3)])[-3:]
    found = yard.bisect("--kernel", "stock", "--for", "apply", commits[0], "master")
    assert found["first_bad"]["commit"] == bad
    assert found["question"]["title"] == "windows: 0001-windows.patch"
    assert found["cost"]["builds"] == 0 and yard.boots == []


def with_bench(yard: Yard) -> None:
    (yard.root / "workloads/bench").mkdir()
    (yard.root / "workloads/bench/cold.c").write_text("")
    bench = '[workload.cold]\nkind = "bench"\nsource = "bench/cold.c"\nfigures = ["ns"]\n'
    toml = yard.root / "harness.toml"
    toml.write_text(toml.read_text() + bench)


def test_what_made_it_slower(yard: Yard) -> None:
    with_bench(yard)
    commits = yard.history(states(6, yards.SLOW, s4=yards.NO_BOOT))
    argv = ("--kernel", "stock", "--figure", "cold/ext4/ns")
    found = yard.bisect(*argv, commits[0], commits[-1])
    assert found["first_bad"]["commit"] == commits[6]
    assert [each["commit"] for each in found["skipped"]] in ([], [commits[4]])
    assert "stock cold/ext4/ns: is slower (more than 1097 guest instructions)" in yard.said
    assert "good: 1000 guest instructions" in yard.said
    assert len(yard.measured) == len(set(yard.measured)) <= 6 and yard.boots == []
    said = yard.type("bisect", *argv, commits[-1], commits[0], code=2)
    assert "the wrong way round" in said or "no ancestor" in said or "not" in said
    said = yard.type("bisect", *argv, commits[0], commits[3], code=1)
    assert "GOOD and BAD cost the same: 1000 and 1000" in said
    said = yard.type("bisect", "--kernel", "stock", "--figure", "cold/ext4/ms", "a", "b", code=2)
    assert "did you mean 'cold/ext4/ns'?" in said


def test_over_the_patches_of_a_series(yard: Yard) -> None:
    bodies = ["int one;", "int two;", f"int {yards.OPEN};", "int four;"]
    patches, before = {}, (fake.LINUX / yards.FILE).read_text()
    base = yard.root / "base"
    (base / "fs").mkdir(parents=True)
    for number, body in enumerate(bodies, 1):
        (base / yards.FILE).write_text(before)
        last = before.splitlines()[-1]
        text = fake.patch(f"fs: {number}", {yards.FILE: (last, f"{last}\n{body}")}, base)
        patches[f"{number:04}-fs.patch"] = text
        before = before.replace(last, f"{last}\n{body}", 1)
    fake.write_series(yard.root, "mine", patches)
    toml = yard.root / "harness.toml"
    toml.write_text(toml.read_text().replace('["windows"]', '["mine", "windows"]', 1))
    found = yard.bisect("--kernel", "stock", "--cell", "ext4/punch", "--series", "mine")
    assert found["first_bad"]["name"] == "patch 3 of 4 (0003-fs.patch)"
    assert found["first_bad"]["subject"] == "fs: 3"
    assert found["cost"]["steps"] == 2
    # The series above it was applied each time.
    assert all("inode_two" in source for source in yard.boots)
    found = yard.bisect("--cell", CELL, "--series", "mine", "2", "3")
    assert found["first_bad"]["subject"] == "fs: 3" and found["cost"]["steps"] == 0
    for argv, said in (
        (["3", "2"], "nothing lies between"),
        (["0", "5"], "BAD '5'"),
        (["v6"], "GOOD 'v6'"),
    ):
        assert said in yard.type("bisect", "--cell", CELL, "--series", "mine", *argv, code=2)
    said = yard.type("bisect", "--cell", CELL, "--series", "mien", code=2)
    assert "did you mean 'mine'?" in said


def test_what_cannot_be_built_is_skipped(yard: Yard) -> None:
    commits = yard.history(states(6, yards.OPEN, s4=yards.NO_BUILD))
    found = yard.bisect("--cell", CELL, commits[0], commits[-1])
    assert found["first_bad"]["commit"] == commits[6]
    (skipped,) = found["skipped"]
    assert skipped["commit"] == commits[4] and "does not build" in skipped["why"]


def test_two_skips_beside_it_leave_a_range(yard: Yard) -> None:
    commits = yard.history(
        states(5, yards.OPEN, s4=yards.NO_BUILD, s5=yards.NO_BOOT, s6=yards.UNTESTABLE)
    )
    found = yard.bisect("--cell", CELL, commits[0], commits[-1], code=1)
    assert found["first_bad"] is None
    assert {each["commit"] for each in found["suspects"]} == set(commits[4:8])
    assert "the first bad one is one of these 4" in yard.said


@pytest.mark.parametrize(
    ("token", "other"),
    [
        (yards.OPEN, yards.CRASH_ELSE),
        (yards.CRASH, yards.CRASH_ELSE),
        (yards.CRASH, yards.NO_BUILD),
        (yards.NO_BOOT, yards.NO_BUILD),
        (yards.NO_BOOT, yards.SILENT_BOOT),
        (yards.NO_BUILD, yards.NO_BUILD_ELSE),
    ],
)
def test_another_sign_is_no_answer(yard: Yard, token: str, other: str) -> None:
    history = states(6, token)
    history[4] = f"int {other};"
    commits = yard.history(history)
    found = yard.bisect("--cell", CELL, commits[0], commits[-1])
    assert found["first_bad"]["commit"] == commits[6]
    assert yard.marks(found)[4] == "skip"
    assert "not what BAD shows" in found["skipped"][0]["why"]


def test_one_exposure_settles_a_step(yard: Yard) -> None:
    commits = yard.history(states(1, yards.OPEN))
    found = yard.bisect("--cell", CELL, commits[0], commits[-1])
    bad = [each for each in found["decisions"] if each["mark"] == "bad"][1:]
    assert len(bad) == 3
    assert all((each["hits"], each["units"]) == (1, 1) for each in bad)
    # The rate: twenty exposures in two boots; then a few trials that hold.
    assert found["rate"]["hits"] == found["rate"]["units"] == 20
    good = next(each for each in found["decisions"] if each["mark"] == "good")
    assert good["units"] == 10


def test_trials_that_do_not_count_are_tried_again(yard: Yard) -> None:
    """On a busy host the race is not always reached: that is no reason to skip a commit."""
    commits = yard.history(states(6, yards.OPEN, s4=yards.BUSY))
    found = yard.bisect("--cell", CELL, commits[0], commits[-1])
    assert found["first_bad"]["commit"] == commits[6] and found["skipped"] == []
    assert yard.marks(found)[4] == "good"
    yard.history(states(6, yards.OPEN, s4=yards.BUSY_FOR_LONG))
    found = yard.bisect("--cell", CELL, yard.commits[N], yard.commits[-1])
    assert yard.marks(found)[N + 4] == "skip"


def test_a_rare_one_takes_more_trials(yard: Yard) -> None:
    commits = yard.history(states(3, yards.RARE))
    found = yard.bisect("--cell", CELL, "--trials", "100", commits[0], commits[-1])
    assert found["rate"]["hits"] == 20 and 70 <= found["rate"]["units"] <= 80
    good = [each["units"] for each in found["decisions"] if each["mark"] == "good"]
    assert all(20 <= units <= 60 for units in good)
    # The user may know better.
    known = yard.bisect("--cell", CELL, "--rate", "0.25", commits[0], commits[-1])
    assert known["rate"] == {"hits": 0, "units": 0, "low": 0.25, "risk": 0.0}
    assert known["first_bad"] == found["first_bad"]


def test_for_held_finds_what_ended_it(yard: Yard) -> None:
    commits = yard.history([f"int {yards.OPEN};"] * 5 + [""] * 4)
    said = yard.type("bisect", "--cell", CELL, commits[0], commits[-1], code=2)
    assert "the wrong way round" in said and "--for held" in said
    found = yard.bisect("--cell", CELL, "--for", "held", commits[0], commits[-1])
    assert found["first_bad"]["commit"] == commits[5]


def test_ends_that_are_the_same(yard: Yard) -> None:
    commits = yard.history([""] * 3)
    said = yard.type("bisect", "--cell", CELL, commits[0], commits[-1], code=1)
    assert "harness: GOOD and BAD are the same: held in 20 trials" in said
    yard.history([f"int {yards.OPEN};"] * 3)
    said = yard.type("bisect", "--cell", CELL, yard.commits[3], yard.commits[5], code=1)
    assert "both show exposed" in said


def test_an_end_that_cannot_be_tested(yard: Yard) -> None:
    commits = yard.history(["", "", f"int {yards.UNTESTABLE};"])
    said = yard.type("bisect", "--cell", CELL, commits[0], commits[-1], code=125)
    assert "BAD cannot be tested: untested" in said
    yard.history([f"int {yards.NO_BUILD};", f"int {yards.OPEN};"])
    said = yard.type("bisect", "--cell", CELL, yard.commits[3], yard.commits[4], code=125)
    assert "GOOD cannot be tested: does not build" in said


def test_what_is_left_behind(yard: Yard) -> None:
    commits = yard.history(states(4, yards.OPEN))
    found = yard.bisect("--cell", CELL, commits[0], commits[-1])
    place = Path(found["directory"])
    assert place.parent == yard.root / "results"
    for commit in (commits[0], commits[4], commits[-1]):
        looked = place / "steps" / commit[:12] / "01"
        assert (looked / "console.log").is_file() and (looked / "cell.json").is_file()
        assert not list(looked.glob("*.img"))
    # git itself can go on from the log, in the user's own tree.
    fake.git(yard.linux, "bisect", "replay", str(place / "git-bisect.log"))
    assert fake.git(yard.linux, "rev-parse", "refs/bisect/bad") == commits[4]
    # Nothing is left in the worktree, and no other image was pushed out.
    assert not (place / "git").exists()
    assert not list((yard.cache / "kernels/stock").glob("images/*"))


def test_the_worktree_is_put_back(yard: Yard) -> None:
    commits = yard.history(states(4, yards.OPEN))
    yard.type("build", "stock")
    source = yard.cache / "kernels/stock/src"
    before = fake.git(source, "rev-parse", "HEAD")
    found = yard.bisect("--cell", CELL, commits[0], "master")
    assert fake.git(source, "rev-parse", "HEAD") == before
    # BAD is the kernel as harness.toml has it: it was built already.
    assert found["cost"]["builds"] == 4


def test_a_merge_is_gits_business(yard: Yard) -> None:
    commits = list(yard.history(["", "", ""]))
    fake.git(yard.linux, "checkout", "--quiet", "-b", "side", commits[1])
    for number in range(3):
        file = yard.linux / "mm/truncate.c"
        more = f"int side_{number};\n" + (f"int {yards.OPEN};\n" if number == 1 else "")
        file.write_text(file.read_text() + more)
        fake.git(yard.linux, "commit", "--quiet", "-am", f"side {number}")
    culprit = fake.git(yard.linux, "rev-parse", "HEAD~1")
    fake.git(yard.linux, "checkout", "--quiet", "master")
    fake.git(yard.linux, "merge", "--quiet", "--no-ff", "-m", "merge", "side")
    found = yard.bisect("--cell", CELL, commits[0], "master")
    assert found["first_bad"]["commit"] == culprit


def test_from_a_server(yard: Yard) -> None:
    commits = yard.history(states(4, yards.OPEN))
    fake.git(yard.linux, "tag", "good", commits[1])
    toml = yard.root / "harness.toml"
    toml.write_text(toml.read_text().replace('url = "linux"', f'url = "file://{yard.linux}"'))
    found = yard.bisect("--cell", CELL, "-v", "good", "master")
    assert found["first_bad"]["commit"] == commits[4]
    assert "once; of a kernel that takes minutes" in yard.said
    # A commit is no name that the server can leave out by.
    found = yard.bisect("--cell", CELL, "-v", commits[0], "master")
    assert found["first_bad"]["commit"] == commits[4]
    assert "fetching all of it" in yard.said


def test_only_the_range_is_fetched(yard: Yard) -> None:
    commits = yard.history([""] * 20)
    yard.history([f"int {yards.OPEN};"] * 2)
    found = yard.bisect("--cell", CELL, commits[15], "master")
    assert found["first_bad"]["subject"] == "mm: step 0"
    repo, bad = yard.cache / "trees/six.git", fake.git(yard.linux, "rev-parse", "master")
    there = fake.git(repo, "rev-list", bad).splitlines()
    assert len(there) == 7 and commits[15] in there
    # Another range cuts this one; it is fetched again, and only then.
    yard.bisect("--cell", CELL, commits[18], bad)
    for times in (1, 0):
        yard.bisect("--cell", CELL, "-v", commits[15], bad)
        assert yard.said.count("fetching") == times


def test_a_range_that_begins_with_the_first_commit(yard: Yard) -> None:
    """Both ends are here already, each alone, as nights have left them."""
    first = fake.git(yard.linux, "rev-list", "--max-parents=0", "HEAD")
    cfg = load(yard.root / "harness.toml")
    tree.materialise("six", cfg.tree["six"], yard.root, yard.cache, refresh=True)
    commits = yard.history(states(4, yards.OPEN))
    tree.materialise("six", cfg.tree["six"], yard.root, yard.cache, refresh=True)
    found = yard.bisect("--cell", CELL, first, "master")
    assert found["first_bad"]["commit"] == commits[4]


def test_json(yard: Yard) -> None:
    commits = yard.history(states(4, yards.OPEN))
    said = yard.type("bisect", "--cell", CELL, "--json", commits[0], "master")
    events = [json.loads(line) for line in said.splitlines()]
    assert events[-1]["result"]["first_bad"]["commit"] == commits[4]
    steps = [event["data"]["mark"] for event in events if event["kind"] == "bisect"
             and "data" in event]  # fmt: skip
    assert steps[:2] == ["bad", "good"] and len(steps) == 5


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--cell is missing"),
        (["--for", "build"], "--kernel is missing"),
        (["--cell", "ext4/punch", "x"], "a cell is KERNEL/FILESYSTEM/WORKLOAD"),
        (["--cell", "stok/ext4/punch", "x"], "did you mean 'stock'"),
        (["--cell", "stock/ext5/punch", "x"], "no filesystem 'ext5'"),
        (["--cell", "stock/ext4/punch@fault", "x"], "there is stock/ext4/punch"),
        (["--cell", CELL, "--kernel", "control", "x"], "is not on --kernel 'control'"),
        (["--cell", CELL], "GOOD is missing"),
        (["--cell", CELL, "nowhere"], "has no commit 'nowhere'"),
        (["--cell", CELL, "master", "master"], "are the same commit"),
        (["--cell", CELL, "--confidence", "1", "master~1"], "must be a share"),
        (["--cell", CELL, "--for", "hung", "master~1"], "BAD does not show 'hung'"),
        (["--resume"], "no bisection in"),
        (["--resume", "x"], "no bisection 'x'"),
        (["--resume", "x", "--cell", CELL], "no cell can be given"),
    ],
)
def test_a_wrong_command_line(yard: Yard, argv: list[str], said: str) -> None:
    yard.history(["", ""])
    assert said in yard.type("bisect", *argv, code=2)
