# SPDX-License-Identifier: GPL-2.0
"""harness.toml -> frozen structs; every error names the file, line and key.

This is the only place that knows the file's format.  Everything else gets a
`Config` and looks names up in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness.checks import NAME_LENGTH
from harness.errors import UsageError
from harness.position import KeyPath
from harness.shape import fault, nearest, word
from harness.words import (
    Accel,
    Allow,
    Bench,
    Config,
    Executor,
    Filesystem,
    Goal,
    Guest,
    Kernel,
    Mode,
    Nightly,
    Plan,
    Role,
    RunMode,
    Switch,
    Table,
    Tree,
    TreeKind,
    Window,
    Workload,
    WorkloadKind,
)
from harness.workloads import TRIALS, WorkloadChecks

__all__ = [
    "TABLES",
    "Accel",
    "Allow",
    "Bench",
    "Config",
    "Executor",
    "Filesystem",
    "Goal",
    "Guest",
    "Kernel",
    "Mode",
    "Nightly",
    "Plan",
    "Role",
    "RunMode",
    "Switch",
    "Tree",
    "TreeKind",
    "Window",
    "Workload",
    "WorkloadKind",
    "load",
    "nearest",
]

TABLES: Mapping[str, type[Table]] = {
    "tree": Tree,
    "kernel": Kernel,
    "guest": Guest,
    "filesystem": Filesystem,
    "switch": Switch,
    "workload": Workload,
    "plan": Plan,
}

_OPTIONAL = ("switch",)

# What a tree of each kind is made from; any other key of Tree is refused.
_TREE_KEYS: Mapping[str, tuple[str, ...]] = {
    "debian": ("package",),
    "git": ("url", "ref"),
    "tarball": ("path",),
    "dir": ("path",),
}

_OPTIONAL_TREE_KEYS: Mapping[str, tuple[str, ...]] = {"debian": ("suite",)}

# The release field of utsname has 64 characters; the rest is version and id.
_NAME_LENGTHS = {"kernel": 24}
# What a Dask scheduler says at its start: tcp://192.0.2.1:8786.
_ADDRESS = re.compile(r"(?:tcp|tls)://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


def load(path: Path) -> Config:
    """Read and check `path`.

    Raises UsageError, one line: `FILE:LINE: KEY: what is wrong (did you mean
    'x'?)`.  Looks at the disk only for what the file points to beside itself:
    series, fragments and workload sources.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(
            f"{path}: no such file", hint="harness --config FILE ..., or cd to the checkout"
        ) from error
    except OSError as error:
        raise UsageError(f"{path}: cannot read it: {error.strerror}") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8",
            hint=f"iconv -f latin1 -t utf-8 {path}",
        ) from error
    return _Reader(path, text).config()


class _Reader(WorkloadChecks):
    """One file being checked; every method raises the error it finds first."""

    def config(self) -> Config:
        data = self.data = self.parse()
        allow = self.allowances(data.pop("allow", []))
        nightly = self.single("nightly", Nightly)
        bench = self.single("bench", Bench)
        executor = self.executor()
        for key, value in data.items():
            if key not in TABLES:
                known = (*TABLES, "allow", "bench", "executor", "nightly")
                self.fail((key,), f"unknown key{nearest(key, known)}")
            if not isinstance(value, dict):
                self.fail((key,), f"must be tables [{key}.NAME], not {word(value)}")
        for key in TABLES:
            if not data.setdefault(key, {}) and key not in _OPTIONAL:
                self.fail((key,), f"missing: at least one [{key}.NAME] is needed")
        tables: dict[str, Any] = {}
        for key, kind in TABLES.items():
            for name, value in data[key].items():
                self.name((key, name), name, _NAME_LENGTHS.get(key, NAME_LENGTH))
                if found := fault(value, kind, (key, name)):
                    self.fail(*found)
                self.printable((key, name), value)
            tables[key] = msgspec.convert(data[key], dict[str, kind])  # type: ignore[valid-type]
        tables.update(root=self.root, path=self.path.absolute())
        config = Config(**tables, allow=allow, executor=executor, nightly=nightly, bench=bench)
        self.check(config)
        return config

    def allowances(self, data: object) -> list[Allow]:
        """[[allow]] is the one array of tables."""
        if not isinstance(data, list):
            self.fail(("allow",), f"must be tables [[allow]], not {word(data)}")
        for i, value in enumerate(data):
            if found := fault(value, Allow, ("allow", i)):
                self.fail(*found)
            self.printable(("allow", i), value)
        return msgspec.convert(data, list[Allow])

    def executor(self) -> Executor:
        """[executor], and what one of its kind must have."""
        key: KeyPath = ("executor",)
        executor = self.single("executor", Executor) or Executor()
        if executor.kind == "dask" and not executor.address:
            self.fail(key, "missing key 'address': kind 'dask' is a cluster that is there already")
        if executor.kind == "dask" and not _ADDRESS.fullmatch(executor.address):
            self.fail((*key, "address"), "must be a Dask scheduler's, such as 'tcp://host:8786'")
        for name in executor.__struct_fields__ if executor.kind == "local" else ():
            if name != "kind" and getattr(executor, name) != getattr(Executor(), name):
                self.fail((*key, name), "kind 'local' has no such key: it is one machine's cells")
        return executor

    # --- meaning ----------------------------------------------------------

    def check(self, config: Config) -> None:
        for section, kind in TABLES.items():
            for name, table in getattr(config, section).items():
                self.bounds((section, name), table, kind)
        for name, tree in config.tree.items():
            self.tree(("tree", name), tree, self.data["tree"][name])
        for name, filesystem in config.filesystem.items():
            self.filesystem(("filesystem", name), filesystem)
        for section in ("kernel", "switch", "workload", "plan"):
            for name, table in getattr(config, section).items():
                getattr(self, section)((section, name), table, config)
        for i, allow in enumerate(config.allow):
            self.allow(("allow", i), allow, config)
        if config.nightly is not None:
            self.nightly(("nightly",), config.nightly, config)
        if config.bench is not None:
            self.bench(("bench",), config.bench, config)

    def bench(self, key: KeyPath, bench: Bench, config: Config) -> None:
        for kind in ("kernel", "filesystem", "workload"):
            names = getattr(bench, f"{kind}s")
            self.some((*key, f"{kind}s"), names)
            for i, name in enumerate(self.distinct((*key, f"{kind}s"), names)):
                self.refers((*key, f"{kind}s", i), name, kind, getattr(config, kind))
                if kind == "workload" and (made := config.workload[name].kind) != "bench":
                    self.fail((*key, "workloads", i), f"'{name}' is a {made}")
        self.refers((*key, "guest"), bench.guest, "guest", config.guest)
        if bench.candidate not in bench.kernels[1:]:
            self.fail((*key, "candidate"), "must be one of 'kernels', and not the first")
        for i, goal in enumerate(bench.goal):
            at = (*key, "goal", i)
            for j, name in enumerate(goal.filesystems):
                if name not in bench.filesystems:
                    self.fail((*at, "filesystems", j), f"'{name}' is not in [bench] filesystems")
            for j, name in enumerate(goal.workloads):
                # One that is not in [bench] is judged when it is named: harness bench -w.
                if name not in config.benches:
                    self.fail((*at, "workloads", j), f"'{name}' is no workload of kind bench")
                if goal.figure not in config.workload[name].figures:
                    self.fail((*at, "figure"), f"'{goal.figure}' is no figure of '{name}'")
            if (goal.more is None) == (goal.most == 0):
                self.fail(at, "needs one of 'most' and 'more'")

    def nightly(self, key: KeyPath, nightly: Nightly, config: Config) -> None:
        self.refers((*key, "plan"), nightly.plan, "plan", config.plan)
        for names, kind in (("bench", "workload"), ("filesystems", "filesystem"),
                            ("measured", "kernel")):  # fmt: skip
            at = (*key, names)
            for i, name in enumerate(self.distinct(at, getattr(nightly, names))):
                self.refers((*at, i), name, kind, getattr(config, kind))
        for i, name in enumerate(nightly.bench):
            if config.workload[name].kind != "bench":
                self.fail((*key, "bench", i), f"'{name}' is a {config.workload[name].kind}")

    def allow(self, key: KeyPath, allow: Allow, config: Config) -> None:
        try:
            pattern = re.compile(allow.title)
        except (re.error, OverflowError, RecursionError) as error:
            self.fail((*key, "title"), f"not a regular expression: {error}")
        if pattern.fullmatch("") or pattern.fullmatch("a complaint of any sort"):
            self.fail((*key, "title"), "matches every title: name the complaint")
        self.refers((*key, "tree"), allow.tree, "tree", config.tree)
        if not allow.reason.strip():
            self.fail((*key, "reason"), "must not be empty: who reads the results asks why")

    def tree(self, key: KeyPath, tree: Tree, given: Mapping[str, Any]) -> None:
        needs = _TREE_KEYS[tree.kind]
        takes = (*needs, *_OPTIONAL_TREE_KEYS.get(tree.kind, ()))
        every = (*_TREE_KEYS.values(), *_OPTIONAL_TREE_KEYS.values())
        self.name((*key, "line"), tree.line)
        for other in sorted({k for keys in every for k in keys}):
            if other in given and other not in takes:
                self.fail(
                    (*key, other),
                    f"not a key of a tree of kind '{tree.kind}', which takes: {', '.join(takes)}",
                )
            if other in (takes if other in given else needs) and not getattr(tree, other).strip():
                what = "must not be empty" if other in given else "missing"
                self.fail((*key, other), f"{what}: a tree of kind '{tree.kind}' needs it")
        for name in ("package", "suite"):
            if getattr(tree, name):
                self.name((*key, name), getattr(tree, name))
        for option in ("url", "ref"):  # git would take it for an option
            if getattr(tree, option).startswith("-"):
                self.fail((*key, option), "must not begin with '-'")

    def kernel(self, key: KeyPath, kernel: Kernel, config: Config) -> None:
        self.refers((*key, "tree"), kernel.tree, "tree", config.tree)
        line = config.tree[kernel.tree].line
        available = {p.parent.parent.name for p in self.root.glob(f"patches/*/{line}/series")}
        names = [series.partition(":") for series in kernel.series]
        for i, (_, colon, count) in enumerate(names):
            if colon and not re.fullmatch(r"[1-9][0-9]*", count):
                self.fail(
                    (*key, "series", i),
                    f"{count!r} is not a number of patches: write 'name' or 'name:N'",
                )
        for i, series in enumerate(self.distinct((*key, "series"), [n for n, _, _ in names])):
            if series not in available:
                self.fail(
                    (*key, "series", i),
                    f"no patches/{series}/{line}/series{nearest(series, available)}",
                )
        if kernel.unaided and kernel.role == "control":
            self.fail((*key, "unaided"), "a control kernel has windows and switches")
        fragments = {p.stem for p in self.root.glob("vm/kconfig/*.config")}
        self.some((*key, "fragments"), kernel.fragments)
        for i, fragment in enumerate(self.distinct((*key, "fragments"), kernel.fragments)):
            if fragment not in fragments:
                self.fail(
                    (*key, "fragments", i),
                    f"no vm/kconfig/{fragment}.config{nearest(fragment, fragments)}",
                )

    def filesystem(self, key: KeyPath, filesystem: Filesystem) -> None:
        self.name((*key, "type"), filesystem.type)
        self.some((*key, "mkfs"), filesystem.mkfs)
        if filesystem.block_size & (filesystem.block_size - 1):
            self.fail((*key, "block_size"), f"{filesystem.block_size} is not a power of two")
        for i, option in enumerate(filesystem.mount):
            if not option or re.search(r"[\s,]", option):
                self.fail((*key, "mount", i), "must be one mount option, without spaces or commas")

    def switch(self, key: KeyPath, switch: Switch, config: Config) -> None:
        at = (*key, "filesystems")
        for i, name in enumerate(self.distinct(at, switch.filesystems)):
            self.refers((*at, i), name, "filesystem", config.filesystem)

    def plan(self, key: KeyPath, plan: Plan, config: Config) -> None:
        for kind in ("kernel", "filesystem", "workload"):
            at = (*key, f"{kind}s")
            names = getattr(plan, f"{kind}s")
            self.some(at, names)
            for i, name in enumerate(self.distinct(at, names)):
                self.refers((*at, i), name, kind, getattr(config, kind))
        self.some((*key, "modes"), plan.modes)
        self.distinct((*key, "modes"), plan.modes)
        self.refers((*key, "guest"), plan.guest, "guest", config.guest)
        for role, trials in plan.trials.items():
            self.within((*key, "trials", role), trials, *TRIALS)
        for name in plan.kernels:
            role = config.kernel[name].role
            if role not in plan.trials:
                self.fail((*key, "trials"), f"missing key '{role}': kernel '{name}' has that role")
        for i, name in enumerate(plan.workloads):
            workload = config.workload[name]
            if workload.kind == "bench":
                self.fail((*key, "workloads", i), f"'{name}' is a bench: it has no verdict")
            for kind in ("kernel", "filesystem"):
                only = getattr(workload, f"{kind}s")
                if only and not set(only) & set(getattr(plan, f"{kind}s")):
                    self.fail(
                        (*key, "workloads", i),
                        f"'{name}' has no cell here: of {kind}s it takes only {', '.join(only)}",
                    )
            if config.guest[plan.guest].cpus < 2:
                self.fail(
                    (*key, "guest"),
                    f"'{plan.guest}' has 1 CPU, and the {workload.kind} '{name}' needs 2",
                )
