# SPDX-License-Identifier: GPL-2.0
"""One set of results for all tests of the reports: they are read, and written beside."""

from __future__ import annotations

import pytest

from harness.report import files
from tests.fakes import results


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> results.Results:
    """results/ of runs with every kind of verdict, with their reports."""
    found = results.make(tmp_path_factory.mktemp("runs"))
    for directory in (found.finished, found.interrupted):
        files.write(directory)
    return found
