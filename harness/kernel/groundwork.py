# SPDX-License-Identifier: GPL-2.0
"""The patches of a kernel, applied while Python still imports what builds it.

It decides nothing: what it leaves undone, and what goes wrong here, is ensure()'s to do and
to tell.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from harness.config import Config
from harness.events import Event, Listener
from harness.kernel import build, image, series, tree
from harness.kernel.image import Image


class Groundwork:
    """Of one kernel: its patches become a commit, in a thread.

    Ctrl-C leaves it alone: its children die with the process (command.started), and what a
    killed git left is put right by the next one.
    """

    def __init__(self, name: str, cfg: Config, cache: Path) -> None:
        self._name, self._cfg, self._cache = name, cfg, cache.resolve()
        self.makes = False  # at its end: there is no image, and make has to run
        self._lock = threading.Lock()
        self._told: list[Event] = []
        self._listen: Listener | None = None
        self._thread = threading.Thread(target=self._work, name="groundwork", daemon=True)
        self._thread.start()

    def ensure(self, name: str, cfg: Config, cache: Path, listen: Listener) -> Image:
        """build.ensure(), after the groundwork."""
        with self._lock:
            told, self._told, self._listen = self._told, [], listen
        for event in told:
            listen(event)
        self.wait()
        return build.ensure(name, cfg, cache, listen)

    def wait(self) -> None:
        """To its end."""
        self._thread.join()

    def _hear(self, event: Event) -> None:
        with self._lock:
            listen = self._listen
            if listen is None:
                self._told.append(event)
        if listen is not None:
            listen(event)

    def _work(self) -> None:
        # Whatever goes wrong, ensure() comes to it, too.
        with contextlib.suppress(Exception):
            self._prepare()

    def _prepare(self) -> None:
        kernel = self._cfg.kernel[self._name]
        definition = self._cfg.tree[kernel.tree]
        # Of other kinds each look costs a git ls-remote, or all files of a directory; and what
        # is to be downloaded is downloaded when somebody waits for it.
        if definition.kind not in ("debian", "tarball") or not tree.at_hand(
            kernel.tree, definition, self._cfg.root, self._cache
        ):
            return
        recipe = build.resolve(self._name, self._cfg, self._cache, self._hear)
        images = self._cache / "kernels" / self._name / "images"
        self.makes = image.load(images, recipe.identity) is None
        if self.makes:
            series.apply(recipe.source, kernel.series, self._cfg.root, self._cache, self._hear)
