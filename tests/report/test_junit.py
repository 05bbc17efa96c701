# SPDX-License-Identifier: GPL-2.0
"""junit.xml against a schema, and what a CI would count."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

import pytest
import xmlschema
from hypothesis import given

from harness.report import files, junit, saved
from harness.report.saved import Saved
from tests.fakes import results
from tests.report.runs import runs


@cache
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(Path(__file__).parent / "junit.xsd")


def cases(text: str) -> dict[str, ET.Element]:
    root = ET.fromstring(text)
    return {
        f"{case.get('classname')}/{case.get('name')}": case for case in root.iter("testcase")
    }


def verdict_of(case: ET.Element) -> str:
    found = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
    assert len(found) <= 1
    return found[0] if found else "passed"


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_the_schema_accepts_it(made: results.Results, name: str) -> None:
    directory = getattr(made, name)
    schema().validate((directory / files.JUNIT).read_text().partition("\n")[2])
    found = cases((directory / files.JUNIT).read_text())
    assert len(found) == len(saved.load(directory).in_order) == 22


@pytest.mark.parametrize(
    "damage",
    [("testcase", "testing"), (' time="', ' tim="'), ("<failure message", "<failure kind"),
     (' failures="', ' failures="x')],
)  # fmt: skip
def test_the_schema_can_refuse(made: results.Results, damage: tuple[str, str]) -> None:
    text = (made.finished / files.JUNIT).read_text().partition("\n")[2]
    assert damage[0] in text
    assert not schema().is_valid(text.replace(*damage))


def test_what_a_ci_counts(made: results.Results) -> None:
    found = cases((made.finished / files.JUNIT).read_text())
    kinds = {name: verdict_of(case) for name, case in found.items()}
    assert kinds["stock.xfs/punch"] == kinds["stock.ext4/dio"] == "passed"
    for name in ("stock.ext4/plain", "candidate.ext4/punch", "candidate.ext4/splice",
                 "control.xfs/punch@fault"):  # fmt: skip
        assert kinds[name] == "failure", name
    for name in ("stock.ext4/punch", "candidate.xfs/punch"):
        assert kinds[name] == "error", name
    root = ET.fromstring((made.finished / files.JUNIT).read_text())
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("22", "4", "5")
    assert root.get("skipped") == "0"
    failure = found["candidate.ext4/punch"].find("failure")
    assert failure is not None and failure.text is not None
    assert failure.get("type") == "crashed"
    assert "run it again: .venv/bin/harness run quick" in failure.text


def test_what_was_not_run_is_skipped(made: results.Results) -> None:
    text = (made.interrupted / files.JUNIT).read_text()
    kinds = [verdict_of(case) for case in cases(text).values()]
    assert (kinds.count("passed"), kinds.count("skipped")) == (9, 13)
    assert ET.fromstring(text).get("skipped") == "13"


@given(runs())
def test_it_is_xml_whatever_a_guest_wrote(run: Saved) -> None:
    text = junit.render(run)
    root = ET.fromstring(text)
    assert len(list(root.iter("testcase"))) == len(run.in_order)
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
    text.encode()
