# SPDX-License-Identifier: GPL-2.0
"""`harness nightly`: its command line, and what it says in the end."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import EXIT_EXPECTED, UsageError
from harness.events import Event, Listener
from harness.options import view_options

if TYPE_CHECKING:
    from harness.config import Config

EXAMPLE = "harness nightly --budget 8"
MOST_TOLD = 20


def options(parser: argparse.ArgumentParser) -> None:
    """What `harness nightly` takes."""
    parser.add_argument(
        "--budget", type=_hours, metavar="HOURS", help="for all of it, instead of harness.toml's"
    )
    parser.add_argument(
        "--report", nargs="?", const="", metavar="NIGHT",
        help="make the page of a night again, and nothing else (default: the last)",
    )  # fmt: skip
    view_options(parser)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 24 * 7:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours from above 0 to 168")
    return hours


def run(args: argparse.Namespace, cfg: Config) -> int:
    """A night, or the rest of one, and its page."""
    from harness.nightly import night as nights
    from harness.nightly import record
    from harness.places import cache_dir
    from harness.report.terminal import terminal

    results = Path("results").absolute()
    if args.report is not None:
        return report(results, cfg, args.report)
    args.kept = "what is finished is kept; go on with: harness nightly"
    directory: list[Path] = []
    try:
        with terminal(view=args.view) as listen:
            made, _place = nights.run(
                cfg, cache_dir(), results, _noting(listen, directory), budget_h=args.budget
            )
    finally:
        # Also of a night that ends early: its page says so.
        if directory and (directory[0] / record.FILE).is_file():
            paths = write(results, cfg, directory[0])
    if args.view != "json":
        for finding in made.findings[:MOST_TOLD]:
            print(f"{finding.kind}: {finding.text}")
            if finding.likely:
                print(f"  likely: {finding.likely}")
            if finding.command:
                print(f"  try: {finding.command}")
        if len(made.findings) > MOST_TOLD:
            print(f"and {len(made.findings) - MOST_TOLD} more")
        if not made.findings:
            print("all as expected, nothing new")
        print(paths[0])
    return made.exit_code


def _noting(listen: Listener, directory: list[Path]) -> Listener:
    """`listen`, without the tables of single runs; the night's directory is kept."""

    def listener(event: Event) -> None:
        if event.kind == "night" and "directory" in event.data:
            directory.append(Path(event.data["directory"]))
        if "document" in event.data:
            data = {key: value for key, value in event.data.items() if key != "document"}
            event = dataclasses.replace(event, data=data)
        listen(event)

    return listener


def report(results: Path, cfg: Config, name: str) -> int:
    """The page of a night again; prints where it is."""
    from harness.nightly import record

    found = [path for night, path in record.nights(results) if name in night.id]
    if not found:
        raise UsageError(
            f"no night {name!r} in {results / record.NIGHTS}" if name else "no night yet",
            hint=f"ls {results / record.NIGHTS}" if name else "harness nightly",
        )
    for path in write(results, cfg, found[0]):
        print(path)
    return EXIT_EXPECTED


def write(results: Path, cfg: Config, directory: Path) -> list[Path]:
    """All files of the night in `directory`, and the reports of its runs."""
    from harness.nightly import record
    from harness.report import files, nightly_files

    settings = cfg.nightly
    window = settings.window if settings is not None else 14
    tolerance = settings.tolerance if settings is not None else 0.05
    every = [night for night, _ in record.nights(results)]
    night = record.load(directory)
    earlier = [each for each in every if each.id < night.id]
    for run_id in night.runs:
        if (results / run_id / "run.json").is_file():
            files.write(results / run_id)
    return nightly_files.write(directory, night, earlier, window, tolerance)
