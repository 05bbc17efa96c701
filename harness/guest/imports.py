# SPDX-License-Identifier: GPL-2.0
"""What takes long to import, and is not needed to start QEMU."""

from __future__ import annotations

import sys


def load() -> None:
    """Imports what talks to a guest: a quarter of a second, while make or QEMU is at work."""
    # For `Match exec` of an ssh_config, which nobody here reads, paramiko imports invoke, and
    # that a parser of YAML: a quarter of the time.  It can do without (paramiko/config.py).
    absent = "invoke" not in sys.modules
    if absent:
        sys.modules["invoke"] = None  # type: ignore[assignment]
    try:
        import paramiko  # noqa: F401
    finally:
        if absent:
            del sys.modules["invoke"]
    import harness.guest.qmp  # noqa: F401
