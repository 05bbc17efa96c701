# SPDX-License-Identifier: GPL-2.0
"""patches/<series>/<line>/: written as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.errors import UsageError

COVER = "cover-letter.txt"  # kept beside the patches; first line: its subject
LISTING = "series"
# As git format-patch has it in a new cover letter, which git send-email refuses to send.
NO_SUBJECT, NO_TEXT = "*** SUBJECT HERE ***", "*** BLURB HERE ***"


@contextlib.contextmanager
def written(
    root: Path, name: str, line: str, files: Mapping[str, bytes], *, force: bool
) -> Iterator[Path]:
    """Make patches/`name`/`line` hold exactly `files` and what is in the block go well.

    When the block raises, what was there before is there again.  Raises UsageError when
    there is something already and `force` is not set.
    """
    place = root / "patches" / name / line
    if place.is_symlink() or (place.exists() and not force):
        raise UsageError(f"{place} is there already", hint="the same with --force replaces it")
    parents = [parent for parent in (place.parent, place.parent.parent) if not parent.exists()]
    new, old = (place.with_name(f".{line}.{os.getpid()}.{what}") for what in ("new", "old"))
    stands = False
    try:
        try:
            new.mkdir(parents=True)
            for file, content in files.items():
                (new / file).write_bytes(content)
            if place.exists():
                place.rename(old)
            new.rename(place)
            stands = True
        except OSError as error:
            raise UsageError(f"{place}: cannot write it: {error.strerror}") from error
        yield place
    except BaseException:
        if stands:
            shutil.rmtree(place, ignore_errors=True)
        if old.exists():
            old.rename(place)
        shutil.rmtree(new, ignore_errors=True)
        for parent in parents:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
