# SPDX-License-Identifier: GPL-2.0
"""The command line, in the house's form: errors are UsageErrors, help fits a screen."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from harness.bisect.question import WANTED
from harness.errors import UsageError
from harness.places import NEWEST_RUN

_SEEDS = (0, 2**64 - 1)
_TRIALS = (1, 1_000_000)
_JOBS = (1, 256)
_SECONDS = (1, 7 * 86400)
_PATCHES = (1, 10_000)
# What chooses cells, see filters().
CELLS = (("-k", "kernel"), ("-f", "filesystem"), ("-w", "workload"))
CELL = "KERNEL/FILESYSTEM/WORKLOAD[@SWITCH]"


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


def manual(parser: argparse.ArgumentParser, names: Sequence[str] = ()) -> list[str]:
    """The help of the program and of its verbs, or only of those named; UsageError if unknown."""
    verbs = {
        name: verb
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, verb in action.choices.items()
    }
    for name in names:
        if name not in verbs:
            raise UsageError(f"no verb {name!r}", hint=f"{parser.prog} --help")
    shown = [verbs[name] for name in names] or [parser, *verbs.values()]
    return [each.format_help().rstrip() for each in shown]


def run_options(parser: argparse.ArgumentParser) -> None:
    """What `harness run` takes."""
    parser.usage = "%(prog)s [OPTION]... [PLAN]"  # argparse's own fills the screen
    parser.add_argument("plan", nargs="?", metavar="PLAN", help="default: quick")
    filters(parser, CELLS)
    parser.add_argument(
        "--trials", type=whole(_TRIALS), metavar="N", help="per cell, instead of the plan's"
    )
    parser.add_argument("--seed", type=whole(_SEEDS), metavar="N", help="instead of the plan's")
    _jobs(parser)
    parser.add_argument(
        "--budget", type=whole(_SECONDS), metavar="SECONDS", help="for all cells, likewise"
    )
    parser.add_argument(
        "--mode", choices=("armed", "unarmed", "replay"),
        help="armed, unarmed, or in machines that repeat",
    )
    parser.add_argument(
        "--bench", action="append", default=[], metavar="NAME",
        help="count its guest instructions (again for more)",
    )  # fmt: skip
    parser.add_argument(
        "--core", action="store_true", help="keep the memory of a guest that hangs"
    )
    parser.add_argument(
        "--resume", nargs="?", const=NEWEST_RUN, metavar="RUN",
        help="go on with a run that ended early (default: the newest)",
    )  # fmt: skip
    parser.add_argument("--bisect", action="store_true", help="one cell, for git bisect run: ...")
    parser.add_argument("--cell", default="", metavar="CELL", help=f"... {CELL}")
    parser.add_argument("--tree", metavar="DIR", help="... with the source in DIR")
    _sign(parser)
    view_options(parser)


def known(kind: str, name: str, names: dict[str, Any]) -> str:
    """`name`, if it is one of `names` of harness.toml; UsageError with the nearest if not."""
    from harness.config import nearest

    if name not in names:
        raise UsageError(
            f"no {kind} '{name}' in harness.toml{nearest(name, names)}", hint="harness list"
        )
    return name


def view_options(parser: argparse.ArgumentParser) -> None:
    """How much a verb that takes long says on its way."""
    parser.set_defaults(view="")
    way = parser.add_mutually_exclusive_group()
    for flags, what, text in (
        (("-q", "--quiet"), "quiet", "say only how it ends"),
        (("-v", "--verbose"), "verbose", "say every step"),
        (("--json",), "json", "events as lines of JSON, for programs"),
    ):
        way.add_argument(*flags, dest="view", action="store_const", const=what, help=text)


def alone(args: argparse.Namespace) -> None:
    """UsageError when --resume comes with what the run was told when it began."""
    for name, nothing in (
        ("plan", None), ("kernel", []), ("filesystem", []), ("workload", []), ("trials", None),
        ("seed", None), ("budget", None), ("mode", None), ("bench", []), ("core", False),
    ):  # fmt: skip
        if getattr(args, name) != nothing:
            run = "" if args.resume == NEWEST_RUN else f" {args.resume}"
            raise UsageError(
                f"--resume goes on as the run began: no {name} can be given",
                hint=f"harness run --resume{run}",
            )


def _share(most: float, form: str) -> Callable[[str], float]:
    """A number above 0 and below 1, or `most`."""

    def parse(text: str) -> float:
        with suppress(ValueError):
            if 0 < (value := float(text)) < 1 or value == most:
                return value
        raise argparse.ArgumentTypeError(f"must be a share between 0 and 1, as {form}")

    return parse


def bisect_options(parser: argparse.ArgumentParser) -> None:
    """What `harness bisect` takes."""
    parser.usage = "%(prog)s [OPTION]... [GOOD] [BAD]"
    parser.add_argument("good", nargs="?", default="", help="a commit, or the number of a patch")
    parser.add_argument("bad", nargs="?", default="", help="likewise (default: the newest)")
    parser.add_argument("--kernel", default="", metavar="NAME", help="default: that of the cell")
    parser.add_argument("--cell", default="", metavar="CELL", help=CELL)
    parser.add_argument("--series", default="", metavar="NAME", help="over its patches")
    _sign(parser)
    parser.add_argument("--figure", default="", metavar="NAME",
                        help="which commit made this figure of a bench larger")  # fmt: skip
    parser.add_argument(
        "--confidence", type=_share(0.95, "0.95"), default=0.95, metavar="C",
        help="of the answer (default: 0.95)",
    )  # fmt: skip
    parser.add_argument("--rate", type=_share(1, "0.3"), metavar="R", help="do not measure it")
    parser.add_argument("--trials", type=whole(_TRIALS), metavar="N", help="of a boot, at most")
    parser.add_argument("--plan", default="quick", metavar="PLAN", help="default: quick")
    parser.add_argument("--seed", type=whole(_SEEDS), metavar="N", help="instead of the plan's")
    parser.add_argument(
        "--resume", nargs="?", const=NEWEST_RUN, metavar="RUN", help="go on (default: the newest)"
    )
    view_options(parser)


def _sign(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--for", dest="want", choices=WANTED, metavar="SIGN", help="|".join(WANTED)
    )


def with_bisect(args: argparse.Namespace) -> None:
    """UsageError when `harness run` is told of one cell, and not that it is for git bisect."""
    for option, value in (("--cell", args.cell), ("--tree", args.tree), ("--for", args.want)):
        if value:
            raise UsageError(
                f"{option} goes with --bisect",
                hint="harness run -k KERNEL -f FILESYSTEM -w WORKLOAD",
            )


def mutants_options(parser: argparse.ArgumentParser) -> None:
    """What `harness mutants` takes."""
    parser.add_argument(
        "plan", nargs="?", default="default", metavar="PLAN", help="default: default"
    )
    filters(parser, (("-f", "filesystem"), ("-w", "workload"), ("-x", "switch")))
    parser.add_argument(
        "--trials", type=whole(_TRIALS), default=3, metavar="N",
        help="for each switch and workload, at most (default: 3)",
    )  # fmt: skip
    parser.add_argument("--seed", type=whole(_SEEDS), metavar="N", help="instead of the plan's")
    _jobs(parser)
    view_options(parser)


def _jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-j", "--jobs", type=whole(_JOBS), metavar="N", help="guests at once, instead of the plan's"
    )


def filters(parser: argparse.ArgumentParser, names: Sequence[tuple[str, str]]) -> None:
    """An option for each (short, name), which may be given again for more."""
    for short, name in names:
        parser.add_argument(
            short,
            f"--{name}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"only this {name} (again for more)",
        )


def build_options(parser: argparse.ArgumentParser) -> None:
    """What `harness build` takes."""
    parser.add_argument(
        "kernels", nargs="*", metavar="KERNEL", help="default: all that a plan names"
    )
    parser.add_argument(
        "--each-patch", action="store_true", help="build and boot after each patch of one kernel"
    )
    parser.add_argument("--series", default="", metavar="NAME", help="... from this series on")
    parser.add_argument(
        "--from", dest="first", type=whole(_PATCHES), metavar="N", help="... from patch N on"
    )
    parser.add_argument("--no-boot", dest="boot", action="store_false", help="... build only")
    view_options(parser)


def boot_options(parser: argparse.ArgumentParser) -> None:
    """What `harness boot` takes."""
    parser.add_argument("kernel", metavar="KERNEL")
    parser.add_argument("--guest", metavar="NAME", help="default: the first of harness.toml")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--console", "--shell", action="store_true", help="a shell on the serial console (default)"
    )
    way.add_argument("--ssh", action="store_true", help="a shell over SSH")
    way.add_argument(
        "--exec",
        dest="command",
        metavar="CMD",
        help="run CMD over SSH, print its output, exit with its status",
    )
    parser.add_argument(
        "--timeout",
        type=whole(_SECONDS),
        default=600,
        metavar="SECONDS",
        help="for CMD, on KVM; longer under emulation (default: 600)",
    )
    view_options(parser)
