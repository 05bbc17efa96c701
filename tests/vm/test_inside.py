# SPDX-License-Identifier: GPL-2.0
"""Ways into a guest for a person: SSH from another terminal, a cell's own guest, gdb."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from pathlib import Path

import pexpect
import pytest

from harness.guest.machine import Machine
from harness.places import cache_dir
from tests.vm.conftest import ROOT, Lab, harness, qemus

CELL = "stock/ext4/punch-read-fault"


@pytest.fixture(scope="module")
def ran(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run of one cell has been."""
    place = tmp_path_factory.mktemp("ran")
    lab.image("stock")
    process = harness("run", "quick", "-k", "stock", "-f", "ext4", "-w", "punch-read-fault",
                      "--trials", "5", cwd=place)  # fmt: skip
    said, _ = process.communicate()
    assert "results" in said
    return place


def test_the_commands_of_the_documentation(lab: Lab, tmp_path: Path) -> None:
    """Of docs/results.md, one after the other, as a person would type them."""
    for kernel in ("control", "stock"):
        lab.image(kernel)
    text = (ROOT / "docs/results.md").read_text().split("## Looking again")[1]
    commands = text.split("```sh\n")[1].split("```")[0].splitlines()
    assert len(commands) == 8
    for line in commands:
        program, *words = shlex.split(line, comments=True)
        assert program == "harness"
        # Not in the cache of whoever runs the tests.
        elsewhere = {"HARNESS_CACHE": str(tmp_path / "cache")} if words[0] == "clean" else None
        process = harness(*words, cwd=tmp_path, environment=elsewhere)
        said, _ = process.communicate()
        assert process.returncode == 0, f"{line}\n{said}"
    assert len([path for path in (tmp_path / "results").iterdir() if path.name != "latest"]) == 2
    assert (tmp_path / "results/latest/report.html").is_file()


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("exit 3", 3),
        ("kill -SEGV $$", 139),  # what a reproducer is left with by an oops of the kernel
        ("true\nsh -c 'kill -BUS $$'", 135),
        ("set -e\nfalse\ntrue", 1),
    ],
)
def test_how_a_command_ended(command: str, status: int, stock: Machine) -> None:
    if "SEGV" in command:
        command = f"sh -c {shlex.quote(command)}"
    done = stock.run(command)
    assert (done.status, done.argv) == (status, command)


def test_what_fstab_says_is_mounted(stock: Machine) -> None:
    """By vm/init.c, which knows a part of what mount(8) does."""
    wanted = {
        tuple(line.split()[:3]): line.split()[3]
        for line in (ROOT / "vm/files/etc/fstab").read_text().splitlines()
        if not line.startswith("#")
    }
    there = {tuple(line.split()[:3]): line.split()[3]
             for line in stock.run("cat /proc/mounts").stdout.splitlines()}  # fmt: skip
    for what, options in wanted.items():
        assert what in there
        assert options == "defaults" or "mode=620" in there[what].split(",")
    assert stock.run("cat /proc/1/oom_score_adj").stdout == "0\n"
    assert "inet addr:10.0.2.15" in stock.run("ifconfig eth0").stdout


def test_a_second_terminal_gets_in_over_ssh(lab: Lab, tmp_path: Path) -> None:
    release = lab.image("stock").release
    argv = ["-m", "harness", "--config", str(ROOT / "harness.toml"), "boot", "stock"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = pexpect.spawn(
        str(ROOT / ".venv/bin/python"), argv, cwd=tmp_path, env=environment, timeout=120,
        encoding="utf-8",
    )  # fmt: skip
    try:
        first.expect("built-in shell|serial console")
        second = harness("ssh", "stock", "--", "uname", "-r", cwd=tmp_path)
        assert second.communicate()[0].strip() == release
        assert second.returncode == 0
        (key,) = cache_dir().glob("boot-stock-*/ssh_key")
        assert key.stat().st_mode & 0o077 == 0
        first.send("\x1d")
        first.expect(pexpect.EOF)
    finally:
        first.close(force=True)
    assert not key.exists()
    assert qemus(key.parent) == []


def test_a_shell_in_a_cells_guest(ran: Path) -> None:
    done = subprocess.run(
        [str(ROOT / ".venv/bin/python"), "-m", "harness", "--config", str(ROOT / "harness.toml"),
         "rerun", "latest", CELL, "--shell"],
        input="mount | grep /mnt; uname -r; cd /workloads/races; test -x punch-read-fault && pwd",
        cwd=ran, text=True, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "/dev/vda on /mnt type ext4 (rw,noatime)" in done.stdout
    assert "-stock-" in done.stdout and done.stdout.endswith("/workloads/races\n")
    assert "/workloads/races/punch-read-fault --dir /mnt --trials 5 --seed" in done.stderr


def test_a_guest_that_waits_for_gdb(ran: Path) -> None:
    """Its stub is spoken to as gdb would: why it stopped, and go on."""
    process = harness("rerun", "latest", CELL, "--gdb", "--trials", "3", cwd=ran)
    assert process.stdout is not None
    line = next(line for line in process.stdout if "target remote" in line)
    words = shlex.split(line)
    assert words[0] == "gdb" and Path(words[1]).name == "vmlinux" and Path(words[1]).is_file()
    path = next(word for word in words if word.startswith("target remote ")).split()[-1]
    with socket.socket(socket.AF_UNIX) as stub:
        stub.connect(path)
        assert Path(path).parent.stat().st_mode & 0o077 == 0
        stub.sendall(b"$?#3f")
        answer = b""
        while b"#" not in answer:
            answer += stub.recv(1000)
        assert re.match(rb"\+?\$T05", answer)  # it stopped, and has not begun
        stub.sendall(b"+$c#63")
        said = process.stdout.read()
        process.wait()
    assert re.search(rf"{CELL}: held in \d of \d armed trials", said), said
    assert process.returncode == 0
