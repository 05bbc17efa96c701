/* SPDX-License-Identifier: GPL-2.0 */
/* What collapse-fault and insert-fault share: all but the direction. */
#ifndef WORKLOADS_SHIFT_H
#define WORKLOADS_SHIFT_H

#include <stdbool.h>

/*
 * Races FALLOC_FL_COLLAPSE_RANGE, or FALLOC_FL_INSERT_RANGE, against loads and
 * stores through mmap of what is shifted. Odd trials store, to pages that are in
 * the cache, between writing back and eviction, even ones load and store between eviction and shift; the first
 * window must be the one after eviction, "<file system>_flushed" the other.
 * Returns the exit code.
 */
int shift_main(const char *name, bool collapse, int argc, char **argv);

#endif
