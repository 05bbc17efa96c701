# SPDX-License-Identifier: GPL-2.0
"""docs/bisect.md: each command of it, typed as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness import cli
from tests.bisect import conftest as yards
from tests.bisect.conftest import Yard
from tests.fakes import kernel as fake

PAGE = Path(__file__).parents[2] / "docs/bisect.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    return [shlex.split(line) for block in BLOCK.findall(PAGE.read_text())
            for line in block.splitlines()]  # fmt: skip


def test_every_command_works_as_it_stands(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # v6.12.9 exposes, v6.12.11 holds again.
    yard.history(["", "", "", f"int {yards.OPEN};", f"int {yards.OPEN};", "", ""])
    for tag, number in (("v6.12", 0), ("v6.12.9", 4), ("v6.12.11", 6)):
        fake.git(yard.linux, "tag", tag, yard.commits[number])
    before = (fake.LINUX / yards.FILE).read_text()
    last = before.splitlines()[-1]
    base = yard.root / "base/fs"
    base.mkdir(parents=True)
    patches = {}
    for number, body in enumerate(["int one;", "int two;", f"int {yards.OPEN};", "int x;"], 1):
        (base.parent / yards.FILE).write_text(before)
        text = fake.patch(f"fs: {number}", {yards.FILE: (last, f"{body}\n{last}")}, base.parent)
        before = before.replace(last, f"{body}\n{last}", 1)
        patches[f"{number:04}-fs.patch"] = text
    fake.write_series(yard.root, "mine", patches)
    toml = yard.root / "harness.toml"
    plain = toml.read_text()
    home = tmp_path / "home"
    (home / "harness").mkdir(parents=True)
    (home / "harness/harness.toml").symlink_to(toml)
    seen = set()
    for words in commands():
        if words[:3] == ["git", "bisect", "run"]:
            assert words[3] == "harness"
            argv = [str(toml) if word.startswith("~") else word for word in words[4:]]
            monkeypatch.chdir(yard.linux)
            assert cli.main(argv) == 0  # the last commit is good
            monkeypatch.chdir(yard.root)
            seen.add("run")
            continue
        assert words[:2] == ["harness", "bisect"], words
        if "--series" in words:
            toml.write_text(plain.replace('["windows"]', '["windows", "mine"]', 1)
                            .replace('ref = "master"', 'ref = "v6.12"'))  # fmt: skip
            assert yard.bisect(*words[2:])["first_bad"]["subject"] == "fs: 3"
            toml.write_text(plain)
        elif "--resume" in words:

            def interrupt(_number: int) -> None:
                yard.on_boot = lambda _number: None
                raise KeyboardInterrupt

            yard.on_boot = interrupt
            yard.type("bisect", "--cell", "stock/ext4/punch", "v6.12", "v6.12.9", code=130)
            assert yard.bisect(*words[2:])["first_bad"]["commit"] == yard.commits[3]
        elif "--for" in words and (want := words[words.index("--for") + 1]) != "held":
            said = yard.type(*words[1:], code=2)
            assert f"BAD does not show '{want}'" in said
        else:
            first = 5 if "held" in words else 3
            assert yard.bisect(*words[2:])["first_bad"]["commit"] == yard.commits[first]
        seen.add(words[-1])
    assert {"run", "--resume"} <= seen
