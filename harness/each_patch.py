# SPDX-License-Identifier: GPL-2.0
"""`harness build KERNEL --each-patch`: built, booted and looked at after each patch."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import ending
from harness.config import Config, Filesystem
from harness.errors import (
    EXIT_EXPECTED,
    EXIT_UNEXPECTED,
    BootError,
    BuildError,
    InfraError,
    MachineLostError,
)
from harness.events import Event, Listener, silent
from harness.experiment.allow import divide, rules
from harness.experiment.preflight import DEVICE, MOUNT_POINT, ended
from harness.guest import splat, symbols
from harness.guest.machine import BOOT_ATTEMPTS, Machine, MachineSpec
from harness.guest.qemu import Accelerator, probe_accelerator
from harness.kernel.steps import Step, steps
from harness.places import boot_directory
from harness.report.terminal import terminal


def run(
    name: str,
    cfg: Config,
    cache: Path,
    going_on: Callable[[str], None],
    *,
    after: str = "",
    first: int = 1,
    boot: bool = True,
) -> int:
    """Build kernel `name` after each patch, boot it, print a line; the exit code.

    `after` and `first` are those of kernel.steps.steps().  `going_on` is told the
    command that goes on at the patch under way.  0: all patches are well; 1: a
    kernel that booted complained, or did not do what is asked of every kernel.
    Raises BuildError, BootError, MachineLostError naming the patch, InfraError
    and UsageError.
    """
    # Nobody should wait for a kernel only to read that QEMU is missing.
    accelerator = probe_accelerator(next(iter(cfg.guest.values())).accel) if boot else None
    show: list[Listener] = [silent]

    def listen(event: Event) -> None:
        show[0](event)

    number = first
    with contextlib.closing(steps(name, cfg, cache, listen, after=after, first=first)) as each:
        while True:
            again = command(name, after, number, boot)
            going_on(again)
            with _saying_how_to_go_on(again), terminal() as show[0]:
                step = next(each, None)
                if step is None:
                    return EXIT_EXPECTED
                started, wrong, evidence = time.monotonic(), "", ""
                if accelerator is not None:
                    wrong, evidence = _boot(step, cfg, cache, accelerator, listen)
                seconds = time.monotonic() - started
            line = f"{step}: built in {step.image.seconds:.0f} s"
            line += f", booted in {seconds:.0f} s" if boot else ""
            print(line + (", NOT well" if wrong else ""), flush=True)
            if wrong:
                ending.say(f"harness: {step}: {wrong}\n  try: {again}")
                if evidence:
                    ending.say(evidence)
                return EXIT_UNEXPECTED
            number += 1


def command(name: str, after: str, number: int, boot: bool) -> str:
    """The command line that goes on at patch `number`."""
    argv = ["harness", "build", name, "--each-patch"]
    argv += ["--series", after] if after else []
    argv += ["--from", str(number)] if number > 1 else []
    return shlex.join([*argv, *([] if boot else ["--no-boot"])])


@contextlib.contextmanager
def _saying_how_to_go_on(again: str) -> Iterator[None]:
    try:
        yield
    except (BuildError, BootError, MachineLostError) as error:
        error.detail = f"{error.detail}\nwhen that is put right: {again}".lstrip("\n")
        raise


def _boot(
    step: Step, cfg: Config, cache: Path, accelerator: Accelerator, listen: Listener
) -> tuple[str, str]:
    """Boot a step's image, use every file system once.

    What is wrong, "" when nothing is, and the kernel's complaints whole.  Where the
    emulator failed, a known fault of it, all of it is done again: nothing was lost.
    """
    guest, image = next(iter(cfg.guest.values())), step.image
    spec = MachineSpec.of(guest, image.bzimage, accelerator, programs={})
    for attempt in range(1, BOOT_ATTEMPTS + 1):
        with boot_directory(cache, image.kernel) as directory:
            machine = Machine(spec, directory, cfg.root, cache, listen=listen, name=str(step))
            lost: MachineLostError | None = None
            wrong, dmesg = [], ""
            try:
                with machine:
                    wrong = _use(machine, image.release, cfg)
                    dmesg = machine.dmesg()
            except MachineLostError as error:
                lost = error
            fault = splat.emulator_fault(machine.console()) if spec.emulated else ""
            if fault and attempt < BOOT_ATTEMPTS:
                listen(Event("note", str(step), f"booting again, the emulator failed: {fault}"))
                continue
            if lost:
                raise lost
            if fault:
                raise InfraError(f"{step}: {fault}", hint="the same command again")
            found = [*machine.splats(), *splat.scan(dmesg.encode())]
            splats, _allowed = divide(found, rules(cfg, image.kernel))
            splats = symbols.decoded(splats, symbols.beside(image.bzimage))
        told = {each.title: each.text for each in reversed(splats)}
        return "; ".join([*reversed(told), *wrong]), "\n\n".join(reversed(told.values()))
    raise AssertionError("unreachable")


def _use(machine: Machine, release: str, cfg: Config) -> list[str]:
    """Look at the kernel's name, use every file system; what is wrong."""
    wrong = []
    said = machine.run("uname -r").stdout.strip()
    if said != release:
        wrong.append(f"uname -r says {said!r}, not {release!r}")
    for name, filesystem in cfg.filesystem.items():
        done = machine.run(smoke(filesystem))
        if done.status != 0:
            wrong.append(f"{name} {ended(done)}")
    return wrong


def smoke(filesystem: Filesystem) -> str:
    """A shell command that makes, mounts, fills, cuts, compares and unmounts a file system."""
    options = ["-o", ",".join(filesystem.mount)] if filesystem.mount else []
    file, copy = f"{MOUNT_POINT}/file", f"{MOUNT_POINT}/copy"
    return " && ".join(
        [
            shlex.join([*filesystem.mkfs, DEVICE]),
            shlex.join(["mkdir", "-p", MOUNT_POINT]),
            shlex.join(["mount", "-t", filesystem.type, *options, DEVICE, MOUNT_POINT]),
            f"dd if=/dev/urandom of={file} bs=64k count=16 2>/dev/null",
            f"truncate -s 300001 {file}",
            f"cp {file} {copy}",
            "sync",
            "echo 3 >/proc/sys/vm/drop_caches",
            f"cmp {file} {copy}",
            f"umount {MOUNT_POINT}",
        ]
    )
