# SPDX-License-Identifier: GPL-2.0
"""`harness series export`: patches/NAME/LINE/ as mails again, with a cover letter."""

from __future__ import annotations

import json
import subprocess
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

from harness.config import Config
from harness.errors import UsageError
from harness.events import Listener, silent
from harness.kernel import git, series
from harness.plain import printable
from harness.series import base, folder, letter, mail

_WIDTH = 72


def export(
    cfg: Config,
    name: str,
    line: str,
    to: Path,
    cache: Path,
    listen: Listener = silent,
    *,
    run: str = "",
    results: Path = Path("results"),
    cover: Path | None = None,
    reroll: int = 1,
    force: bool = False,
) -> list[Path]:
    """Write the patches and 0000-cover-letter.patch into the directory `to`; the files.

    What the patches say below "---" stays.  The cover letter has the text of `cover`
    (its first line is the subject; default: that of the imported series), with `run`
    the verdicts of that run, and shortlog and diffstat.  Raises UsageError, and what
    series.apply() does when the series does not apply.
    """
    files = series.patches(name, line, cfg.root)
    mails = [each for file in files for each in mail.read(file)]
    patches = mail.arranged(mails, str(files[0].parent if files else name), listed=True).patches
    table = letter.table(_run(results, run)) if run else []
    subject, text = _text(cover or cfg.root / "patches" / name / line / folder.COVER, cover)
    place = base.under(cfg, name, base.tree_of(cfg, line), cache, listen)
    below = base.commit(place, cfg, cache, listen)
    above = series.apply(place.source, [*place.before, name], cfg.root, cache, listen)
    repo = place.source.repo
    body = [text, *(["", *table] if table else []), ""]
    body += [f"Applies to {place}.", ""]
    body += [git.out(repo, "shortlog", "-w72,2,4", f"{below}..{above}"), ""]
    stat = git.attempt(repo, "diff", f"--stat={_WIDTH}", "--summary", "-M", below, above)
    body += [stat.stdout.rstrip("\n")]
    author, email = _author(cfg.root, patches[0])
    total, width = len(patches), len(str(len(patches)))
    version = f" v{reroll}" if reroll > 1 else ""
    first = mail.Mail(
        origin="the cover letter",
        author=author,
        email=email,
        date=formatdate(time.time(), localtime=True),
        subject=subject,
        message="\n".join(body).encode("utf-8", "replace"),
        patch=b"",
    )
    pages = {"0000-cover-letter.patch": mail.page(first, f"PATCH{version} {0:0{width}}/{total}")}
    for number, each in enumerate(patches, 1):
        name_of = mail.file_name(number, each.subject)
        pages[name_of] = mail.rendered(each, f"PATCH{version} {number:0{width}}/{total}")
    return _write(to, pages, force)


def _write(to: Path, pages: dict[str, bytes], force: bool) -> list[Path]:
    try:
        to.mkdir(parents=True, exist_ok=True)
        old = sorted(to.glob("[0-9][0-9][0-9][0-9]-*.patch"))
        if old and not force:
            raise UsageError(
                f"{to} has patches already ({old[0].name}, ...)",
                hint="the same with --force replaces them",
            )
        for file in old:
            file.unlink()
        for name, content in pages.items():
            (to / name).write_bytes(content)
    except OSError as error:
        raise UsageError(f"{to}: cannot write it: {error.strerror}") from error
    return [to / name for name in pages]


def _text(path: Path, asked: Path | None) -> tuple[str, str]:
    """Subject and text of the cover letter."""
    if not path.is_file():
        if asked is not None:
            raise UsageError(f"--cover {asked}: no such file")
        return folder.NO_SUBJECT, folder.NO_TEXT
    subject, _, text = path.read_text(errors="replace").strip().partition("\n")
    return " ".join(subject.split()) or folder.NO_SUBJECT, text.strip("\n") or folder.NO_TEXT


def _run(results: Path, run: str) -> dict[str, Any]:
    """run.json of a run, by its name under results/ or its directory."""
    places = [Path(run), results / run]
    for place in places:
        file = place / "run.json" if place.is_dir() else place
        if file.is_file():
            try:
                found: dict[str, Any] = json.loads(file.read_text())
                return found
            except (OSError, ValueError) as error:
                raise UsageError(f"{file}: cannot read it: {printable(str(error))}") from error
    raise UsageError(f"no run {run!r} in {results}", hint=f"ls {results}")


def _author(where: Path, patch: mail.Mail) -> tuple[str, str]:
    """Whoever runs this, as their git knows them, else who wrote the first patch."""
    who = []
    for key in ("user.name", "user.email"):
        done = subprocess.run(
            ["git", "-C", str(where), "config", "--get", key], capture_output=True, text=True
        )
        who.append(done.stdout.strip())
    return (who[0], who[1]) if all(who) else (patch.author, patch.email)


