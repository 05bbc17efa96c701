# SPDX-License-Identifier: GPL-2.0
"""`harness bench`: its command line, the boots in turns, and what is said in the end."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import EXIT_EXPECTED, EXIT_UNEXPECTED, HarnessError, InfraError, UsageError
from harness.events import Event, Listener
from harness.options import CELLS, filters, view_options, whole
from harness.places import NEWEST_RUN

if TYPE_CHECKING:
    from harness.bench.record import Asked, Boot, Document, Sample
    from harness.config import Config
    from harness.experiment.store import Run
    from harness.kernel.image import Image

EXAMPLE = "harness bench -w cold-fault -f ext4 --boots 2"
_BOOTS = (0, 1000)
# Of a boot, and of each workload, before the first is over; seconds on two free CPUs.
_GUESS_S = {"icount": (11.0, 6.6), "tcg": (2.5, 5.6)}


def options(parser: argparse.ArgumentParser) -> None:
    """What `harness bench` takes."""
    filters(parser, CELLS)
    parser.add_argument(
        "--boots", type=whole(_BOOTS), metavar="N",
        help="of each kernel in the host's time, beside the counted one (default: harness.toml's)",
    )  # fmt: skip
    parser.add_argument(
        "--guest", metavar="NAME", help="in this guest, instead of that of harness.toml's [bench]"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the tables and plots into a Markdown file"
    )
    parser.add_argument(
        "--resume", nargs="?", const=NEWEST_RUN, metavar="RUN",
        help="go on with one that ended early (default: the newest)",
    )  # fmt: skip
    parser.add_argument(
        "--report", nargs="?", const=NEWEST_RUN, metavar="RUN",
        help="only make the page of one again (default: the newest)",
    )  # fmt: skip
    view_options(parser)


def run(args: argparse.Namespace, cfg: Config) -> int:
    """Measure, and say which goals are met; 0 when all are."""
    from harness.bench import record
    from harness.places import cache_dir
    from harness.report import bench as page
    from harness.report.terminal import terminal

    results = Path("results").absolute()
    if args.write is not None:
        page.check(args.write)  # before an hour is spent
    if args.report is not None:
        return _tell(record.find(results, args.report), args)
    if args.resume is not None:
        _alone(args)
        directory = record.find(results, args.resume, finished=False)
        document = record.load(directory)
    else:
        asked = record.ask(
            cfg, args.kernel, args.filesystem, args.workload, args.boots, args.guest
        )
        directory, document = None, _new(asked)
    with terminal(view=args.view) as listen:
        directory = conduct(cfg, cache_dir(), results, document, directory, _noting(args, listen))
    return _tell(directory, args)


def _alone(args: argparse.Namespace) -> None:
    for name in ("kernel", "filesystem", "workload", "boots", "guest"):
        if getattr(args, name) not in (None, []):
            raise UsageError(
                f"--resume goes on as the bench began: no {name} can be given",
                hint="harness bench --resume",
            )


def _noting(args: argparse.Namespace, listen: Listener) -> Listener:
    """`listen`, noting where what is finished is kept."""

    def listener(event: Event) -> None:
        if directory := event.data.get("directory"):
            args.kept = (
                f"finished boots are kept in {directory}; go on with:"
                f" harness bench --resume {Path(directory).name}"
            )
        listen(event)

    return listener


def _new(asked: Asked) -> Document:
    from harness.bench.record import Document
    from harness.experiment import facts

    return Document(
        id="",
        status="running",
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        asked=asked,
        host=facts.host(),
        qemu=facts.qemu(),
    )


Measure = Callable[["Boot", "Image", Path, Listener], "Sample"]


def conduct(
    cfg: Config,
    cache: Path,
    results: Path,
    document: Document,
    directory: Path | None,
    listen: Listener,
    *,
    ensure: Callable[[str], Image] | None = None,
    take: Measure | None = None,
    sizes: Callable[[Path], dict[str, int]] | None = None,
) -> Path:
    """All boots that are left, and bench.json after each way to end; the run's directory.

    `directory`: of a bench that ended early, whose samples are kept.  `ensure`, `take`, `sizes`:
    what builds, boots and looks into a kernel.  UsageError when a kernel is another one than
    before; BuildError, InfraError and what a boot raises with all finished boots kept.
    """
    from harness.bench import measure, record
    from harness.experiment import facts, store

    if directory is None:
        run = store.Run(results, "bench")
        document.id = run.id
    else:
        run = store.Run.reopen(directory, {"seconds": document.seconds})
        document.sittings += 1
    began, before = time.monotonic(), document.seconds

    def save(status: str) -> None:
        document.status = status
        document.seconds = round(before + time.monotonic() - began, 1)
        document.samples = list(record.samples(run.directory).values())
        record.save(run.directory, document)

    def say(event: Event) -> None:
        run.log(event)
        listen(event)

    try:
        save("running")
        place = str(run.directory)
        say(Event("run", run.id, f"results in {place}", data={"directory": place}))
        build, measured = _rooms(cfg, cache, document.asked, say, ensure, take)
        images: dict[str, Image] = {}
        for kernel in document.asked.kernels:
            images[kernel] = image = build(kernel)
            known = document.kernels.setdefault(kernel, facts.kernel(image, cfg))
            if known["id"] != image.id:
                raise UsageError(
                    f"kernel {kernel} is another one than that of {run.id}", hint="harness bench"
                )
            if kernel not in document.sizes:
                document.sizes[kernel] = (sizes or measure.sizes)(image.vmlinux)
        _boots(run, document.asked, images, measured, say)
        save("finished")
        return run.directory
    except KeyboardInterrupt:
        save("interrupted")
        raise
    except Exception:
        with contextlib.suppress(HarnessError):
            save("failed")
        raise
    finally:
        with contextlib.suppress(InfraError):
            run.close()


def _rooms(
    cfg: Config,
    cache: Path,
    asked: Asked,
    listen: Listener,
    ensure: Callable[[str], Image] | None,
    take: Measure | None,
) -> tuple[Callable[[str], Image], Measure]:
    """What builds a kernel and what measures a boot of it: the real ones, or those given."""
    if ensure is not None and take is not None:
        return ensure, take
    from harness.bench.measure import measure
    from harness.experiment.berth import Bootable
    from harness.guest.machine import Machine, MachineSpec
    from harness.guest.programs import compile_workloads
    from harness.guest.qemu import probe_accelerator
    from harness.kernel import build

    real_time = probe_accelerator(cfg.guest[asked.guest].accel)
    programs = compile_workloads(cfg.root, cache, listen)

    def machine(spec: MachineSpec, place: Path, name: str) -> Bootable:
        return Machine(spec, place, cfg.root, cache, listen, name)

    def real(boot: Boot, image: Image, directory: Path, say: Listener) -> Sample:
        return measure(
            cfg, asked, boot, image, programs, real_time, directory, machine, say
        )

    return ensure or (lambda name: build.ensure(name, cfg, cache, listen)), take or real


def _boots(
    run: Run, asked: Asked, images: Mapping[str, Image], take: Measure, listen: Listener
) -> None:
    """Every boot that has no sample yet, with an estimate of what is left."""
    from harness.bench import record

    every = record.order(asked)
    done = record.samples(run.directory)
    for boot in every:
        if boot.name in done:
            continue
        left = [each for each in every if each.name not in done]
        listen(
            Event(
                "bench", run.id, boot.name, len(done), len(every),
                eta_s=sum(_expected(each, asked, list(done.values())) for each in left),
            )
        )  # fmt: skip
        sample = take(boot, images[boot.kernel], run.directory, listen)
        record.save_sample(run.directory, boot, sample)
        done[boot.name] = sample
    listen(Event("bench", run.id, "all boots", len(every), len(every)))


def _expected(boot: Boot, asked: Asked, done: list[Sample]) -> float:
    """Seconds that a boot will take: as those before it."""
    alike = [sample.seconds for sample in done if sample.clock == boot.clock]
    if alike:
        return sum(alike) / len(alike)
    alone, each = _GUESS_S[boot.clock]
    return alone + each * sum(asked.takes(name, boot.filesystem) for name in asked.workloads)


def _tell(directory: Path, args: argparse.Namespace) -> int:
    """Writes the pages; prints the goals and where everything is."""
    from harness.bench import judge, record
    from harness.report import bench as page

    document = record.load(directory)
    lines = judge.lines(document)
    verdicts = judge.verdicts(document, lines)
    paths = page.write(directory, document, lines, verdicts)
    if args.write is not None:
        paths += page.insert(args.write, document, lines, verdicts)
    if args.view != "json":
        for line in page.told(document, lines, verdicts):
            print(line)
        here = Path.cwd()
        for path in paths:
            path = path.absolute()
            print(path.relative_to(here) if path.is_relative_to(here) else path)
    missed = any(verdict.met is False for verdict in verdicts)
    return EXIT_UNEXPECTED if missed else EXIT_EXPECTED
