# SPDX-License-Identifier: GPL-2.0
"""A kernel built after each of its patches: a series must build and boot at every step.

The same worktree and O= as for the whole kernel, so that a step compiles what its
patch changes and no more.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from harness import config
from harness.errors import BuildError, UsageError
from harness.events import Listener, silent
from harness.kernel import build, command, dotconfig, git, image, lock, series
from harness.kernel.identity import identify
from harness.kernel.image import Image


@dataclass(frozen=True)
class Step:
    """One patch, built.

    The files of `image` lie in O=: they are there until the next step.
    """

    number: int  # from 1, of `total`
    total: int
    patch: Path
    image: Image

    def __str__(self) -> str:
        return f"patch {self.number} of {self.total} ({self.patch.name})"


def steps(
    name: str,
    cfg: config.Config,
    cache: Path,
    listen: Listener = silent,
    *,
    after: str = "",
    first: int = 1,
    jobs: int | None = None,
) -> Generator[Step, None, None]:
    """Build kernel `name` after each patch of its series, in order.

    `after` is the series to begin with: the patches before it are applied, not
    built (default: all are built).  Of those that are built, numbered from 1,
    `first` is where to go on.  Errors are those of build.ensure(); a BuildError
    names the patch after which the kernel does not build.  However the iterator
    ends, closed early or not, the worktree holds the whole kernel again.
    """
    cache, jobs = cache.resolve(), jobs or os.cpu_count() or 1
    with command.room_on(cache):
        build.resolve(name, cfg, cache, listen)  # what is wrong is said before a lock is waited for
        build.check_paths(cache)
        with lock.held(cache / "kernels" / f"{name}.lock", name, listen):
            # Waiting may have taken minutes: patches may have changed since.
            recipe = build.resolve(name, cfg, cache, listen)
            kernel = recipe.kernel
            skipped = _before(after, recipe, cfg)
            total = len(recipe.patches) - skipped
            if not 1 <= first <= total:
                raise UsageError(
                    f"no patch {first}: kernel {name!r} has {total} to build"
                    + (f" from series {after!r} on" if after else ""),
                    hint=command.quoted(["harness", "build", name, "--each-patch"]),
                )
            makefile = build.start_log(recipe, cache)
            whole = series.apply(recipe.source, kernel.series, cfg.root, cache, listen)
            commits = _commits(recipe, whole)
            try:
                for number in range(first, total + 1):
                    applied = skipped + number
                    patch, commit = recipe.patches[applied - 1], commits[applied - 1]
                    step = _at(recipe, commit, applied)
                    started = time.monotonic()
                    try:
                        made = build.build_commit(makefile, step, commit, listen, jobs)
                    except BuildError as error:
                        raise BuildError(
                            f"patch {number} of {total} ({patch.name}): {error.message}",
                            hint=error.hint,
                            detail=error.detail,
                        ) from error
                    seconds = time.monotonic() - started
                    made = dataclasses.replace(made, built=True, seconds=seconds)
                    if applied == len(recipe.patches):
                        made = image.store(makefile.source.parent / "images", made)
                    yield Step(number, total, patch, made)
            finally:
                git.move_worktree(makefile.source, recipe.source.repo, whole)


def _before(after: str, recipe: build.Recipe, cfg: config.Config) -> int:
    """How many patches come before series `after` in the kernel."""
    names = [entry.partition(":")[0] for entry in recipe.kernel.series]
    if after and after not in names:
        raise UsageError(
            f"kernel {recipe.name!r} has no series {after!r}{config.nearest(after, names)}",
            hint="harness list",
        )
    earlier = recipe.kernel.series[: names.index(after)] if after else []
    return sum(len(series.patches(name, recipe.source.line, cfg.root)) for name in earlier)


def _commits(recipe: build.Recipe, whole: str) -> list[str]:
    """The commit of each patch, in order: git am makes one of each."""
    listed = git.out(
        recipe.source.repo, "rev-list", "--reverse", f"{recipe.source.commit}..{whole}"
    ).split()
    if len(listed) != len(recipe.patches):
        raise BuildError(
            f"kernel {recipe.name}: {len(recipe.patches)} patches became {len(listed)} commits:"
            " a file with more than one patch, or with none, cannot be a step",
            hint=command.quoted(["git", "-C", recipe.source.repo, "log", "--oneline", whole]),
        )
    return listed


def _at(recipe: build.Recipe, commit: str, applied: int) -> build.Recipe:
    """The kernel as it is after so many patches.

    An option that a later patch brings cannot be asked for yet; one that exists
    and is refused is an error as ever.
    """
    known = dotconfig.symbols(recipe.source.repo, commit)
    return dataclasses.replace(
        recipe,
        options={name: option for name, option in recipe.options.items() if name in known},
        identity=identify(
            recipe.parts, [patch.read_bytes() for patch in recipe.patches[:applied]]
        ),
    )
