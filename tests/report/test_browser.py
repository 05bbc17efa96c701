# SPDX-License-Identifier: GPL-2.0
"""report.html in a real browser: what is seen, heard and reached with the keyboard."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator

import pytest
from PIL import Image

from harness.report import files, saved
from tests.fakes import results
from tests.report.browser import PROGRAM, Browser

pytestmark = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason=f"{PROGRAM} is missing: ./setup.sh --tests"
)
WIDTHS = (1280, 400)
SCHEMES = [pytest.param(False, id="light"), pytest.param(True, id="dark")]
# What a person sees of the cells of the fixture: exposed, held, ..., as expected or not.
MARKS = [
    ".exposed:not(.wrong)", ".held:not(.wrong)",
    ".wrong.exposed", ".wrong.held", ".wrong.crashed", ".wrong.hung", ".wrong.untested",
    ".wrong.lost",
]  # fmt: skip
READABLE = 4.5  # the contrast that WCAG 2.2 asks of text (1.4.3, AA)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


def pixels(png: bytes) -> tuple[tuple[int, int], dict[tuple[int, ...], int]]:
    """Size, and how many pixels have which colour."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    counted = image.getcolors(image.width * image.height)
    assert counted is not None
    return image.size, {colour: number for number, colour in counted if isinstance(colour, tuple)}


def rgb(text: str) -> tuple[int, ...]:
    """Of "rgb(1, 2, 3)"."""
    assert "rgba" not in text, f"{text} is see-through"
    return tuple(map(int, re.findall(r"\d+", text)))


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour: tuple[int, ...]) -> float:
        parts = [c / 255 for c in colour]
        red, green, blue = (
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def colours(browser: Browser, selector: str) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(text, background) of every element that fits and is drawn."""
    found = browser.ask(
        f"[...document.querySelectorAll({selector!r})].filter(e => e.getClientRects().length)"
        ".map(e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor])"
    )
    return [(rgb(text), rgb(back)) for text, back in found]


@pytest.mark.parametrize("dark", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_seen(
    browser: Browser, made: results.Results, width: int, dark: bool
) -> None:
    browser.open(made.finished / files.HTML, width, dark)
    (wide, high), seen = pixels(browser.screenshot(whole=True))
    assert wide == width
    assert high > 2000
    page = rgb(browser.ask("getComputedStyle(document.body).backgroundColor"))
    assert (sum(page) < 384) == dark
    shares = sorted(seen.values(), reverse=True)
    assert seen[page] == shares[0], "the page's own colour is what there is most of"
    assert 0.02 < 1 - shares[0] / sum(shares) < 0.6, "neither blank nor all covered"
    for mark in MARKS:
        drawn = colours(browser, f".matrix a.chip{mark}")
        assert drawn, mark
        assert seen.get(drawn[0][1], 0) > 100, f"{mark} is not to be seen"
    assert len({colours(browser, f".matrix a.chip{mark}")[0][1] for mark in MARKS}) == len(MARKS)


@pytest.mark.parametrize("name", ["finished", "interrupted"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out(
    browser: Browser, made: results.Results, width: int, name: str
) -> None:
    browser.open(getattr(made, name) / files.HTML, width)
    browser.ask("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.ask("document.documentElement.scrollWidth") == width
    # What is wider scrolls in a box of its own that the keyboard reaches.
    wider = browser.ask(
        "[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1 &&"
        " getComputedStyle(e).overflowX == 'auto').every(e => e.tabIndex == 0)"
    )
    assert wider is True


@pytest.mark.parametrize("dark", SCHEMES)
def test_text_can_be_read(browser: Browser, made: results.Results, dark: bool) -> None:
    browser.open(made.finished / files.HTML, dark=dark)
    page = rgb(browser.ask("getComputedStyle(document.body).backgroundColor"))
    for text, back in colours(browser, ".matrix a.chip"):
        assert contrast(text, back) >= READABLE
    drawn = browser.ask(
        "[...document.querySelectorAll('svg text:not(.in):not(.stage), .soft, a:not(.chip), dt')]"
        ".map(e => e.closest('svg') ? getComputedStyle(e).fill : getComputedStyle(e).color)"
    )
    assert len(drawn) > 50
    assert all(contrast(rgb(colour), page) >= READABLE for colour in set(drawn))
    heights = browser.ask(
        "[...document.querySelectorAll('details[open] .rate svg text')]"
        ".map(e => e.getBoundingClientRect().height)"
    )
    assert heights and min(heights) >= 11


def test_labels_of_plots_do_not_lie_on_each_other(
    browser: Browser, made: results.Results
) -> None:
    browser.open(made.finished / files.HTML, 400)
    browser.ask("document.querySelectorAll('details').forEach(e => e.open = true)")
    on_each_other = browser.ask(
        """[...document.querySelectorAll('.rate svg, .timeline svg')].flatMap(svg => {
            const boxes = [...svg.querySelectorAll('text')].map(e => e.getBoundingClientRect());
            return boxes.filter((a, i) => boxes.some((b, j) => i < j && a.left < b.right &&
                b.left < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom));
        }).length"""
    )
    assert on_each_other == 0
    assert browser.ask("document.querySelectorAll('.rate svg text').length") > 100


def test_it_asks_for_nothing_and_complains_of_nothing(
    browser: Browser, made: results.Results
) -> None:
    browser.open(made.finished / files.HTML)
    assert browser.complaints == []
    assert browser.ask("document.scripts.length") == 1


def test_what_a_guest_wrote_is_text(browser: Browser, made: results.Results) -> None:
    browser.open(made.finished / files.HTML)
    assert browser.ask("document.querySelectorAll('pre *, dd script, li b, p b').length") == 0
    assert "<script>alert(1)</script>" in browser.ask("document.body.innerText")


def test_what_a_screen_reader_says(browser: Browser, made: results.Results) -> None:
    browser.open(made.finished / files.HTML)
    names = browser.names()
    links = [name for role, name in names if role == "link"]
    for name in (
        "stock, xfs, punch: held, as expected",
        "stock, ext4, plain: exposed, NOT as expected",
        "candidate, ext4, punch: crashed, NOT as expected",
        "candidate, ext4, splice: hung, NOT as expected",
        "stock, ext4, punch: untested, NOT as expected",
        "candidate, xfs, punch: lost, NOT as expected",
        "control, ext4, punch, switch fault+mkwrite: exposed, as expected",
        "control, ext4, punch, every switch off: held, as expected",
    ):
        assert links.count(name) == 1, name
    cells = saved.load(made.finished).cells
    assert sum(": " in name and name.endswith("as expected") for name in links) == len(cells)
    assert ("rowheader", "punch") in names
    assert {"control", "stock", "candidate", "ext4", "xfs"} <= {
        name for role, name in names if role == "columnheader"
    }
    images = [name for role, name in names if role == "image"]
    assert all(images), "every drawing says what it shows"
    assert any(re.fullmatch(r"rate 20 %, 95 % interval .* to .*", name) for name in images)


def test_cells_that_were_not_run_are_said(browser: Browser, made: results.Results) -> None:
    browser.open(made.interrupted / files.HTML)
    assert ("image", "candidate, xfs, splice: not run") in browser.names()
    assert "harness run --resume" in browser.ask("document.querySelector('.note').innerText")


def test_with_the_keyboard_alone(browser: Browser, made: results.Results) -> None:
    browser.open(made.finished / files.HTML)
    browser.press("Tab")
    assert browser.ask("document.activeElement.innerText") == "To the matrix"
    browser.press("Enter")
    reached = "document.activeElement.getAttribute('aria-label')"
    for _ in range(200):
        browser.press("Tab")
        if browser.ask(reached) == "stock, xfs, punch: held, as expected":
            break
    else:
        pytest.fail("the mark of a cell was not reached")
    style = "getComputedStyle(document.activeElement)"
    assert browser.ask(f"{style}.outlineStyle") == "solid"
    assert browser.ask(f"parseFloat({style}.outlineWidth)") >= 2
    section = "document.getElementById('stock/xfs/punch')"
    assert browser.ask(f"{section}.open") is False
    browser.press("Enter")
    browser.ask("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))")
    assert browser.ask(f"{section}.open") is True
    assert browser.ask(f"document.activeElement === {section}.querySelector('summary')") is True
    top = browser.ask(f"{section}.getBoundingClientRect().top")
    assert 0 <= top < 900


def test_a_link_from_elsewhere_opens_the_cell(browser: Browser, made: results.Results) -> None:
    browser.open(made.finished / files.HTML, fragment="#control/ext4/punch@fault+mkwrite")
    assert browser.ask("document.querySelector('details:target').open") is True
