# SPDX-License-Identifier: GPL-2.0
"""git, the same for everybody: no user or system configuration, no hooks, no signing."""

from __future__ import annotations

import contextlib
import shutil
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
    """A worktree of `commit` at `scratch` that holds only `paths`; gone after the block.

    The caller holds the lock that makes `scratch` its own.
    """
    _discard(repo, scratch)  # left by a run that died
    try:
        out(repo, "worktree", "add", "--quiet", "--no-checkout", "--detach", scratch, commit)
        patterns = "".join(f"{_sparse_pattern(path)}\n" for path in paths) or "/none\n"
        out(scratch, "sparse-checkout", "set", "--no-cone", "--stdin", stdin=patterns.encode())
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


def tidy(worktree: Path, repo: Path) -> bool:
    """Remove what is in `worktree`, ours alone, and not of its commit; False: it is not there.

    The caller holds the kernel's lock.
    """
    if not _belongs(worktree, repo):
        return False
    out(worktree, "clean", "-ffdxq")
    return True


def move_worktree(worktree: Path, repo: Path, commit: str, *, tidied: bool = False) -> bool:
    """Make `worktree`, ours alone, hold exactly `commit`; True when it had to be made anew.

    Only files that differ are written, so make sees only those as newer.  The
    caller holds the kernel's lock: a lock file of git's own is what a killed run left.
    `tidied`: tidy() has been there.
    """
    fresh = not (tidied or tidy(worktree, repo))
    if fresh:
        worktree.parent.mkdir(parents=True, exist_ok=True)
        _discard(repo, worktree)
        out(repo, "worktree", "add", "--quiet", "--no-checkout", "--detach", worktree, commit)
    private = Path(out(worktree, "rev-parse", "--absolute-git-dir"))
    (private / "index.lock").unlink(missing_ok=True)
    (private / "HEAD.lock").unlink(missing_ok=True)
    out(worktree, "checkout", "--quiet", "--force", "--detach", commit)
    return fresh


def _belongs(worktree: Path, repo: Path) -> bool:
    if not (worktree / ".git").is_file():
        return False
    common = attempt(worktree, "rev-parse", "--path-format=absolute", "--git-common-dir")
    return common.status == 0 and Path(common.stdout.strip()).resolve() == repo.resolve()
