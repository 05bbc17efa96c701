# SPDX-License-Identifier: GPL-2.0
"""Windows, switches and oracles on real kernels: the instruments measure what they say."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.experiment.preflight import MOUNT_POINT
from harness.experiment.trial import Reader
from harness.guest.machine import Completed, Machine
from tests.vm.conftest import ROOT, Lab

WINDOW = "/sys/kernel/debug/race_windows/selftest"
PASS = "/sys/kernel/debug/race_windows/pass"
SWITCHES = "/sys/kernel/debug/reopen_races"
RACES = sorted(path.stem for path in (ROOT / "workloads/races").glob("*.c"))


def shell(machine: Machine, command: str) -> str:
    done = machine.run(command)
    assert done.status == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def arm(machine: Machine, **settings: object) -> None:
    defaults = {"mode": "off", "task": "", "delay_us": 0, "probability": 100, "hits": 0,
                "delays": 0}
    settings = {**defaults, **settings}
    mode = settings.pop("mode")
    # While it is off everything can be set: a rendezvous holds on to its partner.
    shell(machine, f"echo off >{WINDOW}/mode")
    for name, value in settings.items():
        shell(machine, f"echo {value} >{WINDOW}/{name}")
    shell(machine, f"echo {mode} >{WINDOW}/mode")


def walk(machine: Machine, times: int, file: str = PASS) -> tuple[int, int]:
    """Hits and delays after `times` walks through the window, by a task named cat."""
    shell(machine, f"for i in $(seq {times}); do cat {file}; done >/dev/null")
    counts = shell(machine, f"cat {WINDOW}/hits {WINDOW}/delays").split()
    return int(counts[0]), int(counts[1])


@pytest.mark.parametrize(
    ("settings", "hits", "delays"),
    [
        ({"mode": "off", "delay_us": 1000}, 0, 0),
        ({"mode": "count", "delay_us": 1000}, 5, 0),
        ({"mode": "delay", "delay_us": 1000}, 5, 5),
        ({"mode": "delay", "delay_us": 1000, "task": "ca"}, 5, 5),
        ({"mode": "delay", "delay_us": 1000, "task": "race-"}, 0, 0),
    ],
)
def test_a_window_counts_and_holds_as_it_is_armed(
    stock: Machine, settings: dict[str, object], hits: int, delays: int
) -> None:
    arm(stock, **settings)
    # "cat" may be the shell's own applet: it has the shell's name then.
    shell(stock, "test -x /bin/cat")
    assert walk(stock, 5) == (hits, delays)
    arm(stock)


def test_where_sleeping_is_not_legal_a_window_spins(stock: Machine) -> None:
    arm(stock, mode="delay", delay_us=3000)
    assert walk(stock, 5, f"{PASS}_atomic") == (5, 5)
    arm(stock)
    # "scheduling while atomic" is what a sleep there would have said.
    assert stock.splats() == []


def test_a_held_task_is_counted_while_it_is_held(stock: Machine) -> None:
    arm(stock, mode="delay", delay_us=1_000_000)
    # The second command runs while the first is held: it polls, no sleep.
    seen = shell(
        stock,
        f"cat {PASS} >/dev/null & while [ $(cat {WINDOW}/hits) = 0 ]; do :; done;"
        f" cat {WINDOW}/held; wait; cat {WINDOW}/held",
    ).split()
    arm(stock)
    assert seen == ["1", "0"]


def test_probability_holds_a_share_of_the_hits(stock: Machine) -> None:
    arm(stock, mode="delay", delay_us=1, probability=50)
    hits, delays = walk(stock, 200)
    arm(stock)
    assert hits == 200
    # 200 fair coins: 60 or fewer and 140 or more have a chance of 1 in 10**8.
    assert 60 < delays < 140


def meet(machine: Machine, while_held: str) -> dict[str, int]:
    """Counters after a rendezvous of at most a second, with `while_held` run in it."""
    partner = f"{WINDOW}_partner"
    arm(machine, mode="rendezvous", delay_us=1_000_000, partner="selftest_partner",
        attempt="filemap_fault", met=0, excluded=0)
    shell(machine, f"echo 0 >{partner}/hits; echo count >{partner}/mode;"
                   " echo count >/sys/kernel/debug/race_windows/filemap_fault/mode")
    shell(machine, f"cat {PASS} >/dev/null & while [ $(cat {WINDOW}/held) = 0 ]; do :; done;"
                   f" {while_held}; wait")
    counts = shell(machine, f"cat {WINDOW}/met {WINDOW}/excluded {WINDOW}/delays").split()
    shell(machine, f"echo off >{partner}/mode;"
                   " echo off >/sys/kernel/debug/race_windows/filemap_fault/mode")
    arm(machine, partner="", attempt="")
    return dict(zip(("met", "excluded", "delays"), map(int, counts), strict=True))


def test_a_rendezvous_ends_when_the_partner_comes(stock: Machine) -> None:
    assert meet(stock, f"cat {PASS}_partner >/dev/null") == {"met": 1, "excluded": 0, "delays": 1}


def test_a_rendezvous_tells_who_was_kept_out_from_who_never_came(
    lab: Lab, stock: Machine
) -> None:
    assert meet(stock, ":") == {"met": 0, "excluded": 0, "delays": 1}
    # A page fault that misses the page cache passes the point before its lock.
    lab.mount(stock, "ext4")
    fault = f"cp /bin/cat {MOUNT_POINT}/cat; sync; echo 3 >/proc/sys/vm/drop_caches"
    shell(stock, fault)
    told = meet(stock, f"{MOUNT_POINT}/cat /dev/null")
    assert told == {"met": 0, "excluded": 1, "delays": 1}


def test_a_rendezvous_needs_a_partner(stock: Machine) -> None:
    arm(stock)
    for file, value in (("mode", "rendezvous"), ("partner", "nobody"), ("partner", "selftest")):
        assert stock.run(f"echo {value} >{WINDOW}/{file}").status != 0, value
    shell(stock, f"echo selftest_partner >{WINDOW}/partner; echo rendezvous >{WINDOW}/mode")
    assert stock.run(f"echo '' >{WINDOW}/partner").status != 0
    arm(stock, partner="")


@pytest.mark.parametrize(
    ("file", "value"),
    [("mode", "sometimes"), ("probability", "101"), ("delay_us", "1000001"), ("hits", "7"),
     ("task", "a-name-that-is-too-long")],
)
def test_a_window_refuses_nonsense(stock: Machine, file: str, value: str) -> None:
    assert stock.run(f"echo {value} >{WINDOW}/{file}").status != 0


def test_switches_are_off_at_boot_and_turn_on_and_off(control: Machine) -> None:
    assert set(shell(control, f"cat {SWITCHES}/*").split()) == {"0"}
    assert shell(control, f"ls {SWITCHES}").split() == sorted(
        ["selftest", "fault", "readahead", "mkwrite", "punch", "truncate", "read", "update",
         "shift", "evict", "swap", "remap", "release"]
    )
    shell(control, f"echo 1 >{SWITCHES}/selftest")
    assert shell(control, f"cat {SWITCHES}/selftest") == "1"
    # TAINT_TEST is bit 18: reports of this kernel are not bugs.
    assert int(shell(control, "cat /proc/sys/kernel/tainted")) & 1 << 18
    shell(control, f"echo 0 >{SWITCHES}/selftest")
    assert shell(control, f"cat {SWITCHES}/selftest") == "0"


def test_switches_from_the_kernel_command_line(lab: Lab, tmp_path: Path) -> None:
    with lab.machine("control", tmp_path, "reopen_races=fault,readahead,nonsense") as machine:
        found = shell(machine, f"grep -l 1 {SWITCHES}/*").split()
        assert [path.rsplit("/", 1)[1] for path in found] == ["fault", "readahead"]
        assert "no switch 'nonsense'" in machine.dmesg()


def test_stock_has_no_switches(stock: Machine) -> None:
    assert stock.run(f"test -e {SWITCHES}").status != 0


def test_every_window_and_switch_that_a_workload_names_is_there(
    lab: Lab, stock: Machine, control: Machine
) -> None:
    windows = {name for workload in lab.cfg.workload.values()
               for of_type in workload.windows.values() for window in of_type
               for name in (window.name, window.partner, window.attempt) if name}
    switches = {name for workload in lab.cfg.workload.values()
                for way_in in workload.switches for name in way_in.split("+")}
    assert windows <= set(shell(stock, "ls /sys/kernel/debug/race_windows").split())
    there = set(shell(control, f"ls {SWITCHES}").split())
    assert switches <= there
    # Each lock site that can be turned off is one for `harness mutants`.
    assert set(lab.cfg.switch) == there - {"selftest"}


@pytest.mark.parametrize("race", RACES)
def test_every_oracle_finds_a_planted_byte(lab: Lab, stock: Machine, race: str) -> None:
    """On the kernel that holds: what is found in trial 1 was planted, the rest is clean."""
    workload = lab.cfg.workload[race]
    program = f"/workloads/races/{race}"
    kinds = re.search(r"Kinds of --plant: (.*)", shell(stock, f"{program} --help"))
    assert kinds
    assert len(kinds[1].split()) >= 2
    # One filesystem of each type: the oracles know types, not block sizes.
    names = workload.filesystems or ["ext4", "xfs"]
    filesystems = {lab.cfg.filesystem[name].type: name for name in reversed(names)}
    for filesystem, kind in itertools.product(filesystems.values(), kinds[1].split()):
        what = f"{filesystem}: {race} --plant {kind}"
        # On a busy host racer B may not have come to what is to be planted: then it says so.
        for seed in (1, 2, 3):
            lab.mount(stock, filesystem)
            done = stock.run(
                f"{program} --dir {MOUNT_POINT} --trials 3 --batch 1 --seed {seed} --plant {kind}",
                timeout_s=60,
            )
            trials = trials_of(done)
            if not (trials and trials[0]["why"].startswith("plant: ")):
                break
        assert done.status == 1, f"{what}: {done.stdout}"
        assert len(trials) == 3, f"{what}: {done.stdout}"
        assert trials[0]["outcome"] == "exposed", f"{what}: {trials[0]}"
        # What fires on stock may fire there by luck, in a trial without a plant.
        rest = [] if workload.fires_on else trials[1:]
        assert "exposed" not in [trial["outcome"] for trial in rest], f"{what}: {trials}"
        # The three views of one byte must agree, or one of them is blind.
        views = {key: n for key, n in trials[0].items()
                 if key in ("stale_mmap", "stale_pread", "stale_direct")}
        assert set(views.values()) <= {0} or set(views.values()) == {1}, f"{what}: {views}"


@pytest.mark.parametrize("kind", ["cache", "disk"])
@pytest.mark.parametrize(
    "race", ["punch-read-fault", "zero-store", "reflink-fault", "truncate-read"]
)
def test_a_planted_byte_is_one_trials_of_those_that_share_a_set_up(
    lab: Lab, stock: Machine, race: str, kind: str
) -> None:
    lab.mount(stock, "xfs-reflink")
    done = stock.run(
        f"/workloads/races/{race} --dir {MOUNT_POINT} --trials 20 --plant {kind}", timeout_s=60
    )
    trials = trials_of(done)
    assert [trial["trial"] for trial in trials] == list(range(1, 21))
    assert [trial["outcome"] for trial in trials].count("exposed") == 1, done.stdout
    assert [trial["outcome"] for trial in trials].count("held") == 19, done.stdout


def test_unarmed_racers_are_aligned_and_told_apart(lab: Lab, stock: Machine) -> None:
    lab.mount(stock, "ext4")
    number = 640  # some of each way: on stock none pays
    program = f"/workloads/races/punch-read-fault --dir {MOUNT_POINT} --trials {number} --seed 3"
    window = "--window ext4_punch:0"
    share = 16  # many set-ups, so that each way has some
    for extra, align in (
        (f"--batch {share}", "fuzzy"),
        ("--align none", "none"),
        ("--align barrier", "barrier"),
    ):
        done = stock.run(f"{program} {window} {extra}", timeout_s=120)
        header = json.loads(next(x for x in done.stdout.splitlines() if '"seed"' in x)[2:])
        assert header["align"] == align
        trials = trials_of(done)
        assert len(trials) == number
        # Nobody is held, and yet each hit is counted.
        assert all(trial["window_hits"]["ext4_punch"] >= 1 for trial in trials)
        drawn = drawn_of(trials, share) if align == "fuzzy" else []
        moved = [trial["trial"] for trial in trials if trial["offset_us"] != 0]
        assert set(moved) <= set(drawn)
        assert len(moved) >= 0.8 * len(drawn)
        assert bool(moved) == (align == "fuzzy")
        ways = {trial["way"] for trial in trials}
        fixed = {"none": {"loose"}, "barrier": {"aligned"}}
        assert ways == fixed[align] if align in fixed else len(ways) > 3
        orders = json.loads(done.stdout.splitlines()[-1][2:])["orders"]
        assert sum(orders.values()) == number
        for order, count in orders.items():
            assert sum(trial["order"] == order for trial in trials) == count
    # Armed, they meet in the window; there is nothing to align.
    done = stock.run(f"{program} --window ext4_punch:2000 --trials 2 --align fuzzy", timeout_s=60)
    assert '"align":"barrier"' in done.stdout


def test_a_limit_ends_the_trials_and_says_how_many_there_were(lab: Lab, stock: Machine) -> None:
    lab.mount(stock, "ext4")
    program = f"/workloads/races/punch-read-fault --dir {MOUNT_POINT} --batch 1 --seed 3"
    done = stock.run(f"{program} --trials 10000 --limit 0.5", timeout_s=60)
    number = len(trials_of(done))
    assert 1 < number < 10000
    assert done.stdout.splitlines()[-2] == f"1..{number}"
    assert "1..10000" not in done.stdout
    reader = Reader(10000, early=True)
    found = [trial for line in done.stdout.splitlines() if (trial := reader.feed(line))]
    assert (len(found), reader.expected, reader.end()) == (number, number, [])
    # However little time there is, what was asked for at least is done.
    done = stock.run(f"{program} --trials 9 --limit 0.01 --at-least 7", timeout_s=60)
    assert len(trials_of(done)) == 7
    # And never more than that.
    done = stock.run(f"{program} --trials 3 --limit 60", timeout_s=120)
    assert len(trials_of(done)) == 3
    for bad in ("--limit 0", "--limit x", "--align sideways", "--at-least x"):
        done = stock.run(f"{program} {bad}")
        assert done.status == 4
        assert re.search(rf"^1\.\.0 # SKIP {bad.split()[0]}", done.stdout, re.M), done.stdout


def drawn_of(trials: list[dict[str, Any]], share: int) -> list[int]:
    """The numbers of the fuzzy trials whose offset was drawn.

    What a set-up's trials took is learned when they are over, `share` at once; the ones
    that spin before eight are known (ALIGN_LEARN in workloads/lib/align.h) go together.
    """
    drawn: list[int] = []
    known = at = 0
    while at < len(trials):
        way = trials[at]["way"]
        setup = trials[at : at + (1 if "solo" in way else share)]
        at += len(setup)
        assert {trial["way"] for trial in setup} == {way}
        if "loose" in way:
            continue
        if known >= 8:
            drawn += [trial["trial"] for trial in setup]
        known += len(setup)
    return drawn


def trials_of(done: Completed) -> list[dict[str, Any]]:
    """The JSON lines of a reproducer's trials."""
    lines = done.stdout.splitlines()
    return [json.loads(line[2:]) for line in lines if line.startswith('# {"trial"')]


def test_a_reproducer_that_cannot_test_says_so(stock: Machine) -> None:
    """kselftest's 4, with the reason on KTAP's plan line."""
    program = "/workloads/races/punch-read-fault --dir /tmp --trials 2"
    for extra, why in (
        ("--switch fault", "control kernel"),
        ("--window nowhere:1000", "nowhere"),
        ("--window ext4_punch", "NAME:DELAY_US"),
        ("--plant rubbish", "rubbish"),
        ("--plant dis", "one of"),
    ):
        done = stock.run(f"{program} {extra}")
        assert done.status == 4, f"{extra}: {done.stdout}"
        assert re.search(rf"^1\.\.0 # SKIP .*{why}", done.stdout, re.M), done.stdout


def test_a_clean_boot_has_no_splats(stock: Machine, control: Machine) -> None:
    for machine in (stock, control):
        assert machine.splats() == []
        assert machine.run("nproc").stdout.strip() == "2"
