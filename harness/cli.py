# SPDX-License-Identifier: GPL-2.0
"""The door: one verb, one short function; every error a line, never a traceback.

Heavy imports stand inside the verbs, so that --help and `list` are instant.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import afterwards, completion, ending, options, running, skeleton
from harness.bench import verb as bench_verb
from harness.booting import boot_verb
from harness.errors import (
    EXIT_CANNOT_TEST,
    EXIT_EXPECTED,
    EXIT_INTERRUPTED,
    EXIT_UNEXPECTED,
    HarnessError,
    UsageError,
)
from harness.nightly import verb as nightly_verb
from harness.options import Parser, Version, known
from harness.replay import verbs as replay_verbs
from harness.report import verb as report_verb
from harness.series import verbs as series_verbs

if TYPE_CHECKING:
    from harness.config import Config


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (see harness.errors), never raises an error."""
    code = _main(argv)
    if "--bisect" in (sys.argv[1:] if argv is None else argv):
        # git bisect run takes a 2 for "bad", and stops at 128 and above.
        return code if code in (EXIT_EXPECTED, EXIT_UNEXPECTED) else EXIT_CANNOT_TEST
    return code


def _main(argv: Sequence[str] | None) -> int:
    ending.prepare_process()
    args = argparse.Namespace(kept="")
    try:
        parser = _parser()
        completion.answer(parser, _config)
        parser.parse_args(argv, namespace=args)
        code: int = args.verb(args)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # --help, --version
        return stop.code if isinstance(stop.code, int) else EXIT_EXPECTED
    except HarnessError as error:
        return ending.complain(error)
    except KeyboardInterrupt:
        ending.say("interrupted" + (f"; {args.kept}" if args.kept else ""))
        return EXIT_INTERRUPTED
    except OSError as error:
        return ending.os_error(error)
    except Exception as error:
        return ending.unexpected(error)


# --- verbs --------------------------------------------------------------------


def run(args: argparse.Namespace) -> int:
    """Run a plan, or the rest of one; 0 when every verdict is what its role expects."""
    if args.bisect:
        from harness.bisect.once import run as run_once

        return run_once(args, _config(args))
    options.with_bisect(args)
    code = running.resume(args, _config) if args.resume is not None else running.run(args, _config)
    if code == EXIT_INTERRUPTED:  # the runner put everything away; main says where
        raise KeyboardInterrupt
    return code


def build(args: argparse.Namespace) -> int:
    """Build kernels; says for each where its image is."""
    if args.each_patch:
        return _each_patch(args)
    for option, value in (
        ("--series", args.series), ("--from", args.first), ("--no-boot", not args.boot)
    ):  # fmt: skip
        if value:
            raise UsageError(f"{option} goes with --each-patch", hint="harness build --help")
    from harness.kernel.build import ensure
    from harness.places import cache_dir
    from harness.report.terminal import terminal

    config = _config(args)
    # A kernel that no plan runs (one for a benchmark) is built when it is named.
    planned = {name for plan in config.plan.values() for name in plan.kernels}
    wanted = args.kernels or [name for name in config.kernel if name in planned]
    names = [known("kernel", name, config.kernel) for name in wanted]
    cache = cache_dir()
    args.kept = f"what is compiled is kept; go on with: harness build {shlex.join(names)}"
    with terminal(view=args.view) as listen:
        images = [ensure(name, config, cache, listen) for name in names]
    for image in images if args.view != "json" else ():
        how = f"built in {image.seconds:.0f} s" if image.built else "up to date"
        print(f"{image.kernel}: {image.release} ({how})\n  {image.bzimage}")
    return EXIT_EXPECTED


def _each_patch(args: argparse.Namespace) -> int:
    """Build a kernel after each of its patches, and boot it each time."""
    from harness.each_patch import run as run_each
    from harness.places import cache_dir

    if len(args.kernels) != 1:
        raise UsageError("--each-patch takes one kernel", hint="harness build stock --each-patch")
    config = _config(args)
    name = known("kernel", args.kernels[0], config.kernel)

    def going_on(how: str) -> None:
        args.kept = f"what is compiled is kept; go on with: {how}"

    return run_each(
        name,
        config,
        cache_dir(),
        going_on,
        after=args.series,
        first=args.first or 1,
        boot=args.boot,
    )


def bisect(args: argparse.Namespace) -> int:
    """Find the commit or the patch; 0 when it is found, 1 when only a range is."""
    from harness.bisect.verb import run as run_bisect

    return run_bisect(args, _config(args))


def mutants(args: argparse.Namespace) -> int:
    """Turn off one lock site at a time; 0 when each is noticed and nothing else fires."""
    from harness.mutants import run as run_mutants
    from harness.places import cache_dir
    from harness.report.terminal import terminal

    config = _config(args)
    known("plan", args.plan, config.plan)
    with terminal(view=args.view) as listen:
        matrix, directory = run_mutants(
            config,
            args.plan,
            cache_dir(),
            Path("results").absolute(),
            running.remembering(args, listen),
            filesystems=args.filesystem,
            workloads=args.workload,
            switches=args.switch,
            trials=args.trials,
            seed=args.seed,
            jobs=args.jobs,
        )
    if args.view != "json":
        for line in matrix.lines():
            print(line)
        print(directory / "mutants.json")
    return matrix.exit_code


def list_(args: argparse.Namespace) -> int:
    """Everything in harness.toml, for a person."""
    from harness.listing import lines

    for line in lines(_config(args)):
        print(line)
    return EXIT_EXPECTED


def doctor(args: argparse.Namespace) -> int:
    """What this machine has and lacks."""
    from harness.doctor import examine
    from harness.places import cache_dir

    return examine(cache_dir(), Path("results").absolute(), print)


def complete(args: argparse.Namespace) -> int:
    """Shell code for completion."""
    print(completion.code(args.shell))
    return EXIT_EXPECTED


def help_(args: argparse.Namespace) -> int:
    """The whole manual, from the same source as each --help."""
    print("\n\n".join(options.manual(_parser(), args.verbs)))
    return EXIT_EXPECTED


def series(args: argparse.Namespace) -> int:
    """Import, list, apply, check and export series of patches."""
    return series_verbs.run(args, _config(args))


def nightly(args: argparse.Namespace) -> int:
    """Every tree, tonight; 0 when all is as expected."""
    return nightly_verb.run(args, _config(args))


def bench(args: argparse.Namespace) -> int:
    """What the lock costs and gains; 0 when every goal is met."""
    return bench_verb.run(args, _config(args))


def new(args: argparse.Namespace) -> int:
    """A race or a series to start from."""
    return skeleton.run(args, _config(args))


# --- the command line ---------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="harness",
        description="Builds patched kernels, boots them, races them, says what holds.",
        epilog="example:\n  harness run quick -k control -w punch-read-fault",
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    _config_option(parser, None)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    options.run_options(
        _verb(verbs, "run", run, "run a plan and say what it found",
              "harness run quick -k control -f ext4 --trials 40")
    )  # fmt: skip
    options.build_options(_verb(verbs, "build", build, "build kernels", "harness build stock"))
    options.bisect_options(
        _verb(verbs, "bisect", bisect, "find the commit or patch that made a cell what it is",
              "harness bisect --cell stock/ext4/punch-read-fault --series mine")
    )  # fmt: skip
    options.boot_options(
        _verb(verbs, "boot", boot_verb(_config), "boot a kernel to a shell, or run a command in it",
              "harness boot control --exec 'cat /proc/version'")
    )  # fmt: skip
    options.mutants_options(
        _verb(verbs, "mutants", mutants,
              "turn off one lock site at a time and see that it is noticed",
              "harness mutants default -f ext4 -x fault")
    )  # fmt: skip
    report_verb.options(
        _verb(verbs, "report", report_verb.report, "make a run's reports: HTML, KTAP, JUnit, text",
              "harness report --mutants 20261125T115851Z-mutants-default-97ab")
    )  # fmt: skip
    series_verbs.options(
        _verb(verbs, "series", series, "import, check or export series of patches",
              series_verbs.EXAMPLE),
        _configurable,
    )  # fmt: skip
    nightly_verb.options(
        _verb(verbs, "nightly", nightly, "run all trees, and say what is new since last night",
              nightly_verb.EXAMPLE)
    )  # fmt: skip
    bench_verb.options(
        _verb(verbs, "bench", bench, "say what a lock costs and gains, beside the goals",
              bench_verb.EXAMPLE)
    )  # fmt: skip
    skeleton.options(
        _verb(verbs, "new", new, "begin a race or a series", skeleton.EXAMPLE), _configurable
    )
    _verb(
        verbs, "list", list_, "show everything in harness.toml", "harness --config other.toml list"
    )
    replay_verbs.register(verbs, _verb, _config)
    afterwards.register(verbs, _verb, _config)
    _verb(verbs, "doctor", doctor, "say what this machine has and lacks", "harness doctor")
    _verb(
        verbs, "completion", complete, "print code that lets a shell complete names",
        'eval "$(harness completion bash)"',
    ).add_argument("shell", choices=completion.SHELLS)  # fmt: skip
    _verb(
        verbs, "help", help_, "print the help of every verb, or of some", "harness help run rerun"
    ).add_argument("verbs", nargs="*", metavar="VERB")
    return parser


def parse(words: Sequence[str]) -> argparse.Namespace:
    """A command line without the program's name; UsageError when it is none."""
    return _parser().parse_args(words)


def _verb(
    verbs: Any, name: str, function: Callable[[argparse.Namespace], int], what: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example:\n  {example}",
    )
    parser.set_defaults(verb=function)
    _configurable(parser)
    return parser


def _configurable(parser: argparse.ArgumentParser) -> None:
    # Accepted after the verb too; SUPPRESS keeps the value given before it.
    _config_option(parser, argparse.SUPPRESS)


def _config_option(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=default,
        help="default: harness.toml here or above",
    )


# --- what the verbs share -----------------------------------------------------


def _config(args: argparse.Namespace) -> Config:
    from harness.config import load

    if args.config is not None:
        return load(args.config)
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / "harness.toml").is_file():
            return load(Path("harness.toml") if directory == here else directory / "harness.toml")
    raise UsageError(
        f"no harness.toml in {here} or any directory above it",
        hint="harness --config FILE ..., or cd to the checkout",
    )
