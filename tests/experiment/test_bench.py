# SPDX-License-Identifier: GPL-2.0
"""Figures of kernels: measured once each, kept in run.json, compared."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.config import Config, Workload
from harness.errors import InfraError, UsageError
from harness.events import Event, silent
from harness.experiment.bench import Figure, measure
from harness.experiment.runner import resume_plan, run_plan
from harness.guest.machine import Completed
from harness.report import compare, files
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab, image

COUNTS = {"stock": 1000.0, "candidate": 1030.0}
SMALL: dict[str, Any] = {"kernels": ["stock", "candidate"], "filesystems": ["ext4"]}


def with_bench(root: Path) -> Config:
    cfg = config(root, **SMALL)
    bench = Workload(kind="bench", source="bench/cold.c", args=["--x"], figures=["a_ns", "b_ns"])
    return msgspec.structs.replace(cfg, workload={**cfg.workload, "cold": bench})


def counting(lab: Lab, calls: list[str]) -> Any:
    def fake(_cfg: Config, found: Any, *_: Any) -> list[Figure]:
        calls.append(found.kernel)
        return [Figure("cold/ext4/a_ns", COUNTS[found.kernel])]

    return dataclasses.replace(lab.rooms(), measure=fake)


def test_each_kernel_is_measured_before_the_cells_and_once(tmp_path: Path) -> None:
    cfg, calls, lab = with_bench(tmp_path), [], Lab()  # type: ignore[var-annotated]

    def interrupt(event: Event) -> None:
        if event.kind == "trial":
            raise KeyboardInterrupt

    rooms = counting(lab, calls)
    run, code = run_plan(
        cfg, "quick", tmp_path / "cache", tmp_path / "results", interrupt,
        workloads=["plain"], bench=["cold"], rooms=rooms,
    )  # fmt: skip
    assert code == 130 and calls == ["stock", "candidate"]
    resume_plan(cfg, tmp_path / "cache", tmp_path / "results", silent, rooms=rooms)
    assert calls == ["stock", "candidate"], "what is measured is not measured again"
    document = json.loads((run.directory / "run.json").read_text())
    assert document["figures"] == {k: {"cold/ext4/a_ns": v} for k, v in COUNTS.items()}
    page = {path.name: path.read_text() for path in files.write(run.directory)}["report.html"]
    assert "1.0300" in page and "cold/ext4/a_ns" in page


def test_compare_has_the_ratio(tmp_path: Path) -> None:
    cfg, calls = with_bench(tmp_path), []  # type: ignore[var-annotated]
    for _ in range(2):
        run_plan(
            cfg, "quick", tmp_path / "cache", tmp_path / "results", silent,
            workloads=["plain"], bench=["cold"], rooms=counting(Lab(), calls),
        )  # fmt: skip
    root = tmp_path / "results"
    found = compare.compare(*(compare.side(root, f"latest:{k}") for k in ("stock", "candidate")))
    (change,) = (each for each in found.changes if each.what == "figure")
    assert change.text == "1000 -> 1030 guest instructions, ratio 1.0300" and change.worse
    back = compare.compare(*(compare.side(root, f"latest:{k}") for k in ("candidate", "stock")))
    assert [each.worse for each in back.changes if each.what == "figure"] == [False]
    runs = sorted(path.name for path in root.iterdir() if not path.is_symlink())
    same = compare.compare(*(compare.side(root, name) for name in runs))
    assert [each.text[-6:] for each in same.changes if each.what == "figure"] == ["1.0000"] * 2


def test_what_is_no_bench_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no bench 'cald'.*did you mean 'cold'"):
        run_plan(
            with_bench(tmp_path), "quick", tmp_path / "c", tmp_path / "results", silent,
            bench=["cald"], rooms=Lab().rooms(),
        )  # fmt: skip
    assert not (tmp_path / "results").exists()


# --- measuring ------------------------------------------------------------------


class Guest:
    """Prints what a bench does."""

    def __init__(self, lab: Lab, out: str) -> None:
        self.lab, self.out, self.specs = lab, out, []  # type: ignore[var-annotated]

    def machine(self, spec: Any, directory: Path, name: str) -> Any:
        made: Any = self.lab.rooms().machine(spec, directory, Path(), Path(), silent, name)
        made.name, plain = "stock", made.run
        self.specs.append(spec)

        def run(command: str, timeout_s: float = 60, on_stdout_line: Any = None) -> Completed:
            if command.startswith("/workloads/bench/"):
                self.lab.commands.append(command)
                return Completed(command, 0, self.out, "", 1.0)
            done: Completed = plain(command, timeout_s, on_stdout_line)
            return done

        made.run = run
        return made


def take(tmp_path: Path, guest: Guest) -> list[Figure]:
    cfg = with_bench(tmp_path)
    return measure(
        cfg, image("stock", cfg, tmp_path), "small", ["cold"], ["ext4"], {}, tmp_path,
        guest.machine, silent,
    )  # fmt: skip


def test_figures_are_of_the_first_trial_under_a_clock_that_counts(tmp_path: Path) -> None:
    guest = Guest(Lab(), '1..1\n# {"trial":1,"a_ns":12,"b_ns":3.5,"c":1}\nok 1\n')
    found = {each.name: each.value for each in take(tmp_path, guest)}
    assert found == {"cold/ext4/a_ns": 12.0, "cold/ext4/b_ns": 3.5}
    assert [spec.accelerator.name for spec in guest.specs] == ["icount"]
    assert "/workloads/bench/cold --dir /mnt --trials 1 --seed 1 --x" in guest.lab.commands
    assert not list(tmp_path.rglob("*.img"))


def test_a_bench_without_figures_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="cold on stock and ext4 gave no figures: status 0"):
        take(tmp_path, Guest(Lab(), "1..0 # SKIP no\n"))


def test_a_guest_that_is_another_one_is_not_measured(tmp_path: Path) -> None:
    lab = Lab()
    lab.default = dataclasses.replace(lab.default, preflight={"cpus_online": 1})
    with pytest.raises(InfraError, match="cpus_online is 1"):
        take(tmp_path, Guest(lab, ""))


def test_a_part_that_did_not_take_place_costs_only_its_figures(tmp_path: Path) -> None:
    """As fault-cold without a punch beside it: what it counted before is what it was."""
    why = '"outcome":"untested","why":"no punch"'
    guest = Guest(Lab(), f'1..1\n# {{"trial":1,"a_ns":12,"b_ns":3.5,{why}}}\nok 1 # SKIP\n')
    assert [each.value for each in take(tmp_path, guest)] == [12.0, 3.5]
    guest = Guest(Lab(), f'1..1\n# {{"trial":1,"a_ns":12,{why}}}\nok 1 # SKIP\n')
    with pytest.raises(InfraError, match="no punch"):
        take(tmp_path, guest)
