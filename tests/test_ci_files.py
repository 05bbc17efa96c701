# SPDX-License-Identifier: GPL-2.0
"""docs/ci: accepted by those who read such files, and calling what there is."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli

HERE = Path(__file__).parents[1] / "docs" / "ci"
SCHEMAS = {
    "github-actions.yml": "vendor.github-workflows",
    "gitlab-ci.yml": "vendor.gitlab-ci",
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_accepts_it(name: str) -> None:
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[name]]
    done = subprocess.run([*argv, str(HERE / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_refuses_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "x.yml"
    text = (HERE / "github-actions.yml").read_text()
    wrong.write_text(text.replace("runs-on: ubuntu-latest", "run-on: ubuntu-latest"))
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    assert subprocess.run([*argv, str(wrong)], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("path", sorted(HERE.iterdir()), ids=lambda path: path.name)
def test_it_calls_what_there_is(path: Path) -> None:
    calls = re.findall(r"(?:\.venv/bin/)harness (.*)", path.read_text())
    assert calls or path.suffix == ".timer"
    for call in calls:
        cli.parse(shlex.split(call))


def test_the_units_are_what_systemd_takes(tmp_path: Path) -> None:
    for name in ("harness-nightly.service", "harness-nightly.timer"):
        parser = configparser.ConfigParser(strict=True, interpolation=None)
        parser.read(HERE / name)
        assert "Unit" in parser
        # The program is not installed where the unit says, and systemd would look.
        text = (HERE / name).read_text()
        (tmp_path / name).write_text(
            re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", text).replace("%h/harness", "/")
        )
    if shutil.which("systemd-analyze") is None:
        return
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", *(str(p) for p in tmp_path.glob("*.*"))],
        capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    about = [line for line in done.stderr.splitlines() if "harness-nightly" in line]
    assert about == []
