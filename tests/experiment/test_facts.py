# SPDX-License-Identifier: GPL-2.0
"""What run.json says of the kernels that were tested."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import Config
from harness.experiment import facts
from tests.fakes.experiment import config
from tests.fakes.fake_machine import image

MAIL = b"""\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A <a@example.org>
Subject: [PATCH v3 02/10] ext4: lock only
 the range that is %s

Body.
Subject: not this one
---
"""


def project(root: Path, *series: str) -> Config:
    folder = root / "patches" / "one" / "6.12"
    folder.mkdir(parents=True)
    (folder / "series").write_text("0001-a.patch\n0002-b.patch\n")
    for number, name in enumerate(("0001-a.patch", "0002-b.patch")):
        (folder / name).write_bytes(MAIL % b"punched" + bytes(number))
    cfg = config(root)
    stock = msgspec.structs.replace(cfg.kernel["stock"], series=list(series))
    return msgspec.structs.replace(cfg, kernel={**cfg.kernel, "stock": stock})


def test_each_patch_with_subject_and_hash(tmp_path: Path) -> None:
    cfg = project(tmp_path, "one")
    found = facts.kernel(image("stock", cfg, tmp_path), cfg)
    digest = hashlib.sha256(MAIL % b"punched").hexdigest()[:12]
    assert found["patches"][0] == {
        "series": "one",
        "file": "0001-a.patch",
        "subject": "ext4: lock only the range that is punched",
        "hash": digest,
    }
    assert [patch["file"] for patch in found["patches"]] == ["0001-a.patch", "0002-b.patch"]
    assert found["patches"][1]["hash"] != digest


def test_the_first_patches_of_a_series(tmp_path: Path) -> None:
    cfg = project(tmp_path, "one:1")
    (patch,) = facts.kernel(image("stock", cfg, tmp_path), cfg)["patches"]
    assert (patch["series"], patch["file"]) == ("one:1", "0001-a.patch")


def test_patches_that_are_gone_are_not_told(tmp_path: Path) -> None:
    cfg = project(tmp_path, "one", "gone")
    found = facts.kernel(image("stock", cfg, tmp_path), cfg)
    assert {patch["series"] for patch in found["patches"]} == {"one"}


@pytest.mark.parametrize(
    ("head", "subject"),
    [
        (b"Subject: mm: x", "mm: x"),
        (b"Subject: =?UTF-8?q?=5BPATCH=5D=20mm:=20h=C3=A9?=", "mm: h\xe9"),
        (b"Subject: =?no-such-charset?q?x?=", "=?no-such-charset?q?x?="),
        (b"From: a", ""),
    ],
)
def test_subjects(head: bytes, subject: str) -> None:
    assert facts._subject(head + b"\n\nbody\n") == subject


@given(st.binary(max_size=300))
def test_no_patch_is_too_strange_for_a_subject(text: bytes) -> None:
    for content in (text, b"Subject: " + text):
        assert "\n" not in facts._subject(content)


def test_an_emulator_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    monkeypatch.setattr(facts, "PROGRAM", str(program))
    assert facts.qemu() == ""
    program.write_text("#!/bin/sh\necho QEMU emulator version 9; echo Copyright\n")
    program.chmod(0o755)
    assert facts.qemu() == "QEMU emulator version 9"
