# SPDX-License-Identifier: GPL-2.0
"""Does a series apply to a tree, is it upstream there already, and what does checkpatch say?"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.config import Config
from harness.errors import InfraError
from harness.events import Event, Listener, silent
from harness.kernel import command, git, lock, series
from harness.series import base, mail

Fate = Literal["applies", "offset", "upstream", "conflicts", "untried"]
Verdict = Literal[
    "applies", "applies with offset", "conflicts", "no port", "already upstream"
]  # fmt: skip

_CHECKPATCH = "scripts/checkpatch.pl"
# What makes a directory a kernel tree to checkpatch, and what it looks up there.  Not
# get_maintainer.pl, which takes a second for each file, to say that some are obsolete.
_LOOKED_UP = (
    "COPYING", "CREDITS", "Kbuild", "MAINTAINERS", "Makefile", "README", "Documentation/index.rst",
    "Documentation/devicetree/bindings/vendor-prefixes.yaml", "arch/Kconfig", "drivers/Kconfig",
    "fs/Kconfig", "init/Kconfig", "ipc/Makefile", "kernel/Makefile", "lib/Kconfig",
    "include/linux/", "include/asm-generic/", "include/uapi/linux/",
    _CHECKPATCH, "scripts/spelling.txt", "scripts/const_structs.checkpatch",
)  # fmt: skip
_FINDING = re.compile(r"^.*?:(?P<line>\d+): (?P<level>ERROR|WARNING|CHECK):(?P<what>.*)$")
_OFFSET = re.compile(r"^Hunk #\d+ succeeded at (?P<line>\d+) \(offset (?P<by>-?\d+) lines?\)", re.M)
_CHECKING = re.compile(r"^Checking patch (?P<file>.+)\.\.\.$")
_FAILED = re.compile(r"^error: patch failed: (?P<where>.+:\d+)$", re.MULTILINE)
_OTHER = re.compile(r"^error: (?P<what>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One complaint of checkpatch."""

    line: int  # of the patch file
    level: str  # "ERROR", "WARNING", "CHECK"
    what: str  # "TRAILING_WHITESPACE: trailing whitespace"

    def __str__(self) -> str:
        return f"{self.line}: {self.level}:{self.what}"


@dataclass(frozen=True)
class Patch:
    """What became of one patch."""

    file: Path
    fate: Fate
    where: list[str] = field(default_factory=list)  # offsets, or what did not fit
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """A series on one tree."""

    tree: str
    line: str
    base: base.Base
    of: str  # the tree line whose patches were tried: another one where there is no port
    patches: list[Patch]  # none is tried after the first that conflicts
    unchecked: str = ""  # why checkpatch did not run

    @property
    def tried(self) -> Verdict:
        """How the patches fared, whichever line's they are."""
        fates = [patch.fate for patch in self.patches]
        if "conflicts" in fates:
            return "conflicts"
        if fates and all(fate == "upstream" for fate in fates):
            return "already upstream"
        return "applies with offset" if "offset" in fates else "applies"

    @property
    def verdict(self) -> Verdict:
        return self.tried if self.of == self.line or self.tried == "already upstream" else "no port"

    @property
    def bad(self) -> bool:
        """Whether it is not as its author says: a port that conflicts, errors of checkpatch."""
        return self.verdict == "conflicts" or "ERROR" in [f.level for f in self.findings]

    @property
    def findings(self) -> list[Finding]:
        """Checkpatch's, of all patches."""
        return [finding for patch in self.patches for finding in patch.findings]


def trees(cfg: Config, name: str) -> Iterator[tuple[str, str]]:
    """Each tree of harness.toml, and the line whose patches to try: its own, else the nearest."""
    lines = base.lines(cfg, name)
    for tree_name, tree in cfg.tree.items():
        if tree.line in lines:
            yield tree_name, tree.line
        else:
            yield tree_name, min(lines, key=lambda line: _distance(line, tree.line))


def _distance(one: str, other: str) -> int:
    (a, _), (b, _) = base.order(one), base.order(other)
    pad = max(len(a), len(b), 2)
    a, b = a + [0] * (pad - len(a)), b + [0] * (pad - len(b))
    return abs((a[0] - b[0]) * 1000 + a[1] - b[1])


def check(
    cfg: Config,
    name: str,
    tree_name: str,
    of: str,
    cache: Path,
    listen: Listener = silent,
    *,
    checkpatch: bool = True,
) -> Report:
    """Try the patches of line `of` on a tree, one after the other, in a scratch worktree.

    A patch whose reverse applies is upstream, and passed over.  Raises what
    series.apply() does for the series that come before, UsageError and InfraError.
    """
    files = series.patches(name, of, cfg.root)
    place = base.under(cfg, name, tree_name, cache, listen)
    commit = base.commit(place, cfg, cache, listen)
    repo = place.source.repo
    paths = {path for file in files for path in series.touched(file.read_bytes())}
    paths.update(_LOOKED_UP)
    with (
        command.room_on(cache),
        lock.held(repo.with_suffix(".check.lock"), name, listen),
        git.sparse_worktree(repo, repo.with_suffix(".check"), commit, sorted(paths)) as tree,
        tempfile.TemporaryDirectory(prefix="harness-check-") as scratch,
    ):
        why = _cannot_check(tree) if checkpatch else "not asked for"
        # Before the patches: a series that changes checkpatch is read by the old one.
        found = {} if why else {file: _checkpatch(file, tree, Path(scratch)) for file in files}
        patches: list[Patch] = []
        for number, file in enumerate(files):
            listen(Event("series", name, file.name, done=number, total=len(files)))
            patches.append(_try(file, tree, found.get(file, [])))
            if patches[-1].fate == "conflicts":
                break
        # Patches that cannot be tried any more can still be read.
        late = files[len(patches) :]
        patches += [Patch(file, "untried", [], found.get(file, [])) for file in late]
        return Report(tree_name, cfg.tree[tree_name].line, place, of, patches, unchecked=why)


def _try(file: Path, tree: Path, findings: list[Finding]) -> Patch:
    """Apply one patch to index and files of `tree`, or say why not."""
    mails = mail.read(file)
    if len(mails) != 1 or not mails[0].has_diff:
        return Patch(file, "conflicts", ["not one mail with a diff"], findings)
    diff = mails[0].patch
    done = git.attempt(tree, "apply", "--index", "--verbose", "-", stdin=diff)
    if done.status == 0:
        moved = _offsets(done.stderr)
        return Patch(file, "offset" if moved else "applies", moved, findings)
    back = git.attempt(tree, "apply", "--index", "--reverse", "--check", "-", stdin=diff)
    if back.status == 0:
        return Patch(file, "upstream", [], findings)
    where = _FAILED.findall(done.stderr) or _OTHER.findall(done.stderr) or [done.complaint]
    return Patch(file, "conflicts", where, findings)


def _offsets(said: str) -> list[str]:
    """"mm/filemap.c:40: 3 lines further down" for each hunk that git found elsewhere."""
    found, file = [], ""
    for line in said.splitlines():
        if checking := _CHECKING.match(line):
            file = checking["file"]
        elif hunk := _OFFSET.match(line):
            by = int(hunk["by"])
            lines = f"{abs(by)} line{'s' if abs(by) > 1 else ''}"
            found.append(f"{file}:{hunk['line']}: {lines} {'down' if by > 0 else 'up'}")
    return found


def _cannot_check(tree: Path) -> str:
    if not (tree / _CHECKPATCH).is_file():
        return f"no {_CHECKPATCH} in this tree"
    try:
        command.run(["perl", "-v"])
    except InfraError as error:  # it is not installed
        return error.message
    return ""


def _checkpatch(file: Path, tree: Path, scratch: Path) -> list[Finding]:
    """Its findings.

    Run away from any repository: a tree of one commit knows no commit that a
    message names, and checkpatch would call each unknown.
    """
    options = ["--no-summary", "--terse", "--show-types", "--color=never", f"--root={tree}"]
    said = command.run(["perl", tree / _CHECKPATCH, *options, file.resolve()], cwd=scratch)
    matches = [match for line in said.stdout.splitlines() if (match := _FINDING.match(line))]
    if said.status != 0 and not matches:
        return [Finding(0, "WARNING", f"HARNESS: checkpatch itself failed: {said.complaint}")]
    return [Finding(int(match["line"]), match["level"], match["what"]) for match in matches]


def summary(findings: Sequence[Finding]) -> str:
    """"clean", or how many of what."""
    levels = ("ERROR", "WARNING", "CHECK")
    counts = {level: sum(each.level == level for each in findings) for level in levels}
    told = [
        f"{number} {level.lower()}{'s' if number > 1 else ''}"
        for level, number in counts.items()
        if number
    ]
    return ", ".join(told) or "clean"
