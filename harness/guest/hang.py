# SPDX-License-Identifier: GPL-2.0
"""A guest in which something does not end: who waits for what, asked before it is killed.

Asked are, each for itself and with a limit, since any of them may be what hangs: QEMU
(registers and stack of each CPU), the guest over SSH (the stacks of the workload and of whatever
sleeps uninterruptibly), the kernel by its magic SysRq key: w (blocked tasks), l (what
each CPU does), d (locks that are held, lockdep kernels only), t (all tasks).  Without
SSH the key is pressed on the serial line, as a BREAK and a letter, which wants no more
of the kernel than an interrupt on one CPU.  On request QEMU writes the guest's memory
to a file, for crash or drgn.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.guest import processors, ssh
from harness.guest.console import Console
from harness.guest.symbols import Symbols

if TYPE_CHECKING:
    from harness.guest.qmp import Qmp

# In this order: what is short and tells most comes first.
KEYS = "wldt"
# What the kernel prints of a key comes in one go; a console that was quiet for so long
# after it (on KVM) has said it all.
QUIET_S = 0.3
TICK_S = 0.05
SERIAL = "serial0"  # QEMU's name of the console, see qemu.command()
WATCHED = 4  # tasks that the first line names, at most
CALLERS = 2  # frames beside the one that it waits in
RUNNING = 6  # frames of one that runs: it was stopped anywhere
CORE_S = 120.0  # for QEMU to write a guest's memory

_CALL = r"([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \(([^\s():]+:\d+))?"
_FRAME = re.compile(rf"(?<![\w.])(?<!\? ){_CALL}")  # not what is doubtful ("? f+0x1/0x2")
_RIP = re.compile(rf"RIP: 0010:{_CALL}")
# How a task goes to sleep says nothing of what for.
_SLEEPING = re.compile(
    r"(__)?schedule(_\w+)?$|io_schedule\w*|context_switch|__switch_to\w*|preempt_schedule\w*"
)
# What a CPU does to answer the very question.
_ASKING = {"nmi_cpu_backtrace", "nmi_cpu_backtrace_handler", "dump_stack_lvl", "dump_stack"}
# Every thread of a program of ours, and whoever waits uninterruptibly.
_STACKS = r"""
for t in /proc/[0-9]*/task/[0-9]*; do
    exe=$(readlink "${t%/task/*}/exe")
    state=$(sed -n 's/^State:[[:space:]]*//p' "$t/status") || continue
    case "$exe:$state" in
    /workloads/*) ;;
    *:D*) ;;
    *) continue ;;
    esac
    echo "== $(cat "$t/comm") (${t##*/}) $state, $(cat "$t/wchan")"
    cat "$t/stack"
done
"""


@dataclass
class Evidence:
    """What was found.

    summary: one line, who waits for what; "" when nobody could say.  files: name ->
    text, for the cell's directory.  answered: the guest still takes commands.  core: the
    guest's memory, where that was asked for.
    """

    summary: str = ""
    files: dict[str, str] = field(default_factory=dict)
    answered: bool = False
    core: Path | None = None


def examine(
    console: Console,
    qmp: Qmp,
    connect: Callable[[float], ssh.Connection],
    limit_s: float,
    slowdown: float,
    command: int | None = None,
    core: Path | None = None,
    symbols: Symbols | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Evidence:
    """Asks everybody; then kills the `command` of an Outcome, if the guest still answers.

    connect(seconds) opens a connection of its own.  limit_s is for each question.  `core`:
    a file for the guest's memory.  `symbols` give functions their places.  Never raises for
    what the guest or QEMU does: who does not answer is written down as such.  Where
    stopped() becomes true nobody waits for symbols.
    """
    found = Evidence()
    start = console.received
    cpus: list[processors.Cpu] = []
    try:
        found.files["registers.txt"], cpus = processors.ask(qmp, limit_s)
    except ConnectionError as error:
        found.files["registers.txt"] = f"{error}\n"
    connection: ssh.Connection | None = None
    try:
        connection = connect(limit_s)
        _over_ssh(connection, console, found, limit_s, slowdown)
        _dump(qmp, core, found)
        if command is not None:
            found.answered = connection.kill(command, limit_s)
    except ssh.ConnectError as error:
        found.files["stacks.txt"] = f"SSH: {error}\n"
        _over_serial(console, qmp, found, limit_s, slowdown)
        _dump(qmp, core, found)
    finally:
        ssh.close_quietly(connection)
    found.files["sysrq.txt"] += console.data()[start:].decode(errors="replace").replace("\r", "")
    if symbols is not None:
        for name in ("stacks.txt", "sysrq.txt"):
            found.files[name] = symbols.annotate(found.files[name], stopped)
    found.files["cpus.txt"] = "".join(f"{processors.told(cpu, symbols)}\n" for cpu in cpus)
    found.summary = summary(found.files)
    return found


def _dump(qmp: Qmp, core: Path | None, found: Evidence) -> None:
    if core is None:
        return
    try:
        # ELF: QEMU's compressed formats are "flattened", and drgn does not take those.
        qmp.execute("dump-guest-memory", CORE_S, paging=False, protocol=f"file:{core}")
        # Most of the memory was never written to.
        command_line = ["fallocate", "--dig-holes", str(core)]
        subprocess.run(command_line, check=False, capture_output=True)
        found.core = core
    except ConnectionError as error:
        core.unlink(missing_ok=True)
        found.files["core.txt"] = f"{error}\n"


def _over_ssh(
    connection: ssh.Connection, console: Console, found: Evidence, limit_s: float, slowdown: float
) -> None:
    stacks = connection.execute(_STACKS, limit_s)
    found.files["stacks.txt"] = stacks.stdout.decode(errors="replace")
    if stacks.status is None:
        found.files["stacks.txt"] += f"({stacks.why or 'not done in time'})\n"
    found.files["sysrq.txt"] = ""
    for key in KEYS:
        done = connection.execute(f"echo {key} >/proc/sysrq-trigger", limit_s)
        if done.status != 0:
            found.files["sysrq.txt"] += f"(SysRq {key}: {done.why or 'not done in time'})\n"
            return
        _await_quiet(console, limit_s, slowdown)


def _over_serial(
    console: Console, qmp: Qmp, found: Evidence, limit_s: float, slowdown: float
) -> None:
    found.files["sysrq.txt"] = ""
    for key in KEYS:
        before = console.received
        try:
            qmp.execute("chardev-send-break", limit_s, id=SERIAL)
            console.write(key.encode())
        except OSError as error:  # ConnectionError is one
            found.files["sysrq.txt"] += f"(SysRq {key} on the serial line: {error})\n"
            return
        _await_quiet(console, limit_s, slowdown)
        if console.received == before:
            found.files["sysrq.txt"] += f"(SysRq {key} on the serial line: no answer)\n"
            return


def _await_quiet(console: Console, limit_s: float, slowdown: float) -> None:
    """Until the kernel has said what it has to say to a key."""
    asked = time.monotonic()
    while time.monotonic() < asked + limit_s:
        quiet = min(console.silence().seconds, time.monotonic() - asked)
        if quiet > QUIET_S * slowdown:
            return
        time.sleep(TICK_S)


def summary(files: Mapping[str, str]) -> str:
    """The first line of the evidence: racers first, then who else is blocked, then CPUs."""
    waiting = _tasks(files.get("stacks.txt", ""), r"== (?P<name>.+) \((?P<id>\d+)\) (?P<state>\S)")
    sysrq = files.get("sysrq.txt", "")
    known = _tasks(sysrq, r".*\btask:(?P<name>.+?)\s+state:(?P<state>\S)(?:.*?pid:(?P<id>\d+))?")
    if not waiting:
        waiting = known
    # /proc/<pid>/stack leaves out what belongs to the scheduler, locks among it.
    whole = {task.id: task.frames for task in reversed(known) if task.frames}
    waiting = [
        dataclasses.replace(task, frames=whole.get(task.id, task.frames)) for task in waiting
    ]
    running = _running(sysrq)
    told = [_told(task, running) for task in waiting]
    told.sort(key=lambda text: not text.startswith("race-"))
    if told:
        more = f"; and {len(told) - WATCHED} more" if len(told) > WATCHED else ""
        return "; ".join(dict.fromkeys(told[:WATCHED])) + more
    return "; ".join(files.get("cpus.txt", "").splitlines())


def ended(files: Mapping[str, str], command: str) -> bool:
    """Whether the kernel, asked for all its tasks, has none of `command`, and none is blocked.

    Then nothing hangs but the way to us.  Names of tasks are cut to 15 characters; the
    racers have names of their own.
    """
    sysrq = files.get("sysrq.txt", "")
    tasks = re.findall(r"\btask:(.+?)\s+state:(\S)", sysrq)
    if "Show State" not in sysrq or not tasks:
        return False
    ours = {path.rpartition("/")[2][:15] for path in re.findall(r"/workloads/\S+", command)}
    return bool(ours) and not any(
        state == "D" or name in ours or name.startswith("race-") for name, state in tasks
    )


@dataclass(frozen=True)
class _Task:
    name: str
    id: str
    state: str
    frames: list[tuple[str, str]] = field(default_factory=list)  # function, place; innermost first


def _tasks(text: str, header: str) -> list[_Task]:
    """Each task whose stack is shown."""
    found: list[_Task] = []
    pattern = re.compile(header)
    inside = False
    for line in text.splitlines():
        if match := pattern.match(line):
            name = match["name"].rpartition("] ")[2]
            found.append(_Task(name, match["id"] or "", match["state"]))
            inside = True
        elif inside and "</TASK>" in line:
            inside = False
        elif inside and (frame := _FRAME.search(line)):
            found[-1].frames.append((frame[1], frame[2] or ""))
    return found


def _running(sysrq: str) -> dict[str, str]:
    """Where each task was that a CPU was at, from SysRq l: name -> " in f (file:line) < ...".

    Where it was interrupted may be any leaf; its callers say what it is doing there.
    """
    found: dict[str, str] = {}
    for part in re.split(r"(?:NMI backtrace for cpu |CPU: )\d+", sysrq)[1:]:
        name, at = re.search(r"\bComm: (\S+)", part), _RIP.search(part)
        if name is None or at is None:
            continue
        trace = part[at.end() :].partition("Call Trace:")[2].partition("</TASK>")[0]
        frames = [at, *filter(None, (_FRAME.search(line) for line in trace.splitlines()))]
        shown = [_shown(frame[1], frame[2]) for frame in frames if frame[1] not in _ASKING]
        found.setdefault(name[1], " in " + " < ".join(dict.fromkeys(shown[:RUNNING])))
    return found


def _shown(function: str, place: str | None) -> str:
    return f"{function} ({place})" if place else function


def _told(task: _Task, running: Mapping[str, str]) -> str:
    waits = [frame for frame in task.frames if not _SLEEPING.fullmatch(frame[0])]
    if task.state == "R":
        return f"{task.name} runs{running.get(task.name, '')}"
    if not waits:
        return f"{task.name} sleeps ({task.state})"
    shown = [_shown(*frame) for frame in waits[: 1 + CALLERS]]
    return f"{task.name} waits in {' < '.join(shown)}"
