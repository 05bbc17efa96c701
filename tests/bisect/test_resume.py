# SPDX-License-Identifier: GPL-2.0
"""A bisection that is cut off goes on where it was, and says the same in the end."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.bisect import conftest as yards
from tests.bisect.conftest import Yard
from tests.bisect.test_bisect import CELL, states


def essence(found: dict[str, Any]) -> dict[str, Any]:
    """All but times and names of directories."""
    decisions = [{**each, "why": ""} for each in found["decisions"]]
    cost = {key: found["cost"][key] for key in ("steps", "boots", "trials")}
    return {
        **{key: found[key] for key in ("first_bad", "suspects", "confidence", "rate")},
        "decisions": decisions, "cost": cost,
    }  # fmt: skip


def test_at_each_step(yard: Yard) -> None:
    commits = yard.history(states(4, yards.OPEN, s2=yards.NO_BUILD))
    whole = yard.bisect("--cell", CELL, commits[0], "master")
    boots = list(yard.boots)
    assert len(boots) >= 5
    for number in range(len(boots)):
        yard.boots.clear()

        def interrupt(seen: int, at: int = number) -> None:
            if seen == at:
                yard.on_boot = lambda _seen: None
                raise KeyboardInterrupt

        yard.on_boot = interrupt
        said = yard.type("bisect", "--cell", CELL, commits[0], "master", code=130)
        again = re.search(r"go on with: harness bisect --resume (\S+)", said)
        assert again is not None
        place = yard.root / "results" / again[1]
        looked = [json.loads(line) for line in (place / "journal.jsonl").open()]
        before = [entry for entry in looked if entry["what"] == "look"]
        argv = ["--resume"] if number % 2 else ["--resume", again[1]]
        assert essence(yard.bisect(*argv)) == essence(whole)
        # Every boot once, whichever sitting it was in.
        assert yard.boots == boots
        after = [json.loads(line) for line in (place / "journal.jsonl").open()]
        assert [entry for entry in after if entry["what"] == "look"][: len(before)] == before
        assert "is finished" in yard.type("bisect", "--resume", again[1], code=2)


def test_not_with_another_kernel(yard: Yard) -> None:
    commits = yard.history(states(4, yards.OPEN))

    def interrupt(seen: int) -> None:
        if seen == 3:
            raise KeyboardInterrupt

    yard.on_boot = interrupt
    yard.type("bisect", "--cell", CELL, commits[0], "master", code=130)
    yard.on_boot = lambda _seen: None
    (journal,) = yard.journals()
    # A line that was cut off is no line.
    with journal.open("a") as file:
        file.write('{"what": "look", "commit": "')
    fragment = yard.root / "vm/kconfig/base.config"
    kept = fragment.read_text()
    fragment.write_text(kept + "# A disk.\nCONFIG_XFS_FS=y\n")
    said = yard.type("bisect", "--resume", code=2)
    assert "cannot go on: kernel_id was" in said
    fragment.write_text(kept)
    yard.lab.digest = "another"
    assert "cannot go on: programs was" in yard.type("bisect", "--resume", code=2)
    yard.lab.digest = "0123456789ab"
    # The branch may have gone on in the meantime: the ends are commits.
    yard.history(["", ""])
    assert yard.bisect("--resume")["first_bad"]["commit"] == commits[4]


@pytest.mark.parametrize("token", [yards.NO_BUILD, yards.NO_BOOT])
def test_without_a_cell(yard: Yard, token: str) -> None:
    commits = yard.history(states(4, token))
    want = "build" if token == yards.NO_BUILD else "boot"
    found = yard.bisect("--kernel", "stock", "--for", want, commits[0], commits[-1])
    assert found["first_bad"]["commit"] == commits[4]
    assert found["cost"]["trials"] == 0
    # A build is the same each time, a boot is not.
    good = [each["units"] for each in found["decisions"] if each["mark"] == "good"]
    assert set(good) == ({1} if want == "build" else {9, 10} & set(good))
