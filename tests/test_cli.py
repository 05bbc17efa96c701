# SPDX-License-Identifier: GPL-2.0
"""The door: what a person types, and what they get when it cannot be done."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.errors import BootError, BuildError, InfraError
from harness.events import Event, silent
from harness.guest.spec import MachineSpec
from harness.places import NEWEST_RUN
from tests.conftest import TOML, Project

REPOSITORY = Path(__file__).parent.parent


@dataclass
class Calls:
    """What the fake rooms were asked, and what they shall answer."""

    run: dict[str, Any] = field(default_factory=dict)
    built: list[str] = field(default_factory=list)
    spec: Any = None
    directory: Path = Path()
    commands: list[tuple[str, float]] = field(default_factory=list)
    interacted: bool = False
    splat: str = "warning"  # its kind
    code: int = 0
    action: Callable[[], None] = lambda: None
    on_boot: Callable[[], None] = lambda: None
    answer: tuple[int, str, str] = (0, "", "")
    ahead: list[str] = field(default_factory=list)  # kernels


def fake_machine(calls: Calls) -> type:
    class Machine:
        def __init__(
            self,
            spec: MachineSpec,
            directory: Path,
            root: Path,
            cache: Path,
            listen: object = silent,
            name: str = "guest",
        ) -> None:
            calls.spec, calls.directory = spec, directory
            (directory / "console.log").write_text("booting\n")

        def __enter__(self) -> Machine:
            calls.on_boot()
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def run(self, command: str, timeout_s: float = 60) -> types.SimpleNamespace:
            calls.commands.append((command, timeout_s))
            status, out, err = calls.answer
            return types.SimpleNamespace(status=status, stdout=out, stderr=err)

        def splats(self) -> list[Any]:
            return [types.SimpleNamespace(kind=calls.splat, title="WARNING: mm/filemap.c:1")]

        def invite(self) -> list[str]:
            return ["true"]

        def interact(self) -> None:
            calls.interacted = True

    return Machine


@pytest.fixture
def calls(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Calls:
    """The program in a valid project, with every other room a fake."""
    calls = Calls()

    def run_plan(
        _cfg: object, plan: str, _cache: Path, results: Path, listen: Any, *, rooms: object,
        **options: Any,
    ) -> tuple[None, int]:  # fmt: skip
        assert rooms == calls.ahead
        calls.run = {"plan": plan, "results": results, **options}
        listen(Event("run", "x", data={"directory": str(results / "one")}))
        calls.action()
        return None, calls.code

    def resume_plan(
        _cfg: object, _cache: Path, results: Path, _listen: Any, **options: Any
    ) -> tuple[None, int]:
        calls.run = {"resumed": results, **options}
        return None, calls.code

    def ensure(
        name: str, cfg: object, cache: Path, listen: object = silent
    ) -> types.SimpleNamespace:
        calls.built.append(name)
        calls.action()
        return types.SimpleNamespace(
            kernel=name, release=f"6.12-{name}", bzimage=Path("bz"), built=False, seconds=0.0
        )

    class Ahead(contextlib.nullcontext[Any]):
        def __init__(self, _cfg: object, kernels: list[str], _cache: Path) -> None:
            super().__init__(self)
            calls.ahead = kernels

        def rooms(self) -> list[str]:
            return calls.ahead

    fakes: dict[str, dict[str, Any]] = {
        "harness.ahead": {"Ahead": Ahead},
        "harness.experiment.runner": {"run_plan": run_plan, "resume_plan": resume_plan},
        "harness.kernel.build": {"ensure": ensure},
        "harness.guest.programs": {"compile_workloads": lambda *_: {}},
        "harness.guest.qemu": {"probe_accelerator": lambda asked: asked},
        "harness.guest.machine": {"Machine": fake_machine(calls), "MachineSpec": MachineSpec},
    }
    for module, names in fakes.items():
        fake = types.ModuleType(module)
        vars(fake).update(names)
        monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    return calls


@pytest.fixture(autouse=True)
def process_state() -> Any:
    """main() prepares the whole process; the next test must not inherit it."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    path, hook = os.environ["PATH"], threading.excepthook
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ["PATH"], threading.excepthook = path, hook


def complaint(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines on standard error, without those of the progress view."""
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    return [line for line in captured.err.splitlines() if not line.startswith("run x")]


# --- help ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    ["", "run", "build", "boot", "list", "doctor", "compare", "history", "logs", "rerun", "ssh",
     "clean", "mutants", "completion", "help", "report", "series", "series import",
     "series list", "series apply", "series check", "series export", "new", "new race", "replay",
     "new series", "explore"],
)  # fmt: skip
def test_help_fits_a_screen_and_shows_an_example(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*verb.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    more = {"": 42, "run": 32, "bisect": 28, "mutants": 26, "explore": 26}
    assert len(lines) <= more.get(verb, 24)
    assert max(map(len, lines)) <= 80
    assert "example:" in lines
    if verb not in ("list", "completion"):
        assert any(line.startswith(f"  harness {verb}".rstrip()) for line in lines)


def test_the_whole_manual_is_one_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help"]) == 0
    everything = capsys.readouterr().out
    assert cli.main(["help", "rerun", "run"]) == 0
    some = capsys.readouterr().out
    assert everything.count("usage: harness") > 12 and some.count("usage: harness") == 2
    assert some.split("usage: ")[1].strip() in everything
    assert cli.main(["help", "nothing"]) == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_code(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert "harness" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("harness ru", {"run"}),
        ("harness run -k st", {"stock"}),
        ("harness run -w ", {"punch"}),
        ("harness build ", {"stock", "control"}),
        ("harness logs l", {"latest"}),
    ],
)
def test_a_shell_is_told_the_names(typed: str, offered: set[str], project: Project) -> None:
    """As argcomplete's shell code asks."""
    answer = project.root / "answer"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": typed,
        "COMP_POINT": str(len(typed)),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    subprocess.run(
        [sys.executable, "-c", "import sys; from harness.cli import main; main(sys.argv[1:])"],
        env=environment, cwd=project.root, check=False, capture_output=True,
    )  # fmt: skip
    found = {line.strip() for line in answer.read_text().splitlines()}
    assert offered <= found


@pytest.mark.parametrize(
    ("flag", "view"), [("-q", "quiet"), ("-v", "verbose"), ("--json", "json")]
)
def test_how_much_is_said(
    flag: str, view: str, calls: Calls, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert cli.main(["run", flag]) == 0
    captured = capsys.readouterr()
    if view == "json":
        assert json.loads(captured.out.splitlines()[0])["kind"] == "run"
    else:
        assert captured.out == ""
        assert ("run x" in captured.err) == (view == "verbose")


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from harness import cli; cli.main(['--help']);"
        "heavy = {'paramiko', 'scipy', 'rich', 'msgspec', 'pexpect', 'qemu'} & set(sys.modules);"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("harness")


def test_python_dash_m_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "nonsense"],
        capture_output=True, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("harness: argument VERB: invalid choice: 'nonsense'")


# --- the command line -----------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "VERB"),
        (["rum"], "invalid choice: 'rum'"),
        (["run", "--trials", "0"], "argument --trials: must be a whole number from 1"),
        (["run", "--trials", "many"], "argument --trials: must be a whole number from 1"),
        (["run", "--seed", "-1"], "argument --seed: must be a whole number from 0"),
        (["run", "quick", "slow"], "unrecognized arguments: slow"),
        (["run", "--trial", "3"], "unrecognized arguments: --trial"),
        (["boot"], "KERNEL"),
        (["boot", "stok", "--exec", "true"], "no kernel 'stok' in harness.toml (did you mean 'st"),
        (["boot", "stock", "--exec", "true", "--guest", "smal"], "(did you mean 'small'?)"),
        (["build", "stock", "contrl"], "no kernel 'contrl' in harness.toml (did you mean 'con"),
        (["--config", "none.toml", "list"], "none.toml: no such file"),
        (["list", "--config", "none.toml"], "none.toml: no such file"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_a_hint(
    argv: list[str], said: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    first, hint = complaint(capsys)
    assert first.startswith("harness: ") and said in first
    assert hint.startswith("  try: harness ")
    assert not calls.built and not calls.run


@pytest.mark.parametrize("argv", [["list"], ["run"], ["build"], ["boot", "stock", "--exec", "x"]])
def test_a_wrong_harness_toml_is_one_line_and_a_hint(
    argv: list[str], calls: Calls, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write(TOML.replace("cpus = 2", "cpu = 2"))
    assert cli.main(argv) == 2
    assert complaint(capsys) == [
        "harness: harness.toml:22: guest.small.cpu: unknown key (did you mean 'cpus'?)",
        "  try: ${EDITOR:-vi} +22 harness.toml",
    ]
    assert not calls.built and not calls.run


def test_harness_toml_is_found_above(
    calls: Calls, project: Project, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (project.root / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(project.root / "a" / "b")
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out.startswith(str(project.path))


def test_no_harness_toml_anywhere(
    calls: Calls, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.path.unlink()
    assert cli.main(["list"]) == 2
    assert complaint(capsys)[0].startswith("harness: no harness.toml in ")


# --- verbs ------------------------------------------------------------------------


def test_run_hands_over_what_was_asked(calls: Calls, project: Project) -> None:
    kernels = ["-k", "stock", "--kernel", "control"]
    others = ["-f", "xfs", "-w", "punch", "--trials", "7", "--seed", "9", "-j", "3",
              "--budget", "600", "--mode", "unarmed", "--bench", "cold", "--core"]  # fmt: skip
    assert cli.main(["run", *kernels, *others]) == 0
    assert calls.run == {
        "plan": "quick",
        "results": project.root / "results",
        "kernels": ["stock", "control"],
        "filesystems": ["xfs"],
        "workloads": ["punch"],
        "trials": 7,
        "seed": 9,
        "jobs": 3,
        "budget_s": 600,
        "modes": ["unarmed"],
        "bench": ["cold"],
        "core": True,
    }


@pytest.mark.parametrize("code", [0, 1, 125])
def test_run_ends_with_the_verdicts_code(code: int, calls: Calls) -> None:
    calls.code = code
    assert cli.main(["run", "nightly"]) == code
    assert calls.run["plan"] == "nightly"
    assert calls.run["trials"] is None


def test_build_builds_what_is_named_or_what_a_plan_names(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path("harness.toml")
    extra = 'role = "stock"\ntree = "six"\nfragments = ["base"]\n'
    config.write_text(f"{config.read_text()}\n[kernel.extra]\n{extra}")
    assert cli.main(["build", "control"]) == 0
    assert calls.built == ["control"]
    assert "control: 6.12-control (up to date)" in capsys.readouterr().out
    assert cli.main(["build"]) == 0
    assert calls.built == ["control", "stock", "control"]
    assert cli.main(["build", "extra"]) == 0
    assert calls.built[-1] == "extra"


def test_boot_exec_is_transparent(calls: Calls, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    calls.answer = (7, "caf\udce9\nno newline", "oh\n")
    assert cli.main(["boot", "stock", "--exec", "cmd a 'b c'", "--timeout", "5"]) == 7
    out, err = capsysbinary.readouterr()
    assert out == b"caf\xe9\nno newline"
    assert err.endswith(b"oh\n")
    assert b"WARNING: mm/filemap.c:1" in err
    assert calls.commands == [("cmd a 'b c'", 5)]
    assert calls.spec.cmdline == ()
    assert calls.spec.memory_mib == 512
    assert not calls.directory.exists()


@pytest.mark.parametrize("status", [-1, 256])
def test_a_status_that_is_none_is_not_passed_on(status: int, calls: Calls) -> None:
    calls.answer = (status, "", "")
    assert cli.main(["boot", "stock", "--exec", "x"]) == 125


def test_boot_gives_a_shell(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert cli.main(["boot", "stock"]) == 0
    assert calls.interacted
    assert "harness.shell=1" in calls.spec.cmdline


def test_a_shell_that_ends_in_a_panic_is_no_success(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    calls.splat = "panic"
    assert cli.main(["boot", "stock"]) == 125


def test_boot_without_a_terminal_builds_nothing(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    assert cli.main(["boot", "stock"]) == 2
    assert complaint(capsys)[1] == "  try: harness boot stock --exec 'uname -r'"
    assert calls.built == []


def test_a_boot_that_failed_leaves_its_evidence(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    def panic() -> None:
        raise BootError("stock: panic", hint="harness boot control", detail="Kernel panic")

    calls.on_boot = panic
    assert cli.main(["boot", "stock", "--exec", "true"]) == 125
    lines = complaint(capsys)
    assert lines[:3] == ["harness: stock: panic", "  try: harness boot control", "Kernel panic"]
    assert str(calls.directory) in lines[3]
    assert (calls.directory / "console.log").exists()


def test_list_shows_everything(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^  control +control: six \+ race-windows \+ reopen-races; base guest$",
                     out, re.M)
    assert re.search(r"^  small +2 CPUs, 512 MiB", out, re.M)
    assert re.search(r"^  xfs +mkfs.xfs -q$", out, re.M)
    assert "xfs: xfs_punch 2000 us 50 % + filemap_fault 5 us" in out
    # control: 2 filesystems x (2 switches + off); stock: 2 filesystems
    assert re.search(r"^  quick +8 cells, 100 trials ", out, re.M)


def test_list_says_where_a_workload_runs(
    calls: Calls, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = 'fires_on = ["stock"]\nfilesystems = ["ext4"]\nkernels = ["stock"]'
    project.write(
        TOML.replace('source = "races', f'{narrow}\ntrials = {{ stock = 7 }}\nsource = "races')
    )
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert "fires on stock; only on filesystems ext4; only on kernels stock; 7 trials on s" in out
    assert re.search(r"^  quick +1 cells, 7 trials ", out, re.M)


# --- ends -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (BuildError("a patch", hint="git am x", detail="hunk 3\nlog"), 125,
         ["harness: a patch", "  try: git am x", "hunk 3", "log"]),
        (InfraError("no QEMU"), 125, ["harness: no QEMU"]),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 125,
         ["harness: No space left on device: /x/y", "  try: harness doctor"]),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 125,
         ["harness: Permission denied: /x"]),
        (KeyboardInterrupt(), 130,
         ["interrupted; finished cells are kept in {results}/one; go on with:"
          " harness run --resume one"]),
    ],
)  # fmt: skip
def test_errors_are_lines_and_codes(
    error: BaseException, code: int, lines: list[str], calls: Calls, project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail() -> None:
        raise error

    calls.action = fail
    assert cli.main(["run"]) == code
    assert complaint(capsys) == [x.format(results=project.root / "results") for x in lines]


def test_a_run_that_put_itself_away_is_said_to_be_interrupted(
    calls: Calls, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.code = 130
    assert cli.main(["run"]) == 130
    assert complaint(capsys) == [
        f"interrupted; finished cells are kept in {project.root / 'results' / 'one'};"
        " go on with: harness run --resume one"
    ]


def test_an_interrupted_build_says_how_to_go_on(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    calls.action = interrupt
    assert cli.main(["build", "stock"]) == 130
    assert complaint(capsys) == [
        "interrupted; what is compiled is kept; go on with: harness build stock"
    ]


def crash() -> None:
    raise ZeroDivisionError("a\nb")


def test_a_bug_of_ours_is_a_line_and_a_file(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.action = crash
    assert cli.main(["run"]) == 125
    (line,) = complaint(capsys)
    match = re.fullmatch(
        r"harness: internal error: ZeroDivisionError: a b \(traceback: (.+)\)", line
    )
    assert match
    assert "in crash" in Path(match[1]).read_text()


def test_a_bug_with_nowhere_to_write(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unwritable() -> None:
        monkeypatch.setenv("HARNESS_CACHE", "/dev/null/cache")
        crash()

    calls.action = unwritable
    assert cli.main(["run"]) == 125
    assert "could not be saved" in complaint(capsys)[0]


def test_a_cache_that_cannot_be_made(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "/dev/null/cache")
    assert cli.main(["build"]) == 125
    first, hint = complaint(capsys)
    assert first == "harness: cannot make the cache directory /dev/null/cache: Not a directory"
    assert hint.startswith("  try: HARNESS_CACHE=")


def test_a_bug_in_a_thread_is_a_line_and_a_file(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_thread() -> None:
        thread = threading.Thread(target=crash)
        thread.start()
        thread.join()

    calls.action = in_thread
    assert cli.main(["run"]) == 0
    (line,) = complaint(capsys)
    assert line.startswith("harness: internal error: ZeroDivisionError: a b (traceback: ")


def test_programs_in_sbin_are_found(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    seen = []
    calls.action = lambda: seen.append(os.environ["PATH"])
    assert cli.main(["run"]) == 0
    assert seen == ["/usr/bin:/usr/local/sbin:/usr/sbin:/sbin"]


# --- a process of its own: signals and pipes ----------------------------------------

# No signal.pause(): a signal that comes while Python waits for its own lock, to call that, is
# noted and does not end it.
DRIVER = """
import sys, time, types
from harness.cli import main
from harness.events import Event
runner = types.ModuleType("harness.experiment.runner")
def run_plan(cfg, plan, cache, results, listen, **options):
    listen(Event("run", "x", data={"directory": "results/one"}))
    print("here", flush=True)
    while True:
        time.sleep(0.1)
runner.run_plan = run_plan
runner.Rooms = dict
sys.modules["harness.experiment.runner"] = runner
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_in_one_line(number: signal.Signals, project: Project) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, "--config", str(project.path), "run"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=project.root,
        env={**os.environ, "HARNESS_CACHE": str(project.root / "cache")},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        _out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    lines = [line for line in err.splitlines() if not line.startswith("run x")]
    assert lines == [
        "interrupted; finished cells are kept in results/one;"
        " go on with: harness run --resume one"
    ]


def test_a_run_is_gone_on_with(calls: Calls, project: Project) -> None:
    calls.code = 1
    assert cli.main(["run", "--resume"]) == 1
    assert calls.run == {"resumed": project.root / "results", "run": NEWEST_RUN, "jobs": None}
    assert cli.main(["run", "--resume", "2026-quick", "-j", "3"]) == 1
    assert (calls.run["run"], calls.run["jobs"]) == ("2026-quick", 3)


@pytest.mark.parametrize(
    "more", [["-k", "stock"], ["--trials", "3"], ["--mode", "armed"], ["--seed", "0"]]
)
def test_what_was_asked_for_cannot_be_changed_on_the_way(
    more: list[str], calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--resume", "one", *more]) == 2
    assert complaint(capsys) == [
        f"harness: --resume goes on as the run began: no {WORDS[more[0]]} can be given",
        "  try: harness run --resume one",
    ]
    assert not calls.run


WORDS = {"-k": "kernel", "--trials": "trials", "--mode": "mode", "--seed": "seed"}


def list_to(stdout: int, project: Project, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "--config", str(project.path), "list"],
        stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
        env={**os.environ, "HARNESS_CACHE": str(project.root / "cache"), **environment},
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_left_is_no_error(unbuffered: str, project: Project) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    said = list_to(write_end, project, PYTHONUNBUFFERED=unbuffered)
    os.close(write_end)
    assert said == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_is_full_is_one_line(unbuffered: str, project: Project) -> None:
    with Path("/dev/full").open("w") as full:
        code, err = list_to(full.fileno(), project, PYTHONUNBUFFERED=unbuffered)
    assert code == 125
    assert err == "harness: No space left on device\n  try: harness doctor\n"
