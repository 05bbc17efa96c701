# SPDX-License-Identifier: GPL-2.0
"""`harness run --cell C --bisect`: one commit judged, for `git bisect run` in the user's own tree.

git bisect knows no "no idea yet", and takes every exit code but 0 and 125 for "bad".  So
0 is good, 1 is bad, and whatever else may be is 125.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import msgspec

from harness.bisect.asked import cell as one_cell
from harness.bisect.bench import Stand
from harness.bisect.question import Question, Sight, Wanted, conflict_title
from harness.config import Config
from harness.errors import (
    EXIT_CANNOT_TEST,
    EXIT_EXPECTED,
    EXIT_UNEXPECTED,
    BuildError,
    UsageError,
)
from harness.events import Event
from harness.experiment import store
from harness.experiment.plan import Cell, cell_seed
from harness.experiment.runner import Rooms
from harness.options import known
from harness.plain import printable

SAYS = {EXIT_EXPECTED: "good", EXIT_UNEXPECTED: "bad", EXIT_CANNOT_TEST: "cannot be tested"}


def run(args: argparse.Namespace, cfg: Config, rooms: Rooms | None = None) -> int:
    """Builds the kernel from the tree as it is now, runs the cell, says what it is in a line."""
    from harness.places import cache_dir
    from harness.report.terminal import terminal

    if not args.cell:
        raise UsageError("--bisect wants --cell", hint="harness list")
    for name in ("kernel", "filesystem", "workload", "resume", "budget", "mode", "core"):
        if getattr(args, name):
            raise UsageError(f"--bisect is for one cell: no --{name}", hint="harness run --help")
    plan, job = one_cell(cfg, args.cell, args.plan or "quick", args.trials, args.seed)
    if args.tree:
        cfg = with_tree(cfg, job.kernel, Path(args.tree))
    cache, rooms = cache_dir(), rooms or Rooms()
    with terminal(view=args.view) as listen:
        seed = plan.seed if args.seed is None else args.seed
        stand = Stand(cfg, plan, job.kernel, job, cache, listen, rooms, seed)
        # Not in the current directory: that may be the tree, of which it would be a part.
        kept = store.Run(cfg.root.absolute() / "results", "bisect-run")
        try:
            listen(Event("run", kept.id, f"results in {kept.directory}"))
            code, said = look(stand, job, kept, args.want)
        finally:
            kept.close()
    print(printable(f"{job.name}: {SAYS[code]}: {said}"))
    return code


def with_tree(cfg: Config, kernel: str, directory: Path) -> Config:
    """The same experiment, with the kernel's source in a directory as it is now."""
    name = cfg.kernel[known("kernel", kernel, cfg.kernel)].tree
    here = type(cfg.tree[name])(
        kind="dir", line=cfg.tree[name].line, path=str(directory.expanduser().absolute())
    )
    return msgspec.structs.replace(cfg, tree={**cfg.tree, name: here})


def look(stand: Stand, job: Cell, kept: store.Run, want: Wanted | None) -> tuple[int, str]:
    """The exit code, and what was seen."""
    if want not in ("apply", "build"):
        stand.prepare()
    try:
        made = stand.rooms.ensure(job.kernel, stand.cfg, stand.cache, stand.listen)
    except BuildError as error:
        conflict = conflict_title(error.message) != error.message.removeprefix("series ")
        sight = Sight("apply" if conflict else "build", why=error.message)
        return code_of(sight, job, want, False), str(sight)
    directory = kept.cell_directory(job.name)
    if want in ("apply", "build"):
        sight = Sight("built")
        return code_of(sight, job, want, True), str(sight)
    if want == "boot":
        sight = stand.boot(made, directory)
        return code_of(sight, job, want, True), str(sight)
    # One exposure settles it, where none is wanted.
    hits = 1 if not job.open and want in (None, "exposed") else 0
    seed = cell_seed(stand.seed, job.name)
    attempt, verdict = stand.attempt(made, directory, job.trials, hits, seed)
    if attempt.boot_failed:
        return EXIT_CANNOT_TEST, verdict.claim
    sight = Sight(verdict.state, why=verdict.claim)
    return code_of(sight, job, want, verdict.as_expected), verdict.claim


def code_of(sight: Sight, job: Cell, want: Wanted | None, as_expected: bool) -> int:
    """0 good, 1 bad, 125 no answer.

    Without `want`, bad is what is not expected of the kernel's role; with it bad is that
    and nothing else.
    """
    if want is None:
        if sight.kind in ("apply", "build", "boot", "untested", "lost"):
            return EXIT_CANNOT_TEST
        return EXIT_EXPECTED if as_expected else EXIT_UNEXPECTED
    if want == "held":  # the race is gone
        return {"held": EXIT_UNEXPECTED, "exposed": EXIT_EXPECTED}.get(sight.kind, EXIT_CANNOT_TEST)
    if sight.kind == want:
        return EXIT_UNEXPECTED
    bare = dataclasses.replace(sight, titles=())
    answer = Question(want, "", "bad", job.open).answer(bare)
    return EXIT_EXPECTED if answer == "miss" else EXIT_CANNOT_TEST
