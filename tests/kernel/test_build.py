# SPDX-License-Identifier: GPL-2.0
"""ensure(), on the kernel in miniature: a real make, cp for a compiler."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from harness import config
from harness.errors import BuildError, HarnessError, InfraError, UsageError
from harness.events import Event
from harness.kernel import build
from tests.fakes import kernel as fake

ONE = fake.patch("mm: one", {"mm/filemap.c": ("int filemap_5;", "int filemap_five;")})


def _compiled(log: Path) -> list[str]:
    lines = log.read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith("  CC ")]


def _no_make(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """From now on, whoever starts make fails."""
    directory.mkdir()
    shim = directory / "make"
    shim.write_text("#!/bin/sh\necho started >> $0.calls; exit 1\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _spoil(root: Path, word: str, file: str = "mm/filemap.c") -> None:
    path = root / "linux" / file
    path.write_text(f"{path.read_text()}int {word};\n")


def test_builds_once_then_starts_no_make(
    root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.write_series(root, "one", {"0001-one.patch": ONE})
    cfg = fake.experiment(root, series=["one"])
    first = build.ensure("stock", cfg, cache)
    assert first.built
    assert first.role == "stock"
    assert first.series == ["one"]
    assert first.release == f"6.12.9-stock-{first.id}"
    assert first.release in first.bzimage.read_text()
    assert "int filemap_five;" in first.vmlinux.read_text()
    assert "CONFIG_SMP=y" in first.dotconfig.read_text()
    assert len(_compiled(first.log)) == 4
    assert first.compiler.startswith("gcc")
    _no_make(monkeypatch, tmp_path / "shim")
    second = build.ensure("stock", cfg, cache)
    assert not second.built
    assert (second.id, second.release, second.bzimage) == (first.id, first.release, first.bzimage)
    assert not (tmp_path / "shim" / "make.calls").exists()


def test_one_line_of_one_patch_recompiles_one_file(root: Path, cache: Path) -> None:
    directory = fake.write_series(root, "one", {"0001-one.patch": ONE})
    cfg = fake.experiment(root, series=["one"])
    first = build.ensure("stock", cfg, cache)
    (directory / "0001-one.patch").write_text(ONE.replace("filemap_five", "filemap_v"))
    second = build.ensure("stock", cfg, cache)
    assert second.built
    assert second.id != first.id
    assert _compiled(second.log) == ["mm/filemap.o"]
    assert "int filemap_v;" in second.vmlinux.read_text()
    assert "olddefconfig" not in second.log.read_text()
    # And back: that image is still there.
    (directory / "0001-one.patch").write_text(ONE)
    third = build.ensure("stock", cfg, cache)
    assert not third.built
    assert _sha(third.bzimage) == _sha(first.bzimage)


def test_removed_patch_takes_its_new_file_along(root: Path, cache: Path) -> None:
    new = fake.patch("mm: new", {"mm/range_lock.c": ("", "int range_lock;\n")})
    fake.write_series(root, "new", {"0001-new.patch": new})
    build.ensure("stock", fake.experiment(root, series=["new"]), cache)
    source = cache / "kernels" / "stock" / "src"
    assert (source / "mm/range_lock.c").exists()
    (source / "stray.c").write_text("")
    build.ensure("stock", fake.experiment(root), cache)
    assert not (source / "mm/range_lock.c").exists()
    assert not (source / "stray.c").exists()


def test_same_inputs_give_the_same_image_in_another_cache(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = fake.experiment(root)
    first = build.ensure("stock", cfg, tmp_path / "a")
    # What a user's shell may hold must not get in.
    for key in ("KBUILD_BUILD_USER", "LOCALVERSION", "MAKEFLAGS", "KCFLAGS", "KCONFIG_CONFIG"):
        monkeypatch.setenv(key, "x")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    second = build.ensure("stock", cfg, tmp_path / "b")
    assert second.built
    assert _sha(second.bzimage) == _sha(first.bzimage)
    assert second.id == first.id


@pytest.mark.parametrize("part", ["fragment", "patch", "tree", "toolchain", "recipe", "order"])
def test_the_id_changes_with_everything_that_makes_the_image(
    part: str, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = fake.write_series(root, "one", {"0001-one.patch": ONE})
    fake.write_fragment(root, "extra", "# Why.\nCONFIG_ACPI=y\n")
    names = ["base", "extra"]
    cfg = fake.experiment(root, series=["one"], fragments=names)

    def identity(cfg: config.Config) -> str:
        return build.resolve("stock", cfg, cache, lambda _: None).identity

    before = identity(cfg)
    assert identity(cfg) == before
    if part == "fragment":
        fake.write_fragment(root, "extra", "# Because.\nCONFIG_ACPI=y\n")
    elif part == "patch":
        (directory / "0001-one.patch").write_text(ONE.replace("Why.", "Because."))
    elif part == "tree":
        _spoil(root, "more")
    elif part == "toolchain":
        monkeypatch.setattr(build, "_toolchain", lambda: ("gcc 99", "gcc 99 ld 99"))
    elif part == "recipe":
        monkeypatch.setattr(build, "RECIPE", "other")
    else:
        cfg = fake.experiment(root, series=["one"], fragments=names[::-1])
    assert identity(cfg) != before


def test_equal_config_keeps_its_time(root: Path, cache: Path) -> None:
    cfg = fake.experiment(root)
    build.ensure("stock", cfg, cache)
    dotconfig = cache / "kernels" / "stock" / "o" / ".config"
    before = dotconfig.stat().st_mtime_ns
    fake.write_fragment(root, "base", "# Two CPUs, said otherwise.\nCONFIG_SMP=y\n")
    second = build.ensure("stock", cfg, cache)
    assert second.built
    assert dotconfig.stat().st_mtime_ns == before
    assert _compiled(second.log) == []
    fake.write_fragment(root, "base", "# Two CPUs.\nCONFIG_SMP=y\n# Why.\nCONFIG_ACPI=y\n")
    assert len(_compiled(build.ensure("stock", cfg, cache).log)) == 4


def test_a_tinyconfig_that_only_knows_dot_config(root: Path, cache: Path) -> None:
    """As until 5.12: the second step reads and writes O=/.config, and what was is lost."""
    linux = root / "linux"
    (linux / "scripts/kconfig").mkdir(parents=True)
    step = "$(srctree)/scripts/kconfig/merge_config.sh -m .config $(configfiles)\n"
    (linux / "scripts/kconfig/Makefile").write_text(f"%.config:\n\t{step}")
    makefile = linux / "Makefile"
    makefile.write_text(makefile.read_text().replace(
        "	@echo 'CONFIG_TINY=y' > $(KCONFIG_CONFIG)\n",
        "	@echo 'CONFIG_TINY=y' > $(O)/.config\n	@: > $(KCONFIG_CONFIG).lost\n"
        "	@[ $(KCONFIG_CONFIG) = $(O)/.config ] || : > $(KCONFIG_CONFIG)\n"))  # fmt: skip
    image = build.ensure("stock", fake.experiment(root), cache)
    assert "CONFIG_TINY=y" in image.dotconfig.read_text()
    # O=/.config was not touched by that: an equal one must not be seen as newer.
    before = (cache / "kernels/stock/o/.config").stat().st_mtime_ns
    _spoil(root, "more")
    assert build.ensure("stock", fake.experiment(root), cache).built
    assert (cache / "kernels/stock/o/.config").stat().st_mtime_ns == before


def test_refused_option_stops_the_build_and_is_named(root: Path, cache: Path) -> None:
    path = fake.write_fragment(root, "base", "# Why.\nCONFIG_SMP=y\n# Why.\nCONFIG_NEEDS_MORE=y\n")
    with pytest.raises(BuildError) as caught:
        build.ensure("stock", fake.experiment(root), cache)
    assert f"{path}:4: CONFIG_NEEDS_MORE=y" in caught.value.message
    assert not (cache / "kernels/stock/o/vmlinux").exists()
    fake.write_fragment(root, "base", "# Why.\nCONFIG_MORE=y\n# Why.\nCONFIG_NEEDS_MORE=y\n")
    assert build.ensure("stock", fake.experiment(root), cache).built


@pytest.mark.parametrize(
    ("word", "file", "kind", "told"),
    [
        ("SYNTAX_ERROR", "mm/filemap.c", BuildError, "mm/filemap.c:12: expected ';'"),
        ("UNDEFINED", "fs/inode.c", BuildError, "undefined reference to `range_lock'"),
        ("NO_REASON", "fs/namei.c", BuildError, "*** ["),
        ("NEEDS_TOOL", "fs/namei.c", InfraError, "flexible is not installed"),
        ("DISK_FULL", "mm/truncate.c", InfraError, "no space left"),
    ],
)
def test_failed_build_says_what_where_and_then_goes_on(
    word: str, file: str, kind: type[HarnessError], told: str, root: Path, cache: Path
) -> None:
    good = (root / "linux" / file).read_text()
    _spoil(root, word, file)
    cfg = fake.experiment(root)
    with pytest.raises(kind) as caught:
        build.ensure("stock", cfg, cache, jobs=1)
    error = caught.value
    assert told in error.message
    assert "\n" not in error.message
    assert error.hint
    log = cache / "kernels" / "stock" / "build.log"
    if kind is BuildError:
        assert str(log) in error.message
        assert word in error.detail or told in error.detail
    if word == "DISK_FULL":
        assert str(cache) in error.message
        assert "HARNESS_CACHE" in error.hint
    assert "bzImage" in log.read_text()
    (root / "linux" / file).write_text(good)
    image = build.ensure("stock", cfg, cache)
    assert image.built
    # What was compiled before the failure is not compiled again.
    assert ("mm/filemap.o" in _compiled(image.log)) == (file == "mm/filemap.c")


class _InterruptWhenCompiling(fake.Ear):
    """Ctrl-C as soon as the compiler that never ends runs; keeps its process id."""

    def __init__(self, objects: Path) -> None:
        super().__init__()
        self.objects = objects
        self.pid = 0

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        # Events are spaced; the one of the last step may be the one before.
        if event.kind == "build" and event.done is not None:
            self.pid = _wait_for_pid(self.objects)
            raise KeyboardInterrupt


def _wait_for_pid(objects: Path) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for path in objects.glob("*/*.pid"):
            with contextlib.suppress(ValueError):
                return int(path.read_text())
        time.sleep(0.01)
    raise AssertionError("the compiler was not started")


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still there")


def test_ctrl_c_ends_make_and_a_later_build_goes_on(root: Path, cache: Path) -> None:
    good = (root / "linux/mm/filemap.c").read_text()
    _spoil(root, "NEVER_ENDS")
    cfg = fake.experiment(root)
    objects = cache / "kernels" / "stock" / "o"
    ear = _InterruptWhenCompiling(objects)
    with pytest.raises(KeyboardInterrupt):
        build.ensure("stock", cfg, cache, ear, jobs=4)
    _wait_until_gone(ear.pid)
    # make took its half-written target back.
    assert not (objects / "mm/filemap.o").exists()
    (root / "linux/mm/filemap.c").write_text(good)
    image = build.ensure("stock", cfg, cache)
    assert "filemap_1" in image.vmlinux.read_text()


def test_nothing_survives_our_own_sigkill(root: Path, cache: Path) -> None:
    _spoil(root, "NEVER_ENDS")
    program = (
        "import sys; from pathlib import Path; from harness.kernel import build\n"
        "from tests.fakes import kernel as fake\n"
        "build.ensure('stock', fake.experiment(Path(sys.argv[1])), Path(sys.argv[2]))\n"
    )
    argv = [sys.executable, "-c", program, str(root), str(cache)]
    with subprocess.Popen(argv, cwd=Path(__file__).parents[2]) as harness:
        pid = _wait_for_pid(cache / "kernels" / "stock" / "o")
        harness.send_signal(signal.SIGKILL)
    _wait_until_gone(pid)


def test_object_half_written_at_a_sigkill_is_not_trusted(root: Path, cache: Path) -> None:
    cfg = fake.experiment(root)
    build.ensure("stock", cfg, cache)
    home = cache / "kernels" / "stock"
    # The state a SIGKILL leaves: the mark, and an object newer than its record.
    (home / "building").touch()
    half = home / "o/fs/inode.o"
    half.write_text("half")
    record = half.with_name(".inode.o.cmd")
    os.utime(record, ns=(half.stat().st_mtime_ns - 10**9,) * 2)
    _spoil(root, "more", "mm/filemap.c")
    image = build.ensure("stock", cfg, cache)
    assert sorted(_compiled(image.log)) == ["fs/inode.o", "mm/filemap.o"]
    assert "half" not in image.vmlinux.read_text()
    assert not (home / "building").exists()


@pytest.mark.parametrize("damage", ["truncate", "no stamp", "bad stamp", "no vmlinux"])
def test_damaged_image_is_made_again(damage: str, root: Path, cache: Path) -> None:
    cfg = fake.experiment(root)
    first = build.ensure("stock", cfg, cache)
    expected = _sha(first.bzimage)
    stamp = first.bzimage.with_name("image.json")
    assert json.loads(stamp.read_text())["sha256"] == expected
    if damage == "truncate":
        first.bzimage.write_bytes(first.bzimage.read_bytes()[:10])
    elif damage == "no stamp":
        stamp.unlink()
    elif damage == "bad stamp":
        stamp.write_text("{}")
    else:
        first.vmlinux.unlink()
    second = build.ensure("stock", cfg, cache)
    assert second.built
    assert _sha(second.bzimage) == expected


def test_second_run_says_that_it_waits_and_does_not_build_again(root: Path, cache: Path) -> None:
    cfg = fake.experiment(root)
    waits = threading.Event()
    (cache / "kernels").mkdir()
    held = filelock.FileLock(cache / "kernels" / "stock.lock")
    held.acquire()
    images = []

    def listen(event: Event) -> None:
        if event.kind == "note" and "waiting" in event.message:
            waits.set()

    def ensure() -> None:
        images.append(build.ensure("stock", cfg, cache, listen))

    thread = threading.Thread(target=ensure)
    thread.start()
    assert waits.wait(30)
    held.release()
    thread.join(60)
    assert [image.built for image in images] == [True]


def test_two_runs_at_once_build_once(root: Path, cache: Path) -> None:
    cfg = fake.experiment(root)
    images = []
    threads = [
        threading.Thread(target=lambda: images.append(build.ensure("stock", cfg, cache)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(image.built for image in images) == [False, False, True]
    assert len({_sha(image.bzimage) for image in images}) == 1


def test_progress_counts_up_to_a_total(root: Path, cache: Path) -> None:
    (cache / "kernels").mkdir()
    (cache / "kernels" / "steps.json").write_text('{"steps": 300, "options": 10}')
    ear = fake.Ear()
    build.ensure("stock", fake.experiment(root), cache, ear)
    counted = [event for event in ear.events if event.kind == "build" and event.done]
    # CONFIG_SMP and CONFIG_TINY are =y: 30 steps for each.
    assert counted[0].total == 60
    assert json.loads((cache / "kernels" / "steps.json").read_text()) == {"steps": 6, "options": 2}
    assert "is up to date" not in ear.said("build")
    build.ensure("stock", fake.experiment(root), cache, ear)
    assert "is up to date" in ear.said("build")


def test_another_tree_begins_with_an_empty_build_directory(root: Path, cache: Path) -> None:
    build.ensure("stock", fake.experiment(root), cache)
    (cache / "kernels/stock/o/stale").touch()
    cfg = fake.experiment(root)
    other = config.Config(
        **{
            **{key: getattr(cfg, key) for key in cfg.__struct_fields__},
            "tree": {**cfg.tree, "other": config.Tree(kind="dir", line="6.13", path="other")},
            "kernel": {"stock": config.Kernel(role="stock", tree="other", fragments=["base"])},
        }
    )
    makefile = fake.linux(root / "other") / "Makefile"
    makefile.write_text(makefile.read_text().replace("PATCHLEVEL = 12", "PATCHLEVEL = 13"))
    image = build.ensure("stock", other, cache)
    assert image.release == f"6.13.9-stock-{image.id}"
    assert not (cache / "kernels/stock/o/stale").exists()


def test_release_without_the_id_is_refused(root: Path, cache: Path) -> None:
    path = root / "linux" / "Makefile"
    path.write_text(path.read_text().replace("$(localversion)$(LOCALVERSION)", ""))
    with pytest.raises(BuildError, match=r"its release is '6\.12\.9', not '6\.12\.9-stock-"):
        build.ensure("stock", fake.experiment(root), cache)


def test_names_that_cannot_be_a_release_are_refused(root: Path, cache: Path) -> None:
    long = "a" * 44  # 6.12.9 - name - 12 digits: 64 in all are 44
    assert len(build.ensure(long, fake.experiment(root, name=long), cache).release) == 64
    longer = long + "a"
    with pytest.raises(UsageError, match=r"the name may have 44, it has 45"):
        build.ensure(longer, fake.experiment(root, name=longer), cache)
    with pytest.raises(UsageError, match="uname -r"):
        build.ensure("a b", fake.experiment(root, name="a b"), cache)
    with pytest.raises(UsageError, match=r"no kernel 'stok' \(did you mean 'stock'\?\)"):
        build.ensure("stok", fake.experiment(root), cache)


def test_missing_patch_shows_before_the_tree_is_fetched(root: Path, cache: Path) -> None:
    tree = config.Tree(kind="dir", line="6.12", path="not-there")
    with pytest.raises(UsageError, match="no series 'gone'"):
        build.ensure("stock", fake.experiment(root, series=["gone"], tree=tree), cache)


def test_cache_path_the_kernel_refuses(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="space or colon") as caught:
        build.ensure("stock", fake.experiment(root), tmp_path / "my cache")
    assert "HARNESS_CACHE" in caught.value.hint


def test_missing_program_is_named(
    root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfraError, match="gcc is not installed"):
        build.ensure("stock", fake.experiment(root), cache)


@pytest.mark.parametrize("left", ["lock", "edit", "no index", "no .git"])
def test_worktree_left_in_disorder_is_put_right(left: str, root: Path, cache: Path) -> None:
    cfg = fake.experiment(root)
    build.ensure("stock", cfg, cache)
    source = cache / "kernels/stock/src"
    private = Path(fake.git(source, "rev-parse", "--absolute-git-dir"))
    (source / "fs/inode.c").write_text("int edited_by_hand;\n")
    if left == "lock":
        (private / "index.lock").touch()
    elif left == "no index":
        (private / "index").unlink()
    elif left == "no .git":
        (source / ".git").unlink()
    _spoil(root, "more")
    image = build.ensure("stock", cfg, cache)
    text = image.vmlinux.read_text()
    assert "int more;" in text
    assert "edited_by_hand" not in text
    assert "int inode_1;" in text


@pytest.mark.parametrize("case", ["a patch of Kconfig", "a key of the first days", "no key"])
def test_kconfig_is_asked_when_it_may_say_something_else(
    case: str, root: Path, cache: Path
) -> None:
    fake.write_series(root, "one", {"0001-one.patch": ONE})
    cfg = fake.experiment(root, series=["one"])
    build.ensure("stock", cfg, cache)
    key = cache / "kernels/stock/config.key"
    another = ONE.replace("filemap_five", "filemap_v")
    if case == "a patch of Kconfig":
        changed = {"Kconfig": ("config MORE\n", "config MORE\nconfig EXTRA\n")}
        another = fake.patch("lib: option", changed)
    elif case == "no key":
        key.unlink()
    else:
        key.write_text("0123456789ab")
    fake.write_series(root, "one", {"0001-one.patch": another})
    image = build.ensure("stock", cfg, cache)
    assert "olddefconfig" in image.log.read_text()
