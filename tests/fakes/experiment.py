# SPDX-License-Identifier: GPL-2.0
"""A small experiment in the words of harness.toml, and cells and trials from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.config import Config, Filesystem, Guest, Kernel, Plan, Tree, Window, Workload
from harness.experiment.plan import Cell
from harness.experiment.trial import Outcome, Trial


def config(root: Path = Path(), **plan: object) -> Config:
    """Kernels stock, control, candidate; ext4 and xfs; "punch" with windows, "plain" without.

    Beside the plan: "dio", a race that is open on stock, and the gate "splice".
    """
    values: dict[str, object] = {
        "kernels": ["stock", "control", "candidate"],
        "filesystems": ["ext4", "xfs"],
        "workloads": ["punch", "plain"],
        "guest": "small",
        "trials": {"control": 40, "stock": 50, "candidate": 60},
        **plan,
    }
    return Config(
        tree={"t": Tree(kind="dir", line="6.12", path="linux")},
        kernel={
            "stock": Kernel(role="stock", tree="t", fragments=["base"]),
            "control": Kernel(role="control", tree="t", fragments=["base"]),
            "candidate": Kernel(role="candidate", tree="t", fragments=["base"]),
            "elsewhere": Kernel(role="stock", tree="t", fragments=["base"]),
        },
        guest={"small": Guest(accel="tcg")},
        filesystem={
            "ext4": Filesystem(type="ext4", mkfs=["mkfs.ext4", "-q"], mount=["noatime"]),
            "xfs": Filesystem(type="xfs", mkfs=["mkfs.xfs"], mount=[]),
        },
        workload={
            "punch": Workload(
                kind="race",
                source="races/punch.c",
                switches=["fault", "fault+mkwrite"],
                windows={
                    "ext4": [
                        Window(name="ext4_punch", delay_us=2000),
                        Window(name="filemap_fault", delay_us=500, probability=50),
                    ]
                },
            ),
            "plain": Workload(kind="race", source="races/plain.c", args=["--size", "a b"]),
            "dio": Workload(
                kind="race", source="races/dio.c", fires_on=["stock"], filesystems=["ext4"]
            ),
            "splice": Workload(
                kind="gate", source="gates/splice.c", trials={"stock": 3, "candidate": 4}
            ),
        },
        plan={"quick": Plan(**values)},  # type: ignore[arg-type]
        root=root,
        path=root / "harness.toml",
    )


def cell(
    role: str = "stock",
    switch: str = "",
    trials: int = 100,
    windows: Sequence[Window] | None = None,
    kind: str = "race",
    fires_on: Sequence[str] = (),
) -> Cell:
    """A cell on ext4 with one armed window, unless `windows` says otherwise."""
    armed = [Window(name="ext4_punch", delay_us=2000)] if windows is None else windows
    return Cell(
        kernel=role,
        role=role,  # type: ignore[arg-type]
        filesystem="ext4",
        workload="punch",
        switch=switch,
        windows=tuple(armed),
        trials=trials,
        seed=7,
        kind=kind,  # type: ignore[arg-type]
        fires_on=tuple(fires_on),  # type: ignore[arg-type]
    )


def trials(hits: int = 1, **outcomes: int) -> list[Trial]:
    """trials(held=3, exposed=1): that many of each, every one with `hits` window hits."""
    result: list[Trial] = []
    for outcome, number in outcomes.items():
        for _ in range(number):
            result.append(trial(len(result) + 1, outcome, hits))  # type: ignore[arg-type]
    return result


def trial(number: int, outcome: Outcome, hits: int = 1, why: str = "") -> Trial:
    """One trial that reached window ext4_punch `hits` times."""
    return Trial(number, outcome, {"ext4_punch": hits}, why)
