# SPDX-License-Identifier: GPL-2.0
"""nightly.html, nightly.md and junit.xml of a night, into its directory."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from harness.experiment.store import write_text
from harness.nightly.record import CellNight, Night
from harness.plain import printable
from harness.report import nightly
from harness.report.html import environment
from harness.report.junit import count, moment

HTML, MARKDOWN, JUNIT = "nightly.html", "nightly.md", "junit.xml"


def write(
    directory: Path, night: Night, earlier: list[Night], window: int, tolerance: float
) -> list[Path]:
    """Writes all files of the night; their paths, the one to open first.

    `earlier`: the nights before it, the newest first.  InfraError when one cannot be written.
    """
    page = nightly.page(night, earlier, window, tolerance)
    template = environment().get_template("nightly.html")
    texts = {
        HTML: template.render(page=page, night=night, most_alike=nightly.MOST_ALIKE),
        MARKDOWN: nightly.markdown(page),
        JUNIT: junit(night),
    }
    for name, text in texts.items():
        write_text(directory / name, text)
    return [directory / name for name in texts]


def junit(night: Night) -> str:
    """A suite for the trees and series, one for the kernels, one for each kernel's cells."""
    root = ET.Element("testsuites", name=printable(f"nightly {night.plan} ({night.id})"))
    suites: dict[str, ET.Element] = {}

    def case(suite: str, name: str, seconds: float = 0.0) -> ET.Element:
        if suite not in suites:
            made = ET.SubElement(root, "testsuite", name=printable(suite), id=str(len(suites)))
            if (started := moment(night.started)) is not None:
                made.set("timestamp", started)
            suites[suite] = made
        return ET.SubElement(
            suites[suite], "testcase", name=printable(name), classname=printable(suite),
            time=f"{seconds:.3f}",
        )  # fmt: skip

    def told(at: ET.Element, tag: str, message: str, kind: str) -> None:
        ET.SubElement(at, tag, message=printable(message), type=kind)

    for name, tree in night.trees.items():
        at = case("trees", name)
        if tree.error:
            told(at, "error", tree.error, "no tree")
        for series, port in tree.series.items():
            at = case("series", f"{series} on {name}")
            if port.verdict == "conflicts":
                told(at, "failure", port.where, "conflicts")
            elif port.verdict == "no port":
                ET.SubElement(at, "skipped", message="no port")
    for name, kernel in night.kernels.items():
        at = case("kernels", name, kernel.seconds)
        if kernel.outcome not in ("built", "up to date"):
            tag = "skipped" if kernel.outcome == "not tried" else "failure"
            if tag == "skipped":
                ET.SubElement(at, tag, message=printable(kernel.error or kernel.outcome))
            else:
                told(at, tag, kernel.error, kernel.outcome)
    for name, cell in night.cells.items():
        _cell(case(f"cells.{cell.kernel}", name, cell.seconds), cell)
    for finding in night.findings:
        if finding.kind == "slower":
            told(case("speed", finding.subject), "failure", finding.text, "slower")
    for suite in suites.values():
        count(suite, suite.iter("testcase"))
    count(root, root.iter("testcase"))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _cell(at: ET.Element, cell: CellNight) -> None:
    if not cell.ran:
        ET.SubElement(at, "skipped", message=printable(cell.reason or "not run"))
    elif not cell.as_expected:
        tag = "error" if cell.state in ("untested", "lost") else "failure"
        ET.SubElement(at, tag, message=printable(cell.reason), type=cell.state)
