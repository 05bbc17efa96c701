# SPDX-License-Identifier: GPL-2.0
"""argparse in the house's form: errors are UsageErrors, help fits a screen."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from harness.errors import UsageError


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """One line per option: help must fit a screen of 24 lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36)


class Parser(argparse.ArgumentParser):
    """argparse, with errors in the house's form."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _HelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


class Version(argparse.Action):
    """--version, importing importlib.metadata only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print("harness", version("mapping-range-lock-harness"))
        except PackageNotFoundError:  # run from a checkout without installation
            print("harness, not installed")
        parser.exit()


def whole(bounds: tuple[int, int]) -> Callable[[str], int]:
    """A whole number from the first of `bounds` to the second."""

    def parse(text: str) -> int:
        low, high = bounds
        with suppress(ValueError):
            if low <= (number := int(text)) <= high:
                return number
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}")

    return parse
