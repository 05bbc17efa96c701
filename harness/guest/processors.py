# SPDX-License-Identifier: GPL-2.0
"""What each CPU of a guest is at, asked of QEMU: for a kernel that answers nobody any more.

A CPU that has its interrupts off tells nothing by itself.  QEMU knows its registers and
can read its stack; the return addresses on that are its callers, among others that were
left there before: like the kernel's own frames with a "?".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.guest.symbols import Symbols

if TYPE_CHECKING:
    from harness.guest.qmp import Qmp

WORDS = 256  # of a stack: 2 KiB, from where it ends
CALLERS = 8  # that are told, at most
_KERNEL = 0xFFFFFFFF80000000  # Documentation/arch/x86/x86_64/mm.rst: kernel text mapping
_STATE = re.compile(r"CPU#(\d+).*?[RE]IP=([0-9a-f]+).*?HLT=(\d)", re.DOTALL)
_WORD = re.compile(r"0x([0-9a-f]{16})")


@dataclass(frozen=True)
class Cpu:
    """One CPU: where it is, whether it is halted, its stack as QEMU prints it."""

    number: int
    address: str  # of its instruction, hexadecimal
    halted: bool
    stack: str = ""


def ask(qmp: Qmp, limit_s: float) -> tuple[str, list[Cpu]]:
    """QEMU's "info registers -a", and each CPU with its stack; ConnectionError without answer."""
    text = qmp.hmp("info registers -a", limit_s)
    found = []
    for number, address, halted in _STATE.findall(text):
        cpu = Cpu(int(number), address, halted == "1")
        if not cpu.halted and int(address, 16) >= _KERNEL:
            stack = qmp.hmp(f"x /{WORDS}gx $rsp", limit_s, cpu.number)
            cpu = Cpu(cpu.number, address, cpu.halted, stack.replace("\r", ""))
        found.append(cpu)
    return text, found


def told(cpu: Cpu, symbols: Symbols | None) -> str:
    """"CPU 0 runs in f (file:line) < caller (file:line) ..." in one line."""
    what = f"CPU {cpu.number} {'is halted' if cpu.halted else 'runs'}"
    place = symbols.places([cpu.address])[0] if symbols is not None else ""
    if symbols is None or not place:
        return f"{what} at {cpu.address}"
    return " < ".join([f"{what} in {place}", *callers(cpu, symbols)[:CALLERS]])


def callers(cpu: Cpu, symbols: Symbols) -> list[str]:
    """What the return addresses on its stack are in, innermost first, each once."""
    # A call's return address lies behind it, perhaps in the next line or function.
    words = [int(word, 16) - 1 for word in _WORD.findall(cpu.stack) if int(word, 16) > _KERNEL]
    return [place for place in dict.fromkeys(symbols.places([f"{w:x}" for w in words])) if place]
