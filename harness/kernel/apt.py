# SPDX-License-Identifier: GPL-2.0
"""Download one Debian package as any user, verified by apt, system state untouched.

apt reads the sources and keys configured on the system and keeps lists and
packages in directories of ours, so neither root nor the system's lock is needed.
For another suite than the system's (an older or newer distribution) the same
mirrors are asked: a list of sources of ours differs from the system's in the suite only.
"""

from __future__ import annotations

import difflib
import platform
from pathlib import Path

from harness.errors import HarnessError, InfraError, UsageError
from harness.events import Event, Listener
from harness.kernel import command, lock

# Suites that have neither -updates nor -security.
_ROLLING = ("sid", "unstable", "experimental")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")  # of every release there is


def download(
    package: str, into: Path, state: Path, subject: str, listen: Listener, suite: str = ""
) -> Path:
    """Fetch the candidate version of binary package `package` into `into`; the .deb.

    `state` keeps apt's lists between calls; `suite`: another one than the system's.
    UsageError when apt knows no such package, InfraError when it cannot be fetched
    or verified.
    """
    state = _of_suite(state, suite)
    with lock.held(state.with_suffix(".lock"), subject, listen):
        options, update = _update(state, into, subject, listen, suite)
        listen(Event("tree", subject, f"downloading {package}"))
        finished = _apt(options, into, "download", package)
    if finished.status != 0:
        raise _failed(options, package, subject, update, finished)
    found = sorted(into.glob("*.deb"))
    if len(found) != 1:
        raise InfraError(f"tree {subject}: apt-get download {package} left {len(found)} packages")
    return found[0]


def newest(package: str, state: Path, subject: str, listen: Listener, suite: str = "") -> str:
    """File name of the .deb that download() would fetch now; "" when the mirror does not say."""
    state = _of_suite(state, suite)
    with lock.held(state.with_suffix(".lock"), subject, listen):
        options, _ = _update(state, state.parent, subject, listen, suite)
        said = _apt(options, state, "download", "--print-uris", package)
    # 'URI' NAME SIZE HASH
    words = said.stdout.split()
    return words[1] if said.status == 0 and len(words) > 1 else ""


def _of_suite(state: Path, suite: str) -> Path:
    return state.with_name(f"{state.name}-{suite}") if suite else state


def _update(
    state: Path, where: Path, subject: str, listen: Listener, suite: str
) -> tuple[list[str], command.Finished]:
    for directory in ("lists/partial", "state", "cache/archives/partial"):
        (state / directory).mkdir(parents=True, exist_ok=True)
    options = _options(state)
    if suite:
        sources = state / "sources.list"
        sources.write_text(_sources(suite, subject))
        options += ["-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"]
    listen(Event("tree", subject, "reading apt's package lists"))
    # Not fatal: one dead source of many must not stop us if another has the package.
    return options, _apt(options, where, "update")


def _sources(suite: str, subject: str) -> str:
    """The system's own sources of its distribution, for another suite of it."""
    ours = _codename()
    keyring = f"[signed-by={_KEYRING}] " if _KEYRING.is_file() else ""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    said = command.run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    found: dict[str, None] = {}
    for line in said.stdout.splitlines():
        uri, release, component = line.split(" ", 2)
        suffix = release.removeprefix(ours) if ours and release.startswith(ours) else None
        if suffix is None or (suffix and suite in _ROLLING) or component != "main":
            continue
        found[f"deb {keyring}{uri} {suite}{suffix} main\n"] = None
    if not found:
        raise InfraError(
            f"tree {subject}: apt has no sources of this system's release ({ours or 'unknown'}),"
            f" from which to learn where {suite} is",
            hint="apt-get update, or apt-get indextargets",
        )
    return "".join(found)


def _codename() -> str:
    """The release that the system is of, "bookworm"."""
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:  # no os-release
        return ""


def _options(state: Path) -> list[str]:
    return [
        "-q",
        *("-o", f"Dir::State={state / 'state'}"),
        *("-o", f"Dir::State::lists={state / 'lists'}"),
        *("-o", f"Dir::Cache={state / 'cache'}"),
        *("-o", "Acquire::Retries=2"),
        *("-o", "Acquire::Languages=none"),
    ]


def _apt(options: list[str], where: Path, *words: str) -> command.Finished:
    return command.run(["apt-get", *options, *words], cwd=where)


def _failed(
    options: list[str],
    package: str,
    subject: str,
    update: command.Finished,
    download: command.Finished,
) -> HarnessError:
    lists_are_old = update.status != 0 or "Failed to fetch" in update.stderr
    reason = _reason(download)
    unknown = "Unable to locate" in reason or "Can't find a source" in reason
    if unknown and not lists_are_old:
        near = difflib.get_close_matches(package, _known(options, package), n=1)
        return UsageError(
            f"[tree.{subject}] package: apt knows no package {package!r}"
            + (f" (did you mean {near[0]!r}?)" if near else ""),
            hint="apt-cache search --names-only '^linux-source'",
        )
    verb, finished = ("update", update) if unknown else ("download", download)
    return InfraError(
        f"tree {subject}: apt-get {verb} failed: {_reason(finished)}",
        hint=command.quoted(["apt-get", *options, "update"]),
        detail=update.stderr + download.stderr,
    )


def _reason(finished: command.Finished) -> str:
    """apt's first error, else its first warning, without the letter."""
    for letter in ("E: ", "W: "):
        for line in finished.stderr.splitlines():
            if line.startswith(letter):
                return line.removeprefix(letter)
    return finished.complaint


def _known(options: list[str], name: str) -> list[str]:
    """Package names that begin like `name`, for a suggestion."""
    prefix = name.rsplit("-", 1)[0]
    return command.run(["apt-cache", *options, "pkgnames", prefix]).stdout.split()
