# SPDX-License-Identifier: GPL-2.0
"""harness.toml: what is right is read, what is wrong is named with file, line and key."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import config, position
from harness.errors import EXIT_USAGE, UsageError
from tests.conftest import TOML, Project, make_project

SHIPPED = Path(__file__).parent.parent / "harness.toml"
LIMIT = 400  # characters: a line a person can read


def refusal(project: Project) -> UsageError:
    with pytest.raises(UsageError) as caught:
        project.load()
    error = caught.value
    assert error.exit_code == EXIT_USAGE
    assert error.hint
    assert "\n" not in error.message
    assert len(error.message) < LIMIT + len(str(project.path))
    return error


def test_a_valid_file_is_read_whole(project: Project) -> None:
    cfg = project.load()
    assert cfg.kernel["control"].series == ["race-windows", "reopen-races"]
    assert cfg.workload["punch"].windows["xfs"][0] == config.Window(
        name="xfs_punch", delay_us=2000, probability=50
    )
    assert cfg.plan["quick"].trials == {"control": 10, "stock": 20}
    assert (cfg.root, cfg.path) == (project.root, project.path)


def test_root_is_absolute_when_the_path_is_not(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    cfg = config.load(Path("harness.toml"))
    assert (cfg.root, cfg.path) == (project.root, project.path)


def test_the_shipped_file_names_only_what_is_there() -> None:
    cfg = config.load(SHIPPED)
    assert {"stock", "control"} <= set(cfg.kernel)


SOURCE = 'source = "races/punch.c"'

# old text, new text, text on the line that must be named, key, what must be said
WRONG = [
    # unknown keys
    ('role = "stock"', 'roles = "stock"', "roles =", "kernel.stock.roles",
     "unknown key (did you mean 'role'?)"),
    ("[guest.small]", "[guests.small]", "[guests.small]", "guests",
     "unknown key (did you mean 'guest'?)"),
    ("[guest.small]", 'root = "/"\n[guest.small]', 'root = "/"', "kernel.control.root",
     "unknown key"),
    ("[tree.six]", 'root = "/"\n[tree.six]', 'root = "/"', "root", "unknown key"),
    ("[tree.six]", 'path = "/"\n[tree.six]', 'path = "/"', "path", "unknown key"),
    ("probability = 50", "probable = 50", "xfs_punch", "workload.punch.windows.xfs[0].probable",
     "unknown key (did you mean 'probability'?)"),
    # wrong types
    ("cpus = 2", 'cpus = "2"', "cpus =", "guest.small.cpus", "must be an integer, not a string"),
    ("cpus = 2", "cpus = true", "cpus =", "guest.small.cpus", "not true or false"),
    ("cpus = 2", "cpus = 2.0", "cpus =", "guest.small.cpus", "not a number"),
    ("cpus = 2", "cpus = 1979-05-27", "cpus =", "guest.small.cpus", "not a date or time"),
    ("cpus = 2", "boot_timeout_s = 1" + "0" * 400, "boot_timeout_s", "guest.small.boot_timeout_s",
     "too large"),
    ('"reopen-races",', "7,", "7,", "kernel.control.series[1]", "must be a string"),
    ('series = ["race-windows"]', 'series = "race-windows"', 'series = "', "kernel.stock.series",
     "must be an array, not a string"),
    ("delay_us = 5 }", 'delay_us = "5" }', "filemap_fault",
     "workload.punch.windows.xfs[1].delay_us", "must be an integer"),
    ("windows.ext4 = [", "windows.ext4 = 3 #", "windows.ext4", "workload.punch.windows.ext4",
     "must be an array"),
    ("control = 10", 'control = "10"', "trials =", "plan.quick.trials.control",
     "must be an integer"),
    ("[tree.six]", "plan = 3\n[tree.six]", "[plan.quick]", "plan.quick",
     "plan is a value already (line 1)"),
    ("[tree.six]", "plans = 3\n[tree.six]", "plans = 3", "plans", "did you mean 'plan'?"),
    ("[tree.six]", "[tree]\nsix = 3\n[tree.seven]", "six = 3", "tree.six", "must be a table"),
    # one of a few words
    ('role = "stock"', 'role = "stok"', "role =", "kernel.stock.role", "(did you mean 'stock'?)"),
    ('kind = "debian"', 'kind = "deb"', "kind =", "tree.six.kind", "'deb' is none of debian, git"),
    ("control = 10", "contrl = 10", "trials =", "plan.quick.trials.contrl",
     "(did you mean 'control'?)"),
    # dangling names
    ('tree = "six"\nseries = ["r', 'tree = "sic"\nseries = ["r', 'tree = "sic"',
     "kernel.stock.tree", "no [tree.sic] (did you mean 'six'?)"),
    ('"reopen-races",', '"reopen-race",', '"reopen-race",', "kernel.control.series[1]",
     "no patches/reopen-race/6.12/series (did you mean 'reopen-races'?)"),
    ('"reopen-races",', '"reopen-races:0",', '"reopen-races:0",', "kernel.control.series[1]",
     "'0' is not a number of patches: write 'name' or 'name:N'"),
    ('"reopen-races",', '"race-windows:2",', '"race-windows:2",', "kernel.control.series[1]",
     "'race-windows' is named twice"),
    ('line = "6.12"', 'line = "6.13"', 'series = ["race-windows"]', "kernel.stock.series[0]",
     "no patches/race-windows/6.13/series"),
    ('fragments = ["base", "guest"]\n\n[guest', 'fragments = ["base", "gest"]\n\n[guest',
     '"gest"', "kernel.control.fragments[1]",
     "no vm/kconfig/gest.config (did you mean 'guest'?)"),
    ('kernels = ["control", "stock"]', 'kernels = ["control", "stocks"]', '"stocks"',
     "plan.quick.kernels[1]", "no [kernel.stocks] (did you mean 'stock'?)"),
    ('filesystems = ["ext4", "xfs"]', 'filesystems = ["ext3", "xfs"]', '"ext3"',
     "plan.quick.filesystems[0]", "did you mean 'ext4'?"),
    ('workloads = ["punch"]', 'workloads = ["bunch"]', '"bunch"', "plan.quick.workloads[0]",
     "did you mean 'punch'?"),
    ('guest = "small"', 'guest = "big"', 'guest = "big"', "plan.quick.guest",
     "no [guest.big] (there is: small)"),
    ("races/punch.c", "races/punhc.c", "punhc", "workload.punch.source",
     "no workloads/races/punhc.c (did you mean 'races/punch.c'?)"),
    ("races/punch.c", "../../etc/punch.c", "etc", "workload.punch.source", "below workloads/"),
    ("races/punch.c", "races/" + "p" * 300 + ".c", "ppp", "workload.punch.source",
     "below workloads/"),
    ("windows.ext4 =", "windows.ext5 =", "windows.ext5", "workload.punch.windows.ext5",
     "did you mean 'ext4'?"),
    # rendezvous
    ("delay_us = 2000 }]", 'delay_us = 0, partner = "filled" }]', "ext4_punch",
     "workload.punch.windows.ext4[0].delay_us", "how long a partner is waited for"),
    ("delay_us = 2000 }]", 'delay_us = 2000, attempt = "fault" }]', "ext4_punch",
     "workload.punch.windows.ext4[0].attempt", "needs a 'partner'"),
    ("delay_us = 2000 }]", 'delay_us = 2000, partner = "ext4_punch" }]', "ext4_punch",
     "workload.punch.windows.ext4[0].partner", "cannot wait for itself"),
    ("delay_us = 2000 }]", 'delay_us = 2000, partner = "a/b" }]', "ext4_punch",
     "workload.punch.windows.ext4[0].partner", "a name is letters"),
    # duplicates
    ("[kernel.control]", "[kernel.stock]", "[kernel.stock]\nrole = \"control\"", "kernel.stock",
     "declared twice (first on line 6)"),
    ("memory_mib = 512", "cpus = 3", "cpus = 3", "guest.small.cpus",
     "declared twice (first on line 22)"),
    ("probability = 50", "delay_us = 50", "xfs_punch", "workload.punch.windows.xfs[0].delay_us",
     "declared twice"),
    ("delay_us = 2000 }]", "delay_us = 2000, delay_us = 1, probability = 3 }]", "ext4_punch",
     "workload.punch.windows.ext4[0].delay_us", "declared twice (first on line 38)"),
    ('"reopen-races",', '"race-windows",', '"race-windows",  #', "kernel.control.series[1]",
     "named twice"),
    ('["fault", "fault+mkwrite"]', '["fault", "fault"]', '"fault"]',
     "workload.punch.switches[1]", "named twice"),
    ('kernels = ["control", "stock"]', 'kernels = ["stock", "stock"]', '"stock", "stock"',
     "plan.quick.kernels[1]", "named twice"),
    # which cells a workload has
    (SOURCE, SOURCE + '\nfires_on = ["control"]', "fires_on", "workload.punch.fires_on[0]",
     "is named in 'switches'"),
    (SOURCE, SOURCE + '\nfires_on = ["stok"]', "fires_on", "workload.punch.fires_on[0]",
     "(did you mean 'stock'?)"),
    (SOURCE, SOURCE + '\nfilesystems = ["ext4-1k"]', "ext4-1k", "workload.punch.filesystems[0]",
     "no [filesystem.ext4-1k] (did you mean 'ext4'?)"),
    (SOURCE, SOURCE + '\nsince = "v5.14"', "since", "workload.punch.since",
     "must be a line of kernels, such as '5.14'"),
    (SOURCE, SOURCE + '\nkernels = ["stock", "stock"]', '"stock", "stock"',
     "workload.punch.kernels[1]", "named twice"),
    (SOURCE, SOURCE + "\ntrials = { stock = 0 }", "stock = 0", "workload.punch.trials.stock",
     "must be from 1 to"),
    ('kind = "race"', 'kind = "gate"', "switches =", "workload.punch.switches",
     "a gate does not run on control kernels"),
    (SOURCE, SOURCE + '\nkernels = ["elsewhere"]\n[kernel.elsewhere]\nrole = "stock"\n'
     'tree = "six"\nfragments = ["base"]\n[workload.other]\nkind = "race"\n' + SOURCE,
     'workloads = ["punch"]', "plan.quick.workloads[0]",
     "'punch' has no cell here: of kernels it takes only elsewhere"),
    # missing and empty
    ('tree = "six"\nseries = ["r', 'series = ["r', "[kernel.stock]", "kernel.stock",
     "missing key 'tree'"),
    (", delay_us = 5 }", " }", "filemap_fault", "workload.punch.windows.xfs[1]",
     "missing key 'delay_us'"),
    (", stock = 20", "", "trials =", "plan.quick.trials", "missing key 'stock': kernel 'stock'"),
    ("[guest.small]\ncpus = 2\nmemory_mib = 512", "[guest]", "[guest]", "guest",
     "at least one [guest.NAME]"),
    ("[guest.small]\ncpus = 2\nmemory_mib = 512", "", "[tree.six]", "guest",
     "at least one [guest.NAME]"),
    ('kernels = ["control", "stock"]', "kernels = []", "kernels = []", "plan.quick.kernels",
     "must not be empty"),
    ('["mkfs.ext4", "-q"]', "[]", "mkfs = []", "filesystem.ext4.mkfs", "must not be empty"),
    # what a tree of a kind takes
    ('package = "linux-source-6.12"', "", "[tree.six]", "tree.six.package", "missing"),
    ('package = "linux-source-6.12"', 'package = ""', 'package = ""', "tree.six.package",
     "must not be empty"),
    ('line = "6.12"', 'line = "6.12"\nref = "v6.12"', "ref =", "tree.six.ref",
     "not a key of a tree of kind 'debian', which takes: package"),
    ('kind = "debian"\npackage = "linux-source-6.12"', 'kind = "git"\nurl = "/src/linux"',
     "[tree.six]", "tree.six.ref", "missing: a tree of kind 'git' needs it"),
    ('kind = "debian"\npackage = "linux-source-6.12"',
     'kind = "git"\nurl = "--upload-pack=x"\nref = "v6"', "--upload", "tree.six.url",
     "must not begin with '-'"),
    ('kind = "debian"\npackage', 'kind = "dir"\nurl', "[tree.six]", "tree.six.path", "missing"),
    # ranges
    ("cpus = 2", "cpus = 9", "cpus =", "guest.small.cpus", "must be from 1 to 8, not 9"),
    ("cpus = 2", "cpus = 0", "cpus =", "guest.small.cpus", "must be from 1 to 8, not 0"),
    ("cpus = 2", "cpus = 1", "guest =", "plan.quick.guest", "the race 'punch' needs 2"),
    ("cpus = 2", "cpus = 0x" + "f" * 5000, "cpus =", "guest.small.cpus", "must be from 1 to 8"),
    ("memory_mib = 512", "memory_mib = 255", "memory_mib", "guest.small.memory_mib", "from 256"),
    ("memory_mib = 512", "boot_timeout_s = nan", "boot_t", "guest.small.boot_timeout_s",
     "not nan"),
    ("memory_mib = 512", "boot_timeout_s = inf", "boot_t", "guest.small.boot_timeout_s",
     "not inf"),
    ("probability = 50", "probability = 0", "xfs_punch",
     "workload.punch.windows.xfs[0].probability", "from 1 to 100"),
    ("delay_us = 5 }", "delay_us = 1000001 }", "filemap_fault",
     "workload.punch.windows.xfs[1].delay_us", "from 0 to 1000000, not 1000001"),
    ("control = 10", "control = 0", "trials =", "plan.quick.trials.control", "from 1 to"),
    ('guest = "small"', 'guest = "small"\nseed = -1', "seed =", "plan.quick.seed", "from 0"),
    ('source = "races/punch.c"', 'source = "races/punch.c"\nmin_rate = 1.5', "min_rate",
     "workload.punch.min_rate", "from 0 to 1, not 1.5"),
    ('mount = ["noatime"]', "block_size = 5000", "block_size", "filesystem.ext4.block_size",
     "power of two"),
    # names
    ("[kernel.control]", '[kernel."con trol"]', "con trol", 'kernel."con trol"', "a name is"),
    ("[kernel.control]", '[kernel.".."]', "..", 'kernel.".."', "a name is"),
    ("[kernel.control]", '[kernel."a/b"]', "a/b", 'kernel."a/b"', "a name is"),
    ("[kernel.control]", "[kernel." + "c" * 25 + "]", "ccc", "kernel." + "c" * 25,
     "at most 24 characters, this has 25"),
    ("[kernel.control]", '[kernel."a\\nb"]', "a\\nb", 'kernel."a\\nb"', "a name is"),
    ('mount = ["noatime"]', 'mount = ["noatime,ro"]', "noatime,ro", "filesystem.ext4.mount[0]",
     "one mount option"),
    ('["mkfs.ext4", "-q"]', '["mkfs.ext4", "a\\u0000b"]', "u0000", "filesystem.ext4.mkfs[1]",
     "control characters"),
    ('["fault", "fault+mkwrite"]', '["fault", "fault +mkwrite"]', "fault +",
     "workload.punch.switches[1]", "joined by '+'"),
    # not TOML
    ("cpus = 2", "cpus = ", "cpus =", "guest.small.cpus", "not TOML: invalid value"),
    ("cpus = 2", "cpus 2", "cpus 2", "guest.small.cpus", "not TOML: expected '='"),
    ("[guest.small]", "[guest.small", "[guest.small", "guest.small", "not TOML"),
    ("cpus = 2", "cpus = " + "1" * 5000, "cpus =", "guest.small.cpus", "number too long"),
    ("cpus = 2", "cpus = " + "[" * 3000, "cpus =", None, "nested too deeply"),
]


@pytest.mark.parametrize(
    ("old", "new", "on", "key", "said"), WRONG, ids=[f"{w[3]}-{i}" for i, w in enumerate(WRONG)]
)
def test_what_is_wrong_is_named(
    project: Project, old: str, new: str, on: str, key: str | None, said: str | None
) -> None:
    assert old in TOML
    text = TOML.replace(old, new, 1)
    project.write(text)
    message = refusal(project).message
    if key is None:  # the parser gave up: only the file and some line are known
        assert re.match(rf"{re.escape(str(project.path))}:\d+: ", message)
    else:
        line = text[: text.index(on)].count("\n") + 1
        assert message.startswith(f"{project.path}:{line}: {key}: ")
    assert (said or "") in message


ALLOW = """
[[allow]]
title = 'WARNING: fs/x\\.c at x_.*'
tree = "six"
reason = "reported upstream, harmless here"
"""

WRONG_ALLOW = [
    ("reason = ", "reasons = ", "reasons =", "allow[0].reasons", "did you mean 'reason'?"),
    ('reason = "reported upstream, harmless here"\n', "", "[[allow]]", "allow[0]", "'reason'"),
    ('reason = "reported upstream, harmless here"', 'reason = " "', "reason =",
     "allow[0].reason", "must not be empty"),
    ('tree = "six"\nreason', "reason", "[[allow]]", "allow[0]", "'tree'"),
    ('tree = "six"\nreason', 'tree = "sixx"\nreason', 'tree = "sixx"', "allow[0].tree",
     "no [tree.sixx] (did you mean 'six'?)"),
    ("fs/x", "(fs/x", "title =", "allow[0].title", "not a regular expression"),
    ("'WARNING: fs/x\\.c at x_.*'", "'.*'", "title =", "allow[0].title",
     "matches every title"),
    ("'WARNING: fs/x\\.c at x_.*'", "7", "title =", "allow[0].title", "must be a string"),
    ("[[allow]]", "[allow]", "[allow]", "allow", "must be tables [[allow]], not a table"),
    ("[[allow]]", "[[allows]]", "[[allows]]", "allows", "did you mean 'allow'?"),
]


def test_what_is_allowed(project: Project) -> None:
    project.write(TOML + ALLOW)
    (rule,) = project.load().allow
    assert (rule.tree, rule.title) == ("six", r"WARNING: fs/x\.c at x_.*")
    project.write(TOML)
    assert project.load().allow == []


@pytest.mark.parametrize(("old", "new", "on", "key", "said"), WRONG_ALLOW)
def test_what_may_not_be_allowed(
    project: Project, old: str, new: str, on: str, key: str, said: str
) -> None:
    assert old in ALLOW
    text = TOML + ALLOW.replace(old, new, 1)
    project.write(text)
    message = refusal(project).message
    line = text[: text.index(on)].count("\n") + 1
    assert message.startswith(f"{project.path}:{line}: {key}: ")
    assert said in message


def test_where_cells_are_run(project: Project) -> None:
    project.write(TOML)
    assert project.load().executor == config.Executor(kind="local")
    for address in ("tcp://192.0.2.1:8786", "tls://head.cluster:8786", "tcp://[::1]:8786"):
        project.write(f'{TOML}\n[executor]\nkind = "dask"\naddress = "{address}"\njobs = 8\n')
        assert project.load().executor == config.Executor(kind="dask", address=address, jobs=8)


# the lines of [executor], which of them must be named, key, what must be said
WRONG_EXECUTOR = [
    (['kind = "dusk"'], 1, "executor.kind", "none of local, dask (did you mean 'dask'?)"),
    (['kind = "dask"'], 0, "executor", "missing key 'address'"),
    (['kind = "dask"', 'address = "head:8786"'], 2, "executor.address", "'tcp://host:8786'"),
    (['kind = "dask"', 'address = "tcp://head"'], 2, "executor.address", "'tcp://host:8786'"),
    (['address = "tcp://head:1"'], 1, "executor.address", "kind 'local' has no such key"),
    (["jobs = 2"], 1, "executor.jobs", "kind 'local' has no such key"),
    (["job = 2"], 1, "executor.job", "unknown key (did you mean 'jobs'?)"),
    (['jobs = "2"'], 1, "executor.jobs", "must be an integer, not a string"),
    (['kind = "dask"', 'address = "tcp://h:1"', "jobs = -1"], 3, "executor.jobs", "from 0 to 4096"),
    (['kind = "dask"', 'address = "tcp://h:1"', "wait_s = 0"], 3, "executor.wait_s", "from 1 to"),
]


@pytest.mark.parametrize(("lines", "on", "key", "said"), WRONG_EXECUTOR)
def test_where_cells_cannot_be_run(
    project: Project, lines: list[str], on: int, key: str, said: str
) -> None:
    text = TOML.rstrip("\n") + "\n[executor]\n"
    project.write(text + "\n".join(lines) + "\n")
    message = refusal(project).message
    assert message.startswith(f"{project.path}:{text.count(chr(10)) + on}: {key}: ")
    assert said in message


def test_executors_have_no_names(project: Project) -> None:
    project.write('executor = "dask"\n' + TOML)
    assert "must be a table, not a string" in refusal(project).message


def test_an_empty_file(project: Project) -> None:
    project.write("")
    assert refusal(project).message.startswith(f"{project.path}:1: tree: missing")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        config.load(tmp_path / "harness.toml")


def test_a_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read it"):
        config.load(tmp_path)


def test_bytes_that_are_not_utf8(project: Project) -> None:
    project.write(b"# fine\n# caf\xe9\n")
    assert refusal(project).message == f"{project.path}:2: byte 0xe9 is not UTF-8"


def test_nearest() -> None:
    assert config.nearest("stok", ["stock", "control"]) == " (did you mean 'stock'?)"
    assert config.nearest("zzz", ["stock", "control"]) == " (there is: control, stock)"
    assert config.nearest("zzz", []) == ""


# --- positions ------------------------------------------------------------------


def test_positions_of_every_way_to_write_a_key() -> None:
    text = """\
a.b = 1
"q.r" . 's' = 2  # comment with [ and {
[t]
x = [
  1, # one

  { y = 3, z.w = [4,
     5] },
]
multi = \"\"\"
[not.a.table]
"quoted\\"\"\"\"
after = 'x'
[[many]]
n = 1
[[many]]
n = 2
[many.sub]
m = 1979-05-27 07:32:00
"""
    lines = position.locate(text).lines
    expected: dict[position.KeyPath, int] = {
        ("a",): 1, ("a", "b"): 1, ("q.r", "s"): 2, ("t",): 3, ("t", "x"): 4, ("t", "x", 0): 5,
        ("t", "x", 1): 7, ("t", "x", 1, "y"): 7, ("t", "x", 1, "z", "w"): 7,
        ("t", "x", 1, "z", "w", 1): 8, ("t", "multi"): 10, ("t", "after"): 13,
        ("many", 0): 14, ("many", 0, "n"): 15, ("many", 1): 16, ("many", 1, "n"): 17,
        ("many", 1, "sub", "m"): 19,
    }  # fmt: skip
    assert expected.items() <= lines.items()
    assert ("not", "a", "table") not in lines


def test_a_position_falls_back_to_the_enclosing_key() -> None:
    found = position.locate("\n[a]\n\nb = 1\n")
    assert found.line(("a", "b", "c", 3)) == 4
    assert found.line(("a", "z")) == 2
    assert found.line(("z",)) == 1


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (("kernel", "stock", "fragments", 2), "kernel.stock.fragments[2]"),
        (("windows", "ext4", 0, "name"), "windows.ext4[0].name"),
        (("tree", "debian-6.12"), 'tree."debian-6.12"'),
        (("a\nb", 'c"d'), r'"a\nb"."c\"d"'),
    ],
)
def test_show(path: position.KeyPath, shown: str) -> None:
    assert position.show(path) == shown


# --- properties -----------------------------------------------------------------


@pytest.fixture(scope="module")
def workshop() -> Iterator[Project]:
    with tempfile.TemporaryDirectory() as directory:
        yield make_project(Path(directory))


def config_or_one_line(project: Project, text: str | bytes) -> None:
    path = project.write(text)
    try:
        assert isinstance(config.load(path), config.Config)
    except UsageError as error:
        match = re.fullmatch(rf"{re.escape(str(path))}:(\d+): .+", error.message)
        assert match, error.message
        raw = text if isinstance(text, bytes) else text.encode()
        assert 1 <= int(match[1]) <= raw.count(b"\n") + 1
        assert error.message.isprintable()


@given(st.text() | st.binary())
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_config_or_an_error_with_a_line(
    workshop: Project, text: str | bytes
) -> None:
    config_or_one_line(workshop, text)


SCRAPS = st.sampled_from(
    [*TOML.splitlines(keepends=True), "[", "]", "{", "}", "=", ".", ",", '"', "'", '"""', "\n",
     "#", "a", "1", "true", "inf", "\\", "\t", "\r", "[[x]]\n", "é", "x = {a.b = 1}\n", "\x00"]
)  # fmt: skip


@given(st.lists(SCRAPS, max_size=40).map("".join))
@settings(max_examples=300, deadline=None)
def test_scraps_of_toml(workshop: Project, text: str) -> None:
    config_or_one_line(workshop, text)


@given(
    start=st.integers(0, len(TOML)), length=st.integers(0, 30), scrap=SCRAPS | st.text(max_size=5)
)
@settings(max_examples=400, deadline=None)
def test_a_valid_file_with_one_place_damaged(
    workshop: Project, start: int, length: int, scrap: str
) -> None:
    config_or_one_line(workshop, TOML[:start] + scrap + TOML[start + length :])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def as_toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(k)} = {as_toml(v)}" for k, v in value.items()) + "}"
    return "1979-05-27" if value is None else repr(value)


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_any_value_of_any_type_in_any_key(workshop: Project, data: st.DataObject) -> None:
    lines = TOML.splitlines()
    keys = [i for i, line in enumerate(lines) if " = " in line and not line.startswith(" ")]
    keys = [i for i in keys if not lines[i].endswith("[")]
    number = data.draw(st.sampled_from(keys))
    value = data.draw(VALUES)
    lines[number] = f"{lines[number].split(' = ')[0]} = {as_toml(value)}"
    config_or_one_line(workshop, "\n".join(lines))
