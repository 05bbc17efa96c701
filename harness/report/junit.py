# SPDX-License-Identifier: GPL-2.0
"""A run as JUnit XML, in the form that CI systems read: a suite per kernel and file system.

A kernel that did what it should not is a failure, what could not be tested an error, what
never ran is skipped; `tests/report/junit.xsd` says what else is where.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from datetime import datetime

from harness.experiment.trial import Outcome
from harness.plain import printable
from harness.report.saved import NOT_RUN, Cell, Planned, Saved

_ERRORS: tuple[Outcome, ...] = ("untested", "lost")
_COUNTED = ("failure", "error", "skipped")


def render(run: Saved) -> str:
    """The file junit.xml."""
    suites: dict[tuple[str, str], list[Cell | Planned]] = {}
    for cell in run.in_order:
        suites.setdefault((cell.kernel, cell.filesystem), []).append(cell)
    root = ET.Element("testsuites", name=_text(f"{run.document.plan} ({run.document.id})"))
    for number, ((kernel, filesystem), cells) in enumerate(suites.items()):
        _suite(root, run, f"{kernel}.{filesystem}", number, cells)
    count(root, root.iter("testcase"))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(
    root: ET.Element, run: Saved, name: str, number: int, cells: list[Cell | Planned]
) -> None:
    suite = ET.SubElement(root, "testsuite", name=_text(name), id=str(number))
    if (started := moment(run.document.started)) is not None:
        suite.set("timestamp", started)
    properties = ET.SubElement(suite, "properties")
    kernel = run.document.kernels.get(cells[0].kernel)
    facts = {
        "run": run.document.id,
        "accelerator": run.document.accelerator,
        "release": kernel.release if kernel else "",
        "commit": kernel.source_commit if kernel else "",
        "seed": str(run.document.seed),
    }
    for key, value in facts.items():
        ET.SubElement(properties, "property", name=key, value=_text(value))
    for cell in cells:
        _case(suite, cell)
    count(suite, suite.iter("testcase"))


def _case(suite: ET.Element, cell: Cell | Planned) -> None:
    seconds = cell.seconds if isinstance(cell, Cell) else 0.0
    case = ET.SubElement(
        suite,
        "testcase",
        name=_text(cell.label),
        classname=_text(f"{cell.kernel}.{cell.filesystem}"),
        time=f"{seconds:.3f}",
    )
    if isinstance(cell, Planned):
        ET.SubElement(case, "skipped", message=NOT_RUN)
        return
    verdict = cell.verdict
    if not verdict.as_expected:
        kind = "error" if verdict.state in _ERRORS else "failure"
        why = ET.SubElement(case, kind, message=_text(verdict.reason), type=verdict.state)
        told = [verdict.claim, *(splat.title for splat in cell.splats)]
        told += [f"run it again: {cell.command}"] if cell.command else []
        why.text = "\n".join(map(_text, told))
    ET.SubElement(case, "system-out").text = _text(verdict.claim)


def count(element: ET.Element, cases: Iterable[ET.Element]) -> None:
    """Sets what a suite says of its cases: how many, how they went, and their time."""
    cases = list(cases)
    element.set("tests", str(len(cases)))
    for tag, key in zip(_COUNTED, ("failures", "errors", "skipped"), strict=True):
        element.set(key, str(sum(case.find(tag) is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def moment(started: str) -> str | None:
    """UTC without a zone, as the schema of old has it; None when there is no telling."""
    try:
        return datetime.fromisoformat(started).strftime("%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return None


def _text(text: str) -> str:
    """What XML can hold: control characters and half surrogates it can not."""
    return printable(text)
