# SPDX-License-Identifier: GPL-2.0
"""A QEMU for replay machines: does what its initramfs says, in no time, the same every time.

It writes the console's file, and the memory it was given. FAKE_REPLAY is JSON: "ends", how it
ends (done, panic, silent, exits, dies, hangs), and "answers", a command's first word -> [exit
status, its output].
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path

from tests.fakes.cpio import members

PANIC = "[    1.000000] Kernel panic - not syncing: fake panic\r\n"


def main() -> None:
    argv = sys.argv[1:]
    if argv == ["--version"]:
        print("QEMU emulator version 7.2.22 (fake)")
        return
    told = json.loads(os.environ.get("FAKE_REPLAY", "{}"))
    ends, answers = told.get("ends", "done"), told.get("answers", {})
    if ends == "exits":
        sys.exit("fake qemu: cannot do that")
    console = Path(argv[argv.index("-serial") + 1].removeprefix("file:"))
    memory = re.search(r"mem-path=([^,]+)", " ".join(argv))
    assert memory is not None
    script = members(Path(argv[argv.index("-initrd") + 1]).read_bytes())["init"].data.decode()
    commands = [shlex.split(line)[1] for line in script.splitlines() if line.startswith("do_ '")]
    said = "[    0.000000] Linux version 6.12.0-fake\r\n"
    if ends not in ("silent", "panic"):
        said += "[    0.100000] harness: ready\r\n"
    if ends in ("panic", "dies"):
        said += PANIC
    if ends == "done":
        for number, command in enumerate(commands):
            status, text = answers.get(shlex.split(command)[0], [0, ""])
            said += f"harness: answer {number} status {status}\r\n"
            said += "".join(f"> {line}\r\n" for line in text.splitlines())
        said += "[    1.000000] harness: done\r\n"
    console.write_bytes(said.encode())
    with Path(memory[1]).open("r+b") as file:
        file.truncate(1 << 20)
        file.write(script.encode())
    if ends in ("silent", "hangs"):
        signal.pause()


if __name__ == "__main__":
    main()
