# SPDX-License-Identifier: GPL-2.0
"""summary.txt and summary.md: what goes into a cover letter."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess

import msgspec
from hypothesis import given

from harness.report import files, saved, summary
from harness.report.saved import Saved
from tests.fakes import results
from tests.report.runs import runs


def test_it_begins_with_what_came_out(made: results.Results) -> None:
    lines = (made.finished / files.TEXT).read_text().splitlines()
    assert lines[0] == "plan quick: 13 of 22 cells as expected"
    text = (made.interrupted / files.TEXT).read_text()
    assert text.startswith("plan quick: 9 of 22 cells as expected, 13 not run\n")
    assert "interrupted" in text


def test_no_line_is_longer_than_a_mail_s(made: results.Results) -> None:
    for directory in (made.finished, made.interrupted):
        lines = (directory / files.TEXT).read_text().splitlines()
        assert max(map(len, lines)) <= 72
        assert not any(line.endswith(" ") for line in lines)
        assert not any(line.lstrip().startswith("% ") for line in lines)


def test_the_table(made: results.Results) -> None:
    text = (made.finished / files.TEXT).read_text()
    table = text[text.index("Races, windows armed:") :].split("\n\n")[0].splitlines()
    rows = {row.split()[0]: re.split(r"  +", row) for row in table[3:]}
    assert table[1].split("  ")[0] == "workload"
    assert rows["punch"][1:] == ["3/4 >91.1% !", "2/2 <8.81%", "1/2 <7.12% !", "0/2 !"]
    assert rows["dio"][1:] == ["-", "-", "1/1 >92.8%", "1/1 <5.97%"]
    assert "splice" not in rows
    gates = text[text.index("Gates:") :].split("\n\n")[0].splitlines()
    assert re.split(r"  +", gates[3]) == ["splice", "2/2", "1/2 !"]


def words(command: str) -> list[str]:
    """What a shell makes of it."""
    argv = ["sh", "-c", f"printf '%s\\0' {command}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def test_commands_can_be_pasted(made: results.Results) -> None:
    text = (made.finished / files.TEXT).read_text()
    told = re.findall(r"^  (\.venv/bin/harness (?:.*\\\n)*.*)$", text, re.MULTILINE)
    wanted = [shlex.split(cell.command) for cell in saved.load(made.finished).wrong]
    assert [words(command) for command in told] == wanted
    assert any("\\\n" in command for command in told), "one of them is longer than a line"


def test_a_table_that_is_too_wide_becomes_several(made: results.Results) -> None:
    names = [f"kernel-{n}-of-some-series" for n in range(6)]
    table = summary.Table("t", ["workload", *names], [["punch", *["12/12 >90.7%"] * 6]])
    parts = list(summary._narrow(table))
    assert len(parts) > 1
    assert [name for part in parts for name in part.head[1:]] == names
    assert all(max(map(len, summary._columns(part))) <= 72 for part in parts)


def test_markdown_has_tables_and_no_markup_of_others(made: results.Results) -> None:
    text = (made.finished / files.MARKDOWN).read_text()
    assert "| punch | 3/4 >91.1% ! | 2/2 &lt;8.81% |" in text
    assert "<script>" not in text and "<b>" not in text
    assert "use-after-free in filemap\\_fault &lt;b>bold&lt;/b>" in text
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert widths == {4, 2}, "races have columns for control kernels, gates not"


def test_a_reason_of_a_page_is_cut(made: results.Results) -> None:
    run = saved.load(made.finished)
    verdict = msgspec.structs.replace(run.wrong[0].verdict, reason="who waits " * 200)
    cells = [msgspec.structs.replace(run.wrong[0], verdict=verdict)]
    document = msgspec.structs.replace(run.document, cells=cells)
    long = dataclasses.replace(run, document=document)
    for text in (summary.text(long), summary.markdown(long)):
        assert 20 < text.count("who waits") < 40
        assert "...\n" in text or "...  \n" in text


def test_what_it_was_built_from(made: results.Results) -> None:
    text = " ".join((made.finished / files.TEXT).read_text().split())
    assert "series range; commit c0ffee; gcc 12" in text
    assert "QEMU emulator version 7.2.0" in text


@given(runs())
def test_whatever_a_run_says(run: Saved) -> None:
    text = summary.text(run)
    assert text.replace("\n", "").isprintable()
    for line in text.splitlines():
        assert len(line) <= 72 or " " not in line.strip("* ").strip() or len(
            max(line.split(), key=len)
        ) > 20
    for line in summary.markdown(run).splitlines():
        assert line.isprintable()
        assert not re.search(r"(?<!\\)<", line)
