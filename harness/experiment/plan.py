# SPDX-License-Identifier: GPL-2.0
"""A plan of harness.toml -> the cells of a run, in the order they are run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.config import (
    Config,
    Mode,
    Plan,
    Role,
    RunMode,
    Window,
    Workload,
    WorkloadKind,
    nearest,
)
from harness.errors import InfraError, UsageError
from harness.experiment.statistics import CONFIDENCE, trials_to_exclude, trials_to_show
from harness.words import USUAL_RATE

_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)*")
OFF = "off"  # the variant of a control cell in which every switch is off
# How a cell is named whose windows only count.
UNARMED = "~unarmed"
# A budget leaves a cell no fewer trials: where a race must hold, and where a gate must
# pass, which is no matter of luck.  Where it must fire it may miss so many times, and
# its rate can still be shown.
FEWEST = 10
FEWEST_OF_A_GATE = 2
MISSES = 2
# What must fire runs before what must hold.
ORDER: tuple[Role, ...] = ("control", "stock", "candidate")


@dataclass(frozen=True)
class Cell:
    """kernel x filesystem x workload (x switch on a control kernel): one verdict."""

    kernel: str
    role: Role
    filesystem: str
    workload: str
    switch: str  # "fault", "fault+mkwrite"; "" = no switch on, or none there
    windows: tuple[Window, ...]  # of every trial; without a delay if it is not armed
    trials: int
    seed: int  # of this cell: derived from the plan's seed and the cell's name
    kind: WorkloadKind = "race"
    fires_on: tuple[Role, ...] = ()  # the workload's: roles on which it is open
    armed: bool = True  # False: its windows hold nobody, chance decides
    min_rate: float = 0.9  # that must be shown where it must fire
    tree: str = ""  # of its kernel: what fires on one proves nothing on another
    unaided: bool = False  # its kernel has no windows and is its own control

    @property
    def open(self) -> bool:
        """Whether the race can be had: a switch is on, or it is open on this role."""
        return bool(self.switch) or self.role in self.fires_on

    @property
    def must_fire(self) -> bool:
        """Whether exposed is what is expected: unarmed, an open race may fire or not."""
        return self.open and self.armed and not self.unaided

    @property
    def may_fire(self) -> bool:
        """Whether either is expected: a rate is what is asked."""
        return (self.open and not self.armed) or (self.unaided and self.kind == "race")

    @property
    def fewest(self) -> int:
        """The trials that no budget may cut."""
        wanted = FEWEST_OF_A_GATE if self.kind == "gate" else FEWEST
        if self.must_fire:
            # Nobody knows how often one misses that may do so most of the time.
            sure = 0.5 <= self.min_rate < 1
            wanted = trials_to_show(self.min_rate, MISSES) if sure else self.trials
        return min(self.trials, wanted)

    @property
    def needs_fire(self) -> bool:
        """Whether "held" counts only if the workload fired elsewhere in the same run.

        A gate that fires nowhere asks for its bound and for right contents: it is its
        own proof.
        """
        if self.open or self.role == "control" or self.unaided:
            return False
        return self.kind == "race" or bool(self.fires_on)

    @property
    def variant(self) -> str:
        """"fault" or "off" on a control kernel, "" on the others, which have no switches."""
        return (self.switch or OFF) if self.role == "control" else ""

    @property
    def name(self) -> str:
        """"control/ext4/punch-read-fault@fault": also the directory under cells/."""
        return cell_name(
            self.kernel, self.filesystem, self.workload, self.variant, self.armed
        )

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


def needed(
    cfg: Config, workloads: Iterable[str], programs: Mapping[str, Path]
) -> dict[str, Path]:
    """Of `programs`, those of the workloads and the preflight; InfraError when one is missing.

    A guest unpacks its initramfs before anything else, and each program is a megabyte of it:
    all of them cost a boot under TCG a fifth of its time (tests/bench/test_boot_variants.py).
    """
    keys = {"preflight", *(program_key(cfg.workload[name].source) for name in workloads)}
    if missing := sorted(keys - set(programs)):
        raise InfraError(
            f"no program was built for {', '.join(missing)} in {cfg.root / 'workloads'}",
            hint=f"make -C {cfg.root / 'workloads'}",
        )
    return {key: programs[key] for key in sorted(keys)}


def cells(
    cfg: Config,
    plan_name: str,
    kernels: Sequence[str] = (),
    filesystems: Sequence[str] = (),
    workloads: Sequence[str] = (),
    trials: int | None = None,
    seed: int | None = None,
    modes: Sequence[RunMode] = (),
    names: Sequence[str] = (),
) -> list[Cell]:
    """The cells of plan `plan_name`: control kernels first, then stock, then candidates.

    In this order, because a verdict counts only when the reproducer has fired in
    the same run where it must.  Within a role the order is the plan's, whatever
    the order of the filters.  `kernels`, `filesystems`, `workloads` and `modes` keep
    only those names (none = all); a kernel, file system or workload of harness.toml
    that the plan does not list is run under it when it is named.  `trials` and `seed`
    replace the plan's (and `trials` the workloads').  Raises UsageError for a name
    that is not in harness.toml, and when no cell is left.  `names`: of those cells only these.
    """
    plan = cfg.plan.get(plan_name)
    if plan is None:
        raise _unknown("plan", plan_name, cfg.plan, "harness.toml", known=())
    if trials is not None and trials < 1:
        raise UsageError(f"--trials {trials}: at least one trial is needed")
    where = f"plan {plan_name!r}"
    chosen_kernels = _named("kernel", kernels, plan.kernels, cfg.kernel)
    chosen_filesystems = _named("filesystem", filesystems, plan.filesystems, cfg.filesystem)
    chosen_workloads = _named("workload", workloads, plan.workloads, cfg.workload)
    chosen_modes: list[Mode] = ["armed"]  # of a replay
    if not replays(modes):
        wanted = chosen("mode", modes, plan.modes, where, ("armed", "unarmed"))
        chosen_modes = [mode for mode in plan.modes if mode in wanted]
    plan_seed = plan.seed if seed is None else seed

    result = []
    # sorted() is stable: the plan's own order survives within a role.
    for kernel in sorted(chosen_kernels, key=lambda k: ORDER.index(cfg.kernel[k].role)):
        role, unaided = cfg.kernel[kernel].role, cfg.kernel[kernel].unaided
        if trials is None and role not in plan.trials:
            raise UsageError(
                f"plan {plan_name!r} says no number of trials for role {role!r}"
                f" (kernel {kernel!r})",
                hint=f"add {role} = N to plan.{plan_name}.trials in harness.toml, or give --trials",
            )
        for filesystem in chosen_filesystems:
            kind = cfg.filesystem[filesystem].type
            for workload in chosen_workloads:
                entry = cfg.workload[workload]
                if replays(modes) and entry.kind != "race":
                    continue  # a gate's bound is in seconds, which are not the host's there
                if kernel not in (entry.kernels or [kernel]):
                    continue
                if filesystem not in (entry.filesystems or [filesystem]):
                    continue
                if _older(cfg.tree[cfg.kernel[kernel].tree].line, entry.since):
                    continue
                for switch, mode in _variants(entry, role, kind, chosen_modes, unaided):
                    variant, armed = (switch or OFF) if role == "control" else "", mode == "armed"
                    name = cell_name(kernel, filesystem, workload, variant, armed)
                    windows = () if unaided else tuple(entry.windows.get(kind, ()))
                    result.append(
                        Cell(
                            kernel=kernel,
                            role=role,
                            filesystem=filesystem,
                            workload=workload,
                            switch=switch,
                            windows=windows if armed else disarmed(windows),
                            trials=planned_trials(plan, entry, role) if trials is None else trials,
                            seed=cell_seed(plan_seed, name),
                            kind=entry.kind,
                            fires_on=tuple(entry.fires_on),
                            armed=armed,
                            min_rate=_min_rate(plan, entry),
                            tree=cfg.kernel[kernel].tree,
                            unaided=unaided,
                        )
                    )
    if names:
        every, result = result, [cell for cell in result if cell.name in set(names)]
        for name in names:
            if name not in {cell.name for cell in result}:
                raise _unknown("cell", name, [c.name for c in every], where, known=())
    if not result:
        raise UsageError(
            f"plan {plan_name!r}: no cell is left: {', '.join(chosen_workloads)} on"
            f" {', '.join(chosen_filesystems)} has none on {', '.join(chosen_kernels)}",
            hint="harness list",
        )
    return result


def replays(modes: Sequence[RunMode]) -> bool:
    """Whether a run's cells are to be run in machines that do the same every time."""
    return "replay" in modes


def planned_trials(plan: Plan, workload: Workload, role: Role) -> int:
    """Trials of a cell when the command line does not say; 0 = nobody says."""
    if role in workload.trials:
        return workload.trials[role]
    if (
        plan.bound
        and workload.kind == "race"
        and role != "control"
        and role not in workload.fires_on
    ):
        # The claim of a verdict is the upper end of a two-sided interval.
        return trials_to_exclude(plan.bound, (1 + CONFIDENCE) / 2)
    return plan.trials.get(role, 0)


def disarmed(windows: Sequence[Window]) -> tuple[Window, ...]:
    """The race's own window, counting only.

    The others are where B is held; one in which B was not has been tried all the same.
    """
    return tuple(Window(name=window.name, delay_us=0) for window in windows[:1])


def _variants(
    workload: Workload, role: Role, kind: str, modes: Sequence[Mode], unaided: bool
) -> list[tuple[str, Mode]]:
    """The switches and modes of a workload on a role and a type of file system.

    Unarmed is another thing only where there is a window; a gate's is part of it.  A
    kernel without windows has unarmed races only, whatever the plan's modes.
    """
    if unaided and workload.kind == "race":
        return [("", "unarmed")] if "unarmed" in (workload.modes or ["unarmed"]) else []
    if unaided and workload.windows.get(kind):
        return []  # a gate that cannot do without
    wanted: Container[Mode] = workload.modes or modes
    if workload.kind == "gate" or not workload.windows.get(kind):
        wanted = ("armed",)
    modes = [mode for mode in modes if mode in wanted]
    return [(switch, mode) for mode in modes for switch in _switches(workload, role)]


def _older(line: str, since: str) -> bool:
    """Whether tree line `line` came before `since`; one that is no number did not."""
    if not since or not _NUMBERS.fullmatch(line):
        return False
    return [int(part) for part in line.split(".")] < [int(part) for part in since.split(".")]


def _min_rate(plan: Plan, workload: Workload) -> float:
    if plan.min_rate and workload.min_rate >= USUAL_RATE:
        return plan.min_rate
    return workload.min_rate


def _switches(workload: Workload, role: Role) -> list[str]:
    """The variants of a workload on a role, "" = no switch on; none = no cell there.

    A control kernel with all switches off is a stock kernel as far as locks go:
    what is open on stock is open there, and has no "off" cell that must hold.
    """
    if role != "control":
        return [""]
    if workload.kind == "gate":
        return []
    return [*workload.switches, *([] if workload.fires_on else [""])]


def cell_seed(plan_seed: int, name: str) -> int:
    """The seed of one cell: 1 to 2**31 - 1, the same in every process and on every host.

    Made from the name and not from the position, so that a cell that is rerun
    alone gets the seed it had in the whole plan.
    """
    digest = hashlib.sha256(f"{plan_seed}:{name}".encode()).digest()
    # 31 bits and never zero: fits any C integer type; xorshift sticks at zero.
    return int.from_bytes(digest[:8], "big") % (2**31 - 1) + 1


def cell_name(
    kernel: str, filesystem: str, workload: str, variant: str, armed: bool = True
) -> str:
    """See Cell.name, which is made here."""
    name = f"{kernel}/{filesystem}/{workload}" + (f"@{variant}" if variant else "")
    return name if armed else f"{name}{UNARMED}"


def chosen(
    what: str,
    asked: Sequence[str],
    planned: Sequence[str],
    where: str,
    known: Container[str],
) -> list[str]:
    """Those of `planned` that are `asked` for, in its order; all of them if none is.

    Raises UsageError for one that is not in `where`, which is where `planned` is from;
    `known` are those of harness.toml.
    """
    for name in asked:
        if name not in planned:
            raise _unknown(what, name, planned, where, known=known)
    return [name for name in dict.fromkeys(planned) if not asked or name in asked]


def _named(
    what: str, asked: Sequence[str], planned: Sequence[str], known: Iterable[str]
) -> list[str]:
    """As chosen(), and at the end what is asked for and only harness.toml has.

    Who names a new kernel or race need not write it into a plan first.
    """
    everywhere = [*planned, *(name for name in known if name not in planned)]
    return chosen(what, asked, everywhere if asked else planned, "harness.toml", ())


def _unknown(
    what: str, name: str, valid: Iterable[str], where: str, known: Container[str]
) -> UsageError:
    guess = nearest(name, valid)
    if name in known:
        message = f"{what} {name!r} is in harness.toml but not in {where}{guess}"
    else:
        message = f"no {what} {name!r} in {where}{guess}"
    return UsageError(message, hint="harness list")
