/* SPDX-License-Identifier: GPL-2.0 */
/* What reflink-fault and reflink-store share: all but what B does. */
#ifndef WORKLOADS_CLONE_H
#define WORKLOADS_CLONE_H

#include <stdbool.h>

/*
 * Races FICLONERANGE into the middle of a file against loads, or with @stores
 * against stores, through a mapping of it. Returns the exit code.
 */
int clone_main(const char *name, bool stores, int argc, char **argv);

#endif
