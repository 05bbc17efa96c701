# SPDX-License-Identifier: GPL-2.0
"""From a tree, series and fragments to a bootable image with an id."""
