# SPDX-License-Identifier: GPL-2.0
"""Text that a guest, a patch or a tree wrote, made safe for the user's terminal."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """`text` with what is not printable escaped ("\\x1b"), but for the characters in `keep`.

    Titles of windows, cursors and colours that others meant for a terminal are shown as
    what they are, and not obeyed.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape", "replace").decode()
        for c in text
    )
