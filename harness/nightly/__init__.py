# SPDX-License-Identifier: GPL-2.0
"""`harness nightly`: every tree, every night; what changed, and since when."""
