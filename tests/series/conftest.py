# SPDX-License-Identifier: GPL-2.0
"""A project with the kernel in miniature, as a user has it: harness.toml, patches/, a cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import cli, config
from tests.conftest import TOML
from tests.fakes import kernel as fake

# Says what checkpatch would, in its words, of one kind of mistake.
CHECKPATCH = r"""#!/usr/bin/env perl
my $file = pop @ARGV;
die "no root\n" unless grep { /^--root=(.*)/ && -e "$1/COPYING" } @ARGV;
open(my $in, '<', $file) or die "$file: $!";
my $bad = 0;
while (<$in>) {
	if (/^\+.*[ \t]$/) { print "$file:$.: ERROR:TRAILING_WHITESPACE: white\n"; $bad = 1; }
	if (/^\+.*XXX/) { print "$file:$.: WARNING:FIXME: it says XXX\n"; $bad = 1; }
}
exit $bad;
"""
INITIALISED = "void pagecache_init(void)\n{\n\tpage_writeback_init();\n}\n"


@dataclass(frozen=True)
class Desk:
    """A developer's own: where they type, and what they see."""

    root: Path
    cache: Path
    capture: pytest.CaptureFixture[str]

    @property
    def toml(self) -> Path:
        return self.root / "harness.toml"

    def load(self) -> config.Config:
        return config.load(self.toml)

    def type(self, *argv: str | Path, code: int = 0) -> str:
        """What `harness ARGV` says; its exit code must be `code`."""
        self.capture.readouterr()
        got = cli.main([str(word) for word in argv])
        out, err = self.capture.readouterr()
        said = out + err
        assert "Traceback" not in said
        assert got == code, said
        return said

    def folder(self, name: str, line: str = "6.12") -> Path:
        return self.root / "patches" / name / line


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    """The program in a project whose stock kernel has one series, "windows"."""
    root = tmp_path / "root"
    root.mkdir()
    linux = fake.linux(root / "linux")
    for name in ("COPYING", "CREDITS", "MAINTAINERS"):
        (linux / name).write_text("x\n")
    (linux / "scripts" / "checkpatch.pl").write_text(CHECKPATCH)
    (linux / "mm" / "filemap.c").open("a").write(INITIALISED)
    windows = fake.patch("fs: windows", {"fs/inode.c": ("int inode_2;", "int inode_two;")})
    fake.write_series(root, "windows", {"0001-windows.patch": windows})
    fake.write_fragment(root, "base", "# Two CPUs.\nCONFIG_SMP=y\n")
    (root / "workloads/races").mkdir(parents=True)
    (root / "workloads/races/punch.c").write_text("")
    text = TOML.replace(
        'kind = "debian"\npackage = "linux-source-6.12"', 'kind = "dir"\npath = "linux"'
    )
    text = text.replace('["race-windows"]', '["windows"]').replace('"reopen-races",', "")
    text = text.replace('"race-windows",', '"windows",').replace('["base", "guest"]', '["base"]')
    (root / "harness.toml").write_text(text)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n\tname = A Developer\n\temail = dev@example.org\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(root)
    return Desk(root, tmp_path / "cache", capsys)


def change(subject: str, number: int, file: str = "mm/filemap.c", to: str = "") -> str:
    """A patch that renames one variable of the fake tree."""
    stem = Path(file).stem
    old, new = f"int {stem}_{number};", f"int {stem}_{to or 'x' * number};"
    return fake.patch(subject, {file: (old, new)})


def numbered(patch: str, tag: str) -> str:
    """The same under "[PATCH tag]"."""
    return patch.replace("Subject: [PATCH] ", f"Subject: [PATCH {tag}] ", 1)


Outgoing = Callable[[dict[str, str]], Path]


@pytest.fixture
def outgoing(tmp_path: Path) -> Outgoing:
    """Writes a folder of mails."""

    def write(files: dict[str, str]) -> Path:
        place = tmp_path / "outgoing"
        place.mkdir()
        for name, text in files.items():
            (place / name).write_text(text)
        return place

    return write
