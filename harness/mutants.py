# SPDX-License-Identifier: GPL-2.0
"""`harness mutants`: the kill matrix of the race suite, on real machines."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from harness.config import Config
from harness.errors import InfraError
from harness.events import Event, Listener
from harness.experiment import facts, mutants, store
from harness.experiment.mutants import Matrix
from harness.guest import programs
from harness.guest.machine import Machine, MachineSpec
from harness.guest.qemu import probe_accelerator
from harness.kernel import build


def run(
    cfg: Config,
    plan: str,
    cache: Path,
    results: Path,
    listen: Listener,
    *,
    filesystems: Sequence[str] = (),
    workloads: Sequence[str] = (),
    switches: Sequence[str] = (),
    trials: int = mutants.TRIALS,
    seed: int | None = None,
    jobs: int | None = None,
) -> tuple[Matrix, Path]:
    """Turn off one switch of the plan's control kernel at a time, try every race.

    Returns the matrix and the directory of the run, which has it as mutants.json, as
    far as it got, also after an interruption.  Raises UsageError before anything is
    written, BuildError, InfraError and what booting raises afterwards.
    """
    kernel = mutants.kernel_of(cfg, plan)
    chosen = mutants.selection(cfg, plan, filesystems, workloads, switches)
    guest = cfg.guest[cfg.plan[plan].guest]
    kept = store.Run(results, f"mutants-{plan}")
    seed = cfg.plan[plan].seed if seed is None else seed
    document = {"plan": plan, "trials": trials, "seed": seed, "host": facts.host()}
    try:
        listen(Event("run", kept.id, f"results in {kept.directory}",
                     data={"directory": str(kept.directory)}))  # fmt: skip
        accelerator = probe_accelerator(guest.accel)
        compiled = programs.compile_workloads(cfg.root, cache, listen)
        image = build.ensure(kernel, cfg, cache, listen)
        document["kernel"] = facts.kernel(image, cfg)

        spec = MachineSpec.of(guest, image.bzimage, accelerator, compiled)

        machines: list[Machine] = []

        def boot(name: str) -> Machine:
            directory = kept.cell_directory(name)
            machines.append(Machine(spec, directory, cfg.root, cache, listen=listen, name=kernel))
            return machines[-1]

        def kill() -> None:
            for machine in list(machines):
                machine.kill()

        def keep(matrix: Matrix) -> None:
            store.write_json(
                kept.directory / "mutants.json", {"run": kept.id, **document, **matrix.to_json()}
            )

        bench = mutants.Bench(
            cfg, kernel, image.release, guest.cpus, accelerator.name == "tcg", seed, boot, kill
        )
        matrix = mutants.run(
            bench, chosen, trials, listen, keep, jobs or facts.jobs_of(cfg.plan[plan], guest)
        )
        return matrix, kept.directory
    finally:
        with contextlib.suppress(InfraError):
            kept.close()
