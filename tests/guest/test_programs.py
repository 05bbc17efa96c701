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
