# SPDX-License-Identifier: GPL-2.0
"""A whole plan on fake machines: order, verdicts, exit codes, what is on disk."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.config import Config
from harness.errors import BootError, BuildError, InfraError, MachineLostError, UsageError
from harness.events import Event, silent
from harness.experiment import store
from harness.experiment.runner import run_plan
from harness.experiment.verdict import NOT_FIRED
from harness.guest.splat import Splat
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab, Script

PANIC = Splat("panic", "Kernel panic - not syncing: x", "text")
SMALL: dict[str, Any] = {"kernels": ["control", "stock"], "filesystems": ["ext4"]}
NAMES = [
    "control/ext4/punch@fault",
    "control/ext4/punch@fault+mkwrite",
    "control/ext4/punch@off",
    "stock/ext4/punch",
]


def run(
    tmp_path: Path, lab: Lab, cfg: Config | None = None, **options: Any
) -> tuple[dict[str, Any], int, Path]:
    """run.json of a run of "punch" on ext4, its exit code and its directory."""
    options = {"workloads": ["punch"], **options}
    finished, code = run_plan(
        cfg or config(tmp_path, **SMALL),
        "quick",
        tmp_path / "cache",
        tmp_path / "results",
        options.pop("listen", silent),
        rooms=lab.rooms(),
        **options,
    )
    assert lab.still_open == []
    return saved(finished.directory), code, finished.directory


def saved(directory: Path) -> dict[str, Any]:
    value = json.loads((directory / "run.json").read_text())
    assert isinstance(value, dict)
    return value


def only_run(tmp_path: Path) -> Path:
    (directory,) = (p for p in (tmp_path / "results").iterdir() if not p.is_symlink())
    return directory


def states(document: dict[str, Any]) -> dict[str, str]:
    return {cell["name"]: cell["verdict"]["state"] for cell in document["cells"]}


# --- all is well --------------------------------------------------------------


def test_a_healthy_run(tmp_path: Path) -> None:
    lab = Lab()
    document, code, directory = run(tmp_path, lab)
    assert code == 0
    assert lab.built == ["control", "stock"]
    assert lab.booted == NAMES  # one boot for each cell, control first
    assert states(document) == dict(zip(NAMES, ["exposed"] * 2 + ["held"] * 2, strict=True))
    assert all(cell["verdict"]["as_expected"] for cell in document["cells"])
    assert (document["status"], document["exit_code"], document["not_run"]) == ("finished", 0, [])
    assert (tmp_path / "results" / "latest").resolve() == directory
    assert document["id"] == directory.name


def test_run_json_has_what_was_promised(tmp_path: Path) -> None:
    document, _code, _directory = run(tmp_path, Lab())
    assert (document["plan"], document["accelerator"]) == ("quick", "tcg")
    assert document["accelerator_reason"] == "no vmx in /proc/cpuinfo"
    assert document["seconds"] >= 0 and document["started"].endswith("+00:00")
    assert set(document["stages"]) == {"accelerator", "workloads", "build", "cells"}
    assert document["first_trial_s"] >= 0
    assert document["kernels"]["stock"]["release"] == "6.12.0-stock"
    assert document["kernels"]["stock"]["tree"] == "t"
    assert document["kernels"]["stock"]["source"] == "dir: linux"
    assert document["kernels"]["stock"]["patches"] == []
    assert document["qemu"] == "QEMU emulator version 7.2.0"
    assert document["guest"] == {
        "name": "small",
        "cpus": 2,
        "memory_mib": 1024,
        "accel": "tcg",
        "disk_mib": 512,
        "boot_timeout_s": 30.0,
        "cmdline": [],
    }
    first, _second, off, stock = document["cells"]
    assert {key: first[key] for key in ("kernel", "role", "filesystem", "workload", "switch")} == {
        "kernel": "control",
        "role": "control",
        "filesystem": "ext4",
        "workload": "punch",
        "switch": "fault",
    }
    assert first["window"] == "ext4_punch:2000+filemap_fault:500"
    assert first["min_rate"] == 0.9
    assert (off["switch"], stock["switch"]) == ("off", None)
    verdict = stock["verdict"]
    assert verdict["trials"] == verdict["planned"] == 50
    assert verdict["outcomes"]["held"] == 50
    assert (verdict["exposed"], verdict["rate"], verdict["window_hits"]) == (0, 0.0, 50)
    assert verdict["interval"] == [0.0, pytest.approx(0.0711, abs=1e-4)]
    assert verdict["window_hits_by_name"] == {"ext4_punch": 50, "filemap_fault": 50}


def test_a_cell_directory_is_self_contained(tmp_path: Path) -> None:
    document, _code, directory = run(tmp_path, Lab())
    for cell in document["cells"]:
        place = directory / cell["directory"]
        assert place == directory / "cells" / cell["name"]
        found = {path.name for path in place.iterdir()}
        assert found == {
            "cell.json",
            "console.log",
            "dmesg.txt",
            "output.txt",
            "rerun",
            "trials.jsonl",
        }
        entry = json.loads((place / "cell.json").read_text())
        assert entry["preflight"]["cpus_online"] == 2
        assert entry["header"]["seed"] == cell["seed"]
        assert entry["verdict"] == cell["verdict"]


def test_configurations_are_kept_while_they_are_there(tmp_path: Path) -> None:
    dotconfig = tmp_path / "cache" / "stock" / ".config"
    dotconfig.parent.mkdir(parents=True)
    dotconfig.write_bytes(b"CONFIG_A=y\n# \xff\n")
    _document, code, directory = run(tmp_path, Lab())
    assert code == 0
    kept = list((directory / "kernels").iterdir())
    assert [path.name for path in kept] == ["stock.config"]
    assert kept[0].read_text() == "CONFIG_A=y\n# \\xff\n"


def test_rerun_runs_the_cell_and_its_control(tmp_path: Path) -> None:
    document, _code, directory = run(tmp_path, Lab())
    stock = document["cells"][-1]
    script = directory / stock["directory"] / "rerun"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == (
        "exec .venv/bin/harness run quick -k control -k stock -f ext4 -w punch"
        " --trials 50 --seed 1"
    )
    assert "-k stock" not in document["cells"][0]["rerun"]


def test_rerun_names_a_kernel_that_its_plan_does_not_list(tmp_path: Path) -> None:
    cfg = config(tmp_path, kernels=["control"], filesystems=["ext4"])
    document, code, _ = run(tmp_path, Lab(), cfg, kernels=["control", "stock"])
    (stock,) = [cell for cell in document["cells"] if cell["kernel"] == "stock"]
    assert code == 0
    assert "-k control -k stock" in stock["rerun"]
    assert "-k stock" not in document["cells"][0]["rerun"]


def test_rerun_works_from_anywhere(tmp_path: Path) -> None:
    document, _code, directory = run(tmp_path, Lab())
    program = tmp_path / ".venv/bin/harness"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$PWD $*"\n')
    program.chmod(0o755)
    cell = directory / document["cells"][0]["directory"]
    done = subprocess.run(["./rerun"], cwd=cell, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{tmp_path} run quick -k control -f ext4")


def test_a_disk_is_kept_only_as_evidence_against_a_kernel(tmp_path: Path) -> None:
    lost = Script(dies=InfraError("the host cannot write"), after=9)
    lab = Lab(**{NAMES[2]: lost, NAMES[3]: Script(splats=[PANIC])})
    _document, _code, directory = run(tmp_path, lab)
    kept = {path.parent.name for path in directory.glob("cells/**/disk.img")}
    assert kept == {"punch"}


def test_rerun_of_a_cell_has_its_seed(tmp_path: Path) -> None:
    whole, _code, _directory = run(tmp_path, Lab(), seed=9, trials=36)
    again, _code, _directory = run(tmp_path, Lab(), seed=9, trials=36, kernels=["stock"])
    assert whole["seed"] == 9
    assert again["cells"][0]["seed"] == whole["cells"][-1]["seed"]
    assert again["cells"][0]["verdict"]["planned"] == 36


def test_two_runs_never_meet(tmp_path: Path) -> None:
    _document, _code, first = run(tmp_path, Lab())
    _document, _code, second = run(tmp_path, Lab())
    assert first != second
    assert saved(first)["status"] == saved(second)["status"] == "finished"


def test_everything_is_logged(tmp_path: Path) -> None:
    events: list[Event] = []
    _document, _code, directory = run(tmp_path, Lab(), listen=events.append)
    lines = (directory / "run.log").read_text().splitlines()
    assert len(lines) == len(events)
    assert any("build control: CC [1/1]" in line for line in lines)
    announced = [event for event in events if "cells" in event.data]
    assert [event.data["cells"] for event in announced] == [NAMES]
    assert events[-1].data["document"]["exit_code"] == 0
    assert events[0].data["directory"] == str(directory)


def test_timeout_grows_with_the_trials_asked_for(tmp_path: Path) -> None:
    lab = Lab()
    run(tmp_path, lab, kernels=["stock"], trials=500)
    run(tmp_path, lab, kernels=["stock"], trials=5)
    assert lab.timeouts == [600.0, 60.0]


# --- verdicts against expectation ---------------------------------------------


def test_exposure_on_stock_is_exit_1(tmp_path: Path) -> None:
    bad = Script(outcomes=lambda n, _on: "exposed" if n == 17 else "held")
    document, code, directory = run(tmp_path, Lab(**{NAMES[3]: bad}))
    assert code == 1
    assert states(document)[NAMES[3]] == "exposed"
    # Somebody will want to look at the file system of a kernel that failed.
    assert (directory / "cells" / NAMES[3] / "disk.img").exists()


def test_control_that_does_not_fire_spoils_stock(tmp_path: Path) -> None:
    dud = Script(outcomes=lambda _n, _on: "held")
    document, code, _directory = run(tmp_path, Lab(**{"control/*": dud}))
    assert code == 1
    assert states(document)[NAMES[0]] == "held"
    assert document["cells"][3]["verdict"]["reason"] == NOT_FIRED


def test_one_switch_that_fires_is_enough_for_stock(tmp_path: Path) -> None:
    dud = Script(outcomes=lambda _n, _on: "held")
    document, code, _directory = run(tmp_path, Lab(**{NAMES[0]: dud}))
    assert code == 1  # the control cell itself
    assert states(document)[NAMES[3]] == "held"


def test_stock_without_control_is_125(tmp_path: Path) -> None:
    document, code, _directory = run(tmp_path, Lab(), kernels=["stock"])
    assert code == 125
    assert document["cells"][0]["verdict"]["reason"] == NOT_FIRED
    assert "-k control" in document["cells"][0]["rerun"]


def test_control_on_another_filesystem_does_not_count(tmp_path: Path) -> None:
    dud = Script(outcomes=lambda _n, _on: "held")
    cfg = config(tmp_path, kernels=["control", "stock"])
    names = [f"control/ext4/punch@{switch}" for switch in ("fault", "fault+mkwrite")]
    document, code, _directory = run(tmp_path, Lab(**dict.fromkeys(names, dud)), cfg)
    assert code == 1
    assert states(document)["stock/xfs/punch"] == "held"
    assert states(document)["stock/ext4/punch"] == "untested"


OPEN = {"kernels": ["candidate", "stock"], "filesystems": ["ext4"], "workloads": ["dio"]}


def test_firing_on_stock_is_the_candidates_control(tmp_path: Path) -> None:
    fires = Script(outcomes=lambda _n, _on: "exposed")
    lab = Lab(**{"stock/ext4/dio": fires})
    document, code, _directory = run(tmp_path, lab, config(tmp_path, **OPEN), workloads=[])
    assert code == 0
    assert states(document) == {"stock/ext4/dio": "exposed", "candidate/ext4/dio": "held"}
    stock, candidate = document["cells"]
    assert (stock["must_fire"], stock["min_rate"]) == (True, 0.9)
    assert (candidate["must_fire"], candidate["min_rate"]) == (False, None)
    assert "-k candidate -k stock" in candidate["rerun"]
    assert "-k candidate" not in stock["rerun"]


def test_silence_on_stock_spoils_the_candidate(tmp_path: Path) -> None:
    document, code, _directory = run(tmp_path, Lab(), config(tmp_path, **OPEN), workloads=[])
    assert code == 1
    assert states(document) == {"stock/ext4/dio": "held", "candidate/ext4/dio": "untested"}


def test_a_gate_stands_alone(tmp_path: Path) -> None:
    cfg = config(tmp_path, kernels=["control", "stock"], workloads=["splice"])
    lab = Lab()
    document, code, _directory = run(tmp_path, lab, cfg, workloads=[], trials=500)
    assert code == 0
    assert lab.built == ["stock"]
    assert states(document) == {"stock/ext4/splice": "held", "stock/xfs/splice": "held"}
    assert {cell["kind"] for cell in document["cells"]} == {"gate"}
    assert "-k control" not in document["cells"][0]["rerun"]
    assert lab.timeouts[0] == pytest.approx(60 * 500 / 3)


def test_a_plan_of_many_trials_has_the_time_for_them(tmp_path: Path) -> None:
    lab = Lab()
    cfg = config(tmp_path, **SMALL, trials={"control": 40, "stock": 1000})
    run(tmp_path, lab, cfg, kernels=["stock"])
    assert lab.timeouts == [150.0]


def test_untested_only_is_125(tmp_path: Path) -> None:
    document, code, _directory = run(
        tmp_path, Lab(**{NAMES[3]: Script(preflight={"cpus_online": 1})})
    )
    assert code == 125
    assert "cpus_online is 1" in document["cells"][3]["verdict"]["reason"]


def test_crash_keeps_the_trials_and_the_next_cells_run(tmp_path: Path) -> None:
    crash = Script(dies=MachineLostError("panicked"), after=3 + 2 * 10, splats=[PANIC])
    document, code, directory = run(tmp_path, Lab(**{NAMES[0]: crash}))
    assert code == 1
    verdict = document["cells"][0]["verdict"]
    assert (verdict["outcomes"]["exposed"], verdict["outcomes"]["crashed"]) == (10, 1)
    assert (verdict["trials"], verdict["planned"]) == (11, 40)
    assert document["cells"][0]["splats"] == [
        {"kind": "panic", "title": PANIC.title, "at": None, "interleaved": False}
    ]
    assert document["cells"][0]["allowed"] == []
    assert len(document["cells"]) == 4
    assert (directory / "cells" / NAMES[0] / "splats" / "01-panic.txt").exists()


# --- infrastructure -----------------------------------------------------------


def test_cell_that_never_ran_is_run_once_more(tmp_path: Path) -> None:
    flaky = [Script(boot_error=InfraError("port taken")), Script()]
    document, code, directory = run(tmp_path, Lab(**{NAMES[1]: flaky}))
    assert code == 0
    assert document["cells"][1]["attempts"] == 2
    assert (directory / "cells" / NAMES[1] / "attempt-1" / "error.txt").exists()
    trials = (directory / "cells" / NAMES[1] / "trials.jsonl").read_text().splitlines()
    assert len(trials) == 40


def test_the_first_verdict_stands(tmp_path: Path) -> None:
    lost = [Script(dies=MachineLostError("SSH is gone"), after=5), Script()]
    lab = Lab(**{NAMES[3]: lost})
    document, code, _directory = run(tmp_path, lab)
    assert code == 125
    assert lab.booted.count(NAMES[3]) == 1
    assert document["cells"][3]["verdict"]["outcomes"]["lost"] == 1
    assert document["cells"][3]["attempts"] == 1


def test_cell_is_not_run_a_third_time(tmp_path: Path) -> None:
    lab = Lab(**{NAMES[1]: Script(dies_in_prepare=MachineLostError("SSH is gone"))})
    document, code, _directory = run(tmp_path, lab)
    assert lab.booted.count(NAMES[1]) == 2
    assert states(document)[NAMES[1]] == "lost"
    assert code == 125


def test_nothing_works_stops_the_run_with_the_reason(tmp_path: Path) -> None:
    lab = Lab(**{"control/*": Script(boot_error=InfraError("no QEMU", hint="apt install"))})
    with pytest.raises(InfraError, match="no QEMU"):
        run(tmp_path, lab)
    document = saved(only_run(tmp_path))
    assert (document["status"], document["exit_code"]) == ("failed", 125)
    assert document["error"] == "no QEMU"
    assert document["not_run"] == NAMES


def test_kernel_that_does_not_boot_is_given_up(tmp_path: Path) -> None:
    panics = Script(boot_error=BootError("panic at boot"), splats=[PANIC])
    lab = Lab(**{"control/*": panics})
    document, code, _directory = run(tmp_path, lab)
    assert code == 125
    assert len(lab.machines) == 3  # two of control, one of stock
    reasons = [cell["verdict"]["reason"] for cell in document["cells"]]
    assert reasons[0] == reasons[1] == "did not boot: panic at boot"
    assert reasons[2] == "kernel 'control' did not boot in 2 earlier cells"
    assert reasons[3] == NOT_FIRED


def test_a_kernel_that_has_booted_is_not_given_up(tmp_path: Path) -> None:
    panics = Script(boot_error=BootError("panic at boot"))
    lab = Lab(**{NAMES[1]: panics, NAMES[2]: panics})
    cfg = config(tmp_path, kernels=["control"])
    run(tmp_path, lab, cfg)
    assert len(lab.machines) == 6


def test_build_error_names_itself_and_keeps_latest(tmp_path: Path) -> None:
    _document, _code, before = run(tmp_path, Lab())
    lab = Lab()
    lab.build_error = BuildError("does not compile")
    with pytest.raises(BuildError):
        run(tmp_path, lab)
    assert (tmp_path / "results" / "latest").resolve() == before
    (failed,) = (
        path
        for path in (tmp_path / "results").iterdir()
        if not path.is_symlink() and path != before
    )
    assert (saved(failed)["status"], saved(failed)["error"]) == ("failed", "does not compile")


def test_qemu_missing_is_said_before_anything_is_built(tmp_path: Path) -> None:
    lab = Lab()
    lab.probe_error = InfraError("no QEMU")
    with pytest.raises(InfraError, match="no QEMU"):
        run(tmp_path, lab)
    assert lab.built == []


def test_program_that_was_not_built(tmp_path: Path) -> None:
    lab = Lab()
    lab.programs = ["preflight"]
    with pytest.raises(InfraError, match=r"no program was built for races/punch"):
        run(tmp_path, lab)
    assert lab.built == []


def test_usage_error_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run(tmp_path, Lab(), kernels=["nope"])
    assert not (tmp_path / "results").exists()


def test_disk_full_keeps_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.write_text

    def full(path: Path, text: str, mode: int = 0o644) -> None:
        if "fault+mkwrite" in str(path):
            raise store.DiskFullError(f"disk full while writing results to {path.parent}")
        write(path, text, mode)

    monkeypatch.setattr(store, "write_text", full)
    with pytest.raises(store.DiskFullError):
        run(tmp_path, Lab())
    document = saved(only_run(tmp_path))
    assert document["status"] == "failed"
    assert states(document)[NAMES[0]] == "exposed"
    assert NAMES[3] in document["not_run"]


def test_too_few_trials_are_announced(tmp_path: Path) -> None:
    events: list[Event] = []
    _document, code, _directory = run(tmp_path, Lab(), trials=10, listen=events.append)
    assert code == 125  # bisect must skip it: no kernel could have passed
    notes = [event.message for event in events if event.kind == "note"]
    assert "10 trials cannot show a rate of 0.9: at least 36 are needed" in notes


# --- Ctrl-C -------------------------------------------------------------------


def test_interrupt_in_a_cell(tmp_path: Path) -> None:
    lab = Lab(**{NAMES[2]: Script(dies=KeyboardInterrupt(), after=9)})
    events: list[Event] = []
    document, code, directory = run(tmp_path, lab, listen=events.append)
    assert code == 130
    assert (document["status"], document["exit_code"]) == ("interrupted", 130)
    assert list(states(document)) == NAMES[:2]
    assert document["not_run"] == NAMES[2:]
    cell = json.loads((directory / "cells" / NAMES[2] / "cell.json").read_text())
    assert cell["status"] == "not run"
    assert not (directory / "cells" / NAMES[2] / "disk.img").exists()
    assert events[-1].data["document"]["status"] == "interrupted"


@pytest.mark.parametrize("stage", ["build", "probe"])
def test_interrupt_before_the_first_cell(tmp_path: Path, stage: str) -> None:
    lab = Lab()
    setattr(lab, f"{stage}_error", KeyboardInterrupt())
    document, code, _directory = run(tmp_path, lab)
    assert code == 130
    assert (document["status"], document["cells"]) == ("interrupted", [])
    assert document["not_run"] == NAMES
    assert not (tmp_path / "results" / "latest").is_symlink()


def test_interrupt_between_verdict_and_next_cell_loses_nothing(tmp_path: Path) -> None:
    def listen(event: Event) -> None:
        if event.kind == "cell" and "verdict" in event.data:
            raise KeyboardInterrupt

    document, code, _directory = run(tmp_path, Lab(), listen=listen)
    assert code == 130
    assert list(states(document)) == NAMES[:1]
    assert document["not_run"] == NAMES[1:]
