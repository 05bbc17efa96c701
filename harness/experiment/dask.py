# SPDX-License-Identifier: GPL-2.0
"""Cells on a Dask cluster that is there already; the only module that knows `distributed`.

Dask runs a task again when the worker that had it is gone, up to the scheduler's own
`allowed-failures`.  A cell must not be run twice, so whoever begins one first says so to the
scheduler and waits for the answer; who finds that it was begun before does not begin it.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

from harness import words
from harness.errors import InfraError
from harness.events import Event, Listener
from harness.experiment import parcel
from harness.experiment.artefacts import Artefact, Shelf
from harness.experiment.parcel import Answer, Begun, Host, Parcel, Probe
from harness.experiment.post import Carrier, NobodyLeftError
from harness.places import cache_dir

CONNECT_S = 10.0
CLOSE_S = 2.0
ASK_S = 1.0  # the scheduler is asked no more often who its workers are
PIP = "pip install 'mapping-range-lock-harness[dask]'"
# Of a task whose result is still wanted, on its worker.
_WANTED = ("executing", "long-running")
_OVER = ("closing", "closed", "failed")  # of a worker; one that retires finishes what it has


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise InfraError(
            f"[executor] kind = 'dask' needs the Python package 'distributed': {error}", hint=PIP
        ) from error


class Cluster(Carrier):
    """The driver's side: a client of the scheduler."""

    kind = "dask"

    def __init__(self, table: words.Executor, listen: Listener) -> None:
        """Connects; InfraError when no scheduler answers."""
        distributed = _distributed()
        # What went wrong is an exception, or a future's; its log is for developers.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self.address, self._wait_s, self._listen = table.address, table.wait_s, listen
        try:
            self._client = distributed.Client(
                table.address, timeout=CONNECT_S, set_as_default=False, name="harness"
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise InfraError(
                f"no Dask scheduler answers at {table.address}",
                hint=f"dask scheduler --port {table.address.rpartition(':')[2]}",
                detail=str(error),
            ) from error
        super().__init__(self._client.get_executor(pure=False, retries=0))
        self._run = f"harness-{secrets.token_hex(8)}"
        self._refused: dict[str, str] = {}  # worker -> why
        self._lock = threading.Lock()
        self._asked = 0.0
        self._seen = time.monotonic()  # when there was a worker last

    # --- who is there -----------------------------------------------------------

    def _workers(self) -> list[str]:
        """Those that can be used, now."""
        found = self._ask(self._client.nthreads)
        return [each for each in found if each not in self._refused]

    def _ask(self, question: Callable[..., Any], *args: Any, **more: Any) -> Any:
        try:
            return question(*args, **more)
        except (OSError, TimeoutError, RuntimeError, CancelledError) as error:
            raise self._gone() from error

    def _gone(self) -> NobodyLeftError:
        return NobodyLeftError(
            f"the Dask scheduler at {self.address} went away; what was finished is kept",
            hint="harness run --resume",
        )

    def _nobody(self) -> NobodyLeftError:
        left = "; ".join(f"{worker}: {why}" for worker, why in self._refused.items())
        return NobodyLeftError(
            f"no worker is left at {self.address}" + (f" ({left})" if left else ""),
            hint=f"dask worker {self.address} --nthreads 1",
        )

    def check(self) -> None:
        """NobodyLeftError: the scheduler is gone, or no worker was there for wait_s.

        Of a scheduler that comes again nobody learns what was begun: gone is gone.
        """
        if self._client.status != "running":
            raise self._gone()
        with self._lock:
            now = time.monotonic()
            if now < self._asked + ASK_S:
                return
            self._asked = now
            if self._workers():
                self._seen = now
            elif now > self._seen + self._wait_s:
                raise self._nobody()

    def hosts(self, asked: str, probe: Probe) -> Mapping[str, Host]:
        """All workers; where there is none, one is waited for: a cluster may grow when asked."""
        if not self._workers():
            text = f"no worker at {self.address} yet, waiting {self._wait_s:g} s for one"
            self._listen(Event("note", "executor", text))
            future = self.executor.submit(parcel.look, asked, probe)
            while not future.done():
                self.check()
                with contextlib.suppress(TimeoutError):
                    future.exception(ASK_S)
        found = self._ask(self._client.run, parcel.look, asked, probe, on_error="return")
        hosts = {}
        for worker, host in found.items():
            if isinstance(host, Host):
                hosts[worker] = host
            else:  # it has no harness, or one that does not know how
                self.refuse(worker, f"{type(host).__name__}: {host}")
        if not hosts:
            raise self._nobody()
        return hosts

    def refuse(self, worker: str, why: str) -> None:
        """Uses a worker no more; InfraError when it was the last."""
        with self._lock:
            if worker not in self._refused:
                self._refused[worker] = why
                self._listen(Event("note", "executor", f"not used: {worker}: {why}"))
            if not self._workers():
                raise self._nobody()

    # --- parcels ----------------------------------------------------------------

    def submit(self, sent: Parcel) -> Future[Answer]:
        """Gives it to the scheduler, for any worker that is not refused."""
        where = {"workers": self._workers()} if self._refused else {}
        return self.executor.submit(errand, sent, self._run, **where)

    def supply(self, worker: str, artefact: Artefact, content: bytes) -> None:
        """Straight to the worker, past the scheduler's queue."""
        try:
            self._client.run(_put, artefact, content, workers=[worker])
        except InfraError:
            raise
        except Exception as error:  # it has just gone, perhaps
            raise InfraError(f"{artefact.name} cannot be brought to {worker}: {error}") from error

    def begun(self, sent: Parcel) -> str:
        """As the worker told the scheduler."""
        return str(self._ask(self._client.get_metadata, [self._run, sent.token], default=""))

    def close(self) -> None:
        """Cancels what is under way, and leaves the cluster as it was."""
        with contextlib.suppress(Exception):
            if self._client.status == "running":
                self._client.set_metadata([self._run], {})
        with contextlib.suppress(Exception):
            self._client.close(timeout=CLOSE_S)


# --- on the worker ---------------------------------------------------------------


def errand(sent: Parcel, run: str) -> Answer:
    """Runs a parcel in a worker's thread, unless it was begun before."""
    distributed = _distributed()
    worker, client = distributed.get_worker(), distributed.get_client()
    if before := client.get_metadata([run, sent.token], default=""):
        return Begun(before)
    return parcel.run(
        sent,
        worker.address,
        lambda: client.set_metadata([run, sent.token], worker.address),
        _unwanted(worker),
    )


def _unwanted(worker: Any) -> Callable[[], bool]:
    """Whether nobody waits for the task under way: cancelled, its client gone, worker closing."""
    task = worker.state.tasks[worker.get_current_task()]

    def unwanted() -> bool:
        return task.state not in _WANTED or worker.status.name in _OVER

    return unwanted


def _put(artefact: Artefact, content: bytes) -> None:
    Shelf(cache_dir()).put(artefact, content)
