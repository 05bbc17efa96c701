# SPDX-License-Identifier: GPL-2.0
"""The verbs for what has been run: compare, history, logs, rerun, ssh, clean."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import ending
from harness.errors import (
    EXIT_CANNOT_TEST,
    EXIT_EXPECTED,
    EXIT_UNEXPECTED,
    InfraError,
    UsageError,
)
from harness.events import silent
from harness.options import view_options, whole
from harness.report.logs import KINDS

if TYPE_CHECKING:
    from harness.config import Config

Load = Callable[[argparse.Namespace], "Config"]
Verb = Callable[[argparse.Namespace], int]
Add = Callable[[Any, str, Verb, str, str], argparse.ArgumentParser]
_DAYS = (0, 100_000)
_RUNS = (1, 1_000_000)
_TRIALS = (1, 1_000_000)


def register(verbs: Any, add: Add, load: Load) -> None:
    """Adds the verbs to the command line; load() gives the Config that the user means."""

    def with_config(function: Callable[[argparse.Namespace, Config], int]) -> Verb:
        return lambda args: function(args, load(args))

    parser = add(verbs, "compare", compare, "say what changed between two runs or two kernels",
                 "harness compare latest:stock latest:candidate")  # fmt: skip
    parser.add_argument("first", metavar="A", help="RUN, KERNEL (of the latest run) or RUN:KERNEL")
    parser.add_argument("second", metavar="B", nargs="?", default="latest",
                        help="likewise (default: latest)")  # fmt: skip
    _json(parser)

    parser = add(verbs, "history", history, "show a cell over the last runs",
                 "harness history stock/ext4/punch-read-fault")  # fmt: skip
    parser.add_argument("cell", metavar="CELL", help="its name, or a part of names")
    parser.add_argument("-n", "--last", type=whole(_RUNS), default=20, metavar="N",
                        help="runs, at most (default: 20)")  # fmt: skip
    _json(parser)

    parser = add(verbs, "logs", logs, "show what a run has of a cell",
                 "harness logs latest stock/ext4/punch-read-fault hang")  # fmt: skip
    parser.add_argument("run", nargs="?", default="latest", metavar="RUN", help="default: latest")
    parser.add_argument("cell", nargs="?", metavar="CELL", help="without it: all of them, by name")
    parser.add_argument("kind", nargs="?", default="console", metavar="WHAT",
                        help="what to show (default: console)", choices=KINDS)  # fmt: skip

    parser = add(verbs, "rerun", with_config(rerun), "run a cell of an earlier run again",
                 "harness rerun latest stock/ext4/punch-read-fault --gdb")  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="its name, a part of it, or latest")
    parser.add_argument("cell", metavar="CELL", help="its name, or a part that no other has")
    parser.add_argument("--trials", type=whole(_TRIALS), metavar="N", help="instead of the run's")
    view_options(parser)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--gdb", action="store_true", help="let the guest wait for gdb")
    way.add_argument("--shell", action="store_true", help="go into the guest instead")

    parser = add(verbs, "ssh", ssh, "go into a guest that `harness boot` has started",
                 "harness ssh stock -- uname -r")  # fmt: skip
    parser.add_argument("kernel", nargs="?", default="", metavar="KERNEL", help="if several run")
    parser.add_argument("command", nargs="*", metavar="CMD", help="run it instead of a shell")

    parser = add(verbs, "clean", with_config(clean), "remove old runs and what nobody uses",
                 "harness clean --older-than 14")  # fmt: skip
    parser.add_argument("--older-than", type=whole(_DAYS), default=30, metavar="DAYS",
                        help="default: 30")  # fmt: skip
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def _results() -> Path:
    return Path("results").absolute()


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)


def compare(args: argparse.Namespace) -> int:
    """What changed; 1 when something is worse, 125 when there is nothing to compare."""
    from harness.report import compare as comparing

    sides = [comparing.side(_results(), words) for words in (args.first, args.second)]
    found = comparing.compare(*sides)
    if args.json:
        document = {
            "first": found.first.label,
            "second": found.second.label,
            "common": found.common,
            "worse": found.worse,
            "changes": [change.to_json() for change in found.changes],
        }
        print(json.dumps(document, indent=2))
    else:
        _say(comparing.lines(found))
    if found.worse:
        return EXIT_UNEXPECTED
    return EXIT_EXPECTED if found.common else EXIT_CANNOT_TEST


def history(args: argparse.Namespace) -> int:
    """A cell over the last runs with its rate."""
    from harness.report import history as histories

    found = histories.history(_results(), args.cell, args.last)
    if args.json:
        print(json.dumps({name: [e.to_json() for e in each] for name, each in found.items()}))
    else:
        _say(histories.lines(found))
    return EXIT_EXPECTED


def logs(args: argparse.Namespace) -> int:
    """A file of a cell, safe for the terminal; or what there is."""
    from harness.experiment.store import read_run
    from harness.report import logs as reading
    from harness.report import runs

    directory = runs.find(_results(), args.run)
    document = read_run(directory)
    if args.cell is None:
        _say(list(reading.overview(document, directory)))
        return EXIT_EXPECTED
    cell = runs.cell(document, args.cell)
    for line in reading.text(directory / cell["directory"], args.kind):
        print(line)
    return EXIT_EXPECTED


def rerun(args: argparse.Namespace, cfg: Config) -> int:
    """A cell again: the same kernel, the same seed; 0 when it is as expected."""
    from harness import rerun as again
    from harness.experiment.store import read_run
    from harness.places import cache_dir
    from harness.report import runs
    from harness.report.terminal import terminal

    directory = runs.find(_results(), args.run)
    document, cache = read_run(directory), cache_dir()
    cell = runs.cell(document, args.cell)
    if args.shell:
        with terminal(view=args.view) as listen:  # it must have gone before the guest's shell comes
            again.kernel(document, cell["kernel"], cfg, cache, listen)

        def go(argv: Sequence[str], command: str) -> int:
            ending.say(f"in the guest, {cell['name']} is: {command}")
            return enter(argv)

        return again.shell(document, cell, cfg, cache, silent, go)
    if args.gdb:
        with terminal(view=args.view) as listen:
            verdict = again.under_gdb(
                document, cell, cfg, cache, listen, ending.say, args.trials
            )
        print(f"{cell['name']}: {verdict.claim}")
        return EXIT_EXPECTED if verdict.as_expected else EXIT_UNEXPECTED
    return _rerun(args, cfg, document, again.arguments(cell))


def _rerun(args: argparse.Namespace, cfg: Config, document: Any, words: Sequence[str]) -> int:
    from harness import rerun as again
    from harness.cli import parse
    from harness.experiment.runner import run_plan
    from harness.places import cache_dir
    from harness.report.terminal import terminal

    asked = parse(words)
    cache = cache_dir()
    with terminal(view=args.view) as listen:
        for kernel in asked.kernel:  # before a run is begun
            again.kernel(document, kernel, cfg, cache, listen)
        _run, code = run_plan(
            cfg,
            asked.plan,
            cache,
            _results(),
            listen,
            kernels=asked.kernel,
            filesystems=asked.filesystem,
            workloads=asked.workload,
            trials=args.trials or asked.trials,
            seed=asked.seed,
            modes=[asked.mode] if asked.mode else [],
            rooms=again.exact(document),
        )
    return code


def ssh(args: argparse.Namespace) -> int:
    """Into a guest that runs; the exit status of what was done there."""
    from harness.guest.invitation import SCRIPT
    from harness.places import cache_dir

    found = sorted(cache_dir().glob(f"boot-*/{SCRIPT}"))
    names = {path: path.parent.name.removeprefix("boot-").rpartition("-")[0] for path in found}
    ours = [path for path in found if args.kernel in ("", names[path])]
    if not ours:
        kernel = args.kernel or "KERNEL"
        raise UsageError(
            "no guest" + (f" of kernel {args.kernel!r}" if args.kernel else "") + " is running",
            hint=f"harness boot {kernel} (in another terminal)",
        )
    if len(ours) > 1:
        several = ", ".join(names[path] for path in ours)
        raise UsageError(f"{len(ours)} guests are running: {several}", hint="harness ssh KERNEL")
    return subprocess.call(["sh", str(ours[0]), *args.command])


def enter(argv: Sequence[str]) -> int:
    """A person's time in a guest, by the argv of Machine.invite(); its exit status."""
    if shutil.which(argv[0]) is None:
        raise InfraError(f"{argv[0]} is not installed", hint="sudo apt-get install openssh-client")
    return subprocess.call([*argv, "-t"] if sys.stdin.isatty() else list(argv))


def clean(args: argparse.Namespace, cfg: Config) -> int:
    """Says what may go and how much it is, asks, and removes it."""
    from harness import clean as cleaning
    from harness.places import cache_dir

    items = cleaning.find(cfg, cache_dir(), _results(), args.older_than * cleaning.DAY_S)
    if not items:
        print(f"nothing is older than {args.older_than} days and not in use")
        return EXIT_EXPECTED
    for item in items:
        print(f"{cleaning.size(item.size):>10}  {item.what}: {item.path}")
    print(f"{cleaning.size(sum(item.size for item in items)):>10}  together")
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError(
                "nothing was removed: there is nobody to ask",
                hint=f"harness clean --older-than {args.older_than} --yes",
            )
        if input("remove it? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return EXIT_EXPECTED
    for item in items:
        cleaning.remove(item)
    return EXIT_EXPECTED
