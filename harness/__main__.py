# SPDX-License-Identifier: GPL-2.0
"""`python -m harness` is the same program as `harness`."""

import sys

from harness.cli import main

sys.exit(main())
