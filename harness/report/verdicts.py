# SPDX-License-Identifier: GPL-2.0
"""run.json -> the table of verdicts and the lines under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from harness.experiment.plan import UNARMED
from harness.experiment.statistics import percent

COLUMNS = (
    "kernel",
    "filesystem",
    "workload",
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
            *(Text(cell[key]) for key in ("kernel", "filesystem")),
            Text(cell["workload"] + _mode(cell)),
            Text(cell["switch"] or "-"),
            Text(str(verdict["trials"])),
            Text(str(verdict["exposed"])),
            Text(rate(verdict)),
            Text(str(verdict["window_hits"]) if cell["window"] else "-"),
            Text(verdict["state"], colour),
            Text("yes" if verdict["as_expected"] else "NO", colour),
        )
    return table


def render_narrow(run: Mapping[str, Any]) -> Table:
    """The same for a screen of 80 columns: kernel and file system are said once, hits not."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("workload", "exposed", "95 % interval", "verdict", "exp."):
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
            Text(
                f"  {cell['workload']}"
                + (f"@{cell['switch']}" if cell["switch"] else "")
                + _mode(cell)
            ),
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
    lines += role_lines(cells)
    lines += [_comparison(each) for each in run.get("comparisons", ())]
    lines += _figures(run)
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


def role_lines(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the cells of each role showed, as one sentence for each thing asked of it."""
    lines = []
    for role in dict.fromkeys(cell["role"] for cell in cells):
        lines += _role(role, [cell for cell in cells if cell["role"] == role])
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


def _comparison(two: Mapping[str, Any]) -> str:
    what = f"{two['workload']}{_mode(two)} on {two['filesystem']}"
    ratio = "no bound" if two["ratio"] is None else f"{two['ratio']:.3g}"
    low, high = two["interval"]
    ends = f"{low:.3g} to {'no bound' if high is None else f'{high:.3g}'}"
    return f"{two['kernel']} against {two['against']}, {what}: rate ratio {ratio} [{ends}]"


def _figures(run: Mapping[str, Any]) -> list[str]:
    """A line for each kernel and figure of the bench, and its ratio to the first stock kernel's."""
    measured: Mapping[str, Mapping[str, float]] = run.get("figures", {})
    roles = {name: kernel.get("role") for name, kernel in run.get("kernels", {}).items()}
    base = next((name for name in measured if roles.get(name) == "stock"), "")
    lines = []
    for kernel, figures in measured.items():
        for name, value in figures.items():
            ratio = ""
            if base and kernel != base and measured[base].get(name):
                ratio = f", {value / measured[base][name]:.4f} of {base}"
            lines.append(f"{kernel}: {name} {value:.0f} guest instructions{ratio}")
    return lines


def _mode(cell: Mapping[str, Any]) -> str:
    return "" if cell["armed"] else UNARMED


def _role(role: str, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    fires = [cell["verdict"] for cell in cells if cell["must_fire"]]
    opens = [cell["verdict"] for cell in cells if cell["may_fire"]]
    gates = [cell["verdict"] for cell in cells if not cell["must_fire"] and cell["kind"] == "gate"]
    lines = []
    if fires:
        fired = _expected(fires)
        if role == "control":
            text = f"the race fired in {len(fired)} of {len(fires)} cells with a lock site off"
        else:
            text = f"fired in {len(fired)} of {len(fires)} cells, as it must: open there"
        if fired:
            low = min(verdict["interval"][0] for verdict in fired)
            text += f", in at least {percent(low, 'down')} of the trials"
        lines.append(f"{role}: {text}")
    if opens:
        text = f"{role}: unarmed, what is open fired in "
        fired = [verdict for verdict in opens if verdict["exposed"]]
        text += f"{len(fired)} of {len(opens)} cells"
        if rates := sorted(verdict["rate"] for verdict in opens if verdict["rate"] is not None):
            text += f", at rates of {percent(rates[0])} to {percent(rates[-1])}"
            text += f", median {percent(rates[len(rates) // 2])}"
        lines.append(text)
    for armed in (True, False):  # two rates that are never one
        holds = [cell["verdict"] for cell in cells if _holds(cell) and cell["armed"] is armed]
        if not holds:
            continue
        held = _expected(holds)
        text = f"{role}: {'' if armed else 'unarmed, '}held in {len(held)} of {len(holds)} cells"
        text += " with every lock site on" if role == "control" else ""
        if held:
            high = max(verdict["interval"][1] for verdict in held)
            text += f", {_held(held)} trials, each rate below {percent(high, 'up')}"
        lines.append(text)
    if gates:
        passed = _expected(gates)
        text = f"{role}: finished in time with right contents in {len(passed)} of"
        text += f" {len(gates)} gate cells"
        lines.append(text + (f", {_held(passed)} trials" if passed else ""))
    return lines


def _holds(cell: Mapping[str, Any]) -> bool:
    return not (cell["must_fire"] or cell["may_fire"] or cell["kind"] == "gate")


def _expected(verdicts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [verdict for verdict in verdicts if verdict["as_expected"]]


def _held(verdicts: Sequence[Mapping[str, Any]]) -> int:
    return sum(verdict["outcomes"]["held"] for verdict in verdicts)
