# SPDX-License-Identifier: GPL-2.0
"""A run's verdicts for a cover letter, in 72 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.plain import printable

WIDTH = 72
# kernel, filesystem, workload, verdict; exposed of trials and the interval have the rest.
_COLUMNS = (10, 11, 20, 9)


def table(run: Mapping[str, Any]) -> list[str]:
    """What a run found, line by line, from its run.json; control kernels in one line.

    Text of 72 columns for people who read mail in a terminal.
    """
    cells = [cell for cell in run.get("cells", []) if cell.get("verdict")]
    under_test = [cell for cell in cells if cell.get("role") != "control"]
    control = [cell for cell in cells if cell.get("role") == "control"]
    lines = [f"Run {run.get('id', '?')}, {run.get('accelerator', '?')}:", ""]
    lines.append(_row("kernel", "filesystem", "race", "verdict", "exposed  (95 %)"))
    lines.append("-" * WIDTH)
    lines += [_cell(cell) for cell in under_test]
    lines.append("-" * WIDTH)
    if control:
        asked = [cell for cell in control if cell.get("must_fire")]
        fired = sum(1 for cell in asked if cell["verdict"].get("as_expected"))
        lines.append(f"control: the race fired in {fired} of {len(asked)} cells with a lock off")
    wrong = sum(1 for cell in cells if not cell["verdict"].get("as_expected"))
    lines.append(f"{len(cells) - wrong} of {len(cells)} cells are as expected")
    if missing := run.get("not_run"):
        lines.append(f"{len(missing)} cells were not run")
    return [printable(line)[:WIDTH].rstrip() for line in lines]


def _cell(cell: Mapping[str, Any]) -> str:
    verdict = cell["verdict"]
    exposed, trials = verdict.get("exposed", 0), verdict.get("trials", 0)
    told = f"{exposed}/{trials}"
    if interval := verdict.get("interval"):
        low, high = (f"{100 * end:.3g}" for end in interval)
        sides = {0: f"<{high}", trials: f">{low}"}
        told += f" {sides.get(exposed, f'{low}..{high}')} %"
    mark = "" if verdict.get("as_expected") else "!"
    race = str(cell.get("workload", "?")) + ("" if cell.get("armed", True) else "~")
    return _row(
        str(cell.get("kernel", "?")),
        str(cell.get("filesystem", "?")),
        race,
        f"{verdict.get('state', '?')}{mark}",
        told,
    )


def _row(*texts: str) -> str:
    cut = [f"{text[:width]:{width}}" for text, width in zip(texts, _COLUMNS, strict=False)]
    return " ".join([*cut, texts[-1]])
