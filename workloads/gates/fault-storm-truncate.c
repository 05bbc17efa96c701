// SPDX-License-Identifier: GPL-2.0
/*
 * Four threads fault and read as fast as they can; a truncate must still get in.
 *
 *	A: truncate down, truncate up; timed	0, 1: faults	2, 3: buffered preads
 *	------------------------------------	-------------------------------------
 *	lock [new size, end), exclusive		lock pages, shared, without a pause:
 *	  waits for the readers inside		there is always one
 *	evict, remove blocks			must queue behind A, or A waits for ever
 *
 * Oracle:	no truncate takes longer than --limit-ms (10 s), or 20 times the
 *		median of those of an idle file, whichever is more; each thread of
 *		the storm gets something done while A is at work; the regrown range
 *		reads zero and the kept one as it was written.
 * Bound:	120 s a trial.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/oracle.h"
#include "lib/prng.h"

#define PAGES	256
#define KEEP	64		/* pages that every truncate leaves */
#define SIZE	(PAGES * PAGE)
#define CYCLES	10
#define STORM	4

static struct file file;
static uint64_t limit_us, idle[CYCLES], stormy[CYCLES];
static atomic_llong done[STORM];

static void open_file(struct trial *t)
{
	limit_us = gate_number("limit-ms", 10000) * 1000;
	file_open(&file, t, "fault-storm-truncate", SIZE);
}

/* Down by a random share and up again; the time of the slower of the two. */
static uint64_t cycle(struct trial *t, uint64_t *rng)
{
	off_t size = (KEEP + prng_below(rng, PAGES - KEEP)) * PAGE;
	uint64_t begin = race_now_us(), middle, end;

	if (ftruncate(file.fd, size))
		race_invalid(t, "truncate down: %s", strerror(errno));
	middle = race_now_us();
	if (ftruncate(file.fd, SIZE))
		race_invalid(t, "truncate up: %s", strerror(errno));
	end = race_now_us();
	return middle - begin > end - middle ? middle - begin : end - middle;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void setup(struct trial *t)
{
	unsigned int i;

	for (i = 0; i < CYCLES; i++) {
		/* Something to remove, in the cache and on the disk. */
		file_stamp(&file, t, 11, 0, SIZE);
		idle[i] = cycle(t, &t->rng);
	}
	qsort(idle, CYCLES, sizeof(idle[0]), by_value);
	file_stamp(&file, t, 11, 0, SIZE);
	for (i = 0; i < STORM; i++)
		atomic_store(&done[i], 0);
}

static void refill(struct trial *t)
{
	static char *buf;

	if (!buf)
		buf = aligned_buffer(SIZE);
	stamp_fill(buf, SIZE, 11, t->number, 0);
	if (pwrite(file.fd, buf + KEEP * PAGE, SIZE - KEEP * PAGE, KEEP * PAGE) < 0)
		race_invalid(t, "pwrite: %s", strerror(errno));
}

static void truncates(struct trial *t)
{
	unsigned int i;

	/* Idle is not what this is about. */
	for (i = 0; i < STORM; i++)
		while (!atomic_load(&done[i]))
			usleep(100);
	for (i = 0; i < CYCLES; i++) {
		if (i)
			refill(t);
		stormy[i] = cycle(t, &t->rng_a);
	}
}

static void storm(struct trial *t, unsigned int number)
{
	uint64_t rng = gate_rng(t, number);
	char buf[64];

	while (!race_a_done()) {
		size_t at = prng_below(&rng, PAGES) * PAGE;

		if (number < STORM / 2) {
			madvise(file.map + at, PAGE, MADV_DONTNEED);
			race_touch(file.map + at);	/* SIGBUS is an answer */
		} else if (pread(file.fd, buf, sizeof(buf), at) < 0) {
			race_exposed(t, "pread: %s", strerror(errno));
		}
		/* Cold, so that the next one takes the lock and not just the page. */
		posix_fadvise(file.fd, at, PAGE, POSIX_FADV_DONTNEED);
		atomic_fetch_add(&done[number], 1);
	}
}

static void storms(struct trial *t)
{
	gate_plant_stuck(t);
	gate_crew(t, STORM, storm);
}

static void check(struct trial *t)
{
	uint64_t limit = 20 * idle[CYCLES / 2];
	static char *got, *want;
	unsigned int i;

	if (!got) {
		got = aligned_buffer(KEEP * PAGE);
		want = aligned_buffer(KEEP * PAGE);
	}
	limit = limit > limit_us ? limit : limit_us;
	qsort(stormy, CYCLES, sizeof(stormy[0]), by_value);
	race_note(t, "idle_median_us", idle[CYCLES / 2]);
	race_note(t, "storm_median_us", stormy[CYCLES / 2]);
	race_note(t, "storm_max_us", stormy[CYCLES - 1]);
	if (t->plant && !strcmp(t->plant, "slow"))
		stormy[CYCLES - 1] += limit;
	if (stormy[CYCLES - 1] > limit)
		race_exposed(t, "a truncate took %llu us, %llu times the idle median",
			     (unsigned long long)stormy[CYCLES - 1],
			     (unsigned long long)(stormy[CYCLES - 1] / (idle[CYCLES / 2] + 1)));
	for (i = 0; i < STORM; i++)
		race_note(t, (char[]){ 't', '0' + i, 0 }, atomic_load(&done[i]));

	/* One last time, with nobody about: what is judged must be beyond doubt. */
	if (ftruncate(file.fd, KEEP * PAGE) || ftruncate(file.fd, SIZE))
		race_exposed(t, "truncate: %s", strerror(errno));
	if (t->plant)
		file_plant(&file, t, KEEP * PAGE, SIZE - KEEP * PAGE);
	file_check_zero(&file, t, KEEP * PAGE, SIZE - KEEP * PAGE);
	stamp_fill(want, KEEP * PAGE, 11, t->number, 0);
	if (pread(file.direct, got, KEEP * PAGE, 0) != (ssize_t)(KEEP * PAGE) ||
	    memcmp(got, want, KEEP * PAGE))
		race_exposed(t, "what the truncates left is not what was written");
}

static const struct race race = {
	.name	= "fault-storm-truncate",
	.plants	= "slow cache disk " PLANT_STUCK,
	.open	= open_file,
	.setup	= setup,
	.a	= truncates,
	.b	= storms,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "limit-ms", 120, argc, argv);
}
