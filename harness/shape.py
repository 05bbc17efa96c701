# SPDX-License-Identifier: GPL-2.0
"""Whether a TOML value has the shape of a type, and if not, where it does not.

msgspec decides; its own messages replace names of tables by "[...]", which is
the very thing a person needs to know, so the place is found by asking again
about each part.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from harness.position import KeyPath

_TOML_WORDS: Mapping[Any, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "a table",
}


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or the list of valid names when none is close, or ``."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f" (did you mean '{close[0]}'?)"
    return f" (there is: {', '.join(names)})" if names else ""


def fault(value: Any, kind: Any, key: KeyPath) -> tuple[KeyPath, str] | None:
    """The innermost place where `value` does not fit the type `kind`, and why."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        pass
    else:
        return None
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        return _table_fault(value, kind, key)
    inner: list[tuple[KeyPath, Any, Any]] = []
    if get_origin(kind) is list and isinstance(value, list):
        inner = [((*key, i), item, get_args(kind)[0]) for i, item in enumerate(value)]
    if get_origin(kind) is dict and isinstance(value, dict):
        inner = [((*key, name), name, get_args(kind)[0]) for name in value]
        inner += [((*key, name), item, get_args(kind)[1]) for name, item in value.items()]
    for place in inner:
        if found := fault(place[1], place[2], place[0]):
            return found
    if get_origin(kind) is Literal and isinstance(value, str):
        names = [str(name) for name in get_args(kind)]
        return key, f"'{value}' is none of {', '.join(names)}{_close(value, names)}"
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return key, "number too large"
    return key, f"must be {_expected(kind)}, not {word(value)}"


def _table_fault(
    value: dict[str, Any], kind: type[msgspec.Struct], key: KeyPath
) -> tuple[KeyPath, str] | None:
    types = get_type_hints(kind)
    for name in value:
        if name not in types:
            return (*key, name), f"unknown key{nearest(name, types)}"
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in value:
            return key, f"missing key '{field.name}'"
    for name, item in value.items():
        if found := fault(item, types[name], (*key, name)):
            return found
    return None


def _close(value: str, names: list[str]) -> str:
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _expected(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "a table"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return _TOML_WORDS.get(get_origin(kind) or kind, str(kind))


def word(value: object) -> str:
    """What TOML calls the type of `value`."""
    return _TOML_WORDS.get(type(value), "a date or time")


def brief(value: float) -> str:
    """A number in at most 40 characters (CPython refuses to print huge ones in decimal)."""
    text = f"{value:.15g}" if isinstance(value, float) else hex(value)
    if isinstance(value, int) and len(text) <= 40:
        text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
