# SPDX-License-Identifier: GPL-2.0
"""Where the harness keeps what it makes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from harness.errors import BootError, InfraError, MachineLostError

CACHE_VARIABLE = "HARNESS_CACHE"
_NAME = "mapping-range-lock-harness"

COORDINATES = Path("workloads") / "coordinates"  # of a checkout: stored exposures

NEWEST_RUN = "the newest"  # of those that ended early; no directory has such a name


def cache_dir() -> Path:
    """The absolute directory of sources, worktrees, objects and images; made if need be.

    HARNESS_CACHE, else the user's cache directory.  Raises InfraError when it
    cannot be made or written.
    """
    asked = os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir(_NAME)
    path = Path(asked).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfraError(
            f"cannot make the cache directory {path}: {error.strerror}",
            hint=f"{CACHE_VARIABLE}=/some/roomy/directory harness ...",
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InfraError(
            f"cannot write to the cache directory {path}",
            hint=f"{CACHE_VARIABLE}=/some/roomy/directory harness ...",
        )
    return path


@contextmanager
def boot_directory(cache: Path, kernel: str) -> Iterator[Path]:
    """A scratch directory; kept, and named, when the kernel let us down."""
    directory = Path(tempfile.mkdtemp(prefix=f"boot-{kernel}-", dir=cache))
    try:
        yield directory
    except (BootError, MachineLostError) as error:
        error.detail = f"{error.detail}\neverything about this boot: {directory}".lstrip("\n")
        raise
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)
