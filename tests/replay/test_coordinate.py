# SPDX-License-Identifier: GPL-2.0
"""The file of a coordinate, and what is compared with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.errors import InfraError, UsageError
from harness.replay.coordinate import (
    Coordinate,
    first_difference,
    line_marks,
    order,
    read,
    signature,
    write,
)


def test_what_is_written_is_read_again(tmp_path: Path, coordinate: Coordinate) -> None:
    path = tmp_path / "deep" / "one.toml"
    write(coordinate, path, comment="two\nlines")
    assert read(path) == coordinate
    assert "# lines\n" in path.read_text()
    assert [entry.name for entry in path.parent.iterdir()] == ["one.toml"]  # no half-written one


def test_a_seed_of_64_bits_and_odd_characters_survive(
    tmp_path: Path, coordinate: Coordinate
) -> None:
    odd = msgspec.structs.replace(coordinate, seed=2**63 - 1, signature='é "\\" \x01')
    write(odd, tmp_path / "one.toml")
    assert read(tmp_path / "one.toml") == odd


def test_what_is_no_coordinate_is_refused(tmp_path: Path, coordinate: Coordinate) -> None:
    path = tmp_path / "one.toml"
    with pytest.raises(InfraError, match=r"cannot read .*one.toml: No such file"):
        read(path)
    path.write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"one\.toml is no coordinate"):
        read(path)
    write(coordinate, path)
    path.write_text(path.read_text().replace("seed = 1", 'seed = "1"'))
    with pytest.raises(UsageError, match=r"Expected `int`, got `str` - at `\$.seed`"):
        read(path)
    path.write_text(path.read_text().replace('seed = "1"', "sead = 1"))
    with pytest.raises(UsageError, match="sead"):
        read(path)


def test_a_signature_has_no_numbers_that_vary() -> None:
    said = "mmap shows old data in 2 pages of the range, first at offset 61440 (byte 0xa3)"
    other = "mmap shows old data in 31 pages of the range, first at offset 4096 (byte 0x1f)"
    assert signature(said) == signature(other)
    assert "ext4" in signature("ext4: 3 blocks")


def test_an_order_has_no_times() -> None:
    assert order("b+@5046616 a+@5046618 b-@6000000 a-@6000001") == "b+ a+ b- a-"


def test_the_first_line_that_differs_is_named() -> None:
    console = "one\ntwo\nthree\n"
    marks = line_marks(console)
    assert first_difference(console, marks) == ""
    assert first_difference("one\n2\x1b[J\nthree\n", marks) == "line 2 now says: 2\\x1b[J"
    assert first_difference("one\ntwo", marks) == "line 3 is not there any more"
    assert first_difference(console + "four\n", marks) == "line 4 now says: four"
