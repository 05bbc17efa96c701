# SPDX-License-Identifier: GPL-2.0
"""New tables for harness.toml: appended as text, so that nothing else in it moves."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence

from harness.checks import NAME_LENGTH
from harness.config import Config, Kernel, load
from harness.errors import UsageError

KERNEL_NAME_LENGTH = 24  # as in harness.config: it is a part of `uname -r`
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def check_name(what: str, name: str, length: int = NAME_LENGTH) -> None:
    """UsageError for a name that could not be a table's, a directory's and a file's."""
    if not _NAME.fullmatch(name) or len(name) > length:
        raise UsageError(
            f"{what} name {name[:80]!r}: at most {length} letters, digits, '.', '_' and '-',"
            " a letter or digit first"
        )


def append(cfg: Config, text: str) -> Config:
    """Add `text`, whole tables, at the end of harness.toml; what load() makes of it then.

    The file is written only when it is right with them, and in one step: the UsageError
    of a file that would not be right leaves it as it was.
    """
    path = cfg.path.resolve()  # the file itself, where harness.toml is a link
    before = path.read_bytes().decode("utf-8")
    end = "\r\n" if "\r\n" in before else "\n"
    gap = "" if before.endswith("\n") or not before else "\n"
    after = before + (gap + "\n" + text.strip("\n") + "\n").replace("\n", end)
    # load() looks for patches/ and workloads/ beside the file, so it is tried there.
    trial = cfg.path.with_name(f".{cfg.path.name}.{os.getpid()}.new")
    try:
        with trial.open("w", encoding="utf-8", newline="") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        try:
            load(trial)
        except UsageError as error:
            error.message = error.message.replace(str(trial), str(cfg.path))
            error.message += " (with the new table; the file is left as it was)"
            error.hint = ""
            raise
        if path.read_bytes().decode("utf-8", "replace") != before:
            raise UsageError(f"{cfg.path}: somebody else changed it just now", hint="again")
        shutil.copymode(path, trial)
        if path.parent == trial.parent.resolve():
            trial.replace(path)
        else:  # a link to elsewhere: a rename would replace the link
            path.write_bytes(trial.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot write it: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)
    return load(cfg.path)


def key(name: str) -> str:
    """A name as it stands in a table's head."""
    return name if _BARE.fullmatch(name) else f'"{name}"'


def strings(values: Sequence[str]) -> str:
    """["a", "b"]: names that check_name() or harness.config has accepted."""
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


def default_line(cfg: Config) -> str:
    """The tree line that is meant when none is given: that of the first tree."""
    return next(iter(cfg.tree.values())).line


def like_stock(cfg: Config, series: str, line: str) -> Kernel:
    """A candidate like the stock kernel of a tree of `line`, with `series` on top.

    UsageError when harness.toml has no tree of that line.
    """
    trees = [name for name, tree in cfg.tree.items() if tree.line == line]
    if not trees:
        known = ", ".join(sorted({tree.line for tree in cfg.tree.values()}))
        raise UsageError(
            f"{cfg.path}: no [tree.*] has line {line!r} (there is: {known})",
            hint="docs/trees.md says how to add a tree",
        )
    kernels = [kernel for kernel in cfg.kernel.values() if kernel.tree in trees]
    stock = next((kernel for kernel in kernels if kernel.role == "stock"), None)
    if stock is not None:
        return Kernel(
            role="candidate",
            tree=stock.tree,
            series=[*(s for s in stock.series if s.partition(":")[0] != series), series],
            fragments=stock.fragments,
        )
    # No stock kernel to compare with: the bare tree, configured like the first kernel.
    fragments = (kernels or list(cfg.kernel.values()))[0].fragments
    return Kernel(role="candidate", tree=trees[0], series=[series], fragments=fragments)


def check_kernel(cfg: Config, name: str, series: str) -> bool:
    """Whether kernel `name` is there and has `series` already.

    UsageError when the name cannot be one, or belongs to a kernel without it.
    """
    check_name("kernel", name, KERNEL_NAME_LENGTH)
    kernel = cfg.kernel.get(name)
    if kernel is None:
        return False
    if series not in [entry.partition(":")[0] for entry in kernel.series]:
        raise UsageError(
            f"{cfg.path}: there is a kernel {name!r}, and it has no series {series!r}",
            hint=f"another name, or add {series!r} to kernel.{name}.series yourself",
        )
    return True


def kernel_text(name: str, kernel: Kernel, remark: str) -> str:
    """The table of a kernel, under a comment."""
    return (
        f"# {remark}\n"
        f"[kernel.{key(name)}]\n"
        f'role = "{kernel.role}"\n'
        f'tree = "{kernel.tree}"\n'
        f"series = {strings(kernel.series)}\n"
        f"fragments = {strings(kernel.fragments)}\n"
    )
