# SPDX-License-Identifier: GPL-2.0
"""What the kernel says when it complains: one row per sort, and how each report ends.

The texts are those of the kernel's own sources (lib/bug.c, kernel/panic.c,
kernel/hung_task.c, kernel/watchdog.c, kernel/locking/lockdep.c, kernel/rcu/
tree_stall.h, mm/kasan/report.c, mm/oom_kill.c, fs/ext4/super.c, fs/xfs/, lib/kunit/),
and tests/corpus/ has real reports of some rows; tests/guest/test_splat.py has the others'
texts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

# Where a title's function comes from, when the first line does not have it.
Where = Literal["", "rip", "trace", "lock", "sleep"]

_TRACE = r"---\[ end trace|</TASK>"
_FULL = r"---\[ end trace"
_RULE = r"={20,}$"
_ONE_LINE = ""


@dataclass(frozen=True)
class Complaint:
    """One sort of complaint.

    pattern: what its first line looks like, from the line's start (unless it says
    ".*").  end: what its last line has in it; "" for a complaint of one line, which a
    stack trace may follow at once.  joins: kinds whose first lines are part of this
    report, as the "Oops:" of a page fault is.  wide: other CPUs add to it.
    """

    kind: str
    sub: str
    pattern: re.Pattern[str]
    end: re.Pattern[str] | None
    joins: frozenset[str]
    where: Where
    wide: bool


def _row(
    kind: str,
    sub: str,
    pattern: str,
    end: str,
    where: Where = "",
    joins: str = "",
    wide: bool = False,
) -> Complaint:
    ends = re.compile(end) if end else None
    return Complaint(kind, sub, re.compile(pattern), ends, frozenset(joins.split()), where, wide)


def _lockdep(sub: str, pattern: str, where: Where = "lock") -> Complaint:
    return _row("lockdep", sub, pattern, _TRACE, where)


# The first that matches wins.
COMPLAINTS: tuple[Complaint, ...] = (
    _row(
        "init_died",
        "",
        r".*Kernel panic - not syncing: Attempted to kill init!",
        r"---\[ end Kernel panic",
        joins="init_died panic",
    ),
    _row(
        "panic",
        "",
        r".*Kernel panic - not syncing",
        r"---\[ end Kernel panic",
        joins="init_died panic",
    ),
    _row("kasan", "", r"BUG: KASAN: ", _RULE),
    _row("kfence", "", r"BUG: KFENCE: ", _RULE, "trace"),
    _row("kcsan", "", r"BUG: KCSAN: ", _RULE),
    _row("ubsan", "", r"UBSAN: ", _FULL, "trace"),
    # --- lockdep, by what it found ------------------------------------------------
    _lockdep("circular", r"WARNING: possible circular locking"),
    _lockdep("recursive", r"WARNING: possible recursive locking"),
    _lockdep("irq_inversion", r"WARNING: possible irq lock inversion"),
    _lockdep("irq_order", r"WARNING: \S+ -> \S+ lock order detected"),
    _lockdep("inconsistent", r"WARNING: inconsistent lock state"),
    _lockdep("rcu", r"WARNING: suspicious RCU usage", "trace"),
    _lockdep("unlock", r"WARNING: bad unlock balance"),
    _lockdep("contention", r"WARNING: bad contention"),
    _lockdep("freed", r"WARNING: held lock freed", "trace"),
    _lockdep("user_return", r"WARNING: lock held when returning"),
    _lockdep("exit_held", r"(?:WARNING: .*|BUG: \S+ )still has locks held|BUG: lock held"),
    _lockdep("nested", r"WARNING: (?:Nested lock was not taken|nested lock was not taken)"),
    _lockdep("wait_context", r"(?:WARNING: i|\[ BUG: I)nvalid wait context"),
    _lockdep("no_key", r"INFO: trying to register non-static key", "trace"),
    _lockdep("limit", r"BUG: MAX_(?:LOCK|STACK)\S* too low", ""),
    _row("lockdep", "internal", r"DEBUG_\w+_WARN_ON\(", _FULL, "trace", "warning"),
    # --- stuck ----------------------------------------------------------------------
    _row("soft_lockup", "", r"(?:NMI )?(?:watchdog: )?BUG: soft lockup ", _TRACE, "rip", wide=True),
    _row("hard_lockup", "", r".*Watchdog detected hard LOCKUP", _TRACE, "rip", wide=True),
    _row(
        "rcu_stall",
        "",
        r"(?:rcu: )?INFO: rcu\S* (?:self-)?detected.* stall",
        _TRACE,
        "rip",
        "rcu_stall",
        wide=True,
    ),
    _row("workqueue_lockup", "", r"BUG: workqueue lockup", _TRACE, wide=True),
    _row("csd_lockup", "", r"(?:smp: )?csd: Detected non-responsive CSD lock", _TRACE, wide=True),
    _row(
        "hung_task",
        "",
        r"INFO: task .*(?:blocked|stuck) .*for more than \d+ seconds",
        r"</TASK>",
        "sleep",
    ),
    # --- broken -----------------------------------------------------------------------
    _row("atomic", "scheduling", r"BUG: scheduling while atomic", _TRACE, "trace"),
    _row("atomic", "sleeping", r"BUG: sleeping function called from invalid", _TRACE, "trace"),
    _row("atomic", "leaked", r"BUG: workqueue leaked", _TRACE),
    _row("bad_page", "state", r"BUG: Bad page state", _TRACE, "trace"),
    _row("bad_page", "map", r"BUG: Bad page map", _TRACE, "trace"),
    _row("bad_page", "cache", r"BUG: Bad page cache", _TRACE, "trace"),
    _row("bad_page", "rss", r"BUG: Bad rss-counter state", _ONE_LINE),
    _row("bad_page", "tables", r"BUG: non-zero pgtables_bytes", _ONE_LINE),
    _row("bad_page", "poison", r"pagealloc: (?:memory corruption|single bit)", _TRACE, "trace"),
    _row(
        "list_corruption",
        "",
        r"list_(?:add|del)(?:_rcu)? (?:corruption|double add)|slub?: list corruption",
        _FULL,
        "trace",
        "bug oops warning",
    ),
    _row("refcount", "", r"refcount_t: ", _FULL, "trace", "warning"),
    _row("slab", "", r"\[.* overwritten\] 0x", _TRACE, "trace", "slab warning"),
    _row("slab", "", r"BUG (?!:)\S+ \([^)]*\): ", _TRACE, "trace", "slab warning"),
    _row(
        "usercopy",
        "",
        r"usercopy: Kernel memory (?:exposure|overwrite) attempt",
        _FULL,
        "trace",
        "bug oops",
    ),
    _row("fortify", "", r"\w+: detected buffer overflow: ", _FULL, "trace", "warning bug oops"),
    _row("odebug", "", r"ODEBUG: ", _FULL, "trace", "warning"),
    _row(
        "oops",
        "null",
        r"BUG: kernel NULL pointer|Unable to handle kernel NULL",
        _FULL,
        "rip",
        "oops",
    ),
    _row(
        "oops",
        "page_fault",
        r"BUG: unable to handle |Unable to handle kernel |Oops: Oops: |Oops: \d",
        _FULL,
        "rip",
        "oops",
    ),
    _row("oops", "protection", r"(?:Oops: )?general protection fault", _FULL, "rip", "oops kasan"),
    _row("oops", "divide", r"(?:Oops: )?divide error: ", _FULL, "rip", "oops"),
    _row("oops", "opcode", r"(?:Oops: )?invalid opcode: ", _FULL, "rip", "oops"),
    _row("oops", "breakpoint", r"(?:Oops: )?int3: ", _FULL, "rip", "oops"),
    _row(
        "oops",
        "stack",
        r"BUG: \w+ stack guard page|(?:Oops: )?stack (?:guard|segment)",
        _FULL,
        "rip",
        "oops",
    ),
    _row(
        "oops",
        "double_fault",
        r"traps: PANIC: |PANIC: early exception|PANIC: double fault|(?:Oops: )?double fault",
        _FULL,
        "rip",
        "oops",
    ),
    _row("oops", "", r"Oops: |CFI failure at |Missing ENDBR", _FULL, "rip", "oops"),
    _row("bug", "assertion", r"kernel BUG at ", _FULL, "rip", "oops"),
    _row("bug", "spinlock", r"BUG: (?:spin|rw)lock ", _TRACE, "trace"),
    _row("bug", "", r"BUG: (?!.*\bKASAN\b)", _TRACE, "trace", "oops"),
    _row("warning", "", r"WARNING: ", _FULL),
    # --- file systems and disks ----------------------------------------------------------
    _row("ext4_error", "", r"EXT4-fs error ", _ONE_LINE),
    _row(
        "ext4_error",
        "journal",
        r"Aborting journal on device |JBD2: .*(?:rror|IO failure|corrupt)",
        _ONE_LINE,
    ),
    _row(
        "ext4_error",
        "data",
        r"EXT4-fs (?:warning )?\([^)]*\): .*(?:[Dd]ata will be lost|I/O error"
        r"|block allocation failed|failed to convert|[Ee]mergency|ext4_end_bio)",
        _ONE_LINE,
    ),
    _row(
        "xfs_error",
        "shutdown",
        r"XFS \([^)]*\): .*(?:Shutting down filesystem|has been shut down|shutdown received"
        r"|force_shutdown)",
        _ONE_LINE,
    ),
    _row(
        "xfs_error",
        "",
        r"XFS(?: \([^)]*\))?: .*(?:Internal error|orruption|Assertion failed|CRC error"
        r"|I/O error|I/O Error|log I/O|writeback error|bad magic|inconsisten"
        r"|Failed to read root inode|log mount/recovery failed|log mount failed)",
        _ONE_LINE,
    ),
    _row(
        "io_error",
        "",
        r"Buffer I/O error on dev |(?:blk_update_request: )?\S+ error, dev ",
        _ONE_LINE,
    ),
    # --- memory runs out ---------------------------------------------------------------------
    _row(
        "oom",
        "",
        r".* invoked oom-killer: ",
        r"(?:Memory cgroup o|O)ut of memory: Killed process|oom_reaper: ",
        joins="oom",
    ),
    _row("oom", "", r"(?:Memory cgroup o|O)ut of memory: Killed process", _ONE_LINE),
    _row(
        "alloc_failure",
        "",
        r".*: (?:page allocation failure: |page allocation stalls|vmalloc error: )",
        r"\d+ pages hwpoisoned|\d+ pages reserved$|</TASK>(?!)",
        "trace",
    ),
    _row("kmemleak", "", r"kmemleak: unreferenced object ", r"(?!)", "trace"),
    _row("kmemleak", "", r"kmemleak: \d+ new suspected memory leak", _ONE_LINE),
    # --- the kernel's own tests ----------------------------------------------------------------
    _row(
        "kunit",
        "",
        r"\s*# \S+: (?:EXPECTATION|ASSERTION) FAILED at ",
        r"^\s*(?:not )?ok \d+ ",
        joins="kunit",
    ),
    _row("kunit", "", r"\s*not ok \d+ ", _ONE_LINE),
)

# Cheap test that spares most lines the table above.
_SUSPECT = re.compile(
    r"anic|BUG|WARNING|INFO: |Oops|UBSAN|LOCKUP|fault|rror|opcode|int3|Unable|DEBUG_"
    r"|Aborting|JBD2|XFS|EXT4|oom-killer|ut of memory|kmemleak|segment|FAILED at|not ok "
    r"|CSD lock|pagealloc|overwritten|list_|list corr|refcount_t|usercopy|buffer overflow|ODEBUG"
    r"|allocation |CFI|ENDBR"
)


def recognise(line: str) -> Complaint | None:
    """The complaint that `line` begins."""
    if not _SUSPECT.search(line) or line.startswith("---[ end"):
        return None
    return next((each for each in COMPLAINTS if each.pattern.match(line)), None)


# A line that may follow another one of a report.
LOOKS = re.compile(
    r"\s|CPU\b|RIP|RSP|R[A-Z0-9]{1,2}:|[DEFGC][SR]\d?:|Code:|Call Trace|Hardware|task:|Workqueue:"
    r"|Modules linked|Tainted|note: |#PF|PGD|Oops|stack backtrace|NMI backtrace|Sending NMI"
    r"|[0-9a-f]{8,}|#\d|-> #|other info|which lock|the existing|but |and |to a |\d+ locks? held"
    r"|irq event|hardirqs|softirqs|Preemption disabled|Mem-Info|Node \d|active_anon|\d+ pages"
    r"|\d+ total pagecache|Swap|Free swap|Total swap|lowmem|page[:_ ]|raw:|head:|flags:|Slab|"
    r"Object |Redzone|Padding|FIX |INFO: |FS:|Kernel Offset|---\[|Showing|rcu: |Read of|Write of|"
    r"Allocated|Freed|The buggy|Memory state|race at|value changed|Reported|freed|allocated"
    r"|kmemleak: |oom-kill|Tasks state|\[ *\d+\]|\[  pid|pool \d|  ?pwq"
)
