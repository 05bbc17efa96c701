# SPDX-License-Identifier: GPL-2.0
"""What a lock costs and gains: `harness bench`."""
