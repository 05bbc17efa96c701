# SPDX-License-Identifier: GPL-2.0
"""File and line for the functions of a kernel's reports, told by the kernel's own scripts.

scripts/decode_stacktrace.sh is a program for text that one trusts: it puts words of the
report into awk and into shell arithmetic.  A guest's console is not such a text.  So it
is never given a report, only the calls found in it ("name+0x10/0x80"), which are checked
to be nothing else, one to a line; what it says of them is written behind each.  That
leaves the report as the kernel wrote it, offsets included.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from harness.guest.splat import Splat

LIMIT_S = 60.0  # for one text; 0.1 s a call, on a busy host more
TICK_S = 0.1  # how soon it is noticed that nobody wants to know any more
MOST_CALLS = 300  # of one text; all tasks of a guest have about 200
MOST_REPORTS = 20  # of one cell; a guest that complains a thousand times says the same

_CALL = re.compile(
    r"(?<![\w.$+/])([A-Za-z_][\w.$]{0,200}\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8})(?![\w/+])"
)
_TOLD = re.compile(r"\s*\S+ \(((?:\./)?[\w+-][^()]*:\d+.*)\)\s*")
_CODE = re.compile(r"Code:(?: (?:[0-9a-f]{2}|<[0-9a-f]{2}>)){8,80}")
_DISCRIMINATOR = re.compile(r" \(discriminator \d+\)")
_ADDRESS = re.compile(r"[0-9a-f]{1,16}")


def _never() -> bool:
    return False


class Symbols:
    """What lies where in one kernel."""

    def __init__(self, vmlinux: Path, scripts: Path) -> None:
        """`scripts`: a directory with the kernel's own decode_stacktrace.sh and decodecode."""
        self._vmlinux, self._scripts = vmlinux, scripts
        self._known: dict[str, str] = {}  # call -> places, "" when there is none
        self._lock = threading.Lock()

    def annotate(self, text: str, stopped: Callable[[], bool] = _never) -> str:
        """`text` with " (file:line)" behind each call, callers of inlined code in the same.

        Beyond MOST_CALLS, and what is not told in LIMIT_S, stays as it was.  A "Code:"
        line is followed by its instructions.  Never raises for what it is given.  Where
        stopped() becomes true it ends at once, with what it knows.
        """
        with self._lock:
            self._learn((match[1] for match in _CALL.finditer(text)), stopped)
            known = dict(self._known)
        lines = []
        for line in text.split("\n"):
            lines.append(_CALL.sub(lambda match: _with(match[1], known), line))
            if (code := _CODE.search(line)) and not stopped():
                lines += self._instructions(code[0], stopped)
        return "\n".join(lines)

    def places(self, addresses: Sequence[str]) -> list[str]:
        """Function and place of each raw address (hexadecimal, no 0x): "f (file:line)", or "".

        Only for kernels that lie where they were linked (no CONFIG_RANDOMIZE_BASE).
        """
        asked = [address for address in addresses if _ADDRESS.fullmatch(address)]
        argv = ["addr2line", "-f", "-e", str(self._vmlinux)]
        lines = _output(argv, "".join(f"{a}\n" for a in asked), _never).splitlines()
        known = {
            address: f"{function} ({_tidy(line)})"
            for address, function, line in zip(asked, lines[::2], lines[1::2], strict=False)
            if "?" not in function + line
        }
        return [known.get(address, "") for address in addresses]

    def _learn(self, calls: Iterable[str], stopped: Callable[[], bool]) -> None:
        new = [call for call in dict.fromkeys(calls) if call not in self._known][:MOST_CALLS]
        if not new or stopped():
            return
        argv = ["bash", str(self._scripts / "decode_stacktrace.sh"), str(self._vmlinux)]
        told = _output(argv, "\n".join(new) + "\n", stopped).splitlines()
        for call, line in zip(new, told, strict=False):
            match = _TOLD.fullmatch(line)
            self._known[call] = _tidy(match[1]) if match else ""

    def _instructions(self, code: str, stopped: Callable[[], bool]) -> list[str]:
        script = self._scripts / "decodecode"
        return _output(["bash", str(script)], code + "\n", stopped).splitlines()[1:]


@lru_cache(maxsize=32)
def beside(bzimage: Path) -> Symbols | None:
    """Those of the kernel in the cache whose bzImage this is; None for any other kernel."""
    vmlinux, scripts = bzimage.with_name("vmlinux"), bzimage.with_name("scripts")
    if not (vmlinux.is_file() and (scripts / "decode_stacktrace.sh").is_file()):
        return None
    return Symbols(vmlinux, scripts)


def decoded(
    splats: Sequence[Splat], symbols: Symbols | None, stopped: Callable[[], bool] = _never
) -> list[Splat]:
    """The reports with file and line in their texts, the first MOST_REPORTS of them."""
    if symbols is None:
        return list(splats)
    return [
        dataclasses.replace(splat, text=symbols.annotate(splat.text, stopped))
        if number < MOST_REPORTS
        else splat
        for number, splat in enumerate(splats)
    ]


def where(splat: Splat) -> str:
    """The place ("file:line") of the function that a decoded report is titled by, or "".

    Of inlined code it is the innermost place.
    """
    places = re.findall(r"([A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+ \((\S+:\d+)", splat.text)
    words = set(re.findall(r"[A-Za-z_]\w*", splat.title))
    return next((place for name, place in places if name.split(".")[0] in words), "")


def _with(call: str, known: dict[str, str]) -> str:
    return f"{call} ({known[call]})" if known.get(call) else call


def _tidy(places: str) -> str:
    places = _DISCRIMINATOR.sub("", places)
    return " ".join(place.removeprefix("./") for place in places.split())


def _output(argv: Sequence[str], feed: str, stopped: Callable[[], bool]) -> str:
    """What a program prints, as far as it got; "" when it cannot be run."""
    out = b""
    try:
        # A session of its own: what it starts ends with it.
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return ""
    end = time.monotonic() + LIMIT_S
    given: bytes | None = feed.encode()
    try:
        while True:
            try:
                out, _ = process.communicate(given, timeout=TICK_S)
                break
            except subprocess.TimeoutExpired as expired:
                out, given = expired.stdout or b"", None  # the rest is still being fed
            if stopped() or time.monotonic() > end:
                break
    finally:
        if process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError), process:  # closes its pipes, and waits
            pass
    return out.decode(errors="replace")
