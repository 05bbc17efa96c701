# SPDX-License-Identifier: GPL-2.0
"""git, the same for everybody: no user or system configuration, no hooks, no signing."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.errors import InfraError
from harness.kernel import command

# Commit ids must depend on content only.  Dates: git am takes the author's date
# from the patch; these are for what has none.
_IDENTITY = {
    "GIT_AUTHOR_NAME": "harness",
    "GIT_AUTHOR_EMAIL": "harness@localhost",
    "GIT_AUTHOR_DATE": "946684800 +0000",
    "GIT_COMMITTER_NAME": "harness",
    "GIT_COMMITTER_EMAIL": "harness@localhost",
    "GIT_COMMITTER_DATE": "946684800 +0000",
}
_SETTINGS = (
    "safe.directory=*",
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "core.fsmonitor=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "apply.whitespace=nowarn",
    "checkout.workers=0",
)
# Of git's own, in a worktree's private directory: what a killed one leaves.
_LOCKS = ("index.lock", "HEAD.lock")


def environment(**extra: str) -> dict[str, str]:
    """Environment of a git that looks at its repository and nothing else."""
    return command.environment(
        GIT_CONFIG_GLOBAL="/dev/null",
        GIT_CONFIG_NOSYSTEM="1",
        GIT_TERMINAL_PROMPT="0",
        GIT_ATTR_NOSYSTEM="1",
        **_IDENTITY,
        **extra,
    )


def argv(where: Path, *words: str | Path) -> list[str]:
    """The command line of one git call in the repository or worktree `where`."""
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    return ["git", "-C", str(where), *settings, *(str(word) for word in words)]


def attempt(
    where: Path, *words: str | Path, stdin: bytes | None = None, env: dict[str, str] | None = None
) -> command.Finished:
    """One git call; the caller looks at its status."""
    return command.run(argv(where, *words), stdin=stdin, env=env or environment())


def out(
    where: Path, *words: str | Path, stdin: bytes | None = None, env: dict[str, str] | None = None
) -> str:
    """Output of one git call, stripped; InfraError when it fails."""
    finished = attempt(where, *words, stdin=stdin, env=env)
    if finished.status != 0:
        command.check_room(where)
        raise InfraError(
            f"git {words[0]} failed in {where}: {finished.complaint}",
            hint=command.quoted(["git", "-C", where, *words]),
            detail=finished.stderr,
        )
    return finished.stdout.strip()


def resolve(repo: Path, name: str) -> str | None:
    """Full id of the commit `name`, None when the repository has no such commit."""
    finished = attempt(repo, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    return finished.stdout.strip() if finished.status == 0 else None


@contextlib.contextmanager
def sparse_worktree(repo: Path, scratch: Path, commit: str, paths: Iterable[str]) -> Iterator[Path]:
    """A worktree of `commit` at `scratch` that holds only `paths`; gone after the block."""
    patterns = "".join(f"{_sparse_pattern(path)}\n" for path in paths) or "/none\n"
    try:
        _discard(repo, scratch)  # left by a run that died
        out(repo, "worktree", "add", "--quiet", "--no-checkout", "--detach", scratch, commit)
        out(scratch, "sparse-checkout", "set", "--no-cone", "--stdin", stdin=patterns.encode())
        # An index of 90,000 files is else written whole, three times for each patch.
        out(scratch, "config", "--worktree", "core.splitIndex", "true")
        out(scratch, "read-tree", "-m", "-u", "HEAD")
        yield scratch
    finally:
        _discard(repo, scratch)


def _discard(repo: Path, worktree: Path) -> None:
    shutil.rmtree(worktree, ignore_errors=True)
    out(repo, "worktree", "prune", "--expire=now")


def _sparse_pattern(path: str) -> str:
    escaped = "".join(f"\\{char}" if char in "*?[\\" else char for char in path)
    return f"/{escaped}"


def move_worktree(worktree: Path, repo: Path, commit: str) -> bool:
    """Make `worktree`, ours alone, hold exactly `commit`; True when it had to be made anew.

    Only files that differ are written, so make sees only those as newer.  The
    caller holds the kernel's lock: a lock file of git's own is what a killed run left.
    """
    private = _private(worktree, repo)
    if private is not None and attempt(worktree, "rev-parse", "--git-common-dir").status != 0:
        private = None  # half of it was written
    if private is None:
        worktree.parent.mkdir(parents=True, exist_ok=True)
        _discard(repo, worktree)
        out(repo, "worktree", "add", "--quiet", "--no-checkout", "--detach", worktree, commit)
    else:
        for name in _LOCKS:
            (private / name).unlink(missing_ok=True)
        out(worktree, "clean", "-ffdxq")
    out(worktree, "checkout", "--quiet", "--force", "--detach", commit)
    return private is None


def trusted_move(worktree: Path, repo: Path, commit: str) -> bool:
    """The same for a worktree that is one commit and nothing else, or so it was left.

    It looks at the files alone in which the two differ, not at ninety thousand: see looking().
    False: move_worktree() has to do it.
    """
    private = _private(worktree, repo)
    if private is None or any((private / name).exists() for name in _LOCKS):
        return False
    return _change(worktree, commit)


class Look:
    """Is the worktree its commit, to the last file, and nothing else?  See looking()."""

    def __init__(self, worktree: Path, commit: str, stack: contextlib.ExitStack) -> None:
        self._worktree, self._commit, self._stack = worktree, commit, stack
        self._asked: list[subprocess.Popen[bytes]] = []
        self._known = self._git_knows()

    def begin(self) -> None:
        """From now on it is looked at, by two processes; 0.3 s of two CPUs."""
        if self._asked:
            return
        questions = (("diff-index", "--quiet", self._commit), ("clean", "-ndffx"))
        self._asked = [
            self._stack.enter_context(
                command.started(argv(self._worktree, *words), env=environment())
            )
            for words in questions
        ]

    @functools.cached_property
    def whole(self) -> bool:
        """The answer, which is waited for.

        No, too, when git cannot tell, or a file's times alone changed, or somebody's git has
        changed what is known of files: a file may have been another one for a while.
        """
        self.begin()
        said = [process.communicate()[0] for process in self._asked]
        well = all(process.returncode == 0 for process in self._asked) and not any(said)
        return well and self._known == self._git_knows() != []

    def end(self) -> None:
        """What was begun is at its end."""
        if self._asked:
            _ = self.whole  # their pipes are read to the end

    def _git_knows(self) -> list[tuple[int, int, int]]:
        """Changes with each write of the index and of HEAD; empty when there are none."""
        try:
            private = _directory(self._worktree)
            found = [(private / name).stat() for name in ("index", "HEAD")]
        except OSError:
            return []
        return [(each.st_ino, each.st_mtime_ns, each.st_size) for each in found]


@contextlib.contextmanager
def looking(worktree: Path, commit: str) -> Iterator[Look]:
    """A look at a worktree of `commit`, beside whatever the block does.

    What was changed and changed back before begin() has other times then, or git's knowledge
    of them has; but not a file of nobody's that is gone again.
    """
    with contextlib.ExitStack() as stack:
        look = Look(worktree, commit, stack)
        yield look
        look.end()


def _change(worktree: Path, commit: str) -> bool:
    """From one commit to another by the files they differ in: git checkout looks at all others.

    For a worktree that is its commit; False: git checkout has to do it.  A run that is killed
    here leaves an index that is not HEAD's, which looking() sees.
    """
    names = attempt(worktree, "diff-tree", "-r", "-z", "--name-only", "HEAD", commit)
    if names.status != 0 or "\ufffd" in names.stdout:  # a name that is no text
        return False
    if names.stdout:
        restored = attempt(
            # An index of ninety thousand files is else written whole.
            worktree, "-c", "core.splitIndex=true",
            "--literal-pathspecs", "restore", "--quiet", f"--source={commit}",
            "--staged", "--worktree", "--no-overlay", "--pathspec-from-file=-",
            "--pathspec-file-nul", stdin=names.stdout.encode(),
        )  # fmt: skip
        if restored.status != 0:
            return False
    return attempt(worktree, "update-ref", "--no-deref", "HEAD", commit).status == 0


def _directory(worktree: Path) -> Path:
    """Where git keeps what it knows of a worktree; OSError when there is none."""
    return Path((worktree / ".git").read_text().removeprefix("gitdir: ").strip())


def _private(worktree: Path, repo: Path) -> Path | None:
    """Git's own directory of a worktree of `repo`; None when it is none, or another one's."""
    try:
        private = _directory(worktree)
        # A cache that was copied still has the first one's.
        ours = private.parent.parent.resolve() == repo.resolve()
    except OSError:
        return None
    return private if ours and (private / "HEAD").is_file() else None
