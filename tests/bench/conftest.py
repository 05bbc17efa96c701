# SPDX-License-Identifier: GPL-2.0
"""The lab and the control machine of tests/vm serve here, too."""

from tests.vm.conftest import control, lab

__all__ = ["control", "lab"]
