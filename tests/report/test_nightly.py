# SPDX-License-Identifier: GPL-2.0
"""The morning's page: that it says what night.json has, and nothing that it should not."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
import xmlschema

from harness.nightly import verb
from harness.nightly.record import Night
from tests.fakes.fake_machine import Script
from tests.fakes.nights import SIX, World, settings
from tests.report.browser import PROGRAM, Browser

EXPOSED = Script(outcomes=lambda number, on: "exposed" if on or number == 3 else "held")
HOSTILE = "<script>alert(1)</script> | `x` \x1b[31m"


@pytest.fixture(scope="module")
def morning(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Night, dict[str, str]]:
    """After a night in which something new fails, something conflicts and one is slower."""
    world = World(root := tmp_path_factory.mktemp("nights"), settings(root))
    for _ in range(3):
        world.night()
    world.heads[SIX], world.versions[SIX] = "d" * 40, "6.12.2"
    world.scripts = {"candidate/ext4/punch": EXPOSED}
    world.conflicts = {("lock", SIX): f"mm/{HOSTILE}:12"}
    world.figures = {"stock": 1200.0}
    world.broken = {"control-7": "x"}
    night, place = world.night()
    paths = verb.write(root / "results", world.cfg, place)
    return world, night, {path.name: path.read_text() for path in paths} | {"": str(paths[0])}


def test_the_page_begins_with_what_is_new(morning: tuple[World, Night, dict[str, str]]) -> None:
    _world, night, texts = morning
    page, text = texts["nightly.html"], texts["nightly.md"]
    for where in (page, text):
        assert "2 new failures, 1 figure is slower" in where
        assert "candidate/ext4/punch: exposed" in where
        assert "harness bisect --kernel candidate --cell candidate/ext4/punch" in where
        assert "+20.0" in where and "6.12.2" in where
    assert page.index("candidate/ext4/punch: exposed") < page.index('<h2 id="series">')
    assert text.count("\n## ") >= 6
    assert night.exit_code == 1


def test_what_a_tree_says_stays_text(morning: tuple[World, Night, dict[str, str]]) -> None:
    texts = morning[2]
    assert "<script>" not in texts["nightly.html"] and "\x1b" not in texts["nightly.html"]
    assert "<script>" not in texts["nightly.md"] and "\x1b" not in texts["nightly.md"]
    rows = [line for line in texts["nightly.md"].splitlines() if line.startswith("| lock")]
    assert len(rows) == 1 and rows[0].replace("\\|", "").count("|") == 4


def test_junit_is_accepted(morning: tuple[World, Night, dict[str, str]]) -> None:
    text = morning[2]["junit.xml"]
    xmlschema.XMLSchema(Path(__file__).parent / "junit.xsd").validate(text)
    root = ET.fromstring(text)
    cases = root.iter("testcase")
    failed = {case.get("name") for case in cases if case.find("failure") is not None}
    assert failed == {"lock on six", "candidate/ext4/punch", "stock/cold/ext4/ns"}


def test_it_can_be_made_again(
    morning: tuple[World, Night, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    world, night, texts = morning
    assert verb.report(world.root / "results", world.cfg, night.id) == 0
    first = Path(capsys.readouterr().out.splitlines()[0])
    assert first.read_text() == texts["nightly.html"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason=f"{PROGRAM} is missing: ./setup.sh --tests"
)
@pytest.mark.parametrize("width", [1280, 400])
def test_it_reads_well_in_a_browser(
    browser: Browser, morning: tuple[World, Night, dict[str, str]], width: int
) -> None:
    browser.open(Path(morning[2][""]), width)
    assert browser.complaints == []
    assert browser.ask("document.documentElement.scrollWidth") == width
    names = browser.names()
    assert ("heading", "2 new failures, 1 figure is slower") in names
    spoken = [name for role, name in names if role in ("image", "img") and "stock," in name]
    assert spoken == ["stock, cold/ext4/ns: 4 nights, now 1200; +20.0% tonight"]
    bad = browser.ask("[...document.querySelectorAll('td.bad')].map(e => e.innerText)")
    assert len(bad) == 1 and bad[0].startswith("applies → conflicts")
