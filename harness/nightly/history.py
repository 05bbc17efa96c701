# SPDX-License-Identifier: GPL-2.0
"""What was committed to a tree between two nights, where somebody can tell."""

from __future__ import annotations

from pathlib import Path

from harness.config import Config
from harness.kernel import git
from harness.nightly.decide import Between

# More than so many are not one likely cause.
NAMED = 3


def between(cfg: Config, cache: Path) -> Between:
    """A function for decide(): commits of a git tree, by number or by subject.

    Asks the repository that a tree is fetched from when it is on this host: the cache
    has no history.  "" for the other kinds of tree.
    """

    def tell(name: str, was: str, now: str) -> str:
        tree = cfg.tree.get(name)
        if tree is None or tree.kind != "git":
            return ""
        repo = (cfg.root / tree.url).expanduser()
        if not repo.is_dir():
            return ""
        listed = git.attempt(repo, "log", "--format=%h (\"%s\")", f"{was}..{now}")
        if listed.status != 0:
            return ""
        commits = listed.stdout.splitlines()
        if not commits:
            return "went back"
        if len(commits) > NAMED:
            return f"{len(commits)} commits, {was[:12]}..{now[:12]}"
        return ", ".join(commits)

    return tell
