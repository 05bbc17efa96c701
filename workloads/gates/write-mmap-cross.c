// SPDX-License-Identifier: GPL-2.0
/*
 * Two files, each written from a mapping of the other, at the same offsets, at
 * the same time, cold.
 *
 *	A: pwrite(one, map of two + x, len, x)	B: pwrite(two, map of one + x, len, x)
 *	--------------------------------------	--------------------------------------
 *	lock [x, x + len) of one		lock [x, x + len) of two
 *	read from the map of two: fault		read from the map of one: fault
 *	  lock page x of two: B has it		  lock page x of one: A has it
 *
 * Lock order: as in copy-self.c; here no check for "it is my own lock" helps.
 *
 * Oracle:	every byte of either file is the byte that one of the two had there
 *		at first: nothing else was ever written to that offset. Whole writes.
 * Bound:	60 s a trial.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/oracle.h"
#include "lib/prng.h"

#define SIZE	(32 * PAGE)
#define WRITES	40

static struct file files[2];
static unsigned char *at_first[2];

static void open_files(struct trial *t)
{
	file_open(&files[0], t, "write-mmap-cross-1", SIZE);
	file_open(&files[1], t, "write-mmap-cross-2", SIZE);
	at_first[0] = aligned_buffer(SIZE);
	at_first[1] = aligned_buffer(SIZE);
}

static void setup(struct trial *t)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		stamp_fill(at_first[i], SIZE, 8 + i, t->number, 0);
		file_stamp(&files[i], t, 8 + i, 0, SIZE);
	}
}

/* Both draw the same numbers: they meet. */
static void writes(struct trial *t, unsigned int self)
{
	uint64_t rng = t->rng;
	unsigned int i;

	for (i = 0; i < WRITES; i++) {
		size_t len = 1 + prng_below(&rng, 5 * PAGE), at = prng_below(&rng, SIZE - len);
		ssize_t n = pwrite(files[self].fd, files[!self].map + at, len, at);

		if (n != (ssize_t)len) {
			race_exposed(t, "pwrite of %zu bytes at %zu came to %zd: %s", len, at, n,
				     strerror(errno));
			return;
		}
	}
}

static void write_one(struct trial *t)
{
	writes(t, 0);
}

static void write_two(struct trial *t)
{
	gate_plant_stuck(t);
	writes(t, 1);
}

static void chill(struct trial *t)
{
	unsigned int i;

	(void)t;
	while (!race_a_done()) {
		for (i = 0; i < 2; i++) {
			madvise(files[i].map, SIZE, MADV_DONTNEED);
			sync_file_range(files[i].fd, 0, SIZE, SYNC_FILE_RANGE_WRITE);
			posix_fadvise(files[i].fd, 0, SIZE, POSIX_FADV_DONTNEED);
		}
		usleep(300);
	}
}

static void compare(struct trial *t, const char *view, unsigned int n, const unsigned char *got)
{
	size_t i;

	for (i = 0; i < SIZE; i++) {
		if (got[i] == at_first[0][i] || got[i] == at_first[1][i])
			continue;
		race_exposed(t, "%s: file %u has 0x%02x at %zu, which no file ever had there",
			     view, n + 1, got[i], i);
		return;
	}
}

static void check(struct trial *t)
{
	static unsigned char *got, *disk;
	unsigned int i;

	if (!got) {
		got = aligned_buffer(SIZE);
		disk = aligned_buffer(SIZE);
	}
	if (t->plant)
		file_plant(&files[prng_below(&t->rng, 2)], t, 0, SIZE);
	for (i = 0; i < 2; i++) {
		if (pread(files[i].fd, got, SIZE, 0) != (ssize_t)SIZE)
			race_exposed(t, "pread: %s", strerror(errno));
		compare(t, "pread", i, got);
		if (!file_drop_cache(&files[i], 0, SIZE))
			race_exposed(t, "fdatasync: %s", strerror(errno));
		if (pread(files[i].direct, disk, SIZE, 0) != (ssize_t)SIZE)
			race_exposed(t, "direct: %s", strerror(errno));
		compare(t, "direct", i, disk);
		if (memcmp(got, disk, SIZE))
			race_exposed(t, "file %u: the disk is not what the cache was", i + 1);
	}
}

static const struct race race = {
	.name	= "write-mmap-cross",
	.plants	= "cache disk " PLANT_STUCK,
	.open	= open_files,
	.setup	= setup,
	.a	= write_one,
	.b	= write_two,
	.watch	= chill,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "", 60, argc, argv);
}
