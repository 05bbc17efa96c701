# SPDX-License-Identifier: GPL-2.0
"""A plan of harness.toml -> the cells of a run, in the order they are run."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.config import Config, Role, Window, nearest
from harness.errors import UsageError

OFF = "off"  # the variant of a control cell in which every switch is off


@dataclass(frozen=True)
class Cell:
    """kernel x filesystem x workload (x switch on a control kernel): one verdict."""

    kernel: str
    role: Role
    filesystem: str
    workload: str
    switch: str  # "fault", "fault+mkwrite"; "" = no switch on, or none there
    windows: tuple[Window, ...]  # armed for every trial; empty = unarmed
    trials: int
    seed: int  # of this cell: derived from the plan's seed and the cell's name

    @property
    def variant(self) -> str:
        """"fault" or "off" on a control kernel, "" on the others, which have no switches."""
        return (self.switch or OFF) if self.role == "control" else ""

    @property
    def name(self) -> str:
        """"control/ext4/punch-read-fault@fault": also the directory under cells/."""
        return _name(self.kernel, self.filesystem, self.workload, self.variant)

    @property
    def window(self) -> str | None:
        """"ext4_truncate:15000+filemap_fault:5000" (microseconds); None = unarmed."""
        return "+".join(f"{w.name}:{w.delay_us}" for w in self.windows) or None


def program_key(source: str) -> str:
    """Where a workload's program is, below /workloads in the guest.

    "races/punch-read-fault.c" -> "races/punch-read-fault", which is also its
    key in what guest.programs.compile_workloads() returns.
    """
    return str(PurePosixPath(source).with_suffix(""))


def cells(
    cfg: Config,
    plan_name: str,
    kernels: Sequence[str] = (),
    filesystems: Sequence[str] = (),
    workloads: Sequence[str] = (),
    trials: int | None = None,
    seed: int | None = None,
) -> list[Cell]:
    """The cells of plan `plan_name`, control kernels first.

    Control first, because a verdict elsewhere counts only when the reproducer
    has fired on a control kernel in the same run.  Within a role the order is
    the plan's, whatever the order of the filters.  `kernels`, `filesystems` and
    `workloads` keep only those names (none = all); `trials` and `seed` replace
    the plan's.  Raises UsageError for a name that is not in the plan.
    """
    plan = cfg.plan.get(plan_name)
    if plan is None:
        raise _unknown("plan", plan_name, cfg.plan, "harness.toml", known=())
    if trials is not None and trials < 1:
        raise UsageError(f"--trials {trials}: at least one trial is needed")
    chosen_kernels = _chosen("kernel", kernels, plan.kernels, plan_name, cfg.kernel)
    chosen_filesystems = _chosen(
        "filesystem", filesystems, plan.filesystems, plan_name, cfg.filesystem
    )
    chosen_workloads = _chosen("workload", workloads, plan.workloads, plan_name, cfg.workload)
    plan_seed = plan.seed if seed is None else seed

    result = []
    # sorted() is stable: the plan's own order survives within the two groups.
    for kernel in sorted(chosen_kernels, key=lambda k: cfg.kernel[k].role != "control"):
        role = cfg.kernel[kernel].role
        number = plan.trials.get(role, 0) if trials is None else trials
        if number < 1:
            raise UsageError(
                f"plan {plan_name!r} says no number of trials for role {role!r}"
                f" (kernel {kernel!r})",
                hint=f"add {role} = N to plan.{plan_name}.trials in harness.toml, or give --trials",
            )
        for filesystem in chosen_filesystems:
            kind = cfg.filesystem[filesystem].type
            for workload in chosen_workloads:
                entry = cfg.workload[workload]
                for switch in [*entry.switches, ""] if role == "control" else [""]:
                    variant = (switch or OFF) if role == "control" else ""
                    result.append(
                        Cell(
                            kernel=kernel,
                            role=role,
                            filesystem=filesystem,
                            workload=workload,
                            switch=switch,
                            windows=tuple(entry.windows.get(kind, ())),
                            trials=number,
                            seed=cell_seed(
                                plan_seed, _name(kernel, filesystem, workload, variant)
                            ),
                        )
                    )
    return result


def cell_seed(plan_seed: int, cell_name: str) -> int:
    """The seed of one cell: 1 to 2**31 - 1, the same in every process and on every host.

    Made from the name and not from the position, so that a cell that is rerun
    alone gets the seed it had in the whole plan.
    """
    digest = hashlib.sha256(f"{plan_seed}:{cell_name}".encode()).digest()
    # 31 bits and never zero: fits any C integer type; xorshift sticks at zero.
    return int.from_bytes(digest[:8], "big") % (2**31 - 1) + 1


def _name(kernel: str, filesystem: str, workload: str, variant: str) -> str:
    return f"{kernel}/{filesystem}/{workload}" + (f"@{variant}" if variant else "")


def _chosen(
    what: str,
    asked: Sequence[str],
    planned: Sequence[str],
    plan_name: str,
    known: Container[str],
) -> list[str]:
    for name in asked:
        if name not in planned:
            raise _unknown(what, name, planned, f"plan {plan_name!r}", known=known)
    return [name for name in dict.fromkeys(planned) if not asked or name in asked]


def _unknown(
    what: str, name: str, valid: Iterable[str], where: str, known: Container[str]
) -> UsageError:
    guess = nearest(name, valid)
    if name in known:
        message = f"{what} {name!r} is in harness.toml but not in {where}{guess}"
    else:
        message = f"no {what} {name!r} in {where}{guess}"
    return UsageError(message, hint="harness list")
