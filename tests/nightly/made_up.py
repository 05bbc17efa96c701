# SPDX-License-Identifier: GPL-2.0
"""A small git tree of real kernel source with made-up commits: what a fortnight may bring.

Two branches, each on a Debian source version; a commit changes a file by a function of its
text.  Ids depend on content only, so that a second fortnight builds the same kernels.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

Change = Callable[[str], str]


class MadeUp:
    """A bare repository; branches grow by commit()."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._time = 1_790_000_000
        self.git("init", "--quiet", "--bare", str(path), at=path.parent)

    def git(self, *words: str, stdin: str = "", at: Path | None = None, index: str = "") -> str:
        """Output of a git call in the repository."""
        who = {"NAME": "Made Up", "EMAIL": "made@up.example", "DATE": f"{self._time} +0000"}
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        for role in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{role}_{key}": value for key, value in who.items()}
        if index:
            env["GIT_INDEX_FILE"] = index
        done = subprocess.run(
            ["git", "-C", str(at or self.path), *words],
            input=stdin, capture_output=True, text=True, check=False, env=env,
        )  # fmt: skip
        assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def begin(self, branch: str, repo: Path, commit: str) -> str:
        """A branch that starts with a commit of another repository."""
        # The content is borrowed: half a gigabyte need not be copied.
        alternates = self.path / "objects/info/alternates"
        known = alternates.read_text() if alternates.exists() else ""
        alternates.write_text(f"{known}{repo}/objects\n")
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def commit(self, branch: str, subject: str, path: str, change: Change) -> str:
        """One more commit on a branch: change(text of the file) is its new text."""
        parent = self.git("rev-parse", branch)
        # Not stripped: the file's last line matters to git.
        before = subprocess.run(
            ["git", "-C", str(self.path), "show", f"{parent}:{path}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        after = change(before)
        assert after != before, f"{subject}: {path} is as it was"
        blob = self.git("hash-object", "-w", "--stdin", stdin=after)
        index = str(self.path / "made-up-index")
        Path(index).unlink(missing_ok=True)
        self.git("read-tree", parent, index=index)
        self.git("update-index", "--cacheinfo", f"100644,{blob},{path}", index=index)
        tree = self.git("write-tree", index=index)
        self._time += 3600
        made = self.git("commit-tree", tree, "-p", parent, "-m", subject)
        self.git("update-ref", f"refs/heads/{branch}", made)
        return made

    def noise(self, branch: str, number: int) -> str:
        """A commit that changes nothing that is compiled."""
        return self.commit(
            branch, f"docs: word {number}", "Documentation/index.rst",
            lambda text: text + f"\n.. word {number}\n",
        )  # fmt: skip


def replacing(old: str, new: str) -> Change:
    """The first `old` becomes `new`."""

    def change(text: str) -> str:
        assert old in text, f"no {old!r}"
        return text.replace(old, new, 1)

    return change
