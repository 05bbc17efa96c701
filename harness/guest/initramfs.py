# SPDX-License-Identifier: GPL-2.0
"""The guest's root file system: a cpio archive written by us, without root.

Three archives one after the other (the kernel unpacks all of them, in order:
Documentation/driver-api/early-userspace/buffer-format.rst): a base made of the
host's tools and vm/, the workloads, both cached by the hash of their content,
and the keys, made for each machine.  None is compressed: under emulation copying
is cheaper than decompressing, and the kernel has no RD_* option.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfraError
from harness.guest.firstprocess import program

# Host program -> Debian package that has it.
TOOLS = {
    "busybox": "busybox-static",
    "dropbear": "dropbear-bin",
    "mke2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "xfs_repair": "xfsprogs",
}
# Taken along when the host has them: for people, no program of ours needs them.
NICE_TO_HAVE = ("xfs_io", "debugfs")
LINKS = {"sbin/mkfs.ext4": "mke2fs", "sbin/fsck.ext4": "e2fsck", "sbin/mkfs.ext2": "mke2fs"}
DIRECTORIES = (
    *("bin", "dev/pts", "dev/shm", "etc/dropbear", "mnt", "proc", "root/.ssh", "run"),
    *("sbin", "sys", "tmp", "var/log", "var/run", "workloads"),
)
# sshd insists on directories that only root can write above authorized_keys.
PRIVATE = ("root", "root/.ssh", "etc/dropbear")
UNUSED_AFTER_S = 30 * 86400.0


@dataclass(frozen=True)
class Entry:
    """One file of an archive; `data` is a link's target for symbolic links."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def newc(entries: Mapping[str, Entry]) -> bytes:
    """A cpio archive in the "newc" format, parents before children.

    Owner root, time 0, one link each: equal entries give equal bytes.  Padded to
    512 bytes so that another archive may follow.
    """
    return b"".join(_pieces(entries))


def _pieces(entries: Mapping[str, Entry]) -> Iterator[bytes]:
    """newc() bit by bit: an archive is tens of megabytes."""
    everything = dict(entries)
    for name in entries:
        for parent in list(Path(name).parents)[:-1]:
            everything.setdefault(str(parent), directory(str(parent)))
    everything = {name: everything[name] for name in sorted(everything)}
    everything["TRAILER!!!"] = Entry("TRAILER!!!", 0)
    length = 0
    for number, entry in enumerate(everything.values(), start=1):
        path = entry.name.encode() + b"\0"
        inode = number if entry.mode else 0
        fields = (
            inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(path), 0,
        )  # fmt: skip
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + path
        for piece in (head + bytes(-len(head) % 4), entry.data, bytes(-len(entry.data) % 4)):
            length += len(piece)
            yield piece
    yield bytes(-length % 512)


def directory(name: str) -> Entry:
    """A directory only root may write."""
    return Entry(name, stat.S_IFDIR | 0o755)


def regular(name: str, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | mode, data)


def _link(name: str, target: str) -> Entry:
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def find_tool(name: str, package: str) -> Path:
    """Path of a host program; InfraError naming the Debian package when missing.

    The sbin directories are searched too: an ordinary user's PATH lacks them.
    """
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        raise InfraError(
            f"{name} is not on this host; the guest needs it",
            hint=f"sudo apt-get install {package}",
        )
    return Path(found)


def interpreter(binary: bytes) -> str | None:
    """The dynamic loader an ELF file names (PT_INTERP); None: static or no ELF."""
    if binary[:6] != b"\x7fELF\x02\x01" or len(binary) < 64:
        return None
    (offset,) = struct.unpack_from("<Q", binary, 0x20)
    size, count = struct.unpack_from("<HH", binary, 0x36)
    for number in range(count):
        at = offset + number * size
        if at + 56 > len(binary):
            return None
        (kind,) = struct.unpack_from("<I", binary, at)
        if kind == 3:  # PT_INTERP
            (start,) = struct.unpack_from("<Q", binary, at + 8)
            (length,) = struct.unpack_from("<Q", binary, at + 32)
            return binary[start : start + length].rstrip(b"\0").decode()
    return None


def _libraries(program: Path, loader: str) -> set[str]:
    """Shared libraries of a program, as the host's own loader resolves them."""
    listed = subprocess.run(
        [loader, "--list", str(program)], capture_output=True, text=True, check=False
    )
    if listed.returncode != 0 or "not found" in listed.stdout:
        raise InfraError(
            f"the libraries of {program} cannot be resolved",
            hint=f"ldd {program}",
            detail=listed.stdout + listed.stderr,
        )
    # "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)"
    right = (line.split("=>")[1].split() for line in listed.stdout.splitlines() if "=>" in line)
    return {words[0] for words in right if words and words[0].startswith("/")}


@functools.cache
def _host_tools(only: tuple[str, ...] = ()) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The host's tools with loader and libraries, and busybox's applet names; `only` some."""
    entries: list[Entry] = []
    packages = {name: TOOLS[name] for name in only or TOOLS}
    wanted = {name: find_tool(name, package) for name, package in packages.items()}
    for name in () if only else NICE_TO_HAVE:
        try:
            wanted[name] = find_tool(name, "")
        except InfraError:
            continue
    libraries: set[str] = set()
    for name, path in wanted.items():
        data = path.read_bytes()
        loader = interpreter(data)
        if name == "busybox":
            if loader is not None:
                raise InfraError(
                    f"{path} is not static; the guest's first process must be",
                    hint="sudo apt-get install busybox-static",
                )
            entries.append(regular("bin/busybox", data, 0o755))
            continue
        entries.append(regular(f"sbin/{name}", data, 0o755))
        if loader is not None:
            libraries |= {loader, *_libraries(path, loader)}
    for library in sorted(libraries):
        # At the very path the loader named, so that it is found there again.
        entries.append(regular(library.lstrip("/"), Path(library).read_bytes(), 0o755))
    applets = subprocess.run(
        [str(wanted["busybox"]), "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    return tuple(entries), tuple(applets)


def base_entries(root: Path, cache: Path) -> dict[str, Entry]:
    """Everything that is the same for every machine: tools, vm/init.c, vm/files."""
    entries = _plain_entries(())
    entries |= {name: Entry(name, stat.S_IFDIR | 0o700) for name in PRIVATE}
    entries |= {name: _link(name, target) for name, target in LINKS.items()}
    entries["init"] = regular("init", program(root / "vm/init.c", cache), 0o755)
    files = root / "vm/files"
    for path in sorted(files.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(files))
            entries[name] = regular(name, path.read_bytes(), path.stat().st_mode & 0o755)
    return entries


def _plain_entries(tools: tuple[str, ...]) -> dict[str, Entry]:
    """The directories, the first device nodes, and the tools of the host; all of them for ()."""
    entries = {name: directory(name) for name in DIRECTORIES}
    # For the moments before devtmpfs is mounted.
    entries["dev/console"] = Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    entries["dev/null"] = Entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3))
    found, applets = _host_tools(tools)
    entries |= {entry.name: entry for entry in found}
    for applet in applets:
        name = f"bin/{applet}"
        entries.setdefault(name, _link(name, "busybox"))
    return entries


_seen_whole: set[Path] = set()


def _cached(name: str, entries: Mapping[str, Entry], cache: Path) -> Path:
    """The archive of `entries`: in the cache already, or made and put there.

    Content hash as a name and rename into place: two runs at once write the
    same bytes, and a reader never sees half a file.
    """
    digest = hashlib.sha256(b"newc 1")
    for key, entry in sorted(entries.items()):
        digest.update(b"%s %o %d\0" % (key.encode(), entry.mode, len(entry.data)))
        digest.update(entry.data)
    path = cache / "initramfs" / f"{name}-{digest.hexdigest()[:16]}.cpio"
    # Once in a process: a bit that flipped on the disk is not the kernel's fault.
    if (path in _seen_whole and path.exists()) or _is(path, entries):
        with contextlib.suppress(OSError):
            os.utime(path)
        _seen_whole.add(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f"{name}-*.cpio"):
        with contextlib.suppress(OSError):
            if old.stat().st_mtime < time.time() - UNUSED_AFTER_S:
                old.unlink()
    _write(path, _pieces(entries), 0o644)
    return path


def _is(path: Path, entries: Mapping[str, Entry]) -> bool:
    """Whether the file is the archive of `entries`."""
    try:
        with path.open("rb") as file:
            same = all(file.read(len(piece)) == piece for piece in _pieces(entries))
            return same and not file.read(1)
    except OSError:
        return False


def join(out: Path, archives: Sequence[Path]) -> None:
    """One initramfs of several archives, for its owner only; a full disk is InfraError."""

    def content() -> Iterator[bytes]:
        for archive in archives:
            with archive.open("rb") as file:
                while piece := file.read(1 << 20):
                    yield piece

    _write(out, content(), 0o600)


def _write(path: Path, pieces: Iterable[bytes], mode: int) -> None:
    """Write a file so that it is there whole or not at all; a full disk is InfraError."""
    # Threads of one process may make the same one.
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.touch(mode)
        with part.open("wb") as file:
            file.writelines(pieces)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InfraError(
            f"cannot write {path}: {error.strerror}", hint=f"df -h {path.parent}"
        ) from error


_known: dict[object, Path] = {}
_one = threading.Lock()


def _workloads(programs: Mapping[str, Path], cache: Path) -> Path:
    """The archive of the workloads: read, and looked at, once in a process for all machines."""
    state: object = None
    with _one:
        try:
            stats = [(key, path, path.stat()) for key, path in sorted(programs.items())]
            state = cache, tuple((k, p, stat.st_mtime_ns, stat.st_size) for k, p, stat in stats)
            if state in _known and _known[state].exists():
                return _known[state]
        except OSError:
            pass  # _programs() says which
        _known[state] = _cached("workloads", _programs(programs), cache)
        return _known[state]


def _programs(programs: Mapping[str, Path]) -> dict[str, Entry]:
    """The workloads, at /workloads/<key>."""
    entries: dict[str, Entry] = {}
    for key, path in programs.items():
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InfraError(
                f"workload {key}: cannot read {path}: {error.strerror}", hint="make -C workloads"
            ) from error
        if interpreter(data) is not None:
            raise InfraError(
                f"workload {key} is not linked statically; the guest has no libraries for it",
                hint=f"file {path}",
            )
        entries[f"workloads/{key}"] = regular(f"workloads/{key}", data, 0o755)
    return entries


def _keys(authorized_key: str, host_key: bytes) -> dict[str, Entry]:
    """Who may come in, and how the guest proves to be itself."""
    files = {
        "root/.ssh/authorized_keys": authorized_key.strip().encode() + b"\n",
        "etc/dropbear/host_key": host_key,
    }
    entries = {name: regular(name, data, 0o600) for name, data in files.items()}
    # The directories come again with this archive, so their modes are said again.
    return entries | {name: Entry(name, stat.S_IFDIR | 0o700) for name in PRIVATE}


def common(programs: Mapping[str, Path], cache: Path, root: Path) -> list[Path]:
    """The archives, in the cache, that every machine's initramfs begins with, in order.

    Arguments and errors are those of build().
    """
    return [base(cache, root), _workloads(programs, cache)]


def base(cache: Path, root: Path) -> Path:
    """The archive, in the cache, of what is the same for every machine.  Errors: see build()."""
    return _cached("base", base_entries(root, cache), cache)


def bare(programs: Mapping[str, Path], tools: tuple[str, ...], cache: Path) -> list[Path]:
    """Archives, in the cache, of a guest that nobody comes into: some tools, some programs.

    It has no /init yet, and nothing of vm/ is in it: such a guest is to stay the same for as
    long as can be.  Errors are those of build().
    """
    entries = _plain_entries(tools)
    entries |= {name: _link(name, to) for name, to in LINKS.items() if to in tools}
    return [_cached("bare", entries, cache), _workloads(programs, cache)]


def write_keys(keys: Path, authorized_key: str, host_key: Path) -> None:
    """Write to `keys` the archive that ends one machine's initramfs."""
    _write(keys, _pieces(_keys(authorized_key, host_key.read_bytes())), 0o600)


def build(
    out: Path,
    programs: Mapping[str, Path],
    authorized_key: str,
    host_key: Path,
    cache: Path,
    root: Path,
) -> Path:
    """Write the initramfs of one machine to `out` and return it.

    programs: key ("races/punch-read-fault") -> static binary, put at
    /workloads/<key>.  authorized_key: one line of OpenSSH's format, the only way
    into the guest.  host_key: private host key in dropbear's format.  root: the
    directory that has vm/.  InfraError: a host tool is missing, a workload is
    not static, the disk is full.
    """
    keys = out.with_name("keys.cpio")
    write_keys(keys, authorized_key, host_key)
    join(out, [*common(programs, cache, root), keys])
    return out
