# SPDX-License-Identifier: GPL-2.0
"""`harness boot`: a kernel to a shell, over serial or SSH, or to one command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness import afterwards, ending
from harness.errors import EXIT_CANNOT_TEST, EXIT_EXPECTED, UsageError
from harness.options import known

if TYPE_CHECKING:
    from harness.config import Config


def boot_verb(
    load: Callable[[argparse.Namespace], Config],
) -> Callable[[argparse.Namespace], int]:
    """The verb; load() gives the Config that the user means."""
    return lambda args: boot(args, load(args))


def boot(args: argparse.Namespace, config: Config) -> int:
    """Boot a kernel to a shell on the serial console, or run one command over SSH."""
    if args.command is None and not args.ssh and not sys.stdin.isatty():
        raise UsageError(
            "a shell on the serial console needs a terminal",
            hint=f"harness boot {args.kernel} --exec 'uname -r'",
        )
    from harness.guest import symbols
    from harness.guest.machine import Machine, MachineSpec
    from harness.guest.programs import compile_workloads
    from harness.guest.qemu import probe_accelerator
    from harness.kernel.build import ensure
    from harness.places import boot_directory, cache_dir
    from harness.report.terminal import terminal

    cache = cache_dir()
    guest = config.guest[known("guest", args.guest or next(iter(config.guest)), config.guest)]
    known("kernel", args.kernel, config.kernel)
    with terminal(view=args.view) as listen:
        image = ensure(args.kernel, config, cache, listen)
        programs = compile_workloads(config.root, cache, listen)
        shell = ("harness.shell=1",) if args.command is None and not args.ssh else ()
        accelerator = probe_accelerator(guest.accel)
        spec = MachineSpec.of(guest, image.bzimage, accelerator, programs, *shell)
    with (
        boot_directory(cache, args.kernel) as directory,
        Machine(spec, directory, config.root, cache, name=args.kernel) as machine,
    ):
        argv = machine.invite()  # also for `harness ssh` in another terminal
        if args.ssh:
            afterwards.enter(argv)
        elif args.command is None:
            machine.interact()
        else:
            done = machine.run(args.command, timeout_s=args.timeout)
        splats = machine.splats()
    table = symbols.beside(image.bzimage)
    for splat in symbols.decoded(splats, table):
        at = f" ({symbols.where(splat)})" if table is not None else ""
        ending.say(f"harness: warning: the kernel complained: {splat.title}{at}")
    if args.command is None or args.ssh:
        panicked = any(splat.kind in ("panic", "init_died") for splat in splats)
        return EXIT_CANNOT_TEST if panicked else EXIT_EXPECTED
    ending.write(sys.stdout, done.stdout)
    ending.write(sys.stderr, done.stderr)
    # A status outside 0..255 means that a signal ended the remote shell.
    return done.status if 0 <= done.status <= 255 else EXIT_CANNOT_TEST
