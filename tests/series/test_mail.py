# SPDX-License-Identifier: GPL-2.0
"""Mails as git reads them: order, encodings, and subjects that mean harm."""

from __future__ import annotations

import base64
import os
import quopri
import random
import re
import shutil
import tempfile
from email.header import Header
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.series import mail
from tests.fakes import kernel as fake
from tests.series.conftest import change, numbered

SLOW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DIFF = change("x", 3).split("---\n", 1)[1]
COVER = (
    "From git@z Thu Jan  1 00:00:00 1970\nFrom: A Developer <dev@example.org>\n"
    "Date: Mon, 2 Nov 2026 10:00:00 +0100\nSubject: [PATCH v3 0/{total}] mm: a cover\n\n"
    "What it is about.\n\n"
)


def write(tmp_path: Path, text: str | bytes, name: str = "t.mbox") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def collected(path: Path) -> mail.Collected:
    return mail.arranged(mail.read(path), path.name)


def thread(total: int, version: str = "v3 ") -> list[str]:
    width = len(str(total))
    return [
        numbered(change(f"mm: step {n}", n), f"{version}{n:0{width}}/{total}").replace(
            "Date: Mon, 2 Nov", f"Date: Mon, {30 - n} Nov"  # later patches have earlier dates
        )
        for n in range(1, total + 1)
    ]


# --- order ------------------------------------------------------------------------


@given(st.integers(2, 9).flatmap(lambda n: st.permutations(range(n))))
@SLOW
def test_the_numbers_of_the_subjects_are_the_order(order: list[int]) -> None:
    mails = thread(len(order))
    with tempfile.TemporaryDirectory() as place:
        path = write(Path(place), "".join(mails[n] for n in order))
        found = collected(path)
    assert [each.subject for each in found.patches] == [
        f"mm: step {n}" for n in range(1, len(order) + 1)
    ]
    assert found.cover is None


def test_what_b4_am_writes(tmp_path: Path) -> None:
    """Cover and patches in one mbox, trailers added, two digits, the order of arrival."""
    mails = thread(10)
    random.Random(1).shuffle(mails)
    trailer = "\nWhy.\n\nReviewed-by: B <b@example.org>\n"
    mails = [text.replace("\nWhy.\n", trailer) for text in mails]
    escaped = [re.sub("^From 0123.*", "From git@z Thu Jan  1 00:00:00 1970", m) for m in mails]
    found = collected(write(tmp_path, COVER.format(total=10) + "".join(escaped)))
    assert [each.number for each in found.patches] == list(range(1, 11))
    assert found.cover is not None and found.cover.subject == "mm: a cover"
    assert all(b"Reviewed-by: B <b@example.org>" in each.message for each in found.patches)
    assert found.passed_over == []


def test_a_thread_has_replies_and_chatter(tmp_path: Path) -> None:
    mails = thread(2)
    reply = mails[0].replace("Subject: [PATCH v3 1/2]", "Subject: Re: [PATCH v3 1/2]")
    chatter = COVER.format(total=2).replace("[PATCH v3 0/2] mm: a cover", "hello")
    found = collected(write(tmp_path, mails[1] + reply + mails[0] + chatter))
    assert [each.subject for each in found.patches] == ["mm: step 1", "mm: step 2"]
    assert found.passed_over == ["Re: [PATCH v3 1/2] mm: step 1", "hello"]


def test_without_numbers_the_order_is_that_of_the_source(tmp_path: Path) -> None:
    path = write(tmp_path, change("b", 1) + change("a", 2))
    assert [each.subject for each in collected(path).patches] == ["b", "a"]


@pytest.mark.parametrize(
    ("mails", "said"),
    [
        (thread(3)[:2], "of 3 patches these are missing: 3"),
        ([*thread(2), thread(2)[1]], "patch 2/2 is there twice: 'mm: step 2' and 'mm: step 2'"),
        ([thread(2, "v2 ")[0], thread(2, "v3 ")[1]], "patches of versions v2, v3 are mixed"),
        ([thread(2)[0], thread(3)[1]], "more than one series is in it (of 2, 3 patches)"),
        ([*thread(2), change("c", 3).replace("[PATCH]", "[PATCH v3]")], "of 2, no number patches"),
        ([numbered(change("c", 3), "4/3")], "patch 4 of 3"),
        ([numbered(change("c", 3), "1/99999999999999")], "of 999999 patches these are missing: 2,"),
        ([COVER.format(total=1)], "no patch in it"),
        ([numbered("From x Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nSubject: [PATCH] a\n\nb\n",
                   "1/1")], "no diff in it: a"),
        ([change("c", 3).replace("From: A Developer <dev@example.org>\n", "")], "no author"),
        (["From: A <a@b>\nSubject: [PATCH] a\n\nb\n---\nIndex: mm/filemap.c\n"], "cannot read"),
        ([change("c", 3).replace(" int filemap_1;\n", "")], "cannot read the diff: corrupt patch"),
        (["nothing that is a mail"], "no patch in it"),
        ([""], "no mail in it"),
    ],
)  # fmt: skip
def test_what_is_no_series_is_one_line(mails: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        collected(write(tmp_path, "".join(mails)))
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_a_source_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "_LARGEST", 1 << 20)
    with pytest.raises(UsageError, match="more than 1 MiB"):
        mail.read(write(tmp_path, b"x" * ((1 << 20) + 1)))


def test_a_compressed_mbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    found = collected(write(tmp_path, gzip.compress("".join(thread(2)).encode()), "t.mbox.gz"))
    assert len(found.patches) == 2
    with pytest.raises(UsageError, match="damaged gzip"):
        mail.read(write(tmp_path, gzip.compress(b"x" * 1000)[:-9]))
    monkeypatch.setattr(mail, "_LARGEST", 1 << 16)
    with pytest.raises(UsageError, match="more than"):  # a bomb
        mail.read(write(tmp_path, gzip.compress(bytes(1 << 24))))


def test_a_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, "".join(thread(2)).encode())
    os.close(writer)
    try:
        assert len(collected(Path(f"/dev/fd/{reader}")).patches) == 2
    finally:
        os.close(reader)


# --- encodings ----------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64"])
def test_a_body_may_be_encoded(encoding: str, tmp_path: Path) -> None:
    text = change("mm: Grüße", 4, to="vier")
    head, body = text.split("\n\n", 1)
    head = head.replace("mm: Grüße", Header("mm: Grüße", "utf-8").encode())
    body = body.replace("Why.", "Größe.")
    raw = body.encode()
    packed = base64.encodebytes(raw) if encoding == "base64" else quopri.encodestring(raw)
    kind = f"\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {encoding}\n\n"
    (one,) = collected(write(tmp_path, (head + kind).encode() + packed)).patches
    assert one.subject == "mm: Grüße"
    plain = mail.rendered(one)
    assert "Größe.\n".encode() in plain
    assert b"\nSubject: [PATCH] =?utf-8?q?mm=3A_Gr=C3=BC=C3=9Fe?=\n" in plain
    assert b"+int filemap_vier;\n" in plain
    (again,) = mail.read(write(tmp_path, plain, "again"))
    assert (again.subject, again.message) == (one.subject, one.message)


def test_a_carriage_return_is_a_part_of_the_file(tmp_path: Path) -> None:
    text = change("x", 5).replace("+int filemap_xxxxx;\n", "+int filemap_xxxxx;\r\n")
    (one,) = collected(write(tmp_path, text)).patches
    assert b"+int filemap_xxxxx;\r\n" in mail.rendered(one)


def test_what_stands_below_the_dashes_stays(tmp_path: Path) -> None:
    text = change("x", 5).replace("---\ndiff", "---\nv2: better\n\ndiff", 1)
    (one,) = collected(write(tmp_path, text)).patches
    assert b"\n---\nv2: better\n\ndiff --git " in mail.rendered(one)


# --- data, whatever it says ---------------------------------------------------------

HOSTILE = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("\n\r\t\x1b\0/.[]:<>\"'$`=?_-")),
    max_size=120,
)


@given(st.integers(1, 9999), HOSTILE)
def test_a_file_stays_in_its_folder(number: int, subject: str) -> None:
    name = mail.file_name(number, subject)
    assert re.fullmatch(r"\d{4}-[A-Za-z0-9._-]{1,52}\.patch", name)
    assert Path(name).name == name and not name.startswith(".")


@given(subject=HOSTILE, author=HOSTILE)
@SLOW
def test_a_mail_is_read_as_git_reads_it_or_refused(
    subject: str, author: str, tmp_path: Path
) -> None:
    text = (
        "From 0 Mon Sep 17 00:00:00 2001\n"
        f"From: {Header(author, 'utf-8', header_name='From').encode()} <a@example.org>\n"
        f"Subject: {Header('[PATCH] ' + subject, 'utf-8', header_name='Subject').encode()}\n"
        f"\nWhy.\n---\n{DIFF}"
    )
    path = write(tmp_path, text.encode("utf-8", "surrogatepass"))
    try:
        (one,) = collected(path).patches
        content = mail.rendered(one, "PATCH 1/1")
    except UsageError as error:
        assert error.message.isprintable()
        event("refused")
        return
    head = content.split(b"\n\n", 1)[0]
    assert re.findall(rb"(?m)^(\S+): ", head)[:2] == [b"From", b"Subject"]
    assert not re.search(rb"[^\x20-\x7e\n]", head)
    # git am makes one commit of it, by whom and about what we say.
    repo = tmp_path / "repo"
    if not repo.exists():
        fake.linux(repo)
        fake.git(repo, "init", "--quiet")
        fake.git(repo, "add", "-A")
        fake.git(repo, "commit", "--quiet", "-m", "linux")
    write(tmp_path, content, "one.patch")
    shutil.rmtree(repo / ".git/rebase-apply", ignore_errors=True)  # of an example that failed
    fake.git(repo, "checkout", "--quiet", "--detach", "master")
    fake.git(repo, "am", "--quiet", "--keep-cr", str(tmp_path / "one.patch"))
    assert fake.git(repo, "rev-list", "--count", "master..") == "1"
    if one.subject and "[" not in one.subject:  # git am drops every [...] in front
        assert fake.git(repo, "log", "-1", "--format=%s").split() == one.subject.split()


@pytest.mark.parametrize(
    "line", ["From me@x Mon Sep 17 00:00:00 2001", "From: Eve <eve@example.org>", "Subject: other"]
)
def test_a_message_that_git_would_take_apart_is_refused(line: str, tmp_path: Path) -> None:
    body = base64.encodebytes(f"{line}\n\n{line}\n\nWhy.\n---\n{DIFF}".encode()).decode()
    text = (
        "From 0 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nSubject: [PATCH] x\n"
        f"Content-Transfer-Encoding: base64\n\n{body}"
    )
    with pytest.raises(UsageError, match="git would read it differently"):
        mail.rendered(collected(write(tmp_path, text)).patches[0])


@pytest.mark.parametrize(
    "path", ["../../evil", "/etc/passwd", ".git/hooks/post-commit", "a/.GIT/x"]
)
def test_a_diff_that_leaves_the_tree_is_refused(path: str, tmp_path: Path) -> None:
    text = fake.patch("mm: evil", {path: ("", "evil\n")}, base=tmp_path / "nothing")
    with pytest.raises(UsageError) as caught:
        collected(write(tmp_path, text))
    assert "outside of the tree" in caught.value.message or "git apply" in caught.value.message
