# SPDX-License-Identifier: GPL-2.0
"""Kernel complaints in a console log: a pure function over bytes.

What is looked for stands in complaints.py, how a title is made of it in titles.py;
this is the reader.  A line must begin with a complaint's text once its time stamp is
taken off, so that a program that prints "WARNING: " in the middle of its own line
raises no alarm.  The log is read once, line by line: time is linear in its length,
and what is kept of it is bounded.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.guest.complaints import LOOKS, Complaint, recognise

MAX_LINES = 400  # of one report
MAX_LINE = 1000  # characters; junk on a serial line may have no ends of line
MAX_REPORTS = 1000  # then only those whose title is new
MAX_MESSAGE = 8  # lines between "cut here" and what they belong to
MAX_CALLERS = 64  # whose reports are open at once
RECENT = 16  # reports among which mixed ones are looked for
# Lines that look like no report in a row, and seconds of silence: then a report
# without a closing line is over.
STRANGERS = 12
SILENCE_S = 30.0


@dataclass(frozen=True)
class Splat:
    """One complaint.

    kind: panic, init_died, oops, bug, warning, lockdep, hung_task, soft_lockup,
    hard_lockup, rcu_stall, workqueue_lockup, csd_lockup, atomic (sleeping or scheduling
    where it is not legal), bad_page, list_corruption, refcount, slab, usercopy, fortify,
    odebug, kasan, kfence, kcsan, ubsan, kmemleak, ext4_error, xfs_error, io_error, oom,
    alloc_failure or kunit (a test of the kernel's own failed at boot).
    title: the same in every run, see titles.py.
    text: the whole report, lines joined by \\n, without time stamps and control
    characters.
    sub: which sort of that kind, where there are several ("circular"); or "".
    interleaved: another CPU's report is mixed with it.  Where the kernel names the caller
    of each line (CONFIG_PRINTK_CALLER) the two are told apart, and `text` is clean; if not
    it is seen by reports that name two CPUs, and `text` has what came.
    """

    kind: str
    title: str
    text: str
    sub: str = ""
    interleaved: bool = False


@dataclass(frozen=True)
class _Line:
    time: float | None
    caller: str  # "T77", "C1", or "" when the kernel does not say
    text: str


@dataclass(eq=False)
class _Report:
    """A report that is being read."""

    complaint: Complaint
    caller: str
    lines: list[str]
    header: int  # index of its first line proper in `lines`
    time: float | None
    kept: int = 0  # lines up to the last that looks like a report
    strangers: int = 0
    ended: bool = False
    locks: bool = False  # lockdep's list has begun
    interleaved: bool = False
    last: int = 0  # number of its last line
    cpus: set[str] = field(default_factory=set)
    cut: _Report | None = None  # whose end this one's beginning came before

    def add(self, text: str, time: float | None) -> None:
        self.lines.append(text)
        if time is not None:
            self.time = time
        self.cpus.update(_CPU.findall(text))
        if LOOKS.match(text):
            self.kept, self.strangers = len(self.lines), 0
        elif text:
            self.strangers += 1


# "<4>[   12.345678][  T123] text": level, time and caller may each be missing.
_STAMP = re.compile(r"(?:<\d{1,3}>)?(?:\[ *(\d{1,11}\.\d{1,9})\] ?)?(?:\[ *([TC]\d{1,9})\] ?)?")
# A program's line without an end, and then the kernel's.
_INSIDE = re.compile(rb"(?:<\d{1,3}>)?\[ {0,11}\d{1,11}\.\d{6}\](?=\[|  ?)")
_LINE = re.compile(rb"[^\r\n]+")
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]{0,30}[ -/]{0,4}[@-~]?|[@-Z\\^_]?)")
_CONTROL = dict.fromkeys((*range(9), *range(10, 32), *range(127, 160)))
_CUT = "------------[ cut here ]------------"
_CPU = re.compile(r"\bCPU: ?(\d+) (?:UID: \d+ )?PID: ")
_ANY_END = re.compile(r"</TASK>|---\[ end trace")
_TRACE_FOLLOWS = re.compile(r"CPU: ?\d+ |Call Trace:")
# What goes on after a stack trace has closed a report: who holds which lock, and the
# other CPUs of a stall.
_LOCKS = "Showing all locks held in the system:"
_LOCKS_END = re.compile(r"={20,}")
_RESUMES = {
    "hung_task": re.compile(_LOCKS),
    **dict.fromkeys(
        ("rcu_stall", "soft_lockup", "hard_lockup", "csd_lockup", "workqueue_lockup"),
        re.compile(
            r"Sending NMI from CPU|NMI backtrace for cpu|CPU: ?\d+ |rcu: \s|rcu: Possible"
            r"|rcu: Unless|rcu: .*(?:kthread|[Ss]tack dump)|task:rcu_|Showing busy"
            r"|workqueue \S+: flags|  pwq |pool "
        ),
    ),
}


def scan(console: bytes) -> list[Splat]:
    """Every complaint in a console log, in its order; never raises.

    An empty list says that none of the known texts is there, not that the
    machine was well: a hung one says nothing.
    """
    reader = _Reader()
    for line in _lines(console):
        reader.feed(line)
    return reader.end()


def panic_line(console: bytes) -> str:
    """The line that says why the kernel panicked, or ""."""
    match = re.search(rb"Kernel panic - not syncing[^\r\n]*", console)
    return match.group().decode(errors="replace")[:MAX_LINE] if match else ""


def emulator_fault(console: bytes) -> str:
    """What in this log is QEMU's doing, not the kernel's; "" when nothing is.

    QEMU before 8.1 may, with several CPUs under TCG, run an old translation of
    code that the kernel has patched in the meantime: the breakpoint that guards
    the patching then hits with nobody waiting for it (fixed by QEMU commits
    cb62bd15e14e and deba78709ae8, "Always lock pages before translation").
    """
    match = re.search(rb"(?:Oops: int3|\bint3: 0000 \[#1\])[^\r\n]*", console)
    if match is None:
        return ""
    return f"{match.group().decode(errors='replace')} (QEMU ran code that had been patched away)"


def _lines(console: bytes) -> Iterator[_Line]:
    for match in _LINE.finditer(console):
        start, end = match.span()
        for inside in _INSIDE.finditer(console, start + 1, end):
            yield _line(console[start : min(inside.start(), start + 4 * MAX_LINE)])
            start = inside.start()
        yield _line(console[start : min(end, start + 4 * MAX_LINE)])


def _line(raw: bytes) -> _Line:
    text = raw.decode(errors="replace")
    if "\x1b" in text:
        text = _ESCAPE.sub("", text)
    if not text.isprintable():
        text = text.translate(_CONTROL)
    text = text.lstrip(" ") if not text.startswith("  ") else text
    stamp = _STAMP.match(text)
    if stamp is None or not stamp.end():  # it may be empty, and then `text` is no kernel's
        return _Line(None, "", text[:MAX_LINE].rstrip())
    time = float(stamp[1]) if stamp[1] else None
    return _Line(time, stamp[2] or "", text[stamp.end() :][:MAX_LINE].rstrip())


def _silent(report: _Report, line: _Line) -> bool:
    """Whether so much time has passed that `line` is none of the report's."""
    if report.time is None or line.time is None:
        return False
    return abs(line.time - report.time) > SILENCE_S


class _Reader:
    """Lines in, reports out."""

    def __init__(self) -> None:
        self._open: dict[str, _Report] = {}  # by caller
        self._messages: dict[str, list[str]] = {}  # after "cut here", by caller
        self._done: list[_Report] = []  # in the order of their first lines
        self._number = 0  # of the line
        self._recent: deque[_Report] = deque(maxlen=RECENT)
        self._closed: _Report | None = None  # the latest
        self._short: _Report | None = None  # the latest that was closed before its end
        self._splats: list[Splat] = []
        self._titles: set[tuple[str, str]] = set()

    def feed(self, line: _Line) -> None:
        text, report = line.text, self._open.get(line.caller)
        found = recognise(text)
        if report is None and found is None:
            report = self._guest(line)
        if report is not None and self._continues(report, line, found):
            self._add(report, line)
            return
        if report is not None:
            self._close(report)
            self._short = report
        if found is not None:
            self._begin(found, line)
        elif text == _CUT:
            if len(self._messages) >= MAX_CALLERS:
                self._messages.clear()
            self._messages[line.caller] = [text]
        elif (message := self._messages.get(line.caller)) is not None:
            message.append(text)
            if len(message) > MAX_MESSAGE:
                del self._messages[line.caller]

    def end(self) -> list[Splat]:
        """All reports; those without an end are as long as they look like reports."""
        for report in list(self._open.values()):
            self._close(report)
        self._flush()
        return self._splats

    def _continues(self, report: _Report, line: _Line, found: Complaint | None) -> bool:
        complaint = report.complaint
        if _silent(report, line):
            return False
        if found is not None and found.kind not in complaint.joins:
            # Its last line may itself look like a complaint ("not ok 1", "Killed process").
            return bool(
                found.kind == complaint.kind
                and complaint.end is not None
                and complaint.end.search(line.text)
            )
        if complaint.end is None and len(report.lines) == report.header + 1:
            return bool(_TRACE_FOLLOWS.match(line.text))
        return line.text != _CUT or "warning" in complaint.joins or "bug" in complaint.joins

    def _guest(self, line: _Line) -> _Report | None:
        """The report of another CPU to which this line belongs, if it does."""
        wide = [each for each in self._open.values() if each.complaint.wide]
        if len(wide) == 1 and wide[0].caller != line.caller and LOOKS.match(line.text):
            return wide[0]
        closed = self._closed
        if (
            closed is not None
            and (closed.caller == line.caller or closed.complaint.wide)
            and (resumes := _RESUMES.get(closed.complaint.kind)) is not None
            and resumes.match(line.text)
            and len(closed.lines) < MAX_LINES
            and not _silent(closed, line)
        ):
            closed.ended = False
            self._open[closed.caller] = closed
            return closed
        return None

    def _begin(self, complaint: Complaint, line: _Line) -> None:
        before = self._messages.pop(line.caller, [])
        if len(self._open) >= MAX_CALLERS:
            self._close(next(iter(self._open.values())))
        report = _Report(complaint, line.caller, list(before), len(before), line.time)
        short, self._short = self._short, None
        if short is not None and short.complaint.end is not None:
            report.cut = short
        self._open[line.caller] = report
        if len(self._done) > MAX_REPORTS:
            self._flush()
        self._done.append(report)
        self._closed = None
        self._add(report, line)

    def _add(self, report: _Report, line: _Line) -> None:
        self._number += 1
        if len(report.lines) > report.header:
            between = [each for each in self._recent if each.last > report.last]
            for each in between:
                report.interleaved = each.interleaved = True
        report.last = self._number
        if report not in self._recent:
            self._recent.append(report)
        report.add(line.text, line.time)
        first = len(report.lines) == report.header + 1
        end = report.complaint.end or _ANY_END
        if line.text == _LOCKS:
            report.locks = True
        if report.locks:
            end = _LOCKS_END
        if first:
            report.kept = len(report.lines)
            return
        if end.search(line.text):
            report.ended, report.kept = True, len(report.lines)
            self._close(report)
        elif len(report.lines) >= MAX_LINES or report.strangers > STRANGERS:
            self._close(report)

    def _close(self, report: _Report) -> None:
        """No more lines for this one."""
        self._open.pop(report.caller, None)
        del report.lines[max(report.kept, report.header + 1) :]
        if not report.caller and not report.complaint.wide and len(report.cpus) > 1:
            report.interleaved = True
        cut = report.cut
        if cut is not None and not report.caller and cut.cpus and report.cpus - cut.cpus:
            report.interleaved = cut.interleaved = True
        report.cut, self._closed = None, report

    def _flush(self) -> None:
        """Turn what is done into splats; the open ones stay."""
        still = [each for each in self._done if self._open.get(each.caller) is each]
        for report in self._done:
            if report in still:
                continue
            from harness.guest import titles  # most kernels never complain

            title = titles.compose(report.complaint, report.lines[report.header], report.lines)
            key = (report.complaint.kind, title)
            if len(self._splats) >= MAX_REPORTS and key in self._titles:
                continue
            self._titles.add(key)
            self._splats.append(
                Splat(
                    report.complaint.kind,
                    title,
                    "\n".join(report.lines),
                    report.complaint.sub,
                    report.interleaved,
                )
            )
        self._done = still
