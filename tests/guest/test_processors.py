# SPDX-License-Identifier: GPL-2.0
"""Where the CPUs of a guest are, as QEMU tells it."""

from __future__ import annotations

from collections.abc import Sequence

from harness.guest import processors
from harness.guest.processors import Cpu

REGISTERS = """\
CPU#0
RAX=0 RIP=ffffffff81000000 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
CPU#1
RAX=0 RIP=ffffffff81234567 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
"""
STACK = """\
ffffc900001afd60: 0x00005af387a4f3cf 0xffffffff81234568
ffffc900001afd70: 0xffff888000435948 0xffffffff81234568
ffffc900001afd80: 0xffffffff81000001 0xffffffff82000001
"""
PLACES = {
    "ffffffff81234567": "spin (lib/a.c:3)",
    "ffffffff81000000": "idle (kernel/b.c:1)",
}


class Monitor:
    """A QEMU that answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def hmp(self, line: str, _limit_s: float, cpu: int = 0) -> str:
        self.asked.append((line, cpu))
        return REGISTERS if line.startswith("info") else STACK


class Table:
    """Symbols of a kernel."""

    def places(self, addresses: Sequence[str]) -> list[str]:
        return [PLACES.get(address, "") for address in addresses]


def test_each_cpu_says_where_it_is() -> None:
    monitor = Monitor()
    text, cpus = processors.ask(monitor, 1.0)  # type: ignore[arg-type]
    assert text == REGISTERS
    assert monitor.asked == [("info registers -a", 0), ("x /256gx $rsp", 1)]  # 0 is halted
    assert [processors.told(cpu, None) for cpu in cpus] == [
        "CPU 0 is halted at ffffffff81000000",
        "CPU 1 runs at ffffffff81234567",
    ]
    table = Table()
    assert [processors.told(cpu, table) for cpu in cpus] == [  # type: ignore[arg-type]
        "CPU 0 is halted in idle (kernel/b.c:1)",
        # Of each return address the instruction before it, and each function once.
        "CPU 1 runs in spin (lib/a.c:3) < spin (lib/a.c:3) < idle (kernel/b.c:1)",
    ]


def test_a_program_of_the_guest_has_no_kernel_stack() -> None:
    monitor = Monitor()
    monitor.hmp = lambda line, _limit_s, cpu=0: REGISTERS.replace(  # type: ignore[method-assign]
        "ffffffff81234567", "0000000000401000"
    )
    _, cpus = processors.ask(monitor, 1.0)  # type: ignore[arg-type]
    assert cpus[1] == Cpu(1, "0000000000401000", False)
