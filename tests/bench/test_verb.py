# SPDX-License-Identifier: GPL-2.0
"""`harness bench`: boots in turns, Ctrl-C and --resume, what is said and written."""

from __future__ import annotations

import dataclasses
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness import cli
from harness.bench import judge, record
from harness.bench.record import Asked, Boot, Document, Row, Sample
from harness.bench.verb import conduct
from harness.config import load
from harness.errors import InfraError, UsageError
from harness.events import Event, silent
from harness.report import bench as page
from tests.bench.test_judge import GOAL, asked, document, histogram, sample
from tests.fakes.fake_machine import image

ROOT = Path(__file__).parents[2]
COST = {"rwsem": 10_000.0, "range": 10_050.0}


def new(wanted: Asked) -> Document:
    return Document(
        id="", status="running", started="", seconds=0.0, asked=wanted, host={}, qemu="QEMU"
    )


class Bench:
    """A bench on no machine; a boot costs what COST says."""

    def __init__(self, root: Path, wanted: Asked | None = None) -> None:
        self.root, self.wanted = root, wanted or asked(boots=2, filesystems=["ext4"])
        self.taken: list[str] = []
        self.events: list[Event] = []
        self.interrupt: Callable[[str], bool] = lambda name: False
        self.identity = "0" * 12

    def take(self, boot: Boot, _image: Any, _directory: Path, _listen: Any) -> Sample:
        if self.interrupt(boot.name):
            raise KeyboardInterrupt
        self.taken.append(boot.name)
        rows = {"cold": Row({"p50_ticks": COST[boot.kernel]}, [histogram(1, 2, 900)])}
        return Sample(boot.clock, boot.round, boot.kernel, boot.filesystem, 20.0, rows)

    def ensure(self, kernel: str) -> Any:
        return SimpleNamespace(kernel=kernel, id=self.identity, vmlinux=Path(kernel))

    def run(
        self, monkeypatch: pytest.MonkeyPatch, made: Document | None = None,
        directory: Path | None = None,
    ) -> Path:  # fmt: skip
        monkeypatch.setattr("harness.experiment.facts.kernel", lambda im, _cfg: {"id": im.id})
        return conduct(
            SimpleNamespace(), self.root / "cache", self.root / "results",  # type: ignore[arg-type]
            made or new(self.wanted), directory, self.events.append,
            ensure=self.ensure, take=self.take, sizes=lambda path: {"inode": len(path.name)},
        )  # fmt: skip


def test_kernels_take_turns_and_none_is_always_first() -> None:
    boots = record.order(asked(kernels=["a", "b", "c"], boots=4, filesystems=["ext4"]))
    assert [b.kernel for b in boots if b.clock == "icount"] == ["a", "b", "c"]
    timed = [b for b in boots if b.clock == "tcg"]
    turns = ["".join(b.kernel for b in timed if b.round == n) for n in range(1, 5)]
    assert turns == ["abc", "bca", "cab", "abc"]
    assert len({boot.name for boot in boots}) == len(boots) == 15


def test_a_bench_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    directory = bench.run(monkeypatch)
    made = record.load(directory)
    assert made.status == "finished" and made.id == directory.name
    assert bench.taken == [boot.name for boot in record.order(bench.wanted)]
    assert len(bench.taken) == 6
    assert made.sizes == {"rwsem": {"inode": 5}, "range": {"inode": 5}}
    assert made.samples[0].rows["cold"].histograms == [histogram(1, 2, 900)], "kept whole"
    steps = [event for event in bench.events if event.kind == "bench"]
    assert [(event.done, event.total) for event in steps] == [(n, 6) for n in range(7)]
    # Two counted ones of 20 s are over: what is left is four of the other clock.
    assert steps[4].eta_s == 40.0
    # One workload is no hour: nothing is known yet but how many there are.
    assert steps[0].eta_s and 40 < steps[0].eta_s < 100
    (verdict,) = judge.verdicts(made, judge.lines(made))
    assert verdict.met is True and verdict.text == "1.005, at most 1.01"


def test_ctrl_c_keeps_what_was_done_and_resume_does_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    bench.interrupt = lambda name: len(bench.taken) == 3
    with pytest.raises(KeyboardInterrupt):
        bench.run(monkeypatch)
    directory = record.find(tmp_path / "results", "", finished=False)
    made = record.load(directory)
    assert made.status == "interrupted" and len(made.samples) == 3
    bench.interrupt = lambda name: False
    assert bench.run(monkeypatch, made, directory) == directory
    whole = record.load(directory)
    assert whole.status == "finished" and whole.sittings == 2 and len(whole.samples) == 6
    assert len(bench.taken) == len(set(bench.taken)) == 6, "nothing is measured twice"
    with pytest.raises(UsageError, match="no bench that ended early"):
        record.find(tmp_path / "results", "", finished=False)


def test_a_kernel_that_was_changed_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    bench.interrupt = lambda name: bool(bench.taken)
    with pytest.raises(KeyboardInterrupt):
        bench.run(monkeypatch)
    directory = record.find(tmp_path / "results", "")
    bench.identity = "1" * 12
    with pytest.raises(UsageError, match="rwsem is another one"):
        bench.run(monkeypatch, record.load(directory), directory)
    assert record.load(directory).status == "failed"


def test_a_sample_that_is_damaged_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Bench(tmp_path).run(monkeypatch)
    path = sorted((directory / record.SAMPLES).iterdir())[0]
    path.write_text(path.read_text()[:40])
    with pytest.raises(InfraError, match=re.escape(str(path))):
        record.samples(directory)


# --- what was asked for -----------------------------------------------------------


def test_a_part_of_what_harness_toml_asks_for() -> None:
    cfg = load(ROOT / "harness.toml")
    whole = record.ask(cfg)
    assert cfg.bench is not None and whole.kernels == cfg.bench.kernels and whole.boots >= 10
    part = record.ask(cfg, ["bench-tree", "bench-stock"], ["xfs"], ["hot-read", "cold-fault"], 2)
    assert part.kernels == ["bench-stock", "bench-tree"], "the base comes first"
    assert part.candidate == "bench-tree" and part.workloads == ["cold-fault", "hot-read"]
    assert (part.filesystems, part.boots) == (["xfs"], 2)
    assert whole.workloads == cfg.bench.workloads and whole.guest == cfg.bench.guest
    other = record.ask(cfg, workloads=["cold-fault-8", "hot-read"], guest="bench-8")
    assert (other.workloads, other.guest) == (["hot-read", "cold-fault-8"], "bench-8")
    assert "cold-fault-8" not in whole.workloads, "it needs a guest of its own"
    for arguments, said in (
        ((["nix"],), "no kernel 'nix'"),
        (([], ["nix"]), "no filesystem 'nix'"),
        (([], [], ["stress"]), "no workload of kind bench 'stress'"),
        (([], [], [], None, "nix"), "no guest 'nix'"),
    ):
        with pytest.raises(UsageError, match=said):
            record.ask(cfg, *arguments)
    with pytest.raises(UsageError, match="no \\[bench\\]"):
        record.ask(msgspec.structs.replace(cfg, bench=None))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('candidate = "bench-candidate"', 'candidate = "bench-stock"'), "candidate: must be"),
        (('figure = "object_bytes"\nmore = 16.0', 'figure = "object_bytes"'), "one of 'most' and"),
        (('figure = "object_bytes"', 'figure = "bytes"'), "'bytes' is no figure of 'inode'"),
        (('workloads = ["inode"]', 'workloads = ["stress"]'), "is no workload of kind bench"),
        (('workloads = ["inode"]', 'workloads = ["nix"]'), "is no workload of kind bench"),
        (('    "inode",\n', '    "stress",\n'), "'stress' is a gate"),
        (('guest = "bench"', 'guest = "banch"'), "banch"),
    ],
)
def test_a_bench_that_makes_no_sense_is_one_line(
    change: tuple[str, str], said: str, tmp_path: Path
) -> None:
    text = (ROOT / "harness.toml").read_text()
    assert text.count(change[0]) == 1
    (tmp_path / "harness.toml").write_text(text.replace(*change))
    for name in ("patches", "vm", "workloads"):
        (tmp_path / name).symlink_to(ROOT / name)
    with pytest.raises(UsageError, match=f"harness.toml:[0-9]+: .*{said}"):
        load(tmp_path / "harness.toml")


# --- what is said and written -----------------------------------------------------


def many() -> Document:
    return document(
        *(sample(kernel, 10_000 + 200 * (kernel == "range") + number, clock, number)
          for clock, boots in (("icount", 1), ("tcg", 3))
          for number in range(1, boots + 1)
          for kernel in ("rwsem", "range"))
    )  # fmt: skip


def test_the_terminal_shows_goals_and_figures() -> None:
    made = many()
    lines = judge.lines(made)
    said = "\n".join(page.told(made, lines, judge.verdicts(made, lines)))
    assert re.search(r"missed +ext4 +cold +p50_ticks +icount +1.02, at most 1.01", said)
    assert re.search(r"ext4 +cold +p50_ticks +tcg +10,002 +10,202 +1.0200 \[1.02, 1.02\]", said)
    assert re.search(r"not measured +xfs", said)


def test_a_markdown_file_gets_tables_and_plots(tmp_path: Path) -> None:
    path = tmp_path / "measurements.md"
    path.write_text(f"before\n{page.BEGIN}\nstale words\n{page.END}\nafter\n")
    made = many()
    lines = judge.lines(made)
    written = page.insert(path, made, lines, judge.verdicts(made, lines))
    text = path.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "stale words" not in text
    assert "| **missed** | ext4 | `cold` | p50 | icount | 1.02, at most 1.01 |" in text
    assert "| `cold` | ext4 | p50 | 10,001 | 10,201 (1.0200) |" in text
    linked = re.findall(r"\]\(bench/(\S+\.svg)\)", text)
    assert [p.name for p in written[1:]] == linked and "ratios-icount.svg" in linked
    for drawing in written[1:]:
        tree = ET.parse(drawing)
        assert tree.getroot().tag.endswith("svg") and "nan" not in drawing.read_text()
        x0, y0, width, height = map(float, tree.getroot().attrib["viewBox"].split())
        for line in tree.iter("{http://www.w3.org/2000/svg}polyline"):
            for point in line.attrib["points"].split():
                x, y = map(float, point.split(","))
                assert x0 <= x <= width and y0 <= y <= height
    again = page.insert(path, made, lines, judge.verdicts(made, lines))
    assert path.read_text() == text and again == written, "the same bench gives the same file"


@pytest.mark.parametrize("text", ["", page.BEGIN, f"{page.END}\n{page.BEGIN}", page.BEGIN * 2])
def test_a_file_without_a_place_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(text)
    with pytest.raises(UsageError, match="no place for a bench"):
        page.check(tmp_path / "a.md")
    with pytest.raises(UsageError, match="cannot read it"):
        page.check(tmp_path / "b.md")


def test_the_page_has_all_of_it_and_obeys_nobody(tmp_path: Path) -> None:
    made = many()
    made.qemu = "<script>alert(1)</script>\x1b[2J"
    lines = judge.lines(made)
    (path,) = page.write(tmp_path, made, lines, judge.verdicts(made, lines))
    text = path.read_text()
    assert "<script>" not in text and "\x1b" not in text
    assert text.count("<svg") == 4 and 'class="bad">missed' in text and "1.0200" in text


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [(12770.0, "ticks", "12,770"), (999.0, "ns", "999 ns"), (73536.0, "ns", "73.5 us"),
     (9.3e6, "ns", "9.3 ms"), (2e9, "ns", "2 s"), (1064.0, "bytes", "1,064"),
     (1998.0, "s", "1,998/s")],
)  # fmt: skip
def test_figures_are_read_with_their_unit(value: float, unit: str, said: str) -> None:
    assert page.number(value, unit) == said


# --- the command line ---------------------------------------------------------------


def test_the_verb_goes_on_and_makes_pages_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)
    directory = bench.run(monkeypatch)
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "harness.toml", tmp_path)
    for name in ("patches", "vm", "workloads"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setattr("harness.ending.prepare_process", lambda: None)
    assert cli.main(["bench", "--report"]) == 0
    out = capsys.readouterr().out
    assert "met" in out and f"results/{directory.name}/report.html" in out
    made = record.load(directory)
    made.asked = asked(goals=[msgspec.structs.replace(GOAL, most=1.001)], filesystems=["ext4"])
    record.save(directory, made)
    assert cli.main(["bench", "--report"]) == 1, "a goal is missed"
    capsys.readouterr()
    for words, said in (
        (["--resume"], "no bench that ended early"),
        (["--resume", "-f", "ext4"], "no filesystem can be given"),
        (["--resume", "--guest", "bench"], "no guest can be given"),
        (["--guest", "nix"], "no guest 'nix'"),
        (["--report", "nix"], "no bench 'nix'"),
        (["--boots", "x"], "--boots"),
        (["-k", "nix"], "no kernel 'nix'"),
        (["--write", "nix.md"], "nix.md: cannot read it"),
    ):
        assert cli.main(["bench", *words]) == 2, words
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error and "try:" in error


def test_a_boot_is_made_ready_for_each_workload_and_slowed_where_time_is_the_hosts(
    tmp_path: Path,
) -> None:
    from harness.bench import measure
    from harness.guest.machine import Completed
    from harness.guest.qemu import Accelerator
    from tests.fakes.fake_machine import Lab

    cfg = load(ROOT / "harness.toml")
    wanted = record.ask(cfg, workloads=["cold-fault", "fault-alone"], filesystems=["ext4"])
    lab, specs = Lab(), []
    options = ["rw", "noatime", "noinit_itable"]
    lab.default = dataclasses.replace(lab.default, preflight={"mount_options": options})

    def machine(spec: Any, directory: Path, name: str) -> Any:
        made: Any = lab.rooms().machine(spec, directory, Path(), Path(), silent, name)
        made.name, plain = "stock", made.run
        specs.append(spec)

        def run(command: str, timeout_s: float = 60, on_line: Any = None) -> Completed:
            if command.startswith("/workloads/bench/"):
                lab.commands.append(command)
                out = '# {"histogram":"op","unit":"ns","bits":10,"count":1,"sum":1,"min":1,'
                out += '"max":1,"buckets":[[1,1]]}\n# {"trial":1,"outcome":"held","p50_ticks":7,'
                out += '"visit_p99_ns":9,"visits_s":5,"why":"","us":3}\n'
                return Completed(command, 0, out, "", 1.0)
            done: Completed = plain(command, timeout_s, on_line)
            return done

        made.run = run
        return made

    taken = {
        clock: measure.measure(
            cfg, wanted, Boot(clock, 1, "stock", "ext4"),
            image("stock", cfg, tmp_path), {}, Accelerator("tcg", 5.0, ""), tmp_path,
            machine, silent,
        )
        for clock in ("icount", "tcg")
    }  # fmt: skip
    assert taken["tcg"].rows["cold-fault"].figures == {"p50_ticks": 7.0}
    assert taken["tcg"].rows["fault-alone"].figures == {"visit_p99_ns": 9.0, "visits_s": 5.0}
    assert len(taken["icount"].rows["cold-fault"].histograms) == 1
    assert [(s.accelerator.name, s.accelerator.slice_us > 0) for s in specs] == [
        ("icount", True), ("tcg", False)]  # fmt: skip
    benches = [c for c in lab.commands if c.startswith("/workloads/bench/")]
    assert [c.endswith("--slow 3") for c in benches] == [False, False, False, True]
    assert lab.commands.count("mount -t ext4 -o noatime,noinit_itable /dev/nullb0 /mnt") == 4


def test_sizes_come_from_the_debug_information(tmp_path: Path) -> None:
    from harness.bench.measure import sizes

    (tmp_path / "a.c").write_text("struct inode { char a[600]; } i; struct other { int b; } o;\n")
    import subprocess

    subprocess.run(["gcc", "-g", "-c", "-o", tmp_path / "a.o", tmp_path / "a.c"], check=True)
    assert sizes(tmp_path / "a.o") == {"inode": 600}
    assert sizes(tmp_path / "nix") == {}
