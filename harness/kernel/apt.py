# SPDX-License-Identifier: GPL-2.0
"""Download one Debian package as any user, verified by apt, system state untouched.

apt reads the sources and keys configured on the system and keeps lists and
packages in directories of ours, so neither root nor the system's lock is needed.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from harness.errors import HarnessError, InfraError, UsageError
from harness.events import Event, Listener
from harness.kernel import command, lock


def download(package: str, into: Path, state: Path, subject: str, listen: Listener) -> Path:
    """Fetch the candidate version of binary package `package` into `into`; the .deb.

    `state` keeps apt's lists between calls.  UsageError when apt knows no such
    package, InfraError when it cannot be fetched or verified.
    """
    with lock.held(state.with_suffix(".lock"), subject, listen):
        for directory in ("lists/partial", "state", "cache/archives/partial"):
            (state / directory).mkdir(parents=True, exist_ok=True)
        listen(Event("tree", subject, "reading apt's package lists"))
        # Not fatal: one dead source of many must not stop us if another has the package.
        update = _apt(state, into, "update")
        listen(Event("tree", subject, f"downloading {package}"))
        finished = _apt(state, into, "download", package)
    if finished.status != 0:
        raise _failed(state, package, subject, update, finished)
    found = sorted(into.glob("*.deb"))
    if len(found) != 1:
        raise InfraError(f"tree {subject}: apt-get download {package} left {len(found)} packages")
    return found[0]


def _options(state: Path) -> list[str]:
    return [
        "-q",
        *("-o", f"Dir::State={state / 'state'}"),
        *("-o", f"Dir::State::lists={state / 'lists'}"),
        *("-o", f"Dir::Cache={state / 'cache'}"),
        *("-o", "Acquire::Retries=2"),
        *("-o", "Acquire::Languages=none"),
    ]


def _apt(state: Path, into: Path, *words: str) -> command.Finished:
    return command.run(["apt-get", *_options(state), *words], cwd=into)


def _failed(
    state: Path,
    package: str,
    subject: str,
    update: command.Finished,
    download: command.Finished,
) -> HarnessError:
    lists_are_old = update.status != 0 or "Failed to fetch" in update.stderr
    reason = _reason(download)
    unknown = "Unable to locate" in reason or "Can't find a source" in reason
    if unknown and not lists_are_old:
        near = difflib.get_close_matches(package, _known(state, package), n=1)
        return UsageError(
            f"[tree.{subject}] package: apt knows no package {package!r}"
            + (f" (did you mean {near[0]!r}?)" if near else ""),
            hint="apt-cache search --names-only '^linux-source'",
        )
    verb, finished = ("update", update) if unknown else ("download", download)
    return InfraError(
        f"tree {subject}: apt-get {verb} failed: {_reason(finished)}",
        hint=command.quoted(["apt-get", *_options(state), "update"]),
        detail=update.stderr + download.stderr,
    )


def _reason(finished: command.Finished) -> str:
    """apt's first error, else its first warning, without the letter."""
    for letter in ("E: ", "W: "):
        for line in finished.stderr.splitlines():
            if line.startswith(letter):
                return line.removeprefix(letter)
    return finished.complaint


def _known(state: Path, name: str) -> list[str]:
    """Package names that begin like `name`, for a suggestion."""
    prefix = name.rsplit("-", 1)[0]
    return command.run(["apt-cache", *_options(state), "pkgnames", prefix]).stdout.split()
