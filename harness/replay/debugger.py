# SPDX-License-Identifier: GPL-2.0
"""`harness replay --gdb`: the guest is stopped before the exposure, and says where its CPUs are.

An event is a hit of a race window by a racer. A first boot counts them to the exposure, with
which the reproducer ends; a second one is stopped so many of them earlier, by gdb on a hardware
breakpoint, and then let go: its trace says whether gdb made it another boot.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InfraError, UsageError
from harness.events import Event, Listener
from harness.guest.process import Process
from harness.replay.coordinate import Coordinate
from harness.replay.replaying import difference
from harness.replay.stand import Shot, Stand, cell_of

SCRIPT = Path(__file__).with_name("in_gdb.py")
_GRACE_S = 10.0


@dataclass(frozen=True)
class Cpu:
    """Where one of the guest's CPUs is."""

    task: str  # "" in user space
    callers: Sequence[tuple[str, str]]  # function, "file:line"; the innermost first


@dataclass(frozen=True)
class Stop:
    """The guest, stopped."""

    hits: Sequence[tuple[str, str]]  # window and racer, up to the exposure
    at: int  # of these, from 1: where it was stopped
    cpus: Sequence[Cpu]
    difference: str  # in what the boot that counted was not the coordinate's; "": in nothing

    def lines(self) -> list[str]:
        """For a person."""
        window, task = self.hits[self.at - 1]
        found = [
            f"stopped at window hit {self.at} of {len(self.hits)} before the exposure:"
            f" {task} in {window}"
        ]
        for number, cpu in enumerate(self.cpus):
            found.append(f"CPU {number}: {cpu.task or 'user space'}")
            found += [f"    {name} {where}".rstrip() for name, where in cpu.callers]
        found.append(
            f"under gdb the same exposure in the same order, not to the last bit: {self.difference}"
            if self.difference
            else "under gdb the same boot to the last bit"
        )
        return found


def stop(
    coordinate: Coordinate, stand: Stand, before: int, directory: Path, listen: Listener
) -> Stop:
    """Two boots; InfraError: no gdb, or it failed. UsageError: there are not so many hits."""
    if shutil.which("gdb") is None:
        raise InfraError("gdb is not installed", hint="sudo apt-get install gdb")
    listen(Event("replay", coordinate.name, "counts the window hits", 0, 2))
    counted, shot = _under_gdb(coordinate, stand, 0, directory / "count")
    seen = (shot.signature, shot.order)
    if seen != (coordinate.signature, coordinate.order):
        told = f"{shot.signature or 'nothing'} [{shot.order}]"
        raise InfraError(
            f"{coordinate.name}: under gdb there is another exposure: {told}",
            hint=f"harness explore --again {coordinate.name}",
        )
    differs = difference(coordinate, shot)
    hits = [(str(name), str(task)) for name, task in counted["hits"]]
    if before >= len(hits):
        raise UsageError(
            f"--before {before}: there are {len(hits)} window hits up to the exposure",
            hint="harness replay --help",
        )
    at = len(hits) - before
    listen(Event("replay", coordinate.name, f"stops at hit {at} of {len(hits)}", 1, 2))
    said, _shot = _under_gdb(coordinate, stand, at, directory / "stop")
    if "cpus" not in said:
        raise InfraError(
            f"{coordinate.name}: the second boot did not come to hit {at}",
            hint=f"harness replay {coordinate.name}",
        )
    cpus = [
        Cpu(each["task"], [(name, where) for name, where in each["callers"]])
        for each in said["cpus"]
    ]
    return Stop(hits, at, cpus, differs)


def _under_gdb(
    coordinate: Coordinate, stand: Stand, stop_at: int, directory: Path
) -> tuple[dict[str, Any], Shot]:
    """One boot beside gdb: what that said, and what came of the boot."""
    one, out, log = cell_of(stand.cfg, coordinate), directory / "gdb.json", directory / "gdb.log"
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="harness-gdb-") as place:  # unix sockets want it short
        socket = Path(place) / "gdb"
        told = {"SOCKET": str(socket), "OUT": str(out), "STOP": str(stop_at)}
        settings = {f"HARNESS_GDB_{key}": value for key, value in told.items()}
        argv = ["gdb", "-batch", "-nx", "-ex", f"python import os; os.environ.update({settings})"]
        source = stand.image.vmlinux.parents[2] / "src"
        if source.is_dir():
            argv += ["-ex", f"directory {source}"]
        argv += ["-x", str(SCRIPT), str(stand.image.vmlinux)]
        with Process(argv, (), log) as gdb:
            machine = stand.machine(one, coordinate.shift, directory, socket)

            def watch() -> None:
                # Without gdb the machine would wait for ever.
                if gdb.wait(None) != 0:
                    machine.kill()

            threading.Thread(target=watch, daemon=True).start()
            shot = stand.run(one, machine, directory)
            try:
                status = gdb.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                status = -1
        try:
            said: dict[str, Any] = json.loads(out.read_text())
        except (OSError, ValueError) as error:
            raise InfraError(
                f"gdb did not get on (exit status {status}): {_last(log)}",
                hint=f"gdb {stand.image.vmlinux}",
                detail=log.read_text(errors="replace")[-2000:],
            ) from error
    return said, shot


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
