# SPDX-License-Identifier: GPL-2.0
"""What people see.  Reads only what the store wrote (and live events)."""
