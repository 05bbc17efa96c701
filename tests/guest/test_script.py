# SPDX-License-Identifier: GPL-2.0
"""Several commands as one: they stop at the first that fails, and it is known which that was."""

from __future__ import annotations

import shlex
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from harness.guest.script import apart, script, stopped_at, under_way
from harness.guest.ssh import Completed

WORDS = st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0\n\r"), max_size=8))


def shell(command: str) -> Completed:
    """A shell of this host's has it, as a guest's would."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return Completed(command, done.returncode, done.stdout, done.stderr, 0.0)


@given(st.lists(WORDS, max_size=4), WORDS)
def test_the_one_that_fails_is_known(before: list[list[str]], words: list[str]) -> None:
    good = [shlex.join(["printf", "%s\\n", *each]) for each in before]
    bad = shlex.join(["sh", "-c", "echo first >&2; echo last >&2; exit 7", "sh", *words])
    commands = [*good, bad, "echo never"]
    done = shell(script(commands))
    at = stopped_at(commands, done)
    assert (done.status, at.argv, at.stderr) == (7, bad, "first\nlast")
    assert "never" not in done.stdout
    alike = apart(script(commands), shell)
    assert (alike.status, alike.stdout) == (7, done.stdout)
    assert stopped_at(commands, alike).stderr == "first\nlast"


def test_all_of_them_are_done() -> None:
    done = shell(script(["echo one", "echo two >&2", "echo three"]))
    assert (done.status, done.stdout) == (0, "one\nthree\n")


def test_a_shell_that_did_not_begin() -> None:
    done = Completed("set -ex\nmount", 1, "", "sh: cannot create /dev/kmsg", 0.0)
    assert stopped_at(["mount"], done) == done


@given(st.lists(WORDS, max_size=4), st.sampled_from(["", "echo 'a mark' >/dev/null || exit\n"]))
def test_the_one_that_does_not_end_is_known(before: list[list[str]], mark: str) -> None:
    good = [shlex.join(["printf", "%s\\n", *each]) for each in before]
    commands = [*good, "kill -KILL $$", "echo never"]
    whole = mark + script(commands)
    assert under_way(whole, shell(whole).stderr) == "kill -KILL $$"


def test_what_is_no_script_or_has_not_begun_is_as_it_was() -> None:
    for command in ("dmesg", script(["mount"])):
        assert under_way(command, "sh: cannot create /dev/kmsg") == command


WRAPPED = "{}\nexit $?"  # as ssh.py has it


def test_what_the_last_one_said_is_kept_whatever_its_status() -> None:
    for status in (0, 1, 4):
        last = f"sh -c 'echo + harness: command 9 >&2; echo + other >&2; exit {status}'"
        commands = ["printf unterminated >&2", last]
        done = shell(WRAPPED.format(script(commands)))
        at = stopped_at(commands, done)
        assert (at.status, at.argv) == (status, last)
        assert at.stderr == "+ harness: command 9\n+ other"
        alike = stopped_at(commands, apart(script(commands), shell))
        assert (alike.status, alike.argv, alike.stderr) == (status, last, at.stderr)
