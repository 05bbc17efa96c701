# SPDX-License-Identifier: GPL-2.0
"""`harness replay`: a coordinate again, and whether it did the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.config import Config, nearest
from harness.errors import InfraError, UsageError
from harness.events import Event, Listener
from harness.experiment import facts
from harness.kernel import build, image
from harness.kernel.image import Image
from harness.places import COORDINATES
from harness.replay import coordinate as coordinates
from harness.replay.coordinate import Coordinate
from harness.replay.stand import Shot, Stand, bzimage_digest, cell_of


@dataclass(frozen=True)
class Repeat:
    """One replay."""

    identical: bool
    why: str  # in what it was not
    seconds: float
    load: float  # of the host, when it began


def find(name: str, root: Path) -> Path:
    """The file of a coordinate: a path, or a name in workloads/coordinates. UsageError."""
    path = Path(name)
    stored = root / COORDINATES
    for each in (path, stored / name, stored / f"{name}.toml"):
        if each.is_file():
            return each
    known = [each.stem for each in stored.glob("*.toml")]
    raise UsageError(
        f"no coordinate {name!r}{nearest(name, known)}",
        hint=f"ls {COORDINATES}, or: harness explore",
    )


def kernel(
    coordinate: Coordinate, cfg: Config, cache: Path, listen: Listener, path: Path
) -> Image:
    """Its image: kept in the cache, or built again.

    InfraError, before anything is built, where that would be another kernel.
    """
    kept = image.load(cache / "kernels" / coordinate.kernel / "images", coordinate.kernel_id)
    if kept is not None:
        return kept
    now = build.resolve(coordinate.kernel, cfg, cache, listen).identity
    if now != coordinate.kernel_id:
        raise another("kernel", coordinate.kernel_id, now, path)
    return build.ensure(coordinate.kernel, cfg, cache, listen)


def another(what: str, then: str, now: str, path: Path) -> InfraError:
    """What is said where a coordinate cannot be replayed, with the way to go on."""
    was, here = (each[:12] if len(each) == 64 else each for each in (then, now))
    return InfraError(
        f"{path}: recorded with another {what}: {was}, here it is {here}",
        hint=f"harness explore --again {shlex.quote(str(path))}",
    )


def names(coordinate: Coordinate, cfg: Config, path: Path) -> None:
    """UsageError when harness.toml does not have what it names."""
    for kind in ("kernel", "filesystem", "workload"):
        known, name = getattr(cfg, kind), getattr(coordinate, kind)
        if name not in known:
            raise UsageError(
                f"{path}: no {kind} {name!r} in harness.toml{nearest(name, known)}",
                hint="harness list",
            )


def check(coordinate: Coordinate, stand: Stand, path: Path) -> None:
    """InfraError when what is here is not what it was recorded with: it would be another boot."""
    one = cell_of(stand.cfg, coordinate)
    pairs = {
        "bzImage": (coordinate.bzimage, bzimage_digest(stand.image)),
        "QEMU": (coordinate.qemu, stand.qemu),
        "guest": (coordinate.machine, stand.machine_line(one, coordinate.shift)),
        "initramfs (tools or programs)": (coordinate.initramfs, stand.initramfs(one)),
    }
    for what, (then, now) in pairs.items():
        if then != now:
            raise another(what, then, now, path)


def repeats(
    coordinate: Coordinate, stand: Stand, times: int, directory: Path, listen: Listener
) -> Iterator[Repeat]:
    """So many boots, each compared with the coordinate."""
    one = cell_of(stand.cfg, coordinate)
    for number in range(1, times + 1):
        load = facts.load()
        text = f"replay {number} of {times}"
        listen(Event("replay", coordinate.name, text, number - 1, times))
        shot = stand.shoot(one, coordinate.shift, directory / f"{number:03}")
        if isinstance(shot.attempt.error, InfraError):
            raise shot.attempt.error
        seconds = shot.recording.seconds if shot.recording is not None else 0.0
        why = difference(coordinate, shot)
        yield Repeat(not why, why, seconds, load)


def difference(coordinate: Coordinate, shot: Shot) -> str:
    """In what a boot was not what the coordinate says; "" when it was the same to the last bit."""
    recording = shot.recording
    if recording is None:
        return shot.trouble or "it did not come to its end"
    if recording.trace != coordinate.trace:
        return coordinates.first_difference(recording.console, coordinate.lines) or "its console"
    if recording.memory != coordinate.memory:
        return "its console is the same, the guest's memory is not"
    return ""
