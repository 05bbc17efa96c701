# SPDX-License-Identifier: GPL-2.0
"""A developer's own series: from mails or a git range to patches/, and back to mails."""
