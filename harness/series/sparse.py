# SPDX-License-Identifier: GPL-2.0
"""What sparse says of the lines that a series changes, in a kernel that is built with it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from harness.config import Config
from harness.events import Event, Listener, silent
from harness.kernel import build, git, image, lock, make, series
from harness.series import base

_SAID = re.compile(r"^(?P<file>[^\s:]+\.[ch]):(?P<line>\d+):\d+: (?P<what>(?:warning|error): .+)$")
_HUNK = re.compile(r"^@@ -\S+ \+(?P<from>\d+)(?:,(?P<count>\d+))? @@")


@dataclass(frozen=True)
class Sparse:
    """`new`: on lines that the series adds or changes; `old`: how many elsewhere."""

    new: list[str]
    old: int
    files: int  # that were looked at
    unchecked: str = ""  # why it did not run


def check(cfg: Config, name: str, kernel: str, cache: Path, listen: Listener = silent) -> Sparse:
    """`make C=2` for the C files that the series changes, in the O= of `kernel`.

    That kernel must be built as it stands; nothing is compiled for this.  Raises what
    build.ensure() does, but for what make says.
    """

    def not_run(why: str) -> Sparse:
        return Sparse([], 0, 0, why)

    if which("sparse") is None:
        return not_run("sparse is not installed (apt-get install sparse)")
    if not kernel:
        return not_run("no kernel of harness.toml has the series")
    cache = cache.resolve()
    recipe = build.resolve(kernel, cfg, cache, listen)
    home = cache / "kernels" / kernel
    if image.load(home / "images", recipe.identity) is None:
        return not_run(f"kernel {kernel} is not built (harness build {kernel})")
    with lock.held(home.with_name(f"{kernel}.lock"), kernel, listen):
        whole = series.apply(recipe.source, recipe.kernel.series, cfg.root, cache, listen)
        makefile = make.Makefile(kernel, home / "src", home / "o", home / "sparse.log")
        if git.resolve(makefile.source, "HEAD") != whole:
            return not_run(f"kernel {kernel}: its worktree holds something else")
        changed = _changed(cfg, name, recipe, cache, listen)
        wanted = [
            f"{path.removesuffix('.c')}.o"
            for path in changed
            if path.endswith(".c") and (makefile.objects / f"{path.removesuffix('.c')}.o").is_file()
        ]
        if not wanted:
            return not_run(f"nothing that the series changes is compiled in kernel {kernel}")
        listen(Event("build", kernel, f"sparse on {len(wanted)} files"))
        makefile.log.write_bytes(b"")
        settings = [*build.make_settings(makefile, recipe), "C=2"]
        jobs, env = os.cpu_count() or 1, build.caching(makefile)
        make.run(makefile, wanted, jobs=jobs, settings=settings, env=env)
        said = makefile.log.read_text(errors="replace")
    new, old = [], 0
    for line in dict.fromkeys(said.splitlines()):
        if match := _SAID.match(line):
            path = match["file"].removeprefix(f"{makefile.source}/").removeprefix("./")
            if int(match["line"]) in changed.get(path, ()):
                new.append(f"{path}:{match['line']}: {match['what']}")
            else:
                old += 1
    return Sparse(new, old, len(wanted))


def _changed(
    cfg: Config, name: str, recipe: build.Recipe, cache: Path, listen: Listener
) -> dict[str, set[int]]:
    """The lines that a series adds or changes, by file, as they are after it.

    Numbers are those after the last series of the kernel, where a later one
    moved them, they are not followed: it is the last that is asked about, as a rule.
    """
    names = base.names(recipe.kernel.series)
    at = names.index(name)
    before, after = (
        series.apply(recipe.source, recipe.kernel.series[:end], cfg.root, cache, listen)
        for end in (at, at + 1)
    )
    diff = git.out(recipe.source.repo, "diff", "-U0", "--no-ext-diff", "--no-color", before, after)
    changed: dict[str, set[int]] = {}
    path = ""
    for line in diff.splitlines():
        if line.startswith("+++ "):
            path = line.removeprefix("+++ ").removeprefix("b/")
        elif (hunk := _HUNK.match(line)) and path:
            start, count = int(hunk["from"]), int(hunk["count"] or 1)
            changed.setdefault(path, set()).update(range(start, start + count))
    return changed
