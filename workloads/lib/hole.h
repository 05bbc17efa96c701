/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Races of one shape: blocks are removed from the middle of a file, or made to
 * read as zeroes, while somebody brings pages of it back. A reproducer is a mode
 * of fallocate(2) and a way in.
 */
#ifndef WORKLOADS_HOLE_H
#define WORKLOADS_HOLE_H

#include "lib/oracle.h"

/*
 * Racer B, once: brings page @page of the range back, or some from there on,
 * never beyond @end. False, with errno, if the call failed.
 */
typedef bool way_in(struct file *f, size_t page, size_t end);

way_in way_fault;		/* a load through the mapping, MADV_RANDOM */
way_in way_reclaim;		/* the same, after MADV_PAGEOUT of what was there */
way_in way_store;		/* a store through the mapping, of one word of a page */
way_in way_populate;		/* MADV_POPULATE_READ */
way_in way_willneed;		/* MADV_WILLNEED */
way_in way_fadvise;		/* POSIX_FADV_WILLNEED */
way_in way_readahead;		/* readahead(2) */
way_in way_pread;		/* read(2), which reads ahead first */
way_in way_sendfile;		/* the same for a pipe inside the kernel */

/*
 * Races fallocate(2) in @mode, which must leave zeroes in the middle of a stamped
 * file, against @way. Returns the exit code.
 */
int hole_main(const char *name, int mode, way_in *way, int argc, char **argv);

#endif
