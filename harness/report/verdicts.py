# SPDX-License-Identifier: GPL-2.0
"""run.json -> the table of verdicts and the lines under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from harness.experiment.statistics import percent

COLUMNS = (
    "kernel",
    "filesystem",
    "race",
    "switch",
    "trials",
    "exposed",
    "rate [95 % interval]",
    "hits",
    "verdict",
    "expected",
)


def render(run: Mapping[str, Any]) -> Table:
    """The verdicts of a run as a table; reads nothing but run.json's content."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in COLUMNS:
        right = column in ("trials", "exposed", "hits")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    previous = None
    for cell in run["cells"]:
        verdict = cell["verdict"]
        if previous not in (None, cell["kernel"]):
            table.add_section()
        previous = cell["kernel"]
        colour = style(verdict["state"], verdict["as_expected"])
        table.add_row(
            *(Text(str(cell[key] or "-")) for key in ("kernel", "filesystem", "workload")),
            Text(cell["switch"] or "-"),
            Text(str(verdict["trials"])),
            Text(str(verdict["exposed"])),
            Text(rate(verdict)),
            Text(str(verdict["window_hits"]) if cell["window"] else "unarmed"),
            Text(verdict["state"], colour),
            Text("yes" if verdict["as_expected"] else "NO", colour),
        )
    return table


def render_narrow(run: Mapping[str, Any]) -> Table:
    """The same for a screen of 80 columns: kernel and file system are said once, hits not."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("race", "exposed", "95 % interval", "verdict", "exp."):
        table.add_column(column, justify="right" if column == "exposed" else "left", no_wrap=True)
    previous = None
    for cell in run["cells"]:
        verdict, place = cell["verdict"], f"{cell['kernel']} on {cell['filesystem']}"
        if place != previous:
            table.add_row(Text(place, "bold"))
        previous = place
        colour = style(verdict["state"], verdict["as_expected"])
        interval = "[{}, {}]".format(
            percent(verdict["interval"][0], "down"), percent(verdict["interval"][1], "up")
        )
        table.add_row(
            Text("  " + cell["workload"] + (f"@{cell['switch']}" if cell["switch"] else "")),
            Text(f"{verdict['exposed']}/{verdict['trials']}"),
            Text("-" if verdict["rate"] is None else interval),
            Text(verdict["state"], colour),
            Text("yes" if verdict["as_expected"] else "NO", colour),
        )
    return table


def rate(verdict: Mapping[str, Any]) -> str:
    """"98 % [92.9 %, 99.8 %]"; "-" when no trial counts."""
    if verdict["rate"] is None:
        return "-"
    low, high = verdict["interval"]
    return f"{percent(verdict['rate'])} [{percent(low, 'down')}, {percent(high, 'up')}]"


def summary(run: Mapping[str, Any], directory: str = "") -> list[str]:
    """The lines under the table: what is wrong and what to type, what each role showed, where.

    `directory` is the run's, as the user would type it; without it the run's id is given.
    """
    cells: Sequence[Mapping[str, Any]] = run["cells"]
    place = directory or f"results/{run['id']}"
    lines = []
    wrong = [cell for cell in cells if not cell["verdict"]["as_expected"]]
    for cell in wrong:
        lines.append(f"not as expected: {cell['name']}: {cell['verdict']['reason']}")
    for role in dict.fromkeys(cell["role"] for cell in cells):
        lines += _role(role, [cell for cell in cells if cell["role"] == role])
    if run["status"] != "finished":
        left = len(run.get("not_run", ()))
        lines.append(
            f"{run['status']}: {len(cells)} of {len(cells) + left} cells finished"
            " and kept, the others were not run"
        )
    if stages := run.get("stages"):
        parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in stages.items())
        lines.append(f"took {duration(run['seconds'])} ({parts})")
    if "accelerator" in run:
        lines.append(f"accelerator: {run['accelerator']} ({run.get('accelerator_reason', '')})")
    lines.append(f"results: {place}")
    if wrong:
        # What the kernel did outranks what could not be tested.
        first = min(wrong, key=lambda cell: cell["verdict"]["state"] in ("untested", "lost"))
        lines.append(f"look at: less -R {place}/{first['directory']}/console.log")
        lines.append(f"run it again: {first['rerun'].removeprefix('exec ')}")
    return lines


def style(state: str, as_expected: bool) -> str:
    """The colour of a verdict; the words say the same without it."""
    if as_expected:
        return "green"
    return "yellow" if state in ("untested", "lost") else "bold red"


def duration(seconds: float) -> str:
    """"9.1 s", "42 s", "5 min 30 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _role(role: str, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    on = [cell["verdict"] for cell in cells if role == "control" and cell["switch"] != "off"]
    off = [cell["verdict"] for cell in cells if role != "control" or cell["switch"] == "off"]
    if on:
        fired = [verdict for verdict in on if verdict["as_expected"]]
        text = f"{role}: the race fired in {len(fired)} of {len(on)} cells with a lock site off"
        if fired:
            low = min(verdict["interval"][0] for verdict in fired)
            text += f", in at least {percent(low, 'down')} of the trials"
        lines.append(text)
    if off:
        held = [verdict for verdict in off if verdict["as_expected"]]
        text = f"{role}: held in {len(held)} of {len(off)} cells"
        text += " with every lock site on" if role == "control" else ""
        if held:
            number = sum(verdict["outcomes"]["held"] for verdict in held)
            high = max(verdict["interval"][1] for verdict in held)
            text += f", {number} trials, each rate below {percent(high, 'up')}"
        lines.append(text)
    return lines
