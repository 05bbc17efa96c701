# SPDX-License-Identifier: GPL-2.0
"""Kernel complaints in a console log: a pure function over bytes.

The texts are those of the kernel's own sources (lib/bug.c, kernel/panic.c,
kernel/hung_task.c, kernel/watchdog.c, kernel/locking/lockdep.c, kernel/rcu/
tree_stall.h, mm/kasan/report.c, mm/oom_kill.c, fs/ext4/super.c, fs/xfs/, lib/kunit/).
A line must begin with them once its time stamp is taken off, so that a program
that prints "WARNING: " in the middle of its own line raises no alarm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINES = 150  # of one report
MAX_LINE = 1000  # characters; junk on a serial line may have no ends of line


@dataclass(frozen=True)
class Splat:
    """One complaint.

    kind: panic, oops, bug, warning, lockdep, hung_task, soft_lockup, hard_lockup,
    rcu_stall, kasan, kfence, kcsan, ubsan, kmemleak, ext4_error, xfs_error,
    io_error, oom or kunit (a test of the kernel's own failed at boot).  title: its
    first line without what differs from run to run (time, addresses, process ids).
    text: the whole report, lines joined by \\n.
    """

    kind: str
    title: str
    text: str


# "<4>[   12.345678][  T123] text": level, time and caller may each be missing.
_STAMP = re.compile(r"^(?:<\d+>)?(?:\[ *\d+\.\d+\] ?)?(?:\[ *[TC]\d+\] ?)?")

_LOCKDEP = (
    r"WARNING: (?:possible (?:circular|recursive|irq lock inversion)|inconsistent lock state"
    r"|suspicious RCU usage|bad unlock balance|bad contention|held lock freed"
    r"|lock held when returning|nested lock was not taken|Nested lock|invalid wait context"
    r"|\S+ -> \S+ lock order detected|.*still has locks held)"
    r"|\[ BUG: Invalid wait context \]|INFO: trying to register non-static key"
    r"|BUG: MAX_LOCK|BUG: lock held|BUG: \S+ still has locks held|DEBUG_LOCKS_WARN_ON"
)
# First match wins.  A pattern is anchored at the line's start unless it says ".*".
_HEADERS: list[tuple[str, re.Pattern[str]]] = [
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("panic", r".*Kernel panic - not syncing"),
        ("kasan", r"BUG: KASAN: "),
        ("kfence", r"BUG: KFENCE: "),
        ("kcsan", r"BUG: KCSAN: "),
        ("ubsan", r"UBSAN: "),
        ("lockdep", _LOCKDEP),
        ("soft_lockup", r"(?:NMI )?(?:watchdog: )?BUG: soft lockup "),
        ("hard_lockup", r".*Watchdog detected hard LOCKUP"),
        ("rcu_stall", r"(?:rcu: )?INFO: rcu\S* (?:self-)?detected.* stall"),
        ("hung_task", r"INFO: task .*(?:blocked|stuck) .*for more than \d+ seconds"),
        (
            "oops",
            r"(?:Oops: |BUG: unable to handle |BUG: kernel NULL pointer|general protection fault"
            r"|divide error: |invalid opcode: |stack segment: |int3: |traps: PANIC: "
            r"|PANIC: double fault|BUG: TASK stack guard page|Unable to handle kernel )",
        ),
        ("bug", r"(?:kernel BUG at |BUG: (?!.*\bKASAN\b))"),
        ("warning", r"WARNING: "),
        ("ext4_error", r"EXT4-fs error |Aborting journal on device |JBD2: .*(?:error|IO failure)"),
        (
            "xfs_error",
            r"XFS(?: \([^)]*\))?: .*(?:Internal error|orruption|Assertion failed|CRC error"
            r"|I/O error|force_shutdown|has been shut down|bad magic|inconsisten)",
        ),
        ("io_error", r"Buffer I/O error on dev |(?:blk_update_request: )?I/O error, dev "),
        ("oom", r".* invoked oom-killer: |(?:Memory cgroup o|O)ut of memory: Killed process"),
        ("kmemleak", r"kmemleak: \d+ new suspected memory leak"),
        ("kunit", r"\s*(?:# \S+: (?:EXPECTATION|ASSERTION) FAILED at |not ok \d+ )"),
    )
]
# Cheap test that spares most lines the list above.
_SUSPECT = re.compile(
    r"anic|BUG|WARNING|INFO: |Oops|UBSAN|LOCKUP|fault|error|opcode|int3|Unable|DEBUG_LOCKS"
    r"|Aborting|JBD2|XFS|oom-killer|Out of|out of memory|kmemleak|segment|FAILED at|not ok "
)

_TRACE_END = re.compile(r"---\[ end trace|</TASK>")
# What closes a report of a kind; the line belongs to it.
_ENDS = {
    "panic": re.compile(r"---\[ end Kernel panic"),
    "oops": re.compile(r"---\[ end trace"),
    "bug": _TRACE_END,
    "warning": re.compile(r"---\[ end trace"),
    "kasan": re.compile(r"={20,}$"),
    "kfence": re.compile(r"={20,}$"),
    "kcsan": re.compile(r"={20,}$"),
    "ubsan": re.compile(r"---\[ end trace"),
    "oom": re.compile(r"(?:Memory cgroup o|O)ut of memory: Killed process|oom_reaper: "),
    "kunit": re.compile(r"\s*(?:not )?ok \d+ "),
}
# Complaints that are one line, unless a stack trace follows at once.
_ONE_LINE = {"ext4_error", "xfs_error", "io_error", "kmemleak"}
# An oops is announced by up to three lines, of which the first is the title.
_CONTINUES = {
    "oops": {"oops"},
    "bug": {"oops"},
    "oom": {"oom"},
    "kunit": {"kunit"},
    "panic": {"panic"},  # "---[ end Kernel panic - not syncing: ... ]---"
}

_VARIES = (
    (re.compile(r"0x[0-9a-f]{8,}|\b[0-9a-f]{12,}\b"), "ADDR"),
    (re.compile(r"\bCPU: ?\d+ (?:UID: \d+ )?PID: ?\d+ "), ""),
    (re.compile(r"\bCPU#\d+"), "CPU#N"),
    (re.compile(r"\(-?\d+:-?\d+\)"), "(N:N)"),
    (re.compile(r"(task \S+?):\d+"), r"\1"),
    (re.compile(r"\[([^\]:\[]+):\d+\]"), r"[\1]"),
    (re.compile(r"for (more than )?\d+ ?s(?:econds)?\b|stuck for \d+s"), r"for \1N s"),
    (re.compile(r"\b(pid|PID|inode|block|daddr|process)([ :#=]+)(?:0x[0-9a-f]+|\d+)\b"), r"\1\2N"),
)


def scan(console: bytes) -> list[Splat]:
    """Every complaint in a console log, in its order; never raises.

    An empty list says that none of the known texts is there, not that the
    machine was well: a hung one says nothing.
    """
    lines = [_plain(line) for line in console.replace(b"\r", b"\n").split(b"\n") if line.strip()]
    found: list[Splat] = []
    at = 0
    while at < len(lines):
        kind = _kind(lines[at])
        if not kind:
            at += 1
            continue
        end = _report_end(lines, at, kind)
        found.append(Splat(kind, _title(lines[at]), "\n".join(lines[at:end])))
        at = end
    return found


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


def _plain(line: bytes) -> str:
    text = line.decode(errors="replace")[:MAX_LINE]
    return _STAMP.sub("", text.lstrip("\0 ")).rstrip()


def _kind(line: str) -> str:
    if not _SUSPECT.search(line) or line.startswith("---[ end"):
        return ""
    return next((kind for kind, pattern in _HEADERS if pattern.match(line)), "")


def _report_end(lines: list[str], start: int, kind: str) -> int:
    """Index behind the last line of the report that starts at `start`."""
    limit = min(len(lines), start + MAX_LINES)
    if kind in _ONE_LINE:
        following = lines[start + 1 : start + 2]
        if not following or not re.match(r"CPU: \d+ |Call Trace:", following[0]):
            return start + 1
    ender = _ENDS.get(kind, _TRACE_END)
    if kind in ("oom", "kunit") and ender.match(lines[start]):
        return start + 1
    last_of_trace = start  # without an end mark: as far as it looks like a report
    for at in range(start + 1, limit):
        line = lines[at]
        if ender.search(line):
            return at + 1
        other = _kind(line)
        if other and other not in _CONTINUES.get(kind, ()):
            return at
        if re.match(r"\s|CPU|RIP|RSP|R[A-Z0-9]{1,2}:|Code:|Call Trace|Hardware|task:", line):
            last_of_trace = at
    return last_of_trace + 1


def _title(line: str) -> str:
    title = line.strip()
    for pattern, instead in _VARIES:
        title = pattern.sub(instead, title)
    return title[:200]
