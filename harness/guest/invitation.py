# SPDX-License-Identifier: GPL-2.0
"""A way into a running guest for a person: a file that says how, and the key for it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from harness.guest.ssh import KeyPair

SCRIPT = "ssh"  # runs the client; `harness ssh` looks for it
NAMES = (SCRIPT, "ssh_key", "ssh_known_hosts")


def write(directory: Path, port: int, user: KeyPair, host: KeyPair) -> list[str]:
    """Write the key, the guest's name and the script into `directory`; the client's argv.

    All three are their owner's only, and are to be removed with the machine.
    """
    key, known = directory / "ssh_key", directory / "ssh_known_hosts"
    argv = [
        "ssh", "-F", "none", "-i", str(key), "-p", str(port),
        "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR",
        "-o", f"UserKnownHostsFile={known}", "root@127.0.0.1",
    ]  # fmt: skip
    _private(key, user.pem())
    _private(known, f"[127.0.0.1]:{port} {host.authorized_key}\n")
    _private(directory / SCRIPT, f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n')
    return argv


def _private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
