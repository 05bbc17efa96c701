# SPDX-License-Identifier: GPL-2.0
"""docs/your-own-series.md: each command of it that builds nothing, typed as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.fakes import kernel as fake
from tests.series.conftest import Desk, change, numbered
from tests.series.test_export import RUN, write_run

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/your-own-series.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[list[str]]:
    return [block.splitlines() for block in BLOCK.findall(PAGE.read_text())]


def test_the_page_has_its_commands() -> None:
    first, *others = blocks()
    assert len(first) == 3  # to a report in three
    assert first[0].startswith("harness series import ") and " --kernel " in first[0]
    assert first[1].startswith("harness run ") and first[2] == "harness report"
    typed = {" ".join(line.split()[:3]) for block in [first, *others] for line in block}
    verbs = {"import", "list", "apply", "check", "export"}
    assert {f"harness series {verb}" for verb in verbs} <= typed
    assert {"harness new race", "harness new series"} <= typed


def test_every_command_works_as_it_stands(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ~/linux has two commits on v6.12, and what git format-patch made of them.
    home = tmp_path / "home"
    linux = fake.linux(home / "linux")
    fake.git(linux, "init", "--quiet")
    fake.git(linux, "add", "-A")
    fake.git(linux, "commit", "--quiet", "-m", "Linux 6.12")
    fake.git(linux, "tag", "v6.12")
    for number in (3, 8):
        file = linux / "mm/filemap.c"
        file.write_text(file.read_text().replace(f"filemap_{number};", f"filemap_{number}_x;"))
        fake.git(linux, "commit", "--quiet", "-am", f"mm: step {number}")
    fake.git(linux, "format-patch", "--quiet", "--cover-letter", "-o", "outgoing", "v6.12..")
    (home / "mail").mkdir()
    thread = [numbered(change(f"mm: {n}", n), f"v3 {n}/2") for n in (2, 1)]
    (home / "mail/v3.mbx").write_text("".join(thread))
    write_run(desk.root, RUN)
    shutil.copytree(REPOSITORY / "workloads/skeleton", desk.root / "workloads/skeleton")
    runs = []
    for line in (line for block in blocks() for line in block):
        program, *argv = (str(Path(word).expanduser()) for word in shlex.split(line))
        assert program == "harness"
        if argv[0] == "run":
            runs.append(argv[1:])
        elif argv[0] == "report":  # tests/report/ has its own commands
            assert argv == ["report"]
        else:
            desk.type(*argv)
    # The runs are of kernels and races that are there: the plan is made, not run.
    cfg = desk.load()
    known = {"-k": list(cfg.kernel), "-w": list(cfg.workload)}
    for _plan, *filters in runs:
        for option, name in zip(filters[::2], filters[1::2], strict=True):
            assert name in known[option]
    assert sorted(p.name for p in (home / "to-post").iterdir())[0] == "0000-cover-letter.patch"
