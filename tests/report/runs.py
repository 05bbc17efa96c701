# SPDX-License-Identifier: GPL-2.0
"""Runs out of thin air, for what must hold whatever a run says."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from hypothesis import strategies as st

from harness.experiment.trial import OUTCOMES, Outcome
from harness.report.saved import Cell, Document, Planned, Saved, Splat, Verdict

# Whatever can be in a str: control characters, half surrogates, markup, directives.
TEXT = st.text(max_size=40) | st.sampled_from(
    ["a # SKIP b", "]]>", "<b>&amp;", "\x1b[2J", "\x00", "\ud800", "1..3", "ok 1 x\nok 2 y",
     "|", "`", "# TODO", "\u202e", "'\"", "\x85\u2028"]
)  # fmt: skip
NAMES = st.text(alphabet="ab#| <&\n\x1b\ud800é-_.", min_size=1, max_size=12)


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    """A cell whose every text is somebody else's."""
    kernel, filesystem, workload = draw(NAMES), draw(NAMES), draw(NAMES)
    state: Outcome = draw(st.sampled_from(get_args(Outcome)))
    number = draw(st.integers(0, 5))
    return Cell(
        name=f"{kernel}/{filesystem}/{workload}{number}",
        kernel=kernel,
        role=draw(st.sampled_from(["control", "stock", "candidate"])),
        filesystem=filesystem,
        workload=workload,
        kind=draw(st.sampled_from(["race", "gate"])),
        armed=draw(st.booleans()),
        planned=10,
        seed=1,
        must_fire=draw(st.booleans()),
        verdict=Verdict(
            state=state,
            as_expected=draw(st.booleans()),
            claim=draw(TEXT),
            reason=draw(TEXT),
            trials=10,
            planned=10,
            outcomes=dict.fromkeys(OUTCOMES, 1),
            exposed=1,
            rate=draw(st.none() | st.floats(0, 1)),
            interval=(draw(st.floats(0, 1)), draw(st.floats(0, 1))),
        ),
        splats=[Splat(kind="bug", title=draw(TEXT))] if draw(st.booleans()) else [],
        directory="cells/x",
        rerun=f"exec .venv/bin/harness run {number}",
        wall={"cell": draw(st.floats(0, 1e6))},
    )


@st.composite
def runs(draw: st.DrawFn) -> Saved:
    """Up to a dozen cells, some of which were not run."""
    found = {cell.name: cell for cell in draw(st.lists(cells(), max_size=8))}
    owed = [name for name in draw(st.lists(NAMES, max_size=4, unique=True)) if name not in found]
    document = Document(
        id=draw(TEXT),
        plan=draw(TEXT),
        status=draw(st.sampled_from(["finished", "interrupted", "running"])),
        started=draw(st.sampled_from(["", "2026-11-25T12:03:43+00:00", "yesterday"])),
        seconds=draw(st.floats(0, 1e6)),
        cells=list(found.values()),
        error=draw(TEXT),
        accelerator="tcg",
        accelerator_reason=draw(TEXT),
    )
    return Saved(
        Path("/nonexistent"), document, [Planned.of(f"k/ext4/{name}@off") for name in owed]
    )
