# SPDX-License-Identifier: GPL-2.0
"""A kernel's .config: tinyconfig and the fragments, asked of Kconfig only when it must be."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.events import Event, Listener
from harness.kernel import git, kconfig, make
from harness.kernel.identity import RECIPE, identify

if TYPE_CHECKING:
    from harness.kernel.build import Recipe

# Kconfig must not add to the release string: `uname -r` ends with our id.
_OURS = '# CONFIG_LOCALVERSION_AUTO is not set\nCONFIG_LOCALVERSION=""\n'
_CONFIG = r"^[[:space:]]*(menu)?config[[:space:]]+[A-Za-z0-9_]+"
# The files that decide a .config: those of Kconfig, and the Makefiles and scripts that run.
_KCONFIG_READS = re.compile(r"scripts/.*|(.*/)?(Kconfig[^/]*|[^/]*\.config|Makefile[^/]*)")


def configure(
    makefile: make.Makefile, recipe: Recipe, commit: str, listen: Listener, jobs: int
) -> str:
    """Write O=/.config, its time unchanged when its content is; the content.

    tinyconfig, then the fragments (Kconfig takes the last value of an option),
    then olddefconfig, on a file beside: .config must not be seen as newer.
    Nothing is run when all that Kconfig reads is as it was (5 s less).
    """
    if (known := configured(makefile, recipe, commit)) is not None:
        return known
    final, key = makefile.objects / ".config", makefile.objects.parent / "config.key"
    listen(Event("build", recipe.name, "configuring"))
    beside = makefile.objects.parent / "config.new"
    beside.unlink(missing_ok=True)
    env = make.environment(KCONFIG_CONFIG=str(beside))
    _tinyconfig(makefile, beside, jobs, env)
    with beside.open("a") as file:
        file.write(_OURS + kconfig.text(recipe.options))
    make.run(makefile, ["olddefconfig"], jobs=jobs, env=env)
    text = beside.read_text()
    kconfig.verify(recipe.options, text, makefile.source)
    if not final.is_file() or final.read_text() != text:
        beside.replace(final)
    key.write_text(f"{commit} {_key(recipe, text)}")
    return text


def configured(makefile: make.Makefile, recipe: Recipe, commit: str) -> str | None:
    """The content of O=/.config; None when Kconfig has to be asked."""
    final, key = makefile.objects / ".config", makefile.objects.parent / "config.key"
    if not (key.is_file() and final.is_file()):
        return None
    text, (before, _, known) = final.read_text(), key.read_text().partition(" ")
    same = known == _key(recipe, text) and _same_kconfig(recipe, before, commit)
    return text if same else None


def symbols(repo: Path, commit: str) -> set[str]:
    """The options that a commit's Kconfig files have."""
    listing = git.out(repo, "grep", "-hoE", _CONFIG, commit, "--", "*Kconfig*")
    return {line.split()[-1] for line in listing.splitlines()}


def _tinyconfig(makefile: make.Makefile, to: Path, jobs: int, env: dict[str, str]) -> None:
    """The tiniest configuration, written to `to`, which is also KCONFIG_CONFIG in `env`."""
    kconfig_makefile = makefile.source / "scripts/kconfig/Makefile"
    # Until 5.12 a second step read O=/.config, whatever KCONFIG_CONFIG said, and most of
    # the first was lost.
    text = kconfig_makefile.read_text() if kconfig_makefile.is_file() else ""
    stubborn = "merge_config.sh -m .config" in text
    if not stubborn:
        make.run(makefile, ["tinyconfig"], jobs=jobs, env=env)
        return
    apart = dataclasses.replace(makefile, objects=makefile.objects.with_name("tiny"))
    apart.objects.mkdir(exist_ok=True)
    make.run(apart, ["tinyconfig"], jobs=jobs, env=make.environment())
    shutil.copyfile(apart.objects / ".config", to)


def _key(recipe: Recipe, text: str) -> str:
    options = kconfig.text(recipe.options)
    return identify([RECIPE, recipe.toolchain, _OURS, options, text], [])


def _same_kconfig(recipe: Recipe, before: str, commit: str) -> bool:
    """Whether two commits have the same files of those that decide a .config."""
    names = git.attempt(recipe.source.repo, "diff-tree", "-r", "--name-only", before, commit)
    changed = names.stdout.splitlines()
    return names.status == 0 and not any(map(_KCONFIG_READS.fullmatch, changed))
