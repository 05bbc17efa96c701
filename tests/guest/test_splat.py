# SPDX-License-Identifier: GPL-2.0
"""The console reader, on real logs (consoles/) and on the kernel's own format strings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.guest.splat import emulator_fault, panic_line, scan

CONSOLES = Path(__file__).parent / "consoles"

# Recorded from a booted 6.12.117 under QEMU 7.2 TCG: what each must be read as.
REAL = {
    "clean": [],
    "ext4_error": ["ext4_error", "ext4_error"],
    "hung_task": ["hung_task"],
    "no_root": ["panic"],
    "oom": ["oom", "oom"],
    "panic": ["panic"],
    "xfs_error": ["xfs_error", "xfs_error", "xfs_error"],
}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONSOLES.iterdir()))
def test_real_consoles(name: str) -> None:
    log = (CONSOLES / f"{name}.log").read_bytes()
    assert [each.kind for each in scan(log)] == REAL[name]
    # The same with other ends of line and without time stamps.
    assert [each.kind for each in scan(log.replace(b"\r\n", b"\n"))] == REAL[name]


def test_a_real_hung_task_whole() -> None:
    (found,) = scan((CONSOLES / "hung_task.log").read_bytes())
    assert found.title == "INFO: task touch blocked for more than N s."
    assert "percpu_rwsem_wait" in found.text
    assert found.text.endswith("</TASK>")


def test_a_real_panic_line() -> None:
    log = (CONSOLES / "panic.log").read_bytes()
    assert panic_line(log) == "Kernel panic - not syncing: sysrq triggered crash"
    assert panic_line((CONSOLES / "clean.log").read_bytes()) == ""


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
        "# range_lock_order: EXPECTATION FAILED at kernel/locking/range_lock_test.c:77"
    )
    assert "got == 2" in test.text and test.text.endswith("not ok 2 range_lock_order")
    assert suite.text == "not ok 1 range_lock"
    assert scan(KUNIT.replace(b"not ok", b"ok").replace(b"EXPECTATION FAILED", b"said")) == []


# After the format strings of Linux 6.12 and, where they differ, 7.x.
LINES = [
    ("warning", "WARNING: CPU: 1 PID: 77 at fs/ext4/inode.c:123 ext4_x+0x1/0x2"),
    ("warning", "WARNING: fs/xfs/xfs_file.c:99 at xfs_x+0x1/0x2, CPU#1: fsx/77"),
    ("bug", "kernel BUG at mm/filemap.c:1234!"),
    ("bug", "BUG: sleeping function called from invalid context at mm/x.c:1"),
    ("bug", "BUG: Bad page state in process fsx  pfn:12345"),
    ("bug", "BUG: scheduling while atomic: fsx/77/0x00000002"),
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
    ("panic", "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"),
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
    ("kmemleak", "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"),
]
STAMPS = ["", "[    1.234567] ", "[123.678901][  T12] ", "<4>[    1.234567] ", "[    1.2][    C1] "]


@pytest.mark.parametrize(("kind", "line"), LINES)
def test_lines(kind: str, line: str) -> None:
    for stamp in STAMPS:
        for end in ("\n", "\r\n", ""):
            log = f"[    1.0] before{end or chr(10)}{stamp}{line}{end}".encode()
            assert [each.kind for each in scan(log)] == [kind], (stamp, end)


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
    assert oops.title == "BUG: unable to handle page fault for address: ADDR"
    assert "filemap_fault" in oops.text
    assert oops.text.endswith("---[ end trace 0000000000000000 ]---")
    assert panic.title == "Kernel panic - not syncing: Fatal exception"
    assert panic.text.endswith("]---") and "WARNING" not in panic.text


def test_titles_do_not_depend_on_the_run() -> None:
    def title(cpu: int, pid: int, seconds: int) -> list[str]:
        log = (
            f"WARNING: CPU: {cpu} PID: {pid} at a.c:12 f+0x1/0x2\n"
            f"INFO: task fsx:{pid} blocked for more than {seconds} seconds.\n"
            f"watchdog: BUG: soft lockup - CPU#{cpu} stuck for {seconds}s! [fsx:{pid}]\n"
        )
        return [each.title for each in scan(log.encode())]

    assert title(0, 77, 20) == title(1, 1234, 143)
    assert title(0, 77, 20)[0] == "WARNING: at a.c:12 f+0x1/0x2"


def test_a_fault_of_the_emulator() -> None:
    assert "int3" in emulator_fault(b"[    0.59] Oops: int3: 0000 [#1] SMP\r\n")
    assert "int3" in emulator_fault(b"[    0.59] int3: 0000 [#1] SMP\r\n")
    assert emulator_fault(OOPS.encode()) == ""
    assert emulator_fault((CONSOLES / "clean.log").read_bytes()) == ""


JUNK = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([line.encode() for _kind, line in LINES]),
        st.sampled_from([b"\r\n", b"\n", b"\0", b"[    1.000000] ", b"---[ end trace", b"="*30]),
    ),
    max_size=30,
).map(b"".join)


@given(JUNK)
def test_never_raises_and_quotes_only_the_log(log: bytes) -> None:
    lines = log.replace(b"\r", b"\n").decode(errors="replace")
    for each in scan(log):
        assert each.title and each.text
        assert all(line.strip() in lines for line in each.text.split("\n"))
    assert bool(panic_line(log)) == (b"Kernel panic - not syncing" in log)


@given(st.binary(max_size=200), st.sampled_from(LINES))
def test_a_complaint_among_junk_is_found(junk: bytes, known: tuple[str, str]) -> None:
    kind, line = known
    log = junk + b"\r\n[    1.000000] " + line.encode() + b"\r\n"
    assert kind in {each.kind for each in scan(log)}


def test_megabytes_are_no_trouble() -> None:
    log = b"[    1.000000] audit: something unimportant happened again\r\n" * 100_000
    assert scan(log + b"BUG: KASAN: x\r\n")[0].kind == "kasan"
    assert scan(b"x" * 5_000_000) == []
