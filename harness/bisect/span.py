# SPDX-License-Identifier: GPL-2.0
"""What lies between GOOD and BAD: commits of a git tree, or the patches of a series.

`series.apply` makes a commit of each patch, so that both are a range of commits in the
tree's repository, upon each of which the kernel's (other) series are applied.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import config
from harness.bisect import odds
from harness.errors import InfraError, UsageError
from harness.events import Event, Listener
from harness.kernel import build, command, dotconfig, git, lock, series
from harness.kernel.identity import identify
from harness.kernel.tree import Source, version_of

_NUMBER = re.compile(r"\d{1,5}")
_SHORT = 12


@dataclass(frozen=True)
class Span:
    """A range of commits in `repo`, good excluded."""

    repo: Path
    good: str  # full ids
    bad: str
    above: Sequence[str] = ()  # series that are applied upon each commit
    # Of a series: its commits in order, before the first patch included, and what they
    # are made from: the kernel's patches before it, its own, and those after it.
    commits: Sequence[str] = ()
    patches: tuple[Sequence[Path], Sequence[Path], Sequence[Path]] = ((), (), ())
    subjects: dict[str, str] = field(default_factory=dict)
    options: dict[str, set[str]] = field(default_factory=dict)  # of the Kconfig files of each

    @property
    def number(self) -> int:
        """How many commits may be the first bad one."""
        return int(git.out(self.repo, "rev-list", "--count", self.bad, f"^{self.good}"))

    @property
    def steps(self) -> int:
        """About how many of them are to be tested."""
        return odds.steps(self.number)

    def subject(self, commit: str) -> str:
        """The first line of a commit's message."""
        if commit not in self.subjects:
            self.subjects[commit] = git.out(self.repo, "show", "-s", "--format=%s", commit)
        return self.subjects[commit]

    def name(self, commit: str) -> str:
        """A commit as a person knows it: "patch 3 of 4 (0003-mm.patch)", or its short id."""
        if not self.commits:
            return commit[:_SHORT]
        number = self.commits.index(commit)
        if not number:
            return "before the first patch"
        own = self.patches[1]
        return f"patch {number} of {len(own)} ({own[number - 1].name})"

    def recipe(self, recipe: build.Recipe, commit: str) -> build.Recipe:
        """The kernel as it is at a commit: its source, its patches, its id, its options."""
        source, patches, parts = recipe.source, recipe.patches, recipe.parts
        if self.commits:
            below, own, above = self.patches
            patches = [*below, *own[: self.commits.index(commit)], *above]
        else:
            version = version_of(self.repo, commit, source.name)
            parts = [commit if part == source.commit else part for part in parts]
            source = replace(source, commit=commit, version=version)
        # An option that comes or goes on the way is asked for where there is one.
        here, ends = self._symbols(commit), self._symbols(self.good) | self._symbols(self.bad)
        options = {
            name: option
            for name, option in recipe.options.items()
            if name in here or name not in ends
        }
        contents = [patch.read_bytes() for patch in patches]
        identity = identify(parts, contents)
        return replace(
            recipe, source=source, patches=patches, parts=parts, options=options, identity=identity
        )

    def _symbols(self, commit: str) -> set[str]:
        if commit not in self.options:
            self.options[commit] = dotconfig.symbols(self.repo, commit)
        return self.options[commit]

    def whole(self, recipe: build.Recipe, commit: str, root: Path, cache: Path,
              listen: Listener) -> str:  # fmt: skip
        """The commit with the series above it; BuildError when one does not apply."""
        source = replace(recipe.source, commit=commit)
        return series.apply(source, self.above, root, cache, listen)


def of_patches(
    recipe: build.Recipe, name: str, good: str, bad: str, cfg: config.Config, cache: Path,
    listen: Listener,
) -> Span:  # fmt: skip
    """The patches of series `name` of the kernel; GOOD and BAD are numbers, "" the ends."""
    names = [entry.partition(":")[0] for entry in recipe.kernel.series]
    if name not in names:
        raise UsageError(
            f"kernel {recipe.name!r} has no series {name!r}{config.nearest(name, names)}",
            hint="harness list",
        )
    at = names.index(name)
    entries, line = recipe.kernel.series, recipe.source.line
    files = [series.patches(entry, line, cfg.root) for entry in entries]
    below = [path for each in files[:at] for path in each]
    above = [path for each in files[at + 1 :] for path in each]
    total = len(files[at])
    first, last = _patch(good, 0, total, "GOOD"), _patch(bad, total, total, "BAD")
    if first >= last:
        raise UsageError(
            f"GOOD is patch {first}, BAD is patch {last}: nothing lies between them",
            hint=f"harness bisect --kernel {recipe.name} --series {name} 0 {total}",
        )
    base = series.apply(recipe.source, entries[:at], cfg.root, cache, listen)
    top = series.apply(recipe.source, entries[: at + 1], cfg.root, cache, listen)
    repo = recipe.source.repo
    commits = [base, *git.out(repo, "rev-list", "--reverse", f"{base}..{top}").split()]
    if len(commits) != total + 1:
        raise UsageError(
            f"series {name}: {total} files became {len(commits) - 1} commits: a file with more"
            " than one patch, or with none, cannot be a step",
            hint=command.quoted(["git", "-C", repo, "log", "--oneline", f"{base}..{top}"]),
        )
    return Span(
        repo, commits[first], commits[last], entries[at + 1 :], commits,
        (below, files[at], above),
    )  # fmt: skip


def _patch(said: str, default: int, total: int, end: str) -> int:
    if not said:
        return default
    if _NUMBER.fullmatch(said) and int(said) <= total:
        return int(said)
    raise UsageError(
        f"{end} {said!r}: of a series it is the number of a patch, 0 (before the first) to {total}",
        hint="harness series list",
    )


def of_commits(
    recipe: build.Recipe, good: str, bad: str, cfg: config.Config, listen: Listener
) -> Span:
    """The commits of the kernel's git tree; what is missing of them is fetched."""
    tree, source = cfg.tree[recipe.kernel.tree], recipe.source
    if tree.kind != "git":
        raise UsageError(
            f"[tree.{source.name}] is no git tree: only the patches of a series can be bisected",
            hint=f"harness bisect --kernel {recipe.name} --series NAME",
        )
    if not good:
        raise UsageError(
            "GOOD is missing: a commit of the tree", hint="harness bisect --help"
        )
    bad = bad or source.commit
    with lock.held(source.repo.with_suffix(".lock"), source.name, listen):
        ends = _Fetch(source, tree, cfg.root, listen).both(good, bad)
    first, last = ends
    if first == last:
        raise UsageError(
            f"GOOD and BAD are the same commit, {first[:_SHORT]}", hint="harness bisect --help"
        )
    if git.attempt(source.repo, "merge-base", first, last).status != 0:
        raise UsageError(
            f"GOOD {good} and BAD {bad} have no commit in common",
            hint=command.quoted(["git", "-C", source.repo, "log", "--oneline", "-5", first]),
        )
    return Span(source.repo, first, last, list(recipe.kernel.series))


class _Fetch:
    """Brings the range into the tree's repository, which has single commits only."""

    def __init__(self, source: Source, tree: config.Tree, root: Path, listen: Listener) -> None:
        self.repo, self.name, self.url, self._listen = source.repo, source.name, tree.url, listen
        local = (root / tree.url).expanduser()
        self.local = local.resolve() if local.is_dir() else None

    def both(self, good: str, bad: str) -> tuple[str, str]:
        if self.local is None:
            return self._remote(good, bad)
        ends = [self._resolved(self.local, name) for name in (good, bad)]
        if not self._have(*ends):
            self._borrowed(self.local, *ends)
        return ends[0], ends[1]

    def _resolved(self, repo: Path, name: str) -> str:
        commit = git.resolve(repo, name)
        if commit is None:
            raise UsageError(
                f"[tree.{self.name}] {self.url} has no commit {name!r}",
                hint=command.quoted(["git", "-C", repo, "log", "--oneline", "-5"]),
            )
        return commit

    def _mark(self, good: str, bad: str) -> None:
        """Says by a ref that the range is here whole, and of how many commits that is."""
        if git.attempt(self.repo, "merge-base", good, bad).status != 0:
            return  # it is not
        name = f"refs/harness/bisect/{good}-{bad}/{self._count(good, bad)}"
        git.out(self.repo, "update-ref", name, bad)

    def _have(self, good: str, bad: str) -> bool:
        """Whether it is here, and still whole: fetching another range may have cut it."""
        place = f"refs/harness/bisect/{good}-{bad}"
        names = git.out(self.repo, "for-each-ref", "--format=%(refname)", place).split()
        return bool(names) and f"{place}/{self._count(good, bad)}" in names

    def _count(self, good: str, bad: str) -> str:
        return git.out(self.repo, "rev-list", "--count", bad, f"^{good}")

    def _borrowed(self, local: Path, good: str, bad: str) -> None:
        """From a repository on this machine: exactly the range.

        git leaves out what is reachable from a ref, so the parents of where the two ends
        meet get refs: in a repository that borrows the user's objects, not in theirs.
        """
        helper = self.repo.with_suffix(".range")
        shutil.rmtree(helper, ignore_errors=True)
        try:
            git.out(self.repo.parent, "init", "--quiet", "--bare", helper)
            common = git.out(local, "rev-parse", "--path-format=absolute", "--git-common-dir")
            (helper / "objects/info/alternates").write_text(f"{common}/objects\n")
            if (Path(common) / "shallow").is_file():
                shutil.copy(Path(common) / "shallow", helper / "shallow")
            meet = git.attempt(local, "merge-base", "--all", good, bad).stdout.split()
            leave = set()
            for commit in meet:
                parents = git.out(local, "rev-list", "--parents", "-1", commit).split()[1:]
                leave |= {parent for parent in parents if git.resolve(local, parent)}
            for number, commit in enumerate(sorted(leave)):
                git.out(helper, "update-ref", f"refs/heads/leave-{number}", commit)
            git.out(helper, "update-ref", "refs/heads/good", good)
            git.out(helper, "update-ref", "refs/heads/bad", bad)
            options = [f"--shallow-exclude=refs/heads/leave-{n}" for n in range(len(leave))]
            if not options and (self.repo / "shallow").is_file():
                options = ["--unshallow"]  # the range begins with a first commit
            self._say(f"fetching {good[:_SHORT]}..{bad[:_SHORT]} from {local}")
            refs = ["refs/heads/good", "refs/heads/bad"]
            self._fetch([*options, f"file://{helper}", *refs])
            self._mark(good, bad)
        finally:
            shutil.rmtree(helper, ignore_errors=True)

    def _remote(self, good: str, bad: str) -> tuple[str, str]:
        """From a server: the range if GOOD is a branch or tag there, else all of BAD's history."""
        ends = [git.resolve(self.repo, name) for name in (good, bad)]
        if ends[0] and ends[1] and self._have(ends[0], ends[1]):
            return ends[0], ends[1]
        self._say(
            f"fetching {good}..{bad} from {self.url}: the history between them, once;"
            " of a kernel that takes minutes"
        )
        wanted = [f"+{bad}:refs/harness/bisect/end"]
        only = self._fetch([f"--shallow-exclude={good}", self.url, *wanted], must=False)
        only = only and self._fetch(["--deepen=1", self.url, *wanted], must=False)
        first = self._named(good) if only else None
        last = git.resolve(self.repo, "refs/harness/bisect/end")
        if not (first and last and self._is_ancestor(first, last)):
            self._say(f"{self.url} cannot leave out what is before {good}: fetching all of it")
            whole = ["--unshallow"] if (self.repo / "shallow").is_file() else []
            self._fetch([*whole, self.url, *wanted, f"+{good}:refs/harness/bisect/start"])
            first = git.resolve(self.repo, "refs/harness/bisect/start")
            last = git.resolve(self.repo, "refs/harness/bisect/end")
        if not first or not last:
            raise UsageError(
                f"[tree.{self.name}] {self.url} has no commits {good!r} and {bad!r}",
                hint=command.quoted(["git", "ls-remote", self.url]),
            )
        self._mark(first, last)
        return first, last

    def _named(self, ref: str) -> str | None:
        """A ref of the server, when what was fetched has its commit."""
        listed = git.attempt(self.repo, "ls-remote", self.url, ref, f"{ref}^{{}}").stdout
        ids = [line.split("\t")[0] for line in listed.splitlines()]
        return git.resolve(self.repo, ids[-1]) if ids else None

    def _is_ancestor(self, first: str, last: str) -> bool:
        return git.attempt(self.repo, "merge-base", "--is-ancestor", first, last).status == 0

    def _fetch(self, words: Sequence[str], must: bool = True) -> bool:
        (self.repo / "shallow.lock").unlink(missing_ok=True)
        # The user's own git configuration applies: proxies, credentials.
        argv = ["git", "-C", str(self.repo), "fetch", "--quiet", "--no-tags", *words]
        done = command.run(argv, env=command.environment(GIT_TERMINAL_PROMPT="0"))
        if done.status != 0 and must:
            raise InfraError(
                f"tree {self.name}: cannot fetch the range from {self.url}: {done.complaint}",
                hint=command.quoted(["git", "ls-remote", self.url]),
                detail=done.stderr,
            )
        return done.status == 0

    def _say(self, message: str) -> None:
        self._listen(Event("tree", self.name, message))
