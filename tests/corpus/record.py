# SPDX-License-Identifier: GPL-2.0
"""Record the corpus of console logs: boot, provoke, wait for the complaint, write it down.

    .venv/bin/python -m tests.corpus.record            # every log of recipes.py
    .venv/bin/python -m tests.corpus.record -k lockdep # those whose name has this in it
    .venv/bin/python -m tests.corpus.record --check    # write nothing: are the titles the same?
    .venv/bin/python -m tests.corpus.record --reread   # boot nothing: what are they read as now?

Each log lies beside a JSON file with what it must be read as, and how it was made.  What
the reader made of a new log is only a draft of that: look at it before it is committed
(`git diff tests/corpus`).  A log is cut at its head, where the boot is the same for all.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import Config, load
from harness.errors import BootError, HarnessError
from harness.events import Event
from harness.experiment.preflight import DEVICE, MOUNT_POINT
from harness.guest.machine import Machine, MachineSpec
from harness.guest.qemu import Accelerator, probe_accelerator
from harness.guest.splat import Splat, emulator_fault, scan
from harness.kernel.build import ensure
from harness.kernel.image import Image
from harness.places import cache_dir
from tests.corpus.recipes import RECIPES, Recipe

HERE = Path(__file__).parent
LOGS = HERE / "logs"
SETTLED_S = 2.0  # without another byte: the kernel has said all
SMALL = ("stock", "control", "candidate", "provoke")  # the others take the guest "debug"
LONGEST = 30_000  # bytes of a log; who complains all the time says the same
HEAD = b"Run /"  # "... as init process": what comes before it is the boot
BUSY = 2.0  # how much longer a busy host may take
TRIES = 3  # a fault of the emulator is not what was to be recorded


class RecordError(Exception):
    """A log that could not be made; the text says why."""


@dataclass(frozen=True)
class Lab:
    """What all recordings have in common."""

    cfg: Config
    cache: Path
    accelerator: Accelerator

    def image(self, kernel: str) -> Image:
        return ensure(kernel, self.cfg, self.cache, _say)

    def machine(self, recipe: Recipe, directory: Path) -> Machine:
        guest = self.cfg.guest["small" if recipe.kernel in SMALL else "debug"]
        spec = MachineSpec.of(
            guest, self.image(recipe.kernel).bzimage, self.accelerator, {}, *recipe.cmdline
        )
        return Machine(spec, directory, self.cfg.root, self.cache, name=recipe.name)


def _say(event: Event) -> None:
    if event.done is None and event.kind not in ("command", "boot"):
        print(f"    {event.subject}: {event.message}", flush=True)


def sort_of(splat: Splat) -> set[str]:
    """What a recipe may call this report."""
    return {splat.kind, f"{splat.kind}/{splat.sub}"}


def missing(wants: Sequence[str], found: Sequence[Splat]) -> list[str]:
    """Those of `wants` that `found` does not have in this order."""
    rest, left = list(wants), list(found)
    while rest and left:
        if rest[0] in sort_of(left.pop(0)):
            rest.pop(0)
    return rest


def expectation(log: bytes) -> list[dict[str, Any]]:
    """What a log is read as, in the form of the JSON files."""
    return [
        {
            "kind": splat.kind,
            "sub": splat.sub,
            "title": splat.title,
            "interleaved": splat.interleaved,
        }
        for splat in scan(log)
    ]


def trimmed(log: bytes, source: Path) -> bytes:
    """Without the boot before the first program, and without the host's path of the source."""
    log = log.replace(bytes(source) + b"/", b"")
    at = log.find(HEAD)
    log = log[log.rfind(b"\n", 0, at) + 1 :] if at >= 0 else log
    return log if len(log) <= LONGEST else log[: log.rfind(b"\n", 0, LONGEST) + 1]


def run(lab: Lab, recipe: Recipe) -> bytes:
    """The console of one boot in which `recipe` was followed."""
    with tempfile.TemporaryDirectory(prefix="corpus-") as place:
        machine = lab.machine(recipe, Path(place))
        try:
            with machine:
                _follow(lab, recipe, machine)
        except BootError as error:
            if recipe.boots:
                raise RecordError(f"did not boot: {error.message}") from error
        return machine.console()


def _follow(lab: Lab, recipe: Recipe, machine: Machine) -> None:
    if recipe.filesystem:
        filesystem = lab.cfg.filesystem[recipe.filesystem]
        for command in (
            shlex.join([*filesystem.mkfs, DEVICE]),
            f"mkdir -p {MOUNT_POINT}",
            f"mount -t {filesystem.type} {DEVICE} {MOUNT_POINT}",
        ):
            done = machine.run(command)
            if done.status != 0:
                raise RecordError(f"{command}: {done.stderr.strip()}")
    script = f"sleep 0.3; {recipe.script}"
    machine.run(f"setsid sh -c {shlex.quote(script)} </dev/null >/dev/null 2>&1 &")
    limit = recipe.seconds * BUSY
    began = grown = time.monotonic()
    size, unseen = -1, list(recipe.wants)
    if not recipe.wants:
        time.sleep(recipe.seconds)
        return
    while unseen or time.monotonic() - grown < SETTLED_S:
        time.sleep(0.25)
        log = machine.console()
        if len(log) != size:
            size, grown = len(log), time.monotonic()
            unseen = missing(recipe.wants, scan(log))
        if time.monotonic() - began > limit:
            break


def record(lab: Lab, recipe: Recipe) -> tuple[bytes, dict[str, Any]]:
    """The log of a recipe and what belongs beside it."""
    for _ in range(TRIES):
        log = run(lab, recipe)
        if not emulator_fault(log):
            break
    if not recipe.name.startswith("clean-"):
        log = trimmed(log, lab.cache / "kernels" / recipe.kernel / "src")
    found = scan(log)
    if unseen := missing(recipe.wants, found):
        raise RecordError(f"no {unseen[0]}, but {[sorted(sort_of(each)) for each in found]}")
    if not recipe.wants and found:
        raise RecordError(f"a report where there must be none: {found[0].title}")
    return log, {
        "kernel": recipe.kernel,
        "provoked": recipe.script,
        "cmdline": list(recipe.cmdline),
        "filesystem": recipe.filesystem,
        "reports": expectation(log),
    }


def differences(name: str, beside: Mapping[str, Any]) -> list[str]:
    """In what a new recording differs from the one that is kept."""
    path = LOGS / f"{name}.json"
    if not path.exists():
        return ["there is none yet"]
    kept, new = json.loads(path.read_text())["reports"], beside["reports"]
    told = {(each["kind"], each["title"]) for each in kept}
    seen = {(each["kind"], each["title"]) for each in new}
    return [f"gone: {each}" for each in told - seen] + [f"new: {each}" for each in seen - told]


def reread() -> None:
    """What the reader makes of the logs that are there, as a draft of their JSON files."""
    for path in sorted(LOGS.glob("*.json")):
        beside = json.loads(path.read_text())
        beside["reports"] = expectation(path.with_suffix(".log").read_bytes())
        path.write_text(json.dumps(beside, indent=2) + "\n")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="record the corpus of console logs")
    parser.add_argument("-k", metavar="WORD", default="", help="only names with this in them")
    parser.add_argument("--only", metavar="NAME", default="", help="only this one")
    parser.add_argument("--kernel", default="", help="only logs of this kernel")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--missing", action="store_true", help="only those that are not there")
    parser.add_argument("--reread", action="store_true", help="only read them again")
    args = parser.parse_args(argv)
    if args.reread:
        reread()
        return 0
    cfg = load(HERE.parents[1] / "harness.toml")
    lab = Lab(cfg, cache_dir(), probe_accelerator("auto"))
    LOGS.mkdir(exist_ok=True)
    failed = 0
    for recipe in RECIPES:
        path = LOGS / f"{recipe.name}.log"
        if args.only not in ("", recipe.name):
            continue
        if args.k not in recipe.name or args.kernel not in ("", recipe.kernel):
            continue
        if args.missing and path.exists():
            continue
        began = time.monotonic()
        try:
            log, beside = record(lab, recipe)
        except (RecordError, HarnessError) as error:
            failed += 1
            print(f"FAILED {recipe.name}: {error}", flush=True)
            continue
        took = time.monotonic() - began
        print(f"{recipe.name}: {len(log)} bytes, {took:.1f} s", flush=True)
        for report in beside["reports"]:
            print(f"    {report['kind']}/{report['sub']}: {report['title']}", flush=True)
        if args.check:
            told = differences(recipe.name, beside)
            failed += bool(told)
            for line in told:
                print(f"    DIFFERS {line}", flush=True)
        else:
            path.write_bytes(log)
            path.with_suffix(".json").write_text(json.dumps(beside, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
