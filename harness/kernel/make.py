# SPDX-License-Identifier: GPL-2.0
"""Run the kernel's make: progress from its lines, the whole log kept, the first error found."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BuildError, HarnessError, InfraError
from harness.events import Event, Listener
from harness.kernel import command

# 1912 lines for 633 options =y: the hand-made 6.12 configuration, 2026-11.
LINES_PER_OPTION = 3.0
_STEP = re.compile(r"^  (?P<what>[A-Z][A-Z0-9_]*) +(?:\[M\] +)?(?P<object>\S.*)$")
_LINKS = re.compile(r"^  (?:AR|LD) +vmlinux(?:\.a|\.o)?$")
_COMPILER = re.compile(
    r"^(?P<file>[^\s:][^:]*):(?P<line>\d+)(?::\d+)?: (?:fatal )?error: (?P<text>.+)$", re.IGNORECASE
)
_LINKER = re.compile(
    r"^(?P<text>.*(?:undefined reference to|multiple definition of|: undefined symbol).*"
    r"|\S*ld(?:\.\w+)?: (?!warning|.*: in function ).+|ERROR: modpost: .+)$"
)
_NO_TOOL = re.compile(r": (?P<tool>[\w.+-]+): (?:command )?not found$", re.MULTILINE)
_STARS = re.compile(r"^(?:\S*make(?:\[\d+\])?): \*\*\* (?P<text>.+)$")
_TOLD_EVERY_S = 0.5
_TAIL_LINES = 15


@dataclass(frozen=True)
class Makefile:
    """Where one kernel is built."""

    kernel: str  # its name, for events and errors
    source: Path
    objects: Path  # O=
    log: Path

    def argv(self, targets: Sequence[str], *, jobs: int, settings: Sequence[str]) -> list[str]:
        """The make command line; what a person pastes to see it again."""
        where = [f"O={self.objects}", *settings, f"-j{jobs}"]
        return ["make", "-C", str(self.source), *where, *targets]


def environment(**extra: str) -> dict[str, str]:
    """Environment of every make: whatever enters the image is fixed (reproducible-builds.rst)."""
    return command.environment(
        KBUILD_BUILD_TIMESTAMP="Sat Jan  1 00:00:00 UTC 2000",
        KBUILD_BUILD_USER="harness",
        KBUILD_BUILD_HOST="harness",
        KBUILD_BUILD_VERSION="1",
        TZ="UTC",
        **extra,
    )


class Progress:
    """Turns make's lines into events: `done` of `total` steps and the seconds left.

    The first that has the kernel linked says so in its data: from then on make has one thing
    to do at a time, and leaves a CPU to others.
    """

    def __init__(self, kernel: str, listen: Listener, done: int, total: int | None) -> None:
        self.steps = 0  # seen in this build
        self._kernel, self._listen = kernel, listen
        self._before, self._total, self._links = done, total, False
        self._start = self._told = time.monotonic()

    def line(self, text: str) -> None:
        """One line of make's output, without its end."""
        step = _STEP.match(text)
        if step is None:
            return
        self.steps += 1
        done = self._before + self.steps
        if self._total is not None and done > self._total:
            self._total = None  # the estimate was too low: better none than a lie
        now = time.monotonic()
        links = not self._links and _LINKS.match(text) is not None
        if now - self._told < _TOLD_EVERY_S and self.steps > 1 and not links:
            return
        self._told = now
        eta = None
        if self._total is not None and self.steps >= 20:
            eta = (now - self._start) / self.steps * (self._total - done)
        message = f"{step['what']} {step['object']}"
        data = {"links": True} if links else {}
        self._links = self._links or links
        self._listen(Event("build", self._kernel, message, done, self._total, eta, data))


def run(
    makefile: Makefile,
    targets: Sequence[str],
    *,
    jobs: int,
    settings: Sequence[str] = (),
    env: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Run make, appending all it says to the log.

    Raises BuildError with the first error, its file and the log's path;
    OSError(ENOSPC) when the disk is full.  An exception from the listener, or
    Ctrl-C, ends make and all its compilers within about a second.
    """
    argv = makefile.argv(targets, jobs=jobs, settings=settings)
    with makefile.log.open("ab") as log:
        start = log.seek(0, os.SEEK_END)
        log.write(f"$ {command.quoted(argv)}\n".encode())
        with command.started(argv, env=env or environment(), stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            for raw in process.stdout:
                log.write(raw)
                if progress is not None:
                    progress.line(raw.decode(errors="replace").rstrip("\n"))
        log.flush()
    if process.returncode != 0:
        with makefile.log.open("rb") as log:
            log.seek(start)
            said = log.read().decode(errors="replace")
        command.check_space(said)
        raise failure(makefile, said)


def failure(makefile: Makefile, said: str) -> HarnessError:
    """What went wrong in a failed make: compiler's word first, then linker's, then make's.

    InfraError when a program of the host is missing, else BuildError.
    """
    if missing := _NO_TOOL.search(said):
        return InfraError(
            f"kernel {makefile.kernel}: {missing['tool']} is not installed (log: {makefile.log})",
            hint=f"apt-get install {missing['tool']}",
        )
    lines = said.splitlines()
    prefix = f"{makefile.source}/"
    at = next((n for n, line in enumerate(lines) if _COMPILER.match(line)), None)
    if at is not None:
        found = _COMPILER.match(lines[at])
        assert found is not None
        what = f"{found['file'].removeprefix(prefix)}:{found['line']}: {found['text']}"
    else:
        at = next((n for n, line in enumerate(lines) if _LINKER.match(line)), None)
        if at is None:
            at = next((n for n, line in enumerate(lines) if _STARS.match(line)), None)
        what = lines[at].removeprefix(prefix) if at is not None else (lines or ["no output"])[-1]
    first = at if at is not None else max(0, len(lines) - _TAIL_LINES)
    return BuildError(
        f"kernel {makefile.kernel}: {what} (log: {makefile.log})",
        hint=command.quoted(["less", f"+/{_search(what)}", makefile.log]),
        detail="\n".join(lines[first : first + _TAIL_LINES]),
    )


def _search(what: str) -> str:
    """A piece of the error line that less can search for as it is."""
    words = re.split(r"[^A-Za-z0-9 _:/-]", what.split(": ", 1)[-1])
    return max(words, key=len).strip() or "error"


def steps_present(objects: Path) -> int:
    """How many steps of a build are done in an O=: kbuild writes one .cmd file for each."""
    return sum(1 for _ in objects.rglob(".*.cmd")) if objects.is_dir() else 0


def expected_steps(history: Path, options: int) -> int:
    """Steps of a build from nothing with `options` options =y.

    From the ratio that the last such build in this cache had, else from a
    measured constant.  An estimate: a few per cent off.
    """
    ratio = LINES_PER_OPTION
    try:
        record = json.loads(history.read_text())
        ratio = record["steps"] / record["options"]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        pass
    return round(ratio * options)


def remember_steps(history: Path, steps: int, options: int) -> None:
    """Keep what a build from nothing took for the next estimate."""
    new = history.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps({"steps": steps, "options": options}) + "\n")
    new.replace(history)


def distrust_unfinished(objects: Path) -> list[Path]:
    """Remove what a killed make may have left half-written; the removed files.

    kbuild writes .NAME.cmd after NAME is complete, so a target that is newer than
    its .cmd file was being written.  (make itself removes its targets when it is
    asked to stop; this is for SIGKILL and power cuts.)
    """
    removed = []
    for record in objects.rglob(".*.cmd"):
        target = record.with_name(record.name[1 : -len(".cmd")])
        try:
            if target.stat().st_mtime_ns > record.stat().st_mtime_ns:
                target.unlink()
                removed.append(target)
        except FileNotFoundError:
            continue
    return removed


def distrust_since(objects: Path, when: float) -> None:
    """What was made after `when`, in seconds of time.time(), is made again by the next make."""
    for record in objects.rglob(".*.cmd"):
        with contextlib.suppress(FileNotFoundError):
            # A second more: a file's time is that of the kernel's last tick.
            if record.stat().st_mtime > when - 1:
                record.unlink()
