# SPDX-License-Identifier: GPL-2.0
from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
import types
from pathlib import Path

import filelock
import msgspec
import pytest

from harness import config
from harness.errors import InfraError, UsageError
from harness.events import Event
from harness.kernel import apt, archive, command, git, tree
from tests.fakes import kernel as fake


def _dir(path: str = "linux") -> config.Tree:
    return config.Tree(kind="dir", line="6.12", path=path)


def _tarball(root: Path, name: str, *members: str, directory: Path | None = None) -> config.Tree:
    argv = ["tar", "-C", str(directory or root), "-caf", str(root / name), *(members or ("linux",))]
    subprocess.run(argv, check=True)
    return config.Tree(kind="tarball", line="6.12", path=name)


def _files(source: tree.Source) -> str:
    return fake.git(source.repo, "ls-tree", "-r", "--full-tree", source.commit)


# --- dir ---------------------------------------------------------------------


def test_directory_becomes_one_commit_of_its_content(root: Path, cache: Path) -> None:
    source = tree.materialise("fake", _dir(), root, cache)
    assert (source.name, source.line, source.version) == ("fake", "6.12", "6.12.9")
    assert fake.git(source.repo, "rev-parse", "--is-bare-repository") == "true"
    assert fake.git(source.repo, "rev-list", "--count", source.commit) == "1"
    shown = fake.git(source.repo, "show", f"{source.commit}:mm/filemap.c")
    assert shown == (fake.LINUX / "mm/filemap.c").read_text().strip()


def test_commit_depends_on_content_only(root: Path, cache: Path, tmp_path: Path) -> None:
    first = tree.materialise("fake", _dir(), root, cache)
    fake.linux(root / "copy")
    os.utime(root / "copy" / "mm" / "filemap.c", (1, 1))
    second = tree.materialise("other", _dir("copy"), root, tmp_path / "elsewhere")
    third = tree.materialise("tar", _tarball(root, "linux.tar.xz"), root, cache)
    assert first.commit == second.commit == third.commit


def test_directory_is_looked_at_every_time(root: Path, cache: Path) -> None:
    first = tree.materialise("fake", _dir(), root, cache)
    assert tree.materialise("fake", _dir(), root, cache) == first
    (root / "linux/mm/filemap.c").write_text("int changed;\n")
    (root / "linux/fs/namei.c").unlink()
    second = tree.materialise("fake", _dir(), root, cache)
    assert second.commit != first.commit
    assert "namei" not in _files(second)
    assert fake.git(second.repo, "show", f"{second.commit}:mm/filemap.c") == "int changed;"


def test_directory_that_is_a_checkout_keeps_what_it_ignores_out(root: Path, cache: Path) -> None:
    linux = root / "linux"
    (linux / ".gitignore").write_text("*.o\n")
    (linux / "built.o").write_text("x")
    fake.git(linux, "init", "-q")
    names = _files(tree.materialise("fake", _dir(), root, cache))
    assert ".gitignore" in names
    assert "built.o" not in names
    assert "\t.git/" not in names


def test_directory_is_not_written_to(root: Path, cache: Path) -> None:
    before = sorted(root.rglob("*"))
    tree.materialise("fake", _dir(), root, cache)
    assert sorted(root.rglob("*")) == before


# --- tarball -----------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_tarballs_of_every_kind(suffix: str, root: Path, cache: Path) -> None:
    linux = root / "linux"
    (linux / "scripts/run").write_text("#!/bin/sh\n")
    (linux / "scripts/run").chmod(0o755)
    (linux / "link").symlink_to("mm/filemap.c")
    os.link(linux / "mm/filemap.c", linux / "hard.c")
    odd = 'odd "name" \\ with spaces é\n.c'
    (linux / odd).write_text("odd")
    (linux / "empty").write_text("")
    definition = _tarball(root, f"linux.{suffix}")
    source = tree.materialise("tar", definition, root, cache)
    # The same commit git itself makes of the unpacked directory.
    assert source.commit == tree.materialise("dir", _dir(), root, cache).commit
    assert "120000" in _files(source)
    assert "100755" in _files(source)
    shutil.rmtree(linux)  # nothing of it is needed any more
    assert fake.git(source.repo, "show", f"{source.commit}:hard.c").startswith("// SPDX")


def test_tarball_without_a_top_directory(root: Path, cache: Path) -> None:
    names = [path.name for path in (root / "linux").iterdir()]
    definition = _tarball(root, "flat.tar", *names, directory=root / "linux")
    source = tree.materialise("tar", definition, root, cache)
    assert source.commit == tree.materialise("dir", _dir(), root, cache).commit


def test_tarball_is_read_again_only_when_it_changed(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = _tarball(root, "linux.tar")
    first = tree.materialise("tar", definition, root, cache)
    (root / "linux/mm/filemap.c").write_text("int changed_since;\n")
    real = archive.commit
    monkeypatch.setattr(archive, "commit", None)
    assert tree.materialise("tar", definition, root, cache) == first
    monkeypatch.setattr(archive, "commit", real)
    _tarball(root, "linux.tar")
    second = tree.materialise("tar", definition, root, cache)
    assert second.commit != first.commit
    assert second.repo == first.repo  # worktrees of kernels stay where they are


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_damaged_tarball_is_refused_and_not_trusted_later(
    damage: str, root: Path, cache: Path
) -> None:
    noise = root / "linux" / "noise.bin"
    noise.write_bytes(os.urandom(100_000))
    definition = _tarball(root, "linux.tar.xz")
    path = root / "linux.tar.xz"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"x" * 999, "empty": b""}[damage])
    with pytest.raises((InfraError, UsageError)) as caught:
        tree.materialise("tar", definition, root, cache)
    assert "tar" in caught.value.message
    assert caught.value.hint
    assert [entry.name for entry in (cache / "trees").iterdir()] == ["tar.lock"]
    path.write_bytes(whole)
    assert "noise.bin" in _files(tree.materialise("tar", definition, root, cache))


# --- git ---------------------------------------------------------------------


@pytest.fixture
def upstream(root: Path) -> Path:
    """A git repository with the fake kernel: branch main, tag v6.12.9 on its first commit."""
    linux = root / "linux"
    fake.git(linux, "init", "-q", "-b", "main")
    fake.git(linux, "add", "-A")
    fake.git(linux, "commit", "-qm", "first")
    fake.git(linux, "tag", "-am", "v6.12.9", "v6.12.9")
    (linux / "mm/filemap.c").write_text("int second;\n")
    fake.git(linux, "commit", "-qam", "second")
    return linux


# What only the repository itself can resolve works for a local one.
@pytest.mark.parametrize(
    ("ref", "remote"),
    [
        *((ref, False) for ref in ("main", "v6.12.9", "HEAD~", "full", "short")),
        *((ref, True) for ref in ("main", "v6.12.9", "full")),
    ],
)
def test_git_refs(ref: str, remote: bool, root: Path, cache: Path, upstream: Path) -> None:
    head = fake.git(upstream, "rev-parse", "HEAD")
    name = {"full": head, "short": head[:10]}.get(ref, ref)
    url = f"file://{upstream}" if remote else "linux"
    definition = config.Tree(kind="git", line="6.12", url=url, ref=name)
    source = tree.materialise("g", definition, root, cache)
    assert source.commit == fake.git(upstream, "rev-parse", f"{name}^{{commit}}")
    assert source.version == "6.12.9"
    # One commit, not its history.
    assert fake.git(source.repo, "rev-list", "--count", source.commit) == "1"


@pytest.mark.parametrize("remote", [False, True])
def test_git_branch_that_moved_is_followed(
    remote: bool, root: Path, cache: Path, upstream: Path
) -> None:
    url = f"file://{upstream}" if remote else str(upstream)
    definition = config.Tree(kind="git", line="6.12", url=url, ref="main")
    first = tree.materialise("g", definition, root, cache)
    (upstream / "mm/filemap.c").write_text("int third;\n")
    fake.git(upstream, "commit", "-qam", "third")
    second = tree.materialise("g", definition, root, cache)
    assert second.commit == fake.git(upstream, "rev-parse", "main") != first.commit


def test_a_remote_branch_of_a_clone_is_fetched_when_asked(
    root: Path, cache: Path, upstream: Path
) -> None:
    clone = root / "clone"
    fake.git(root, "clone", "-q", str(upstream), str(clone))
    before = fake.git(upstream, "rev-parse", "main")
    (upstream / "mm/filemap.c").write_text("int third;\n")
    fake.git(upstream, "commit", "-qam", "third")
    now = fake.git(upstream, "rev-parse", "main")
    definition = config.Tree(kind="git", line="6.12", url="clone", ref="origin/main")
    assert tree.materialise("g", definition, root, cache).commit == before
    assert tree.materialise("g", definition, root, cache, refresh=True).commit == now
    assert fake.git(clone, "rev-parse", "origin/main") == before, "the clone is somebody's"
    upstream.rename(root / "away")
    ear = fake.Ear()
    away = tree.materialise("g", definition, root, cache, ear, refresh=True)
    assert away.commit == before and "does not answer" in ear.said("note")


def test_a_server_knows_origin_by_its_own_name(root: Path, cache: Path, upstream: Path) -> None:
    url = f"file://{upstream}"
    definition = config.Tree(kind="git", line="6.12", url=url, ref="origin/main")
    source = tree.materialise("g", definition, root, cache)
    assert source.commit == fake.git(upstream, "rev-parse", "main")


def test_git_server_that_is_away_is_a_note_when_we_have_the_commit(
    root: Path, cache: Path, upstream: Path
) -> None:
    definition = config.Tree(kind="git", line="6.12", url=f"file://{upstream}", ref="main")
    first = tree.materialise("g", definition, root, cache)
    upstream.rename(root / "away")
    ear = fake.Ear()
    assert tree.materialise("g", definition, root, cache, ear) == first
    assert "does not answer" in ear.said("note")
    other = config.Tree(kind="git", line="6.12", url=f"file://{upstream}", ref="next")
    with pytest.raises(InfraError, match=r"tree g: .* does not answer"):
        tree.materialise("g", other, root, cache)


@pytest.mark.parametrize("remote", [False, True])
def test_git_ref_that_does_not_exist(remote: bool, root: Path, cache: Path, upstream: Path) -> None:
    url = f"file://{upstream}" if remote else "linux"
    definition = config.Tree(kind="git", line="6.12", url=url, ref="v9.9")
    with pytest.raises(UsageError, match=r"\[tree\.g\] ref: .* no commit 'v9\.9'") as caught:
        tree.materialise("g", definition, root, cache)
    assert "ls-remote" in caught.value.hint


# --- debian ------------------------------------------------------------------

APT = """\
#!/bin/sh
# apt-get in miniature: `update` makes lists, `download` copies the package.
echo "$@" >> "{calls}"
while [ $# -gt 0 ]; do
	case $1 in
	-o) case $2 in
		Dir::State::lists=*) lists=${{2#*=}};;
		Dir::Etc::sourcelist=*) cp "${{2#*=}}" "{sources}";;
		esac; shift;;
	indextargets)
		echo "http://mirror/debian/ bookworm main"
		echo "http://mirror/debian/ bookworm contrib"
		echo "http://mirror/debian/ bookworm-updates main"
		echo "http://mirror/security/ bookworm-security main"
		echo "http://else/ stable main"; exit;;
	update) [ -d "$lists/partial" ] || exit 100; touch "$lists/Packages"; {update}; exit 0;;
	download)
		[ -e "$lists/Packages" ] || exit 100
		{download}
		[ "$2" != --print-uris ] || {{
			echo "'http://mirror/x.deb' {newest} 1 SHA256:0"; exit 0; }}
		[ "$2" = linux-source-6.12 ] || {{ echo "E: Unable to locate package $2" >&2; exit 100; }}
		cp "{deb}" .; exit;;
	pkgnames) echo linux-source-6.12; exit;;
	esac
	shift
done
"""


DEB = "linux-source-6.12_6.12.9-1_all.deb"


@pytest.fixture
def debian(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A linux-source package and an apt that serves it; the file of apt's calls."""
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: linux-source-6.12\nVersion: 6.12.9-1\nArchitecture: all\n"
        "Maintainer: Nobody <n@example.org>\nDescription: fake\n"
    )
    (package / "usr/src").mkdir(parents=True)
    shutil.copytree(root / "linux", package / "linux-source-6.12")
    inner = str(package / "usr/src/linux-source-6.12.tar.xz")
    subprocess.run(["tar", "-C", str(package), "-caf", inner, "linux-source-6.12"], check=True)
    shutil.rmtree(package / "linux-source-6.12")
    deb = tmp_path / "linux-source-6.12_6.12.9-1_all.deb"
    subprocess.run(["dpkg-deb", "-b", str(package), str(deb)], check=True, capture_output=True)
    _apt(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "calls"


def _apt(
    tmp_path: Path, update: str = "true", download: str = "true", newest: str = DEB
) -> None:
    (tmp_path / "bin").mkdir(exist_ok=True)
    text = APT.format(
        calls=tmp_path / "calls",
        deb=tmp_path / DEB,
        sources=tmp_path / "sources",
        newest=newest,
        update=update,
        download=download,
    )
    for name in ("apt-get", "apt-cache"):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)


def _package(name: str = "linux-source-6.12") -> config.Tree:
    return config.Tree(kind="debian", line="6.12", package=name)


def test_debian_package_is_downloaded_once(root: Path, cache: Path, debian: Path) -> None:
    source = tree.materialise("deb", _package(), root, cache)
    assert source.version == "6.12.9"
    assert source.commit == tree.materialise("dir", _dir(), root, cache).commit
    calls = debian.read_text()
    # apt's state is ours, and the package is not kept.
    assert f"Dir::State={cache}/apt" in calls
    assert f"Dir::Cache={cache}/apt" in calls
    assert list(cache.rglob("*.deb")) == []
    assert tree.materialise("deb", _package(), root, cache) == source
    assert debian.read_text() == calls


def test_another_suite_is_where_the_system_s_own_is(
    root: Path, cache: Path, tmp_path: Path, debian: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "_codename", lambda: "bookworm")
    monkeypatch.setattr(apt, "_KEYRING", tmp_path / "none")
    definition = msgspec.structs.replace(_package(), suite="bullseye")
    assert tree.materialise("old", definition, root, cache).version == "6.12.9"
    assert (tmp_path / "sources").read_text() == (
        "deb http://mirror/debian/ bullseye main\n"
        "deb http://mirror/debian/ bullseye-updates main\n"
        "deb http://mirror/security/ bullseye-security main\n"
    )
    # Its lists are its own: apt removes those of sources that it does not see.
    assert f"Dir::State={cache}/apt-bullseye" in debian.read_text()
    assert "Dir::Etc::sourceparts=-" in debian.read_text()
    rolling = msgspec.structs.replace(_package(), suite="sid")
    tree.materialise("new", rolling, root, cache)
    assert (tmp_path / "sources").read_text() == "deb http://mirror/debian/ sid main\n"
    monkeypatch.setattr(apt, "_codename", lambda: "noble")
    with pytest.raises(InfraError, match=r"no sources of this system's release \(noble\)"):
        tree.materialise("other", definition, root, cache)


def test_a_newer_package_is_fetched_when_a_night_asks(
    root: Path, cache: Path, tmp_path: Path, debian: Path
) -> None:
    first = tree.materialise("deb", _package(), root, cache)
    downloads = debian.read_text().count(" download linux")
    assert tree.materialise("deb", _package(), root, cache, refresh=True) == first
    assert debian.read_text().count(" download linux") == downloads, "it is the newest"
    _apt(tmp_path, newest="linux-source-6.12_6.12.10-1_all.deb")
    tree.materialise("deb", _package(), root, cache, refresh=True)
    assert debian.read_text().count(" download linux") == downloads + 1
    # No answer: what is there will do.
    _apt(tmp_path, download='[ "$2" != --print-uris ] || exit 100')
    ear = fake.Ear()
    assert tree.materialise("deb", _package(), root, cache, ear, refresh=True) == first
    assert "the mirror does not answer" in ear.said("note")


def test_debian_package_that_apt_does_not_know(root: Path, cache: Path, debian: Path) -> None:
    with pytest.raises(UsageError) as caught:
        tree.materialise("deb", _package("linux-source-6.21"), root, cache)
    assert "[tree.deb] package: apt knows no package 'linux-source-6.21'" in caught.value.message
    assert "did you mean 'linux-source-6.12'?" in caught.value.message


def test_debian_network_that_is_down_is_not_a_wrong_name(
    root: Path, cache: Path, tmp_path: Path, debian: Path
) -> None:
    words = 'echo "W: Failed to fetch http://x/InRelease  Could not resolve" >&2'
    _apt(tmp_path, words, 'echo "E: Unable to locate package $2" >&2; exit 100')
    with pytest.raises(InfraError, match="apt-get update failed: Failed to fetch") as caught:
        tree.materialise("deb", _package(), root, cache)
    assert caught.value.hint.startswith("apt-get ")
    _apt(tmp_path)
    assert tree.materialise("deb", _package(), root, cache).version == "6.12.9"


# --- interruptions, disk, two at once ------------------------------------------


class _Stop(BaseException):
    """As a Ctrl-C."""


def test_interrupted_import_leaves_nothing_that_is_trusted(
    root: Path, cache: Path, debian: Path
) -> None:
    def interrupt(event: Event) -> None:
        if event.message.startswith("imported"):
            raise _Stop

    with pytest.raises(_Stop):
        tree.materialise("deb", _package(), root, cache, interrupt)
    assert [entry.name for entry in (cache / "trees").iterdir()] == ["deb.lock"]
    assert tree.materialise("deb", _package(), root, cache).version == "6.12.9"
    assert sum("download" in call for call in debian.read_text().splitlines()) == 2


def test_what_a_sigkill_left_is_made_again(root: Path, cache: Path, debian: Path) -> None:
    # A finished repository without its stamp, and a new one half-way.
    source = tree.materialise("deb", _package(), root, cache)
    (source.repo / "harness.json").unlink()
    (source.repo / "HEAD").unlink()
    (cache / "trees/deb.new/harness-download").mkdir(parents=True)
    (cache / "trees/deb.new/harness-download/half.deb").write_text("half")
    assert tree.materialise("deb", _package(), root, cache) == source
    assert git.resolve(source.repo, source.commit) == source.commit
    assert not (cache / "trees/deb.new").exists()


def test_changed_definition_is_made_again(root: Path, cache: Path) -> None:
    first = tree.materialise("t", _dir(), root, cache)
    fake.linux(root / "other")
    (root / "other/mm/filemap.c").write_text("int other;\n")
    second = tree.materialise("t", _tarball(root, "other.tar", "other"), root, cache)
    assert second.commit != first.commit


def test_full_disk_is_one_line_with_the_directory_and_the_variable(
    root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, debian: Path
) -> None:
    def check(kind: config.Tree) -> None:
        with pytest.raises(InfraError) as caught:
            tree.materialise("t", kind, root, cache)
        assert str(cache) in caught.value.message
        assert "no space left" in caught.value.message
        assert "HARNESS_CACHE" in caught.value.hint

    _apt(tmp_path, download='echo "E: write error - write (28: No space left on device)"; exit 1')
    check(_package())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tree, "_write_stamp", full)
    check(_dir())
    assert not (cache / "trees/t.git").exists()


@pytest.mark.parametrize("words", ["No space left on device", "Out of diskspace"])
def test_fast_import_on_a_full_disk(words: str, root: Path, cache: Path, tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    real = shutil.which("git")
    (bin_ / "git").write_text(
        '#!/bin/sh\ncase " $* " in *" fast-import "*)\n'
        f'echo "fatal: sha1 file write error. {words}" >&2; exit 128;; esac\n'
        f'exec {real} "$@"\n'
    )
    (bin_ / "git").chmod(0o755)
    definition = _tarball(root, "linux.tar")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
        with pytest.raises(InfraError, match="no space left"):
            tree.materialise("t", definition, root, cache)
    assert tree.materialise("t", definition, root, cache).version == "6.12.9"


def test_second_run_waits_for_the_first_and_says_so(root: Path, cache: Path, debian: Path) -> None:
    (cache / "trees").mkdir()
    lock = filelock.FileLock(cache / "trees" / "deb.lock")
    lock.acquire()
    waits = threading.Event()
    sources: list[tree.Source] = []

    def listen(event: Event) -> None:
        if event.kind == "note" and "waiting for another run" in event.message:
            waits.set()

    thread = threading.Thread(
        target=lambda: sources.append(tree.materialise("deb", _package(), root, cache, listen))
    )
    thread.start()
    assert waits.wait(30)
    assert sources == []
    lock.release()
    thread.join(60)
    assert sources[0].version == "6.12.9"


def test_missing_paths_come_with_the_nearest(root: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match=r"\[tree\.t\] path: no directory .*'linux'"):
        tree.materialise("t", _dir("linu"), root, cache)
    (root / "linux-6.12.tar").write_text("")
    with pytest.raises(UsageError, match=r"\[tree\.t\] path: no file .*'linux-6\.12\.tar'"):
        definition = config.Tree(kind="tarball", line="6.12", path="linux-6.11.tar")
        tree.materialise("t", definition, root, cache)


def test_what_is_no_kernel_is_refused(root: Path, cache: Path) -> None:
    (root / "other").mkdir()
    (root / "other" / "file").write_text("x")
    with pytest.raises(UsageError, match="this is no kernel source"):
        tree.materialise("t", _dir("other"), root, cache)
    assert not (cache / "trees" / "t.git").exists()


def test_a_git_that_does_not_say_that_the_disk_is_full(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_where: Path, *words: str | Path, **_options: object) -> command.Finished:
        return command.Finished(128, "", "fatal: could not set 'core.filemode' to 'true'\n")

    monkeypatch.setattr(git, "attempt", failing)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _where: types.SimpleNamespace(total=1, used=1, free=0)
    )
    cfg = fake.experiment(root)
    with pytest.raises(InfraError, match="no space left on the disk"):
        tree.materialise("fake", cfg.tree["fake"], root, cache)
