# SPDX-License-Identifier: GPL-2.0
"""Checks that any value of harness.toml may need, and how a failure is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from harness.errors import UsageError
from harness.plain import printable
from harness.position import KeyPath, Positions, show
from harness.shape import brief, nearest
from harness.words import Executor, Filesystem, Guest, Nightly, Plan, Table, Window, Workload

# Names become directory names, command line words and a part of `uname -r`.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NAME_LENGTH = 64
_MEBIBYTE_LIMIT = 1 << 20  # 1 TiB
_A_DAY_S = 86400.0

# Inclusive bounds of every number in the file.
_BOUNDS: Mapping[type[Table], Mapping[str, tuple[float, float]]] = {
    Guest: {
        "cpus": (1, 8),  # CONFIG_NR_CPUS in vm/kconfig/base.config
        "memory_mib": (256, _MEBIBYTE_LIMIT),
        "disk_mib": (64, _MEBIBYTE_LIMIT),
        "boot_timeout_s": (1, _A_DAY_S),
    },
    Filesystem: {"block_size": (512, 65536)},
    Workload: {"min_rate": (0, 1), "timeout_s": (1, _A_DAY_S)},
    Window: {"delay_us": (0, 1_000_000), "probability": (1, 100)},
    Plan: {
        "bound": (0, 0.5),
        "min_rate": (0, 0.999),
        "budget_s": (0, 30 * _A_DAY_S),
        "seed": (0, 2**64 - 1),
        "boots": (1, 1000),
        "jobs": (0, 256),
        "cells_per_boot": (1, 1000),
    },
    Nightly: {"budget_h": (0.01, 24 * 7), "window": (2, 1000), "tolerance": (0.001, 10)},
    Executor: {"jobs": (0, 4096), "wait_s": (1, 7 * _A_DAY_S)},
}


class Checks:
    """The checks of one file; each raises the error it finds first."""

    def __init__(self, path: Path, positions: Positions) -> None:
        self.path = path
        self.positions = positions

    def fail(self, key: KeyPath, what: str, *, line: int | None = None) -> NoReturn:
        line = line or self.positions.line(key)
        raise UsageError(
            f"{self.path}:{line}: {show(key) or 'file'}: {printable(what)}",
            hint=f"${{EDITOR:-vi}} +{line} {self.path}",
        )

    def name(self, key: KeyPath, name: str, length: int = NAME_LENGTH) -> None:
        if not _NAME.fullmatch(name):
            self.fail(key, "a name is letters, digits, '.', '_' and '-', a letter or digit first")
        if len(name) > length:
            self.fail(key, f"a name here has at most {length} characters, this has {len(name)}")

    def refers(self, key: KeyPath, name: str, kind: str, names: Iterable[str]) -> None:
        if name not in names:
            self.fail(key, f"no [{kind}.{show((name,))}]{nearest(name, names)}")

    def some(self, key: KeyPath, values: Sequence[str]) -> None:
        if not values:
            self.fail(key, "must not be empty")

    def distinct(self, key: KeyPath, values: Sequence[str]) -> Sequence[str]:
        for i, value in enumerate(values):
            if value in values[:i]:
                self.fail((*key, i), f"'{value}' is named twice")
        return values

    def bounds(self, key: KeyPath, table: Table, kind: type[Table]) -> None:
        for name, (low, high) in _BOUNDS.get(kind, {}).items():
            self.within((*key, name), getattr(table, name), low, high)

    def within(self, key: KeyPath, value: float, low: float, high: float) -> None:
        if not low <= value <= high:  # false for NaN, too
            self.fail(key, f"must be from {low:.15g} to {high:.15g}, not {brief(value)}")

    def printable(self, key: KeyPath, value: object) -> None:
        """Nothing here may smuggle a newline or NUL into a command line."""
        if isinstance(value, str) and not value.isprintable():
            self.fail(key, "must not contain control characters")
        if isinstance(value, dict):
            for name, inner in value.items():
                self.printable((*key, name), inner)
        if isinstance(value, list):
            for i, inner in enumerate(value):
                self.printable((*key, i), inner)
