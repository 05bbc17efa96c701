# SPDX-License-Identifier: GPL-2.0
"""`harness series ...`: what it takes, and what it says."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import EXIT_EXPECTED, EXIT_UNEXPECTED, UsageError
from harness.options import whole
from harness.places import cache_dir
from harness.plain import printable

if TYPE_CHECKING:
    from harness.config import Config
    from harness.series.check import Report

EXAMPLE = "harness series import mine ~/linux/outgoing --kernel mine"


def options(
    parser: argparse.ArgumentParser, config: Callable[[argparse.ArgumentParser], None]
) -> None:
    """What `harness series` takes; `config` adds the option --config to each verb."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(name: str, function: Callable[..., int], what: str, example: str) -> Any:
        made = verbs.add_parser(
            name, help=what, description=what[0].upper() + what[1:] + ".",
            epilog=f"example:\n  harness series {example}",
        )  # fmt: skip
        made.set_defaults(part=function)
        config(made)
        return made

    new = verb("import", import_, "take a series into patches/ (and make a kernel of it)",
               "import mine ~/linux/outgoing --kernel mine")  # fmt: skip
    new.add_argument("name", metavar="NAME")
    new.add_argument("source", metavar="SOURCE",
                     help="folder of git format-patch files, mbox (b4 am), or -")  # fmt: skip
    new.add_argument("--git", type=Path, metavar="REPO",
                     help="SOURCE is a range of its commits, such as v6.12..")  # fmt: skip
    new.add_argument("--line", metavar="LINE", help="tree line (default: that of the first tree)")
    new.add_argument("--kernel", default="", metavar="NAME",
                     help="add a kernel with it to harness.toml")  # fmt: skip
    new.add_argument("--force", action="store_true", help="replace what is there")

    verb("list", list_, "say which series there are, and who uses them", "list")

    look = verb("apply", apply, "make a git worktree with a series applied, to look at",
                "apply mine --to /tmp/mine")  # fmt: skip
    look.add_argument("name", metavar="NAME")
    look.add_argument("--line", metavar="LINE", help="tree line (default: that of the first tree)")
    look.add_argument("--to", type=Path, metavar="DIR", help="default: in the cache")

    test = verb("check", check, "say where a series applies, and what checkpatch and sparse say",
                "check mine --build")  # fmt: skip
    test.add_argument("name", metavar="NAME")
    test.add_argument("--build", action="store_true", help="build and boot after each patch")
    test.add_argument("--kernel", default="", metavar="NAME",
                      help="with which to build (default: the first that has it)")  # fmt: skip
    test.add_argument("--no-boot", dest="boot", action="store_false", help="... build only")
    test.add_argument("--no-checkpatch", dest="checkpatch", action="store_false", help="leave out")

    out = verb("export", export, "write a series as mails, with a cover letter",
               "export mine outgoing --run latest --cover letter.txt")  # fmt: skip
    out.add_argument("name", metavar="NAME")
    out.add_argument("to", type=Path, metavar="DIR")
    out.add_argument("--line", metavar="LINE", help="tree line (default: that of the first tree)")
    out.add_argument("--run", default="", metavar="RUN", help="with the verdicts of this run")
    out.add_argument("--cover", type=Path, metavar="FILE", help="its text; first line: the subject")
    out.add_argument("--reroll-count", type=whole((1, 999)), default=1, metavar="N",
                     help='for "[PATCH vN"')  # fmt: skip
    out.add_argument("--force", action="store_true", help="replace patches that are there")


def run(args: argparse.Namespace, config: Config) -> int:
    """One verb of `harness series`; the exit code."""
    code: int = args.part(args, config)
    return code


def _line(args: argparse.Namespace, config: Config) -> str:
    from harness.series.base import lines
    from harness.series.table import default_line

    if args.line:
        return str(args.line)
    default = default_line(config)
    if args.part is import_:
        return default
    known = lines(config, args.name)
    return default if default in known else known[-1]


def import_(args: argparse.Namespace, config: Config) -> int:
    """Take a series in; says what it is called now, and what to type next."""
    from harness.series import importing

    if args.git is not None:
        collected = importing.from_git(args.git, args.source)
    else:
        named = "/dev/stdin" if args.source == "-" else args.source
        collected = importing.from_source(Path(named))
    source = f"{args.git} {args.source}" if args.git else args.source
    line = _line(args, config)
    done = importing.store(
        config, args.name, line, collected,
        remark=f"Series {args.name}, imported from {source}.", kernel=args.kernel,
        force=args.force,
    )  # fmt: skip
    for subject in done.passed_over:
        print(f"passed over, no patch: {printable(subject)}")
    for name in done.patches:
        print(f"  {name}")
    number = len(done.patches)
    print(f"{done.place}: {number} patch{'es' if number != 1 else ''}")
    if done.table:
        print(f"{config.path}: added\n{done.table}", end="")
    if args.kernel:
        print(f"next: harness run quick -k control -k {shlex.quote(args.kernel)}")
    else:
        print(f"next: harness series check {shlex.quote(args.name)}")
    return EXIT_EXPECTED


def list_(_args: argparse.Namespace, config: Config) -> int:
    """One line per series and tree line."""
    from harness.series.base import entries

    rows = [
        (e.name, e.line, str(e.patches) if e.patches >= 0 else "broken",
         " ".join(e.kernels) or "(no kernel)")
        for e in entries(config)
    ]  # fmt: skip
    head = ("series", "line", "patches", "kernels")
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(3)]
    for row in [head, *rows]:
        left = "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=False))
        print(printable(f"{left}  {row[3]}"))
    return EXIT_EXPECTED


def apply(args: argparse.Namespace, config: Config) -> int:
    """A worktree to look at; its path is the last line."""
    from harness.report.terminal import terminal
    from harness.series import base

    line = _line(args, config)
    base.lines(config, args.name)
    with terminal() as listen:
        place, on, below = base.worktree(config, args.name, line, args.to, cache_dir(), listen)
    print(f"{args.name} on {on}; git log {below[:12]}.. shows its patches")
    print(place)
    return EXIT_EXPECTED


def check(args: argparse.Namespace, config: Config) -> int:
    """Where it applies, and how clean it is; 1 when a port conflicts or an error is found."""
    from harness.report.terminal import terminal
    from harness.series import check as checking
    from harness.series import sparse

    cache, reports = cache_dir(), []
    if not args.build and (args.kernel or not args.boot):
        raise UsageError(
            f"{'--kernel' if args.kernel else '--no-boot'} goes with --build",
            hint="harness series check --help",
        )
    for tree, of in checking.trees(config, args.name):
        with terminal() as listen:
            report = checking.check(
                config, args.name, tree, of, cache, listen, checkpatch=args.checkpatch
            )
        _say(report)
        reports.append(report)
    user = next((report.base.kernel for report in reports if report.base.kernel), "")
    with terminal() as listen:
        found = sparse.check(config, args.name, user, cache, listen)
    if found.unchecked:
        print(f"sparse: not run: {found.unchecked}")
    else:
        other = f", {found.old} on lines it leaves alone" if found.old else ""
        print(f"sparse: {len(found.new)} on lines it changes{other} ({found.files} files)")
        for line in found.new:
            print(f"  {printable(line)}")
    bad = any(report.bad for report in reports) or bool(found.new)
    if args.build:
        built = _build(args, config, args.kernel or user, cache)
        return built or (EXIT_UNEXPECTED if bad else EXIT_EXPECTED)
    return EXIT_UNEXPECTED if bad else EXIT_EXPECTED


def _say(report: Report) -> None:
    from harness.series.check import summary

    print(f"{report.base}: {report.verdict}")
    if report.verdict == "no port":
        print(f"  no patches for {report.line}; those for {report.of}: {report.tried}")
    upstream = [patch.file.name for patch in report.patches if patch.fate == "upstream"]
    if upstream and report.tried != "already upstream":
        print(f"  already upstream: {', '.join(map(printable, upstream))}")
    for patch in report.patches:
        for where in patch.where:
            what = "does not fit" if patch.fate == "conflicts" else "found at"
            print(f"  {printable(patch.file.name)}: {what}: {printable(where)}")
    if report.unchecked:
        print(f"  checkpatch: not run: {printable(report.unchecked)}")
        return
    print(f"  checkpatch: {summary(report.findings)}")
    for patch in report.patches:
        for finding in patch.findings:
            print(f"    {printable(f'{patch.file.name}:{finding}')}")


def _build(args: argparse.Namespace, config: Config, kernel: str, cache: Path) -> int:
    from harness.each_patch import run as run_each
    from harness.series.base import names

    if not kernel:
        raise UsageError(
            f"--build needs a kernel with the series {args.name!r}, and harness.toml has none",
            hint="harness series import NAME SOURCE --kernel NAME",
        )
    if kernel not in config.kernel or args.name not in names(config.kernel[kernel].series):
        raise UsageError(f"no kernel {kernel!r} with the series {args.name!r}", hint="harness list")

    def going_on(how: str) -> None:
        args.kept = f"what is compiled is kept; go on with: {how}"

    return run_each(kernel, config, cache, going_on, after=args.name, boot=args.boot)


def export(args: argparse.Namespace, config: Config) -> int:
    """Mails for git send-email; says their names."""
    from harness.report.terminal import terminal
    from harness.series.export import export as write
    from harness.series.folder import NO_SUBJECT

    line = _line(args, config)
    with terminal() as listen:
        files = write(
            config, args.name, line, args.to, cache_dir(), listen, run=args.run,
            cover=args.cover, reroll=args.reroll_count, force=args.force,
        )  # fmt: skip
    for file in files:
        print(file)
    if NO_SUBJECT in files[0].read_text(errors="replace"):
        print(f"next: write the text of {files[0]}, then git send-email {args.to}")
    else:
        print(f"next: git send-email {args.to}")
    return EXIT_EXPECTED
