# SPDX-License-Identifier: GPL-2.0
"""What tonight's trees, series and kernels are made of, and what of that is new."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from harness.config import Config
from harness.errors import BuildError, HarnessError, InfraError
from harness.events import Event, Listener
from harness.experiment.plan import Cell
from harness.kernel import build, image, tree
from harness.kernel.identity import RECIPE
from harness.kernel.image import Image
from harness.nightly.record import BROKEN, KernelNight, Night, Outcome, Port, TreeNight
from harness.series import check

Ensure = Callable[[str, Config, Path, Listener], Image]


@dataclass(frozen=True)
class Trees:
    """Where heads and ids come from, replaceable by fakes."""

    materialise: Callable[..., tree.Source] = tree.materialise
    resolve: Callable[[str, Config, Path, Listener], build.Recipe] = build.resolve


@dataclass(frozen=True)
class Look:
    """A kernel as it would be built now; without an id there is a reason."""

    id: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    error: HarnessError | None = None


class Kernels:
    """The kernels of a night; each tree is looked at once."""

    def __init__(self, cfg: Config, cache: Path, listen: Listener, doors: Trees) -> None:
        self._cfg, self._cache, self._listen, self._doors = cfg, cache, listen, doors
        self._sources: dict[str, tree.Source | HarnessError] = {}

    def look(self, names: Sequence[str]) -> dict[str, Look]:
        """What each kernel is made of now: newest packages, moved branches and all."""
        for name in dict.fromkeys(self._cfg.kernel[kernel].tree for kernel in names):
            try:
                self._sources[name] = self._doors.materialise(
                    name, self._cfg.tree[name], self._cfg.root, self._cache, self._listen,
                    refresh=True,
                )  # fmt: skip
            except HarnessError as error:
                self._sources[name] = error
        return {kernel: self._look(kernel) for kernel in names}

    def _look(self, kernel: str) -> Look:
        source = self._sources[self._cfg.kernel[kernel].tree]
        if isinstance(source, HarnessError):
            return Look(error=source)
        try:
            recipe = self._doors.resolve(kernel, self._cfg, self._cache, self._listen)
        except HarnessError as error:
            return Look(error=error)
        return Look(recipe.identity, parts(recipe))

    def tree(self, name: str, earlier: Sequence[Night]) -> TreeNight:
        """The head of a tree, and the one of the last night if that was another."""
        source = self._sources[name]
        if isinstance(source, HarnessError):
            return TreeNight(error=source.message.splitlines()[0])
        past = (n.trees[name].commit for n in earlier if name in n.trees)
        was = next((commit for commit in past if commit), "")
        moved = was if was != source.commit else ""
        return TreeNight(source.version, source.commit, moved)

    def folders(self) -> Iterator[tuple[str, bool]]:
        """Each series of patches/, by name, and whether a kernel of harness.toml has it."""
        used = {item.partition(":")[0] for k in self._cfg.kernel.values() for item in k.series}
        names = {path.parts[-3] for path in (self._cfg.root / "patches").glob("*/*/series")}
        for name in sorted(names):
            yield name, name in used

    def kernel(
        self, name: str, look: Look, earlier: Sequence[Night], known: KernelNight | None
    ) -> KernelNight:
        """The record of a kernel, before anything is built; `known`: of a night cut off."""
        entry = self._cfg.kernel[name]
        made = KernelNight(entry.tree, entry.role, look.id, parts=look.parts)
        if known is not None and known.id == look.id:
            made.figures, made.seconds = known.figures, known.seconds
        if look.error is not None:
            error = look.error
            made.outcome = _outcome(error) if isinstance(error, BuildError) else "no tree"
            made.error, made.hint = look.error.message.splitlines()[0], look.error.hint or ""
        past = next((n.kernels[name] for n in earlier if name in n.kernels), None)
        made.changed = changed(past, made)
        if past is not None and past.outcome in BROKEN and past.id == look.id and look.id:
            # It would fail as it did: nothing that it is made of is another.
            made.outcome, made.error, made.hint = past.outcome, past.error, past.hint
        return made

    def there(self, name: str, look: Look) -> bool:
        """Whether the image is there, so that building it starts no make."""
        return image.load(self._cache / "kernels" / name / "images", look.id) is not None

    def ensure(self, name: str, kernel: KernelNight, ensure: Ensure) -> Image | None:
        """Builds a kernel if it is not there; what comes of it is written into `kernel`."""
        try:
            made = ensure(name, self._cfg, self._cache, self._listen)
        except (BuildError, InfraError) as error:
            kernel.outcome = _outcome(error) if isinstance(error, BuildError) else "not tried"
            kernel.error, kernel.hint = error.message.splitlines()[0], error.hint or ""
            self._listen(Event("note", name, f"{kernel.outcome}: {kernel.error}"))
            return None
        kernel.outcome = "built" if made.built else "up to date"
        kernel.seconds += round(made.seconds, 1)
        return made


def parts(recipe: build.Recipe) -> dict[str, str]:
    """What a kernel's id is made of, by name: the tree's commit, a hash of each of the others."""
    made = {
        "recipe": RECIPE,
        "toolchain": _hash(recipe.toolchain.encode()),
        "tree": recipe.source.commit,
        "config": _hash("".join(f"{option}\n" for option in recipe.options.values()).encode()),
    }
    for path in recipe.patches:
        series = path.parts[-3]
        made[f"series {series}/{path.name}"] = _hash(path.read_bytes())
    return made


def changed(before: KernelNight | None, after: KernelNight) -> list[str]:
    """The parts that are not what they were; patches of one series are one of them."""
    if before is None:
        return ["new"]
    if not before.parts or not after.parts:
        return []
    names = {
        part.partition("/")[0]
        for part in {*before.parts, *after.parts}
        if before.parts.get(part) != after.parts.get(part)
    }
    return sorted(names)


def key(cfg: Config, cell: Cell, kernel: str, guest: str, more: Sequence[str]) -> str:
    """Of all that a verdict depends on: kernel id, cell, workload, file system, guest."""
    asked = [
        msgspec.to_builtins(cfg.workload[cell.workload]),
        msgspec.to_builtins(cfg.filesystem[cell.filesystem]),
        msgspec.to_builtins(cfg.guest[guest]),
        cell.switch,
        cell.armed,
        [msgspec.to_builtins(window) for window in cell.windows],
        cell.min_rate,
        *more,
    ]
    return _hash(msgspec.json.encode([kernel, *asked]))


def port(
    cfg: Config,
    name: str,
    tree_name: str,
    of: str,
    cache: Path,
    listen: Listener,
    checking: Callable[..., check.Report],
) -> Port:
    """How a series fares on a tree, and where it does not fit."""
    try:
        report = checking(cfg, name, tree_name, of, cache, listen, checkpatch=False)
    except BuildError as error:  # one that comes before it in the kernel
        return Port("conflicts", error.message.splitlines()[0])
    where = next(
        (f"{patch.file.name}: {', '.join(patch.where)}" for patch in report.patches
         if patch.fate == "conflicts"),
        "",
    )  # fmt: skip
    return Port(report.verdict, where)


def port_key(cfg: Config, tree_name: str, of: str, commit: str) -> str:
    """Of all that port() depends on: the tree, and every patch that may be tried or come before."""
    lines = sorted({of, cfg.tree[tree_name].line})
    stacks = sorted(f"{k} {table.tree} {table.series}" for k, table in cfg.kernel.items())
    files = [
        file
        for line in lines
        for file in sorted((cfg.root / "patches").glob(f"*/{line}/*"))
        if file.is_file()
    ]
    hashes = [f"{file.relative_to(cfg.root)} {_hash(file.read_bytes())}" for file in files]
    return _hash("\n".join([commit, *lines, *stacks, *hashes]).encode())


def _outcome(error: BuildError) -> Outcome:
    """Which step of a build it was, by what the rooms say of it."""
    if "does not apply" in error.message:
        return "does not apply"
    return "not configured" if "was not taken by the kernel" in error.message else "does not build"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
