/* SPDX-License-Identifier: GPL-2.0 */
/* What truncate-regrow and truncate-read share: all but the way in. */
#ifndef WORKLOADS_REGROW_H
#define WORKLOADS_REGROW_H

#include "lib/hole.h"

/*
 * Races a shrinking ftruncate() against @way, above the new size; what it left in
 * the page cache is shown by growing again. @hold is the window that holds B
 * behind its size check. Returns the exit code.
 */
int regrow_main(const char *name, const char *hold, way_in *way, int argc, char **argv);

#endif
