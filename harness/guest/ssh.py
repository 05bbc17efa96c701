# SPDX-License-Identifier: GPL-2.0
"""SSH into the guest: keys made for one machine, commands run, both streams read.

The server is dropbear 2022.83, which has two habits this file is shaped by:
 - a command that ends while another channel of its connection is being opened
   takes the new channel, or the whole connection, down (mkj/dropbear issues 173
   and 258: the race of SIGCHLD with a channel that has no process yet).  So one
   channel at a time per connection, and the next only after the server has
   closed the last; anything at the same time gets a connection of its own.
 - a closed channel does not end the command.  So each command is the leader of
   a session of its own whose number is written down, to be killed by.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
import shlex
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

if TYPE_CHECKING:
    import paramiko  # when it is wanted: see imports.py

# What is kept of a command's output, each stream: a program that floods it must not fill
# the host's memory.  A cell of 100,000 trials says a fifth of it.
MOST_BYTES = 32 << 20
# How often a reader that got nothing looks at the clock and at the machine.
TICK_S = 0.2
# The cheapest of what both sides speak, measured under TCG (docs/guest.md).
KEX = "curve25519-sha256@libssh.org"
CIPHER = "aes128-ctr"
MAC = "hmac-sha2-256"


# A thread of paramiko's logs what it then raises here; without a handler Python
# prints that on stderr, in the middle of a table.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class KeyPair:
    """An Ed25519 key that lives as long as one machine."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    @functools.cached_property
    def private(self) -> paramiko.Ed25519Key:
        """The private half as paramiko wants it."""
        import paramiko

        return paramiko.Ed25519Key.from_private_key(io.StringIO(self.pem()))

    def pem(self) -> str:
        """The private half as OpenSSH keeps it, without a passphrase."""
        return self._key.private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
        ).decode()

    @property
    def authorized_key(self) -> str:
        """The public half as a line of authorized_keys."""
        public = self._key.public_key()
        return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def dropbear(self) -> bytes:
        """The private half as dropbear stores it: name, then seed and public key."""
        seed = self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        parts = (b"ssh-ed25519", seed + public)
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)


# Told of each line of stdout.  A number that it returns is the seconds that the command may
# take from then on, whatever it had before.
Hearing = Callable[[str], float | None]


@dataclass(frozen=True)
class Completed:
    """A command that was run in the guest.

    status: its exit status, 128 + N when signal N ended it, -1 when it is not
    known (machine lost, time out).  seconds: wall time of the host.
    """

    argv: str
    status: int
    stdout: str
    stderr: str
    seconds: float


@dataclass
class Outcome:
    """What became of a command; status None: it did not end, `why` says why."""

    status: int | None = None
    why: str = ""
    timed_out: bool = False
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    seconds: float = 0.0
    number: int = 0  # names the file that has the command's session id
    limit_s: float = 0.0  # that it had, from its start or from when it was given another
    deadline: float = 0.0  # of time.monotonic()

    def completed(self, command: str) -> Completed:
        """The same for the user: text, with what cannot be decoded replaced."""
        return Completed(
            command,
            -1 if self.status is None else self.status,
            self.stdout.decode(errors="replace"),
            self.stderr.decode(errors="replace"),
            self.seconds,
        )


class ConnectError(Exception):
    """No connection: refused, silent, or not the machine we started."""


class Connection:
    """One SSH connection, verified against the machine's host key."""

    _numbers = itertools.count(1)

    def __init__(self, port: int, user: KeyPair, host: KeyPair, timeout_s: float) -> None:
        """Connect to 127.0.0.1:`port` within `timeout_s` seconds; ConnectError if not.

        Whoever listens there must prove to have the host key made for this
        machine: another guest's forwarded port cannot be mistaken for ours.
        """
        import paramiko

        self._user, self._host = user, host
        self._transport: paramiko.Transport | None = None
        stream: socket.socket | None = None
        try:
            stream = socket.create_connection(("127.0.0.1", port), timeout_s)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # On any failure below the transport closes the stream.
            transport = self._transport = paramiko.Transport(stream)
            options = transport.get_security_options()
            options.kex, options.ciphers, options.digests = (KEX,), (CIPHER,), (MAC,)
            options.key_types = ("ssh-ed25519",)
            # Large transfers never reach paramiko's rekey limit in a machine's life.
            transport.banner_timeout = transport.handshake_timeout = timeout_s
            transport.auth_timeout = transport.channel_timeout = timeout_s
            transport.start_client(timeout=timeout_s)
            if transport.get_remote_server_key() != host.private:
                raise ConnectError("the host key is not the one made for this machine")
            transport.auth_publickey("root", user.private)
        except (OSError, EOFError, paramiko.SSHException) as error:
            self.close()
            if stream is not None:
                stream.close()
            raise ConnectError(str(error) or type(error).__name__) from error
        except BaseException:
            self.close()
            if stream is not None:
                stream.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as this side knows."""
        return self._transport is not None and self._transport.is_active()

    def close(self) -> None:
        """Close the connection; commands that run in the guest go on."""
        if self._transport is not None:
            self._transport.close()

    def execute(
        self,
        command: str,
        timeout_s: float,
        on_stdout_line: Hearing | None = None,
        dead: Callable[[], str] = lambda: "",
        stretched: Callable[[float], float] = float,
    ) -> Outcome:
        """Run a shell command to its end and read both streams.

        on_stdout_line gets each line of stdout as it comes, without its end of
        line, and may give it another limit, as stretched().  dead() is asked now and then
        whether the machine is gone: a text ends the wait.  Never raises for what the guest did:
        see Outcome.
        """
        import paramiko

        started = time.monotonic()
        outcome = Outcome(
            number=next(self._numbers), limit_s=timeout_s, deadline=started + timeout_s
        )
        channel: paramiko.Channel | None = None
        reader: threading.Thread | None = None
        try:
            assert self._transport is not None
            channel = self._transport.open_session(timeout=timeout_s)
            channel.settimeout(TICK_S)
            channel.exec_command(_wrapped(command, outcome.number))
            channel.shutdown_write()
            reader = threading.Thread(
                target=_drain_stderr, args=(channel, outcome.stderr), daemon=True
            )
            reader.start()
            _read(channel, outcome, on_stdout_line, dead, stretched)
            if not (outcome.timed_out or outcome.why):
                _await_status(channel, reader, outcome, dead)
        except (OSError, EOFError, paramiko.SSHException) as error:
            outcome.timed_out = time.monotonic() >= outcome.deadline
            outcome.why = f"SSH: {str(error) or type(error).__name__}"
        finally:
            outcome.seconds = time.monotonic() - started
            if channel is not None:
                channel.close()
            if reader is not None:
                reader.join(TICK_S)
        return outcome

    def kill(self, number: int, timeout_s: float) -> bool:
        """Kill the command of an Outcome with all its children; False: no answer.

        Must be called on another connection than the one that runs it.
        """
        done = self.execute(f"kill -KILL -$(cat {_session_file(number)})", timeout_s)
        return done.status == 0


def _session_file(number: int) -> str:
    return f"/run/harness.{number}"


def _wrapped(command: str, number: int) -> str:
    """`command` as a session of its own, with the number of its leader written down.

    What dropbear starts is no group leader, so busybox setsid does not fork: shell, setsid
    and the command's own shell are one process after the other.  That one stays to the end:
    a shell makes 128 + N of a signal, and dropbear a message that paramiko does not read.
    """
    staying = f"{command}\nexit $?"
    return (
        "echo 0 >/proc/self/oom_score_adj; "  # the server's shield is not for its commands
        f"echo $$ >{_session_file(number)}; exec setsid sh -c {shlex.quote(staying)}"
    )


def _drain_stderr(channel: paramiko.Channel, into: bytearray) -> None:
    # Both streams share a window: one left unread would stop the other.
    while True:
        try:
            data = channel.recv_stderr(65536)
        except TimeoutError:
            continue
        except OSError:
            return
        if not data:
            return
        # Read on, or the server would wait; the first words tell most of what went wrong.
        into.extend(data[: max(0, MOST_BYTES - len(into))])


def _read(
    channel: paramiko.Channel,
    outcome: Outcome,
    on_line: Hearing | None,
    dead: Callable[[], str],
    stretched: Callable[[float], float],
) -> None:
    """Read stdout to its end, the deadline or the machine's death."""
    told = 0  # bytes of stdout whose lines have been passed on
    while True:
        if time.monotonic() >= outcome.deadline:
            outcome.timed_out = True
            return
        try:
            data = channel.recv(65536)
        except TimeoutError:
            outcome.why = outcome.why or dead()
            # Its last words may have come between the two questions.
            if outcome.why and not channel.recv_ready():
                return
            continue
        if len(outcome.stdout) + len(data) > MOST_BYTES:
            outcome.why = f"the command said more than {MOST_BYTES >> 20} MiB"
            return
        outcome.stdout.extend(data)
        if on_line is not None:
            end = len(outcome.stdout) if not data else outcome.stdout.rfind(b"\n") + 1
            if end > told:
                for line in bytes(outcome.stdout[told:end]).decode(errors="replace").splitlines():
                    if (more := on_line(line)) is not None:
                        outcome.limit_s = stretched(more)
                        outcome.deadline = time.monotonic() + outcome.limit_s
                told = end
        if not data:
            return


def _await_status(
    channel: paramiko.Channel,
    reader: threading.Thread,
    outcome: Outcome,
    dead: Callable[[], str],
) -> None:
    """After the end of stdout: the rest of stderr, the status, the server's close."""
    while reader.is_alive() or not channel.closed:
        left = outcome.deadline - time.monotonic()
        if left <= 0:
            outcome.timed_out = True
            return
        if reader.is_alive():
            reader.join(min(TICK_S, left))
        elif channel.status_event.wait(min(TICK_S, left)) and not channel.closed:
            # The close follows within a packet; there is no event to wait for.
            time.sleep(0.001)
        if not channel.closed:
            outcome.why = dead()
            if outcome.why:
                return
    status = channel.recv_exit_status() if channel.status_event.is_set() else -1
    if status < 0:
        outcome.why = "SSH: the connection was lost"
    else:
        outcome.status = status


def close_quietly(connection: Connection | None) -> None:
    """Close a connection that may be broken already."""
    if connection is not None:
        import paramiko

        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            connection.close()
