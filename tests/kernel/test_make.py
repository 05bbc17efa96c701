# SPDX-License-Identifier: GPL-2.0
from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BuildError, InfraError
from harness.kernel import make
from tests.fakes.kernel import Ear

MAKEFILE = make.Makefile("stock", Path("/c/kernels/stock/src"), Path("/c/o"), Path("/c/build.log"))

# As 6.12 prints them.
COMPILER = """\
  CC      mm/filemap.o
/c/kernels/stock/src/mm/filemap.c: In function ‘filemap_fault’:
/c/kernels/stock/src/mm/filemap.c:3300:9: error: implicit declaration of function ‘range_lock’
 3300 |         range_lock(mapping);
      |         ^~~~~~~~~~
  CC      mm/truncate.o
make[4]: *** [/c/kernels/stock/src/scripts/Makefile.build:229: mm/filemap.o] Error 1
make[3]: *** Waiting for unfinished jobs....
/c/kernels/stock/src/mm/truncate.c:1:1: error: second
"""
HEADER = """\
In file included from /c/kernels/stock/src/mm/filemap.c:10:
/c/kernels/stock/src/include/linux/fs.h:5:10: fatal error: linux/gone.h: No such file or directory
compilation terminated.
"""
ASSEMBLER = """\
/c/kernels/stock/src/arch/x86/entry/entry_64.S: Assembler messages:
/c/kernels/stock/src/arch/x86/entry/entry_64.S:12: Error: no such instruction: `hlt2'
"""
LINKER = """\
  LD      .tmp_vmlinux1
ld: vmlinux.o: in function `filemap_fault':
filemap.c:(.text+0x2f): undefined reference to `range_lock'
ld: vmlinux.o: in function `second':
make[2]: *** [/c/kernels/stock/src/scripts/Makefile.vmlinux:34: vmlinux] Error 1
"""
MODPOST = 'ERROR: modpost: "range_lock" [fs/xfs/xfs.ko] undefined!\n'
STARS = """\
  GEN     Makefile
*** The source directory is not clean ***
make[1]: *** [/c/kernels/stock/src/Makefile:572: outputmakefile] Error 1
make: *** [Makefile:224: __sub-make] Error 2
"""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (COMPILER, "mm/filemap.c:3300: implicit declaration of function ‘range_lock’"),
        (HEADER, "include/linux/fs.h:5: linux/gone.h: No such file or directory"),
        (ASSEMBLER, "arch/x86/entry/entry_64.S:12: no such instruction: `hlt2'"),
        (LINKER, "filemap.c:(.text+0x2f): undefined reference to `range_lock'"),
        (MODPOST, 'ERROR: modpost: "range_lock" [fs/xfs/xfs.ko] undefined!'),
        (STARS, "make[1]: *** [/c/kernels/stock/src/Makefile:572: outputmakefile] Error 1"),
        ("ld: cannot find -lx\n", "ld: cannot find -lx"),
        ("something else\n", "something else"),
        ("", "no output"),
        # A warning is no error, and the word alone neither.
        ("ld: warning: x has a LOAD segment\n  CC      lib/error.o\nmake: *** [x] Killed\n",
         "make: *** [x] Killed"),
    ],
)  # fmt: skip
def test_first_error(said: str, told: str) -> None:
    error = make.failure(MAKEFILE, said)
    assert isinstance(error, BuildError)
    assert error.message == f"kernel stock: {told} (log: /c/build.log)"
    assert error.hint.startswith("less ")
    assert error.hint.endswith(" /c/build.log")


def test_missing_program_of_the_host() -> None:
    said = "  LEX     lexer.lex.c\n/bin/sh: 1: flex: not found\nmake: *** [x] Error 127\n"
    error = make.failure(MAKEFILE, said)
    assert isinstance(error, InfraError)
    assert "flex is not installed" in error.message
    assert error.hint == "apt-get install flex"


@given(st.text())
def test_any_output_makes_one_line(said: str) -> None:
    assert "\n" not in make.failure(MAKEFILE, said).message


def test_detail_begins_at_the_error() -> None:
    detail = make.failure(MAKEFILE, COMPILER).detail
    assert detail.splitlines()[0].startswith("/c/kernels/stock/src/mm/filemap.c:3300:9: error")
    assert "range_lock(mapping)" in detail


@given(
    st.lists(st.sampled_from(["  CC      a.o", "  AR [M]  b.a", "note", "make[1]: x", "  cc x"]))
)
def test_progress_counts_steps_only_and_never_passes_its_total(lines: list[str]) -> None:
    ear = Ear()
    progress = make.Progress("stock", ear, 3, 7)
    for line in lines:
        progress.line(line)
    steps = sum(line.startswith(("  CC", "  AR")) for line in lines)
    assert progress.steps == steps
    done = [event.done for event in ear.events]
    assert done == sorted(set(done), key=lambda value: value or 0)
    assert all(event.total is None or (event.done or 0) <= event.total for event in ear.events)


def test_progress_tells_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("harness.kernel.make.time.monotonic", lambda: clock[0])
    ear = Ear()
    progress = make.Progress("stock", ear, 20, 120)
    for _ in range(50):
        clock[0] += 1.0
        progress.line("  CC      mm/filemap.o")
    last = ear.events[-1]
    assert (last.done, last.total, last.eta_s) == (70, 120, 50.0)
    assert last.message == "CC mm/filemap.o"


@pytest.mark.parametrize("line", ["  AR      vmlinux.a", "  LD      vmlinux.o", "  LD  vmlinux"])
def test_the_first_line_of_the_link_is_told_once_and_at_once(line: str) -> None:
    ear = Ear()
    progress = make.Progress("stock", ear, 20, None)
    for text in ("  CC      mm/filemap.o", "  AR      mm/built-in.a", line, "  LD      vmlinux"):
        progress.line(text)
    assert [(event.message, event.data) for event in ear.events] == [
        ("CC mm/filemap.o", {}),  # and then nothing for half a second
        (" ".join(line.split()), {"links": True}),
    ]


def test_estimate_from_history_or_the_constant(tmp_path: Path) -> None:
    history = tmp_path / "steps.json"
    assert make.expected_steps(history, 100) == 300
    history.write_text("nonsense")
    assert make.expected_steps(history, 100) == 300
    make.remember_steps(history, 800, 200)
    assert make.expected_steps(history, 100) == 400
    assert json.loads(history.read_text()) == {"steps": 800, "options": 200}
    assert list(tmp_path.iterdir()) == [history]


def test_full_log_disk_ends_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Makefile").write_text("all:\n\t@echo one; sleep 600\n")
    makefile = make.Makefile("stock", tmp_path, tmp_path, tmp_path / "build.log")

    class Full(make.Progress):
        def line(self, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        make.run(makefile, ["all"], jobs=1, progress=Full("stock", Ear(), 0, None))
