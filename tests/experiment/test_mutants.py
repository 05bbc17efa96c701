# SPDX-License-Identifier: GPL-2.0
"""The kill matrix, with machines that answer by a table."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import pytest

from harness.config import Config, Switch, Workload
from harness.errors import MachineLostError, UsageError
from harness.experiment import mutants
from harness.experiment.mutants import Bench, Matrix
from harness.experiment.plan import OFF
from harness.guest.machine import Completed
from harness.guest.script import apart
from harness.guest.splat import Splat
from harness.guest.ssh import Hearing
from tests.fakes import experiment

# (workload, switch) -> what comes of it; everything else holds.
Table = Mapping[tuple[str, str], str]


@dataclass
class Guest:
    """One boot: "exposed", "held", "untested", "splat" or "dies", as the table has it."""

    table: Table
    wall: Mapping[str, float] = field(default_factory=dict)
    told: list[Splat] = field(default_factory=list)
    fresh: int = 0  # file systems that were made
    mounted: str = ""  # the type of the last one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass

    def dmesg(self) -> str:
        return ""

    def console(self) -> bytes:
        return b""

    def splats(self) -> list[Splat]:
        return self.told

    def run(
        self,
        command: str,
        timeout_s: float = 60,
        on_stdout_line: Hearing | None = None,
    ) -> Completed:
        return apart(command, lambda line: self.one(line, on_stdout_line))

    def one(self, command: str, on_stdout_line: Hearing | None) -> Completed:
        words = shlex.split(command)
        if words[0].startswith("mkfs"):
            self.fresh += 1
        if words[0] == "mount":
            self.mounted = words[2]
        if words[0] == "/workloads/preflight":
            seen: dict[str, Any] = {
                "cpus_online": 2, "release": "6.12-x", "block_size": 4096, "reflink": False,
                "fs_type": self.mounted, "mount_options": ["noatime"], "free_bytes": 1 << 30,
                "affinity": [True, True],
            }  # fmt: skip
            return Completed(command, 0, json.dumps(seen), "", 0.1)
        if not words[0].startswith("/workloads/"):
            return Completed(command, 0, "", "", 0.1)
        switch = words[words.index("--switch") + 1] if "--switch" in words else OFF
        assert "--first" in words
        outcome = self.table.get((words[0].rsplit("/", 1)[1], switch), "held")
        if outcome == "dies":
            raise MachineLostError("panic: it died")
        if outcome == "splat":
            self.told.append(Splat("warning", "WARNING: at fs/x.c:1", "text"))
            outcome = "held"
        assert on_stdout_line
        trials = int(words[words.index("--trials") + 1])
        for number in range(1, trials + 1):
            report = {"trial": number, "outcome": outcome, "window_hits": {}, "why": "old data"}
            on_stdout_line("# " + json.dumps(report))
            result = {"exposed": "not ok", "held": "ok", "untested": "ok"}[outcome]
            skip = " # SKIP why" if outcome == "untested" else ""
            on_stdout_line(f"{result} {number} trial-{number}{skip}")
            if outcome == "exposed":
                break
        status = {"exposed": 1, "held": 0, "untested": 4}[outcome]
        return Completed(command, status, "", "", 0.1)


def experiment_of() -> Config:
    cfg = experiment.config(workloads=["punch", "plain", "dio", "splice"], filesystems=["ext4"])
    plain = Workload(kind="race", source="races/plain.c", switches=["fault"])
    return Config(
        **{
            **{name: getattr(cfg, name) for name in cfg.__struct_fields__},
            "workload": {**cfg.workload, "plain": plain},
            "switch": {
                "fault": Switch(what="a fault"),
                "mkwrite": Switch(what="a store"),
                "remap": Switch(what="reflink", filesystems=["xfs"]),
            },
        }
    )


def matrix(table: Table, boots: list[Guest] | None = None, **filters: Any) -> Matrix:
    cfg = experiment_of()
    made = boots if boots is not None else []

    def boot(_name: str) -> Guest:
        made.append(Guest(table))
        return made[-1]

    bench = Bench(cfg, "control", "6.12-x", 2, True, 1, boot)
    return mutants.run(bench, mutants.selection(cfg, "quick", **filters), trials=3)


KILLED: Table = {("punch", "fault"): "exposed", ("plain", "mkwrite"): "exposed"}


def test_each_switch_alone_and_every_race() -> None:
    boots: list[Guest] = []
    found = matrix(KILLED, boots)
    assert found.exit_code == 0
    assert not found.survivors
    assert not found.false_alarms
    document = found.to_json()
    # dio is open on stock and splice is a gate: neither can kill.  remap is XFS's.
    assert [(entry["switch"], entry["ran"], entry["killed_by"], entry["trials"])
            for entry in document["matrix"]] == [
        ("fault", ["punch", "plain"], ["punch"], 1 + 3),
        ("mkwrite", ["punch", "plain"], ["plain"], 3 + 1),
    ]
    assert document["off"][0]["trials"] == 6
    # One boot, and a file system of its own for each program.
    assert [guest.fresh for guest in boots] == [6]
    assert found.lines()[-1] == "2 of 2 killed, 0 false alarms"


def test_file_systems_at_the_same_time_are_one_matrix() -> None:
    cfg = experiment_of()
    cfg.plan["quick"].filesystems.append("xfs")  # the struct is frozen, its list is not
    both = threading.Barrier(2)

    class Waiting(Guest):
        def __enter__(self) -> Self:
            both.wait(30)  # alone, nobody gets past here
            return self

    bench = Bench(cfg, "control", "6.12-x", 2, True, 1, lambda _name: Waiting(KILLED))
    kept: list[int] = []
    found = mutants.run(
        bench, mutants.selection(cfg, "quick"), trials=3, jobs=2,
        keep=lambda matrix: kept.append(len(matrix.survivors)),
    )  # fmt: skip
    assert {fate.mutant.filesystem for fate in found.mutants} == {"ext4", "xfs"}
    assert [vars(mutant) for mutant in found.survivors] == [
        {"switch": "remap", "filesystem": "xfs"}
    ]
    assert len(kept) == 5  # after each workload of each file system, and at the end


def test_a_survivor_is_named() -> None:
    found = matrix({("punch", "fault"): "exposed"})
    assert found.exit_code == 1
    assert [mutant.switch for mutant in found.survivors] == ["mkwrite"]
    assert any("mkwrite" in line and "SURVIVED" in line for line in found.lines())


def test_a_survivor_that_nothing_could_test_is_no_finding() -> None:
    found = matrix({("punch", "fault"): "exposed", ("punch", "mkwrite"): "untested",
                    ("plain", "mkwrite"): "untested"})
    assert found.exit_code == 125
    assert found.to_json()["matrix"][1]["untested"] == {"punch": "old data", "plain": "old data"}


def test_what_fires_with_all_switches_off_is_a_false_alarm() -> None:
    found = matrix({**KILLED, ("plain", OFF): "exposed"})
    assert found.exit_code == 1
    assert found.false_alarms == [
        {"filesystem": "ext4", "workload": "plain", "why": "old data"}
    ]
    assert any(line.startswith("FALSE ALARM ext4/plain") for line in found.lines())


def test_a_mutant_that_brings_the_machine_down_is_killed_and_the_rest_goes_on() -> None:
    boots: list[Guest] = []
    found = matrix({**KILLED, ("punch", "mkwrite"): "dies"}, boots)
    assert len(boots) == 2
    assert found.to_json()["matrix"][1]["killed_by"] == ["punch", "plain"]
    assert found.exit_code == 0


def test_a_kernel_that_complains_has_noticed() -> None:
    boots: list[Guest] = []
    found = matrix({("punch", "fault"): "exposed", ("punch", "mkwrite"): "splat"}, boots)
    assert found.to_json()["matrix"][1]["why"] == {"punch": "WARNING: at fs/x.c:1"}
    # It warns once per boot: the next one must be able to say it again.
    assert len(boots) == 2


def test_filters_and_their_errors() -> None:
    found = matrix(KILLED, switches=["fault"], workloads=["punch"])
    assert [entry["switch"] for entry in found.to_json()["matrix"]] == ["fault"]
    wrong: list[dict[str, Any]] = [
        {"switches": ["nope"]}, {"workloads": ["dio"]}, {"filesystems": ["xfs"]}
    ]
    for filters in wrong:
        with pytest.raises(UsageError):
            matrix(KILLED, **filters)


def test_a_race_that_is_named_need_not_be_in_the_plan() -> None:
    cfg = experiment_of()
    short = msgspec.structs.replace(cfg.plan["quick"], workloads=["punch"])
    cfg = msgspec.structs.replace(cfg, plan={"quick": short})
    assert mutants.selection(cfg, "quick")[0][2] == ["punch"]
    assert mutants.selection(cfg, "quick", workloads=["plain"])[0][2] == ["plain"]


def test_a_machine_that_never_boots_is_no_kill() -> None:
    class Broken(Guest):
        def __enter__(self) -> Self:
            raise MachineLostError("no QEMU")

    cfg = experiment_of()
    bench = Bench(cfg, "control", "6.12-x", 2, True, 1, lambda _name: Broken({}))
    with pytest.raises(MachineLostError):
        mutants.run(bench, mutants.selection(cfg, "quick"))
