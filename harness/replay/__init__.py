# SPDX-License-Identifier: GPL-2.0
"""Exposures that can be had again, bit for bit: found, kept as coordinates, replayed."""
