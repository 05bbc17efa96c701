# SPDX-License-Identifier: GPL-2.0
"""Series of patches on a tree become a commit, by `git am`, once per content.

A series is patches/<series>/<line>/: a quilt `series` file that names
`git format-patch` files in their order.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from harness.errors import BuildError, UsageError
from harness.events import Event, Listener, silent
from harness.kernel import command, excerpt, git, lock
from harness.kernel.tree import Source

# In the key of every cached commit; raise it when the same patches would give another one.
_RECIPE = "1"
_REFS = "refs/harness/series"
_PATH = re.compile(
    rb"^(?:diff --git a/(?P<a>\S+) b/(?P<b>\S+)|(?:---|\+\+\+) [ab]/(?P<c>[^\t\n]+)"
    rb"|(?:rename|copy) (?:from|to) (?P<d>[^\n]+))",
    re.MULTILINE,
)
# Git writes a name of bytes that are not ASCII in C's way.
_QUOTED = re.compile(rb'^(?:diff --git|---|\+\+\+|rename|copy) [^\n]*"', re.MULTILINE)
# What git says of a hunk that does not fit, and of a file it cannot patch at all.
_HUNK = re.compile(r"^error: patch failed: (?P<file>.+):(?P<line>\d+)$", re.MULTILINE)
_FILE = re.compile(
    r"^error: (?P<file>[^:\n]+): (?P<why>does not exist in index|already exists in .*"
    r"|No such file or directory|patch does not apply)$",
    re.MULTILINE,
)
_AM = ("am", "--quiet", "--no-3way", "--keep-cr", "--committer-date-is-author-date")


def patches(series: str, line: str, root: Path) -> list[Path]:
    """Files of `series` for tree line `line`, in order, from its quilt `series` file.

    `root` is the directory of harness.toml.  "name:N" is the first N of them.  Raises
    UsageError naming the nearest existing name when the series, its line or a file of
    it is missing, and one that says how many there are when they are fewer than N.
    """
    series, _, count = series.partition(":")
    home = root / "patches"
    folder = home / series
    if not folder.is_dir():
        raise _missing(f"no series {series!r} in {home}", series, home)
    directory = folder / line
    if not directory.is_dir():
        raise _missing(f"series {series!r} has no patches for tree line {line!r}", line, folder)
    listing = directory / "series"
    if not listing.is_file():
        raise _missing(f"{directory} has no file named 'series'", "series", directory)
    found = []
    for number, text in enumerate(listing.read_text().splitlines(), 1):
        words = text.split("#", 1)[0].split()
        if not words:
            continue
        if any(option != "-p1" for option in words[1:]):
            raise UsageError(
                f"{listing}:{number}: only -p1 is understood, not {' '.join(words[1:])!r}",
                hint="write the patch with: git format-patch",
            )
        path = directory / words[0]
        if not path.is_file():
            raise _missing(f"{listing}:{number}: no patch {words[0]!r}", words[0], directory)
        found.append(path)
    if count and int(count) > len(found):
        raise UsageError(
            f"{listing} has {len(found)} patches, not {count}",
            hint=f"write {series!r}, or a smaller number, in harness.toml",
        )
    return found[: int(count)] if count else found


def _missing(message: str, name: str, directory: Path) -> UsageError:
    names = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
    near = difflib.get_close_matches(name, names, n=1)
    return UsageError(
        message + (f" (did you mean {near[0]!r}?)" if near else ""),
        hint=command.quoted(["ls", directory]),
    )


def apply(
    source: Source,
    series: Sequence[str],
    root: Path,
    cache: Path,
    listen: Listener = silent,
) -> str:
    """Apply `series` in order to the tree; the resulting commit of `source.repo`.

    The commit id depends on the tree and the patch files only.  Each series'
    result is kept under a ref named by content: unchanged ones cost one git call together.
    Raises BuildError for a patch that does not apply (series, patch, file, hunk;
    the hint reproduces it), UsageError for missing files.
    """
    contents = [
        (name, [(path, path.read_bytes()) for path in patches(name, source.line, root)])
        for name in series
    ]
    commit = source.commit
    so_far: list[Path] = []
    with command.room_on(cache):
        known = _known(source.repo)
        for name, files in contents:
            ref = f"{_REFS}/{_key(commit, [content for _, content in files])}"
            done = known.get(ref)
            if done is None:
                with lock.held(source.repo.with_suffix(".am.lock"), name, listen):
                    done = git.resolve(source.repo, ref)  # the run we waited for made it
                    if done is None:
                        done = _am(source, commit, name, files, so_far, ref, listen)
            commit = done
            so_far += [path for path, _ in files]
    return commit


def _known(repo: Path) -> dict[str, str]:
    """Each series that has been applied: its ref and the commit that it became."""
    listed = git.attempt(repo, "for-each-ref", "--format=%(refname) %(objectname)", _REFS)
    # Of a repository that git cannot read the first call that needs it tells.
    return dict(line.split() for line in listed.stdout.splitlines())


def _key(commit: str, contents: Sequence[bytes]) -> str:
    digest = hashlib.sha256(f"{_RECIPE} {commit}".encode())
    for content in contents:
        digest.update(b" %d " % len(content) + content)
    return digest.hexdigest()[:32]


def _am(
    source: Source,
    commit: str,
    name: str,
    files: Sequence[tuple[Path, bytes]],
    before: Sequence[Path],
    ref: str,
    listen: Listener,
) -> str:
    """The commit that the patches `files` make of `commit`; `ref` is its name from then on."""
    paths = sorted({path for _, content in files for path in touched(content)})
    scratch = source.repo.with_suffix(".am")
    few = excerpt.Excerpt(source.repo, commit, paths, scratch)
    try:
        done = None
        # touched() has not read a quoted name.
        if not any(_QUOTED.search(content) for _, content in files) and few.make():
            well = _one_by_one(few.place, name, files, listen) is None
            done = few.give_back(ref) if well else None
    finally:
        few.discard()
    if done is None:  # git am says of the whole tree why
        with git.sparse_worktree(source.repo, scratch, commit, paths) as worktree:
            if refused := _one_by_one(worktree, name, files, listen):
                number, said = refused
                applied = [*before, *(file for file, _ in files[:number])]
                raise _refused(source, name, files[number][0], applied, said)
            done = git.out(worktree, "rev-parse", "HEAD")
            git.out(source.repo, "update-ref", ref, done)
    listen(Event("series", name, "applied", done=len(files), total=len(files)))
    return done


def _one_by_one(
    where: Path, name: str, files: Sequence[tuple[Path, bytes]], listen: Listener
) -> tuple[int, str] | None:
    """git am of each; the first that was refused, and what git said."""
    for number, (path, _) in enumerate(files):
        listen(Event("series", name, path.name, done=number, total=len(files)))
        finished = git.attempt(where, *_AM, path.resolve())
        if finished.status != 0:
            return number, finished.stdout + finished.stderr
    return None


def touched(content: bytes) -> set[str]:
    """Paths a patch names; too many only cost time, and git am finds the others in the index."""
    return {
        text.decode(errors="surrogateescape").strip()
        for match in _PATH.finditer(content)
        for text in match.groups()
        if text is not None
    }


def _refused(
    source: Source, name: str, patch: Path, applied: Sequence[Path], said: str
) -> BuildError:
    hunk, file = _HUNK.search(said), _FILE.search(said)
    if hunk:
        where = f"{hunk['file']}, hunk at line {hunk['line']}"
    elif file:
        where = f"{file['file']}: {file['why']}"
    else:
        errors = [line for line in said.splitlines() if line.strip()]
        where = (errors or ["git am failed"])[0].removeprefix("error: ")
    tree = f"tree {source.name} ({source.version})"
    return BuildError(
        f"series {name}: {patch.name} does not apply to {tree}: {where}",
        hint=_reproduce(source, [*applied, patch]),
        detail=said.strip(),
    )


def _reproduce(source: Source, files: Sequence[Path]) -> str:
    """A line for a shell: the tree in a directory of its own, and the same git am in it."""
    add = command.quoted(["git", "-C", source.repo, "worktree", "add", "--quiet", "--detach"])
    settings = ["user.name=harness", "user.email=harness@localhost", "commit.gpgSign=false"]
    am = [word for setting in settings for word in ("-c", setting)]
    am += ["am", "--no-3way", "--keep-cr", *(str(file.resolve()) for file in files)]
    return f'd=$(mktemp -d) && {add} "$d" {source.commit} && git -C "$d" {command.quoted(am)}'
