# SPDX-License-Identifier: GPL-2.0
"""A coordinate: all that decides what a replay machine does, and what it then did."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import InfraError, UsageError
from harness.plain import printable
from harness.words import Window

_DIGITS = 4  # of sha256, for each line: enough to say which is the first that differs


class Coordinate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One exposure. The file is TOML, with these keys."""

    kernel: str  # in harness.toml
    kernel_id: str
    bzimage: str  # sha256
    initramfs: str  # sha256: tools, programs and what is to be done
    qemu: str  # its version
    machine: str  # QEMU's command line without paths

    filesystem: str
    workload: str
    switch: str  # "": none
    windows: list[Window]
    seed: int  # of the reproducer
    shift: int  # of -icount
    trials: int  # asked for; the reproducer ends with the first that is exposed

    trial: int  # that was exposed
    signature: str  # what its oracle said, or the kernel; numbers are N
    order: str  # of both racers' steps
    trace: str  # sha256 of the whole console
    memory: str  # sha256 of the guest's memory at its end
    lines: str  # the console line by line, each by the first digits of its sha256

    found: str  # the command
    date: str

    @property
    def cell(self) -> str:
        """Which race this is, for a person."""
        at = f"@{self.switch}" if self.switch else ""
        return f"{self.kernel}/{self.filesystem}/{self.workload}{at}"

    @property
    def name(self) -> str:
        """Of its file: one word."""
        parts = (self.workload, self.filesystem, self.switch or "none")
        return f"{'-'.join(parts)}-s{self.seed}-i{self.shift}".replace("+", "_")


def signature(text: str) -> str:
    """What an oracle or a kernel said, without what is another in each trial."""
    return re.sub(r"\b0x[0-9a-f]+\b|\b\d+\b", "N", text)


def order(events: str) -> str:
    """"a+@812 b+@815 ..." without the times."""
    return re.sub(r"@\d+", "", events)


def line_marks(console: str) -> str:
    """See Coordinate.lines."""
    marks = (hashlib.sha256(line.encode()).hexdigest()[:_DIGITS] for line in console.split("\n"))
    return "".join(marks)


def first_difference(console: str, lines: str) -> str:
    """The first line of a console that is not the one of `lines`, for a person; "" if none is."""
    marks = line_marks(console)
    for at in range(0, max(len(marks), len(lines)), _DIGITS):
        if marks[at : at + _DIGITS] != lines[at : at + _DIGITS]:
            number = at // _DIGITS
            said = console.split("\n")
            text = f"now says: {said[number]}" if number < len(said) else "is not there any more"
            return printable(f"line {number + 1} {text}"[:200])
    return ""


def write(coordinate: Coordinate, path: Path, comment: str = "") -> None:
    """As TOML, which is read by read(); OSError."""
    words = ["# SPDX-License-Identifier: GPL-2.0", *(f"# {line}" for line in comment.splitlines())]
    values: dict[str, Any] = msgspec.to_builtins(coordinate)
    for key, value in values.items():
        if key in ("filesystem", "trial", "found"):
            words.append("")
        words.append(f"{key} = {_toml(value)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text("\n".join(words) + "\n")
    part.replace(path)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items() if v != "") + " }"
    return json.dumps(value, ensure_ascii=False)


def read(path: Path) -> Coordinate:
    """UsageError when the file is no coordinate, InfraError when it cannot be read."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Coordinate)
    except OSError as error:
        raise InfraError(
            f"cannot read {path}: {error.strerror}", hint="ls workloads/coordinates"
        ) from error
    except (ValueError, msgspec.ValidationError) as error:  # of TOML and of UTF-8, too
        raise UsageError(
            f"{path} is no coordinate: {printable(str(error))}", hint="harness explore --help"
        ) from error
