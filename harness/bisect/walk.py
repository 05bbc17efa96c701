# SPDX-License-Identifier: GPL-2.0
"""git bisect, in a repository of its own that borrows the tree's objects.

Which commit is next, what a skip or a merge means, and what the log says is git's
own business; here its state is kept away from the trees and worktrees.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Literal

from harness.errors import InfraError, UsageError
from harness.kernel import command, git

Mark = Literal["good", "bad", "skip"]
_FOUND = re.compile(r"^([0-9a-f]{40,64}) is the first bad commit$", re.MULTILINE)
_SUSPECT = re.compile(r"^([0-9a-f]{40,64})$", re.MULTILINE)
_SKIPPED = 2  # "There are only 'skip'ped commits left to test."
_MERGE_BASE = 3


class Walk:
    """One bisection from its start; marks are all that it is told."""

    def __init__(self, place: Path, repo: Path, good: str, bad: str) -> None:
        """`place` is made anew.  UsageError when git sees no way from `good` to `bad`."""
        self.first_bad = ""
        self.suspects: list[str] = []  # when only skipped commits are left
        self.next = ""  # the commit to test; "" when it is over
        self._repo = place
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        git.out(place, "init", "--quiet", "--bare", ".")
        (place / "objects/info").mkdir(exist_ok=True)
        (place / "objects/info/alternates").write_text(f"{(repo / 'objects').resolve()}\n")
        if (repo / "shallow").is_file():
            shutil.copy(repo / "shallow", place / "shallow")
        git.out(place, "update-ref", "--no-deref", "HEAD", bad)
        self._bisect("start", "--no-checkout", bad, good)

    def mark(self, mark: Mark) -> None:
        """What `next` is; goes on to the next one."""
        self._bisect(mark, self.next)

    def log(self) -> str:
        """For `git bisect replay` in a repository that has these commits."""
        # There the user's own worktree is to follow.
        return git.out(self._repo, "bisect", "log").replace("'--no-checkout' ", "") + "\n"

    def _bisect(self, *words: str) -> None:
        done = git.attempt(self._repo, "bisect", *words)
        said = done.stdout + done.stderr
        if found := _FOUND.search(said):
            self.first_bad, self.next = found[1], ""
        elif done.status == _SKIPPED:
            self.suspects, self.next = _SUSPECT.findall(said), ""
        elif done.status == _MERGE_BASE:
            raise UsageError(
                "the merge base of GOOD and BAD is bad: it was fixed on GOOD's side,"
                " not broken on BAD's",
                hint="harness bisect with a GOOD that is an ancestor of BAD",
            )
        elif done.status == 0:
            self.next = git.out(self._repo, "rev-parse", "BISECT_HEAD")
        else:
            raise InfraError(
                f"git bisect {words[0]} failed: {done.complaint}",
                hint=command.quoted(["git", "-C", self._repo, "bisect", "log"]),
                detail=said.strip(),
            )
