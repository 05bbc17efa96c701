// SPDX-License-Identifier: GPL-2.0
/*
 * Clones and dedupes of a file, onto itself and into another one, while it is
 * stored to through a mapping and fsynced.
 *
 *	0: FICLONERANGE, FICLONE, FIDEDUPERANGE	1: stores		2: fsync
 *	---------------------------------------	---------		--------
 *	lock both files (both ranges), excl.	page_mkwrite:		writeback: page locks,
 *	write back, evict the destination	  lock page, shared	  copy on write
 *	remap extents
 *	XFS: downgrade to let reads in
 *
 * Lock order: two ranges of one file are taken at once here, and two files; in
 * address order between files, from low to high in one. Threads 0 and 3 clone in
 * opposite directions.
 *
 *	file one:	[source | clone | stores | twin]	file two: as one
 *
 * Oracle:	source is never written and reads as it was; clone and twin, once
 *		cloned or deduped with nobody about, read as source; the stores that
 *		were acknowledged are there, in the cache and on the disk; what was
 *		cloned into the other file is source again.
 * Bound:	120 s a trial.
 * Systems:	those that can clone: XFS with reflink=1.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/oracle.h"
#include "lib/prng.h"

#define AREA	(16 * PAGE)
#define SOURCE	(0 * AREA)
#define CLONE	(1 * AREA)
#define STORES	(2 * AREA)
#define TWIN	(3 * AREA)
#define SIZE	(4 * AREA)
#define ROUNDS	30
#define CREW	4

static struct file files[2];
static unsigned char *source;
static uint64_t stored[AREA / PAGE];	/* the last store to each page of STORES */
static atomic_bool over;		/* the cloning threads are done */
static atomic_uint cloning;

static bool clone_range(int to, size_t dst, int from, size_t src, size_t len)
{
	struct file_clone_range range = { from, src, len, dst };

	return !ioctl(to, FICLONERANGE, &range);
}

/* 1: the same and now shared; 0: not the same; -1: an error, in errno. */
static int dedupe(int from, size_t src, int to, size_t dst, size_t len)
{
	char room[sizeof(struct file_dedupe_range) + sizeof(struct file_dedupe_range_info)] = "";
	struct file_dedupe_range *range = (void *)room;

	range->src_offset = src;
	range->src_length = len;
	range->dest_count = 1;
	range->info[0].dest_fd = to;
	range->info[0].dest_offset = dst;
	if (ioctl(from, FIDEDUPERANGE, range))
		return -1;
	if (range->info[0].status < 0) {
		errno = -range->info[0].status;
		return -1;
	}
	return range->info[0].status == FILE_DEDUPE_RANGE_SAME;
}

static void open_files(struct trial *t)
{
	file_open(&files[0], t, "fsync-reflink-1", SIZE);
	file_open(&files[1], t, "fsync-reflink-2", SIZE);
	source = aligned_buffer(AREA);
	if (!clone_range(files[1].fd, 0, files[0].fd, 0, AREA))
		race_skip("cannot clone on %s: %s", t->fstype, strerror(errno));
}

static void setup(struct trial *t)
{
	unsigned int i;

	for (i = 0; i < 2; i++)
		file_stamp(&files[i], t, 12 + i, 0, SIZE);
	/* Both twins start as the source's image, so that dedupe has work. */
	stamp_fill(source, AREA, 12, t->number, SOURCE);
	for (i = 0; i < 2; i++)
		if (pwrite(files[i].fd, source, AREA, SOURCE) != (ssize_t)AREA ||
		    pwrite(files[i].fd, source, AREA, TWIN) != (ssize_t)AREA)
			race_invalid(t, "setup: %s", strerror(errno));
	for (i = 0; i < AREA / PAGE; i++)
		stored[i] = stamp(12, t->number, STORES + i * PAGE);
	atomic_store(&over, false);
	atomic_store(&cloning, 2);
}

/* Threads 0 and 3: from file @self to itself and to the other. */
static void clones(struct trial *t, unsigned int self, uint64_t *rng)
{
	int from = files[self].fd, to = files[!self].fd;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		size_t pages = 1 + prng_below(rng, AREA / PAGE);
		size_t at = prng_below(rng, AREA / PAGE - pages + 1) * PAGE, len = pages * PAGE;
		const char *what;
		bool good;

		errno = 0;
		switch (prng_below(rng, 4)) {
		case 0:
			what = "clone in the file";
			good = clone_range(from, CLONE + at, from, SOURCE + at, len);
			break;
		case 1:
			what = "clone across";
			good = clone_range(to, CLONE + at, from, SOURCE + at, len);
			break;
		case 2:
			what = "dedupe in the file";
			good = dedupe(from, SOURCE + at, from, TWIN + at, len) == 1;
			break;
		default:
			what = "dedupe across";
			good = dedupe(from, SOURCE + at, to, TWIN + at, len) == 1;
		}
		if (!good) {
			race_exposed(t, "%s, %zu bytes at %zu: %s", what, len, at,
				     errno ? strerror(errno) : "not the same");
			return;
		}
	}
}

static void stores(struct trial *t, uint64_t *rng)
{
	long long n = 0;

	while (!atomic_load(&over)) {
		size_t page = prng_below(rng, AREA / PAGE);
		uint64_t value = prng_next(rng) | 1;

		if (!race_store((uint64_t *)(files[0].map + STORES + page * PAGE), value))
			race_exposed(t, "SIGBUS below the end of the file");
		stored[page] = value;
		/* And one where clones land: a page that is evicted under our feet. */
		page = prng_below(rng, AREA / PAGE);
		race_store((uint64_t *)(files[0].map + CLONE + page * PAGE), value);
		n++;
	}
	race_note(t, "stores", n);
}

static void fsyncs(struct trial *t)
{
	long long n = 0;

	while (!atomic_load(&over)) {
		if (fsync(files[n % 2].fd))
			race_exposed(t, "fsync: %s", strerror(errno));
		n++;
	}
	race_note(t, "fsyncs", n);
}

static void member(struct trial *t, unsigned int number)
{
	uint64_t rng = gate_rng(t, number);

	if (number == 1) {
		stores(t, &rng);
	} else if (number == 2) {
		fsyncs(t);
	} else {
		clones(t, number == 3, &rng);
		if (atomic_fetch_sub(&cloning, 1) == 1)
			atomic_store(&over, true);
	}
}

static void racer_a(struct trial *t)
{
	gate_crew(t, CREW, member);
}

static void racer_b(struct trial *t)
{
	static char buf[PAGE];
	uint64_t rng = t->rng_b;

	gate_plant_stuck(t);
	/* Reads of what is being remapped: any data, no error. */
	while (!race_a_done())
		if (pread(files[prng_below(&rng, 2)].fd, buf, PAGE,
			  prng_below(&rng, SIZE / PAGE) * PAGE) != (ssize_t)PAGE)
			race_exposed(t, "pread: %s", strerror(errno));
}

static void compare(struct trial *t, unsigned int n, size_t at, const char *what)
{
	static char *got;
	unsigned int view;

	if (!got)
		got = aligned_buffer(AREA);
	for (view = 0; view < 2; view++)
		if (pread(view ? files[n].direct : files[n].fd, got, AREA, at) != (ssize_t)AREA ||
		    memcmp(got, source, AREA))
			race_exposed(t, "file %u: %s is not what it was cloned from (%s)", n + 1,
				     what, view ? "direct" : "pread");
}

static void check(struct trial *t)
{
	unsigned int i;

	for (i = 0; i < 2; i++)
		if (!clone_range(files[i].fd, CLONE, files[!i].fd, SOURCE, AREA))
			race_exposed(t, "the last clone: %s", strerror(errno));
	if (t->plant)
		file_plant(&files[0], t, CLONE, AREA);
	for (i = 0; i < 2; i++) {
		if (fsync(files[i].fd))
			race_exposed(t, "fsync: %s", strerror(errno));
		compare(t, i, SOURCE, "source");
		compare(t, i, CLONE, "clone");
		compare(t, i, TWIN, "twin");
	}
	file_drop_cache(&files[0], STORES, AREA);
	for (i = 0; i < AREA / PAGE; i++) {
		uint64_t word;

		if (pread(files[0].fd, &word, sizeof(word), STORES + i * PAGE) != sizeof(word) ||
		    word != stored[i])
			race_exposed(t, "the last store to page %u is lost", i);
	}
}

static const struct race race = {
	.name	= "fsync-reflink",
	.plants	= "cache disk " PLANT_STUCK,
	.open	= open_files,
	.setup	= setup,
	.a	= racer_a,
	.b	= racer_b,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "", 120, argc, argv);
}
