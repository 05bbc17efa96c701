# SPDX-License-Identifier: GPL-2.0
"""Every console log of the corpus is read as its JSON file says, however it is spelled."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.guest.complaints import COMPLAINTS
from harness.guest.splat import scan
from tests.corpus.recipes import RECIPES
from tests.corpus.record import LOGS, expectation, missing

NAMES = sorted(path.stem for path in LOGS.glob("*.log"))
CALLER = re.compile(rb"(?m)^(\[ *\d+\.\d+\])\[ *[TC]\d+\] ?")


def _beside(name: str) -> dict[str, Any]:
    loaded = json.loads((LOGS / f"{name}.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


def _log(name: str) -> bytes:
    return (LOGS / f"{name}.log").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_reports(name: str) -> None:
    log, reports = _log(name), _beside(name)["reports"]
    assert expectation(log) == reports
    # The same with other ends of line, and among terminal escapes and NULs.
    assert expectation(log.replace(b"\r\n", b"\n")) == reports
    assert expectation(log.replace(b"\r\n", b"\0\x1b[0m\r\r\n\x1b[1;32m")) == reports


@pytest.mark.parametrize("name", NAMES)
def test_as_a_kernel_that_names_no_callers_would_say_it(name: str) -> None:
    """The same kinds, but for reports that were mixed: those only the caller tells apart."""
    reports = _beside(name)["reports"]
    if any(report["interleaved"] for report in reports):
        return
    log = CALLER.sub(rb"\1 ", _log(name))
    assert [each.kind for each in scan(log)] == [report["kind"] for report in reports]


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_whole_and_printable(name: str) -> None:
    log = _log(name).decode(errors="replace")
    for each in scan(_log(name)):
        assert all(line in log for line in each.text.split("\n"))
        assert each.title.isprintable() and "0x" not in each.title.replace("exitcode=0x", "")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_what_was_provoked_is_seen(recipe: Any) -> None:
    """The recipe says what must come of it: not the reader that is being tested."""
    assert recipe.name in NAMES, "not recorded yet: python -m tests.corpus.record --missing"
    found = scan(_log(recipe.name))
    assert not missing(recipe.wants, found)
    assert recipe.wants or not found


def test_the_corpus_is_large_and_of_every_sort() -> None:
    assert len(NAMES) >= 60
    assert all((LOGS / f"{name}.json").exists() for name in NAMES)
    assert sum((LOGS / f"{name}.log").stat().st_size for name in NAMES) < 2 << 20
    seen = {report["kind"] for name in NAMES for report in _beside(name)["reports"]}
    missed = {complaint.kind for complaint in COMPLAINTS} - seen
    assert missed <= {"kunit"}, "known from the kernel's sources only"
    assert any(report["interleaved"] for name in NAMES for report in _beside(name)["reports"])


def test_no_log_names_its_host() -> None:
    for name in NAMES:
        assert b"/root/" not in _log(name) and b"/work" not in _log(name).replace(
            b"/workloads", b""
        ).replace(b"/workqueue", b"")


def test_titles_tell_bugs_apart() -> None:
    """Two different provocations of one sort do not end under one title."""
    titles: dict[str, set[str]] = {}
    for name in NAMES:
        for report in _beside(name)["reports"]:
            titles.setdefault(report["title"], set()).add(name)
    for prefix in ("kasan-", "kcsan-", "hang-", "lockdep-"):
        ours = [names for names in titles.values() if any(n.startswith(prefix) for n in names)]
        assert len(ours) > 1, prefix


def test_corpus_directory_has_nothing_else() -> None:
    known = {f"{name}{suffix}" for name in NAMES for suffix in (".log", ".json")}
    assert {path.name for path in Path(LOGS).iterdir()} == known
