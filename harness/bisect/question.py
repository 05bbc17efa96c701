# SPDX-License-Identifier: GPL-2.0
"""What is seen of a commit, and whether that is what was seen at the end that has it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

# How far a commit came: the first three are where it stopped, "built", "booted" and
# "measured" that no more was asked; "slower" is the question of what was measured.
Kind = Literal[
    "apply", "build", "boot", "built", "booted", "slower", "measured",
    "exposed", "held", "crashed", "hung", "untested", "lost",
]  # fmt: skip
# What can be asked for; "held" is whatever GOOD shows and BAD does not.
Wanted = Literal["apply", "build", "boot", "crashed", "hung", "exposed", "held", "slower"]
# With --for; "slower" comes with a figure.
WANTED: tuple[Wanted, ...] = tuple(each for each in get_args(Wanted) if each != "slower")
End = Literal["good", "bad"]
Answer = Literal["hit", "miss", "other"]
FINE: frozenset[Kind] = frozenset({"built", "booted", "measured", "held"})
# By so much two ends must differ for one to be slower: less is the layout of the code.
TOLERANCE = 0.02
DID = {
    "apply": "does not apply", "build": "does not build", "boot": "does not boot",
    "built": "builds", "booted": "boots", "slower": "is slower",
}  # fmt: skip


@dataclass(frozen=True)
class Sight:
    """One look at a commit: a build that failed, or one boot with its trials."""

    kind: Kind
    titles: tuple[str, ...] = ()  # of splats; or what the failure is known by
    why: str = ""  # for a person
    exposed: int = 0
    held: int = 0
    trials: int = 0  # whatever their outcome
    builds: int = 0
    boots: int = 0
    seconds: float = 0.0
    directory: str = ""  # in the results, of this look
    value: float | None = None  # of the figure, guest instructions

    def __str__(self) -> str:
        what = DID.get(self.kind, self.kind)
        if self.kind == "exposed":
            return f"exposed in {self.exposed} of {self.exposed + self.held} trials"
        if self.value is not None:
            return f"{self.value:.0f} guest instructions"
        if self.kind == "held":
            return f"held in {self.held} trials"
        told = self.titles[0] if self.titles else self.why
        return f"{what}: {told}" if told else what

    def to_json(self) -> dict[str, Any]:
        """A line's worth of the journal."""
        return {**dataclasses.asdict(self), "titles": list(self.titles)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What to_json() gave.  TypeError, ValueError, KeyError if it is something else."""
        return cls(**{**value, "titles": tuple(value["titles"])})


@dataclass(frozen=True)
class Question:
    """The sign that commits are asked for: bad is who has it (`at` "bad"), or has it not."""

    kind: Kind  # "apply", "build", "boot", "slower", "crashed", "hung" or "exposed"
    title: str  # "" = any, and for exposures
    at: End  # which end shows it
    open: bool = False  # the cell's race can be had: an exposure is nothing wrong
    limit: float = 0.0  # guest instructions: slower is what takes more

    @property
    def unit(self) -> Literal["trial", "boot", "try"]:
        """Of what there is a rate; a "try" is the same each time."""
        if self.kind == "exposed":
            return "trial"
        return "try" if self.kind in ("apply", "build", "slower") else "boot"

    @property
    def other_end(self) -> End:
        """The end that must not show it."""
        return "good" if self.at == "bad" else "bad"

    def __str__(self) -> str:
        what = DID.get(self.kind, self.kind)
        if self.kind == "slower":
            what += f" (more than {self.limit:.0f} guest instructions)"
        return f"{what}: {self.title}" if self.title else what

    def answer(self, sight: Sight) -> Answer:
        """Whether this sight is the sign, its absence, or says nothing about it."""
        if self.kind == "exposed":
            return self._exposure(sight)
        if self.kind == "slower":
            if sight.value is None:
                return "other"
            return "hit" if sight.value > self.limit else "miss"
        if sight.kind == self.kind or {sight.kind, self.kind} == {"crashed", "hung"}:
            if self.title:
                return "hit" if self.title in sight.titles else "other"
            return "hit" if sight.kind == self.kind and not sight.titles else "other"
        return "miss" if self._got_further(sight) else "other"

    def counts(self, sight: Sight) -> tuple[int, int]:
        """(hits, units) of a sight that is a hit or a miss."""
        if self.kind == "exposed":
            return sight.exposed, sight.exposed + sight.held
        return int(self.answer(sight) == "hit"), 1

    def _exposure(self, sight: Sight) -> Answer:
        if sight.kind == "exposed":
            return "hit"
        if sight.kind in ("crashed", "hung") and sight.exposed and not self.open:
            return "hit"  # first the one, then the other
        return "miss" if sight.kind == "held" else "other"

    def _got_further(self, sight: Sight) -> bool:
        if self.kind in ("crashed", "hung"):
            return sight.kind == "held" or (sight.kind == "exposed" and self.open)
        order = ("apply", "build", "boot")
        if sight.kind in order:
            return order.index(sight.kind) > order.index(self.kind)
        # Without a machine of its own nobody knows whether it boots.
        return sight.kind not in ("lost", *(("built",) if self.kind == "boot" else ()))


def of(sight: Sight, at: End, open_: bool) -> Question | None:
    """The question whose sign this sight is; None when it shows nothing."""
    if sight.kind in FINE or sight.kind in ("untested", "lost"):
        return None
    title = sight.titles[0] if sight.titles and sight.kind != "exposed" else ""
    return Question(sight.kind, title, at, open_)


def conflict_title(message: str) -> str:
    """What a patch that does not apply is known by: its series and its file."""
    return message.partition(" does not apply")[0].removeprefix("series ")


def failure_title(message: str) -> str:
    """What a build that fails is known by: the first error without places that move."""
    text = re.sub(r" \(log: [^)]*\)$", "", message)
    text = re.sub(r"^kernel \S+: ", "", text)
    text = re.sub(r"(?<=[^\s:]):\d+(?::\d+)?(?=:)", "", text)
    return re.sub(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?", "", text)
