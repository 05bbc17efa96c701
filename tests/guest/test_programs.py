# SPDX-License-Identifier: GPL-2.0
"""Workloads compiled by their Makefile: keys, no needless work, errors."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

import pytest

from harness.errors import BuildError, InfraError
from harness.guest.process import Process
from harness.guest.programs import compile_workloads, digest
from tests.guest.conftest import ROOT

MAIN = "int main(void) { return 0; }\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Two workloads and the project's own Makefile."""
    workloads = tmp_path / "checkout" / "workloads"
    for name in ("preflight.c", "races/one.c", "lib/help.c"):
        path = workloads / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(MAIN if "lib" not in name else "int help;\n")
    (workloads / "Makefile").write_text((ROOT / "workloads/Makefile").read_text())
    return tmp_path / "checkout"


def test_keys_and_no_needless_work(checkout: Path, tmp_path: Path) -> None:
    made = compile_workloads(checkout, tmp_path / "cache")
    assert set(made) == {"preflight", "races/one"}
    before = made["races/one"].stat()
    assert compile_workloads(checkout, tmp_path / "cache") == made
    assert made["races/one"].stat() == before, "it was linked again"
    other = tmp_path / "other"
    checkout.rename(other)
    # Compiled anew, to the same bytes: they say nothing of the directory.
    assert compile_workloads(other, tmp_path / "cache") == made


def test_a_set_of_programs_stays_what_it_was(checkout: Path, tmp_path: Path) -> None:
    """A run under way boots machines with them, whatever is compiled in the meantime."""
    made = compile_workloads(checkout, tmp_path / "cache")
    before = made["races/one"].read_bytes()
    (checkout / "workloads/races/one.c").write_text("int main(void) { return 1; }\n")
    again = compile_workloads(checkout, tmp_path / "cache")
    assert made["races/one"].read_bytes() == before != again["races/one"].read_bytes()
    assert digest(made) != digest(again)
    assert not list((tmp_path / "cache").rglob(".half-*"))


def test_a_program_that_rotted_in_the_cache_is_not_used(checkout: Path, tmp_path: Path) -> None:
    made = compile_workloads(checkout, tmp_path / "cache")
    whole = made["races/one"].read_bytes()
    made["races/one"].write_bytes(whole[:-1] + b"?")
    assert compile_workloads(checkout, tmp_path / "cache") == made
    assert made["races/one"].read_bytes() == whole


def test_sets_that_nobody_uses_any_more_go(checkout: Path, tmp_path: Path) -> None:
    made = compile_workloads(checkout, tmp_path / "cache")
    old = made["preflight"].parent
    os.utime(old, (1, 1))
    assert compile_workloads(checkout, tmp_path / "cache") == made
    (checkout / "workloads/races/one.c").write_text("int main(void) { return 1; }\n")
    compile_workloads(checkout, tmp_path / "cache")
    assert old.is_dir(), "it was used a moment ago"
    os.utime(old, (1, 1))
    (checkout / "workloads/races/one.c").write_text("int main(void) { return 2; }\n")
    compile_workloads(checkout, tmp_path / "cache")
    assert not old.exists()


def test_the_first_compiler_error_is_named(checkout: Path, tmp_path: Path) -> None:
    (checkout / "workloads/races/one.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(BuildError, match=r"races/one\.c:1:\d+: error: .*nothing") as caught:
        compile_workloads(checkout, tmp_path / "cache")
    assert caught.value.hint.startswith("make --no-print-directory -C")


def test_a_full_disk_is_not_the_compilers_fault(checkout: Path, tmp_path: Path) -> None:
    (checkout / "workloads/Makefile").write_text(
        "all:\n\t@echo 'ld: final link failed: No space left on device'; false\n"
    )
    with pytest.raises(InfraError, match="no space left on the disk") as caught:
        compile_workloads(checkout, tmp_path / "cache")
    assert "HARNESS_CACHE" in caught.value.hint


def test_an_interrupted_compiler_leaves_nothing_half_written(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "workloads/Makefile").write_text(
        "all: $(OUT)/half\n$(OUT)/half:\n"
        "\techo half > $@; sleep 600 & echo $$! > $(OUT)/pid; mv $(OUT)/pid $(OUT)/begun; wait\n"
    )

    def interrupted(_self: Process, _timeout_s: float | None) -> int:
        while not list((tmp_path / "cache").rglob("begun")):
            assert _self.poll() is None
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Process, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compile_workloads(checkout, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("half"))
    (begun,) = (tmp_path / "cache").rglob("begun")
    with contextlib.suppress(ProcessLookupError):
        grandchild = os.pidfd_open(int(begun.read_text()))
        # Readable at its end: SIGKILL was sent, and takes its moment.
        assert select.select([grandchild], [], [], 10)[0], "the compiler outlived make"
        os.close(grandchild)


def test_a_dynamic_program_is_refused(checkout: Path, tmp_path: Path) -> None:
    makefile = checkout / "workloads/Makefile"
    makefile.write_text(makefile.read_text().replace("LDFLAGS += -static", "LDFLAGS +="))
    with pytest.raises(BuildError, match="not linked statically"):
        compile_workloads(checkout, tmp_path / "cache")


def test_no_makefile(tmp_path: Path) -> None:
    (tmp_path / "workloads").mkdir()
    with pytest.raises(BuildError, match="workloads: make"):
        compile_workloads(tmp_path, tmp_path / "cache")


def test_make_is_asked_when_something_changed(checkout: Path, tmp_path: Path) -> None:
    """And only then: to find that nothing did takes it longer than a look at all files."""
    cache = tmp_path / "cache"
    made = compile_workloads(checkout, cache)
    (log,) = cache.rglob("make.log")
    log.unlink()
    assert compile_workloads(checkout, cache) == made
    assert not log.exists(), "make was asked"
    header = checkout / "workloads/lib/help.h"
    header.write_text("")  # a file more
    assert compile_workloads(checkout, cache) == made
    assert log.exists()
    log.unlink()
    (next(iter(cache.rglob("obj/preflight.o")))).unlink()  # what make had made
    assert compile_workloads(checkout, cache) == made
    assert log.exists()
    log.unlink()
    (next(iter(cache.rglob("known.json")))).write_text("[")
    assert compile_workloads(checkout, cache) == made
    assert log.exists()


def test_a_source_that_changes_while_make_runs_is_compiled_again(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cache = checkout / "workloads/races/one.c", tmp_path / "cache"
    wait = Process.wait

    def meanwhile(self: Process, timeout_s: float | None) -> int:
        status = wait(self, timeout_s)
        source.write_text("int main(void) { return 7; }\n")
        return status

    with monkeypatch.context() as patch:
        patch.setattr(Process, "wait", meanwhile)
        before = compile_workloads(checkout, cache)
    assert compile_workloads(checkout, cache) != before


def test_what_an_editor_leaves_is_no_trouble(checkout: Path, tmp_path: Path) -> None:
    made = compile_workloads(checkout, tmp_path / "cache")
    (checkout / "workloads/races/.#one.c").symlink_to("somebody@somewhere.1:2")
    assert compile_workloads(checkout, tmp_path / "cache") == made


def test_sources_that_are_elsewhere_are_seen_to_change(checkout: Path, tmp_path: Path) -> None:
    cache, shared = tmp_path / "cache", tmp_path / "shared"
    (checkout / "workloads/races").rename(shared)
    (checkout / "workloads/races").symlink_to(shared)
    made = compile_workloads(checkout, cache)
    (shared / "one.c").write_text('#include "../../answer.h"\nint main(void) { return N; }\n')
    (checkout / "workloads/../answer.h").write_text("#define N 1\n")
    (tmp_path / "answer.h").write_text("#define N 1\n")
    other = compile_workloads(checkout, cache)
    assert other != made
    for header in (checkout / "answer.h", tmp_path / "answer.h"):
        header.write_text("#define N 2\n")
    assert compile_workloads(checkout, cache) not in (made, other)
