# SPDX-License-Identifier: GPL-2.0
"""`harness bisect`: which commit, or which patch of a series, made a cell what it is."""
