# SPDX-License-Identifier: GPL-2.0
"""On what a series stands: the tree, and the series that come before it in a kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import Config, nearest
from harness.errors import UsageError
from harness.events import Listener, silent
from harness.kernel import command, git, series, tree


@dataclass(frozen=True)
class Base:
    """Where the first patch of a series is applied."""

    source: tree.Source
    before: list[str]  # series of harness.toml, applied first
    kernel: str  # the kernel of harness.toml that has it so; "" when none has

    def __str__(self) -> str:
        after = f", after {' and '.join(self.before)}" if self.before else ""
        return f"{self.source.name} ({self.source.version}){after}"


@dataclass(frozen=True)
class Entry:
    """One folder patches/<series>/<line>/."""

    name: str
    line: str
    patches: int
    kernels: list[str]  # of harness.toml


def entries(cfg: Config) -> Iterator[Entry]:
    """All series there are, by name and line; `patches` is -1 for a folder that is broken."""
    for listing in sorted((cfg.root / "patches").glob("*/*/series")):
        name, line = listing.parts[-3:-1]
        try:
            patches = len(series.patches(name, line, cfg.root))
        except UsageError:
            patches = -1
        users = [
            kernel
            for kernel, table in cfg.kernel.items()
            if cfg.tree[table.tree].line == line and name in names(table.series)
        ]
        yield Entry(name, line, patches, users)


def names(entries: Sequence[str]) -> list[str]:
    """Of the series in a kernel's list, where "name:N" is a part of one."""
    return [entry.partition(":")[0] for entry in entries]


def lines(cfg: Config, name: str) -> list[str]:
    """The tree lines that series `name` has patches for, oldest first; UsageError if none."""
    found = [path.parent.name for path in (cfg.root / "patches" / name).glob("*/series")]
    if not found or "/" in name:
        known = {path.parts[-3] for path in (cfg.root / "patches").glob("*/*/series")}
        raise UsageError(
            f"no series {name!r} in {cfg.root / 'patches'}{nearest(name, known)}",
            hint="harness series list",
        )
    return sorted(found, key=order)


def order(line: str) -> tuple[list[int], str]:
    """A key by which 6.6 comes before 6.12."""
    return [int(number[:9]) for number in re.findall(r"\d+", line)], line


def under(
    cfg: Config,
    name: str,
    tree_name: str,
    cache: Path,
    listen: Listener = silent,
    kernel: str = "",
) -> Base:
    """What series `name` is applied to on a tree: what comes before it in a kernel that
    has it (`kernel`, else the first), else all that the stock kernel has, else what comes
    before it on another tree.

    Errors are those of tree.materialise().
    """
    on_tree = {k: table for k, table in cfg.kernel.items() if table.tree == tree_name}
    users = [k for k, table in on_tree.items() if name in names(table.series)]
    user = kernel if kernel in users else next(iter(users), "")
    if user:
        before = on_tree[user].series[: names(on_tree[user].series).index(name)]
    else:
        stock = next((table for table in on_tree.values() if table.role == "stock"), None)
        before = (stock.series if stock else []) or _elsewhere(cfg, name, tree_name)
    source = tree.materialise(tree_name, cfg.tree[tree_name], cfg.root, cache, listen)
    return Base(source, list(before), user)


def _elsewhere(cfg: Config, name: str, tree_name: str) -> list[str]:
    """The series before `name` in the first kernel of any tree, as far as this tree has them."""
    line = cfg.tree[tree_name].line
    for table in cfg.kernel.values():
        if name in names(table.series):
            before = table.series[: names(table.series).index(name)]
            return [each for each in before if line in lines(cfg, names([each])[0])]
    return []


def commit(base: Base, cfg: Config, cache: Path, listen: Listener = silent) -> str:
    """The commit that the first patch is applied to; errors are those of series.apply()."""
    return series.apply(base.source, base.before, cfg.root, cache, listen)


def tree_of(cfg: Config, line: str) -> str:
    """The first tree of a line; UsageError when there is none."""
    for name, each in cfg.tree.items():
        if each.line == line:
            return name
    known = [each.line for each in cfg.tree.values()]
    raise UsageError(
        f"{cfg.path}: no [tree.*] has line {line!r}{nearest(line, known)}",
        hint="docs/trees.md says how to add a tree",
    )


def worktree(
    cfg: Config, name: str, line: str, to: Path | None, cache: Path, listen: Listener = silent
) -> tuple[Path, Base, str]:
    """A git worktree of the tree of `line` with the series applied, in `to`: where, on
    what, and the commit before the series' first.

    Default place: in the cache.  There it is moved to the series as it is now, unless
    somebody changed a file in it.  UsageError for a directory that is not empty.
    """
    base = under(cfg, name, tree_of(cfg, line), cache, listen)
    below = commit(base, cfg, cache, listen)
    whole = series.apply(base.source, [*base.before, name], cfg.root, cache, listen)
    place = to.absolute() if to else cache.resolve() / "worktrees" / f"{name}-{line}"
    if place.exists() and any(place.iterdir() if place.is_dir() else [place]):
        if to:
            raise UsageError(f"{place} is not empty", hint="another directory after --to")
        _check_unused(place, base.source.repo, name)
        git.out(place, "checkout", "--quiet", "--detach", whole)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        git.out(base.source.repo, "worktree", "prune")
        git.out(
            base.source.repo, "worktree", "add", "--quiet", "--force", "--detach", place, whole
        )
    return place, base, below


def _check_unused(place: Path, repo: Path, name: str) -> None:
    """UsageError when a checkout in a worktree of ours would lose somebody's work."""
    changed = git.attempt(place, "status", "--porcelain")
    if changed.status != 0 or changed.stdout:
        raise UsageError(
            f"{place} has changes that are not committed",
            hint=command.quoted(["git", "-C", place, "status"]),
        )
    head = git.out(place, "rev-parse", "HEAD")
    kept = git.attempt(repo, "for-each-ref", "--contains", head, "refs/harness/", "refs/heads/")
    if not kept.stdout:
        raise UsageError(
            f"{place} has commits of its own",
            hint=f"harness series import {name} --force --git {place} RANGE",
        )
