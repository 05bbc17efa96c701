# SPDX-License-Identifier: GPL-2.0
"""The verbs `harness explore` and `harness replay`."""

from __future__ import annotations

import argparse
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import EXIT_CANNOT_TEST, EXIT_EXPECTED, EXIT_UNEXPECTED, UsageError
from harness.events import Event, Listener
from harness.options import CELLS, filters, known, view_options, whole

if TYPE_CHECKING:
    from harness.config import Config, RunMode
    from harness.experiment.plan import Cell
    from harness.replay.coordinate import Coordinate
    from harness.replay.explore import Point, Walk
    from harness.replay.stand import Stand

_TIMES = (1, 10_000)
_BEFORE = (0, 1_000_000)
_TRIALS = (1, 1_000_000)
_SECONDS = (1, 7 * 86400)
_MOST_SEEDS = 100_000
# Enough to come to a window that is armed; to be there at the right time by chance takes more.
TRIALS_ARMED, TRIALS_UNARMED = 1, 200
PLAN = "default"


def register(
    verbs: Any,
    add: Callable[..., argparse.ArgumentParser],
    load: Callable[[argparse.Namespace], Config],
) -> None:
    """Adds both to the command line; load() gives the Config that the user means."""
    _explore_options(
        add(verbs, "explore", lambda args: explore(args, load(args)),
            "find exposures that can be had again, bit for bit",
            "harness explore -k control -f ext4 -w punch-read-fault --seeds 1..4")
    )  # fmt: skip
    _replay_options(
        add(verbs, "replay", lambda args: replay(args, load(args)),
            "an exposure again: the same to the last bit?",
            "harness replay punch-read-fault-ext4-fault-s1-i2 --times 20")
    )  # fmt: skip


def _explore_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [OPTION]..."
    filters(parser, CELLS)
    parser.add_argument("--seeds", type=_span(1, 2**32 - 1), default=range(1, 5),
                        metavar="A..B", help="of the reproducer (default: 1..4)")  # fmt: skip
    parser.add_argument("--shifts", type=_span(0, 10), default=range(2, 6), metavar="A..B",
                        help="2**N ns an instruction (default: 2..5)")  # fmt: skip
    parser.add_argument("--trials", type=whole(_TRIALS), metavar="N", help="of a boot, at most")
    parser.add_argument("--budget", type=whole(_SECONDS), metavar="SECONDS", help="for all boots")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--windows", action="store_true", help="draw which windows delay")
    way.add_argument("--unarmed", action="store_true", help="with windows that delay nobody")
    parser.add_argument("--first", action="store_true", help="of each race one exposure is enough")
    parser.add_argument("--again", nargs="+", default=[], metavar="COORDINATE",
                        help="find its exposure again, here and now")  # fmt: skip
    parser.add_argument("--update", action="store_true", help="... and write it to its file")
    view_options(parser)


def _replay_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [OPTION]... COORDINATE..."
    parser.add_argument("coordinates", nargs="+", metavar="COORDINATE",
                        help="a file, or its name in workloads/coordinates")  # fmt: skip
    parser.add_argument("--times", type=whole(_TIMES), default=1, metavar="N",
                        help="boot it so often (default: 1)")  # fmt: skip
    parser.add_argument("--gdb", action="store_true",
                        help="stop it before the exposure, and say where each CPU is")  # fmt: skip
    parser.add_argument("--before", type=whole(_BEFORE), default=0, metavar="N",
                        help="... so many window hits earlier")  # fmt: skip
    view_options(parser)


def _span(low: int, high: int) -> Callable[[str], range]:
    """"A..B" or "A"."""

    def parse(text: str) -> range:
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
        if match is not None:
            first = int(match[1])
            last = int(match[2] or match[1])
            if low <= first <= last <= high and last - first < _MOST_SEEDS:
                return range(first, last + 1)
        raise argparse.ArgumentTypeError(f"must be A..B, from {low} to {high}")

    return parse


# --- explore --------------------------------------------------------------------


def explore(args: argparse.Namespace, cfg: Config) -> int:
    """Walks; 0 when what was asked for was found, 1 when not, 125 when nothing was tested."""
    from harness.experiment import store
    from harness.places import cache_dir
    from harness.replay import coordinate as coordinates
    from harness.replay import explore as walking
    from harness.report.terminal import terminal

    asked = _again(args, cfg)
    cells = [] if asked else _cells(args, cfg)
    kept = store.Run(Path("results").absolute(), "explore")
    place = kept.directory / "coordinates"
    args.kept = f"what was found is kept in {place}"
    walks: list[Walk] = []
    try:
        with terminal(view=args.view) as listen:

            def told(event: Event) -> None:
                kept.log(event)
                listen(event)

            kernels = [each.kernel for _path, each in asked] or [cell.kernel for cell in cells]
            stands = {name: _stand(cfg, name, cache_dir(), told) for name in dict.fromkeys(kernels)}

            def walk(points: Sequence[Point], first: bool, wanted: str = "") -> Walk:
                made = walking.Walk(
                    stands, kept.directory, _command(args), _today(), told, first, wanted
                )
                if walks:  # boots are numbered, and the budget is of all of them
                    made.boots, made.began = walks[-1].boots, walks[-1].began
                walks.append(made)
                made.run(points, args.budget)
                return made

            if not asked:
                walk(list(_points(args, cfg, cells)), args.first)
            for path, each in asked:
                found = walk(_points_again(each, cfg), True, each.signature).found
                if found and args.update:
                    coordinates.write(next(iter(found.values())), path)
    finally:
        kept.close()
    return _ended(walks, place, args.view == "json")


def _ended(walks: Sequence[Walk], place: Path, quiet: bool) -> int:
    """Says what was found; the exit code."""
    found = [each for walk in walks for each in walk.found.values()]
    for each in () if quiet else found:
        print(f"{each.cell}: {each.signature}")
        at = f"seed {each.seed} shift {each.shift} trial {each.trial}"
        print(f"  {at}: {each.order or 'in no order'}")
        print(f"  harness replay {(place / each.name).relative_to(Path.cwd())}.toml")
    boots, exposed = walks[-1].boots, sum(walk.exposed for walk in walks)
    if not quiet:
        print(f"{len(found)} distinct exposures, {exposed} boots of {boots} exposed")
    if all(walk.found for walk in walks):
        return EXIT_EXPECTED
    untested = sum(walk.untested for walk in walks)
    return EXIT_CANNOT_TEST if untested == boots else EXIT_UNEXPECTED


def _stand(cfg: Config, kernel: str, cache: Path, listen: Listener) -> Stand:
    from harness.kernel import build
    from harness.replay.stand import Stand

    image = build.ensure(kernel, cfg, cache, listen)
    return Stand(cfg, image, cache, cfg.plan[PLAN].guest, listen)


def _cells(args: argparse.Namespace, cfg: Config) -> list[Cell]:
    """Races of the plan that can fire: not those of a control kernel with all switches off."""
    from harness.experiment import plan as plans

    known("plan", PLAN, cfg.plan)
    modes: list[RunMode] = ["unarmed" if args.unarmed else "armed"]
    every = plans.cells(
        cfg, PLAN, args.kernel or ["control"], args.filesystem, args.workload, 1, 1, modes
    )  # fmt: skip
    races = [each for each in every if each.kind == "race"]
    cells = [each for each in races if each.open or each.role != "control"]
    if args.windows:
        cells = [each for each in cells if each.windows]
    if not cells:
        raise UsageError("no race is left that could fire", hint="harness list")
    return cells


def _points(args: argparse.Namespace, cfg: Config, cells: Sequence[Cell]) -> Iterator[Point]:
    from harness.replay import explore as walking

    trials = args.trials or (TRIALS_UNARMED if args.windows or args.unarmed else TRIALS_ARMED)
    draw = None
    if args.windows:
        def draw(cell: Cell, seed: int, shift: int) -> Any:
            return walking.drawn(cfg, cell, seed, shift)

    return walking.points(cells, args.seeds, args.shifts, trials, draw)


def _again(args: argparse.Namespace, cfg: Config) -> list[tuple[Path, Coordinate]]:
    """The coordinates of --again, with their files."""
    from harness.replay import coordinate as coordinates
    from harness.replay import replaying

    if args.again and any(
        (args.kernel, args.filesystem, args.workload, args.windows, args.unarmed, args.trials)
    ):
        raise UsageError("--again has all of that from the file", hint="harness explore --help")
    if args.update and not args.again:
        raise UsageError("--update goes with --again", hint="harness explore --help")
    asked = []
    for name in args.again:
        path = replaying.find(name, cfg.root)
        asked.append((path, coordinates.read(path)))
        replaying.names(asked[-1][1], cfg, path)
    return asked


def _points_again(coordinate: Coordinate, cfg: Config) -> list[Point]:
    """Where it was first, then near it: other seeds, other shifts, more trials."""
    from dataclasses import replace

    from harness.replay.explore import Point
    from harness.replay.stand import cell_of

    cell = cell_of(cfg, coordinate)
    near = [(cell.seed, coordinate.shift, cell.trials)]
    more = max(cell.trials, TRIALS_ARMED if cell.armed else TRIALS_UNARMED)
    near += [(seed, coordinate.shift, more) for seed in range(1, 5)]
    near += [(seed, shift, more) for seed in range(1, 5) for shift in range(2, 6)]
    return [
        Point(replace(cell, seed=seed, trials=trials), shift)
        for seed, shift, trials in dict.fromkeys(near)
    ]


def _command(args: argparse.Namespace) -> str:
    words = ["harness", "explore"]
    for option in ("kernel", "filesystem", "workload"):
        for name in getattr(args, option):
            words += [f"--{option}", name]
    for option in ("seeds", "shifts"):
        span = getattr(args, option)
        words += [f"--{option}", f"{span[0]}..{span[-1]}"]
    if args.trials:
        words += ["--trials", str(args.trials)]
    if args.again:
        words = ["harness", "explore", "--again", *args.again]
    words += [f"--{option}" for option in ("windows", "unarmed", "first") if getattr(args, option)]
    return shlex.join(words)


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


# --- replay ---------------------------------------------------------------------


def replay(args: argparse.Namespace, cfg: Config) -> int:
    """Each coordinate so many times; 0 when every boot was the same, 1 when one was not."""
    from harness.places import cache_dir
    from harness.replay import coordinate as coordinates
    from harness.replay import replaying
    from harness.replay.stand import Stand
    from harness.report.terminal import terminal

    paths = [replaying.find(name, cfg.root) for name in args.coordinates]
    read = [(path, coordinates.read(path)) for path in paths]
    for path, each in read:
        replaying.names(each, cfg, path)
    if args.before and not args.gdb:
        raise UsageError("--before goes with --gdb", hint="harness replay --help")
    if args.gdb and len(read) > 1:
        raise UsageError("--gdb takes one coordinate", hint="harness replay --help")
    code, cache = EXIT_EXPECTED, cache_dir()
    for path, each in read:
        with (
            terminal(view=args.view) as listen,
            tempfile.TemporaryDirectory(prefix="harness-replay-") as place,
        ):
            image = replaying.kernel(each, cfg, cache, listen, path)
            stand = Stand(cfg, image, cache, cfg.plan[PLAN].guest, listen)
            replaying.check(each, stand, path)
            if args.gdb:
                from harness.replay.debugger import stop

                stopped = stop(each, stand, args.before, Path(place), listen)
                said, same = stopped.lines(), True
            else:
                done = []
                for one in replaying.repeats(each, stand, args.times, Path(place), listen):
                    done.append(one)
                    args.kept = f"{path.stem}: {_told(each, done)}"
                why = dict.fromkeys(one.why for one in done if one.why)
                said, same = [f"{path.stem}: {_told(each, done)}", *why], not why
        for line in said:
            print(line, flush=True)
        code = code if same else EXIT_UNEXPECTED
    return code


def _told(coordinate: Coordinate, done: Sequence[Any]) -> str:
    same = sum(one.identical for one in done)
    loads = sorted(one.load for one in done)
    seconds = sum(one.seconds for one in done) / len(done)
    return (
        f"{same} of {len(done)} identical, trace {coordinate.trace[:12]},"
        f" memory {coordinate.memory[:12]}; {seconds:.1f} s each,"
        f" host load {loads[0]:.1f} to {loads[-1]:.1f}"
    )
