# SPDX-License-Identifier: GPL-2.0
"""From a plan to cells, trials, verdicts and the store."""
