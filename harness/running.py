# SPDX-License-Identifier: GPL-2.0
"""`harness run`: a plan, or the rest of one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from harness import options
from harness.events import Event, Listener

if TYPE_CHECKING:
    from harness.config import Config

    Load = Callable[[argparse.Namespace], Config]


def run(args: argparse.Namespace, load: Load) -> int:
    """Run a plan; the exit code."""
    from harness.ahead import Ahead
    from harness.places import cache_dir

    config, cache, plan = load(args), cache_dir(), args.plan or "quick"
    with Ahead(config, _kernels(config, plan, args.kernel), cache) as ahead:
        from harness.experiment.runner import run_plan
        from harness.report.terminal import terminal

        with terminal(view=args.view) as listen:
            _finished, code = run_plan(
                config,
                plan,
                cache,
                Path("results").absolute(),
                remembering(args, listen, resumes=True),
                kernels=args.kernel,
                filesystems=args.filesystem,
                workloads=args.workload,
                trials=args.trials,
                seed=args.seed,
                jobs=args.jobs,
                budget_s=args.budget,
                modes=[args.mode] if args.mode else [],
                bench=args.bench,
                core=args.core,
                rooms=ahead.rooms(),
            )
    return code


def resume(args: argparse.Namespace, load: Load) -> int:
    """Go on with a run that ended early, as it was asked for; the exit code."""
    from harness.experiment.runner import resume_plan
    from harness.places import cache_dir
    from harness.report.terminal import terminal

    options.alone(args)
    with terminal(view=args.view) as listen:
        _finished, code = resume_plan(
            load(args),
            cache_dir(),
            Path("results").absolute(),
            remembering(args, listen, resumes=True),
            run=args.resume,
            jobs=args.jobs,
        )
    return code


def remembering(
    args: argparse.Namespace, listen: Listener, *, resumes: bool = False
) -> Listener:
    """`listen`, noting on the way where the run keeps its cells, for who interrupts it."""

    def listener(event: Event) -> None:
        if directory := event.data.get("directory"):
            args.kept = f"finished cells are kept in {directory}"
            if resumes:
                args.kept += f"; go on with: harness run --resume {Path(directory).name}"
        listen(event)

    return listener


def _kernels(cfg: Config, plan: str, asked: Sequence[str]) -> list[str]:
    """Of the plan, those that are asked for, in the order in which they will be wanted.

    None when there is no such plan: run_plan() says so.
    """
    from harness.words import Role

    entry = cfg.plan.get(plan)
    names = entry.kernels if entry is not None else []
    wanted = [name for name in names if not asked or name in asked]
    # As plans.cells() has them, whose module takes its time: what must fire comes first.
    order = get_args(Role)
    return sorted(wanted, key=lambda name: order.index(cfg.kernel[name].role))
