# SPDX-License-Identifier: GPL-2.0
"""`harness completion SHELL`: what to eval, and the names that the shell then offers.

The shell runs the program itself for each Tab (argcomplete), so that it knows the names
in harness.toml and the runs in results/ as they are at that moment.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harness.places import COORDINATES

SHELLS = ("bash", "zsh", "fish")
ASKED = "_ARGCOMPLETE"  # argcomplete's own word for "a shell is asking"


def code(shell: str, program: str = "harness") -> str:
    """Shell code to be evaluated once, in ~/.bashrc and the like."""
    from argcomplete.shell_integration import shellcode

    return str(shellcode([program], shell=shell))


def answer(parser: argparse.ArgumentParser, load: Callable[[argparse.Namespace], Any]) -> None:
    """Answers a shell that asks, and ends the process; returns at once when none does."""
    if ASKED not in os.environ:
        return
    import argcomplete

    for verb in _verbs(parser):
        for action in verb._actions:
            if kind := _kind(action):
                action.completer = _names(kind, load)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _verbs(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _kind(action: argparse.Action) -> str:
    """What the value of an option or argument is the name of, "" if of nothing that we know."""
    return {
        "kernel": "kernel", "kernels": "kernel", "filesystem": "filesystem",
        "workload": "workload", "plan": "plan", "guest": "guest", "run": "run", "cell": "cell",
        "first": "run", "second": "run", "resume": "run", "coordinates": "coordinate",
        "again": "coordinate",
    }.get(action.dest, "")  # fmt: skip


def _names(
    kind: str, load: Callable[[argparse.Namespace], Any]
) -> Callable[..., Iterable[str]]:
    def names(parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
        try:
            if kind == "coordinate":
                return [path.stem for path in load(parsed_args).root.glob(f"{COORDINATES}/*.toml")]
            if kind in ("run", "cell"):
                return list(_of_runs(kind, parsed_args))
            return list(getattr(load(parsed_args), kind))
        except Exception:  # the shell has no place for what is wrong with harness.toml
            return []

    return names


def _of_runs(kind: str, args: argparse.Namespace) -> Iterable[str]:
    from harness.experiment.store import read_run
    from harness.report import runs

    root = Path("results").absolute()
    if kind == "run":
        return ["latest", *(path.name for path in runs.every(root))]
    document = read_run(runs.find(root, getattr(args, "run", None) or "latest"))
    return [cell["name"] for cell in document["cells"]]
