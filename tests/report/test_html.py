# SPDX-License-Identifier: GPL-2.0
"""report.html as a text: all that was promised is in it, and nothing of others is markup."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given, settings

from harness.experiment import store
from harness.report import files, html, saved
from harness.report.saved import Comparison, Saved
from tests.fakes import results
from tests.report.runs import runs


class Page(HTMLParser):
    """What a browser would make of it: ids, links, texts by the element around them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.loads: list[tuple[str, str]] = []
        self.sections: dict[str, str] = {}
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        if tag == "a":
            self.links.append(values["href"])
        self.loads += [(tag, values[key]) for key in ("src", "data", "srcset") if key in values]
        if tag in ("link", "iframe", "object", "embed", "base", "form", "img"):
            self.loads.append((tag, ""))
        if tag == "details" and values.get("class") == "cell":
            self._inside = values["id"]
            self.sections[self._inside] = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.sections[self._inside] += data


@pytest.fixture(scope="module")
def page(made: results.Results) -> Page:
    return Page((made.finished / files.HTML).read_text())


def test_every_cell_has_a_section_and_a_mark(page: Page, made: results.Results) -> None:
    names = [cell.name for cell in saved.load(made.finished).cells]
    assert list(page.sections) == names
    for name in names:
        assert any(unquote(link) == f"#{name}" for link in page.links), name


def test_every_link_leads_somewhere(page: Page, made: results.Results) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert len(page.links) > 100
    for link in page.links:
        if link.startswith("#"):
            assert unquote(link[1:]) in page.ids
        else:
            assert (made.finished / unquote(link)).is_file(), link


def test_it_needs_nothing_and_lets_nothing_in(page: Page, made: results.Results) -> None:
    text = (made.finished / files.HTML).read_text()
    assert page.loads == []
    assert page.tags.count("script") == 1
    assert not re.search(r"https?://|@import|url\(", text)
    assert "default-src 'none'" in text
    assert text.replace("\n", "").replace("\t", "").isprintable()


def test_what_is_told_of_each_cell(page: Page) -> None:
    exposed = page.sections[results.EXPOSED]
    assert "exposed in 10 of 50" in exposed
    assert "20 % [10 %, 33.8 %]" in exposed
    assert "exposed, NOT as expected" in exposed
    assert ".venv/bin/harness run quick -k stock -k control -f ext4 -w plain" in exposed
    crashed = page.sections[results.CRASHED]
    assert "filemap_fault+0x12/0x340 (mm/filemap.c:3321)" in crashed
    assert "ext4_punch: 60 (2000 µs); filemap_fault: 60 (500 µs, 50 %)" in crashed
    assert "line 199 of the boot\n[    2.000001] BUG: KASAN" in crashed
    assert "line 100 of the boot" not in crashed
    assert "x" * 250 not in crashed
    hung = page.sections[results.HUNG]
    assert results.WAITS in hung
    assert "range_lock+0x1/0x2" in hung
    assert "cpus_online is 1, asked for 2" in page.sections[results.UNTESTED]
    assert "the host cannot write <script>" in page.sections[results.LOST]
    fired = page.sections[results.FIRES]
    assert "overlap 50" in fired
    assert "aligned 50" in fired
    assert "exposed: old data <script>" in fired
    assert "(50 times)" in fired


def test_seeds_are_those_of_run_json(page: Page, made: results.Results) -> None:
    for cell in saved.load(made.finished).cells:
        assert f"{cell.seed} (run: 1)" in page.sections[cell.name]


def test_what_ran(made: results.Results) -> None:
    text = unescape((made.finished / files.HTML).read_text())
    assert "mm: lock only the range of a fault <now>" in text
    document = json.loads((made.finished / "run.json").read_text())
    (patch,) = document["kernels"]["candidate"]["patches"]
    assert patch["hash"] in text
    assert "CONFIG_A: y -> m\nCONFIG_RANGE: n -> y" in text
    assert "Configuration: the same as stock's." in text
    for fact in ("tcg: no vmx in /proc/cpuinfo", "QEMU emulator version 7.2.0", "gcc 12",
                 "c0ffee", "t (dir: linux)"):  # fmt: skip
        assert fact in text


def test_configurations_outlive_the_cache(made: results.Results, tmp_path: Path) -> None:
    copy = tmp_path / made.finished.name
    shutil.copytree(made.finished, copy)
    path = copy / "run.json"
    path.write_text(path.read_text().replace(str(made.root), "/gone"))
    text = html.render(saved.load(copy))
    assert "CONFIG_RANGE: n -&gt; y" in text
    shutil.rmtree(copy / "kernels")
    text = html.render(saved.load(copy))
    assert "the configuration of stock is not there any more" in text


def test_the_timeline(made: results.Results) -> None:
    text = (made.finished / files.HTML).read_text()
    drawing = text[text.index('<div class="scroll timeline"') :].split("</svg>")[0]
    bars = re.findall(r'<rect class="([\w ]+)".*?<title>(.*?)</title>', drawing)
    cells = saved.load(made.finished).cells
    assert {title.split(":")[0] for _, title in bars} >= {cell.name for cell in cells}
    assert ("crashed", results.CRASHED) in [(state, t.split(":")[0]) for state, t in bars]
    assert ">guest 1</text>" in drawing
    assert ("exposed well", results.FIRES) in [(state, t.split(":")[0]) for state, t in bars]
    assert "stages</text>" in drawing


def test_the_same_store_gives_the_same_bytes(made: results.Results) -> None:
    names = (files.HTML, files.KTAP, files.JUNIT, files.MARKDOWN, files.TEXT)
    before = [(made.finished / name).read_bytes() for name in names]
    paths = files.write(made.finished)
    assert [path.name for path in paths] == list(names)
    assert [path.read_bytes() for path in paths] == before


def test_what_was_not_run_is_said(made: results.Results) -> None:
    text = unescape((made.interrupted / files.HTML).read_text())
    assert "This run is interrupted." in text
    assert f"harness run --resume {made.interrupted.name}" in text
    assert text.count(": not run\" title=") == 13


def test_a_run_that_was_killed_too_hard_to_say_so(
    made: results.Results, tmp_path: Path
) -> None:
    document = json.loads((made.interrupted / "run.json").read_text())
    document.update(status="running", not_run=[])
    del document["exit_code"], document["error"]
    store.write_json(tmp_path / "run.json", document)
    run = saved.load(tmp_path)
    assert len(run.not_run) == 13
    assert "not over, or was killed" in html.render(run)


def test_a_run_without_a_cell(made: results.Results, tmp_path: Path) -> None:
    document = {"plan": "quick", "status": "failed", "seconds": 1.5, "cells": [],
                "error": "no compiler", "planned": ["stock/ext4/punch"]}  # fmt: skip
    store.write_json(tmp_path / "run.json", document)
    for path in files.write(tmp_path):
        assert path.stat().st_size > 100
    assert "no compiler" in (tmp_path / files.HTML).read_text()


def test_ratios_on_a_logarithmic_axis() -> None:
    def two(ratio: float | None, low: float, high: float | None) -> Comparison:
        return Comparison(workload="w", filesystem="f", armed=True, kernel="a", against="b",
                          ratio=ratio, interval=(low, high))  # fmt: skip

    assert html.ratio_plot(two(1.0, 0.1, 10.0)) == (0.25, 0.75, 0.5)
    assert html.ratio_plot(two(None, 0.0, None)) == (0.0, 1.0, None)
    assert html.ratio_text(two(None, 2.5, None)) == "no bound [2.5, no bound]"


@settings(max_examples=30, deadline=None)
@given(runs())
def test_whatever_a_run_says(run: Saved) -> None:
    page = Page(html.render(run))
    assert page.loads == []
    assert page.tags.count("script") == 1
    assert page.tags.count("details") >= len(run.cells)
    assert {"b", "i", "img"}.isdisjoint(page.tags)


# --- size ---------------------------------------------------------------------


def test_nine_hundred_cells_that_crashed(made: results.Results, tmp_path: Path) -> None:
    run = saved.load(made.finished)
    (crashed,) = [cell for cell in run.cells if cell.name == results.CRASHED]
    place = tmp_path / crashed.directory
    shutil.copytree(made.finished / crashed.directory, place)
    cells = [
        msgspec.structs.replace(crashed, name=f"candidate/ext4/punch{n}", workload=f"punch{n}")
        for n in range(900)
    ]
    document = msgspec.structs.replace(run.document, cells=cells)
    many = dataclasses.replace(run, directory=tmp_path, document=document)
    took = []
    for lines in (400, 40_000):
        noise = b"[    3.000000] some more of the console & <noise>\r\n" * lines
        (place / "console.log").write_bytes(results.CONSOLE + noise)
        (place / "splats" / "02-oops.txt").write_text("oops\n\n" + "deep call\n" * (lines // 2))
        began = time.process_time()
        text = html.render(many)
        took.append(time.process_time() - began)
    assert took[1] < 5 * took[0], "a hundred times as much console in each cell"
    assert took[1] < 10, "with two MB of console in each cell"
    assert len(text.encode()) < 10_000_000
    assert text.count("BUG: KASAN") >= 900


# --- what cannot be read ------------------------------------------------------


def old(document: dict[str, Any]) -> dict[str, Any]:
    """As a run of the first days wrote it."""
    for key in ("planned", "qemu", "jobs", "budget_s", "programs", "comparisons", "core"):
        document.pop(key, None)
    for kernel in document["kernels"].values():
        for key in ("patches", "source"):
            del kernel[key]
    for cell in document["cells"]:
        for key in ("armed", "may_fire", "allowed", "seconds", "machine"):
            cell.pop(key, None)
        for key in ("boots", "design_effect"):
            del cell["verdict"][key]
        cell["splats"] = [{"kind": s["kind"], "title": s["title"]} for s in cell["splats"]]
    return document


def test_runs_of_the_first_days_can_be_read(made: results.Results, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(made.finished, copy)
    store.write_json(copy / "run.json", old(json.loads((copy / "run.json").read_text())))
    shutil.rmtree(copy / "kernels")
    (copy / "run.log").unlink()
    files.write(copy)
    page = Page((copy / files.HTML).read_text())
    assert len(page.sections) == 22
    assert results.WAITS in page.sections[results.HUNG]
