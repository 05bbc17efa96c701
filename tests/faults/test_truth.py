# SPDX-License-Identifier: GPL-2.0
"""Cells whose truth is known, because a workload makes it come true (gates/truth.c).

The harness must be right in each, go on after each, and keep the evidence.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.faults.conftest import ROWS, Campaign, Row

# What happens in the guest, in words.
WORDS = {
    "": "nothing",
    "clock": "the guest's clock jumps by ten years",
    "exposed": "the oracle fires",
    "untested": "nothing could be tested",
    "panic": "kernel panic in a trial",
    "oom": "a racer eats all memory",
    "hang": "a racer never ends",
    "freeze": "a racer never ends, uninterruptibly in the kernel",
    "die": "the program ends in the middle",
    "mute": "it ends in the middle and says that all is well",
    "liar": "it reports an exposure and exits with 0",
    "reboot": "the guest restarts",
    "nossh": "the SSH server dies, the kernel lives",
    "stopssh": "the SSH server stops without a word, the kernel lives",
    "complain": "the kernel complains, and goes on",
    "noserial": "the serial line dies, SSH lives",
    "unheard": "the serial line dies, and then the kernel complains",
    "irqs-on": "a racer never leaves the kernel",
    "irqs-off": "a racer never leaves the kernel, and takes no interrupts",
    "deadlock": "two tasks wait for each other's range lock",
    "flood": "the guest floods its console",
    "chatter": "the reproducer prints one line that never ends",
}
# ... -> what the harness must call it.
TRUTH = {
    "": "held",
    "clock": "held",
    "exposed": "exposed",
    "untested": "untested",
    "panic": "crashed",
    "oom": "crashed",
    "hang": "hung",
    "freeze": "hung",
    "die": "lost",
    "mute": "lost",
    "liar": "exposed",
    "reboot": "lost",
    "nossh": "lost",
    "stopssh": "lost",
    "flood": "lost",
    "chatter": "lost",
    "complain": "crashed",
    "noserial": "held",
    "unheard": "crashed",
    "irqs-on": "hung",
    "irqs-off": "hung",
    "deadlock": "hung",
}
# 32 MiB over an emulated line take a minute: not among the two hundred.
SLOW = ("flood", "chatter")
LIMIT = "timeout_s = 2.0"  # of a cell
MOST_MIB = 300  # that the harness may ever need
# These the kernel must know how to do to itself.
PROVOKED = ("irqs-on", "irqs-off", "deadlock")
# What the verdict's reason says, and a file of the cell that must be there.
EVIDENCE = {
    "panic": ("Kernel panic - not syncing: sysrq triggered crash", "splats"),
    "oom": ("oom-killer", "splats"),
    "hang": ("race-b waits in", "hang/stacks.txt"),
    "freeze": ("race-a waits in percpu_rwsem_wait", "hang/sysrq.txt"),
    "die": ("exited with status 7", "output.txt"),
    "mute": ("ended after 0 of 1 trials", "output.txt"),
    "reboot": ("guest-reset", "error.txt"),
    "nossh": ("while QEMU runs", "error.txt"),
    "stopssh": ("the kernel lives", "hang/sysrq.txt"),
    "complain": ("EXT4-fs error", "splats"),
    "unheard": ("EXT4-fs error", "splats"),
    "irqs-on": ("provoke_loop", "hang/sysrq.txt"),
    "irqs-off": ("provoke_loop", "hang/cpus.txt"),
    "deadlock": ("waits in range_wait", "hang/sysrq.txt"),
    "flood": ("floods its console", "console.log"),
    "chatter": ("said more than 32 MiB", "output.txt"),
}


def wrong(campaign: Campaign, faults: list[str], names: list[str]) -> list[str]:
    """What the run got wrong, or lost, cell by cell."""
    document = campaign.document()
    entries: dict[str, Any] = {entry["name"]: entry for entry in document["cells"]}
    found = []
    for fault, name in zip(faults, names, strict=True):
        if name not in entries:
            found.append(f"{name}: no verdict")
            continue
        verdict = entries[name]["verdict"]
        if verdict["state"] != TRUTH[fault]:
            found.append(f"{name}: {verdict['claim']}")
        if fault not in EVIDENCE:
            continue
        said, file = EVIDENCE[fault]
        if said not in verdict["reason"]:
            found.append(f"{name}: {said!r} is not in {verdict['reason']!r}")
        if not (campaign.place / "results/latest" / entries[name]["directory"] / file).exists():
            found.append(f"{name}: no {file}")
    return found


def expected_code(faults: list[str]) -> int:
    states = {TRUTH[fault] for fault in faults}
    if states & {"exposed", "crashed", "hung"}:
        return 1
    return 125 if states & {"untested", "lost"} else 0


@pytest.mark.slow
def test_one_of_each(campaign: Campaign) -> None:
    faults = [fault for fault in TRUTH if fault not in (*SLOW, *PROVOKED)]
    names = campaign.write(faults)
    code, said = campaign.run("run", "truth")
    assert wrong(campaign, faults, names) == [], said
    assert code == expected_code(faults) == 1
    assert campaign.left_behind() == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in TRUTH if fault])
def test_alone_it_has_its_exit_code(campaign: Campaign, fault: str) -> None:
    kernel = "provoke" if fault in PROVOKED else "stock"
    seconds = 60.0 if fault in SLOW else 2.0
    names = campaign.write([fault], kernel=kernel, instead={LIMIT: f"timeout_s = {seconds}"})
    code, said = campaign.run("run", "truth")
    assert wrong(campaign, [fault], names) == [], said
    assert code == expected_code([fault]), said
    assert campaign.left_behind() == []
    assert 20 < campaign.peak_mib() < MOST_MIB
    (cell,) = campaign.document()["cells"]
    _said, file = EVIDENCE.get(fault, ("", "trials.jsonl"))
    truth = f"{TRUTH[fault]}, exit {expected_code([fault])}"
    ROWS.append(Row(WORDS[fault], truth, f"{cell['verdict']['state']}, exit {code}", file))


@pytest.mark.slow
def test_two_hundred_in_random_order(campaign: Campaign) -> None:
    """The misjudgement rate: 0 of 200."""
    draw = random.Random(20261125)
    kinds = [fault for fault in TRUTH if fault not in SLOW]
    faults = [draw.choice(kinds) for _ in range(200)]
    names = campaign.write(faults, kernel="provoke")
    code, said = campaign.run("run", "truth")
    assert wrong(campaign, faults, names) == [], said
    assert code == 1
    assert campaign.left_behind() == []
    ROWS.append(Row("all of the above but the floods, drawn at random", "each as above",
                    "0 of 200 misjudged", "run.json", 200))
