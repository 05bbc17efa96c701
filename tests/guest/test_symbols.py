# SPDX-License-Identifier: GPL-2.0
"""File and line in reports; and that a guest's words never reach a shell of ours."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.guest import symbols
from harness.guest.splat import Splat, scan
from harness.guest.symbols import Symbols

# What the kernel's script prints, for each call that it gets: as it is when it knows nothing.
DECODER = """#!/bin/bash
tee -a "$(dirname "$0")/given" | while read line; do
    case $line in
    known*) echo " ${line%%+*} (./fs/ext4/inode.c:12 (discriminator 2) include/linux/fs.h:3) " ;;
    *) echo " $line " ;;
    esac
done
"""
DECODECODE = """#!/bin/bash
read line; echo "$line"; echo "All code"; echo "   0: 0f 0b  ud2"
"""
CALL = re.compile(r"[A-Za-z_][\w.$]*\+0x[0-9a-f]+/0x[0-9a-f]+")


def scripts(place: Path, decoder: str = DECODER) -> Symbols:
    for name, text in (("decode_stacktrace.sh", decoder), ("decodecode", DECODECODE)):
        path = place / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (place / "vmlinux").write_bytes(b"")
    return Symbols(place / "vmlinux", place)


def given_to(place: Path) -> list[str]:
    path = place / "given"
    return path.read_text().splitlines() if path.exists() else []


def test_places_are_written_behind_calls(tmp_path: Path) -> None:
    table = scripts(tmp_path)
    text = (
        "RIP: 0010:known_a+0x10/0x80\n"
        "Code: 00 00 00 90 90 f3 0f 1e <0f> 0b\n"
        "Call Trace:\n"
        " <TASK>\n"
        " known_b.isra.0+0x1/0x2\n"
        " ? other+0x3/0x4\n"
        " </TASK>"
    )
    at = "(fs/ext4/inode.c:12 include/linux/fs.h:3)"
    assert table.annotate(text) == (
        f"RIP: 0010:known_a+0x10/0x80 {at}\n"
        "Code: 00 00 00 90 90 f3 0f 1e <0f> 0b\n"
        "All code\n"
        "   0: 0f 0b  ud2\n"
        "Call Trace:\n"
        " <TASK>\n"
        f" known_b.isra.0+0x1/0x2 {at}\n"
        " ? other+0x3/0x4\n"
        " </TASK>"
    )
    assert given_to(tmp_path) == ["known_a+0x10/0x80", "known_b.isra.0+0x1/0x2", "other+0x3/0x4"]
    table.annotate(text)
    assert len(given_to(tmp_path)) == 3  # each is asked for once


HOSTILE = [
    'x";system("touch /tmp/x");"+0x1/0x2',
    "$(touch /tmp/x)+0x1/0x2",
    "[<0>] a[$(touch /tmp/x)]",
    "known+0x1/0x2 a[$(touch /tmp/x)]",
    "known+0x1/0x2[x$(id)]",
    "Code: $(id) 00 00 00 00 00 00 00 00",
    "known+0x1/0x2 [mod/../../etc]",
]


@pytest.mark.parametrize("line", HOSTILE)
def test_hostile_lines(line: str, tmp_path: Path) -> None:
    scripts(tmp_path).annotate(line)
    assert all(CALL.fullmatch(each) for each in given_to(tmp_path))


PIECES = st.sampled_from(
    [*HOSTILE, "known+0x1/0x2", "+0x1/0x2", "Code:", " 0f", "\n", "$(id)", "`id`", "[", "]", " "]
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES | st.text(max_size=5), max_size=12))
def test_only_calls_reach_the_script(tmp_path: Path, pieces: Sequence[str]) -> None:
    text = "".join(pieces)
    (tmp_path / "given").unlink(missing_ok=True)
    annotated = scripts(tmp_path).annotate(text)
    assert all(CALL.fullmatch(each) for each in given_to(tmp_path))
    places = " (fs/ext4/inode.c:12 include/linux/fs.h:3)"
    kept = [line for line in annotated.replace(places, "").split("\n")
            if line not in ("All code", "   0: 0f 0b  ud2")]
    assert "\n".join(kept) == text  # nothing of what the kernel said is lost


def test_a_script_that_fails_or_hangs_costs_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scripts(tmp_path, "exit 3\n").annotate("known+0x1/0x2") == "known+0x1/0x2"
    monkeypatch.setattr(symbols, "LIMIT_S", 0.3)
    slow = 'read a; echo "$a (mm/a.c:1)"; sleep 1000\n'
    assert scripts(tmp_path, slow).annotate("known+0x1/0x2 next+0x1/0x2") == (
        "known+0x1/0x2 (mm/a.c:1) next+0x1/0x2"
    )


def test_nobody_waits_for_symbols_when_the_run_ends(tmp_path: Path) -> None:
    table = scripts(tmp_path, "sleep 1000\n")
    began = time.monotonic()
    stopped = iter([False, False, True, True, True])
    assert table.annotate("known+0x1/0x2", lambda: next(stopped)) == "known+0x1/0x2"
    assert time.monotonic() - began < symbols.LIMIT_S / 10


def test_a_kernel_from_elsewhere_has_none(tmp_path: Path) -> None:
    assert symbols.beside(tmp_path / "bzImage") is None
    splat = Splat("bug", "a", "known+0x1/0x2")
    assert symbols.decoded([splat], None) == [splat]


def test_a_flood_of_reports_is_decoded_in_part(tmp_path: Path) -> None:
    table = scripts(tmp_path)
    many = [Splat("bug", f"t{n}", f"known_{n}+0x1/0x2") for n in range(30)]
    told = symbols.decoded(many, table)
    assert [n for n, each in enumerate(told) if "inode.c" in each.text] == list(range(20))


def test_where_a_report_is(tmp_path: Path) -> None:
    log = (
        b"[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000\r\n"
        b"[    1.0] Oops: Oops: 0002 [#1] SMP\r\n"
        b"[    1.0] RIP: 0010:known_write+0x10/0x80\r\n"
        b"[    1.0] Call Trace:\r\n[    1.0]  <TASK>\r\n[    1.0]  other+0x1/0x2\r\n"
        b"[    1.0]  </TASK>\r\n[    1.0] ---[ end trace 0 ]---\r\n"
    )
    (splat,) = symbols.decoded(scan(log), scripts(tmp_path))
    assert splat.title == "BUG: kernel NULL pointer dereference in known_write"
    assert symbols.where(splat) == "fs/ext4/inode.c:12"
    assert symbols.where(Splat("bug", "t", "no calls")) == ""
