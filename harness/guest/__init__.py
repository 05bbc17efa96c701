# SPDX-License-Identifier: GPL-2.0
"""From an image to a booted machine that runs programs and is watched."""
