# SPDX-License-Identifier: GPL-2.0
"""setup.sh on machines that are not this one: everything it calls is a fake."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
# What the script may use of the real machine; everything else is a fake or not there.
REAL = """
    sh bash cat chmod cp dirname env flock grep mkdir mktemp mv printf pwd rm sed sha256sum sleep
    tail touch tr xargs
"""
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'

# The packages that are "installed" are the lines of the file `installed`.
FAKES = {
    "id": "echo ${FAKE_UID:-0}",
    "dpkg-query": """
        while read -r name; do echo "installed $name"; done <"$FAKES/installed"
        echo "config-files removed-once"
        exit 1""",
    "apt-get": """
        echo "$0 $*" >>"$FAKES/log"
        echo "frontend ${DEBIAN_FRONTEND:-}" >>"$FAKES/log"
        case " $* " in
        *" update "*) exit ${FAKE_UPDATE:-0} ;;
        esac
        if [ -n "${FAKE_INSTALL:-}" ]; then
            echo "Reading package lists..."; echo "E: Unable to locate package x"; exit 100
        fi
        [ -n "${FAKE_FORGETS:-}" ] && exit 0
        for word; do echo "$word" >>"$FAKES/installed"; done""",
    "sudo": 'echo "sudo $*" >>"$FAKES/log"; FAKE_UID=0 exec "$@"',
    # A Python whose venv holds a Python that installs nothing.
    "python3": """
        echo "python $*" >>"$FAKES/log"
        case $* in
        "-c import sys, venv"*) exit ${FAKE_OLD_PYTHON:-0} ;;
        "-c "*) exit 0 ;;
        "-m venv "*)
            [ -n "${FAKE_VENV:-}" ] && { echo "Error: no ensurepip"; exit 1; }
            mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
        "-m pip "*)
            [ -n "${FAKE_PIP:-}" ] && { echo "noise"; echo "ERROR: no network"; exit 1; }
            [ -n "${FAKE_PIP_HANGS:-}" ] && { touch "$FAKES/hangs"; exec sleep 60; }
            echo '#!/bin/sh' >.venv/bin/harness; chmod +x .venv/bin/harness ;;
        esac""",
}


class Box:
    """A checkout on a fake machine."""

    def __init__(self, root: Path) -> None:
        self.checkout, self.fakes = root / "checkout", root / "fakes"
        self.bin = self.fakes / "bin"
        self.bin.mkdir(parents=True)
        (self.checkout / "vm").mkdir(parents=True)
        (self.checkout / "tests").mkdir()
        for name in ("setup.sh", "pyproject.toml", "vm/packages.txt", "tests/packages.txt"):
            shutil.copy(REPOSITORY / name, self.checkout / name)
        for name in REAL.split():
            real = shutil.which(name)
            assert real, name
            (self.bin / name).symlink_to(real)
        for name, body in FAKES.items():
            self.fake(name, body)
        (self.fakes / "os-release").write_text(DEBIAN)
        self.installed(*self.packages())

    def packages(self) -> list[str]:
        lines = (self.checkout / "vm" / "packages.txt").read_text().splitlines()
        return [line.split()[0] for line in lines if line and not line.startswith("#")]

    def installed(self, *packages: str) -> None:
        (self.fakes / "installed").write_text("".join(f"{name}\n" for name in packages))

    def fake(self, name: str, body: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def environment(self, **extra: str) -> dict[str, str]:
        return {
            "PATH": str(self.bin),
            "FAKES": str(self.fakes),
            "TMPDIR": str(self.fakes),
            "HARNESS_OS_RELEASE": str(self.fakes / "os-release"),
            "HARNESS_PYTHON": "python3",
            **extra,
        }

    def run(self, *arguments: str, **environment: str) -> tuple[int, list[str]]:
        """Exit status and what it said."""
        done = subprocess.run(
            ["./setup.sh", *arguments], cwd=self.checkout, env=self.environment(**environment),
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.stdout == ""
        return done.returncode, done.stderr.splitlines()

    def log(self) -> list[str]:
        """Commands that the fakes were given since the last call."""
        path = self.fakes / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_debian_that_has_all_packages_gets_a_venv_once(box: Box) -> None:
    code, said = box.run()
    assert code == 0, said
    assert (box.checkout / ".venv" / "bin" / "harness").exists()
    log = box.log()
    assert not [line for line in log if "apt-get" in line]
    assert "python -m pip --disable-pip-version-check install --quiet -e .[dev]" in log
    assert box.run() == (0, [])
    assert box.log() == []


def test_missing_packages_are_listed_and_installed_as_root(box: Box) -> None:
    box.installed(*(p for p in box.packages() if p not in ("flex", "bc")))
    code, said = box.run()
    assert code == 0, said
    assert said[0] == "setup: missing Debian packages: flex bc"
    log = box.log()
    assert log[0].endswith("apt-get -q -o DPkg::Lock::Timeout=300 update")
    assert log[2].endswith(" install --no-install-recommends flex bc")
    assert " -y " in log[2]
    assert log[1] == log[3] == "frontend noninteractive"
    assert not list(box.fakes.glob("harness-apt.*"))


def test_what_only_tests_need_is_installed_for_tests_only(box: Box) -> None:
    assert box.run()[0] == 0
    assert not [line for line in box.log() if "chromium" in line]
    code, said = box.run("--tests")
    assert (code, said[0]) == (0, "setup: missing Debian packages: chromium")
    assert box.run("--tests") == (0, [])


def test_elsewhere_the_packages_of_tests_are_listed_too(box: Box) -> None:
    (box.fakes / "os-release").write_text("ID=fedora\n")
    code, said = box.run("--tests")
    assert code == 2
    assert said[-1] == "setup: then type: HARNESS_SKIP_PACKAGES=1 ./setup.sh --tests"
    assert any(line.startswith("chromium ") for line in said)
    assert any(line.startswith("qemu-system-x86 ") for line in said)
    assert not any(line.startswith("chromium ") for line in box.run()[1])


def test_an_option_that_there_is_not(box: Box) -> None:
    assert box.run("--test") == (2, ["setup: no option --test; there is only --tests"])


def test_a_removed_package_is_seen_although_the_venv_is_ready(box: Box) -> None:
    assert box.run()[0] == 0
    box.log()
    box.installed(*(p for p in box.packages() if p != "lz4"))
    code, said = box.run()
    assert (code, said[0]) == (0, "setup: missing Debian packages: lz4")
    assert [line for line in box.log() if line.startswith("python -m")] == []


def test_others_go_through_sudo(box: Box) -> None:
    box.installed(*(p for p in box.packages() if p != "bc"))
    assert box.run(FAKE_UID="1000")[0] == 0
    log = box.log()
    assert log[0].startswith("sudo env DEBIAN_FRONTEND=noninteractive apt-get ")
    assert "frontend noninteractive" in log


def test_neither_root_nor_sudo(box: Box) -> None:
    (box.bin / "sudo").unlink()
    box.installed(*(p for p in box.packages() if p != "bc"))
    code, said = box.run(FAKE_UID="1000")
    assert code == 2
    assert said == [
        "setup: missing Debian packages: bc",
        "setup: this needs root or sudo.  As root, type: apt-get install bc",
    ]
    assert box.log() == []


def test_apt_that_fails_is_one_line(box: Box) -> None:
    box.installed()
    code, said = box.run(FAKE_INSTALL="1")
    assert code == 125
    assert said[-1].startswith("setup: apt-get install failed: E: Unable to locate package x (whol")
    assert Path(said[-1].split("whole log: ")[1].rstrip(")")).exists()
    assert not (box.checkout / ".venv").exists()


def test_a_source_that_cannot_be_reached_does_no_harm(box: Box) -> None:
    box.installed(*(p for p in box.packages() if p != "bc"))
    assert box.run(FAKE_UPDATE="100")[0] == 0


def test_apt_that_installed_nothing_is_not_believed(box: Box) -> None:
    box.installed(*(p for p in box.packages() if p != "bc"))
    code, said = box.run(FAKE_FORGETS="1")
    assert code == 125
    assert "everything but: bc" in said[-1]


@pytest.mark.parametrize(
    ("release", "debian"),
    [
        ("ID=debian", True),
        ('ID=ubuntu\nID_LIKE="debian"', True),
        ('ID=pop\nID_LIKE="ubuntu debian"', True),
        ("ID=fedora\nVERSION_ID=40", False),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', False),
        ("ID=notdebian\nNAME=debian", False),
        ("", False),
    ],
)
def test_what_counts_as_debian(box: Box, release: str, debian: bool) -> None:
    (box.fakes / "os-release").write_text(release + "\n")
    code, said = box.run()
    assert code == (0 if debian else 2)
    if not debian:
        for package in box.packages():
            assert any(line.startswith(f"{package} ") for line in said), package
        assert said[-1] == "setup: then type: HARNESS_SKIP_PACKAGES=1 ./setup.sh"
        assert box.log() == []


@pytest.mark.parametrize("tool", ["apt-get", "dpkg-query"])
def test_a_system_without_the_tools_of_debian(box: Box, tool: str) -> None:
    (box.bin / tool).unlink()
    assert box.run()[0] == 2


def test_a_system_without_os_release(box: Box) -> None:
    (box.fakes / "os-release").unlink()
    code, said = box.run()
    assert (code, said[-1]) == (2, "setup: then type: HARNESS_SKIP_PACKAGES=1 ./setup.sh")
    assert "os-release" not in "".join(said)


def test_elsewhere_with_the_packages_in_place(box: Box) -> None:
    (box.fakes / "os-release").write_text("ID=fedora\n")
    assert box.run(HARNESS_SKIP_PACKAGES="1")[0] == 0
    assert (box.checkout / ".venv" / "bin" / "harness").exists()


def test_no_python_that_fits(box: Box) -> None:
    code, said = box.run(FAKE_OLD_PYTHON="1")
    assert code == 2
    assert said[-1].startswith("setup: no Python 3.11 or newer with venv; type: HARNESS_PYTHON=")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("FAKE_VENV", "venv failed: Error: no ensurepip"),
        ("FAKE_PIP", "pip install failed: ERROR: no network"),
    ],
)
def test_a_venv_that_fails_is_one_line_and_tried_again(box: Box, broken: str, said: str) -> None:
    code, lines = box.run(**{broken: "1"})
    assert code == 125
    assert said in lines[-1]
    assert box.run()[0] == 0
    assert box.run() == (0, [])


def test_a_changed_pyproject_installs_again_in_the_same_venv(box: Box) -> None:
    assert box.run()[0] == 0
    box.log()
    with (box.checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert box.run()[0] == 0
    log = box.log()
    assert any(line.startswith("python -m pip ") for line in log)
    assert not any(line.startswith("python -m venv ") for line in log)


def test_a_moved_checkout_gets_a_new_venv(box: Box) -> None:
    assert box.run()[0] == 0
    (box.checkout / ".venv" / "old").touch()
    box.checkout = box.checkout.rename(box.checkout.with_name("moved"))
    assert box.run()[0] == 0
    assert not (box.checkout / ".venv" / "old").exists()


def test_interrupted_in_pip_it_starts_over(box: Box) -> None:
    with subprocess.Popen(
        ["./setup.sh"], cwd=box.checkout, env=box.environment(FAKE_PIP_HANGS="1"),
        stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        while not (box.fakes / "hangs").exists():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode != 0
    assert not (box.checkout / ".venv" / ".setup-stamp").exists()
    assert box.run()[0] == 0
    assert box.run() == (0, [])


def test_two_at_once_take_turns(box: Box) -> None:
    both = [
        subprocess.Popen(
            ["./setup.sh"], cwd=box.checkout, env=box.environment(), stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    installs = [line for line in box.log() if line.startswith("python -m pip ")]
    assert len(installs) == 1


def test_the_scripts_parse() -> None:
    for shell, script in (("sh", "setup.sh"), ("bash", ".ci/run")):
        subprocess.run([shell, "-n", script], cwd=REPOSITORY, check=True)
        assert os.access(REPOSITORY / script, os.X_OK)


@pytest.mark.parametrize(
    ("target", "setup"),
    [("run", "./setup.sh"), ("test", "./setup.sh --tests"), ("test-unit", "./setup.sh --tests"),
     ("bench", "./setup.sh"), ("lint", "./setup.sh")],
)  # fmt: skip
def test_every_target_sets_up_first(target: str, setup: str) -> None:
    """`make -n` prints what would be run, in order."""
    done = subprocess.run(
        ["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    first, second = [line for line in done.stdout.splitlines() if "make" not in line][:2]
    assert first == setup
    assert second.startswith(".venv/bin/")
