/* SPDX-License-Identifier: GPL-2.0 */
/* What punch-read-fault and zero-fault share: all but the mode. */
#ifndef WORKLOADS_HOLE_H
#define WORKLOADS_HOLE_H

/*
 * Races fallocate(2) in @mode, which must leave zeroes in the middle of a stamped
 * file, against loads through mmap from there. Returns the exit code.
 */
int hole_main(const char *name, int mode, int argc, char **argv);

#endif
