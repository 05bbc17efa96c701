# SPDX-License-Identifier: GPL-2.0
"""`harness report`: the files that a run's results are read in."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.errors import EXIT_EXPECTED


def options(parser: argparse.ArgumentParser) -> None:
    """What `harness report` takes."""
    parser.add_argument(
        "run", nargs="?", default="", metavar="RUN",
        help="a name under results/, or a path (default: latest)",
    )  # fmt: skip
    parser.add_argument(
        "--mutants", metavar="RUN", help="with the kill matrix of this `harness mutants`"
    )


def report(args: argparse.Namespace) -> int:
    """Make every report of a run, from what it stored; prints their paths."""
    from harness.report import files, runs

    directory = runs.find(Path("results").absolute(), args.run)
    here = Path.cwd()
    for path in files.write(directory, args.mutants):
        print(path.relative_to(here) if path.is_relative_to(here) else path)
    return EXIT_EXPECTED
