# SPDX-License-Identifier: GPL-2.0
"""report.ktap, as a reader that knows only ktap.rst sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hypothesis import given

from harness.report import files, ktap, saved
from harness.report.saved import Cell, Saved
from tests.fakes import results
from tests.report.runs import runs

# "<result> <number> [<description>] [# [<directive>] [<diagnostic data>]]"
LINE = re.compile(r"(ok|not ok) (\d+) ([^#]*?)(?: # ([A-Z]+)(?: (.*))?)?")


@dataclass
class Result:
    """A result line, and the tests nested before it."""

    ok: bool
    name: str
    directive: str
    data: str
    subtests: list[Result] = field(default_factory=list)


def read(lines: list[str], depth: int = 0) -> list[Result]:
    """The tests at `depth`; consumes their lines.  Fails on whatever ktap.rst does not know."""
    indent = "  " * depth
    assert lines.pop(0) == f"{indent}KTAP version 1"
    tests: list[Result] = []
    nested: list[Result] = []
    planned = None
    while lines:
        line = lines[0]
        if line.startswith(f"{indent}  KTAP version 1"):
            nested = read(lines, depth + 1)
            continue
        if not line.startswith(indent) or line.startswith(f"{indent} "):
            break
        text = lines.pop(0)[len(indent) :]
        if text.startswith("# "):
            continue
        if plan := re.fullmatch(r"1\.\.(\d+)", text):
            assert planned is None
            planned = int(plan[1])
            continue
        match = LINE.fullmatch(text)
        if match is None and depth:
            lines.insert(0, indent + text)
            break
        assert match is not None, text
        assert int(match[2]) == len(tests) + 1
        tests.append(Result(match[1] == "ok", match[3], match[4] or "", match[5] or "", nested))
        nested = []
        if len(tests) == planned:
            break
    assert planned == len(tests)
    return tests


def parsed(text: str) -> list[Result]:
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    tests = read(lines)
    assert lines == []
    return tests


def leaves(tests: list[Result], *above: str) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for test in tests:
        path = (*above, test.name)
        found |= leaves(test.subtests, *path) if test.subtests else {"/".join(path): test}
    return found


def test_every_planned_cell_is_a_line(made: results.Results) -> None:
    for directory in (made.finished, made.interrupted):
        run = saved.load(directory)
        found = leaves(parsed((directory / files.KTAP).read_text()))
        assert list(found) == [cell.name for cell in run.in_order]
        assert len(found) == 22


def test_what_each_verdict_is_called(made: results.Results) -> None:
    found = leaves(parsed((made.finished / files.KTAP).read_text()))
    assert found["stock/xfs/punch"] == Result(True, "punch", "", "")
    assert found[results.FIRES].ok, "exposed where it must be"
    for name in (results.EXPOSED, results.CRASHED, results.SILENT):
        assert (found[name].ok, found[name].directive) == (False, "")
    assert (found[results.HUNG].ok, found[results.HUNG].directive) == (False, "TIMEOUT")
    for name in (results.UNTESTED, results.LOST):
        assert (found[name].ok, found[name].directive) == (False, "ERROR")
    assert found[results.UNTESTED].data == "untested: preflight: cpus_online is 1, asked for 2"


def test_silence_is_not_ok(made: results.Results) -> None:
    tests = parsed((made.interrupted / files.KTAP).read_text())
    missing = leaves(tests)["candidate/xfs/splice"]
    assert (missing.ok, missing.directive, missing.data) == (False, "SKIP", "not run")
    assert [(test.name, test.ok) for test in tests] == [
        ("control", True), ("stock", False), ("candidate", False)
    ]  # fmt: skip


def test_the_claim_and_the_next_command_are_beside_it(made: results.Results) -> None:
    text = (made.finished / files.KTAP).read_text()
    assert "    # punch@off: held in 40 of 40 armed trials: rate below 8.81 % at 95 %\n" in text
    assert "    # plain: run it again: .venv/bin/harness run quick -k stock" in text
    assert "    # punch: KASAN: use-after-free in filemap_fault <b>bold</b>\n" in text


@given(runs())
def test_nobody_else_writes_a_line(run: Saved) -> None:
    text = ktap.render(run)
    if not run.in_order:
        assert text.splitlines()[-1] == "1..0"
        return
    found = leaves(parsed(text))
    good = [c for c in run.in_order if isinstance(c, Cell) and c.verdict.as_expected]
    lines = re.findall(r"^    (?:not )?ok ", text, re.MULTILINE)
    assert len(lines) == len(run.in_order)
    assert len(re.findall(r"^    ok ", text, re.MULTILINE)) == len(good)
    assert len(found) <= len(lines)  # names may be alike once they are made safe
    assert text.replace("\n", "").isprintable()
