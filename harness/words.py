# SPDX-License-Identifier: GPL-2.0
"""The words of harness.toml, as frozen structs.

Import them from harness.config, which also reads and checks the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

TreeKind = Literal["debian", "git", "tarball", "dir"]
Role = Literal["control", "stock", "candidate"]
Accel = Literal["auto", "kvm", "tcg"]
WorkloadKind = Literal["race", "gate", "bench"]
Mode = Literal["armed", "unarmed"]
# Of a run: as its plan says, or "replay": armed, in machines that do the same every time.
RunMode = Literal["armed", "unarmed", "replay"]
Clock = Literal["icount", "tcg"]  # what time is: instructions, or the host's
ExecutorKind = Literal["local", "dask"]

USUAL_RATE = 0.9  # of a race that must fire, see Workload.min_rate


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every table of harness.toml: frozen, unknown keys refused."""


class Tree(Table, frozen=True, kw_only=True):
    """Kernel source: exactly the keys its `kind` needs, no others."""

    kind: TreeKind
    line: str  # the tree line: patches/<series>/<line>/ serves it
    package: str = ""  # debian: binary package name, "linux-source-6.12"
    suite: str = ""  # debian: another one than the system's, "bullseye", "sid"
    url: str = ""  # git: path or URL
    ref: str = ""  # git: branch, tag or commit
    path: str = ""  # tarball, dir: path, relative to harness.toml


class Kernel(Table, frozen=True, kw_only=True):
    """tree + series + fragments."""

    role: Role
    tree: str
    series: list[str] = []  # "name", or "name:N" for its first N patches
    # Its own control, as it was shipped: no windows, no switches, races by chance only.
    # What fires and what holds are both as expected: the rate is what is asked.
    unaided: bool = False
    fragments: list[str]  # names under vm/kconfig/, without ".config"


class Guest(Table, frozen=True, kw_only=True):
    """The virtual machine."""

    cpus: int = 2
    memory_mib: int = 1024
    accel: Accel = "auto"
    disk_mib: int = 512  # the scratch disk, a sparse file
    boot_timeout_s: float = 30.0  # on KVM; multiplied by the accelerator's slowdown
    cmdline: list[str] = []  # added to the kernel command line


class Filesystem(Table, frozen=True, kw_only=True):
    """mkfs and mount options under a name."""

    type: str  # "ext4", "xfs": also the key of Workload.windows
    mkfs: list[str]  # argv; the device is appended
    mount: list[str] = []  # -o options; each must show up in /proc/self/mounts
    block_size: int = 4096  # what statfs must report
    reflink: bool = False  # whether FICLONE must work


class Window(Table, frozen=True, kw_only=True):
    """One window armed for a cell."""

    name: str  # as under debugfs race_windows/
    delay_us: int
    probability: int = 100  # per cent
    # A rendezvous: held until this window is passed, for delay_us only if it is not ...
    partner: str = ""
    attempt: str = ""  # ... which counts as excluded if this one, before the lock, was

    @property
    def argument(self) -> str:
        """What the reproducer takes after --window."""
        meeting = f"@{self.partner}" if self.partner else ""
        meeting += f"/{self.attempt}" if self.attempt else ""
        return f"{self.name}:{self.delay_us}:{self.probability}{meeting}"


class Workload(Table, frozen=True, kw_only=True):
    """A C program under workloads/."""

    kind: WorkloadKind
    source: str  # relative to workloads/, "races/punch-read-fault.c"
    args: list[str] = []
    # On a control kernel: each entry is one way in, "+" joins switches that are
    # needed together ("fault+mkwrite").  One cell per entry.
    switches: list[str] = []
    # Roles, control aside, on which it must be exposed, since what it looks for is
    # open there.  What fires there counts as if a control kernel had fired.
    fires_on: list[Role] = []
    filesystems: list[str] = []  # cells on these only; none = on all of the plan
    kernels: list[str] = []  # as above
    modes: list[Mode] = []  # as above
    # The oldest tree line that it is for, "5.14": older ones have not the call, or do it wrong.
    since: str = ""
    trials: dict[Role, int] = {}  # per cell, instead of the plan's
    windows: dict[str, list[Window]] = {}  # by Filesystem.type
    # Lower bound of the 95 % interval of the exposure rate that must be reached where
    # it must fire: a reproducer that fires less often is broken.
    min_rate: float = USUAL_RATE
    timeout_s: float = 60.0  # up to 400 trials, on KVM; multiplied by the slowdown
    figures: list[str] = []  # bench: keys of a trial's JSON that are its figures; less is better
    rates: list[str] = []  # bench: for `harness bench` likewise, per second: more is better
    # bench: its operations arrive by a schedule, which --slow N stretches for guests that
    # are slower and whose clock is the host's.
    scheduled: bool = False


class Switch(Table, frozen=True, kw_only=True):
    """A lock site of control kernels that can be turned off."""

    what: str  # one line: what is not locked
    filesystems: list[str] = []  # that have the site; none = all


class Allow(Table, frozen=True, kw_only=True):
    """A complaint of the kernel that is known, and costs no cell its verdict."""

    title: str  # regular expression, for the whole title
    tree: str  # on kernels of this tree only
    reason: str  # why it may be passed over, for whoever reads the results


class Plan(Table, frozen=True, kw_only=True):
    """A named selection of cells."""

    kernels: list[str]
    filesystems: list[str]
    workloads: list[str]
    guest: str
    trials: dict[Role, int]  # per cell, by the kernel's role
    # Instead, where a race must hold: as many as show a rate below this, if all hold.
    bound: float = 0.0
    # Instead of the usual min_rate, for a plan of few trials or of many; 0: as it is.  A
    # workload that fires less often keeps its own.
    min_rate: float = 0.0
    # All cells together; each has its share, and as many trials as that allows, up to
    # those above.  0: no limit.
    budget_s: float = 0.0
    # With its windows armed, without, or a cell for each: their rates are two things.
    modes: list[Mode] = msgspec.field(default_factory=lambda: ["armed"])
    seed: int = 1
    # Each cell's trials over so many boots, since those of one boot resemble each other.
    boots: int = 1
    # Guests at once; 0: as many as the host has CPUs for.
    jobs: int = 0
    # How many cells may share a boot: each has a file system of its own, and one
    # that ends otherwise than expected takes the machine with it.
    cells_per_boot: int = 1


class Nightly(Table, frozen=True, kw_only=True):
    """What `harness nightly` does each night."""

    plan: str
    budget_h: float = 8.0  # all of the night; what is left then is not run
    window: int = 14  # nights over which rates and speed are looked at
    bench: list[str] = []  # workloads of kind bench
    filesystems: list[str] = []  # on which the bench is run; none = all of the plan
    measured: list[str] = []  # kernels that the bench is run on; none = all of the plan
    tolerance: float = 0.05  # by how much a figure may change before it is told


class Goal(Table, frozen=True, kw_only=True):
    """What a figure of the candidate may be, beside that of the base kernel."""

    workloads: list[str]
    figure: str  # of each of them
    most: float = 0.0  # times the base kernel's ...
    more: float | None = None  # ... or, instead, that and so much more, in the figure's unit
    clock: Clock = "icount"
    filesystems: list[str] = []  # none = all that the bench has


class Bench(Table, frozen=True, kw_only=True):
    """What `harness bench` measures."""

    kernels: list[str]  # the first one is what the others are compared with
    candidate: str  # the one that goals are about
    filesystems: list[str]
    workloads: list[str]  # of kind bench
    guest: str
    device: str = "/dev/vda"  # that file systems are made on, in that guest
    mount: dict[str, list[str]] = {}  # further options, by Filesystem.type
    boots: int = 10  # of each kernel and file system, with QEMU's CPUs side by side
    goal: list[Goal] = []


class Executor(Table, frozen=True, kw_only=True):
    """Where cells are run: docs/executors.md."""

    kind: ExecutorKind = "local"
    address: str = ""  # dask: of the scheduler, "tcp://host:8786"
    # dask: guests at once over the whole cluster; 0: as many as there are workers.
    jobs: int = 0
    wait_s: float = 60.0  # dask: for a worker to come, while there is none


class Config(Table, frozen=True, kw_only=True):
    """The whole experiment."""

    tree: dict[str, Tree]
    kernel: dict[str, Kernel]
    guest: dict[str, Guest]
    filesystem: dict[str, Filesystem]
    switch: dict[str, Switch] = {}
    workload: dict[str, Workload]
    plan: dict[str, Plan]
    allow: list[Allow] = []
    nightly: Nightly | None = None
    bench: Bench | None = None
    executor: Executor = Executor()
    root: Path = Path()  # directory of harness.toml; set by load(), not a key of the file
    path: Path = Path()  # harness.toml itself; set by load(), not a key of the file

    @property
    def benches(self) -> list[str]:
        """Names of the workloads of kind bench, in the order of harness.toml."""
        return [name for name, each in self.workload.items() if each.kind == "bench"]
