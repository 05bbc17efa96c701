# SPDX-License-Identifier: GPL-2.0
"""The recorder: no byte lost, no boot misread, however the bytes come in."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.guest import terminal
from harness.guest.console import Console

Line = tuple[Console, socket.socket]


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """A console and the far end of its line."""
    ours, theirs = socket.socketpair()
    console = Console(ours, tmp_path / "console.log")
    yield console, theirs
    theirs.close()
    console.close()


def test_every_byte_is_kept(line: Line) -> None:
    console, far = line
    said = bytes(range(256)) * 4000
    far.sendall(said)
    far.close()
    assert console.await_end(10)
    assert console.data() == said


def test_the_marker_may_come_in_pieces_and_before_we_listen(line: Line) -> None:
    console, far = line
    far.sendall(b"[    0.1] something\r\n[    1.0] harness: re")
    threading.Timer(0.05, far.sendall, [b"ady\r\n"]).start()
    assert console.await_boot(10) == "ready"
    far.sendall(b"[    1.1] harness: ready\r\n")
    assert console.await_boot(10) == "ready"


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (b"[    1.0] Kernel panic - not syncing: x\r\n", "panic"),
        (b"[    1.0] harness: the SSH server did not start\r\n", "no-server"),
        # What came first counts.
        (b"Kernel panic - not syncing: x\r\nharness: ready\r\n", "panic"),
        (b"harness: ready\r\nKernel panic - not syncing: x\r\n", "ready"),
    ],
)
def test_how_a_boot_goes(line: Line, said: bytes, state: str) -> None:
    console, far = line
    far.sendall(said)
    assert console.await_boot(10) == state


def test_a_line_that_ends_and_a_line_that_is_silent(line: Line) -> None:
    console, far = line
    far.sendall(b"the marker's name is harness: ready or not\r\n")
    assert console.await_boot(0.2) == "silent"
    assert console.silence().last_line.endswith("or not")
    far.close()
    assert console.await_boot(10) == "ended"


def test_a_flood_fills_neither_disk_nor_memory(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.guest.console.MOST_BYTES", 1 << 20)
    console, far = line
    chunk = b"flood " * 10_000
    for _ in range(100):  # 6 MB
        far.sendall(chunk)
    far.sendall(b"[    9.0] Kernel panic - not syncing: unseen\r\n")
    far.close()
    assert console.await_end(10)
    log = (tmp_path / "console.log").read_bytes()
    assert len(log) < (1 << 20) + 200
    assert b"harness: the console said more than 1 MiB" in log
    # A panic may be in what is not kept: nobody may take this for a clean log.
    with pytest.raises(InfraError, match="floods its console: 5 MiB, of which 1 are kept"):
        console.whole()


def test_the_tail_is_for_a_persons_terminal(line: Line) -> None:
    console, far = line
    far.sendall(b"before\r\n" + b"x" * 5_000_000 + b"\x1b]0;evil\x07\x1b[2J\tend\r\n")
    far.close()
    assert console.await_end(10)
    (last,) = console.tail(1).splitlines()
    assert last.endswith(r"\x1b]0;evil\x07\x1b[2J end")
    assert len(last) == 1000
    assert "\x1b" not in console.tail() and console.silence().last_line == last


def test_a_text_is_found_that_comes_in_pieces(line: Line) -> None:
    console, far = line
    far.sendall(b"x" * 1000 + b"harness: be")
    threading.Timer(0.05, far.sendall, [b"gin 'a'\r\nmore\r\n"]).start()
    assert console.await_text(b"harness: begin 'a'\r\n", 10) == 1000 + 20
    assert console.await_text(b"never", 0.05) is None


def test_a_flood_after_the_boot_is_not_kept_in_memory(line: Line) -> None:
    console, far = line
    far.sendall(b"harness: ready\r\n")
    assert console.await_boot(10) == "ready"
    assert console._sinks == []
    far.sendall(b"x" * 1_000_000)
    far.close()
    assert console.await_end(10)
    assert len(console.data()) == 1_000_016


def _status(key: str) -> int:
    """A figure of /proc/self/status, in MiB."""
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)
    ]
    return int(line.split()[1]) >> 10


@pytest.mark.timeout(60)
def test_a_flood_before_anybody_listens(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line to pexpect was full before it read, and who wrote to it waited for ever."""
    console, far = line
    data = console.data
    flooded = threading.Event()

    def flood() -> None:
        with contextlib.suppress(OSError):
            for _ in range(16):
                far.sendall(bytes(1 << 20))
            flooded.set()
            far.sendall(b"harness: ready\r\n")

    def late() -> bytes:
        feeder.start()
        flooded.wait(2)  # or until nobody takes any more
        return data()

    feeder = threading.Thread(target=flood, daemon=True)
    monkeypatch.setattr(console, "data", late)
    assert console.await_boot(30) == "ready"


@pytest.mark.parametrize("when", ["boot", "work"])
def test_a_gigabyte_on_the_console(line: Line, when: str) -> None:
    """One line of it: what is kept of it at any time is bounded."""
    console, far = line
    before = _status("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM is counted anew

    def flood() -> None:
        for _ in range(1024):
            far.sendall(bytes(1 << 20))
        far.close()

    feeder = threading.Thread(target=flood)
    feeder.start()
    if when == "boot":
        assert console.await_boot(60) == "flood"
    feeder.join()
    assert console.await_end(60)
    assert console.received == 1 << 30
    assert _status("VmHWM:") - before < 150
    with pytest.raises(InfraError, match="1024 MiB"):
        console.whole()
    assert len(console.tail()) < 100_000


def test_a_full_disk_does_not_stop_the_reading(tmp_path: Path) -> None:
    ours, far = socket.socketpair()
    console = Console(ours, Path("/dev/full"))
    far.sendall(b"x" * 1_000_000)
    far.close()
    assert console.await_end(10)
    console.close()
    assert console.error is not None and "space" in str(console.error)


def shell(far: socket.socket) -> None:
    """As much of a shell on a serial line as `echo` needs."""
    for text in far.makefile("r"):
        if text.startswith("echo "):
            far.sendall(text[5:].replace("''", "").strip().encode() + b"\r\n")


def test_a_shell_for_a_pipe(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    console, far = line
    threading.Thread(target=shell, args=(far,), daemon=True).start()
    inp, outp = os.pipe(), os.pipe()
    os.write(inp[1], b"echo one\necho two")
    os.close(inp[1])
    with os.fdopen(inp[0]) as stdin, os.fdopen(outp[1], "w") as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        terminal.interact(console)
    with os.fdopen(outp[0]) as reader:
        assert reader.read() == "one\ntwo\n"


def test_a_shell_for_a_person(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    console, far = line
    person, tty = pty.openpty()
    outp = os.pipe()
    seen: list[bytes] = []

    def play() -> None:
        seen.append(far.recv(100))  # from now on the terminal is raw
        os.write(person, b"ls\r\x03\x1drest")
        seen.append(far.recv(100))

    player = threading.Thread(target=play, daemon=True)
    player.start()
    with os.fdopen(tty) as stdin, os.fdopen(outp[1], "w") as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        terminal.interact(console)
    player.join(10)
    # A new line for a prompt; then what was typed, Ctrl-C too, up to Ctrl-].
    assert seen == [b"\r", b"ls\r\x03"]
    os.close(person)
    os.close(outp[0])


def test_the_end_of_the_machine_ends_the_shell(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, far = line
    person, tty = pty.openpty()
    far.close()
    with os.fdopen(tty) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        terminal.interact(console)
    os.close(person)
