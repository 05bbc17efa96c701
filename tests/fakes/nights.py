# SPDX-License-Identifier: GPL-2.0
"""Trees that move, kernels that break and cells that fail, on command, night after night."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from harness.config import Config, Kernel, Nightly, Tree, Workload
from harness.errors import BuildError, InfraError
from harness.events import Event, Listener
from harness.experiment.bench import Figure
from harness.experiment.runner import Rooms
from harness.kernel.build import Recipe
from harness.kernel.image import Image
from harness.kernel.kconfig import Option
from harness.kernel.tree import Source
from harness.nightly import night as nights
from harness.nightly.kernels import Trees
from harness.nightly.night import Doors
from harness.nightly.record import Night
from harness.series.base import Base
from harness.series.check import Patch, Report
from tests.fakes.experiment import config
from tests.fakes.fake_machine import Lab, Script, image

SIX, SEVEN = "six", "seven"  # two trees


def settings(root: Path, **plan: object) -> Config:
    """Two trees with stock and candidate each, on the first a control, too."""
    kernels = ["control", "stock", "candidate", "stock-7", "candidate-7", "control-7"]
    chosen: dict[str, object] = {"workloads": ["punch"], "filesystems": ["ext4"], **plan}
    cfg = config(root, kernels=kernels, **chosen)
    series = {"stock": ["windows"], "control": ["windows"], "candidate": ["windows", "lock"]}

    def kernel(name: str) -> Kernel:
        role = name.partition("-")[0]
        return Kernel(
            role=role,  # type: ignore[arg-type]
            tree=SEVEN if name.endswith("-7") else SIX, series=series[role], fragments=["base"],
        )  # fmt: skip

    for name in ("windows", "lock"):
        for line in ("6.12", "7.2"):
            place = root / "patches" / name / line
            place.mkdir(parents=True, exist_ok=True)
            (place / "series").write_text("0001-one.patch\n0002-two.patch\n")
            for number, what in enumerate(("one", "two"), 1):
                (place / f"000{number}-{what}.patch").write_text(f"{name} {what}\n")
    return msgspec.structs.replace(
        cfg,
        tree={
            SIX: Tree(kind="git", line="6.12", url="linux", ref="master"),
            SEVEN: Tree(kind="git", line="7.2", url="linux", ref="next"),
        },
        kernel={name: kernel(name) for name in kernels},
        workload={
            **cfg.workload, "cold": Workload(kind="bench", source="bench/cold.c", figures=["ns"])
        },
        nightly=Nightly(plan="quick", budget_h=1.0, bench=["cold"], filesystems=["ext4"]),
    )


@dataclass
class World:
    """What the nights meet; a test changes it between two of them."""

    root: Path
    cfg: Config
    heads: dict[str, str] = field(default_factory=lambda: {SIX: "a" * 40, SEVEN: "b" * 40})
    versions: dict[str, str] = field(default_factory=lambda: {SIX: "6.12.1", SEVEN: "7.2.1"})
    dead_trees: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # kernel -> what ensure() says
    checked: list[tuple[str, str]] = field(default_factory=list)  # series, tree
    conflicts: dict[tuple[str, str], str] = field(default_factory=dict)  # series, tree -> where
    scripts: dict[str, Script] = field(default_factory=dict)  # cell name -> its boot
    figures: dict[str, float] = field(default_factory=dict)  # kernel
    bench_error: str = ""
    toolchain: str = "gcc 12"
    digest: str = "0123456789ab"
    made: list[str] = field(default_factory=list)  # kernels that were compiled: a make each
    measured: list[str] = field(default_factory=list)
    booted: list[str] = field(default_factory=list)
    there: set[str] = field(default_factory=set)  # ids of images
    day: datetime = datetime(2026, 11, 1, 22, tzinfo=UTC)
    seconds: float = 0.0  # the clock
    build_s: float = 0.0  # each takes
    cell_s: float = 0.0
    interrupt: Callable[[Event], bool] = lambda _event: False

    def night(self, **options: Any) -> tuple[Night, Path]:
        """Tonight; the day after begins behind it."""
        lab = Lab()
        lab.scripts = {name: [script] for name, script in self.scripts.items()}
        lab.digest = self.digest
        lab.default = Script()

        def listen(event: Event) -> None:
            if event.kind == "cell" and "verdict" in event.data:
                self.seconds += self.cell_s
            if self.interrupt(event):
                raise KeyboardInterrupt

        try:
            with mock.patch.dict("os.environ", HARNESS_NOW=self.day.isoformat()):
                return nights.run(
                    self.cfg, self.root / "cache", self.root / "results", listen,
                    doors=self.doors(lab), **options,
                )  # fmt: skip
        finally:
            assert lab.still_open == []
            self.booted = lab.booted
            self.day += timedelta(days=1)

    def doors(self, lab: Lab) -> Doors:
        """All other rooms."""
        rooms = dataclasses.replace(lab.rooms(), ensure=self._ensure, measure=self._measure)
        return Doors(
            rooms=self._with_known_cells(rooms),
            trees=Trees(self._materialise, self._resolve),
            check=self._check,
            clock=lambda: self.seconds,
        )

    def _with_known_cells(self, rooms: Rooms) -> Rooms:
        """Their machines are named after kernels of two words: the fake knows one."""
        plain = rooms.machine

        def machine(*args: Any) -> Any:
            made: Any = plain(*args)
            kernel = made.name.split("/")[0]
            made.script = dataclasses.replace(
                made.script,
                preflight={"release": f"6.12.0-{kernel}", **made.script.preflight},
            )
            return made

        return dataclasses.replace(rooms, machine=machine)

    def _materialise(self, name: str, tree: Tree, *_: Any, refresh: bool = False) -> Source:
        assert refresh
        if name in self.dead_trees:
            raise InfraError(self.dead_trees[name])
        return Source(name, tree.line, self.root / "repo", self.heads[name], self.versions[name])

    def _resolve(self, name: str, cfg: Config, _cache: Path, _listen: Listener) -> Recipe:
        kernel = cfg.kernel[name]
        source = self._materialise(kernel.tree, cfg.tree[kernel.tree], refresh=True)
        patches = [
            path
            for series in kernel.series
            for path in sorted((cfg.root / "patches" / series / source.line).glob("*.patch"))
        ]
        options = {"A": Option("A", "y", self.root / "base.config", 1)}
        digest = hashlib.sha256(f"{source.commit}{self.toolchain}".encode())
        for path in patches:
            digest.update(path.read_bytes())
        return Recipe(
            name, kernel, source, patches, [], options, "gcc", self.toolchain,
            digest.hexdigest()[:12],
        )  # fmt: skip

    def _ensure(self, name: str, cfg: Config, cache: Path, listen: Listener) -> Image:
        recipe = self._resolve(name, cfg, cache, listen)
        # Of the night's build; the run asks again, and finds it there.
        built = f"{name}-{recipe.identity}" not in self.there
        if built:
            self.made.append(name)
            self.seconds += self.build_s
            if name in self.broken:
                raise BuildError(self.broken[name], hint="less build.log")
            self.there.add(f"{name}-{recipe.identity}")
        made = image(name, cfg, cache)
        return dataclasses.replace(made, id=recipe.identity, built=built, seconds=self.build_s)

    def _check(
        self, cfg: Config, name: str, tree: str, of: str, *_: Any, checkpatch: bool
    ) -> Report:
        assert not checkpatch
        self.checked.append((name, tree))
        source = self._materialise(tree, cfg.tree[tree], refresh=True)
        file = Path("0001-one.patch")
        where = self.conflicts.get((name, tree))
        patch = Patch(file, "conflicts", [where]) if where else Patch(file, "applies")
        return Report(tree, source.line, Base(source, [], ""), of, [patch])

    def _measure(self, _cfg: Config, image: Image, *_: Any) -> list[Figure]:
        self.measured.append(image.kernel)
        if self.bench_error:
            raise InfraError(self.bench_error)
        return [Figure("cold/ext4/ns", self.figures.get(image.kernel, 1000.0))]

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        """The kernels that are compiled in the block."""
        before = len(self.made)
        made: list[str] = []
        yield made
        made += self.made[before:]


def told(night: Night) -> Mapping[str, list[str]]:
    """The subjects of a night's findings, by kind."""
    found: dict[str, list[str]] = {}
    for finding in night.findings:
        found.setdefault(finding.kind, []).append(finding.subject)
    return found
