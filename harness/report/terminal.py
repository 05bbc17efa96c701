# SPDX-License-Identifier: GPL-2.0
"""What a person sees: a live view while work goes on, the table of verdicts after it.

Progress goes to standard error and the verdicts to standard output, so that
`harness run > verdicts.txt` and `harness boot --exec` give clean output.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.events import Event, Listener
from harness.report.verdicts import duration, render, render_narrow, style, summary

PROGRESS = ("tree", "build", "trial")  # kinds that come in hundreds
# Without a terminal: a log somebody reads afterwards, or a CI's page.
QUIET_S = 10.0
QUIET_SHARE = 0.1
PLAIN_WIDTH = 140
_WIDE = 10_000


@contextmanager
def terminal(
    progress: Console | None = None, output: Console | None = None, view: str = ""
) -> Iterator[Listener]:
    """A Listener that shows events on the user's terminal while the context lasts.

    On leaving, with or without an exception, a run that was announced is shown
    as the table of its verdicts.  `progress` and `output` default to standard
    error and standard output; NO_COLOR is honoured.  `view`: "quiet" (the end, and what
    is not as expected on the way), "verbose" (a line for each event), "json" (each event
    as a line on standard output, and no table), or "" for what suits the terminal.
    """
    progress = progress or _console(stderr=True)
    output = output or _console(stderr=False)
    if view == "json":
        yield json_lines
        return
    with _shown(_view(view, progress), output) as listen:
        yield listen


def _view(name: str, progress: Console) -> LiveView | PlainView:
    if name == "quiet":
        return QuietView(progress)
    if name == "verbose":
        return VerboseView(progress)
    return LiveView(progress) if progress.is_terminal else PlainView(progress)


def json_lines(event: Event) -> None:
    """One event as a line of JSON on standard output, at once."""
    values = {key: value for key, value in asdict(event).items() if value not in (None, "", {})}
    sys.stdout.write(json.dumps(values, default=str) + "\n")
    sys.stdout.flush()


@contextmanager
def _shown(view: LiveView | PlainView, output: Console) -> Iterator[Listener]:
    try:
        with view:
            yield view
    finally:
        if view.document and view.document.get("cells"):
            table = render(view.document)
            if output.is_terminal and _width(output, table) > output.width:
                table = render_narrow(view.document)
            # Still too wide: lines wrap; a figure that is cut off helps nobody.
            output.width = max(output.width, _width(output, table))
            output.print(table)
        if view.document:
            for line in summary(view.document, _short(view.directory)):
                output.print(Text(line), soft_wrap=True)


def _width(console: Console, table: Table) -> int:
    """What the table takes when nothing in it is cut off."""
    options = console.options.update(max_width=_WIDE)
    return Measurement.get(console, options, table).maximum


class PlainView:
    """One line per event; progress at most every ten seconds and ten per cent."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.document: Mapping[str, Any] | None = None
        self.directory = ""
        self._console, self._clock = console, clock
        self._cells_run = False
        self._shown: dict[tuple[str, str], tuple[float, int]] = {}  # -> (when, done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        self.directory = event.data.get("directory", self.directory)
        self.document = event.data.get("document", self.document)
        if event.kind == "run" and "cells" in event.data:
            self._cells_run = True
        if self._cells_run and (
            event.kind in ("boot", "command") or event.data.get("state") == "running"
        ):
            return  # a dozen for each cell; run.log has them
        if event.kind in PROGRESS and event.done is not None and not self._due(event):
            return
        self._console.print(Text(_line(event)), soft_wrap=True)

    def _due(self, event: Event) -> bool:
        now, done = self._clock(), event.done or 0
        key = (event.kind, event.subject)
        when, last = self._shown.setdefault(key, (now, 0))
        share = (done - last) / event.total if event.total else 1.0
        due = now - when >= QUIET_S and share >= QUIET_SHARE
        if due:
            self._shown[key] = (now, done)
        return due


class QuietView(PlainView):
    """Nothing but what is not as expected, and remarks."""

    def __call__(self, event: Event) -> None:
        """Shows one event, or not."""
        self.directory = event.data.get("directory", self.directory)
        self.document = event.data.get("document", self.document)
        verdict = event.data.get("verdict")
        if event.kind == "note" or (verdict and not verdict["as_expected"]):
            self._console.print(Text(_line(event)), soft_wrap=True)


class VerboseView(PlainView):
    """Every event, as run.log has them."""

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        self.directory = event.data.get("directory", self.directory)
        self.document = event.data.get("document", self.document)
        self._console.print(Text(_line(event)), soft_wrap=True)


class LiveView:
    """A table of cells that fills up, with the work under way below it."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.document: Mapping[str, Any] | None = None
        self.directory = ""
        self._console, self._clock = console, clock
        self._lock = threading.Lock()  # rich renders in a thread of its own
        self._cells: dict[str, dict[str, Any]] = {}  # name -> what is known of it
        self._now: Event | None = None  # tree, series, build: the work under way
        self._first_cell: float | None = None
        self._accelerator = ""
        self._live = Live(
            console=console, get_renderable=self.view, refresh_per_second=5, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Takes one event; the screen follows within a fifth of a second."""
        with self._lock:
            self._take(event)
        if event.kind in ("note", "bisect"):
            self._console.print(Text(_line(event)))

    def _take(self, event: Event) -> None:
        self.directory = event.data.get("directory", self.directory)
        self.document = event.data.get("document", self.document)
        if event.kind == "run":
            self._accelerator = event.data.get("accelerator", self._accelerator)
            for name in event.data.get("cells", ()):
                self._cells[name] = {}
            self._now = None
        elif event.kind == "cell":
            if self._first_cell is None:
                self._first_cell = self._clock()
            self._cells.setdefault(event.subject, {}).update(event.data, message=event.message)
        elif event.kind == "trial":
            known = self._cells.setdefault(event.subject, {})
            known.update(done=event.done, total=event.total, **event.data)
        elif event.kind in ("tree", "series", "build", "boot"):
            self._now = event

    def time_left(self) -> float | None:
        """Seconds until the last cell is done, from the pace so far; None = unknown."""
        finished = sum("verdict" in known for known in self._cells.values())
        if not finished or self._first_cell is None:
            return None
        pace = (self._clock() - self._first_cell) / (finished + self._fraction())
        return max(0.0, pace * (len(self._cells) - finished - self._fraction()))

    def view(self) -> RenderableType:
        """What the screen shows now."""
        with self._lock:
            parts: list[RenderableType] = []
            if self._cells:
                parts += [self._table(), self._status()]
            elif self._now is not None:
                parts.append(_work(self._now))
            return Group(*parts)

    def _running(self) -> list[dict[str, Any]]:
        return [
            known for known in self._cells.values() if "state" in known and "verdict" not in known
        ]

    def _fraction(self) -> float:
        return sum(
            (known.get("done") or 0) / (known.get("total") or 1) for known in self._running()
        )

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("cell", no_wrap=True)
        table.add_column("trials", justify="right")
        table.add_column("exposed", justify="right")
        table.add_column("verdict", overflow="ellipsis", no_wrap=True)
        begun = [(name, known) for name, known in self._cells.items() if known]
        # What does not fit above the status line would make the screen jump.
        for name, known in begun[-max(3, self._console.height - 8) :]:
            verdict = known.get("verdict")
            if verdict:
                mark = "" if verdict["as_expected"] else " (NOT EXPECTED)"
                text = Text(
                    f"{verdict['state']}{mark}", style(verdict["state"], verdict["as_expected"])
                )
                row = (str(verdict["trials"]), str(verdict["exposed"]), text)
            else:
                done, total = known.get("done", 0), known.get("total", "")
                text = Text(str(known["state"]), "cyan")
                row = (f"{done}/{total}" if done else "", str(known.get("exposed", "")), text)
            table.add_row(Text(name), *row)
        return table

    def _status(self) -> Text:
        finished = sum("verdict" in known for known in self._cells.values())
        text = f"{finished} of {len(self._cells)} cells"
        if self._accelerator:
            text += f" on {self._accelerator}"
        if (left := self.time_left()) is not None:
            text += f", about {duration(left)} left"
        return Text(text, "bold")


def _work(event: Event) -> RenderableType:
    line = Text(f"{event.kind} {event.subject}: {event.message}", overflow="ellipsis", no_wrap=True)
    if event.done is None or not event.total:
        return line
    figures = f"{event.done} of {event.total}"
    if event.eta_s is not None:
        figures += f", about {duration(event.eta_s)} left"
    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(total=event.total, completed=event.done, width=40), Text(figures))
    return Group(line, bar)


def _line(event: Event) -> str:
    if event.kind == "command":
        return f"  $ {event.message or event.subject}"
    progress = ""
    if event.done is not None:
        progress = f" [{event.done}/{'?' if event.total is None else event.total}]"
    left = f" (about {duration(event.eta_s)} left)" if event.eta_s is not None else ""
    verdict = event.data.get("verdict")
    mark = ""
    if verdict:
        mark = " (as expected)" if verdict["as_expected"] else " (NOT EXPECTED)"
    return f"{event.kind} {event.subject}{progress}: {event.message}{mark}{left}"


def _short(directory: str) -> str:
    """A path as the user would type it from here."""
    path = Path(directory)
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else directory


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if console.is_terminal:
        return console
    return Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)
