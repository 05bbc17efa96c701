# SPDX-License-Identifier: GPL-2.0
"""Who waits for what: read from what guests and QEMU really print."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.guest import hang

# Of /proc/<pid>/stack, by the script that is run in the guest.
STACKS = """\
== punch-read-faul (91) S (sleeping), futex_wait_queue
[<0>] futex_wait_queue+0x5d/0x90
[<0>] __futex_wait+0x14c/0x1c0
[<0>] do_syscall_64+0x54/0x100
== race-b (93) D (disk sleep), rwsem_down_read_slowpath
[<0>] rwsem_down_read_slowpath+0x1a4/0x4a0
[<0>] filemap_fault+0x6c8/0xa90
[<0>] __do_fault+0x2d/0x120
[<0>] handle_mm_fault+0xa0c/0x1170
== race-a (92) R (running), 0
"""
# Of SysRq w, as the console has it.
BLOCKED = """\
[    7.123456] sysrq: Show Blocked State
[    7.123999] task:mkdir           state:D stack:0     pid:88    tgid:88    ppid:80     flags:0x2
[    7.124001] Call Trace:
[    7.124002]  <TASK>
[    7.124003]  __schedule+0x2f3/0x6b0
[    7.124004]  schedule+0x27/0x90
[    7.124005]  percpu_rwsem_wait+0x10f/0x140
[    7.124006]  ? __pfx_percpu_rwsem_wake_function+0x10/0x10
[    7.124006]  ? doubtful.constprop.0+0x10/0x10
[    7.124007]  mnt_want_write+0x8e/0xa0
[    7.124008]  filename_create+0x6f/0x180
[    7.124009]  </TASK>
[    7.124010]  not_of_that_task+0x1/0x2
"""
def test_racers_come_first_and_sleeping_is_not_a_reason() -> None:
    told = hang.summary({"stacks.txt": STACKS, "sysrq.txt": BLOCKED})
    assert told == (
        "race-b waits in rwsem_down_read_slowpath < filemap_fault < __do_fault; race-a runs;"
        " punch-read-faul waits in futex_wait_queue < __futex_wait < do_syscall_64"
    )


ACTIVE = """\
[    9.000000] sysrq: Show backtrace of all active CPUs
[    9.000001] NMI backtrace for cpu 1
[    9.000002] CPU: 1 UID: 0 PID: 92 Comm: race-a Not tainted 6.12.117-x #1
[    9.000003] Hardware name: QEMU
[    9.000004] RIP: 0010:provoke_loop+0x13/0x40 (lib/provoke.c:700)
[    9.000005] Code: 00
[    9.000005] RSP: 0018:ffffc90000213d90 EFLAGS: 00000046
[    9.000005] Call Trace:
[    9.000005]  <NMI>
[    9.000005]  ? nmi_cpu_backtrace+0xdb/0xff
[    9.000005]  </NMI>
[    9.000005]  <TASK>
[    9.000005]  provoke_write+0x3d/0x60 (lib/provoke.c:1008 lib/x.h:3)
[    9.000005]  vfs_write+0xd0/0x3a0
[    9.000005]  </TASK>
[    9.000005]  not_of_it+0x1/0x2
[    9.000006] CPU: 0 UID: 0 PID: 0 Comm: swapper/0
"""


def test_who_runs_runs_somewhere() -> None:
    told = hang.summary({"stacks.txt": STACKS, "sysrq.txt": ACTIVE + BLOCKED})
    assert (
        "; race-a runs in provoke_loop (lib/provoke.c:700) < provoke_write (lib/provoke.c:1008)"
        " < vfs_write; "
    ) in told


def test_locks_that_proc_leaves_out_are_taken_from_the_kernels_own_list() -> None:
    stacks = "== mkdir (88) D (disk sleep), mnt_want_write\n[<0>] mnt_want_write+0x8e/0xa0\n"
    told = hang.summary({"stacks.txt": stacks, "sysrq.txt": BLOCKED})
    assert told == "mkdir waits in percpu_rwsem_wait < mnt_want_write < filename_create"


def test_places_follow_functions() -> None:
    stacks = STACKS.replace("slowpath+0x1a4/0x4a0", "slowpath+0x1a4/0x4a0 (kernel/x.c:1 k.h:2)")
    told = hang.summary({"stacks.txt": stacks})
    assert told.startswith("race-b waits in rwsem_down_read_slowpath (kernel/x.c:1) < filemap_fa")


def test_a_program_that_ended_does_not_hang() -> None:
    command = "/workloads/gates/truth-of-long-name --dir /mnt"
    idle = "[ 1.0] sysrq: Show State\n[ 1.0] task:init            state:S stack:0 pid:1\n"
    assert hang.ended({"sysrq.txt": idle}, command)
    for more in (
        "[ 1.0] task:race-a          state:R  running task\n",
        "[ 1.0] task:truth-of-long-n state:S stack:0\n",
        "[ 1.0] task:kworker/u8:1    state:D stack:0\n",
    ):
        assert not hang.ended({"sysrq.txt": idle + more}, command)
    assert not hang.ended({"sysrq.txt": idle}, "mkfs.ext4 /dev/vda")  # whose end nobody knows
    assert not hang.ended({"sysrq.txt": "(no answer)"}, command)
    assert not hang.ended({}, command)


def test_without_ssh_the_kernel_is_asked() -> None:
    told = hang.summary({"stacks.txt": "SSH: refused\n", "sysrq.txt": BLOCKED})
    assert told == "mkdir waits in percpu_rwsem_wait < mnt_want_write < filename_create"


def test_when_nobody_waits_the_cpus_are_somewhere() -> None:
    told = hang.summary({"stacks.txt": "", "sysrq.txt": "", "cpus.txt": "CPU 0 is\nCPU 1 runs\n"})
    assert told == "CPU 0 is; CPU 1 runs"
    assert hang.summary({}) == ""


def test_a_crowd_is_cut() -> None:
    many = "".join(f"== w{n} (1{n}) D (disk sleep), x\n[<0>] wait_{n}+0x1/0x2\n" for n in range(9))
    told = hang.summary({"stacks.txt": many})
    assert told.endswith("w3 waits in wait_3; and 5 more")


@given(st.dictionaries(st.sampled_from(["stacks.txt", "sysrq.txt", "cpus.txt"]), st.text()))
def test_never_raises(files: dict[str, str]) -> None:
    hang.summary(files)
