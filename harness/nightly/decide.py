# SPDX-License-Identifier: GPL-2.0
"""A night against the nights before it: what is new, since when, and by what likely cause.

Pure: the same nights give the same findings.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence

from harness.config import Config
from harness.errors import EXIT_CANNOT_TEST, EXIT_EXPECTED, EXIT_UNEXPECTED
from harness.nightly import choose, trend
from harness.nightly.record import BROKEN, CellNight, Finding, KernelNight, Night

# The kinds of findings, in the order of the page.
KINDS = (
    "new failure", "slower", "still failing", "flaky", "could not test", "not run", "moved",
    "fixed", "faster",
)  # fmt: skip
# Where a cell's reason differs from another's only in figures, they have one story.
_FIGURES = re.compile(r"\d[\d.,]*")

# That of `harness bisect` when none is named.
USUAL_PLAN = "quick"

# What became of a tree between two commits: "abc123 (subject)" of the one that there is,
# or how many; "" when nobody can tell.
Between = Callable[[str, str, str], str]


def decide(
    night: Night, earlier: Sequence[Night], cfg: Config, between: Between = lambda *_: ""
) -> list[Finding]:
    """What the page says first; `earlier`: the nights before, the newest first.

    between(tree, from, to) tells what was committed to a tree.
    """
    window = cfg.nightly.window if cfg.nightly is not None else len(earlier)
    tolerance = cfg.nightly.tolerance if cfg.nightly is not None else 0.05
    found = [
        *_trees(night, earlier),
        *_kernels(night, earlier, between),
        *_ports(night, earlier),
        *_cells(night, earlier, window, between),
        *_figures(night, earlier, window, tolerance, between),
    ]
    return sorted(found, key=lambda finding: KINDS.index(finding.kind))


def exit_code(night: Night) -> int:
    """0: all as expected; 1: something is not; 125: something could not be tested."""
    if any(finding.bad for finding in night.findings):
        return EXIT_UNEXPECTED
    if any(f.kind == "could not test" for f in night.findings) or night.status != "finished":
        return EXIT_CANNOT_TEST
    return EXIT_EXPECTED


def likely(
    before: KernelNight | None, after: KernelNight, between: Between = lambda *_: ""
) -> str:
    """What a kernel is made of now and was not then; "" when that is the same."""
    if before is None or not before.parts:
        return ""
    told = []
    for part in sorted({*before.parts, *after.parts}):
        was, now = before.parts.get(part, ""), after.parts.get(part, "")
        if was == now:
            continue
        if part == "tree":
            what = between(after.tree, was, now)
            told.append(f"tree {after.tree}: " + (what or f"{was[:12]}..{now[:12]}"))
        elif not was or not now:
            told.append(f"{part} {'is new' if now else 'is gone'}")
        else:
            told.append(f"{part} changed")
    return "; ".join(told)


# --- trees, kernels, series ------------------------------------------------------


def _trees(night: Night, earlier: Sequence[Night]) -> Iterator[Finding]:
    for name, tree in night.trees.items():
        if tree.error:
            yield Finding("could not test", name, f"tree {name}: {tree.error}")
        elif tree.moved:
            was = next((n.trees[name] for n in earlier if name in n.trees), None)
            version = was.version if was is not None else "?"
            yield Finding("moved", name, f"tree {name}: {version} -> {tree.version}")


def _kernels(night: Night, earlier: Sequence[Night], between: Between) -> Iterator[Finding]:
    for name, kernel in night.kernels.items():
        past = [each.kernels[name] for each in earlier if name in each.kernels]
        past = [each for each in past if each.outcome not in ("not tried", "no tree")]
        good = _since(earlier, lambda n, name=name: _built(n, name))  # type: ignore[misc]
        if kernel.outcome in BROKEN:
            known = bool(past) and past[0].outcome == kernel.outcome
            yield Finding(
                "still failing" if known else "new failure",
                name,
                f"kernel {name} {kernel.outcome}: {kernel.error}",
                bad=True,
                since=good.id if good else "",
                likely=likely(good.kernels[name] if good else None, kernel, between),
                command=_bisect(name, "", good, night, "apply" if kernel.outcome ==
                                "does not apply" else "build") or kernel.hint,
            )  # fmt: skip
        elif kernel.outcome == "not tried":
            yield Finding("not run", name, f"kernel {name} was not built: {kernel.error}")
        elif past and past[0].outcome in BROKEN and _built(night, name):
            yield Finding(
                "fixed", name, f"kernel {name}: {past[0].outcome} before, and is built now",
                likely=likely(past[0], kernel, between),
            )  # fmt: skip
        if kernel.bench_error and _built(night, name):
            yield Finding("could not test", name, f"bench on {name}: {kernel.bench_error}")


def _ports(night: Night, earlier: Sequence[Night]) -> Iterator[Finding]:
    told = {k.tree for k in night.kernels.values() if k.outcome == "does not apply"}
    for tree_name, tree in night.trees.items():
        for name, port in tree.series.items():
            past = [
                each.trees[tree_name].series[name]
                for each in earlier
                if tree_name in each.trees and name in each.trees[tree_name].series
            ]
            was = past[0].verdict if past else ""
            what = f"series {name} on {tree_name}: "
            conflicts = port.verdict == "conflicts"
            if conflicts and not _used(night, tree_name, name):
                continue  # the page's table shows it; nobody asked for it
            if conflicts and tree_name not in told:
                kind = "still failing" if was == "conflicts" else "new failure"
                text = f"{what}conflicts: {port.where}"
                yield Finding(kind, f"{tree_name}/{name}", text, bad=True)
            elif was and was != port.verdict and not conflicts:
                kind = "fixed" if was == "conflicts" else "moved"
                text = f"{what}{was} before, {port.verdict} now"
                yield Finding(kind, f"{tree_name}/{name}", text)


def _used(night: Night, tree: str, series: str) -> bool:
    """Whether a kernel of the night has a series on a tree, or could not be looked at."""
    return any(
        not kernel.parts or any(part.startswith(f"series {series}/") for part in kernel.parts)
        for kernel in night.kernels.values()
        if kernel.tree == tree
    )


def _built(night: Night, kernel: str) -> bool:
    return kernel in night.kernels and night.kernels[kernel].outcome in ("built", "up to date")


# --- cells -----------------------------------------------------------------------


def _cells(
    night: Night, earlier: Sequence[Night], window: int, between: Between
) -> Iterator[Finding]:
    groups: dict[tuple[str, ...], Finding] = {}
    for name, cell in night.cells.items():
        finding = _cell(name, cell, night, earlier, window, between)
        if finding is None:
            continue
        story = (
            finding.kind, cell.kernel, cell.state, _FIGURES.sub("#", cell.reason), finding.since,
        )  # fmt: skip
        if story in groups:
            groups[story].more.append(name)
        else:
            groups[story] = finding
    yield from groups.values()


def _cell(
    name: str,
    cell: CellNight,
    night: Night,
    earlier: Sequence[Night],
    window: int,
    between: Between,
) -> Finding | None:
    past = choose.history(name, earlier, window)
    if not cell.ran:
        # A kernel that is not there has a finding of its own.
        if not _built(night, cell.kernel):
            return None
        return Finding("not run", name, f"{name} was not run: {cell.reason}")
    good = _since(earlier, lambda n: name in n.cells and _good(n.cells[name]))
    kernel = night.kernels[cell.kernel]
    before = good.kernels.get(cell.kernel) if good is not None else None
    cause = likely(before, kernel, between)
    if good is not None and not cause and good.programs != night.programs:
        cause = "the workloads changed"
    flaky = choose.flaky([cell, *past])
    if cell.as_expected:
        if flaky:
            return _flaky(name, cell, past)
        if past and not past[0].as_expected:
            was = next((n for n in earlier if name in n.cells and n.cells[name].ran), None)
            old = was.kernels.get(cell.kernel) if was is not None else None
            return Finding(
                "fixed", name, f"{name}: {past[0].state} before, {cell.state} now",
                likely=likely(old, kernel, between),
            )  # fmt: skip
        return None
    text = f"{name}: {cell.state}: {cell.reason}"
    if cell.state in ("lost", "untested") and "did not boot" not in cell.reason:
        return Finding("could not test", name, text, since=good.id if good else "", likely=cause)
    if flaky:
        return _flaky(name, cell, past)
    new = not past or past[0].as_expected
    command = _bisect(cell.kernel, name, good, night) or (
        f"harness rerun {shlex.quote(cell.run)} {shlex.quote(name)}"
    )
    return Finding(
        "new failure" if new else "still failing", name, text, bad=True,
        since=good.id if good else "", likely=cause, command=command,
    )  # fmt: skip


def _flaky(name: str, cell: CellNight, past: Sequence[CellNight]) -> Finding:
    """The same question, and both answers in the window."""
    alike = choose.alike([cell, *past])
    wrong = sum(not each.as_expected for each in alike)
    exposed, valid = sum(c.exposed for c in alike), sum(c.valid for c in alike)
    text = f"{name}: not as expected in {wrong} of {len(alike)} nights, exposed in {exposed}"
    text += f" of {valid} trials; tonight {cell.state}"
    return Finding(
        "flaky", name, text, bad=not cell.as_expected, likely="nothing that it is made of changed",
        command=f"harness history {shlex.quote(name)}",
    )  # fmt: skip


def _good(cell: CellNight) -> bool:
    return cell.ran and cell.as_expected


# --- figures ---------------------------------------------------------------------


def _figures(
    night: Night, earlier: Sequence[Night], window: int, tolerance: float, between: Between
) -> Iterator[Finding]:
    for name, kernel in night.kernels.items():
        for figure, value in kernel.figures.items():
            had = [n for n in reversed(earlier[:window]) if figure in _figures_of(n, name)]
            values = [*(_figures_of(n, name)[figure] for n in had), value]
            found = trend.changes(values, tolerance)
            if not found or found[-1].at != len(values) - 1:
                continue
            ratio, good = found[-1].ratio, had[-1]
            slower = ratio > 1
            yield Finding(
                "slower" if slower else "faster",
                f"{name}/{figure}",
                f"{name}: {figure} {values[-2]:.0f} -> {value:.0f} guest instructions,"
                f" {ratio - 1:+.1%}",
                bad=slower,
                since=good.id if slower else "",
                likely=likely(good.kernels[name], kernel, between),
                command=_bisect(name, "", good, night, figure=figure) if slower else "",
            )


def _figures_of(night: Night, kernel: str) -> dict[str, float]:
    return night.kernels[kernel].figures if kernel in night.kernels else {}


# --- what they share -------------------------------------------------------------


def _since(earlier: Sequence[Night], good: Callable[[Night], bool]) -> Night | None:
    return next((night for night in earlier if good(night)), None)


def _bisect(
    kernel: str, cell: str, good: Night | None, night: Night, what: str = "", figure: str = ""
) -> str:
    """The command that finds the commit or the patch; "" where there is none to find."""
    if good is None or kernel not in good.kernels:
        return ""
    before, after = good.kernels[kernel].parts, night.kernels[kernel].parts
    argv = ["harness", "bisect", "--kernel", kernel]
    if cell:
        argv += ["--cell", cell]
    else:
        argv += ["--figure", figure] if figure else ["--for", what]
    if night.plan != USUAL_PLAN:
        argv += ["--plan", night.plan]
    was, now = before.get("tree", ""), after.get("tree", "")
    if was and now and was != now:
        return shlex.join([*argv, was[:12], now[:12]])
    changed = {
        part.split()[1].partition("/")[0]
        for part in {*before, *after}
        if part.startswith("series ") and before.get(part) != after.get(part)
    }
    if len(changed) == 1:
        return shlex.join([*argv, "--series", changed.pop()])
    return ""
