# SPDX-License-Identifier: GPL-2.0
"""`harness bisect`: what it takes, and what it says at the end."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from harness.bisect import bench, journal, question, span
from harness.bisect.asked import Asked, cell, figure
from harness.bisect.journal import Journal
from harness.bisect.search import Decision, Finding, Search, Terms
from harness.bisect.walk import Walk
from harness.config import Config
from harness.errors import EXIT_EXPECTED, EXIT_UNEXPECTED, UsageError
from harness.events import Event, Listener
from harness.experiment import facts, store
from harness.experiment.runner import Rooms
from harness.experiment.statistics import percent
from harness.kernel import build
from harness.options import known
from harness.plain import printable


def run(args: argparse.Namespace, cfg: Config, rooms: Rooms | None = None) -> int:
    """Find the commit; 0 when it is found, 1 when only a range is, or the ends are the same."""
    from harness.places import cache_dir
    from harness.report.terminal import terminal

    cache, results = cache_dir(), Path("results").absolute()
    with terminal(view=args.view) as listen:
        document = search(args, cfg, cache, results, listen, rooms or Rooms())
    if args.view == "json":
        print(json.dumps({"kind": "bisect", "result": document}), flush=True)
    else:
        for line in lines(document):
            print(printable(line))
    return EXIT_EXPECTED if document["first_bad"] else EXIT_UNEXPECTED


def search(
    args: argparse.Namespace, cfg: Config, cache: Path, results: Path, listen: Listener,
    rooms: Rooms,
) -> dict[str, Any]:  # fmt: skip
    """The whole of it; what bisect.json says."""
    if args.resume is None:
        place, before = None, {}
        asked = _asked(args, cfg)
    else:
        _alone(args)
        place = journal.find(results, args.resume)
        before = journal.asked(place)
        asked = Asked.from_json(before)
        known("kernel", asked.kernel, cfg.kernel)
    plan, job = cfg.plan[asked.plan], None
    if asked.cell:
        plan, job = cell(cfg, asked.cell, asked.plan, asked.trials, asked.seed)
        # How often it must fire is the role's question, not that of a bisection.
        job = dataclasses.replace(job, min_rate=0.0)
    recipe = build.resolve(asked.kernel, cfg, cache, listen)
    if asked.series:
        ground = span.of_patches(recipe, asked.series, asked.good, asked.bad, cfg, cache, listen)
    else:
        good, bad = before.get("ends") or (asked.good, asked.bad)
        ground = span.of_commits(recipe, good, bad, cfg, listen)
    stand = bench.Stand(
        cfg, plan, asked.kernel, job, cache, listen, rooms,
        plan.seed if asked.seed is None else asked.seed,
    )  # fmt: skip
    stand.figure = asked.figure
    if asked.want not in ("apply", "build"):
        stand.prepare()
    made_of = {
        "ends": [ground.good, ground.bad],
        "kernel_id": ground.recipe(recipe, ground.bad).identity,
        "programs": rooms.digest(stand.programs) if stand.programs else "",
    }
    kept = (
        store.Run(results, "bisect")
        if place is None
        else store.Run.reopen(place, {"id": place.name, "seconds": 0.0})
    )
    try:
        if place is None:
            journal.begin(kept.directory, {**asked.to_json(), **made_of})
        else:
            _unchanged(kept.id, before, made_of)
        args.kept = f"what was seen is kept; go on with: harness bisect --resume {kept.id}"
        return _Sitting(asked, ground, kept, stand, job, listen).run(recipe)
    finally:
        kept.close()


class _Sitting:
    """One search() call, from the first look to bisect.json."""

    def __init__(
        self, asked: Asked, ground: span.Span, kept: store.Run, stand: bench.Stand,
        job: Any, listen: Listener,
    ) -> None:  # fmt: skip
        self.asked, self.span, self.kept, self.stand = asked, ground, kept, stand
        self.job, self._listen = job, listen
        self._decisions = 0

    def listen(self, event: Event) -> None:
        self.kept.log(event)
        self._listen(event)

    def say(self, line: str, decision: Decision | None) -> None:
        data = {}
        if decision is not None:
            data = {**dataclasses.asdict(decision), "subject": self.span.subject(decision.commit)}
        self.listen(Event("bisect", self.asked.cell or self.asked.kernel, line, data=data))

    def run(self, recipe: build.Recipe) -> dict[str, Any]:
        self.stand.listen = self.listen
        number, directory = self.span.number, self.kept.directory
        what = f"{number} {'patches' if self.span.commits else 'commits'} to choose from"
        what += f", about {self.span.steps} steps; results in {directory}"
        self.listen(Event("run", self.kept.id, what, data={"cells": list(filter(None, [
            self.asked.cell]))}))  # fmt: skip
        terms = Terms(
            self.asked.want, self.asked.confidence, self.asked.rate,
            self.job.trials if self.job else 1,
            bool(self.job and self.job.open), bool(self.job and self.job.must_fire),
        )  # fmt: skip
        walks: list[Walk] = []

        def start() -> Walk:
            walks.append(Walk(directory / "git", self.span.repo, self.span.good, self.span.bad))
            return walks[-1]

        with bench.opened(recipe, self.span, self.stand, directory) as table:
            notes = Journal(directory, table.look)
            try:
                finding = Search(terms, self.span, notes, self.say).run(start)
                document = self._document(finding, notes)
            finally:
                if walks:
                    store.write_text(directory / "git-bisect.log", walks[-1].log())
                notes.close()
                shutil.rmtree(directory / "git", ignore_errors=True)
        store.write_json(directory / journal.RESULT, document)
        return document

    def _document(self, finding: Finding, notes: Journal) -> dict[str, Any]:
        sights = list(notes.all())
        marks = finding.decisions
        return {
            "id": self.kept.id,
            "directory": str(self.kept.directory),
            "asked": self.asked.to_json(),
            "question": dataclasses.asdict(finding.question),
            "rate": dataclasses.asdict(finding.rate),
            "first_bad": self._commit(finding.first_bad) if finding.first_bad else None,
            "suspects": [self._commit(each) for each in finding.suspects],
            "skipped": [
                {**self._commit(each.commit), "why": each.why}
                for each in marks
                if each.mark == "skip"
            ],
            "confidence": finding.confidence,
            "decisions": [
                {**dataclasses.asdict(each), **self._commit(each.commit)} for each in marks
            ],
            "cost": {
                "steps": len(marks) - 2,
                "builds": sum(each.builds for each in sights),
                "boots": sum(each.boots for each in sights),
                "trials": sum(each.trials for each in sights),
                "seconds": round(sum(each.seconds for each in sights), 1),
            },
            "host": facts.host(),
        }

    def _commit(self, commit: str) -> dict[str, str]:
        name, subject = self.span.name(commit), self.span.subject(commit)
        return {"commit": commit, "name": name, "subject": subject}


def lines(document: dict[str, Any]) -> list[str]:
    """What a person is told at the end."""
    found, asked = document["first_bad"], document["asked"]
    rate, cost, said = document["rate"], document["cost"], []
    sign = question.Question(**document["question"])
    if found:
        said.append(f"first bad: {found['name']}: {found['subject']}")
        if found["name"] not in found["commit"]:
            said.append(f"  commit {found['commit']}, made by git am")
        else:
            said.append(f"  commit {found['commit']}")
    else:
        count = len(document["suspects"])
        said.append(f"only skipped commits are left: the first bad one is one of these {count}")
        said += [f"  {each['name']}: {each['subject']}" for each in document["suspects"]]
    about = asked["cell"] or f"{asked['kernel']} {asked['figure']}".rstrip()
    what = f"{about}: {sign}"
    said.append(f"sign, shown by {sign.at.upper()}: {what}")
    sure = percent(document["confidence"], "down")
    if rate["units"]:
        seen = f"seen in {rate['hits']} of {rate['units']}, a rate of at least"
        said.append(f"confidence: {sure} ({seen} {percent(rate['low'], 'down')})")
    else:
        said.append(f"confidence: {sure} (a rate of {percent(rate['low'])} is taken for granted)")
    for each in document["decisions"]:
        if each["mark"] == sign.other_end:
            said.append(f"  {each['name']}: {each['mark']}: {each['why']}")
    said += [f"skipped: {each['name']}: {each['why']}" for each in document["skipped"]]
    said.append(
        f"cost: {cost['steps']} steps, {cost['builds']} builds, {cost['boots']} boots,"
        f" {cost['trials']} trials, {cost['seconds']:.0f} s"
    )
    said.append(f"{document['directory']}/git-bisect.log")
    return said


def _asked(args: argparse.Namespace, cfg: Config) -> Asked:
    """From the command line; UsageError for what does not fit together."""
    plan, name, kernel, want = args.plan, args.cell, args.kernel, args.want
    if args.figure:
        if name or want:
            raise UsageError("--figure is a question of its own", hint="harness bisect --help")
        figure(cfg, args.figure)
        want = "slower"
    if want in ("apply", "build", "boot", "slower") and not name:
        if not kernel:
            raise UsageError("--kernel is missing", hint="harness bisect --help")
        known("plan", plan, cfg.plan)
    elif not name:
        raise UsageError(
            "--cell is missing: what is to be run on each commit (or --for, --figure)",
            hint="harness bisect --help",
        )
    else:
        _plan, job = cell(cfg, name, plan, args.trials, args.seed, kernel)
        name, kernel = job.name, job.kernel
    known("kernel", kernel, cfg.kernel)
    return Asked(
        kernel, name, args.series, args.good, args.bad, want, args.confidence, args.rate,
        args.trials, plan, args.seed, args.figure,
    )  # fmt: skip


def _alone(args: argparse.Namespace) -> None:
    for name in ("kernel", "cell", "series", "good", "bad", "want", "figure", "trials", "seed",
                 "rate"):  # fmt: skip
        if getattr(args, name):
            raise UsageError(
                f"--resume goes on as it began: no {name} can be given",
                hint=shlex.join(["harness", "bisect", "--resume", str(args.resume)]),
            )


def _unchanged(name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    """UsageError when the commits would be tested with something else than before."""
    for key, value in now.items():
        if before.get(key) != value:
            raise UsageError(
                f"bisection {name} cannot go on: {key} was {before.get(key)}, now it is {value}",
                hint="git log patches vm/kconfig workloads harness.toml, or begin a new one",
            )
