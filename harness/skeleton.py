# SPDX-License-Identifier: GPL-2.0
"""`harness new`: a race or a series to start from, that works as it is."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.errors import EXIT_EXPECTED, UsageError
from harness.places import cache_dir

if TYPE_CHECKING:
    from harness.config import Config

EXAMPLE = "harness new race punch-mine"
_TEMPLATE = "workloads/skeleton/race.c"


def options(
    parser: argparse.ArgumentParser, config: Callable[[argparse.ArgumentParser], None]
) -> None:
    """What `harness new` takes."""
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    for kind, function, what, more in (
        ("race", new_race, "a reproducer, workloads/races/NAME.c, and its table", "punch-mine"),
        ("series", new_series, "a series of one patch, and a kernel with it", "mine"),
    ):
        made = kinds.add_parser(
            kind, help=what, description=what[0].upper() + what[1:] + ".",
            epilog=f"example:\n  harness new {kind} {more}",
        )  # fmt: skip
        made.set_defaults(part=function)
        made.add_argument("name", metavar="NAME")
        if kind == "series":
            made.add_argument(
                "--line", default="", metavar="LINE",
                help="tree line (default: that of the first tree)",
            )  # fmt: skip
        config(made)


def run(args: argparse.Namespace, config: Config) -> int:
    """Make one; says what was written and what to type next."""
    code: int = args.part(args, config)
    return code


def new_race(args: argparse.Namespace, config: Config) -> int:
    """workloads/races/NAME.c and [workload.NAME]; both or neither."""
    from harness.series import table

    name = args.name
    table.check_name("race", name)
    if name in config.workload:
        raise UsageError(f"{config.path}: there is a workload {name!r}", hint="harness list")
    place = config.root / "workloads" / "races" / f"{name}.c"
    template = config.root / _TEMPLATE
    if not template.is_file():
        raise UsageError(f"no {template}: it is what a new race is made from")
    text = _race_table(config, name)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("x") as file:
            file.write(template.read_text().replace("@NAME@", name))
    except FileExistsError as error:
        raise UsageError(f"{place} is there already", hint="another name") from error
    except OSError as error:
        raise UsageError(f"{place}: cannot write it: {error.strerror}") from error
    try:
        table.append(config, text)
    except BaseException:
        place.unlink(missing_ok=True)
        raise
    print(f"{place}: what to change is said at its top\n{config.path}: added\n{text}", end="")
    print(f"next: harness run quick -w {shlex.quote(name)}")
    return EXIT_EXPECTED


def _race_table(config: Config, name: str) -> str:
    """On the ext4s of harness.toml, and with those of its switches that let the race in."""
    from harness.series.table import key, strings

    filesystems = [n for n, each in config.filesystem.items() if each.type == "ext4"]
    if not filesystems:
        raise UsageError(
            f"{config.path}: no [filesystem.*] of type ext4, on which a new race begins",
            hint="harness list",
        )
    ways = [n for n in ("readahead", "punch") if not config.switch or n in config.switch]
    return (
        "# Begun by: harness new race. The first window holds racer A; see docs/reproducers.md.\n"
        f"[workload.{key(name)}]\n"
        'kind = "race"\n'
        f'source = "races/{name}.c"\n'
        f"filesystems = {strings(filesystems)}\n"
        f"switches = {strings(ways)}\n"
        'windows.ext4 = [{ name = "ext4_punch", delay_us = 20000,'
        ' partner = "readahead_submitted", attempt = "readahead" }]\n'
    )


def new_series(args: argparse.Namespace, config: Config) -> int:
    """patches/NAME/LINE/ with one harmless patch, and [kernel.NAME]; both or neither."""
    from harness.report.terminal import terminal
    from harness.series import beginning, importing, table

    name = args.name
    line = args.line or table.default_line(config)
    table.check_name("series", name)
    if name in config.kernel:
        raise UsageError(f"{config.path}: there is a kernel {name!r}", hint="harness list")
    table.check_kernel(config, name, name)
    place = config.root / "patches" / name / line
    if place.exists():  # said before a tree is fetched
        raise UsageError(f"{place} is there already", hint="another name")
    with terminal() as listen:
        collected = beginning.patch(config, name, line, cache_dir(), listen)
    done = importing.store(
        config, name, line, collected, remark=f"Series {name}, from: harness new.", kernel=name
    )
    print(f"{done.place / done.patches[0]}\n{config.path}: added\n{done.table}", end="")
    print(f"next: harness run quick -k control -k {shlex.quote(name)}")
    return EXIT_EXPECTED
