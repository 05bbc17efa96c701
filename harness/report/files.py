# SPDX-License-Identifier: GPL-2.0
"""Every report of a run, written into its directory; the same store gives the same bytes."""

from __future__ import annotations

from pathlib import Path

from harness.experiment.store import write_text
from harness.report import html, junit, kills, ktap, saved, summary

HTML, KTAP, JUNIT = "report.html", "report.ktap", "junit.xml"
MARKDOWN, TEXT = "summary.md", "summary.txt"


def write(directory: Path, mutants: str | None = None) -> list[Path]:
    """Writes all reports of the run in `directory`; their paths, the one to open first.

    `mutants`: the run whose kill matrix is shown, see kills.find().  Raises InfraError
    when something cannot be read or written, UsageError when there is no such matrix.
    """
    run = saved.load(directory)
    texts = {
        HTML: html.render(run, kills.find(run, mutants)),
        KTAP: ktap.render(run),
        JUNIT: junit.render(run),
        MARKDOWN: summary.markdown(run),
        TEXT: summary.text(run),
    }
    for name, text in texts.items():
        write_text(directory / name, text)
    return [directory / name for name in texts]
