/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Another file that gets the blocks of a hole, to see who still writes to them.
 *
 * The file system is filled once, so that the victim, which takes all that is
 * left, is sure to get what the hole gave back; FIEMAP checks that it did. Some
 * spare blocks are given back before the last writeback: a full ext4 drops
 * delayed data for want of a block for its extent tree, which is no race.
 */
#ifndef WORKLOADS_VICTIM_H
#define WORKLOADS_VICTIM_H

#include "lib/race.h"

/*
 * Fills the file system to the brim and gives @room bytes back. Files under
 * test must have their blocks before. Exits through race_skip() on failure.
 */
void victim_fill(struct trial *t, size_t room);

/* Setup: the last trial's victim gives its blocks back. */
void victim_drop(struct trial *t);

/*
 * Setup: a new, empty victim, which is to get the blocks that @fd has now in
 * [@start, @start + @len).
 */
void victim_create(struct trial *t, int fd, uint64_t start, uint64_t len);

/*
 * Writes, past the page cache, as much as there is room for, once the punch is
 * committed. Writes back no page of any other file. From any one thread.
 */
void victim_write(struct trial *t);

/* Gives the spare blocks back: room for the metadata of what is written next. */
void victim_give_room(struct trial *t);

/*
 * The oracle: what is on disk and what is in the page cache is what was written.
 * Adds victim_bytes, reused_bytes, victim_bad_pages to the JSON line. A file
 * system with @must_reuse set is untested if less than half of the blocks in
 * question were got.
 */
void victim_check(struct trial *t, bool must_reuse);

/* Self-test: one wrong byte in the victim. */
void victim_plant(struct trial *t);

#endif
