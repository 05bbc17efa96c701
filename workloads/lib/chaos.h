/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A file that many threads change at once. What it holds is anybody's guess, but
 * it is zeroes and bytes from 0x80 on, which no other file on the disk has.
 */
#ifndef WORKLOADS_CHAOS_H
#define WORKLOADS_CHAOS_H

#include <stdatomic.h>

#include "lib/race.h"

#define CHAOS_MAX	(4ul << 20)
/* The data of a file whose blocks are freed all the time. */
#define FILLER_BYTE	0x2a

struct chaos {
	int		fd, direct;	/* buffered and O_DIRECT */
	char		*map;		/* CHAOS_MAX bytes, shared */
	bool		can_clone;	/* the file system can share blocks */
	atomic_llong	calls;		/* chaos_step() since the file was made */
	atomic_llong	collisions;	/* of direct I/O with stores, as the kernel told */
};

/* Opens the file, or with @anew makes it. False, with errno, on failure. */
bool chaos_open(struct chaos *c, struct trial *t, bool anew);
void chaos_close(struct chaos *c);

/*
 * One random call, from any thread. False if the trial is exposed by it: an error
 * that neither a full disk nor another thread explains, or a foreign byte.
 */
bool chaos_step(struct chaos *c, struct trial *t, uint64_t *rng);

/*
 * Makes a direct read give up on a page that mmap has dirtied, with nobody about:
 * counted in @collisions. False, with errno, if the set-up failed.
 */
bool chaos_collide(struct chaos *c);

/* Reads all of it, with nobody about; foreign bytes are exposed. @when ends the sentence. */
void chaos_verify(struct chaos *c, struct trial *t, const char *when);

#endif
