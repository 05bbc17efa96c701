# SPDX-License-Identifier: GPL-2.0
"""What a run waits for make and git for, begun while Python still imports what it runs with.

Nothing here says anything or fails: the run asks for it as it would without, and is told then.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from harness.config import Config
from harness.events import Event, Listener
from harness.kernel.groundwork import Groundwork

if TYPE_CHECKING:
    from harness.experiment.runner import Rooms
    from harness.kernel.image import Image

STOP_S = 1.0  # for make's compilers to be told


class Ahead:
    """Workloads, the host's tools, the groundwork of one kernel.  A context manager."""

    def __init__(self, cfg: Config, kernels: Sequence[str], cache: Path) -> None:
        """`kernels`: of the run, in the order in which they will be wanted."""
        self._root, self._cache = cfg.root, cache
        # It takes longest.
        self._groundwork = Groundwork(kernels[0], cfg, cache) if kernels else None
        self._programs: dict[str, Path] = {}
        self._told: list[Event] = []
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._idle = threading.Event()  # make, if it has to run, leaves a CPU to others
        self._maker = threading.Thread(target=self._make, name="workloads", daemon=True)
        self._maker.start()
        threading.Thread(target=self._look, name="host", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._idle.set()
        self._maker.join(STOP_S)

    def rooms(self) -> Rooms:
        """The runner's doors to what has been begun."""
        from harness.experiment.runner import Rooms

        if self._groundwork is None:
            return Rooms(compile_workloads=self.programs)
        return Rooms(compile_workloads=self.programs, ensure=self._ensure)

    def _ensure(self, name: str, cfg: Config, cache: Path, listen: Listener) -> Image:
        def hear(event: Event) -> None:
            if event.data.get("links"):
                self._idle.set()
            listen(event)

        assert self._groundwork is not None
        try:
            return self._groundwork.ensure(name, cfg, cache, hear)
        finally:
            self._idle.set()

    def _look(self) -> None:
        """What the host has for a guest: each of these is found out once in a process.

        A guest is not wanted before the kernel, and two CPUs are soon busy.
        """
        from harness.guest import initramfs, qemu

        if self._groundwork is not None:
            self._groundwork.wait()
            if self._groundwork.makes:
                self._idle.wait()
        if self._stop.is_set():
            return
        with contextlib.suppress(Exception):  # the machine that wants it says so
            initramfs.base(self._cache, self._root)
            qemu.has_firmware()

    def _make(self) -> None:
        from harness.guest.programs import compile_workloads

        try:
            self._programs = compile_workloads(
                self._root, self._cache, self._told.append, self._stop
            )
        except Exception as error:
            self._error = error

    def programs(self, _root: Path, _cache: Path, listen: Listener) -> dict[str, Path]:
        """compile_workloads() to its end."""
        self._maker.join()
        for event in self._told:
            listen(event)
        if self._error is not None:
            raise self._error
        return self._programs
