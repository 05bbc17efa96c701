# SPDX-License-Identifier: GPL-2.0
"""An archive of kernel source becomes a commit, streamed: nothing is unpacked on disk.

tar's members go straight into `git fast-import`, which writes one pack; a
worktree is checked out from a pack quicker than from 85,000 loose objects, and
an interrupted import leaves a temporary pack that no ref names.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from harness.errors import InfraError
from harness.events import Event, Listener
from harness.kernel import command, git

_REF = "refs/harness/import"
_MAGIC = {
    b"\xfd7zXZ": ["xz", "-dc"],
    b"\x1f\x8b": ["gzip", "-dc"],
    b"BZh": ["bzip2", "-dc"],
    b"\x28\xb5\x2f\xfd": ["zstd", "-dc"],
}
_TOLD_EVERY_S = 0.5


def reading(archive: Path) -> list[list[str]]:
    """The command that turns a tarball into plain tar, told by its first bytes."""
    with archive.open("rb") as file:
        head = file.read(8)
    unpack = next((argv for magic, argv in _MAGIC.items() if head.startswith(magic)), ["cat"])
    return [[*unpack, "--", str(archive)]]


def reading_package(package: Path) -> list[list[str]]:
    """The commands that turn a linux-source .deb into the plain tar inside it."""
    return [
        ["dpkg-deb", "--fsys-tarfile", str(package)],
        ["tar", "-xO", "-f", "-", "--wildcards", "./usr/src/linux-source-*.tar.xz"],
        ["xz", "-dc"],
    ]


def commit(repo: Path, pipeline: Sequence[Sequence[str]], subject: str, listen: Listener) -> str:
    """Import what `pipeline` prints (a tar) into the bare `repo`; the commit's id.

    The id depends on the content only.  A single directory at the top, as in
    linux-6.12/, is taken off.  Raises InfraError for a damaged archive,
    OSError(ENOSPC) when the disk is full.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            with _piped(pipeline, errors) as tar:
                _fast_import(repo, tar, subject, listen)
        except (tarfile.TarError, EOFError, BrokenPipeError, _PipelineError) as error:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            command.check_space(said)
            reason = said.splitlines()[-1] if said else str(error)
            raise InfraError(
                f"tree {subject}: cannot read the archive: {reason}",
                hint=" | ".join(map(command.quoted, pipeline)) + " | tar -t >/dev/null",
            ) from error
    entries = git.out(repo, "ls-tree", _REF).splitlines()
    single = len(entries) == 1 and " tree " in entries[0]
    tree = entries[0].split()[2] if single else git.out(repo, "rev-parse", f"{_REF}^{{tree}}")
    result = commit_tree(repo, tree)
    git.out(repo, "update-ref", "-d", _REF)
    return result


def commit_tree(repo: Path, tree: str) -> str:
    """The commit of git tree `tree` with no parent, whose id depends on `tree` only."""
    return git.out(repo, "commit-tree", tree, "-m", "kernel source, imported by the harness")


class _PipelineError(Exception):
    """One program of a pipeline failed; its stderr says why."""


@contextlib.contextmanager
def _piped(pipeline: Sequence[Sequence[str]], errors: IO[bytes]) -> Iterator[IO[bytes]]:
    """Output of the last program of a pipeline; every program must succeed."""
    with contextlib.ExitStack() as stack:
        processes: list[subprocess.Popen[bytes]] = []
        feed: int | IO[bytes] | None = subprocess.DEVNULL
        for argv in pipeline:
            process = stack.enter_context(command.started(argv, stdin=feed, stderr=errors))
            if processes and processes[-1].stdout is not None:
                processes[-1].stdout.close()  # its reader has it now; SIGPIPE must work
            processes.append(process)
            feed = process.stdout
        tar = processes[-1].stdout
        assert tar is not None
        yield tar
        while tar.read(1 << 20):  # padding after the end of the archive
            pass
        for argv, process in zip(pipeline, processes, strict=True):
            if process.wait() != 0:
                raise _PipelineError(f"{argv[0]} ended with status {process.returncode}")


def _fast_import(repo: Path, tar: IO[bytes], subject: str, listen: Listener) -> None:
    # Level 1 and no deltas: the pack is read a few times and deleted; time counts.
    options = ("--quiet", "--depth=0", "--force")
    argv = git.argv(repo, "-c", "core.compression=1", "fast-import", *options)
    with (
        tempfile.TemporaryFile() as errors,
        command.started(
            argv,
            env=git.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        ) as process,
    ):
        assert process.stdin is not None
        try:
            _write_commit(process.stdin, tar, subject, listen)
            process.stdin.close()
        except BrokenPipeError:
            pass  # fast-import is gone; its status and words say why
        if process.wait() != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace")
            command.check_space(said)
            reason = next((line for line in said.splitlines() if line.startswith("fatal")), said)
            raise InfraError(f"tree {subject}: git fast-import failed: {reason}", detail=said)


def _write_commit(to: IO[bytes], tar: IO[bytes], subject: str, listen: Listener) -> None:
    to.write(b"commit %s\ncommitter harness <> 0 +0000\ndata 0\n" % _REF.encode())
    told = time.monotonic()
    count = 0
    # PathLike surrogates keep names that are not UTF-8.
    with tarfile.open(fileobj=tar, mode="r|", errors="surrogateescape") as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps them all
            path = _quoted_path(member.name)
            if member.isreg():
                file = archive.extractfile(member)
                assert file is not None
                mode = b"100755" if member.mode & 0o100 else b"100644"
                _write_blob(to, mode, path, member.size, file)
            elif member.issym():
                target = member.linkname.encode(errors="surrogateescape")
                _write_blob(to, b"120000", path, len(target), io.BytesIO(target))
            elif member.islnk():
                to.write(b"C %s %s\n" % (_quoted_path(member.linkname), path))
            else:
                continue
            count += 1
            if time.monotonic() - told > _TOLD_EVERY_S:
                told = time.monotonic()
                listen(Event("tree", subject, "importing", done=count))
    to.write(b"\n")
    listen(Event("tree", subject, f"imported {count} files", done=count, total=count))


def _write_blob(to: IO[bytes], mode: bytes, path: bytes, size: int, content: IO[bytes]) -> None:
    to.write(b"M %s inline %s\ndata %d\n" % (mode, path, size))
    shutil.copyfileobj(content, to, 1 << 20)
    to.write(b"\n")


def _quoted_path(name: str) -> bytes:
    raw = name.encode(errors="surrogateescape")
    while raw.startswith(b"./"):
        raw = raw[2:]
    escaped = raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + escaped + b'"'
