# SPDX-License-Identifier: GPL-2.0
"""What a [workload.NAME] of harness.toml may say: its program, ways in, cells and windows."""

from __future__ import annotations

import re
from pathlib import Path

from harness.parsing import Parsing
from harness.position import KeyPath
from harness.shape import nearest
from harness.words import Config, Window, Workload

TRIALS = (1, 1_000_000)  # of a cell
_SOURCE = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)*[A-Za-z0-9][A-Za-z0-9._-]*\.c")
_SOURCE_LENGTH = 200
_LINE = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")
_SWITCHES = re.compile(r"[a-z0-9_-]+(?:\+[a-z0-9_-]+)*")


class WorkloadChecks(Parsing):
    """Checks of workloads, in a file whose directory is the checkout."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(path, text)
        self.root = path.absolute().parent

    def workload(self, key: KeyPath, workload: Workload, config: Config) -> None:
        source = (*key, "source")
        if len(workload.source) > _SOURCE_LENGTH or not _SOURCE.fullmatch(workload.source):
            self.fail(source, "must be a C file below workloads/, such as 'races/name.c'")
        if not (self.root / "workloads" / workload.source).is_file():
            near = nearest(workload.source, self.sources())
            self.fail(source, f"no workloads/{workload.source}{near}")
        if workload.since and not _LINE.fullmatch(workload.since):
            self.fail((*key, "since"), "must be a line of kernels, such as '5.14'")
        for i, switch in enumerate(self.distinct((*key, "switches"), workload.switches)):
            if not _SWITCHES.fullmatch(switch):
                self.fail((*key, "switches", i), "must be switch names joined by '+'")
            for name in switch.split("+") if config.switch else ():
                self.refers((*key, "switches", i), name, "switch", config.switch)
        if workload.kind == "gate" and workload.switches:
            self.fail((*key, "switches"), "a gate does not run on control kernels: no switches")
        for i, role in enumerate(self.distinct((*key, "fires_on"), workload.fires_on)):
            if role == "control":
                self.fail(
                    (*key, "fires_on", i), "what fires on a control kernel is named in 'switches'"
                )
        for kind in ("filesystem", "kernel"):
            at = (*key, f"{kind}s")
            for i, name in enumerate(self.distinct(at, getattr(workload, f"{kind}s"))):
                self.refers((*at, i), name, kind, getattr(config, kind))
        self.distinct((*key, "modes"), workload.modes)
        for role, trials in workload.trials.items():
            self.within((*key, "trials", role), trials, *TRIALS)
        types = {f.type for f in config.filesystem.values()}
        for kind, windows in workload.windows.items():
            at = (*key, "windows", kind)
            if kind not in types:
                self.fail(at, f"no [filesystem.*] has this type{nearest(kind, types)}")
            self.distinct(at, [w.name for w in windows])
            for i, window in enumerate(windows):
                self.name((*at, i, "name"), window.name)
                self.bounds((*at, i), window, Window)
                self.rendezvous((*at, i), window)

    def sources(self) -> set[str]:
        """What `source` may say: all programs there are."""
        home = self.root / "workloads"
        found = (path for path in home.glob("*/*.c") if path.parent.name != "lib")
        return {str(path.relative_to(home)) for path in found}

    def rendezvous(self, key: KeyPath, window: Window) -> None:
        for end in ("partner", "attempt"):
            name = getattr(window, end)
            if name:
                self.name((*key, end), name)
            if name == window.name:
                self.fail((*key, end), f"'{name}' cannot wait for itself")
        if window.attempt and not window.partner:
            self.fail((*key, "attempt"), "needs a 'partner', from which it tells who was kept out")
        if window.partner and not window.delay_us:
            self.fail((*key, "delay_us"), "must be above 0: it is how long a partner is waited for")
