// SPDX-License-Identifier: GPL-2.0
/*
 * What a cold page fault costs, alone, in company, and beside a punch.
 *
 *	hole_1		one thread faults in a file without blocks: nothing is read, so
 *			the lock is as large a share of the time as it can be
 *	data_1		one thread, a file with blocks: with the read
 *	hole_n		--threads (CPUs) threads, each in a part of one file of its own:
 *			what readers of one lock cost each other
 *	punch		the same, while one more thread writes and punches the first 2 MiB
 *			of the file, all the time: what a fault waits for a punch that does
 *			not concern it
 *
 * Each fault is MADV_RANDOM and brings in one page; the cache is dropped before
 * each pass, which is not timed. A trial is --passes (4) passes over each, and
 * adds to its JSON the mean (_ns), the 50th and 99th percentile and the slowest,
 * in nanoseconds, and counts. There is no verdict: compare kernels that ran in
 * turns on the same host, and no others. On a busy host the mean is the host's.
 * Bound:	600 s a trial.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/oracle.h"
#include "lib/prng.h"

#define MAX_THREADS	16
#define PART		512			/* pages of each thread */
#define PUNCHED		512			/* pages before them all */
#define SIZE		((PUNCHED + MAX_THREADS * PART) * PAGE)

static struct file hole, data;
static unsigned long threads, passes;
static atomic_uint faulting;	/* threads that are not done yet */
static atomic_llong punches;
static uint32_t *times[MAX_THREADS];	/* ns, of each fault of a thread */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void open_files(struct trial *t)
{
	unsigned int i;

	threads = gate_number("threads", sysconf(_SC_NPROCESSORS_ONLN));
	passes = gate_number("passes", 4);
	if (threads > MAX_THREADS)
		race_skip("more than %d threads", MAX_THREADS);
	file_open(&hole, t, "fault-cold-hole", SIZE);
	file_open(&data, t, "fault-cold-data", PART * PAGE);
	for (i = 0; i < MAX_THREADS; i++)
		times[i] = aligned_buffer(passes * PART * sizeof(*times[i]));
}

static void setup(struct trial *t)
{
	file_stamp(&data, t, 16, 0, PART * PAGE);
}

/* One pass over PART pages from @first, in random order; times to @out. */
static void pass(struct trial *t, struct file *f, size_t first, uint64_t *rng, uint32_t *out)
{
	size_t order[PART], i;

	for (i = 0; i < PART; i++) {
		size_t j = prng_below(rng, i + 1);

		order[i] = order[j];
		order[j] = first + i;
	}
	madvise(f->map + first * PAGE, PART * PAGE, MADV_DONTNEED);
	posix_fadvise(f->fd, first * PAGE, PART * PAGE, POSIX_FADV_DONTNEED);
	for (i = 0; i < PART; i++) {
		uint64_t begin = now_ns(), took;

		if (!race_touch(f->map + order[i] * PAGE))
			race_invalid(t, "SIGBUS below the end of the file");
		took = now_ns() - begin;
		out[i] = took < UINT32_MAX ? took : UINT32_MAX;
	}
}

static void punch(struct trial *t)
{
	static char *buf;

	if (!buf)
		buf = aligned_buffer(PUNCHED * PAGE);
	memset(buf, 0x5a, PUNCHED * PAGE);
	while (atomic_load(&faulting)) {
		if (pwrite(hole.fd, buf, PUNCHED * PAGE, 0) < 0 || fdatasync(hole.fd) ||
		    fallocate(hole.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			      PUNCHED * PAGE))
			race_invalid(t, "punch: %s", strerror(errno));
		atomic_fetch_add(&punches, 1);
	}
}

static void member(struct trial *t, unsigned int number)
{
	uint64_t rng = gate_rng(t, number);
	unsigned int i;

	if (number == threads) {
		punch(t);
		return;
	}
	for (i = 0; i < passes; i++)
		pass(t, &hole, PUNCHED + number * PART, &rng, times[number] + i * PART);
	atomic_fetch_sub(&faulting, 1);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void note_key(struct trial *t, const char *name, const char *what, long long value)
{
	char key[40];

	snprintf(key, sizeof(key), "%s_%s", name, what);
	race_note(t, key, value);
}

/* Says what @n threads measured. */
static void summarize(struct trial *t, const char *name, unsigned int n)
{
	size_t each = passes * PART, all = n * each, i;
	uint32_t *sorted = malloc(all * sizeof(*sorted));
	unsigned long long sum = 0;

	if (!sorted)
		race_skip("no memory for %zu times", all);
	for (i = 0; i < all; i++) {
		sorted[i] = times[i / each][i % each];
		sum += sorted[i];
	}
	note_key(t, name, "ns", sum / all);
	qsort(sorted, all, sizeof(*sorted), by_value);
	note_key(t, name, "faults", all);
	note_key(t, name, "p50_ns", sorted[all / 2]);
	note_key(t, name, "p99_ns", sorted[all * 99 / 100]);
	note_key(t, name, "max_ns", sorted[all - 1]);
	free(sorted);
}

static void together(struct trial *t, const char *name, bool with_punch)
{
	atomic_store(&faulting, threads);
	gate_crew(t, threads + with_punch, member);
	summarize(t, name, threads);
}

static void measure(struct trial *t)
{
	unsigned int i;

	atomic_store(&punches, 0);
	for (i = 0; i < passes; i++)
		pass(t, &hole, PUNCHED, &t->rng_a, times[0] + i * PART);
	summarize(t, "hole_1", 1);
	for (i = 0; i < passes; i++)
		pass(t, &data, 0, &t->rng_a, times[0] + i * PART);
	summarize(t, "data_1", 1);
	together(t, "hole_n", false);
	together(t, "punch", true);
	race_note(t, "threads", threads);
	race_note(t, "punches", atomic_load(&punches));
}

static void other(struct trial *t)
{
	gate_plant_stuck(t);
}

static void check(struct trial *t)
{
	if (!atomic_load(&punches))
		race_untested(t, "not one punch was made beside the faults");
}

static const struct race race = {
	.name	= "fault-cold",
	.plants	= PLANT_STUCK,
	.open	= open_files,
	.setup	= setup,
	.a	= measure,
	.b	= other,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "threads passes", 600, argc, argv);
}
