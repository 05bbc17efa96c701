# SPDX-License-Identifier: GPL-2.0
"""`harness run --cell C --bisect`, and git bisect run with it in the user's own tree."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli
from harness.errors import InfraError
from tests.bisect import conftest as yards
from tests.bisect.conftest import Yard
from tests.fakes import kernel as fake

STOCK, CONTROL = "stock/ext4/punch", "control/ext4/punch@fault"


@pytest.mark.parametrize(
    ("cell", "token", "want", "code"),
    [
        (STOCK, "", "", 0),
        (STOCK, yards.OPEN, "", 1),
        (STOCK, yards.CRASH, "", 1),
        (STOCK, yards.HANGS, "", 1),
        (STOCK, yards.NO_BUILD, "", 125),
        (STOCK, yards.NO_BOOT, "", 125),
        (STOCK, yards.UNTESTABLE, "", 125),
        (STOCK, yards.NO_BUILD, "build", 1),
        (STOCK, yards.NO_BOOT, "build", 0),
        (STOCK, yards.NO_BUILD, "boot", 125),
        (STOCK, yards.NO_BOOT, "boot", 1),
        (STOCK, yards.CRASH, "boot", 0),
        (STOCK, yards.CRASH, "exposed", 125),
        (STOCK, yards.CRASH, "crashed", 1),
        (STOCK, yards.OPEN, "crashed", 125),
        (STOCK, "", "crashed", 0),
        (STOCK, yards.NO_BUILD, "apply", 0),
        (CONTROL, "", "held", 0),
        (CONTROL, yards.DROPPED, "", 1),
        (CONTROL, yards.DROPPED, "held", 1),
    ],
)
def test_one_commit(yard: Yard, cell: str, token: str, want: str, code: int) -> None:
    yard.history([f"int {token};"])
    argv = ["run", "--cell", cell, "--bisect", "--tree", "linux", "--trials", "40"]
    said = yard.type(*argv, *(["--for", want] if want else []), code=code)
    assert f"{cell}: {({0: 'good', 1: 'bad', 125: 'cannot be tested'})[code]}: " in said
    assert yard.lab.still_open == []


def test_one_exposure_is_enough(yard: Yard) -> None:
    yard.history([f"int {yards.RARE};"])
    said = yard.type("run", "--cell", STOCK, "--bisect", code=1)
    assert "exposed in 1 of 4 armed trials" in said


def test_a_conflict(yard: Yard) -> None:
    file = yard.linux / "fs/inode.c"
    file.write_text(file.read_text().replace("int inode_2;", "int inode_deux;"))
    argv = ("run", "--cell", STOCK, "--bisect", "--tree", str(yard.linux))
    assert "does not apply" in yard.type(*argv, code=125)
    yard.type(*argv, "--for", "apply", code=1)
    yard.type(*argv, "--for", "build", code=125)


@pytest.mark.parametrize(
    "argv",
    [
        ["--cell", STOCK, "--trails", "5"],
        ["--cell", "stok/ext4/punch"],
        ["--cell", STOCK, "--tree", "nowhere"],
        ["--cell", STOCK, "-k", "stock"],
        [],
    ],
)
def test_git_never_sees_a_mistake_as_bad(yard: Yard, argv: list[str]) -> None:
    assert "harness: " in yard.type("run", "--bisect", *argv, code=125)


def test_nor_an_interruption(yard: Yard) -> None:
    def fail(_number: int) -> None:
        raise KeyboardInterrupt

    yard.on_boot = fail
    yard.type("run", "--cell", STOCK, "--bisect", code=125)
    yard.lab.probe_error = InfraError("no QEMU")
    yard.type("run", "--cell", STOCK, "--bisect", code=125)


def test_these_options_go_together(yard: Yard) -> None:
    for option in (["--cell", STOCK], ["--tree", "linux"], ["--for", "boot"]):
        assert "goes with --bisect" in yard.type("run", *option, code=2)


def test_git_bisect_run(yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git starts a program: one that calls cli.main in this process would not be git's way."""
    history = [f"int {yards.OPEN};" if n >= 4 else "" for n in range(7)]
    history[2] = f"int {yards.NO_BUILD};"
    commits = yard.history(history)
    asked, answered = tmp_path / "asked", tmp_path / "answered"
    for pipe in (asked, answered):
        subprocess.run(["mkfifo", pipe], check=True)
    script = tmp_path / "harness"
    script.write_text(f'#!/bin/sh\necho "$@" >{asked}\nread code <{answered}\nexit $code\n')
    script.chmod(0o755)
    fake.git(yard.linux, "bisect", "start", commits[-1], commits[0])
    words = "run --cell stock/ext4/punch --bisect --tree ."
    argv = ["git", "-C", str(yard.linux), "bisect", "run", str(script), *words.split()]
    config = str(yard.root / "harness.toml")
    monkeypatch.chdir(yard.linux)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as bisecting:
        while True:
            opener = subprocess.Popen(
                [sys.executable, "-c", f"print(open({str(asked)!r}).read())"],
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            while opener.poll() is None and bisecting.poll() is None:
                pass
            if opener.poll() is None:
                opener.kill()
                opener.wait()
                break
            assert opener.stdout is not None
            code = cli.main(["--config", config, *shlex.split(opener.stdout.read())])
            answered.write_text(f"{code}\n")
        assert bisecting.stdout is not None
        assert f"{commits[4]} is the first bad commit" in bisecting.stdout.read()
    # The tree is as it was but for git's own: results are beside harness.toml.
    assert fake.git(yard.linux, "status", "--porcelain") == ""
    assert len(list((yard.root / "results").glob("*-bisect-run-*"))) >= 2
