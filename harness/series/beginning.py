# SPDX-License-Identifier: GPL-2.0
"""The one patch that a new series begins with."""

from __future__ import annotations

import subprocess
import tempfile
import textwrap
import time
from pathlib import Path

from harness.config import Config
from harness.errors import UsageError
from harness.events import Listener, silent
from harness.kernel import command, git, lock
from harness.series import base, importing, mail

# Where it adds a line: every tree since 2.6 has this call there, once.
_FILE, _CALL = "mm/filemap.c", "\tpage_writeback_init();\n"
_SUBJECT = "mm/filemap: say when the page cache is set up"
_BODY = (
    'The series {name} begins with this patch, which "harness new series" wrote. It changes'
    " nothing but what is said at boot, and only where dynamic debug asks for it, so that a"
    " kernel with the series can be built, booted and raced before there is more of it.",
    'To put something else in its place, amend it or commit beside it in the worktree that'
    ' "harness series apply" makes, and take the commits back with "harness series import"'
    " and its option --git.",
)


def patch(
    cfg: Config, name: str, line: str, cache: Path, listen: Listener = silent
) -> mail.Collected:
    """One line of pr_debug() in mm/filemap.c, on what the stock kernel of `line` has.

    Signed off by whoever git says runs this.  UsageError when git does not know, or
    the file has no place for it; what tree.materialise() and series.apply() raise.
    """
    who = _author(cfg.root)
    place = base.under(cfg, name, base.tree_of(cfg, line), cache, listen)
    below = base.commit(place, cfg, cache, listen)
    repo = place.source.repo
    with (
        command.room_on(cache),
        lock.held(repo.with_suffix(".check.lock"), name, listen),
        git.sparse_worktree(repo, repo.with_suffix(".check"), below, [_FILE]) as tree,
        tempfile.TemporaryDirectory(prefix="harness-new-") as scratch,
    ):
        file = tree / _FILE
        before = file.read_text() if file.is_file() else ""
        if before.count(_CALL) != 1:
            raise UsageError(
                f"tree {place.source.name}: no call of page_writeback_init() in {_FILE},"
                " where a new series begins",
                hint="git format-patch, then: harness series import NAME DIR --kernel NAME",
            )
        said = f'\tpr_debug("{name}: the page cache is set up\\n");\n'
        file.write_text(before.replace(_CALL, said + _CALL))
        body = "\n\n".join(textwrap.fill(part.format(name=name), 72) for part in _BODY)
        text = f"{_SUBJECT}\n\n{body}\n\nSigned-off-by: {who}\n"
        author, _, address = who.rpartition(" <")
        env = {
            **git.environment(),
            "GIT_AUTHOR_NAME": author,
            "GIT_AUTHOR_EMAIL": address.rstrip(">"),
            "GIT_AUTHOR_DATE": f"{int(time.time())} +0000",
        }
        git.out(tree, "update-index", _FILE, env=env)
        git.out(tree, "commit", "--quiet", "-F", "-", stdin=text.encode(), env=env)
        git.out(tree, *importing.FORMAT, "-o", scratch, "-1", "HEAD")
        found = [each for made in Path(scratch).iterdir() for each in mail.read(made)]
    return mail.arranged(found, name)


def _author(where: Path) -> str:
    """"NAME <EMAIL>", as the user's own git has it."""
    asked = subprocess.run(
        ["git", "-C", str(where), "var", "GIT_AUTHOR_IDENT"], capture_output=True, text=True
    )
    if asked.returncode != 0:
        raise UsageError(
            "git does not know who you are, and the patch must be signed off",
            hint='git config --global user.name "NAME"; git config --global user.email EMAIL',
        )
    return asked.stdout.rpartition(">")[0] + ">"
