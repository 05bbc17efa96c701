# SPDX-License-Identifier: GPL-2.0
"""Where in a TOML text each key stands.

tomllib gives values without positions, and a message without a line is a
riddle.  This walks the same grammar just closely enough to say on which line
every key, table, array element and inline table begins.  It checks nothing:
tomllib did that, or is about to complain; on text it cannot follow it stops
and keeps what it has.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass, field

from harness.plain import printable

KeyPath = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[^,\]}#\n]+")  # numbers, dates, booleans
_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRINGS = (
    re.compile(r'"""(?:\\[\s\S]|[^\\])*?"{3,5}(?!")'),
    re.compile(r"'''[\s\S]*?'{3,5}(?!')"),
    re.compile(r'"(?:\\.|[^"\\\n])*"'),
    re.compile(r"'[^'\n]*'"),
)


@dataclass(frozen=True, eq=False)  # two alike on one line are still two
class Statement:
    """One `key = value` or `[header]`: its line and the path it declares.

    `outer` is False for a pair inside an inline table.
    """

    line: int
    path: KeyPath
    outer: bool


@dataclass(frozen=True)
class Positions:
    """Lines (from 1) of the keys of one text."""

    lines: dict[KeyPath, int] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)

    def line(self, path: KeyPath) -> int:
        """The line where `path` begins, or its nearest enclosing key, or 1."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return 1

    def statement(self, line: int, *, outer: bool = False) -> Statement | None:
        """The last statement that begins on or before `line`."""
        fitting = [s for s in self.statements if s.line <= line and (s.outer or not outer)]
        return fitting[-1] if fitting else None

    def repeated(self) -> Statement | None:
        """The first pair of an inline table that was there before."""
        seen = set()
        for statement in self.statements:
            if statement.path in seen and not statement.outer:
                return statement
            seen.add(statement.path)
        return None

    def earlier(self, statement: Statement) -> Statement | None:
        """The statement before `statement` that declared most of its path."""
        before = self.statements[: self.statements.index(statement)]
        declared = [s for s in before if s.path == statement.path[: len(s.path)]]
        return max(declared, key=lambda s: len(s.path), default=None)


def locate(text: str) -> Positions:
    """Positions of all keys of `text`; of those before the fault when it is not TOML."""
    scanner = _Scanner(text)
    with contextlib.suppress(_LostError, RecursionError):
        scanner.document()  # what is wrong there, tomllib says with better words
    return scanner.found


def show(path: KeyPath) -> str:
    """`kernel.stock.fragments[2]`: a path as a person would type it, on one line."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
            continue
        if not _BARE.fullmatch(part):
            part = '"' + printable(part).replace('"', '\\"') + '"'
        out += f".{part}" if out else part
    return out


class _LostError(Exception):
    """The text is not what the grammar expects here."""


class _Scanner:
    """A cursor over the text; each method consumes one construct."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self.elements: dict[KeyPath, int] = {}  # [[arrays of tables]]: how many so far
        self.found = Positions()

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self.skip(_BLANK_LINES)
            if self.at >= len(self.text):
                return
            if self.text.startswith("[", self.at):
                table = self.header()
            else:
                self.pair(table, outer=True)

    def header(self) -> KeyPath:
        line = self.line()
        brackets = 2 if self.text.startswith("[[", self.at) else 1
        self.at += brackets
        names = self.key()
        path: KeyPath = ()
        for name in names[:-1]:
            path += (name,)
            if path in self.elements:  # a table inside the latest element
                path += (self.elements[path] - 1,)
        path += (names[-1],)
        if brackets == 2:
            self.elements[path] = self.elements.get(path, 0) + 1
            path += (self.elements[path] - 1,)
        self.record(path, line, outer=True)
        self.expect("]" * brackets)
        return path

    def pair(self, table: KeyPath, *, outer: bool) -> None:
        line = self.line()
        path = (*table, *self.key())
        self.record(path, line, outer=outer)
        self.expect("=")
        self.skip(_BLANK)
        self.value(path)

    def key(self) -> tuple[str, ...]:
        names = []
        while True:
            self.skip(_BLANK)
            if bare := _BARE.match(self.text, self.at):
                names.append(bare.group())
                self.at = bare.end()
            else:
                names.append(self.decoded(self.string()))
            self.skip(_BLANK)
            if not self.text.startswith(".", self.at):
                return tuple(names)
            self.at += 1

    def value(self, path: KeyPath) -> None:
        char = self.text[self.at : self.at + 1]
        if char in ('"', "'"):
            self.string()
        elif char == "[":
            self.members("]", path)
        elif char == "{":
            self.members("}", path)
        elif plain := _PLAIN.match(self.text, self.at):
            self.at = plain.end()
        else:
            raise _LostError

    def members(self, closing: str, path: KeyPath) -> None:
        """An array's elements or an inline table's pairs."""
        self.at += 1
        index = 0
        while True:
            self.skip(_BLANK_LINES)
            if self.text.startswith(closing, self.at):
                self.at += 1
                return
            if closing == "}":
                self.pair(path, outer=False)
            else:
                self.found.lines.setdefault((*path, index), self.line())
                self.value((*path, index))
                index += 1
            self.skip(_BLANK_LINES)
            if self.text.startswith(",", self.at):
                self.at += 1
            elif not self.text.startswith(closing, self.at):
                raise _LostError

    def string(self) -> str:
        for kind in _STRINGS:
            if match := kind.match(self.text, self.at):
                self.at = match.end()
                return match.group()
        raise _LostError

    def decoded(self, raw: str) -> str:
        try:
            return str(tomllib.loads(f"k={raw}")["k"])
        except tomllib.TOMLDecodeError as error:
            raise _LostError from error

    def expect(self, mark: str) -> None:
        self.skip(_BLANK)
        if not self.text.startswith(mark, self.at):
            raise _LostError
        self.at += len(mark)

    def skip(self, what: re.Pattern[str]) -> None:
        if match := what.match(self.text, self.at):
            self.at = match.end()

    def line(self) -> int:
        return bisect_right(self.starts, self.at)

    def record(self, path: KeyPath, line: int, *, outer: bool) -> None:
        self.found.statements.append(Statement(line, path, outer))
        for length in range(1, len(path) + 1):
            self.found.lines.setdefault(path[:length], line)
