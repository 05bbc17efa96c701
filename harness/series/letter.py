# SPDX-License-Identifier: GPL-2.0
"""A run's verdicts for a cover letter, in 72 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.experiment.statistics import percent
from harness.plain import printable

WIDTH = 72
# filesystem, race, verdict; exposed of trials and the interval have the rest.
_COLUMNS = (11, 30, 9)


def table(run: Mapping[str, Any]) -> list[str]:
    """What a run found, line by line, from its run.json; control kernels in one line.

    Text of 72 columns for people who read mail in a terminal.
    """
    cells = [cell for cell in run.get("cells", []) if cell.get("verdict")]
    under_test = [cell for cell in cells if cell.get("role") != "control"]
    control = [cell for cell in cells if cell.get("role") == "control"]
    lines = [f"Run {run.get('id', '?')}, {run.get('accelerator', '?')}:", ""]
    lines.append(_row("filesystem", "race", "verdict", "exposed, % (95 %)"))
    lines.append("-" * WIDTH)
    for kernel in dict.fromkeys(cell.get("kernel", "?") for cell in under_test):
        lines.append(f"{kernel}:")
        lines += [_cell(cell) for cell in under_test if cell.get("kernel", "?") == kernel]
    lines.append("-" * WIDTH)
    if control:
        asked = [cell for cell in control if cell.get("must_fire")]
        fired = sum(1 for cell in asked if cell["verdict"].get("as_expected"))
        lines.append(f"control: the race fired in {fired} of {len(asked)} cells with a lock off")
    wrong = sum(1 for cell in cells if not cell["verdict"].get("as_expected"))
    lines.append(
        f"{len(cells) - wrong} of {len(cells)} cells are as expected"
        + (", the others are marked !" if wrong else "")
    )
    if any(not cell.get("armed", True) for cell in under_test):
        lines.append("~ with no window armed: chance alone")
    if missing := run.get("not_run"):
        lines.append(f"{len(missing)} not run")
    return [printable(line)[:WIDTH].rstrip() for line in lines]


def _cell(cell: Mapping[str, Any]) -> str:
    verdict = cell["verdict"]
    # Of the trials that count: the interval is theirs.
    outcomes = verdict.get("outcomes", {})
    exposed, trials = outcomes.get("exposed", 0), outcomes.get("held", 0)
    trials += exposed
    told = f"{exposed}/{trials}"
    if trials and (interval := verdict.get("interval")):
        # Away from each other, or the interval would claim more than there is.
        low = percent(interval[0], "down").removesuffix(" %")
        high = percent(interval[1], "up").removesuffix(" %")
        told += " " + {0: f"<{high}", trials: f">{low}"}.get(exposed, f"{low}-{high}")
    mark = "" if verdict.get("as_expected") else "!"
    race = str(cell.get("workload", "?")) + ("" if cell.get("armed", True) else "~")
    return _row(
        str(cell.get("filesystem", "?")),
        race,
        f"{verdict.get('state', '?')}{mark}",
        told,
    )


def _row(*texts: str) -> str:
    cut = [f"{text[:width]:{width}}" for text, width in zip(texts, _COLUMNS, strict=False)]
    return " ".join([*cut, texts[-1]])
