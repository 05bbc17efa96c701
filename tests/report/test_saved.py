# SPDX-License-Identifier: GPL-2.0
"""Which run is meant, and what is said when it cannot be read."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.errors import InfraError, UsageError
from harness.experiment import store
from harness.report import files, kills, runs, saved
from harness.report.saved import Planned
from tests.fakes import results


def test_the_latest_run_is_meant_when_none_is_named(made: results.Results) -> None:
    root = made.root / "results"
    assert runs.find(root) == made.interrupted
    assert runs.find(root, made.finished.name) == made.finished
    assert runs.find(root, "latest") == made.interrupted


def test_a_path_will_do(made: results.Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.root)
    asked = f"results/{made.finished.name}/"
    assert runs.find(Path("/nonexistent"), asked) == made.finished


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run 'x' in") as error:
        runs.find(tmp_path, "x")
    assert error.value.hint == f"ls {tmp_path}"
    with pytest.raises(UsageError, match="no run yet") as error:
        runs.find(tmp_path)
    assert error.value.hint == "harness run"


def test_a_kill_matrix_is_no_run(made: results.Results) -> None:
    with pytest.raises(UsageError, match="a kill matrix and no run") as error:
        runs.find(made.root / "results", made.mutants)
    assert error.value.hint == f"harness report --mutants {made.mutants}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["cells"][3]["verdict"].update(state="well"), r"\$.cells\[3\].verdict.state"),
        (lambda d: d["cells"][0].pop("kernel"), r"missing required field `kernel`"),
        (lambda d: d.update(cells={}), r"Expected `array`.*\$.cells"),
        (lambda d: d["kernels"]["stock"].update(series="x"), r"\$.kernels\[...\].series"),
        (lambda d: d.pop("seconds"), "not a run's"),
    ],
)
def test_a_damaged_run_is_one_line(
    made: results.Results, tmp_path: Path, change: Any, said: str
) -> None:
    document = json.loads((made.finished / "run.json").read_text())
    change(document)
    store.write_json(tmp_path / "run.json", document)
    with pytest.raises(InfraError, match=said) as error:
        saved.load(tmp_path)
    assert "\n" not in error.value.message
    assert str(tmp_path / "run.json") in error.value.message


@pytest.mark.parametrize(
    ("name", "planned"),
    [
        ("k/ext4/w", ("k", "ext4", "w", "", True)),
        ("k/ext4/w@a+b~unarmed", ("k", "ext4", "w", "a+b", False)),
        ("nonsense", ("", "", "nonsense", "", True)),
    ],
)
def test_the_name_of_a_cell_says_what_it_is(name: str, planned: tuple[Any, ...]) -> None:
    assert Planned.of(name) == Planned(name, *planned)


def test_cells_keep_the_order_of_the_plan(made: results.Results) -> None:
    run = saved.load(made.interrupted)
    assert [cell.name for cell in run.in_order] == run.document.planned


# --- the kill matrix ----------------------------------------------------------


def test_a_matrix_of_the_same_kernel_beside_the_run(made: results.Results) -> None:
    found = kills.find(saved.load(made.finished), None)
    assert found is not None
    assert (found.kills.run, found.dead) == (made.mutants, 1)
    assert found.filesystems == [("ext4", 3)]
    letters = {name: [mark.letter for mark in marks] for name, marks in found.rows}
    assert letters == {"punch": ["K", "·", "·"], "plain": ["·", "?", "K"]}


def test_the_page_has_it(made: results.Results) -> None:
    text = (made.finished / files.HTML).read_text()
    assert "1 of 2 lock sites" in text
    assert "<strong>survived:</strong> ext4/mkwrite" in text
    assert "<strong>false alarm:</strong> ext4/plain: old data" in text


def test_a_matrix_of_another_kernel_says_nothing(made: results.Results, tmp_path: Path) -> None:
    other = json.loads((made.root / "results" / made.mutants / "mutants.json").read_text())
    other["kernel"]["id"] = "ffffffffffff"
    for name, value in (("a-mutants", other), ("b-mutants", {"matrix": 1})):
        (tmp_path / name).mkdir()
        store.write_json(tmp_path / name / "mutants.json", value)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes((made.finished / "run.json").read_bytes())
    run = saved.load(tmp_path / "run")
    assert kills.find(run, None) is None
    asked = kills.find(run, "a-mutants")
    assert asked is not None, "unless somebody asks for it"
    with pytest.raises(InfraError, match="matrix"):
        kills.find(run, str(tmp_path / "b-mutants"))


def test_a_matrix_that_is_not_there(made: results.Results) -> None:
    with pytest.raises(UsageError, match=r"no mutants.json in run 'x'"):
        kills.find(saved.load(made.finished), "x")


# --- the verb -----------------------------------------------------------------


def test_harness_report(
    made: results.Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made.root)
    (made.finished / files.TEXT).unlink()
    assert cli.main(["report", made.finished.name, "--mutants", made.mutants]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"results/{made.finished.name}/report.html"
    assert [Path(line).name for line in said[1:]] == [
        "report.ktap", "junit.xml", "summary.md", "summary.txt"
    ]  # fmt: skip
    assert (made.finished / files.TEXT).is_file()


def test_the_commands_of_the_documentation(
    made: results.Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = Path(__file__).parents[2] / "docs" / "reports.md"
    block = docs.read_text().split("```sh\n")[1].split("```")[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) == 3
    (tmp_path / "results").mkdir()
    for name, run in (
        ("latest", made.finished.name),
        ("20261125T120343Z-default-16e2", made.interrupted.name),
        ("20261125T115851Z-mutants-default-97ab", made.mutants),
    ):
        (tmp_path / "results" / name).symlink_to(made.root / "results" / run)
    monkeypatch.chdir(tmp_path)
    for program, *arguments in commands:
        assert program == "harness"
        (made.finished / files.HTML).unlink(missing_ok=True)
        (made.interrupted / files.HTML).unlink(missing_ok=True)
        assert cli.main(arguments) == 0
        written = made.interrupted if arguments[-1].endswith("16e2") else made.finished
        assert (written / files.HTML).is_file()
    files.write(made.interrupted)


def test_harness_report_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report"]) == 2
    assert capsys.readouterr().err.splitlines()[1] == "  try: harness run"
