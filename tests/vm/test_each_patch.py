# SPDX-License-Identifier: GPL-2.0
"""The last two patches of race-windows, each built and booted on the real tree."""

from __future__ import annotations

import re
from pathlib import Path

from harness.kernel import series
from tests.vm.conftest import ROOT, Lab, harness


def test_the_last_two_patches_build_and_boot(lab: Lab, tmp_path: Path) -> None:
    whole = lab.image("stock")
    names = [path.name for path in series.patches("race-windows", "6.12", ROOT)]
    total = len(names)
    process = harness("build", "stock", "--each-patch", "--from", str(total - 1), cwd=tmp_path)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    line = r"^patch (\d+) of \d+ \((.*)\): built in \d+ s, booted in \d+ s$"
    lines = re.findall(line, said, re.M)
    assert lines == [(str(total - 1), names[-2]), (str(total), names[-1])], said
    again = lab.image("stock")
    assert (again.built, again.id) == (False, whole.id)
