# SPDX-License-Identifier: GPL-2.0
"""What long work says while it goes on.

kernel/, guest/ and experiment/ call a `Listener` with `Event`s; report/ turns
them into a live table or plain lines.  Nobody below cli prints by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.plain import printable


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    kind: "tree" | "series" | "build" | "boot" | "run" | "cell" | "trial" | "bisect" | "note"
    | "command"
    subject: what it is about: a tree, a kernel or a cell name
    message: one line for a person
    done, total: progress in units of the kind (objects, trials); total None = unknown
    eta_s: estimated seconds left, None = unknown
    data: anything a program wants ("verdict": ...), JSON-serialisable
    """

    kind: str
    subject: str
    message: str = ""
    done: int | None = None
    total: int | None = None
    eta_s: float | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A guest's words are in many of them, and views print them on a terminal.
        object.__setattr__(self, "message", printable(self.message, keep="\n\t"))


Listener = Callable[[Event], None]


def silent(_event: Event) -> None:
    """A listener for callers that do not care (tests, --quiet)."""
