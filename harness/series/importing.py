# SPDX-License-Identifier: GPL-2.0
"""`harness series import`: a folder, an mbox or a git range becomes patches/NAME/LINE/."""

from __future__ import annotations

import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.config import Config
from harness.errors import UsageError
from harness.kernel import command, git
from harness.plain import printable
from harness.series import folder, mail, table

# The patches as they are, whatever the repository's own configuration says.
FORMAT = (
    "format-patch", "--quiet", "--numbered", "--no-cover-letter", "--no-attach", "--no-thread",
    "--no-to", "--no-cc", "--no-notes", "--subject-prefix=PATCH", "--binary", "--no-ext-diff",
    "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/", "--suffix=.patch",
)  # fmt: skip


# What git format-patch, or an export, adds below the text of a cover letter.
_ADDED = re.compile(
    r"^(?:\S.* \(\d+\):\n  \S| .+ \| +\d+ [+-]|Run \d{8}T\d{6}Z-|Applies to )", re.MULTILINE
)


@dataclass(frozen=True)
class Imported:
    """What came of it."""

    place: Path
    patches: list[str]  # names of the files, in order
    passed_over: list[str]  # subjects of mails that are no patches
    table: str  # what was added to harness.toml, "" when nothing was


def from_source(source: Path) -> mail.Collected:
    """The series in a folder of mails (or maildir), in an mbox, or in one mail.

    Errors are those of mail.read() and mail.arranged().
    """
    if not source.exists():
        raise UsageError(f"no file or folder {source}", hint="git format-patch -o DIR BASE..")
    if not source.is_dir():
        beside = source.with_suffix(".cover")  # where b4 am puts the cover letter
        covers = mail.read(beside) if beside != source and beside.is_file() else []
        return mail.arranged([*covers, *mail.read(source)], str(source))
    listing = source / folder.LISTING
    if listing.is_file():
        files = [source / name for name in _listed(listing)]
    else:
        places = [source / part for part in ("cur", "new") if (source / part).is_dir()]
        mails = [file for place in places for file in place.iterdir()]
        files = sorted(mails or source.glob("*.patch")) or sorted(source.glob("*.eml"))
    if not files:
        raise UsageError(f"{source}: no *.patch in it", hint=f"git format-patch -o {source} BASE..")
    found = [each for file in files for each in mail.read(file)]
    return mail.arranged(found, str(source), listed=listing.is_file())


def _listed(listing: Path) -> list[str]:
    names = []
    for number, text in enumerate(listing.read_text(errors="replace").splitlines(), 1):
        words = text.split("#", 1)[0].split()
        if not words:
            continue
        if words[1:] not in ([], ["-p1"]) or Path(words[0]).name != words[0]:
            raise UsageError(f"{listing}:{number}: not the name of a patch: {printable(text)!r}")
        names.append(words[0])
    return names


def from_git(repo: Path, revisions: str) -> mail.Collected:
    """The commits of a range ("v6.12..", "main..topic") of somebody's own repository.

    UsageError when there is no such repository or range, or a merge in it.
    """
    if revisions.startswith("-") or not revisions.isprintable():
        raise UsageError(f"not a range of commits: {printable(revisions)!r}", hint="BASE..BRANCH")
    if not repo.is_dir() or git.attempt(repo, "rev-parse", "--git-dir").status != 0:
        raise UsageError(f"{repo}: no git repository", hint=f"git -C {shlex.quote(str(repo))} log")
    # format-patch takes "v6.12" for all since then.
    asked = revisions if ".." in revisions else f"{revisions}..HEAD"
    listed = git.attempt(repo, "rev-list", "--parents", asked, "--")
    if listed.status != 0:
        raise UsageError(
            f"{repo}: no range {revisions!r}: {printable(listed.complaint)}",
            hint=command.quoted(["git", "-C", repo, "log", "--oneline", revisions]),
        )
    commits = [line.split() for line in listed.stdout.splitlines()]
    if merges := [words[0][:12] for words in commits if len(words) > 2]:
        raise UsageError(
            f"{repo}: {revisions} has merges, which cannot be patches: {', '.join(merges[:3])}",
            hint=command.quoted(["git", "-C", repo, "rebase", asked.partition("..")[0]]),
        )
    if not commits:
        raise UsageError(f"{repo}: {revisions} has no commit in it")
    with tempfile.TemporaryDirectory(prefix="harness-import-") as scratch:
        git.out(repo, *FORMAT, "-o", scratch, asked, "--")
        found = [each for file in sorted(Path(scratch).iterdir()) for each in mail.read(file)]
        return mail.arranged(found, f"{repo} {revisions}")


def store(
    cfg: Config,
    name: str,
    line: str,
    collected: mail.Collected,
    *,
    remark: str,
    kernel: str = "",
    force: bool = False,
) -> Imported:
    """Write the series, and the table of a kernel with it, under the comment `remark`,
    when `kernel` is named.

    Either all of it is there afterwards or nothing has changed.  Raises UsageError.
    """
    table.check_name("series", name)
    table.check_name("tree line", line)
    text = ""
    if kernel and not table.check_kernel(cfg, kernel, name):
        text = table.kernel_text(
            kernel,
            table.like_stock(cfg, name, line),
            printable(remark),
        )
    total = len(collected.patches)
    width = len(str(total))
    names = [mail.file_name(n, each.subject) for n, each in enumerate(collected.patches, 1)]
    files = {
        file: mail.rendered(each, f"PATCH {number:0{width}}/{total}" if total > 1 else "PATCH")
        for number, (file, each) in enumerate(zip(names, collected.patches, strict=True), 1)
    }
    files[folder.LISTING] = "".join(f"{file}\n" for file in names).encode()
    if collected.cover is not None and (text_of := cover_text(collected.cover)):
        files[folder.COVER] = text_of.encode("utf-8", "replace")
    with folder.written(cfg.root, name, line, files, force=force) as place:
        if text:
            table.append(cfg, text)
    return Imported(place, names, collected.passed_over, text)


def cover_text(cover: mail.Mail) -> str:
    """What somebody wrote into a cover letter, its subject first; "" for git's template."""
    text = cover.message.decode("utf-8", "replace")
    if added := _ADDED.search(text):
        text = text[: added.start()]
    if folder.NO_SUBJECT in cover.subject or folder.NO_TEXT in text:
        return ""
    return f"{cover.subject}\n\n{text.strip()}\n"
