# SPDX-License-Identifier: GPL-2.0
"""An experiment on the kernel tree in miniature of tests/fakes/linux/."""

from __future__ import annotations

import difflib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import config
from harness.events import Event

LINUX = Path(__file__).parent / "linux"


def linux(to: Path) -> Path:
    """A copy of the fake kernel source at `to`."""
    shutil.copytree(LINUX, to)
    return to


def patch(subject: str, changes: Mapping[str, tuple[str, str]], base: Path = LINUX) -> str:
    """A `git format-patch` file that replaces old by new in each file of `base`."""
    parts = [
        "From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001\n"
        "From: A Developer <dev@example.org>\n"
        "Date: Mon, 2 Nov 2026 10:00:00 +0100\n"
        f"Subject: [PATCH] {subject}\n\nWhy.\n---\n"
    ]
    for path, (old, new) in changes.items():
        before = (base / path).read_text() if (base / path).exists() else ""
        assert old in before or not before
        after = before.replace(old, new, 1) if before else new
        parts.append(_diff(path, before, after))
    return "".join(parts) + "-- \n2.39.5\n\n"


def _diff(path: str, before: str, after: str) -> str:
    start = f"a/{path}" if before else "/dev/null"
    body = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), start, f"b/{path}"
    )
    new = "" if before else "new file mode 100644\n"
    return f"diff --git a/{path} b/{path}\n{new}" + "".join(body)


def write_series(root: Path, name: str, files: Mapping[str, str], line: str = "6.12") -> Path:
    """patches/<name>/<line>/ with these files and a quilt `series` that lists them."""
    directory = root / "patches" / name / line
    directory.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (directory / file).write_text(text)
    (directory / "series").write_text("# in order\n" + "".join(f"{file}\n" for file in files))
    return directory


def write_fragment(root: Path, name: str, text: str) -> Path:
    """vm/kconfig/<name>.config"""
    path = root / "vm" / "kconfig" / f"{name}.config"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def experiment(
    root: Path,
    *,
    series: Sequence[str] = (),
    fragments: Sequence[str] = ("base",),
    tree: config.Tree | None = None,
    name: str = "stock",
) -> config.Config:
    """A Config with one tree and one kernel, as config.load would give."""
    return config.Config(
        tree={"fake": tree or config.Tree(kind="dir", line="6.12", path="linux")},
        kernel={
            name: config.Kernel(
                role="stock", tree="fake", series=list(series), fragments=list(fragments)
            )
        },
        guest={},
        filesystem={},
        workload={},
        plan={},
        root=root,
        path=root / "harness.toml",
    )


@dataclass
class Ear:
    """A listener that remembers."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def said(self, kind: str) -> str:
        """All messages of a kind, one per line."""
        return "\n".join(event.message for event in self.events if event.kind == kind)


def git(where: Path, *words: str) -> str:
    """Plain git, for what a test looks at or makes itself."""
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "gc.auto=0"]
    return subprocess.run(
        ["git", "-C", str(where), *settings, *words], check=True, capture_output=True, text=True
    ).stdout.strip()
