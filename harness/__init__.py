# SPDX-License-Identifier: GPL-2.0
"""A harness for kernel developers who change how the page cache is locked."""
