# SPDX-License-Identifier: GPL-2.0
"""harness.toml for a person: what there is, by the names one types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.config import Config, Tree, Window, Workload
from harness.experiment.plan import cells


def lines(config: Config) -> Iterator[str]:
    """The whole experiment, one line per name, in the order of the file."""
    yield f"{config.path}"
    yield from _section("trees", {name: _tree(tree) for name, tree in config.tree.items()})
    yield from _section(
        "kernels",
        {
            name: f"{k.role}: {' + '.join([k.tree, *k.series])}; {' '.join(k.fragments)}"
            for name, k in config.kernel.items()
        },
    )
    yield from _section(
        "guests",
        {
            name: f"{g.cpus} CPUs, {g.memory_mib} MiB, disk {g.disk_mib} MiB, {g.accel}"
            + (f"; {' '.join(g.cmdline)}" if g.cmdline else "")
            for name, g in config.guest.items()
        },
    )
    yield from _section(
        "filesystems",
        {
            name: " ".join(f.mkfs) + (f"; mount -o {','.join(f.mount)}" if f.mount else "")
            for name, f in config.filesystem.items()
        },
    )
    yield from _section("workloads", {n: _workload(w) for n, w in config.workload.items()})
    yield from _section("plans", {name: _plan(config, name) for name in config.plan})


def _section(title: str, rows: Mapping[str, str]) -> Iterator[str]:
    yield ""
    yield title
    width = max(len(name) for name in rows)
    for name, text in rows.items():
        yield f"  {name:{width}}  {text}"


def _tree(tree: Tree) -> str:
    what = {
        "debian": tree.package,
        "git": f"{tree.url} {tree.ref}",
        "tarball": tree.path,
        "dir": tree.path,
    }
    return f"{tree.kind}: {what[tree.kind]}, series for {tree.line}"


def _workload(workload: Workload) -> str:
    parts = [f"{workload.kind}: {' '.join([workload.source, *workload.args])}"]
    if workload.switches:
        parts.append(f"switches {', '.join(workload.switches)}")
    if workload.fires_on:
        parts.append(f"fires on {', '.join(workload.fires_on)}")
    for what in ("filesystems", "kernels"):
        if only := getattr(workload, what):
            parts.append(f"only on {what} {', '.join(only)}")
    if workload.trials:
        parts.append(", ".join(f"{n} trials on {role}" for role, n in workload.trials.items()))
    parts += [f"{kind}: {_windows(armed)}" for kind, armed in workload.windows.items() if armed]
    return "; ".join(parts)


def _windows(windows: list[Window]) -> str:
    return " + ".join(
        f"{w.name} {w.delay_us} us"
        + (f" {w.probability} %" if w.probability < 100 else "")
        + (f" or until {w.partner}" if w.partner else "")
        for w in windows
    )


def _plan(config: Config, name: str) -> str:
    plan = config.plan[name]
    planned = cells(config, name)
    trials = ", ".join(f"{number} on {role}" for role, number in plan.trials.items())
    return (
        f"{len(planned)} cells, {sum(cell.trials for cell in planned)} trials ({trials}): "
        f"{', '.join(plan.kernels)} x {', '.join(plan.filesystems)} x {', '.join(plan.workloads)}"
        f" on {plan.guest}"
    )
