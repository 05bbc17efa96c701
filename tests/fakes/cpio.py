# SPDX-License-Identifier: GPL-2.0
"""Reads cpio archives in the "newc" format as the kernel does (init/initramfs.c)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One entry as it stands in an archive."""

    mode: int
    data: bytes
    device: tuple[int, int]
    order: int


def members(image: bytes) -> dict[str, Member]:
    """All entries of one or more concatenated archives; a later one wins.

    AssertionError on anything the kernel would refuse.
    """
    found: dict[str, Member] = {}
    at = order = 0
    while at < len(image):
        if image[at] == 0:  # between archives
            at += 1
            continue
        assert at % 4 == 0, "an archive must start on 4 bytes"
        assert image[at : at + 6] == b"070701", f"no header at {at}"
        field = [int(image[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = field[1], field[6], field[11]
        name_at = at + 110
        name = image[name_at : name_at + name_size]
        assert name.endswith(b"\0")
        data_at = (name_at + name_size + 3) & ~3
        at = (data_at + size + 3) & ~3
        if name == b"TRAILER!!!\0":
            continue
        text = name[:-1].decode()
        data = image[data_at : data_at + size]
        found[text] = Member(mode, data, (field[9], field[10]), order)
        order += 1
    return found
