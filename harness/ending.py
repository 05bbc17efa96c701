# SPDX-License-Identifier: GPL-2.0
"""How the program ends when it cannot do what was asked: signals, lines and an exit code."""

from __future__ import annotations

import atexit
import errno
import gc
import logging
import os
import select
import shlex
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress
from typing import Any, NoReturn

from harness.errors import EXIT_CANNOT_TEST, HarnessError
from harness.places import cache_dir
from harness.plain import printable

EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE  # what the shell says of a program killed by it
# What the host can do to us, with words of its own that a person understands.
_HOST_TROUBLES = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE
)  # fmt: skip


def say(text: str) -> None:
    """A line on standard error, if anybody can read it.

    What a guest, a patch or a tree may have put into it for a terminal is shown, not done.
    """
    with suppress(OSError, ValueError):
        print(printable(text, keep="\n\t"), file=sys.stderr, flush=True)


def write(stream: Any, text: str) -> None:
    """Text of a guest, which may hold bytes that are not UTF-8, as it came."""
    stream.flush()
    stream.buffer.write(text.encode("utf-8", "surrogateescape"))
    stream.flush()


def complain(error: HarnessError) -> int:
    """What is wrong, what to type next, the evidence; the exit code."""
    say(f"harness: {error.message}")
    if error.hint:
        say(f"  try: {error.hint}")
    if error.detail:
        say(error.detail)
    return error.exit_code


def os_error(error: OSError) -> int:
    """The machine's trouble, not ours: disk full, not permitted, reader gone."""
    if isinstance(error, BrokenPipeError) and _reader_left():
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    try:
        sys.stdout.flush()
    except OSError as unwritten:
        _silence_stdout()
        error = unwritten
    if error.errno not in _HOST_TROUBLES:
        return unexpected(error)
    where = f": {error.filename}" if error.filename else ""
    hint = "harness doctor" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return complain(HarnessError(f"{error.strerror}{where}", hint=hint))


def _reader_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _fd, event in poll.poll(0))


def _silence_stdout() -> None:
    """Python flushes once more on its way out, and would print a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def unexpected(error: BaseException) -> int:
    """A bug of ours: one line, and a file with the traceback."""
    text = " ".join(str(error).split())[:200]
    say(f"harness: internal error: {type(error).__name__}: {text} ({_saved(error)})")
    return EXIT_CANNOT_TEST


def _saved(error: BaseException) -> str:
    name = time.strftime("traceback-%Y%m%d-%H%M%S-") + f"{os.getpid()}.txt"
    with suppress(OSError, HarnessError):
        path = cache_dir() / name
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"harness {shlex.join(sys.argv[1:])}\n")
            file.writelines(traceback.format_exception(error))
        return f"traceback: {path}"
    return "its traceback could not be saved"


def thread_died(args: threading.ExceptHookArgs) -> None:
    """threading.excepthook: a bug in a thread is a bug of ours, too."""
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        unexpected(args.exc_value)


def prepare_process() -> None:
    """The process as every verb wants it: PATH, signals, what libraries and threads may say."""
    # mkfs lives in sbin, which the PATH of an ordinary Debian user lacks.
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    extra = [d for d in ("/usr/local/sbin", "/usr/sbin", "/sbin") if d not in path]
    os.environ["PATH"] = os.pathsep.join([*path, *extra])
    for number in (signal.SIGTERM, signal.SIGHUP):  # left alone under nohup
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(number) == signal.SIG_DFL
        ):
            signal.signal(number, _interrupt)
    # Libraries' remarks are for developers; what matters reaches us as an exception.
    logging.getLogger().addHandler(logging.NullHandler())
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    threading.excepthook = thread_died
    # Python's last collection looks at all that was ever imported: 0.2 s for nothing.
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
