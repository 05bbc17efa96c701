# SPDX-License-Identifier: GPL-2.0
"""TOML, and what is wrong with it: tomllib's words become file, line and key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from harness.checks import Checks
from harness.position import locate, show
from harness.shape import fault
from harness.words import Table

_T = TypeVar("_T", bound=Table)


class Parsing(Checks):
    """A text that is parsed once; `data` is what is in it and not taken out yet."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(path, locate(text))
        self.text = text
        self.data: dict[str, Any] = {}

    def single(self, key: str, kind: type[_T]) -> _T | None:
        """The one table [key], taken out of the data; None when there is none."""
        value = self.data.pop(key, None)
        if value is None:
            return None
        if found := fault(value, kind, (key,)):
            self.fail(*found)
        self.printable((key,), value)
        table = msgspec.convert(value, kind)
        self.bounds((key,), table, kind)
        return table

    def parse(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            self.refuse(str(error))
        except RecursionError:
            self.refuse("nested too deeply (at end of document)")
        except ValueError:  # CPython refuses to convert thousands of digits
            text = self.text.replace("_", "")
            digits = re.search(r"\d{4300}", text)
            line = text.count("\n", 0, digits.start() if digits else 0) + 1
            self.refuse(f"number too long (at line {line}, column 1)")

    def refuse(self, message: str) -> NoReturn:
        """Turn tomllib's words into file, line, key."""
        match = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message)
        what, line = (match[1], match[2]) if match else (message, None)
        at = int(line) if line else self.text.rstrip("\n").count("\n") + 1
        if what.startswith("Duplicate"):
            statement = self.positions.repeated()
        else:
            twice = re.match("Cannot (declare|overwrite)", what) is not None
            statement = self.positions.statement(at, outer=twice)
            if not twice:
                self.fail(
                    statement.path if statement else (),
                    f"not TOML: {what[:1].lower() + what[1:]}",
                    line=at,
                )
        if statement is None:
            self.fail((), "a key is declared twice", line=at)
        if (first := self.positions.earlier(statement)) is None:
            self.fail(statement.path, "declared twice", line=statement.line)
        elif first.path == statement.path:
            what = f"declared twice (first on line {first.line})"
        else:
            what = f"{show(first.path)} is a value already (line {first.line})"
        self.fail(statement.path, what, line=statement.line)
