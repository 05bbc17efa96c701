# SPDX-License-Identifier: GPL-2.0
"""What is the sign, what is its absence, and what says nothing."""

from __future__ import annotations

import pytest

from harness.bisect.question import (
    Kind,
    Question,
    Sight,
    conflict_title,
    failure_title,
    of,
)


def test_titles_have_nothing_that_moves() -> None:
    at = "kernel stock: mm/filemap.c:3321:5: implicit declaration of 'f' (log: /c/build.log)"
    later = "kernel stock: mm/filemap.c:3330:9: implicit declaration of 'f' (log: /c/build.log)"
    assert failure_title(at) == failure_title(later) == (
        "mm/filemap.c: implicit declaration of 'f'"
    )  # fmt: skip
    linker = "kernel k: filemap.c:(.text+0x1f): undefined reference to `g' (log: /c/build.log)"
    assert failure_title(linker) == "filemap.c:(.text): undefined reference to `g'"
    conflict = "series mine: 0002-x.patch does not apply to tree six (6.12.9): mm/x.c, hunk at 3"
    assert conflict_title(conflict) == "mine: 0002-x.patch"


@pytest.mark.parametrize(
    ("kind", "hit", "miss", "other"),
    [
        ("apply", ["apply"], ["build", "boot", "built", "held", "crashed"], ["lost"]),
        ("build", ["build"], ["boot", "built", "held", "exposed"], ["apply", "lost"]),
        ("boot", ["boot"], ["booted", "held", "hung"], ["apply", "build", "built", "lost"]),
        ("crashed", ["crashed", "hung"], ["held"], ["exposed", "boot", "build", "untested"]),
        ("hung", ["hung"], ["held"], ["exposed", "boot", "lost"]),
        ("exposed", ["exposed"], ["held"], ["crashed", "hung", "boot", "untested", "lost"]),
    ],
)
def test_answers(kind: Kind, hit: list[Kind], miss: list[Kind], other: list[Kind]) -> None:
    title = "" if kind == "exposed" else "T"
    question = Question(kind, title, "bad")
    for expected, kinds in (("hit", hit), ("miss", miss), ("other", other)):
        for each in kinds:
            sight = Sight(each, (title,) if title else (), exposed=0)
            assert question.answer(sight) == expected, each
    if title:
        assert question.answer(Sight(kind, ("another",))) == "other"
        assert question.answer(Sight(kind)) == "other"


def test_an_exposure_before_a_crash_is_one() -> None:
    sight = Sight("crashed", ("T",), exposed=1, held=3)
    assert Question("exposed", "", "bad").answer(sight) == "hit"
    # Not where it is owed: then the machine must be well.
    assert Question("exposed", "", "good", open=True).answer(sight) == "other"
    # A control kernel that is exposed is not crashed.
    assert Question("crashed", "T", "bad", open=True).answer(Sight("exposed")) == "miss"


def test_a_sight_makes_a_question() -> None:
    assert of(Sight("held"), "bad", False) is None
    assert of(Sight("untested"), "bad", False) is None
    assert of(Sight("crashed", ("A", "B")), "bad", False) == Question("crashed", "A", "bad")
    assert of(Sight("hung"), "bad", False) == Question("hung", "", "bad")
    silent = Question("boot", "", "bad")
    assert silent.answer(Sight("boot")) == "hit"
    assert silent.answer(Sight("boot", ("panic",))) == "other"
    there = Sight("exposed", exposed=3, held=1, trials=4, boots=1, seconds=2.5, directory="d")
    assert Sight.from_json(there.to_json()) == there
