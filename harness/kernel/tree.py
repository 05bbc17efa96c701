# SPDX-License-Identifier: GPL-2.0
"""A tree of harness.toml becomes a commit in a bare git repository in the cache.

`harness.json` in the repository is written last: a tree without it was
interrupted, and nothing of it is trusted.  How to add one: docs/trees.md.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from harness import config
from harness.errors import InfraError, UsageError
from harness.events import Event, Listener, silent
from harness.kernel import apt, archive, command, git, lock

_STAMP = "harness.json"
_FULL_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MAKEFILE = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """A tree ready for series: commit `commit` of the bare repository `repo`."""

    name: str  # as in harness.toml
    line: str  # the tree line: patches/<series>/<line>/
    repo: Path
    commit: str  # full id
    version: str  # from its Makefile, "6.12.117"


def materialise(
    name: str,
    tree: config.Tree,
    root: Path,
    cache: Path,
    listen: Listener = silent,
    *,
    refresh: bool = False,
) -> Source:
    """Make tree `name` available as a local commit; quick when it already is.

    Relative paths start at `root` (the directory of harness.toml).  A debian
    package is downloaded once, and with `refresh` again when there is a newer one, as
    "origin/next" of a clone is then asked for where the clone is from; a
    tarball is read again when its size or time changed; a directory and a git ref are
    looked at every time, and a directory's .gitignore is honoured.  Raises UsageError for
    what harness.toml got wrong, InfraError for the rest (network, full disk), naming the tree.
    """
    repo = cache / "trees" / f"{_slug(name)}.git"
    make: Callable[[_Job], str] = {
        "debian": _debian,
        "git": _git,
        "tarball": _tarball,
        "dir": _directory,
    }[tree.kind]
    with command.room_on(cache):
        definition = _definition(name, tree, root)
        known = _read_stamp(repo)
        if _stands(known, definition, tree, None if refresh else ""):
            return Source(name, tree.line, repo, known["commit"], known["version"])
        newest = ""
        if refresh and tree.kind == "debian":
            newest = apt.newest(tree.package, cache / "apt", name, listen, tree.suite)
            if known and not newest:
                listen(Event("note", name, f"the mirror does not answer: {known['version']}"))
        with lock.held(repo.with_suffix(".lock"), name, listen):
            known = _read_stamp(repo)  # the run we waited for may have made it
            if _stands(known, definition, tree, newest):
                return Source(name, tree.line, repo, known["commit"], known["version"])
            started = time.monotonic()
            with _repository(repo, fresh=known is None) as working:
                job = _Job(name, tree, root, cache, working, listen, refresh)
                commit = make(job)
                version = version_of(working, commit, name)
                git.out(working, "update-ref", f"refs/harness/tree/{commit}", commit)
                stamp = {"definition": definition, "commit": commit, "version": version}
                stamp |= job.facts
                if stamp != known:
                    _write_stamp(working, stamp)
            if stamp != known:
                seconds = time.monotonic() - started
                listen(Event("tree", name, f"{version} at {commit[:12]} in {seconds:.0f} s"))
            return Source(name, tree.line, repo, commit, version)


def at_hand(name: str, tree: config.Tree, root: Path, cache: Path) -> bool:
    """Whether materialise() would import nothing, and ask nobody."""
    known = _read_stamp(cache / "trees" / f"{_slug(name)}.git")
    return _stands(known, _definition(name, tree, root), tree, "")


def _stands(
    known: dict[str, Any] | None, definition: dict[str, Any], tree: config.Tree, newest: str | None
) -> TypeGuard[dict[str, Any]]:
    """Whether what is there need not be made again.

    `newest`: file name of the package that the mirror has; "" = that was not asked, or
    nobody answered; None = it is still to be asked.
    """
    if tree.kind not in ("debian", "tarball") or not known or known["definition"] != definition:
        return False
    if tree.kind == "tarball" or newest == "":
        return True
    return newest is not None and known.get("package") == newest


@dataclass(frozen=True)
class _Job:
    """What each kind of tree needs to bring its commit into `repo`."""

    name: str
    tree: config.Tree
    root: Path
    cache: Path
    repo: Path
    listen: Listener
    refresh: bool = False
    facts: dict[str, str] = field(default_factory=dict)  # for the stamp

    def say(self, message: str) -> None:
        self.listen(Event("tree", self.name, message))


def _debian(job: _Job) -> str:
    into = job.repo / "harness-download"
    shutil.rmtree(into, ignore_errors=True)  # left by a run that died
    into.mkdir()
    try:
        package = apt.download(
            job.tree.package, into, job.cache / "apt", job.name, job.listen, job.tree.suite
        )
        job.say(f"importing {package.name}")
        job.facts["package"] = package.name
        return archive.commit(job.repo, archive.reading_package(package), job.name, job.listen)
    finally:
        shutil.rmtree(into, ignore_errors=True)


def _tarball(job: _Job) -> str:
    path = job.root / job.tree.path
    job.say(f"importing {path.name}")
    return archive.commit(job.repo, archive.reading(path), job.name, job.listen)


def _directory(job: _Job) -> str:
    # The index stays in the repository: its stat data make the second look cheap.
    path = (job.root / job.tree.path).resolve()
    index = job.repo / "harness-index"
    index.with_suffix(".lock").unlink(missing_ok=True)
    env = git.environment(GIT_DIR=str(job.repo), GIT_WORK_TREE=str(path), GIT_INDEX_FILE=str(index))
    if not index.exists():
        job.say(f"importing {path}")
    git.out(path, "-c", "core.compression=1", "add", "-A", env=env)
    return archive.commit_tree(job.repo, git.out(path, "write-tree", env=env))


def _git(job: _Job) -> str:
    ref = job.tree.ref
    local = (job.root / job.tree.url).expanduser()
    if local.is_dir():
        url = str(local.resolve())
        wanted = git.resolve(local, ref)
        # "origin/next" of somebody's clone is as old as their last fetch.
        if job.refresh and (far := _upstream(job, local)) is not None:
            url, wanted = far
        if wanted is None:
            raise _no_ref(job, url)
    else:
        url = job.tree.url
        wanted = ref if _FULL_ID.fullmatch(ref) else _remote(job, url)
    have = git.resolve(job.repo, wanted)
    if have is None:
        job.say(f"fetching {ref} from {url}")
        _fetch(job, url, wanted)
        have = git.resolve(job.repo, wanted)
        if have is None:
            raise _no_ref(job, url)
    return have


def _upstream(job: _Job, local: Path) -> tuple[str, str] | None:
    """Where "origin/next" of a clone is from, and what it is there now.

    None: `ref` is not of that kind, or nobody answers.  The clone is not touched.
    """
    remote, _, branch = job.tree.ref.partition("/")
    asked = git.attempt(local, "remote", "get-url", remote) if branch else None
    if asked is None or asked.status != 0:
        return None
    url = asked.stdout.strip()
    # As git does: a path is from the clone.
    url = url if "://" in url or not (local / url).is_dir() else str((local / url).resolve())
    said = _listed(url, branch)
    found = said if isinstance(said, dict) else {}
    if (commit := found.get(f"refs/heads/{branch}")) is None:
        job.listen(Event("note", job.name, f"{url} does not answer: {job.tree.ref} as it is here"))
        return None
    return url, commit


def _fetch(job: _Job, url: str, wanted: str) -> None:
    (job.repo / "shallow.lock").unlink(missing_ok=True)
    source = f"file://{url}" if Path(url).is_dir() else url
    # One commit, no history: series need its files only.  The user's own git
    # configuration applies here: proxies, credentials, insteadOf.
    finished = command.run(
        ["git", "-C", str(job.repo), "fetch", "--quiet", "--depth=1", "--no-tags", source, wanted],
        env=command.environment(GIT_TERMINAL_PROMPT="0"),
    )
    if finished.status != 0:
        raise InfraError(
            f"tree {job.name}: cannot fetch {job.tree.ref} from {url}: {finished.complaint}",
            hint=command.quoted(["git", "ls-remote", url, job.tree.ref]),
            detail=finished.stderr,
        )


def _remote(job: _Job, url: str) -> str:
    """What the ref is on the server now; what it was last time when that cannot be asked."""
    # The server's own name of "origin/next", which is what a clone of it would say.
    ref = job.tree.ref.removeprefix("origin/")
    found = _listed(url, ref)
    if isinstance(found, dict):
        for full in (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}", ref):
            if full in found:
                return found[full]
        raise _no_ref(job, url)
    known = _read_stamp(job.repo)
    if known and known["definition"] == _definition(job.name, job.tree, job.root):
        job.listen(Event("note", job.name, f"{url} does not answer: using {known['commit'][:12]}"))
        return str(known["commit"])
    raise InfraError(
        f"tree {job.name}: {url} does not answer: {found.complaint}",
        hint=command.quoted(["git", "ls-remote", url]),
        detail=found.stderr,
    )


def _listed(url: str, ref: str) -> dict[str, str] | command.Finished:
    """The commits of the refs of that name on a server; how git ended, if that is badly."""
    argv = ["git", "ls-remote", url, ref, f"{ref}^{{}}"]
    finished = command.run(argv, env=command.environment(GIT_TERMINAL_PROMPT="0"))
    if finished.status != 0:
        return finished
    lines = (line.partition("\t") for line in finished.stdout.splitlines())
    return {name: commit for commit, _, name in lines}


def _no_ref(job: _Job, url: str) -> UsageError:
    return UsageError(
        f"[tree.{job.name}] ref: {url} has no commit {job.tree.ref!r}",
        hint=command.quoted(["git", "ls-remote", "--heads", "--tags", url]),
    )


@contextlib.contextmanager
def _repository(repo: Path, *, fresh: bool) -> Iterator[Path]:
    """The bare repository to import into: a finished one in place, a new one renamed at the end."""
    repo.parent.mkdir(parents=True, exist_ok=True)
    # We hold the tree's lock: what has this name was left by a run that died.
    working = repo.with_suffix(".new")
    shutil.rmtree(working, ignore_errors=True)
    if not fresh:
        yield repo
        return
    shutil.rmtree(repo, ignore_errors=True)
    try:
        git.out(repo.parent, "init", "--quiet", "--bare", working)
        git.out(working, "config", "gc.auto", "0")
        yield working
        working.rename(repo)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _definition(name: str, tree: config.Tree, root: Path) -> dict[str, Any]:
    """What the tree is made from: when this changes, it is made again."""
    if tree.kind == "debian":
        suite = {"suite": tree.suite} if tree.suite else {}
        return {"kind": tree.kind, "package": tree.package, **suite}
    if tree.kind == "git":
        return {"kind": tree.kind, "url": tree.url, "ref": tree.ref}
    path = root / tree.path
    fits = path.is_dir() if tree.kind == "dir" else path.is_file()
    if not fits:
        near = _nearest(path.name, path.parent)
        meant = f" (did you mean {near!r}?)" if near else ""
        what = "directory" if tree.kind == "dir" else "file"
        raise UsageError(
            f"[tree.{name}] path: no {what} {path}{meant}",
            hint=command.quoted(["ls", path.parent]),
        )
    if tree.kind == "dir":
        return {"kind": tree.kind, "path": str(path.resolve())}
    stat = path.stat()
    stamp = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return {"kind": tree.kind, "path": str(path.resolve()), **stamp}


def _nearest(name: str, directory: Path) -> str | None:
    names = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
    return next(iter(difflib.get_close_matches(name, names, n=1)), None)


def version_of(repo: Path, commit: str, name: str) -> str:
    """Kernel version from a commit's top Makefile, "6.12.117"; UsageError when it has none."""
    shown = git.attempt(repo, "show", f"{commit}:Makefile")
    text = shown.stdout if shown.status == 0 else ""
    found: dict[str, str] = dict(_MAKEFILE.findall(text))
    if not found.get("VERSION") or not found.get("PATCHLEVEL"):
        raise UsageError(
            f"[tree.{name}] this is no kernel source: no VERSION in its top Makefile",
            hint=command.quoted(["git", "-C", repo, "ls-tree", "--name-only", commit]),
        )
    numbers = [found["VERSION"], found["PATCHLEVEL"], found.get("SUBLEVEL") or "0"]
    return ".".join(numbers) + found.get("EXTRAVERSION", "")


def _read_stamp(repo: Path) -> dict[str, Any] | None:
    try:
        stamp: dict[str, Any] = json.loads((repo / _STAMP).read_text())
        return stamp if {"definition", "commit", "version"} <= stamp.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _write_stamp(repo: Path, stamp: dict[str, Any]) -> None:
    new = repo / f"{_STAMP}.new"
    new.write_text(json.dumps(stamp, indent=1) + "\n")
    new.replace(repo / _STAMP)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name)
