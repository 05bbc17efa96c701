# SPDX-License-Identifier: GPL-2.0
"""A repository of a few files of a commit: in it git am takes 20 ms, not 170.

With the whole tree for an index each patch has ninety thousand names read and written.  The
commits made there are told to the tree's own repository, where they have the same authors,
dates and messages, and all other files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from harness.kernel import command, git

_BRANCH = "refs/heads/excerpt"
_WHO = "harness <harness@localhost> 946684800 +0000"
_MOST = 2000  # names on a command line


class Excerpt:
    """`paths` of `commit` of `repo`, checked out at `place`, which the caller's lock makes ours.

    A path that is not in the commit is left out: a patch may bring it.
    """

    def __init__(self, repo: Path, commit: str, paths: Iterable[str], place: Path) -> None:
        self.place = place
        self._repo, self._commit, self._base = repo, commit, ""
        self._paths = set(paths)

    def make(self) -> bool:
        """False: it cannot be made, and whoever wants it does without.

        So it is where a path is a directory of the commit, or is below one of its files: only
        the whole tree shows what a patch does there.
        """
        self.discard()
        # Names that are no text, and what the stream below would have to quote.
        if any('"' in name or not name.isprintable() for name in self._paths):
            return False
        above = {str(path) for name in self._paths for path in PurePosixPath(name).parents}
        # What git does to a file may be said in any directory it is in.
        names = self._paths | {str(PurePosixPath(at, ".gitattributes")) for at in above}
        asked = (names | above) - {"."}
        if len(asked) > _MOST:
            return False
        listed = git.attempt(self._repo, "ls-tree", "-z", self._commit, "--", *sorted(asked))
        stream = f"commit {_BRANCH}\ncommitter {_WHO}\ndata 0\n"
        for line in listed.stdout.split("\0")[:-1]:
            fields, _, name = line.partition("\t")
            mode, kind, blob = fields.split()
            if name in {"blob": above, "tree": names}.get(kind, names | above):
                return False
            if name in names:  # what is beside them is listed, too
                stream += f"M {mode} {blob} {name}\n"
        self.place.mkdir(parents=True)
        made = git.attempt(self.place, "init", "--quiet", "--template=")
        if listed.status != 0 or made.status != 0:
            return False
        borrowed = self.place / ".git/objects/info/alternates"
        borrowed.parent.mkdir(exist_ok=True)
        borrowed.write_bytes(os.fsencode((self._repo / "objects").resolve()) + b"\n")
        (self.place / ".git/HEAD").write_text(f"ref: {_BRANCH}\n")
        if (
            git.attempt(self.place, "fast-import", "--quiet", stdin=stream.encode()).status != 0
            or git.attempt(self.place, "read-tree", "-m", "-u", "HEAD").status != 0
        ):
            return False
        self._base = (self.place / ".git" / _BRANCH).read_text().strip()
        return True

    def give_back(self, ref: str) -> str | None:
        """The id of the commit that `repo` has under `ref` now: `commit` and what was added here.

        None: git did not take it, or it names a file that was not among `paths`, of which only
        the whole tree shows what a patch does to it.  The ref is as it was.
        """
        named = git.attempt(
            self.place, "log", "--format=", "--name-only", "--no-renames", "-z",
            f"{self._base}..{_BRANCH}",
        )  # fmt: skip
        if named.status != 0 or not self._paths.issuperset(named.stdout.split("\0")[:-1]):
            return None
        # Both say ":1" for the commit that all of it stands on.
        here, there = (self.place / ".git" / name for name in ("marks.here", "marks.there"))
        here.write_text(f":1 {self._base}\n")
        there.write_text(f":1 {self._commit}\n")
        # Each says when it is done: the half of a stream is else a commit, too.
        export = git.argv(
            self.place, "fast-export", "--reencode=no", "--use-done-feature",
            f"--import-marks={here}", f"--refspec={_BRANCH}:{ref}", _BRANCH, f"^{self._base}",
        )  # fmt: skip
        take = git.argv(self._repo, "fast-import", "--quiet", "--done", f"--import-marks={there}")
        with (
            (self.place / ".git/said").open("w+b") as said,
            command.started(export, env=git.environment(), stderr=said) as teller,
            command.started(
                take, env=git.environment(), stdin=teller.stdout, stdout=said, stderr=said
            ) as taker,
        ):
            assert teller.stdout is not None
            teller.stdout.close()  # or one goes on telling when nobody listens
            taker.wait()
        if (teller.returncode, taker.returncode) != (0, 0):
            (self._repo / f"fast_import_crash_{taker.pid}").unlink(missing_ok=True)
            command.check_room(self._repo)
            return None
        return git.resolve(self._repo, ref)

    def discard(self) -> None:
        """Nothing of it is left."""
        shutil.rmtree(self.place, ignore_errors=True)
