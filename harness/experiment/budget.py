# SPDX-License-Identifier: GPL-2.0
"""Time for a whole run -> time for the trials of each cell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# A cell's time beside its trials (boot, mkfs, scan), before one has shown it.
OVERHEAD_S = 1.5
# The least that is asked of a reproducer; its fewest trials may take longer.
LEAST_S = 0.2


class Budget:
    """Shares what is left among the cells that are left: what one saves, the others have."""

    def __init__(
        self, seconds: float, cells: int, jobs: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`seconds` from now on for `cells` cells, `jobs` of them at once."""
        self._end, self._clock = clock() + seconds, clock
        self._left, self._jobs = cells, jobs
        self._overheads = [OVERHEAD_S]
        self._lock = threading.Lock()

    def share(self) -> float:
        """Seconds for the trials of a cell that begins now."""
        with self._lock:
            each = (self._end - self._clock()) * self._jobs / max(1, self._left)
            self._left -= 1
            return max(LEAST_S, each - sum(self._overheads) / len(self._overheads))

    def spent(self, cell: float, trials: float) -> None:
        """A cell took `cell` seconds, of which `trials` for its trials."""
        with self._lock:
            self._overheads.append(max(0.0, cell - trials))
