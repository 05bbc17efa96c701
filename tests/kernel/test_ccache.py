# SPDX-License-Identifier: GPL-2.0
"""What one kernel has compiled another takes, and both get the bytes that gcc alone makes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.events import silent
from harness.kernel import build, make
from harness.kernel.make import Makefile
from tests.fakes import kernel as fake

SOURCE = '#include "word.h"\nconst char *where(void) { return __FILE__; }\nint word = WORD;\n'


def _makefile(cache: Path, kernel: str, source: str = SOURCE) -> Makefile:
    home = cache / "kernels" / kernel
    (home / "src" / "mm").mkdir(parents=True)
    (home / "src" / "include").mkdir()
    (home / "o" / "mm").mkdir(parents=True)
    (home / "src" / "mm" / "word.c").write_text(source)
    (home / "src" / "include" / "word.h").write_text("#define WORD 7\n")
    return Makefile(kernel, home / "src", home / "o", home / "build.log")


def _compile(makefile: Makefile, recipe: build.Recipe) -> subprocess.CompletedProcess[str]:
    """As kbuild calls it, whose own map comes first."""
    settings = dict(each.split("=", 1) for each in build.make_settings(makefile, recipe))
    argv = [
        *shlex.split(settings.get("CC", "gcc")), "-g", "-Wp,-MMD,mm/.word.o.d",
        f"-I{makefile.source}/include", f"-fmacro-prefix-map={makefile.source}/=",
        *shlex.split(settings["KCFLAGS"]), "-c", "-o", "mm/word.o",
        f"{makefile.source}/mm/word.c",
    ]  # fmt: skip
    return subprocess.run(
        argv, cwd=makefile.objects, env=build.caching(makefile), check=False,
        capture_output=True, text=True,
    )  # fmt: skip


def _hits(makefile: Makefile) -> int:
    done = subprocess.run(
        ["ccache", "--print-stats"], env=build.caching(makefile), check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    counters = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    return int(counters["direct_cache_hit"]) + int(counters["preprocessed_cache_hit"])


@pytest.fixture
def recipe(root: Path, cache: Path) -> build.Recipe:
    return build.resolve("stock", fake.experiment(root), cache, silent)


def test_of_two_kernels_each_file_is_compiled_once(
    cache: Path, recipe: build.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CCACHE_DIR", raising=False)
    objects = []
    for kernel in ("stock", "control"):
        makefile = _makefile(cache, kernel)
        done = _compile(makefile, recipe)
        assert done.returncode == 0, done.stderr
        objects.append((makefile.objects / "mm/word.o").read_bytes())
        assert _hits(makefile) == (0 if kernel == "stock" else 1)
    # And without it.
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "ccache" else found(name))
    makefile = _makefile(cache, "alone")
    assert not any("ccache" in each for each in build.make_settings(makefile, recipe))
    assert _compile(makefile, recipe).returncode == 0
    alone = (makefile.objects / "mm/word.o").read_bytes()
    assert objects == [alone, alone]
    assert b"mm/word.c" in alone and b"../src" not in alone and os.fsencode(cache) not in alone


def test_an_error_names_the_file_as_it_does_without(
    cache: Path, recipe: build.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CCACHE_DIR", raising=False)
    makefile = _makefile(cache, "stock", SOURCE + "int wrong(void) { return nothing; }\n")
    done = _compile(makefile, recipe)
    assert done.returncode != 0
    assert f"{makefile.source}/mm/word.c:4:" in done.stderr
    error = make.failure(makefile, done.stderr)
    assert "mm/word.c:4: " in error.message and "nothing" in error.message


def test_what_the_person_has_set_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCACHE_DIR", "/somewhere/of/theirs")
    assert build.caching(_makefile(cache, "stock"))["CCACHE_DIR"] == "/somewhere/of/theirs"
