# SPDX-License-Identifier: GPL-2.0
"""What the kernels of a run were built from, and how their configurations differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.saved import Kernel, Saved

MOST = 400  # lines of a difference that are shown
_OPTION = re.compile(r"(?:# )?(CONFIG_\w+)(?:=(.*)| is not set)")


@dataclass(frozen=True)
class Difference:
    """A kernel's configuration against the base's."""

    kernel: str
    base: str
    lines: list[str]  # "CONFIG_KASAN: n -> y"
    missing: str = ""  # why there is no saying


def base(kernels: Sequence[Kernel]) -> Kernel | None:
    """The kernel that the others are compared with: the first stock one."""
    return next((kernel for kernel in kernels if kernel.role == "stock"), None)


def differences(run: Saved) -> list[Difference]:
    """How the configuration of each kernel differs from the stock one's.

    The files lie in the run's directory (kernels/<name>.config); in runs that kept none,
    where the kernel was built, as long as its cache is there.
    """
    kernels = list(run.document.kernels.values())
    stock = base(kernels)
    if stock is None:
        return []
    options = _options(run, stock)
    found = []
    for kernel in kernels:
        if kernel is stock:
            continue
        own = _options(run, kernel)
        if own is None or options is None:
            missing = f"the configuration of {(stock if options is None else kernel).kernel}"
            missing += " is not there any more"
            found.append(Difference(kernel.kernel, stock.kernel, [], missing))
            continue
        lines = [
            f"{name}: {options.get(name, 'n')} -> {own.get(name, 'n')}"
            for name in sorted({*own, *options})
            if own.get(name, "n") != options.get(name, "n")
        ]
        if len(lines) > MOST:
            lines[MOST:] = [f"[{len(lines) - MOST} options more]"]
        found.append(Difference(kernel.kernel, stock.kernel, lines))
    return found


def _options(run: Saved, kernel: Kernel) -> dict[str, str] | None:
    kept = run.directory / "kernels" / f"{Path(kernel.kernel).name}.config"
    for path in (kept, Path(kernel.dotconfig or "/nonexistent")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        matches = (_OPTION.fullmatch(line) for line in text.splitlines())
        return {match[1]: match[2] or "n" for match in matches if match}
    return None
