# SPDX-License-Identifier: GPL-2.0
"""A report of the kernel -> a title that is the same in every run.

What stays is what tells one bug from another: the kernel's own words, the source
line, the function.  What goes is what differs from run to run: addresses, offsets,
processes, CPUs, inodes, blocks, times, and in a hung task its name, since whoever
comes by the broken lock is its victim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from harness.guest.complaints import Complaint

MAX_TITLE = 200

_FRAME = re.compile(r"\s*(?:\[<[0-9a-fx]+>\] )?(\? )?([A-Za-z_][\w.$]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_RIP = re.compile(r"(?:RIP: ?[0-9a-f]{4}:|pc : )([A-Za-z_][\w.$]*)\+0x")
_AT = re.compile(r".*, at: (?:\[<[0-9a-fx]+>\] )?([A-Za-z_][\w.$]*)\+0x")
_SUFFIX = re.compile(r"\.(?:constprop|isra|part|cold|llvm)\b[.\d]*")

# Frames that every report has, and the primitives in which one waits or spins: the
# caller is what the title is about.
_SCHEDULER = re.compile(
    r"__?switch_to|context_switch|__schedule|schedule|preempt_schedule|schedule_preempt_disabled"
    r"|(?:io_)?schedule_timeout\w*|io_schedule\w*|schedule_hrtimeout\w*|__cond_resched"
)
_WAITING = re.compile(
    r"_*mutex_\w+|_*rwsem_\w+|_*down_\w+|_*up_(?:read|write)\w*|_*percpu_\w+|_*range_\w+"
    r"|range_\w+|_*wait_\w+|do_wait_\w+|wait_\w+|_*folio_(?:lock|wait)\w*|folio_wait\w*|_*lock_page"
    r"|bit_wait\w*|_*wait_on_bit\w*|out_of_line_wait\w*|_*add_wait\w*|prepare_to_wait\w*"
    r"|_*rt_mutex\w*|rtlock\w*|_*synchronize_\w+|io_wait\w*|msleep\w*|usleep\w*|fsleep"
    r"|queued_\w+|native_queued_\w+|do_raw_\w+|_raw_\w+|__pv_queued\w*|pv_\w+|rwlock\w*"
)
_REPORTING = re.compile(
    r"_*dump_\w+|_*show_\w+|_*print_\w+|_*warn\w*|_*report_\w+|\w+_report\w*|_*kasan_\w+|kcsan_\w+"
    r"|_*ubsan_\w+|check_\w+|_*check_\w+|mark_lock\w*|_*lock_(?:acquire|release|is_held)\w*"
    r"|register_lock\w*|lockdep_\w+|validate_chain|debug_\w+|spin_(?:bug|dump)|rwlock_bug"
    r"|_*might_\w+|_*schedule_bug|refcount_warn\w*|_*list_(?:add|del)\w*|bad_page\w*|_*free_pages\w*"
    r"|free_unref\w*|_*kernel_\w*poison\w*|_*kernel_\w*map_pages\w*|free_page_is_bad|free_tail\w*|usercopy_\w+|_*check_\w*object\w*|_*fortify_\w+"
    r"|__?asan_\w+|__tsan_\w+|__kcsan\w*|object_err|slab_\w+|_*slab_\w+|alloc_debug\w*|free_debug\w*"
    r"|free_to_partial\w*|_*kfree\w*|kfence_\w+|kmem_cache_(?:free|alloc)\w*|_*kmalloc\w*|_*kmem\w+"
    r"|asm_\w+|exc_\w+|handle_\w+|do_error\w*|_*sysvec\w*|sysvec\w*|panic|oops_\w+|die\w*|no_context"
    r"|_*bad_area\w*|page_fault_oops|delay_\w+|_*delay|__const_udelay|__ndelay|__udelay|cpu_relax"
    r"|_*alloc_pages\w*|alloc_pages\w*|get_page_from\w*|prep_new_page|post_alloc\w*|_*alloc_frozen\w*"
    r"|___?slab_alloc\w*|new_slab|allocate_slab|_*vmalloc\w*|vmalloc\w*|warn_alloc\w*|_*folio_alloc\w*"
    r"|local_clock\w*|sched_clock\w*|native_sched\w*|pvclock\w*|kvm_\w*clock\w*|ktime_get\w*"
    r"|get_signal|static_key\w*|stack_trace\w*|save_stack\w*|arch_stack\w*|unwind\w*"
    r"|native_\w+|_*flush_smp\w*|smp_call\w*|generic_smp\w*|trigger_\w+|nmi_\w+|rcu_dump\w*"
    r"|rcu_(?:check|sched_clock|pending)\w*|update_process\w*|tick_\w+|_*hrtimer\w*|hrtimer\w*"
    r"|touch_\w+|watchdog_\w+|irq_exit\w*|_*irq_\w+|local_bh\w*|_*local_bh\w*|do_softirq\w*"
    r"|(?:default|native|do|cpuidle|pv_native|acpi|mwait|arch_cpu|call_cpuidle)\w*idle\w*"
    r"|cpu_startup_entry|cpu_idle\w*|rest_init|start_kernel|start_secondary|ret_from_fork\w*"
    r"|x86_64_start\w*|secondary_startup\w*|common_startup\w*|kthread|rcu_gp_\w+"
    r"|timer_\w+|_*run_timer\w*|call_timer_fn|handle_softirqs|expire_timers|get_next_timer\w*"
    r"|_*rcu_read_\w+|memcpy|memset|memmove|_*memcpy|_*memset|_*memmove"
)

# In this order, on the first line of a report.
_VARIES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"^WARNING: CPU: ?\d+ PID: ?\d+ at (\S+) (\S+).*", r"WARNING: \1 at \2"),
        (r"^WARNING: (\S+:\d+) at (\S+?),? CPU#\d+: .*", r"WARNING: \1 at \2"),
        (r"^WARNING: \S+/\d+ still", "WARNING: still"),
        (r"^BUG: \S+/\d+ still", "BUG: still"),
        (r"^.* invoked oom-killer: .*", "oom-killer invoked"),
        (r"^((?:Memory cgroup o|O)ut of memory: Killed process).*", r"\1"),
        (r"^.*: (page allocation (?:failure|stalls)\b[^,]*?order:\d+).*", r"\1"),
        (r"^.*: (vmalloc error: size) \d+(.*?), mode:.*", r"\1 N\2"),
        (r"^INFO: task .*(?:blocked|stuck) .*for more than \d+ seconds.*", "INFO: task hung"),
        (r"^(?:NMI )?(?:watchdog: )?(BUG: soft lockup) .*", r"\1"),
        (r"^.*(Watchdog detected hard LOCKUP).*", r"\1"),
        (r"^(?:rcu: )?(INFO: rcu\S* (?:self-)?detected.* stalls?).*", r"\1"),
        (r"^(BUG: workqueue lockup).*", r"\1"),
        (r"^(BUG: workqueue leaked[^:]*): .*", r"\1"),
        (r"^.*(csd: Detected non-responsive CSD lock).*?(func\(\S*)?$", r"\1"),
        (r"^(BUG: scheduling while atomic).*", r"\1"),
        (r"^(BUG: Bad page \w+) in process .*", r"\1"),
        (r"^(BUG: Bad rss-counter state) .*(type:\w+).*", r"\1 \2"),
        (r"^(BUG: non-zero pgtables_bytes) .*", r"\1"),
        (r"^(BUG: \w+lock [^,]*?) on CPU#\d+, .*", r"\1"),
        (r"^(BUG \S+) \([^)]*\): ", r"\1: "),
        (r"^\[(.* overwritten)\] 0x.*", r"\1"),
        (r"^(BUG: unable to handle [^:]*?)(?: for address)?(?:: | at ).*", r"\1"),
        (r"^(BUG: kernel NULL pointer dereference),.*", r"\1"),
        (r"^(?:Oops: )?(general protection fault)\b.*", r"\1"),
        (r"^(?:Oops: )?(divide error|invalid opcode|int3|stack segment|double fault): .*", r"\1"),
        (r"^(BUG: \w+ stack guard page was hit) .*", r"\1"),
        (r"^(DEBUG_RWSEMS_WARN_ON\(.*?\)): count = .*", r"\1"),
        (r"^kmemleak: unreferenced object .*", "kmemleak: unreferenced object"),
        (r"^kmemleak: \d+ new suspected memory leaks?.*", "kmemleak: new suspected memory leaks"),
        (r"^(ODEBUG: .*?)object: .*? (object type: \w+).*", r"\1\2"),
        (r"^(ODEBUG: .*?object type: \w+).*", r"\1"),
        (r"^(list_\w+ (?:corruption|double add)[.:]).*", r"\1"),
        (r"^(EXT4-fs error) \(device [^)]*\)(?:: | in )(\w+):\d+:", r"\1: \2:"),
        (r"^(EXT4-fs(?: warning)?) \([^)]*\):", r"\1:"),
        (r"^XFS \([^)]*\):", "XFS:"),
        (r"\b(inode) #?\d+: (?:block \d+: )?(?:comm \S+: )?", r"\1: "),
        (r"\bcomm \S+: ", ""),
        # UBSAN tells where the source lay when it was compiled.
        (
            r"(?<= )/\S*?/(?=(?:arch|block|crypto|drivers|fs|include|init|io_uring|ipc|kernel|lib"
            r"|mm|net|security|sound|virt)/)",
            "",
        ),
        # A patch above it moves a line; the report has it.
        (r"\b((?:[\w-]+/)*[\w-]+\.[chS]):\d+(?::\d+)?\b", r"\1"),
        (r"\b(on device|for) [a-z]+\d*-\d+", r"\1 journal"),
        (r"\bdev \w+,? ?", "dev, "),
        (r"\bCPU#\d+", "CPU#N"),
        (r"\b[Cc][Pp][Uu] ?\d+", "CPU N"),
        (r"\b([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\w+\])?", r"\1"),
        (r"\.(?:constprop|isra|part|cold|llvm)\b[.\d]*", ""),
        (r"\b(?:0x)?(?:[0-9a-f]{16}|[0-9a-f]{12})\b|(?<!exitcode=)0x[0-9a-f]{8,}", "ADDR"),
        (r"\(-?\d+:-?\d+\)", "(N:N)"),
        (
            r"\b(sector|block|inode|ino|daddr|lblk|offset|index|len|pid|pfn|size|process)"
            r"([ :=#]+)(?:0x[0-9a-f]+|\d+)",
            r"\1\2N",
        ),
        (r"(?<=[\s(:=#\[])(?:0x[0-9a-f]+|\d+) ?(?=(?:s|ms|us|ns|seconds|jiffies)\b)", "N "),
    )
)
# File systems put numbers everywhere.
_NUMBER = re.compile(r"(?<![\w.])#?(?:0x[0-9a-f]+|\d+)\b(?!\.c)")
_NUMBERED = frozenset({"ext4_error", "xfs_error", "io_error"})


def compose(complaint: Complaint, header: str, lines: Sequence[str]) -> str:
    """The title of a report: `header` is its first line, `lines` all of them."""
    title = _words(header.strip(), complaint.kind in _NUMBERED)
    where = _where(complaint, lines)
    if where and not re.search(rf"\b{re.escape(where)}\b", title):
        title += f" in {where}"
    return " ".join(title.split())[:MAX_TITLE]


@lru_cache(maxsize=4096)  # a flood is mostly the same line again
def _words(header: str, numbered: bool) -> str:
    title = header
    for pattern, instead in _VARIES:
        title = pattern.sub(instead, title)
    if numbered:
        title = _NUMBER.sub("N", title)
    return title.strip(" .,:!;") or header


def _where(complaint: Complaint, lines: Sequence[str]) -> str:
    if complaint.where == "sleep":
        return _sleep(lines)
    if complaint.where == "lock":
        at = next((match for line in lines if (match := _AT.match(line))), None)
        if at is not None and not _idle(at[1]):
            return _bare(at[1])
    if complaint.where == "rip":
        for line in lines:
            match = _RIP.match(line)
            if match and not _idle(match[1]):
                return _bare(match[1])
    if complaint.where:
        found = next((name for name in frames(lines) if not _idle(name)), "")
        if found or complaint.wide:  # an idle CPU's stack has nothing but doubtful ones
            return found
        return next((name for name in frames(lines, "? ") if not _idle(name)), "")
    return ""


def _sleep(lines: Sequence[str]) -> str:
    """What a task waits in, and who called that: `mutex_lock`, called from `ext4_x`."""
    names = [name for name in frames(lines) if not _SCHEDULER.fullmatch(name)]
    if not names:
        return ""
    caller = next((name for name in names if not _WAITING.fullmatch(name)), names[0])
    return names[0] if caller == names[0] else f"{names[0]}, called from {caller}"


def _idle(name: str) -> bool:
    return bool(
        _REPORTING.fullmatch(name) or _WAITING.fullmatch(name) or _SCHEDULER.fullmatch(name)
    )


def frames(lines: Sequence[str], mark: str = "") -> Iterator[str]:
    """The functions of a report's stack trace, innermost first.

    `mark`: "? " for the doubtful ones instead, which the kernel only found on the stack.
    """
    for line in lines:
        match = _FRAME.match(line)
        if match and (match[1] or "") == mark:
            yield _bare(match[2])


def _bare(name: str) -> str:
    return _SUFFIX.sub("", name)
