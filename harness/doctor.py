# SPDX-License-Identifier: GPL-2.0
"""What this machine has and lacks for the harness; the last line is what to type."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EXIT_CANNOT_TEST, EXIT_EXPECTED, HarnessError, InfraError
from harness.guest.initramfs import interpreter
from harness.guest.qemu import probe_accelerator
from harness.places import CACHE_VARIABLE

# Measured for two kernels from linux-source-6.12: repository 1.6, worktrees and
# objects 2 x 2.5, images and initramfs below 1.
DISK_NEEDED = 10 << 30  # three kernels with debug information
RESULTS_NEEDED = 1 << 30  # consoles are small, scratch disks are sparse but written to
MEMORY_NEEDED = 1536 << 20  # a guest of 1 GiB, or two compilers
CPUS_WANTED = 2
QEMU = "qemu-system-x86_64"
PACKAGES = Path(__file__).resolve().parent.parent / "vm" / "packages.txt"
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True)
class Need:
    """A line of vm/packages.txt: package, what it must bring, why."""

    package: str
    brings: str
    why: str


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `fix` is a package or "" when there is none."""

    what: str
    text: str
    ok: bool = True
    package: str = ""
    command: str = ""


def examine(cache: Path, results: Path, say: Callable[[str], None]) -> int:
    """Say line by line what was found; 0 when everything needed is there, else 125."""
    missing = []
    for finding in findings(cache, results):
        say(f"{'ok' if finding.ok else 'MISSING':8} {finding.what:8} {finding.text}")
        if not finding.ok:
            missing.append(finding)
    say(f"try: {remedy(missing)}")
    return EXIT_CANNOT_TEST if missing else EXIT_EXPECTED


def findings(cache: Path, results: Path) -> Iterator[Finding]:
    """Everything there is to say, cheapest first."""
    yield Finding("python", f"{platform.python_version()}")
    yield _user()
    yield _cpus()
    yield _memory()
    size = _size(cache)
    yield Finding("cache", f"{_gib(size)} in {cache}")
    yield _disk("cache", cache, max(DISK_NEEDED - size, RESULTS_NEEDED))
    yield _disk("results", results, RESULTS_NEEDED)
    yield from _tools(needs())
    yield from _qemu()


def needs(path: Path = PACKAGES) -> list[Need]:
    """The lines of vm/packages.txt."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InfraError(
            f"cannot read the list of packages {path}: {error.strerror}",
            hint="run the harness of a checkout: ./setup.sh && .venv/bin/harness doctor",
        ) from error
    lines = (line.split("#", 1)[0].split(maxsplit=2) for line in text.splitlines())
    return [Need(line[0], line[1], line[2]) for line in lines if line]


def remedy(missing: list[Finding]) -> str:
    """The command that brings what is missing; the next step when nothing is."""
    packages = list(dict.fromkeys(f.package for f in missing if f.package))
    if packages and _which("apt-get"):
        root = [] if os.geteuid() == 0 else ["sudo"]
        install = [*root, "apt-get", "install", "-y", "--no-install-recommends", *packages]
        return shlex.join(install)
    if packages:
        return f"install what this system calls: {' '.join(packages)}"
    commands = [f.command for f in missing if f.command]
    return commands[0] if commands else "harness run quick"


def _user() -> Finding:
    if os.geteuid() == 0:
        return Finding("user", "root, for no reason: after set-up any user will do")
    return Finding("user", f"id {os.geteuid()}")


def _cpus() -> Finding:
    number = len(os.sched_getaffinity(0))
    if number >= CPUS_WANTED:
        return Finding("CPUs", str(number))
    return Finding("CPUs", f"{number}: guests of two CPUs will share it, races fire less often")


def _memory() -> Finding:
    fields = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    available = int(fields["MemAvailable"].split()[0]) * 1024
    text = f"{_gib(available)} available"
    if available >= MEMORY_NEEDED:
        return Finding("memory", text)
    return Finding("memory", f"{text}, {_gib(MEMORY_NEEDED)} needed", ok=False, command="free -h")


def _disk(what: str, directory: Path, needed: int) -> Finding:
    existing = next(d for d in (directory, *directory.parents) if d.exists())
    free = shutil.disk_usage(existing).free
    text = f"{_gib(free)} free for {what} in {existing}"
    if free >= needed:
        return Finding("disk", text)
    command = f"{CACHE_VARIABLE}=/some/roomy/directory harness doctor"
    return Finding(
        "disk",
        f"{text}, {_gib(needed)} needed",
        ok=False,
        command=command if what == "cache" else f"df -h {shlex.quote(str(existing))}",
    )


def _tools(wanted: list[Need]) -> Iterator[Finding]:
    found = []
    for need in wanted:
        if need.brings == QEMU:
            continue  # has lines of its own
        place = _which(need.brings)
        if place is None:
            text = f"{need.brings}: {need.why} (package {need.package})"
            yield Finding("tool", text, ok=False, package=need.package)
        elif need.brings == "busybox" and interpreter(place.read_bytes()) is not None:
            text = f"{place} is not static: {need.why} (package {need.package})"
            yield Finding("tool", text, ok=False, package=need.package)
        else:
            found.append(need.brings.removeprefix("/usr/include/"))
    if found:
        yield Finding("tools", " ".join(found))


def _qemu() -> Iterator[Finding]:
    place = _which(QEMU)
    if place is None:
        text = f"{QEMU} is not installed (package qemu-system-x86)"
        yield Finding("QEMU", text, ok=False, package="qemu-system-x86")
        return
    try:
        asked = subprocess.run(
            [str(place), "--version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        text = f"{place} --version failed: {error}"
        yield Finding("QEMU", text, ok=False, package="qemu-system-x86")
        return
    yield Finding("QEMU", f"{asked.stdout.splitlines()[0] if asked.stdout else '?'} ({place})")
    try:
        accelerator = probe_accelerator("auto")
    except HarnessError as error:
        yield Finding("KVM", error.message, ok=False, command=error.hint)
        return
    if accelerator.name == "kvm":
        yield Finding("KVM", f"works: {accelerator.reason}")
    else:
        longer = f"guests are emulated (TCG), time limits {accelerator.slowdown:g} times longer"
        yield Finding("KVM", f"{accelerator.reason.removeprefix('KVM ')}; {longer}")


def _which(brings: str) -> Path | None:
    if brings.startswith("/"):
        return Path(brings) if Path(brings).exists() else None
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN])
    found = shutil.which(brings, path=path)
    return Path(found) if found else None


def _size(directory: Path) -> int:
    """Bytes on disk below `directory`, as du counts; what vanishes meanwhile counts nothing."""
    total = 0
    stack = [directory]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(Path(entry.path))
        except OSError:
            continue
    return total


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
