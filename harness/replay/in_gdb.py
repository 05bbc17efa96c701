# SPDX-License-Identifier: GPL-2.0
"""What gdb runs beside a replay: its own Python's file, never imported by the harness.

The harness sets its environment before (debugger.py). Counts the hits of race windows
by racers; at hit number STOP says where each CPU is; then lets the machine go on.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import gdb  # type: ignore[import-untyped]

CALLERS = 8
SOCKET = Path(os.environ["HARNESS_GDB_SOCKET"])
OUT = Path(os.environ["HARNESS_GDB_OUT"])
STOP = int(os.environ["HARNESS_GDB_STOP"])  # 0: never


def current_comm() -> str:
    """The name of the task on the CPU in hand. pcpu_hot: include/asm/current.h, since 6.2."""
    text = "((struct pcpu_hot *)((unsigned long)&pcpu_hot + (unsigned long)$gs_base))"
    task = gdb.parse_and_eval(text)["current_task"]
    return str(task["comm"].string(errors="replace"))


class Hit(gdb.Breakpoint):  # type: ignore[misc]
    """The function that a race window calls while it is on."""

    def __init__(self) -> None:
        super().__init__("*__race_window", type=gdb.BP_HARDWARE_BREAKPOINT)
        self.hits: list[list[str]] = []

    def stop(self) -> bool:
        """Whether the machine is to stay stopped: for the hit that was asked for only."""
        comm = current_comm()
        if not comm.startswith("race-"):
            return False
        name = gdb.parse_and_eval("race_windows[(unsigned int)$rdi].name").string()
        self.hits.append([name, comm])
        return len(self.hits) == STOP


def cpus() -> list[dict[str, Any]]:
    """For each CPU: its task and its callers, the innermost first."""
    found = []
    for thread in sorted(gdb.selected_inferior().threads(), key=lambda each: each.num):
        thread.switch()
        callers: list[list[str]] = []
        frame = gdb.newest_frame()
        while frame is not None and len(callers) < CALLERS:
            line = frame.find_sal()
            where = f"{line.symtab.filename}:{line.line}" if line.symtab else ""
            callers.append([frame.name() or hex(frame.pc()), where])
            try:
                frame = frame.older()
            except gdb.error:
                break
        try:
            task = current_comm()
        except gdb.error:
            task = ""  # in user space the register is the program's
        found.append({"task": task, "callers": callers})
    return found


def main() -> None:
    """To the machine's end, or to the stop and then to its end alone."""
    gdb.execute("set pagination off")
    gdb.execute("set confirm off")
    while not SOCKET.exists():
        time.sleep(0.05)  # QEMU makes it before anything of the guest runs
    gdb.execute(f"target remote {SOCKET}")
    # Not to be changed: QEMU holds back interrupts and timers while gdb steps over its breakpoint
    # (sstep=7). With them (1, or 3) the step never ended, and the guest reported an RCU stall.
    hit = Hit()
    said: dict[str, Any] = {}
    try:
        gdb.execute("continue", to_string=True)
        if hit.hits and len(hit.hits) == STOP:
            said["cpus"] = cpus()
            hit.enabled = False
            gdb.execute("detach", to_string=True)
    except gdb.error as error:  # the machine has ended
        said["error"] = str(error)
    said["hits"] = hit.hits
    OUT.write_text(json.dumps(said))


main()
