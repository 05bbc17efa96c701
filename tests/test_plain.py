# SPDX-License-Identifier: GPL-2.0
"""What others wrote for a terminal is shown to the user, never obeyed by the user's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import ending
from harness.events import Event
from harness.plain import printable

EVIL = "\x1b]0;owned\x07\x1b[2Jgone\x9b31m"


@given(st.text())
def test_only_printable_characters_come_out(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    assert set(printable(text, keep="\n")) <= set(printable(text)) | {"\n"}


def test_what_is_printable_stays() -> None:
    assert printable("fs/ext4: ü — 5 %") == "fs/ext4: ü — 5 %"
    assert printable("a\tb\n", keep="\t\n") == "a\tb\n"
    assert printable("\udc80") == r"\udc80"  # a byte that was no UTF-8


def test_events_and_complaints(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in Event("note", "x", EVIL).message
    ending.say(EVIL)
    assert capsys.readouterr().err == "\\x1b]0;owned\\x07\\x1b[2Jgone\\x9b31m\n"
