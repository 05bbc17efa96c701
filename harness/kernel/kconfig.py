# SPDX-License-Identifier: GPL-2.0
"""Kconfig fragments: read, merge, and check that the kernel took every option.

Kconfig drops an option whose dependencies are not met without a word
(Documentation/kbuild/kconfig-language.rst); the check after olddefconfig is
what makes a fragment a promise.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BuildError, UsageError

_SET = re.compile(r"^CONFIG_(?P<name>[A-Za-z0-9_]+)=(?P<value>.*)$")
_UNSET = re.compile(r"^# CONFIG_(?P<name>[A-Za-z0-9_]+) is not set$")
OFF = "n"


@dataclass(frozen=True)
class Option:
    """One option as a fragment asks for it."""

    name: str  # without CONFIG_
    value: str  # "y", "m", "n" (also for "is not set"), a number or a quoted string
    file: Path
    line: int  # from 1

    def __str__(self) -> str:
        return _written(self.name, self.value)


def _written(name: str, value: str) -> str:
    return f"# CONFIG_{name} is not set" if value == OFF else f"CONFIG_{name}={value}"


def paths(names: Sequence[str], root: Path) -> list[Path]:
    """Files of the fragments `names` under vm/kconfig/; UsageError for one that is missing."""
    directory = root / "vm" / "kconfig"
    found = []
    for name in names:
        path = directory / f"{name}.config"
        if not path.is_file():
            known = sorted(file.stem for file in directory.glob("*.config"))
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"no Kconfig fragment {name!r} in {directory}"
                + (f" (did you mean {near[0]!r}?)" if near else ""),
                hint=f"ls {directory}",
            )
        found.append(path)
    return found


def parse(path: Path, text: str) -> list[Option]:
    """Options of one fragment in their order; UsageError for a line Kconfig would not read."""
    options = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = _entry(line.strip())
        if entry is not None:
            options.append(Option(*entry, path, number))
        elif line.strip() and not line.strip().startswith("#"):
            raise UsageError(
                f"{path}:{number}: neither an option nor a comment: {line.strip()!r}",
                hint="write CONFIG_NAME=value or # CONFIG_NAME is not set",
            )
        elif re.match(r"\s*#\s*CONFIG_\w+\s+is\s+not\s+set", line):
            # Kconfig reads it as a comment: the option would keep its default.
            raise UsageError(
                f"{path}:{number}: this is read as a comment: {line.strip()!r}",
                hint="write exactly: # CONFIG_NAME is not set",
            )
    return options


def _entry(line: str) -> tuple[str, str] | None:
    if found := _SET.match(line):
        return found["name"], found["value"].strip()
    if found := _UNSET.match(line):
        return found["name"], OFF
    return None


def without_reason(path: Path, text: str) -> list[Option]:
    """Options of a fragment that have no comment line directly above them.

    An option says in the file why it is asked for; the unit tests keep it so.
    """
    lines = [line.strip() for line in text.splitlines()]

    def is_reason(line: str) -> bool:
        return len(line.lstrip("# ")) > 3 and line.startswith("#") and _entry(line) is None

    return [
        option
        for option in parse(path, text)
        if option.line < 2 or not is_reason(lines[option.line - 2])
    ]


def merge(fragments: Sequence[Sequence[Option]]) -> dict[str, Option]:
    """All fragments in order; of an option asked for twice the later one wins."""
    return {option.name: option for options in fragments for option in options}


def text(options: Mapping[str, Option]) -> str:
    """The merged options as lines to append to a .config."""
    return "".join(f"{option}\n" for option in options.values())


def values(dotconfig: str) -> dict[str, str]:
    """What a .config says: name -> value, OFF for "is not set"."""
    return dict(entry for line in dotconfig.splitlines() if (entry := _entry(line)) is not None)


def refused(options: Mapping[str, Option], dotconfig: str) -> list[tuple[Option, str]]:
    """Options that did not get the value asked for, each with what it is now.

    An option that is absent from `dotconfig` is off.
    """
    have = values(dotconfig)
    return [
        (option, have.get(name, OFF))
        for name, option in options.items()
        if have.get(name, OFF) != option.value
    ]


def verify(options: Mapping[str, Option], dotconfig: str, source: Path) -> None:
    """BuildError naming option, fragment, line and present value of each option not taken.

    `source` is the kernel source, for the command that shows the dependencies.
    """
    wrong = refused(options, dotconfig)
    if not wrong:
        return
    have = values(dotconfig)

    def told(option: Option, now: str) -> str:
        state = f"it is {now}" if option.name in have else "it is off: unknown here or not allowed"
        return f"{option.file}:{option.line}: {option} was not taken by the kernel: {state}"

    first, now = wrong[0]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    raise BuildError(
        told(first, now) + more,
        hint=f"grep -rnE -A12 'config {first.name}$' --include='Kconfig*' {source}",
        detail="\n".join(told(option, now) for option, now in wrong[1:]),
    )


def enabled(dotconfig: str) -> int:
    """Number of options that are =y: what the length of a build goes with."""
    return sum(value == "y" for value in values(dotconfig).values())
