# SPDX-License-Identifier: GPL-2.0
"""Mails with patches, read as `git am` reads them, put in their order, written again.

git does the reading (`git mailsplit`, `git mailinfo`), so that encodings, attachments and
in-body headers mean what they will mean when the patch is applied.  Whatever comes out
is data: it is written into one file per patch whose name is made here.
"""

from __future__ import annotations

import gzip
import io
import re
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from email.charset import QP, Charset
from email.header import Header
from email.utils import formataddr
from pathlib import Path, PurePosixPath

from harness.errors import UsageError
from harness.kernel import command, git
from harness.plain import printable

_UTF8 = Charset("utf-8")
_UTF8.header_encoding = QP  # as git has it: what is ASCII can still be read
_LARGEST = 64 << 20  # bytes of one source; the largest series on the lists have a few MiB
_SUBJECT_LENGTH = 52  # of a file's name, as in git format-patch
_ZERO = "0" * 40
_GZIP = b"\x1f\x8b"
# "[PATCH v3 07/25]", "[RFC PATCH mm-unstable 1/2]"; patchwork writes "[v3,07/25]".
_TAG = re.compile(r"\s*\[(?P<tag>[^\]]*(?:PATCH|\d+/\d+)[^\]]*)\]", re.IGNORECASE)
_REPLY = re.compile(r"\s*(?:re|aw|fwd?)\s*:", re.IGNORECASE)
_CRUD = re.compile(r"^(?:\s|:|re:)+", re.IGNORECASE)  # git drops it from a subject
_DIFF = re.compile(rb"^(?:diff --git |Index: |--- \S[^\n]*\n\+\+\+ )", re.MULTILINE)
_EMAIL = re.compile(r"[!-;=?-~]+@[!-;=?-~]+")
# git drops what else a name is made of, and refuses a commit of nobody (ident.c: crud).
_NAMES = re.compile(r"[^\x00-\x20.,:;<>\"\\']")
# Who writes mboxes with "From " lines of the text escaped, so that they can be told.
_ESCAPED = re.compile(rb"\AFrom (?:mboxrd|git)@z ")


@dataclass(frozen=True)
class Mail:
    """One mail, taken apart; `patch` begins where the commit message ends."""

    origin: str  # where it was found, for error messages
    author: str
    email: str
    date: str
    subject: str  # without "[PATCH ...]"
    message: bytes  # UTF-8
    patch: bytes
    reply: bool = False
    version: int = 1
    number: int | None = None  # of "7/25"
    total: int | None = None

    @property
    def has_diff(self) -> bool:
        return _DIFF.search(self.patch) is not None


@dataclass(frozen=True)
class Collected:
    """A whole series, in order."""

    patches: list[Mail]
    cover: Mail | None
    passed_over: list[str]  # subjects of mails that are no patch


def read(path: Path) -> list[Mail]:
    """All mails of an mbox, or the one mail of a file, in the order they stand there.

    A file compressed by gzip is read, too.  Raises UsageError naming the file when it is
    no mail, or larger than 64 MiB.
    """
    content = _content(path)
    with tempfile.TemporaryDirectory(prefix="harness-mail-") as scratch:
        here = Path(scratch)
        (here / "in").write_bytes(content)
        (here / "out").mkdir()
        quoting = ["--mboxrd"] if _ESCAPED.match(content) else []
        split = git.attempt(
            here, "mailsplit", "-b", "--keep-cr", "-d6", *quoting, "-oout", "--", "in"
        )
        files = sorted((here / "out").iterdir())
        if split.status != 0 or not files:
            raise UsageError(f"{path}: no mail in it: {printable(split.complaint)}")
        many = len(files) > 1
        return [
            _taken_apart(file, f"{path}, mail {n}" if many else str(path), here)
            for n, file in enumerate(files, 1)
        ]


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if content.startswith(_GZIP):
            with gzip.open(io.BytesIO(content)) as inner:
                content = inner.read(_LARGEST + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: a damaged gzip file: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot read it: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise UsageError(f"{path}: more than {_LARGEST >> 20} MiB: not a series of patches")
    return content


def _taken_apart(file: Path, origin: str, here: Path) -> Mail:
    said = git.attempt(
        here, "mailinfo", "-k", "--encoding=UTF-8", "message", "patch", stdin=file.read_bytes()
    )
    if said.status != 0:
        raise UsageError(f"{origin}: not a mail that git understands: {printable(said.complaint)}")
    found: dict[str, str] = {}
    for line in said.stdout.splitlines():
        key, colon, value = line.partition(": ")
        if colon:
            found.setdefault(key, value)
    subject = " ".join(found.get("Subject", "").split())
    reply = _REPLY.match(subject) is not None
    version, number, total = 1, None, None
    subject = subject if reply else _CRUD.sub("", subject)
    while not reply and (tag := _TAG.match(subject)):
        if numbers := re.search(r"(\d+)/(\d+)", tag["tag"]):
            number, total = _small(numbers[1]), _small(numbers[2])
        if named := re.search(r"\bv(\d+)\b", tag["tag"], re.IGNORECASE):
            version = _small(named[1])
        subject = _CRUD.sub("", subject[tag.end() :])
    return Mail(
        origin=origin,
        author=found.get("Author", "").strip(),
        email=found.get("Email", "").strip(),
        date=found.get("Date", "").strip(),
        subject=subject,
        message=(here / "message").read_bytes(),
        patch=(here / "patch").read_bytes(),
        reply=reply,
        version=version,
        number=number,
        total=total,
    )


def _small(digits: str) -> int:
    """A number of a subject; whoever writes more digits than this means none."""
    return int(digits[:6])


def arranged(mails: Sequence[Mail], source: str, *, listed: bool = False) -> Collected:
    """The patches among `mails` in their order, which is that of "7/25" in the subjects.

    Where no subject has a number, or when `listed` (a quilt `series` file named
    them), they stay as they are.  Replies and mails without a diff are passed over.
    Raises UsageError when a patch is missing or there twice, when mails of several
    versions are mixed, and for a patch that cannot be a commit.
    """
    real = [mail for mail in mails if not mail.reply]
    cover = next((mail for mail in real if mail.number == 0), None)
    patches = [mail for mail in real if mail.number != 0 and (mail.has_diff or mail.number)]
    over = [mail.subject for mail in mails if mail is not cover and mail not in patches]
    if not patches:
        raise UsageError(f"{source}: no patch in it", hint="git format-patch -o DIR BASE..")
    for mail in patches:
        if not mail.has_diff:
            raise UsageError(f"{mail.origin}: no diff in it: {printable(mail.subject)}")
        if not (_EMAIL.fullmatch(mail.email) and _NAMES.search(mail.author)):
            raise UsageError(f"{mail.origin}: no author: git am needs a line 'From: NAME <EMAIL>'")
    if not listed and any(mail.number is not None for mail in patches):
        patches = _numbered(patches, source)
    for mail in patches:
        _check_paths(mail)
    return Collected(patches, cover, over)


def _numbered(patches: list[Mail], source: str) -> list[Mail]:
    versions = sorted({mail.version for mail in patches})
    if len(versions) > 1:
        raise UsageError(
            f"{source}: patches of versions {', '.join(f'v{n}' for n in versions)} are mixed",
            hint="b4 am takes one version of a thread",
        )
    totals = {mail.total for mail in patches}
    if len(totals) > 1:
        known = ", ".join(sorted(str(total or "no number") for total in totals))
        raise UsageError(f"{source}: more than one series is in it (of {known} patches)")
    total = patches[0].total or 0
    by_number: dict[int, Mail] = {}
    for mail in patches:
        number = mail.number or 0
        if number > total:
            raise UsageError(f"{mail.origin}: patch {number} of {total}")
        if number in by_number:
            raise UsageError(
                f"{source}: patch {number}/{total} is there twice:"
                f" {printable(by_number[number].subject)!r} and {printable(mail.subject)!r}"
            )
        by_number[number] = mail
    if missing := [number for number in range(1, min(total, 10**4) + 1) if number not in by_number]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UsageError(
            f"{source}: of {total} patches these are missing:"
            f" {', '.join(map(str, missing[:5]))}{more}",
            hint="to take some only, name them in a file `series` in the folder, one a line",
        )
    return [by_number[number] for number in sorted(by_number)]


def _check_paths(mail: Mail) -> None:
    """UsageError for a diff that git cannot read, or that names a file outside of the tree."""
    with tempfile.TemporaryDirectory(prefix="harness-mail-") as scratch:
        listed = git.attempt(Path(scratch), "apply", "--numstat", "-z", "-", stdin=mail.patch)
    if listed.status != 0 or not listed.stdout:
        why = printable(listed.complaint.removeprefix("error: ")) if listed.status else "no file"
        raise UsageError(f"{mail.origin}: git apply cannot read the diff: {why}")
    for field in listed.stdout.split("\0"):
        name = field.rsplit("\t", 1)[-1]
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or ".git" in map(str.lower, parts):
            raise UsageError(f"{mail.origin}: it changes {printable(name)!r}, outside of the tree")


def file_name(number: int, subject: str) -> str:
    """The name of a patch's file, as git format-patch makes it: nothing of `subject` but
    letters, digits, '.', '_' and '-' gets into it, and it does not leave its folder."""
    words = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._]+", "-", subject)).strip("-.")
    return f"{number:04}-{words[:_SUBJECT_LENGTH] or 'patch'}.patch"


def rendered(mail: Mail, prefix: str = "PATCH") -> bytes:
    """`mail` as a `git format-patch` file, its subject behind "[`prefix`]".

    Raises UsageError when git would read anything else from it than from the mail it
    came in (a line of the message that looks like the start of another mail).
    """
    separator = b"" if mail.patch.startswith(b"---\n") else b"---\n"
    patch = mail.patch if mail.patch.endswith(b"\n") else mail.patch + b"\n"
    content = page(mail, prefix) + separator + patch
    _check_same(mail, content)
    return content


def page(mail: Mail, prefix: str) -> bytes:
    """The head and the message of `mail` as git format-patch writes them."""
    body = mail.message.rstrip(b"\n") + b"\n" if mail.message.strip() else b""
    subject = f"[{prefix}] {mail.subject}"
    plain = mail.message.isascii() and subject.isascii() and mail.author.isascii()
    lines = [
        f"From {_ZERO} Mon Sep 17 00:00:00 2001",
        f"From: {_address(mail.author, mail.email)}",
        *([f"Date: {_header(mail.date, 'Date')}"] if mail.date else []),
        f"Subject: {_header(mail.subject, 'Subject', f'[{prefix}]')}",
    ]
    if not plain:
        lines += [
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=UTF-8",
            "Content-Transfer-Encoding: 8bit",
        ]
    return "\n".join([*lines, "", ""]).encode("utf-8", "replace") + body


def _header(text: str, name: str, prefix: str = "") -> str:
    """A header's value, folded; encoded where `text` is more than printable ASCII."""
    if _is_plain(text):
        whole = f"{prefix} {text}" if prefix else text
        return Header(whole, "us-ascii", header_name=name, maxlinelen=75).encode()
    header = Header(prefix or None, "us-ascii", header_name=name, maxlinelen=75)
    header.append(text, _UTF8)
    return header.encode()


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and "=?" not in text


def _address(name: str, email: str) -> str:
    if _is_plain(name):
        return formataddr((name, email)) if name else email
    return f"{_header(name, 'From')} <{email}>"


def _check_same(mail: Mail, content: bytes) -> None:
    """git am must see in `content` what it saw in the mail; one of hostile or odd form may not."""
    with tempfile.NamedTemporaryFile(prefix="harness-mail-", suffix=".patch") as file:
        file.write(content)
        file.flush()
        again = read(Path(file.name))
    first = again[0]
    same = (
        len(again) == 1
        and (first.author, first.email) == (mail.author, mail.email)
        and first.subject == mail.subject
        and first.message.rstrip() == mail.message.rstrip()
        and first.patch.removeprefix(b"---\n").rstrip()
        == mail.patch.removeprefix(b"---\n").rstrip()
    )
    if not same:
        raise UsageError(
            f"{mail.origin}: as a file of its own git would read it differently:"
            " a line of its message looks like a header, or like the start of another mail",
            hint=command.quoted(["git", "mailinfo", "/dev/stdout", "/dev/null"]),
        )
