# SPDX-License-Identifier: GPL-2.0
"""A run that was cut off, taken up again: what it asked for, what is finished, what is left.

Finished is what run.json has; a cell that was under way is begun again, and what there
was of it is set aside.  What the finished cells were tested with must be what the others
will be: kernels, workloads and plan are compared, and a run of two kinds is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config import Config
from harness.errors import UsageError
from harness.experiment import store
from harness.experiment.plan import Cell
from harness.experiment.verdict import Verdict
from harness.kernel.build import Image
from harness.places import NEWEST_RUN

LEFTOVERS = ("*.img", "initramfs.cpio", "keys.cpio", "host_key")  # of a machine that was killed


def find(root: Path, name: str) -> Path:
    """The directory of the run `name`, or of the newest that did not finish.

    UsageError when there is none, or when it finished.
    """
    if name != NEWEST_RUN:
        directory = root / Path(name).name
        if not (directory / "run.json").is_file():
            raise UsageError(f"no run {name!r} in {root}", hint=f"ls {root}")
        if store.read_run(directory.resolve())["status"] == "finished":
            raise UsageError(
                f"run {directory.resolve().name} is finished: there is nothing left of it",
                hint=f"less {directory / 'run.json'}",
            )
        return directory.resolve()
    for directory in reversed(store.began(root, "run.json")):
        document = store.read_run(directory)
        if document["status"] != "finished" and "planned" in document:
            return directory
    raise UsageError(f"no run in {root} ended early", hint="harness run")


def filters(document: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """The keyword arguments of plan.cells() with which the run began."""
    # A run of another verb has no cells planned.
    for key in ("filters", "planned", "seed"):
        if key not in document:
            raise UsageError(
                f"{directory / 'run.json'} does not say what was asked for: {key!r} is missing",
                hint="harness run",
            )
    return {**document["filters"], "seed": document["seed"]}


def finished(cells: Sequence[Cell], document: Mapping[str, Any]) -> dict[str, Verdict]:
    """The verdicts that there are, by cell; UsageError when the plan is another one now."""
    planned = {cell.name: cell for cell in cells}
    verdicts = {}
    for entry in document["cells"]:
        cell = planned.get(entry["name"])
        if cell is None or (cell.seed, cell.trials) != (entry["seed"], entry["planned"]):
            raise _changed(document, f"cell {entry['name']} is not planned like that any more")
        verdicts[cell.name] = Verdict.from_json(entry["verdict"])
    owed = set(document["planned"]) - set(planned)
    new = set(planned) - set(document["planned"])
    if owed or new:
        name = min(owed or new)
        raise _changed(document, f"cell {name} {'was' if owed else 'was not'} planned then")
    return verdicts


def check_kernel(image: Image, document: Mapping[str, Any]) -> None:
    """UsageError when cells were tested on another build of the kernel."""
    was = document.get("kernels", {}).get(image.kernel, {}).get("id", image.id)
    if was != image.id and any(e["kernel"] == image.kernel for e in document["cells"]):
        raise _changed(document, f"kernel {image.kernel} was {was}, now it is {image.id}")


def check_programs(digest: str, document: Mapping[str, Any]) -> None:
    """UsageError when cells were tested with other workloads."""
    if document["cells"] and document.get("programs", digest) != digest:
        raise _changed(document, f"the workloads were {document['programs']}, now {digest}")


def _changed(document: Mapping[str, Any], what: str) -> UsageError:
    return UsageError(
        f"run {document['id']} cannot go on: {what}", hint=f"harness run {document['plan']}"
    )


def tidy(run: store.Run, left: Sequence[Cell]) -> int:
    """Makes room for the cells that are left; returns the number of machines so far.

    What a cell under way had written goes to interrupted-<n>/ in its directory, without
    disks.  What a killed machine left lying about (disks, keys) is removed.
    """
    for pattern in LEFTOVERS:
        for path in run.directory.glob(f"machines/*/{pattern}"):
            path.unlink(missing_ok=True)
    for path in run.directory.rglob(".*.????????"):  # store.write_text() was cut off
        if path.is_file():
            path.unlink(missing_ok=True)
    for cell in left:
        directory = run.directory / "cells" / cell.name
        if directory.is_dir() and any(directory.iterdir()):
            for pattern in LEFTOVERS:
                for path in directory.rglob(pattern):
                    path.unlink(missing_ok=True)
            store.set_aside(directory, "interrupted")
    return len(list((run.directory / "machines").glob("[0-9]*")))


def config_of(cfg: Config, document: Mapping[str, Any]) -> str:
    """The plan's name; UsageError when there is no such plan any more."""
    name = str(document["plan"])
    if name not in cfg.plan:
        raise _changed(document, f"there is no plan {name!r} any more")
    return name
