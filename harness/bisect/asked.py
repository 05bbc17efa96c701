# SPDX-License-Identifier: GPL-2.0
"""What a bisection is asked for, and the one cell of harness.toml that is meant."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from harness.bisect.question import Wanted
from harness.config import Config, Plan, nearest
from harness.errors import UsageError
from harness.experiment import plan as plans
from harness.experiment.plan import UNARMED, Cell
from harness.options import known

_CELL = re.compile(
    rf"(?:(?P<kernel>[^/@~]+)/)?(?P<filesystem>[^/@~]+)/(?P<workload>[^/@~]+)"
    rf"(?:@(?P<switch>[^/@~]+))?(?P<unarmed>{UNARMED})?"
)


@dataclass(frozen=True)
class Asked:
    """A bisection as it was asked for: enough to go on with it."""

    kernel: str
    cell: str  # its full name; "" when nothing is run
    series: str  # "": over the commits of the tree
    good: str
    bad: str
    want: Wanted | None
    confidence: float
    rate: float | None
    trials: int | None
    plan: str
    seed: int | None
    figure: str = ""  # of a bench, where that is the question

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From the journal, which may have more."""
        names = {each.name for each in dataclasses.fields(cls)}
        return cls(**{key: item for key, item in value.items() if key in names})


def figure(cfg: Config, name: str) -> str:
    """The figure `name` of a bench, "WORKLOAD/FILESYSTEM/KEY"; UsageError when there is none."""
    every = [
        f"{workload}/{filesystem}/{key}"
        for workload, entry in cfg.workload.items()
        for filesystem in cfg.filesystem
        for key in entry.figures
    ]
    if name not in every:
        raise UsageError(
            f"--figure {name!r}: no bench of harness.toml has it{nearest(name, every)}",
            hint="harness list",
        )
    return name


def cell(
    cfg: Config, name: str, plan_name: str, trials: int | None, seed: int | None, kernel: str = ""
) -> tuple[Plan, Cell]:
    """The cell `name` and a plan for it alone; UsageError when there is none.

    "KERNEL/FILESYSTEM/WORKLOAD[@SWITCH][~unarmed]", as results have it; without KERNEL it
    is on `kernel`.
    """
    known("plan", plan_name, cfg.plan)
    match = _CELL.fullmatch(name)
    if match is None or not (match["kernel"] or kernel):
        raise UsageError(
            f"--cell {name!r}: a cell is KERNEL/FILESYSTEM/WORKLOAD[@SWITCH]", hint="harness list"
        )
    if match["kernel"] and kernel not in ("", match["kernel"]):
        raise UsageError(f"--cell {name!r} is not on --kernel {kernel!r}", hint="harness list")
    on = known("kernel", match["kernel"] or kernel, cfg.kernel)
    known("filesystem", match["filesystem"], cfg.filesystem)
    known("workload", match["workload"], cfg.workload)
    plan = msgspec.structs.replace(
        cfg.plan[plan_name], modes=["unarmed" if match["unarmed"] else "armed"],
        boots=1, cells_per_boot=1, budget_s=0.0,
    )  # fmt: skip
    alone = msgspec.structs.replace(cfg, plan={plan_name: plan})
    found = plans.cells(
        alone, plan_name, [on], [match["filesystem"]], [match["workload"]], trials, seed
    )
    wanted = match["switch"] or ""
    for each in found:
        if each.variant == wanted and each.armed != bool(match["unarmed"]):
            return plan, each
    names = ", ".join(each.name for each in found)
    raise UsageError(f"no cell {name!r}; there is {names}", hint="harness list")
