// SPDX-License-Identifier: GPL-2.0
/*
 * A mapping is populated again and again while the file is punched.
 *
 *	A: punch, all over the file		B: madvise(MADV_POPULATE_READ or _WRITE)
 *	---------------------------		-----------------------------------------
 *	lock the range, exclusive		mmap_lock, shared
 *	unmap and evict its pages		fault in page after page:
 *	remove blocks				  lock the page's range, shared
 *	unlock					  given up and begun again, with
 *						  mmap_lock dropped, if it must wait
 *
 * B holds mmap_lock for long and waits for A below it; A takes no mmap_lock, but
 * unmaps. Neither may starve: a populate that is sent back by each punch, or a
 * punch that never gets past an endless row of faults, is what this looks for.
 *
 * Oracle:	both get on: A goes on until B has populated the whole file three
 *		times, B until A has made its punches, and once more; what was punched reads zero and
 *		what was not reads as it was written (MADV_POPULATE_WRITE writes
 *		nothing).
 * Bound:	60 s a trial.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/oracle.h"
#include "lib/prng.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

#define PAGES	256
#define SIZE	(PAGES * PAGE)
#define PUNCHES	40	/* at least */
#define ROUNDS	3	/* of B, at least, while A is at work */

static struct file file;
static bool punched[PAGES];
static atomic_uint rounds;	/* of B, so far */

static void open_file(struct trial *t)
{
	file_open(&file, t, "populate-punch", SIZE);
	if (madvise(file.map, PAGE, MADV_POPULATE_READ))
		race_skip("MADV_POPULATE_READ: %s", strerror(errno));
}

static void setup(struct trial *t)
{
	memset(punched, 0, sizeof(punched));
	atomic_store(&rounds, 0);
	file_stamp(&file, t, 10, 0, SIZE);
}

static void punch(struct trial *t)
{
	unsigned int i;

	/* Each waits for the other to get somewhere: nobody may starve. */
	for (i = 0; i < PUNCHES || atomic_load(&rounds) < ROUNDS; i++) {
		size_t pages = 1 + prng_below(&t->rng_a, 32);
		size_t at = prng_below(&t->rng_a, PAGES - pages + 1);

		if (fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at * PAGE,
			      pages * PAGE)) {
			race_invalid(t, "fallocate: %s", strerror(errno));
			return;
		}
		memset(punched + at, true, pages);
	}
	race_note(t, "punches", i);
}

static void populate(struct trial *t)
{
	bool last;

	gate_plant_stuck(t);
	do {
		last = race_a_done();
		if (madvise(file.map, SIZE, atomic_load(&rounds) % 2 ? MADV_POPULATE_WRITE : MADV_POPULATE_READ)) {
			race_exposed(t, "populate: %s", strerror(errno));
			atomic_store(&rounds, ROUNDS);
			return;
		}
		atomic_fetch_add(&rounds, 1);
		/* Cold again, so that the next round faults. */
		madvise(file.map, SIZE, MADV_DONTNEED);
	} while (!last);
	race_note(t, "rounds", atomic_load(&rounds));
}

static void check(struct trial *t)
{
	static char *got;
	static uint64_t want[PAGE / sizeof(uint64_t)];
	unsigned int view, page;

	if (!got)
		got = aligned_buffer(SIZE);
	if (t->plant)
		file_plant(&file, t, 0, SIZE);
	for (view = 0; view < 3; view++) {
		static const char * const names[] = { "mmap", "pread", "direct" };
		ssize_t n = SIZE;

		if (view == 2 && !file_drop_cache(&file, 0, SIZE))
			race_exposed(t, "fdatasync: %s", strerror(errno));
		if (!view)
			n = race_copy(got, file.map, SIZE) ? n : -1;
		else
			n = pread(view == 1 ? file.fd : file.direct, got, SIZE, 0);
		if (n != (ssize_t)SIZE) {
			race_exposed(t, "%s: %s", names[view], strerror(errno));
			return;
		}
		for (page = 0; page < PAGES; page++) {
			if (punched[page])
				memset(want, 0, PAGE);
			else
				stamp_fill(want, PAGE, 10, t->number, page * PAGE);
			if (memcmp(got + page * PAGE, want, PAGE))
				race_exposed(t, "%s: page %u, which was %s, is wrong",
					     names[view], page,
					     punched[page] ? "punched" : "left alone");
		}
	}
}

static const struct race race = {
	.name	= "populate-punch",
	.plants	= "cache disk " PLANT_STUCK,
	.open	= open_file,
	.setup	= setup,
	.a	= punch,
	.b	= populate,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "", 60, argc, argv);
}
