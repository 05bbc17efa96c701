# SPDX-License-Identifier: GPL-2.0
"""How each console log of the corpus is made: a kernel, a shell script, what must come of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FAST_HANGS = "echo 3 >/proc/sys/kernel/hung_task_timeout_secs"
FAST_LOCKUPS = "echo 1 >/proc/sys/kernel/watchdog_thresh"
STALLS = ("rcupdate.rcu_cpu_stall_timeout=3",)
SLAB_DEBUG = ("slab_debug=FZPU",)


@dataclass(frozen=True)
class Recipe:
    """One log.

    script: run in the guest by its shell, in the background.  wants: the sorts of report
    ("kind" or "kind/sub") that the log must have, among others, in this order; none = the
    log must have none at all.  filesystem: made and mounted on /mnt first.  seconds: how
    long to wait for them on a host that is not busy; a log that wants nothing is that long.
    """

    name: str
    kernel: str
    script: str
    wants: tuple[str, ...]
    cmdline: tuple[str, ...] = ()
    filesystem: str = ""
    seconds: float = 12.0
    boots: bool = True  # it gets to user space


def _provoke(what: str) -> str:
    return f"echo {what} >/sys/kernel/debug/provoke/trigger"


def _lkdtm(what: str) -> str:
    return f"echo {what} >/sys/kernel/debug/provoke-crash/DIRECT"


def _fail_io(times: int = -1) -> str:
    knobs = {"probability": 100, "interval": 1, "times": times, "verbose": 0}
    told = [f"echo {value} >/sys/kernel/debug/fail_make_request/{k}" for k, value in knobs.items()]
    return "; ".join([*told, "echo 1 >/sys/block/vda/make-it-fail"])


def _lockdep() -> Iterator[Recipe]:
    for what, *wants in (
        ("circular", "lockdep/circular"),
        ("circular-rwsem", "lockdep/circular"),
        ("recursive", "lockdep/recursive"),
        ("inconsistent", "lockdep/inconsistent"),
        ("inconsistent-softirq", "lockdep/inconsistent"),
        ("irq-order", "lockdep/irq_order"),
        ("irq-inversion", "lockdep/irq_inversion"),
        ("unlock-rwsem", "lockdep/unlock"),
        ("free-held", "lockdep/freed"),
        ("wait-context", "atomic/sleeping"),
        ("rcu", "lockdep/rcu"),
        ("rcu-sleep", "atomic/sleeping"),
        ("return", "lockdep/user_return"),
        ("exit-held", "lockdep/exit_held"),
        ("nested", "lockdep/nested"),
        ("no-key", "lockdep/no_key"),
        ("not-owner", "lockdep/unlock"),
        ("work-leak", "atomic/leaked"),
        ("range-recursive", "lockdep/recursive"),
        ("range-circular", "lockdep/circular"),
        ("range-read", "lockdep/recursive"),
        ("range-return", "lockdep/user_return"),
        ("range-deadlock", "lockdep/circular", "hung_task"),
        ("hang-mutex", "lockdep/recursive", "hung_task"),
    ):
        yield Recipe(
            f"lockdep-{what}",
            "provoke-debug",
            f"{FAST_HANGS}; {_provoke(what)}",
            tuple(wants),
            seconds=25 if "hung_task" in wants else 12,
        )


def _memory() -> Iterator[Recipe]:
    for what in (
        "slab-overflow",
        "slab-read",
        "slab-after-free",
        "slab-twice",
        "slab-invalid",
        "stack-out",
        "global-out",
        "vmalloc-out",
    ):
        yield Recipe(f"kasan-{what}", "provoke-debug", _provoke(what), ("kasan",))
    for what in ("read", "out", "free", "corrupt"):
        yield Recipe(
            f"kfence-{what}",
            "provoke",
            _provoke(f"kfence-{what}"),
            ("kfence",),
            ("kfence.sample_interval=1",),
        )
    for what in ("overflow", "after-free", "twice", "invalid"):
        yield Recipe(f"slab-{what}", "provoke", _provoke(f"slab-{what}"), ("slab",), SLAB_DEBUG)
    for what in ("race", "race-write", "race-assert"):
        script = f"echo on >/sys/kernel/debug/kcsan; {_provoke(what)}"
        yield Recipe(f"kcsan-{what}", "provoke-kcsan", script, ("kcsan",), seconds=30)
    for what, want in (
        ("bad-page", "bad_page/state"),
        ("bad-refcount", "bug/assertion"),
        ("folio", "bug/assertion"),
        ("vm-warn", "warning"),
        ("order", "alloc_failure"),
        ("vmalloc", "alloc_failure"),
        ("too-large", "warning"),
        ("timer-free", "odebug"),
    ):
        yield Recipe(f"memory-{what}", "provoke", f"sh -c '{_provoke(what)}'", (want,))
    # A CPU that idles keeps the memory of the process that it ran last.
    others = "for i in 1 2 3 4 5 6; do sleep 0.2; ls / & ls /; done"
    yield Recipe(
        "memory-bad-rss",
        "provoke",
        f"sh -c '{_provoke('bad-rss')}'; {others}",
        ("bad_page/rss",),
    )
    yield Recipe(
        "memory-poison", "provoke", _provoke("poison"), ("bad_page/poison",), ("page_poison=1",)
    )
    fill = "mount -o remount,size=4G /dev/shm; dd if=/dev/zero of=/dev/shm/all bs=1M"
    yield Recipe("oom", "provoke", fill, ("oom",), seconds=30)
    yield Recipe(
        "panic-oom",
        "provoke",
        f"echo 1 >/proc/sys/vm/panic_on_oom; {fill}",
        ("panic",),
        seconds=40,
    )
    leak = "; ".join(
        [f"sh -c '{_provoke('kmemleak')}'", *["sleep 6; echo scan >/sys/kernel/debug/kmemleak"] * 3]
    )
    yield Recipe("kmemleak", "provoke", leak, ("kmemleak",), ("kmemleak=on",), seconds=40)


def _crashes() -> Iterator[Recipe]:
    for what, want in (
        ("gp", "oops/protection"),
        ("null-write", "oops/null"),
        ("null-call", "oops/null"),
        ("divide", "oops/divide"),
        ("opcode", "oops/opcode"),
        ("oops-irq", "oops/protection"),
        ("oops-two", "oops"),
        ("warn-two", "warning"),
        ("shift", "ubsan"),
        ("bool", "ubsan"),
        ("sleep-atomic", "atomic/sleeping"),
        ("sleep-irq", "atomic/sleeping"),
        ("schedule-atomic", "atomic/scheduling"),
        ("spin-magic", "bug/spinlock"),
        ("spin-recursion", "bug/spinlock"),
    ):
        yield Recipe(f"crash-{what}", "provoke", _provoke(what), (want,))
    for what, want in (
        ("PANIC", "panic"),
        ("BUG", "bug/assertion"),
        ("WARNING", "warning"),
        ("WARNING_MESSAGE", "warning"),
        ("EXCEPTION", "oops/null"),
        ("EXHAUST_STACK", "oops/stack"),
        ("STACK_GUARD_PAGE_LEADING", "oops"),
        ("REPORT_STACK_CANARY", ""),
        ("CORRUPT_STACK_STRONG", "panic"),
        ("ARRAY_BOUNDS", "ubsan"),
        ("CORRUPT_LIST_ADD", "list_corruption"),
        ("CORRUPT_LIST_DEL", "list_corruption"),
        ("EXEC_DATA", "oops/page_fault"),
        ("EXEC_NULL", "oops/null"),
        ("WRITE_RO", "oops/page_fault"),
        ("REFCOUNT_INC_ZERO", "refcount"),
        ("REFCOUNT_DEC_ZERO", "refcount"),
        ("REFCOUNT_INC_OVERFLOW", "refcount"),
        ("REFCOUNT_DEC_AND_TEST_NEGATIVE", "refcount"),
        ("USERCOPY_SLAB_SIZE_TO", "usercopy"),
        ("USERCOPY_STACK_BEYOND", "usercopy"),
        ("FORTIFY_MEM_OBJECT", "fortify"),
        ("FORTIFY_STR_MEMBER", "fortify"),
    ):
        name = f"lkdtm-{what.lower().replace('_', '-')}"
        yield Recipe(name, "provoke", _lkdtm(what), (want,) if want else ())
    yield Recipe("panic-sysrq", "provoke", "echo c >/proc/sysrq-trigger", ("panic",))
    yield Recipe(
        "panic-on-warn",
        "provoke",
        f"echo 1 >/proc/sys/kernel/panic_on_warn; {_lkdtm('WARNING')}",
        ("warning", "panic"),
    )
    yield Recipe("panic-no-root", "provoke", "", ("panic",), ("rdinit=/nowhere",), boots=False)
    yield Recipe("init-died", "provoke", "", ("init_died",), ("rdinit=/bin/false",), boots=False)
    yield Recipe("stock-sysrq-panic", "stock", "echo c >/proc/sysrq-trigger", ("panic",))
    yield Recipe("kasan-sysrq-panic", "candidate-kasan", "echo c >/proc/sysrq-trigger", ("panic",))


def _stuck() -> Iterator[Recipe]:
    for what in (
        "hang-mutex",
        "hang-deadlock",
        "hang-rwsem",
        "hang-percpu",
        "hang-completion",
        "hang-page",
        "hang-sleep",
        "range-deadlock",
    ):
        script = f"{FAST_HANGS}; {_provoke(what)}"
        yield Recipe(what, "provoke", script, ("hung_task",), seconds=15)
    freeze = f"{FAST_HANGS}; xfs_io -x -c freeze /mnt; touch /mnt/x"
    yield Recipe("hang-frozen", "stock", freeze, ("hung_task",), (), "ext4", 15)
    yield Recipe("hang-frozen-lockdep", "candidate-lockdep", freeze, ("hung_task",), (), "xfs", 20)
    yield Recipe(
        "panic-hung",
        "provoke",
        f"{FAST_HANGS}; echo 1 >/proc/sys/kernel/hung_task_panic; {_provoke('hang-rwsem')}",
        ("hung_task", "panic"),
        seconds=15,
    )
    for what, want in (
        ("softlockup", "soft_lockup"),
        ("hardlockup", "hard_lockup"),
        ("rcu-stall", "rcu_stall"),
        ("rcu-stall-irqs", "rcu_stall"),
        ("rcu-expedited", "rcu_stall"),
        ("workqueue", "workqueue_lockup"),
        ("csd", "csd_lockup"),
        ("spin-contention", ""),
    ):
        fast = FAST_LOCKUPS if want in ("soft_lockup", "hard_lockup") else "true"
        spins = "echo 8 >/sys/kernel/debug/provoke/seconds"
        if want == "workqueue_lockup":
            fast, spins = "echo 3 >/sys/module/workqueue/parameters/watchdog_thresh", spins
        if not want:
            fast, spins = FAST_LOCKUPS, "echo 6 >/sys/kernel/debug/provoke/seconds"
        yield Recipe(
            f"stuck-{what}",
            "provoke",
            f"{fast}; {spins}; {_provoke(what)}",
            (want,) if want else ("soft_lockup",),
            (*(STALLS if want == "rcu_stall" else ()), "csdlock_debug=1"),
            seconds=15,
        )
    yield Recipe(
        "panic-softlockup",
        "provoke",
        f"{FAST_LOCKUPS}; echo 1 >/proc/sys/kernel/softlockup_panic; {_lkdtm('SOFTLOCKUP')}",
        ("soft_lockup", "panic"),
        seconds=15,
    )


def _disks() -> Iterator[Recipe]:
    yield Recipe(
        "ext4-trigger",
        "provoke",
        "echo bad luck >/sys/fs/ext4/vda/trigger_fs_error",
        ("ext4_error",),
        (),
        "ext4",
    )
    write = "dd if=/dev/zero of=/mnt/file bs=64k count=64 conv=fsync; sync; touch /mnt/other; sync"
    yield Recipe(
        "ext4-io", "provoke", f"{_fail_io()}; {write}", ("io_error", "ext4_error"), (), "ext4", 20
    )
    wipe = (
        "mkdir /mnt/a; cp /bin/busybox /mnt/a; sync; umount /mnt;"
        " dd if=/dev/urandom of=/dev/vda bs=4k seek={seek} count={count} conv=notrunc;"
        " mount -t {type} /dev/vda /mnt; ls -lR /mnt; cat /mnt/a/busybox >/dev/null; rm -r /mnt/a;"
        " sync; umount /mnt"
    )
    for name, kernel, seek, count, fs in (
        ("ext4-corrupt", "provoke", 16, 8000, "ext4"),
        ("ext4-corrupt-stock", "stock", 40, 4000, "ext4"),
        ("xfs-corrupt", "provoke", 3, 100, "xfs"),
    ):
        script = wipe.format(seek=seek, count=count, type=fs)
        yield Recipe(name, kernel, script, (f"{fs}_error",), (), fs, 20)
    yield Recipe(
        "xfs-io", "provoke", f"{_fail_io()}; {write}", ("xfs_error",), (), "xfs", 20
    )
    yield Recipe(
        "disk-io",
        "provoke",
        f"{_fail_io()}; dd if=/dev/vda of=/dev/null bs=4k count=1; dd if=/dev/zero of=/dev/vda"
        " bs=4k count=4",
        ("io_error",),
    )


def _nothing() -> Iterator[Recipe]:
    """What looks like trouble and is none."""
    for kernel in ("stock", "candidate", "candidate-lockdep", "candidate-kasan"):
        yield Recipe(f"clean-{kernel}", kernel, "true", (), seconds=2)
    for kernel in ("provoke", "provoke-debug", "provoke-kcsan"):
        yield Recipe(f"clean-{kernel}", kernel, "true", (), seconds=2)
    shows = "; ".join(f"echo {key} >/proc/sysrq-trigger" for key in "wdlmt")
    yield Recipe("clean-sysrq", "provoke", shows, (), seconds=4)
    yield Recipe("clean-sysrq-lockdep", "candidate-lockdep", shows, (), seconds=6)
    yield Recipe(
        "clean-failslab",
        "provoke",
        "cd /sys/kernel/debug/failslab; echo 1 >task-filter; echo 20 >probability; echo 3 >times;"
        " echo 2 >verbose; echo N >ignore-gfp-wait; sh -c 'echo 1 >/proc/self/make-it-fail;"
        " ls -R /sys/kernel >/dev/null'",
        (),
        seconds=4,
    )
    yield Recipe(
        "clean-program",
        "provoke",
        "printf 'WARNING: a program on the console\\nmy log: BUG: none\\n\\033[31mred\\033[0m' "
        "| sed 's/^/program: /' >/dev/console; umount /nowhere 2>/dev/console",
        (),
        seconds=2,
    )


RECIPES: tuple[Recipe, ...] = (
    *_nothing(),
    *_lockdep(),
    *_memory(),
    *_crashes(),
    *_stuck(),
    *_disks(),
)
