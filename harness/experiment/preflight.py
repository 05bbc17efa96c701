# SPDX-License-Identifier: GPL-2.0
"""Before any trial: the file system, and whether the guest is what was asked for.

A guest with one CPU, another kernel or another mount option would "hold" every
race; such a cell is untested, never held.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from harness.config import Allow, Filesystem, Workload
from harness.experiment.plan import Cell
from harness.experiment.trial import Trial
from harness.guest.machine import Completed
from harness.guest.script import script, stopped_at
from harness.guest.splat import Splat
from harness.guest.ssh import Hearing
from harness.guest.symbols import Symbols

DEVICE = "/dev/vda"
MOUNT_POINT = "/mnt"
# The largest reproducer keeps a few MiB; below this something else is wrong.
MIN_FREE_BYTES = 64 << 20
LIMIT_S = 60.0  # of all of it, on KVM
_PREFLIGHT = "/workloads/preflight"


def never() -> bool:
    """A run that nobody ends; unlike a lambda it can be sent elsewhere."""
    return False


def never_enough(_trial: Trial) -> bool:
    """A cell that has all its trials; see never()."""
    return False


class Guest(Protocol):
    """What a cell needs of guest.machine.Machine; a fake in the tests."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: Any) -> None: ...
    def run(
        self,
        command: str,
        timeout_s: float = ...,
        on_stdout_line: Hearing | None = ...,
    ) -> Completed: ...
    def dmesg(self) -> str: ...
    def console(self) -> bytes: ...
    def splats(self) -> list[Splat]: ...
    @property
    def wall(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class Job:
    """A cell with everything from harness.toml and the build that running it takes."""

    cell: Cell
    filesystem: Filesystem
    workload: Workload
    cpus: int  # asked for: what the guest must have online
    release: str  # what `uname -r` in the guest must say
    timeout_s: float  # of the whole reproducer, on KVM
    seconds: float | None = None  # for the trials; None = as long as they take
    allow: Sequence[Allow] = ()  # complaints that cost no verdict
    emulated: bool = True  # no KVM: some faults on the console are then QEMU's own
    symbols: Symbols | None = None  # of its kernel: file and line for reports
    stopped: Callable[[], bool] = never  # the run ends: nobody waits for details
    enough: Callable[[Trial], bool] = never_enough  # True: no trial after this one
    device: str = DEVICE  # the scratch disk


class UntestableError(Exception):
    """The guest is up but is not what was asked for; the text says in what."""

    def __init__(self, why: str, seen: dict[str, Any] | None = None) -> None:
        super().__init__(why)
        self.seen = seen  # preflight's own words, when it had any


def commands(job: Job) -> list[str]:
    """What prepare() runs in the guest, in its order."""
    filesystem = job.filesystem
    options = ["-o", ",".join(filesystem.mount)] if filesystem.mount else []
    making = (
        [*filesystem.mkfs, job.device],
        ["mkdir", "-p", MOUNT_POINT],
        ["mount", "-t", filesystem.type, *options, job.device, MOUNT_POINT],
    )
    return [*map(shlex.join, making), f"{_PREFLIGHT} --dir {MOUNT_POINT}"]


def prepare(job: Job, machine: Guest) -> dict[str, Any]:
    """Makes and mounts the file system and checks the guest; returns what preflight saw.

    Raises UntestableError naming everything that is not as asked, and
    MachineLostError when the machine goes away.
    """
    whole = commands(job)
    done = machine.run(script(whole), LIMIT_S)
    for line in done.stdout.splitlines() if done.status == 0 else ():
        if (seen := heard(job, line)) is not None:
            return seen
    raise not_prepared(whole, done)


def heard(job: Job, line: str) -> dict[str, Any] | None:
    """What preflight saw, if this line of the guest's is where it says so.

    Raises UntestableError naming everything in it that is not as asked.
    """
    if not line.startswith("{"):  # mkfs has something to say, too
        return None
    try:
        seen: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if wrong := mismatches(job, seen):
        raise UntestableError("preflight: " + "; ".join(wrong), seen)
    return seen


def not_prepared(whole: Sequence[str], done: Completed) -> UntestableError:
    """Why preflight was not heard in what became of the script of `whole`, commands() first."""
    checks = next(at for at, line in enumerate(whole) if line.startswith(_PREFLIGHT))
    at = stopped_at(whole, done)
    if done.status != 0 and at.argv not in whole[checks + 1 :]:
        which = {whole[checks]: "preflight", done.argv: "preparation"}.get(at.argv, at.argv)
        return UntestableError(f"{which}: {ended(at)}")
    said = done.stdout.partition("KTAP version")[0].splitlines() or [""]
    return UntestableError(f"preflight printed no JSON object: {said[-1][:120]!r}")


def mismatches(job: Job, seen: Mapping[str, Any]) -> list[str]:
    """In what the guest differs from what was asked; empty = it may be tested.

    `seen` is what workloads/preflight printed.  A value that is missing or of
    the wrong type is a mismatch: silence is not a pass.
    """
    asked = {
        "cpus_online": job.cpus,
        "release": job.release,
        "fs_type": job.filesystem.type,
        "block_size": job.filesystem.block_size,
        "reflink": job.filesystem.reflink,
    }
    wrong = [
        f"{key} is {seen.get(key)!r}, asked for {value!r}"
        for key, value in asked.items()
        if seen.get(key) != value
    ]
    mounted = seen.get("mount_options")
    mounted = mounted if isinstance(mounted, list) else []
    missing = [option for option in job.filesystem.mount if option not in mounted]
    if missing:
        wrong.append(f"mount options {','.join(missing)} did not take effect")
    free = seen.get("free_bytes")
    if not isinstance(free, int) or free < MIN_FREE_BYTES:
        wrong.append(f"free_bytes is {free!r}, at least {MIN_FREE_BYTES} are needed")
    affinity = seen.get("affinity")
    if affinity != [True] * job.cpus:
        wrong.append(f"affinity is {affinity!r}, asked for a thread on each of {job.cpus} CPUs")
    return wrong


def ended(done: Completed) -> str:
    """How a program in the guest ended, with its last words: one line."""
    last = done.stderr.strip().splitlines()[-1:] or done.stdout.strip().splitlines()[-1:]
    return f"exited with status {done.status}" + (f": {last[0][:200]}" if last else "")
