# SPDX-License-Identifier: GPL-2.0
"""The console reader, line by line; tests/corpus/ has whole logs of real kernels."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.guest.splat import MAX_REPORTS, Splat, emulator_fault, panic_line, scan
from tests.corpus.record import LOGS

CLEAN = (LOGS / "first-clean.log").read_bytes()


def test_a_real_hung_task_whole() -> None:
    (found,) = scan((LOGS / "first-hung-task.log").read_bytes())
    assert found.title == "INFO: task hung in percpu_rwsem_wait, called from mnt_want_write"
    assert "percpu_rwsem_wait" in found.text
    assert found.text.endswith("</TASK>")


def test_a_real_panic_line() -> None:
    log = (LOGS / "first-panic.log").read_bytes()
    assert panic_line(log) == "Kernel panic - not syncing: sysrq triggered crash"
    assert panic_line(CLEAN) == ""


KUNIT = b"""\
[    1.1]     KTAP version 1
[    1.1]     # Subtest: range_lock
[    1.1]     # module: range_lock_test
[    1.1]     1..3
[    1.2]     ok 1 range_lock_shared
[    1.3]     # range_lock_order: EXPECTATION FAILED at kernel/locking/range_lock_test.c:77
[    1.3]     Expected got == 1, but
[    1.3]         got == 2 (0x2)
[    1.3]     not ok 2 range_lock_order
[    1.4]     ok 3 range_lock_killed # SKIP no threads
[    1.4] # range_lock: pass:1 fail:1 skip:1 total:3
[    1.4] not ok 1 range_lock
[    1.5] ok 2 list-kunit-test
"""


def test_a_test_of_the_kernels_own_that_failed_is_a_splat() -> None:
    test, suite = scan(KUNIT)
    assert (test.kind, suite.kind) == ("kunit", "kunit")
    assert test.title == (
        "# range_lock_order: EXPECTATION FAILED at kernel/locking/range_lock_test.c"
    )
    assert "got == 2" in test.text and test.text.endswith("not ok 2 range_lock_order")
    assert suite.text == "not ok 1 range_lock"
    assert scan(KUNIT.replace(b"not ok", b"ok").replace(b"EXPECTATION FAILED", b"said")) == []


# After the format strings of Linux 6.12 and, where they differ, 7.x.
LINES = [
    ("warning", "WARNING: CPU: 1 PID: 77 at fs/ext4/inode.c:123 ext4_x+0x1/0x2"),
    ("warning", "WARNING: fs/xfs/xfs_file.c:99 at xfs_x+0x1/0x2, CPU#1: fsx/77"),
    ("bug", "kernel BUG at mm/filemap.c:1234!"),
    ("atomic", "BUG: sleeping function called from invalid context at mm/x.c:1"),
    ("bad_page", "BUG: Bad page state in process fsx  pfn:12345"),
    ("atomic", "BUG: scheduling while atomic: fsx/77/0x00000002"),
    ("oops", "BUG: unable to handle page fault for address: ffffc90000123456"),
    ("oops", "BUG: kernel NULL pointer dereference, address: 0000000000000008"),
    ("oops", "Oops: general protection fault, probably for non-canonical address 0xdead: 0000"),
    ("oops", "general protection fault: 0000 [#1] SMP"),
    ("kasan", "BUG: KASAN: slab-use-after-free in filemap_fault+0x1/0x2"),
    ("kfence", "BUG: KFENCE: use-after-free read in x+0x1/0x2"),
    ("kcsan", "BUG: KCSAN: data-race in a / b"),
    ("ubsan", "UBSAN: array-index-out-of-bounds in fs/x.c:1:2"),
    ("lockdep", "WARNING: possible circular locking dependency detected"),
    ("lockdep", "WARNING: possible recursive locking detected"),
    ("lockdep", "WARNING: inconsistent lock state"),
    ("lockdep", "WARNING: suspicious RCU usage"),
    ("lockdep", "WARNING: bad unlock balance detected!"),
    ("lockdep", "WARNING: lock held when returning to user space!"),
    ("lockdep", "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected"),
    ("lockdep", "WARNING: fsx/77 still has locks held!"),
    ("lockdep", "[ BUG: Invalid wait context ]"),
    ("lockdep", "INFO: trying to register non-static key."),
    ("soft_lockup", "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [fsx:77]"),
    ("hard_lockup", "watchdog: Watchdog detected hard LOCKUP on cpu 1"),
    ("hard_lockup", "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1"),
    ("rcu_stall", "rcu: INFO: rcu_sched self-detected stall on CPU"),
    ("rcu_stall", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
    ("rcu_stall", "rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 1-... }"),
    ("hung_task", "INFO: task kworker/u8:1:77 blocked for more than 20 seconds."),
    ("hung_task", "INFO: task fsx:77 blocked in I/O wait for more than 20 seconds."),
    ("init_died", "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"),
    ("oom", "Out of memory: Killed process 77 (fsx) total-vm:1kB"),
    ("oom", "fsx invoked oom-killer: gfp_mask=0x1(GFP), order=0, oom_score_adj=0"),
    ("ext4_error", "EXT4-fs error (device vda): ext4_lookup:1: inode #2: comm ls: bad"),
    ("ext4_error", "Aborting journal on device vda-8."),
    ("xfs_error", "XFS (vda): Internal error x at line 1 of file y.c.  Caller z+0x1/0x2"),
    ("xfs_error", "XFS (vda): Corruption of in-memory data (0x8) detected at x+0x1/0x2"),
    ("xfs_error", "XFS: Assertion failed: 0, file: fs/xfs/x.c, line: 1"),
    ("xfs_error", "XFS (vda): Filesystem has been shut down due to log error (0x2)."),
    ("io_error", "I/O error, dev vda, sector 8 op 0x1:(WRITE) flags 0x800"),
    ("io_error", "Buffer I/O error on dev vda, logical block 1, lost async page write"),
    ("panic", "Kernel panic - not syncing: Fatal exception in interrupt"),
    ("list_corruption", "list_add corruption. next->prev should be prev (ffff), but was ffff."),
    ("list_corruption", "list_del corruption, ffff888->next is LIST_POISON1 (dead000000000100)"),
    ("refcount", "refcount_t: underflow; use-after-free."),
    ("bad_page", "BUG: Bad page map in process fsx  pte:800 pmd:12"),
    ("bad_page", "BUG: Bad page cache in process fsx pfn:12345"),
    ("bad_page", "BUG: Bad rss-counter state mm:ffff88 type:MM_FILEPAGES val:7"),
    ("slab", "BUG kmalloc-64 (Not tainted): Right Redzone overwritten"),
    ("usercopy", "usercopy: Kernel memory exposure attempt detected from SLUB object 'x' (o 0)!"),
    ("fortify", "memcpy: detected buffer overflow: 17 byte write of buffer size 16"),
    ("alloc_failure", "fsx: page allocation failure: order:4, mode:0xcc0(GFP_KERNEL), nodemask=0"),
    ("workqueue_lockup", "BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 stuck for 31s!"),
    ("csd_lockup", "smp: csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 50 ns"),
    ("odebug", "ODEBUG: free active (active state 0) object: ffff object type: timer_list hint: x"),
    ("lockdep", "DEBUG_LOCKS_WARN_ON(lock->magic != lock)"),
    ("oops", "divide error: 0000 [#1] PREEMPT SMP"),
    ("oops", "Oops: divide error: 0000 [#1] PREEMPT SMP"),
    ("ext4_error", "JBD2: Error -5 detected when updating journal superblock for vda-8."),
    ("xfs_error", "XFS (vda): log I/O error -5"),
    ("xfs_error", "XFS (vda): User initiated shutdown received."),
    ("kmemleak", "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"),
]
STAMPS = ["", "[    1.234567] ", "[123.678901][  T12] ", "<4>[    1.234567] ", "[    1.2][    C1] "]
# What a program may have left on the line before the kernel speaks.
BEFORE = ["", "login: ", "\x1b[6n", "\x1b[1;31mred", "\0\0"]


@pytest.mark.parametrize(("kind", "line"), LINES)
def test_lines(kind: str, line: str) -> None:
    for stamp in STAMPS:
        for end in ("\n", "\r\n", ""):
            log = f"[    1.0] before{end or chr(10)}{stamp}{line}{end}".encode()
            assert [each.kind for each in scan(log)] == [kind], (stamp, end)


@pytest.mark.parametrize("before", BEFORE)
def test_a_line_that_a_program_began(before: str) -> None:
    for kind, line in LINES:
        log = f"{before}[   12.345678][   C1] {line}\r\n".encode()
        assert [each.kind for each in scan(log)] == [kind], line


@pytest.mark.parametrize(
    "line",
    [
        "sysrq: Show Blocked State",
        "task:fsx             state:D stack:0     pid:77    tgid:77",
        "ext4: a program says WARNING: in the middle",
        "EXT4-fs (vda): mounted filesystem r/w with ordered data mode.",
        "XFS (vda): Ending clean mount",
        "---[ end trace 0000000000000000 ]---",
        "kernel debugging: no BUGs today",
        '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.',
        "rcu: Hierarchical RCU implementation.",
        "INFO: lockdep is turned off.",
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled",
        "RAS: Correctable Errors collector initialized.",
        "FAULT_INJECTION: forcing a failure.",
        "EXT4-fs (vda): re-mounted 12 ro.",
        "EXT4-fs (vda): recovery complete",
        "XFS (vda): Starting recovery (logdev: internal)",
        "NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
        "kmemleak: Kernel memory leak detector initialized (mem pool available: 15679)",
        "workqueue: provoke_stuck_work hogged CPU for >10000us 4 times",
        "clocksource: Long readout interval, skipping watchdog check",
        "Oopsie: a driver of that name",
    ],
)
def test_no_false_alarm(line: str) -> None:
    assert scan(f"[    1.000000] {line}\r\n".encode()) == []


OOPS = """\
[    5.000000] BUG: unable to handle page fault for address: ffffc90000123456
[    5.000001] #PF: supervisor read access in kernel mode
[    5.000002] Oops: Oops: 0000 [#1] PREEMPT SMP
[    5.000003] CPU: 1 UID: 0 PID: 77 Comm: fsx Not tainted 6.12.0 #1
[    5.000004] Call Trace:
[    5.000005]  <TASK>
[    5.000006]  filemap_fault+0x1/0x2
[    5.000007]  </TASK>
[    5.000008] ---[ end trace 0000000000000000 ]---
[    5.100000] RIP: 0010:filemap_fault+0x1/0x2
[    5.200000] Kernel panic - not syncing: Fatal exception
[    5.300000] Kernel Offset: disabled
[    5.400000] ---[ end Kernel panic - not syncing: Fatal exception ]---
[    6.000000] WARNING: CPU: 0 PID: 1 at x.c:1 x+0x1/0x2
"""


def test_one_report_each_and_whole() -> None:
    oops, panic, warning = scan(OOPS.encode())
    assert (oops.kind, panic.kind, warning.kind) == ("oops", "panic", "warning")
    assert oops.sub == "page_fault"
    assert oops.title == "BUG: unable to handle page fault in filemap_fault"
    assert oops.text.endswith("---[ end trace 0000000000000000 ]---")
    assert panic.title == "Kernel panic - not syncing: Fatal exception"
    assert panic.text.endswith("]---") and "WARNING" not in panic.text


RUN = """\
WARNING: CPU: {cpu} PID: {pid} at a.c:12 f.constprop.0+0x{pid}/0x2
INFO: task {name}:{pid} blocked for more than {seconds} seconds.
task:{name}  state:D stack:0     pid:{pid}
Call Trace:
 <TASK>
 __schedule+0x{pid}/0x45f
 schedule+0x27/0x38
 ? doubtful+0x1/0x2
 rwsem_down_write_slowpath+0x1/0x{pid}
 down_write+0x1/0x{pid}
 ext4_fallocate+0x1/0x{pid}
 </TASK>
watchdog: BUG: soft lockup - CPU#{cpu} stuck for {seconds}s! [{name}:{pid}]
RIP: 0010:delay_tsc+0x{pid}/0x39
Call Trace:
 <TASK>
 __const_udelay+0x1/0x2
 spins+0x1/0x{pid}
 </TASK>
BUG: KASAN: slab-use-after-free in filemap_fault+0x{pid}/0x2
==================================================================
BUG: Bad page state in process {name}  pfn:{pid}
 </TASK>
EXT4-fs error (device vd{disk}): ext4_lookup:1853: inode #{pid}: comm {name}: bad {pid}
XFS (vd{disk}): Metadata CRC error detected at xfs_x+0x{pid}/0x42, xfs_inobt block 0x{pid}
I/O error, dev vd{disk}, sector {pid} op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 0
{name} invoked oom-killer: gfp_mask=0x140cca(GFP_X), order=0, oom_score_adj=0
Out of memory: Killed process {pid} ({name}) total-vm:{pid}kB, anon-rss:{pid}kB
{name}: page allocation failure: order:4, mode:0xcc0(GFP_KERNEL), nodemask=(null),cpuset=/
{pid} pages reserved
kmemleak: {pid} new suspected memory leaks (see /sys/kernel/debug/kmemleak)
"""


def test_titles_do_not_depend_on_the_run() -> None:
    def titles(**run: object) -> list[str]:
        return [each.title for each in scan(RUN.format(**run).encode())]

    one = titles(cpu=0, pid=77, seconds=20, name="fsx", disk="a")
    assert one == titles(cpu=1, pid=1234, seconds=143, name="kworker/u8:1", disk="b")
    assert one == [
        "WARNING: a.c at f",
        "INFO: task hung in rwsem_down_write_slowpath, called from ext4_fallocate",
        "BUG: soft lockup in spins",
        "BUG: KASAN: slab-use-after-free in filemap_fault",
        "BUG: Bad page state",
        "EXT4-fs error: ext4_lookup: inode: bad N",
        "XFS: Metadata CRC error detected at xfs_x, xfs_inobt block N",
        "I/O error, dev, sector N op N:(WRITE) flags N phys_seg N prio class N",
        "oom-killer invoked",
        "page allocation failure: order:4",
        "kmemleak: new suspected memory leaks",
    ]


def test_one_title_for_the_old_and_the_new_form_of_a_warning() -> None:
    old = scan(b"WARNING: CPU: 1 PID: 77 at fs/x.c:9 x_y+0x1/0x2")
    new = scan(b"WARNING: fs/x.c:9 at x_y+0x1/0x2, CPU#1: fsx/77")
    assert (
        [each.title for each in old] == [each.title for each in new] == ["WARNING: fs/x.c at x_y"]
    )


TWO = [
    "[    5.000001][   T{0}] ------------[ cut here ]------------",
    "[    5.000002][   T{0}] WARNING: CPU: {0} PID: 7{0} at a.c:{0} f{0}+0x1/0x2",
    "[    5.000003][   T{0}] Call Trace:",
    "[    5.000004][   T{0}]  g{0}+0x1/0x2",
    "[    5.000005][   T{0}] ---[ end trace 0000000000000000 ]---",
]


def test_two_reports_that_are_mixed_are_told_apart() -> None:
    mixed = "\n".join(line.format(task) for line in TWO for task in (1, 2)).encode()
    one, two = scan(mixed)
    assert one.interleaved and two.interleaved
    assert (one.title, two.title) == ("WARNING: a.c at f1", "WARNING: a.c at f2")
    assert "f2" not in one.text and "f1" not in two.text
    assert len(one.text.split("\n")) == len(two.text.split("\n")) == len(TWO)
    apart = "\n".join(line.format(task) for task in (1, 2) for line in TWO).encode()
    assert scan(apart) == [
        Splat(each.kind, each.title, each.text, each.sub, False) for each in (one, two)
    ]


def test_a_report_that_names_two_cpus_is_mixed() -> None:
    plain = [line.partition("] ")[2] for line in TWO]
    log = "\n".join(line.format(task) for line in plain for task in (1, 2)).encode()
    assert any(each.interleaved for each in scan(log))
    log = "\n".join(line.format(task) for task in (1, 2) for line in plain).encode()
    assert [each.interleaved for each in scan(log)] == [False, False]


def test_a_fault_of_the_emulator() -> None:
    assert "int3" in emulator_fault(b"[    0.59] Oops: int3: 0000 [#1] SMP\r\n")
    assert "int3" in emulator_fault(b"[    0.59] int3: 0000 [#1] SMP\r\n")
    assert emulator_fault(OOPS.encode()) == ""
    assert emulator_fault(CLEAN) == ""


JUNK = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([line.encode() for _kind, line in LINES]),
        st.sampled_from([b"\r\n", b"\n", b"\0", b"[    1.000000] ", b"---[ end trace", b"=" * 30]),
    ),
    max_size=30,
).map(b"".join)


CONTROL = dict.fromkeys((*range(9), *range(10, 32), *range(127, 160)))


@given(JUNK)
def test_never_raises_and_quotes_only_the_log(log: bytes) -> None:
    lines = log.replace(b"\r", b"\n").decode(errors="replace")
    lines = "\n".join(line.translate(CONTROL) for line in lines.split("\n"))
    for each in scan(log):
        assert each.title and each.text
        assert each.title.isprintable() or not each.title.isascii()
        if "\x1b" not in log.decode(errors="replace"):
            assert all(line.strip() in lines for line in each.text.split("\n"))
    assert bool(panic_line(log)) == (b"Kernel panic - not syncing" in log)


@given(st.binary(max_size=200), st.sampled_from(LINES))
def test_a_complaint_among_junk_is_found(junk: bytes, known: tuple[str, str]) -> None:
    kind, line = known
    log = junk + b"\r\n[    1.000000] " + line.encode() + b"\r\n"
    assert kind in {each.kind for each in scan(log)}


REAL = b"".join(path.read_bytes() for path in sorted(LOGS.glob("*.log"))[:40])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(REAL)), st.integers(0, 20_000))
def test_any_piece_of_a_real_log(start: int, length: int) -> None:
    for each in scan(REAL[start : start + length]):
        assert each.title and each.text


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, max(0, len(REAL) - 5000)),
    st.lists(
        st.tuples(
            st.integers(0, 5000), st.sampled_from([b"\0", b"\r", b"\n", b"\x1b[31m", b"\xff", b"["])
        )
    ),
)
def test_a_real_log_with_noise(start: int, noise: list[tuple[int, bytes]]) -> None:
    log = bytearray(REAL[start : start + 5000])
    for at, what in noise:
        log[at:at] = what
    for each in scan(bytes(log)):
        assert "\x1b" not in each.text and "\0" not in each.text and "\x1b" not in each.title


WARN = b"[    1.000000] WARNING: CPU: 1 PID: %d at a.c:%d f+0x1/0x2\r\n"
FLOODS: dict[str, Callable[[int], bytes]] = {
    "one line": lambda n: b"x" * (n * 50),
    "one line of brackets": lambda n: b"[" * (n * 50),
    "one line of stamps": lambda n: b"[    1.000000] " * (n * 3),
    "one line of spaces": lambda n: b" " * (n * 50),
    "one line of escapes": lambda n: b"\x1b[" * (n * 25),
    "no complaint": lambda n: b"[    1.000000] audit: nothing of note\r\n" * n,
    "the same complaint": lambda n: WARN % (7, 7) * n,
    "other complaints": lambda n: b"".join(WARN % (i, i % 50_000) for i in range(n // 4)),
    "other callers": lambda n: b"".join(
        b"[    1.000000][T%d] WARNING: CPU: 1 PID: 7 at a.c:7 f+0x1/0x2\n" % i
        for i in range(n // 4)
    ),
    "cuts": lambda n: b"".join(
        b"[    1.000000][T%d] ------------[ cut here ]------------\n" % i for i in range(n)
    ),
    "a report without an end": lambda n: b"BUG: KASAN: x\n" + b" f+0x1/0x2\n" * n,
    "carriage returns": lambda n: b"\r" * (n * 50),
    "zeros": lambda n: b"\0" * (n * 50),
}


@pytest.mark.parametrize("name", FLOODS)
def test_time_is_linear(name: str) -> None:
    """Four times the log, less than nine times the time; if it grew as the square, sixteen times.

    The best of several tries of each, in turn: the processor is not equally fast at all times.
    """
    flood = FLOODS[name]

    def seconds(log: bytes) -> float:
        start = time.process_time()
        scan(log)
        return time.process_time() - start

    size = 2000
    while min(seconds(flood(size)) for _ in range(2)) < 0.01 and size < 500_000:
        size *= 2
    logs = [flood(size), flood(4 * size)]
    once, often = map(min, zip(*([seconds(log) for log in logs] for _ in range(4)), strict=True))
    assert often < 9 * max(once, 0.0025), (size, once, often)


def test_megabytes_are_no_trouble() -> None:
    log = b"[    1.000000] audit: something unimportant happened again\r\n" * 100_000
    assert scan(log + b"BUG: KASAN: x\r\n")[0].kind == "kasan"
    assert scan(b"x" * 10_000_000) == []
    assert scan(b"x" * 10_000_000 + b"\n[    1.000000] BUG: KASAN: x\n")[0].kind == "kasan"


def test_a_flood_of_complaints_is_told_once_it_is_long() -> None:
    found = scan(b"".join(WARN % (i, 7) for i in range(5 * MAX_REPORTS)) + b"BUG: KASAN: x\n")
    assert MAX_REPORTS <= len(found) < 3 * MAX_REPORTS
    assert found[-1].kind == "kasan"
