# SPDX-License-Identifier: GPL-2.0
"""Cells that are run elsewhere: each is a call that a concurrent.futures.Executor is given.

Which executor is a Carrier's business; what comes back is judged and kept here, as if the
cell had been run in this process.  A cell whose worker went away is lost: nobody knows how
far it was, and the first verdict stands.  One that was never begun is sent again.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from pathlib import Path, PurePosixPath
from typing import Any, Self

from harness import words
from harness.errors import HarnessError, InfraError, MachineLostError
from harness.events import Event, Listener
from harness.experiment import artefacts, parcel, store
from harness.experiment import cell as cells_room
from harness.experiment.artefacts import Artefact
from harness.experiment.cell import Attempt
from harness.experiment.parcel import Answer, Begun, Host, Lacks, MachineMaker, Parcel, Probe
from harness.experiment.preflight import Job
from harness.experiment.trial import Trial
from harness.guest import hang
from harness.guest.machine import MachineSpec
from harness.guest.qemu import Accelerator
from harness.guest.symbols import Symbols, decoded

TICK_S = 1.0  # how often it is asked whether anybody is left to answer
FAILURES = 3  # of an executor, before anything was begun: then it is the cell's error


class NobodyLeftError(InfraError):
    """No worker, or no scheduler: the run cannot go on (exit code 125)."""


class Carrier:
    """An executor, and what it takes to have parcels run by it; this one's is on this host."""

    kind = "local"
    address = ""

    def __init__(self, executor: Executor, cache: Path | None = None) -> None:
        """`cache`: of whoever runs the parcels, None: its own idea of it."""
        self.executor, self._cache = executor, cache

    def submit(self, sent: Parcel) -> Future[Answer]:
        """Sends it; the future may be cancelled at any time, which ends its machine."""
        return self.executor.submit(parcel.run, sent, cache=self._cache)

    def supply(self, worker: str, artefact: Artefact, content: bytes) -> None:
        """Brings it to a worker that lacks it; InfraError when that does not work."""
        raise InfraError(f"{worker or 'the worker'} lacks {artefact.name}")

    def refuse(self, worker: str, why: str) -> None:
        """Uses a worker no more; InfraError when it was the last."""
        raise InfraError(f"{worker or 'the worker'} cannot be used: {why}")

    def begun(self, sent: Parcel) -> str:
        """The worker that began it, "" when none did."""
        return ""

    def check(self) -> None:
        """NobodyLeftError when nobody is left who could run anything."""

    def hosts(self, asked: str, probe: Probe) -> Mapping[str, Host]:
        """The workers that there are, by name; at least one, or InfraError."""
        return {"": self.executor.submit(parcel.look, asked, probe).result()}

    def survey(self, asked: str, probe: Probe) -> tuple[Accelerator, Mapping[str, Host]]:
        """The accelerator of the run, one for all workers, and those that can be used.

        Rates under KVM and under TCG are two things: "auto" is KVM where all have it.
        """
        hosts = dict(self.hosts(asked, probe))
        for worker, host in list(hosts.items()):
            why = "" if host.accelerator else host.why_not
            if host.harness != parcel.version():
                why = "it has another version of the harness"
            if why:
                del hosts[worker]
                self.refuse(worker, f"{why} (try: {host.hint})" if host.hint else why)
        found = {w: h.accelerator for w, h in hosts.items() if h.accelerator is not None}
        kinds = {accelerator.name for accelerator in found.values()}
        for worker, accelerator in found.items():
            if accelerator.name == "tcg" and len(kinds) > 1:
                reason = f"{hosts[worker].name} keeps all from KVM: {accelerator.reason}"
                return dataclasses.replace(accelerator, reason=reason), hosts
        return next(iter(found.values())), hosts

    def close(self) -> None:
        """Lets go of the executor; what is still under way is ended."""
        self.executor.shutdown(wait=False, cancel_futures=True)


def carrier(table: words.Executor, listen: Listener) -> Carrier | None:
    """For [executor]; None: cells are run in this process.  InfraError without its cluster."""
    if table.kind == "local":
        return None
    from harness.experiment.dask import Cluster

    return Cluster(table, listen)


class Post:
    """Where a worker's cells are run, when that is elsewhere: each in a machine of its own.

    kill() may be called from any thread.
    """

    def __init__(
        self,
        carrier: Carrier,
        spec: Callable[[Job], MachineSpec],
        archives: Sequence[Path],
        machine: MachineMaker,
        probe: Probe,
    ) -> None:
        """`archives`: what every machine's initramfs begins with."""
        self._carrier, self._spec, self._archives = carrier, spec, archives
        self._machine, self._probe = machine, probe
        self._future: Future[Answer] | None = None
        self._lock = threading.Lock()
        self._story: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()

    def settle(self, good: bool, directory: Path) -> None:
        """After a cell's verdict: there is nothing to be kept for the next one."""

    def kill(self) -> None:
        """Ends the machine of the cell under way, wherever it is."""
        with self._lock:
            future = self._future
        if future is not None:
            future.cancel()

    def story(self) -> dict[str, Any]:
        """Who ran the last cell."""
        return self._story

    def attempt(self, job: Job, directory: Path, listen: Listener) -> Attempt:
        """Has one boot of a cell run elsewhere; as cell.run(), with its files in `directory`."""
        spec, self._story = self._spec(job), {}
        files = {artefacts.of(path): path for path in (spec.bzimage, *self._archives)}
        bzimage, *archives = files
        token = f"{job.cell.name}#{secrets.token_hex(8)}"
        sent = parcel.pack(job, spec, archives, bzimage, token, self._machine, self._probe)
        failures = 0
        while not job.stopped():
            try:
                answer = self._answer(sent, job)
            except NobodyLeftError:
                raise
            except (Exception, CancelledError) as error:
                if job.stopped():
                    break
                self._carrier.check()  # the end of the cluster is the end of the run
                if worker := self._carrier.begun(sent):
                    why = error.message if isinstance(error, HarnessError) else ""
                    return self._lost(job, directory, worker, why)
                failures += 1
                if failures == FAILURES:
                    return _failed(f"it could not be run: {type(error).__name__}: {error}")
                continue
            if isinstance(answer, Begun):
                return self._lost(job, directory, answer.worker)
            if isinstance(answer, parcel.Reply):
                return self._received(answer, job, directory, files, listen)
            try:
                if isinstance(answer, Lacks):
                    for artefact in answer.artefacts:
                        content = files[artefact].read_bytes()
                        self._carrier.supply(answer.worker, artefact, content)
                        text = f"{artefact.name} ({len(content) >> 10} KiB) to {answer.worker}"
                        listen(Event("note", job.cell.name, text))
                    continue
                why = answer.why
            except (HarnessError, OSError) as error:
                why = str(error)
            self._carrier.refuse(answer.worker, why)
        return _failed("the run ends")

    def _answer(self, sent: Parcel, job: Job) -> Answer:
        future = self._carrier.submit(sent)
        with self._lock:
            self._future = future
        try:
            while not job.stopped():
                try:
                    return future.result(TICK_S)
                except TimeoutError:
                    if future.done():  # since then, or it is the task's own
                        return future.result()
                self._carrier.check()
            raise CancelledError
        finally:
            future.cancel()
            with self._lock:
                self._future = None

    def _lost(self, job: Job, directory: Path, worker: str, why: str = "") -> Attempt:
        why = f"worker {worker}: {why}" if why else f"worker {worker} was lost"
        self._story = {"worker": {"address": worker}}
        # Which trial was under way nobody knows, but one may have been.
        trial = Trial(1, "lost", why=why)
        store.write_text(directory / "trials.jsonl", json.dumps(trial.to_json()) + "\n")
        store.write_text(directory / "error.txt", f"{why}\n")
        return Attempt(
            trials=[trial], fate="lost", death=why, faults=[why], error=MachineLostError(why)
        )

    def _received(
        self,
        reply: parcel.Reply,
        job: Job,
        directory: Path,
        files: Mapping[Artefact, Path],
        listen: Listener,
    ) -> Attempt:
        self._story = {
            "worker": {"address": reply.worker, **reply.host.to_json()}, "host_load": reply.load
        }  # fmt: skip
        here = {artefact.sha256: path for artefact, path in files.items()}
        moved = {old: str(here[digest]) for old, digest in reply.moved.items() if digest in here}
        moved[reply.directory] = str(directory.absolute())
        moved |= {digest: path.name for digest, path in here.items()}
        for event in reply.events:
            listen(dataclasses.replace(event, message=_at_home(event.message, moved)))
        keep(reply.files, directory, moved)
        attempt = reply.attempt
        if attempt.error is not None:
            for key in ("hint", "detail"):
                setattr(attempt.error, key, _at_home(getattr(attempt.error, key), moved))
        if job.symbols is not None:
            _decode(attempt, directory, job.symbols, job.stopped)
        return attempt


def _failed(why: str) -> Attempt:
    return Attempt(error=InfraError(why), faults=[why])


def keep(files: Mapping[str, bytes], directory: Path, moved: Mapping[str, str]) -> None:
    """Writes what came into `directory` and nowhere else; InfraError for any other name.

    What is for a person or a shell names the files here, not where it was written.
    """
    for name, content in files.items():
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\0" in name:
            raise InfraError(f"a worker sent a file with a name that is none: {name!r}")
        path = directory.joinpath(*parts)
        if path.name in ("qemu-cmd", "error.txt"):
            content = _at_home(content.decode("utf-8", "surrogateescape"), moved).encode(
                "utf-8", "surrogateescape"
            )
        with store.writing(directory):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _at_home(text: str, moved: Mapping[str, str]) -> str:
    for there, here in moved.items():
        text = text.replace(there, here)
    return text


def _decode(
    attempt: Attempt, directory: Path, symbols: Symbols, stopped: Callable[[], bool]
) -> None:
    """Files and lines for what the kernel said, which only we can tell."""
    told = decoded(
        [*attempt.splats, *(each.splat for each in attempt.allowed)], symbols, stopped
    )
    count = len(attempt.splats)
    attempt.splats = told[:count]
    attempt.allowed = [
        dataclasses.replace(each, splat=splat)
        for each, splat in zip(attempt.allowed, told[count:], strict=True)
    ]
    cells_room.write_splats(directory, attempt)
    place, found = directory / "hang", {}
    for name in ("stacks.txt", "sysrq.txt"):
        if (path := place / name).is_file():
            found[name] = symbols.annotate(path.read_text(errors="replace"), stopped)
            store.write_text(path, found[name])
    if summary := hang.summary(found) if found else "":
        store.write_text(place / "who.txt", f"{summary}\n")
