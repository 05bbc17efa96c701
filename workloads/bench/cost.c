// SPDX-License-Identifier: GPL-2.0
/*
 * What one operation costs, done over and over by whoever has nobody to wait for.
 *
 * --op		timed is one				on
 * fault	cold page fault				a hole: the lock is as large a share
 *							of it as can be
 * fault-disk	cold page fault				blocks: with the read
 * fault-hot	page fault, the page is in the cache	blocks
 * read-hot	pread of 4 KiB, in the cache		blocks
 * read-cold	pread of 16 KiB, one after the other	blocks, with --readahead KiB (128)
 * mkwrite	store to a page that is clean		blocks
 * write	pwrite of 4 KiB, one after the other	a file without blocks
 * rewrite	the same				pages that are in the cache
 * direct	pwrite of 4 KiB with O_DIRECT		blocks
 * extend	pwrite of a byte behind the end, three	a file that grows: the pages between
 *		pages on				are zeroed
 * short	pwrite of 8 KiB of which 4 can be read	a hole: the rest is undone
 *
 * --threads (1) threads, each in a part of one file of its own, go --passes (4) times
 * over --ops (1024) operations each. Times are in ticks: under QEMU's -icount they are guest
 * instructions, and two boots give the same. A trial's JSON has p50_ticks (exact), p99_ticks,
 * and each_ticks: the time from the first operation to the last one, over their number.
 * Prints the whole histogram. There is no verdict.
 * Bound:	600 s a trial.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/histogram.h"
#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/schedule.h"

#define MAX_THREADS	16
#define CHUNK		(4 * PAGE)	/* of read-cold */
#define GAP		(3 * PAGE + 100)

struct op {
	const char	*name;
	size_t		stride;		/* bytes of the file for each */
	bool		blocks;		/* it has them */
	bool		random;		/* in random order */
	/* Main thread, before each pass. */
	bool		(*ready)(void);
	/* Before each, untimed; may be NULL. */
	void		(*before)(size_t at);
	bool		(*once)(size_t at);
};

static struct file file;
static const struct op *op;
static unsigned long threads, ops, passes;
static size_t size;
static char *data;			/* two pages; the second one cannot be read */
static char *chunks[MAX_THREADS];
static __thread char *chunk;
static uint32_t *took[MAX_THREADS];
static uint64_t began[MAX_THREADS], ended[MAX_THREADS], whole;
static unsigned long pass;
static pthread_barrier_t start;

/* --- the operations --- */

static bool ready_dropped(void)
{
	return file_drop_cache(&file, 0, size);
}

/* A file without blocks and pages. */
static bool ready_empty(void)
{
	return !ftruncate(file.fd, 0) && !ftruncate(file.fd, size) && !fdatasync(file.fd);
}

static bool ready_nothing(void)
{
	return !ftruncate(file.fd, 0) && !fdatasync(file.fd);
}

static bool ready_clean(void)
{
	return !fdatasync(file.fd);
}

/* fault-around maps the neighbours, too. */
static void unmap_around(size_t at)
{
	size_t from = at & ~(16 * PAGE - 1), len = size - from;

	madvise(file.map + from, len < 16 * PAGE ? len : 16 * PAGE, MADV_DONTNEED);
}

static bool touch(size_t at)
{
	return race_touch(file.map + at);
}

static bool store(size_t at)
{
	return race_store((uint64_t *)(file.map + at), at | 1);
}

static bool read_page(size_t at)
{
	return pread(file.fd, chunk, PAGE, at) == (ssize_t)PAGE;
}

static bool read_chunk(size_t at)
{
	return pread(file.fd, chunk, CHUNK, at) == (ssize_t)CHUNK;
}

static bool write_page(size_t at)
{
	return pwrite(file.fd, data, PAGE, at) == (ssize_t)PAGE;
}

static bool write_direct(size_t at)
{
	return pwrite(file.direct, data, PAGE, at) == (ssize_t)PAGE;
}

static bool write_byte(size_t at)
{
	return pwrite(file.fd, data, 1, at) == 1;
}

static bool write_short(size_t at)
{
	return pwrite(file.fd, data, 2 * PAGE, at) == (ssize_t)PAGE;
}

static const struct op known[] = {
	{ "fault", PAGE, false, true, ready_empty, NULL, touch },
	{ "fault-disk", PAGE, true, true, ready_dropped, NULL, touch },
	{ "fault-hot", PAGE, true, true, ready_clean, unmap_around, touch },
	{ "read-hot", PAGE, true, true, ready_clean, NULL, read_page },
	{ "read-cold", CHUNK, true, false, ready_dropped, NULL, read_chunk },
	{ "mkwrite", PAGE, true, true, ready_clean, NULL, store },
	{ "write", PAGE, false, false, ready_nothing, NULL, write_page },
	{ "rewrite", PAGE, true, false, ready_clean, NULL, write_page },
	{ "direct", PAGE, true, true, ready_dropped, NULL, write_direct },
	{ "extend", GAP, false, false, ready_nothing, NULL, write_byte },
	{ "short", 2 * PAGE, false, false, ready_empty, NULL, write_short },
};

/* --- the frame --- */

/* What is read ahead of the disk below the file: for files opened from now on. */
static void set_readahead(struct trial *t, unsigned long kib)
{
	char path[80], text[24];
	struct stat st;
	int fd, len;

	if (fstat(t->dirfd, &st))
		race_skip("%s: %s", t->dir, strerror(errno));
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/read_ahead_kb", major(st.st_dev),
		 minor(st.st_dev));
	len = snprintf(text, sizeof(text), "%lu\n", kib);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, len) != len)
		race_skip("%s: %s", path, strerror(errno));
	close(fd);
}

static void open_file(struct trial *t)
{
	const char *name = gate_option("op", "fault");
	unsigned long i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(known[i].name, name))
			op = &known[i];
	if (!op)
		race_skip("--op %s: there is no such operation", name);
	threads = gate_number("threads", 1);
	passes = gate_number("passes", 4);
	ops = gate_number("ops", 1024);
	if (threads > MAX_THREADS)
		race_skip("more than %d threads", MAX_THREADS);
	if (threads > 1 && op->ready == ready_nothing)
		race_skip("--op %s: the file has one end, not %lu", name, threads);
	set_readahead(t, gate_number("readahead", 128));
	size = threads * ops * op->stride;
	file_open(&file, t, "cost", size);
	if (!strcmp(name, "read-cold") || !strcmp(name, "read-hot"))
		madvise(file.map, size, MADV_NORMAL);
	data = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED || mprotect(data + PAGE, PAGE, PROT_NONE))
		race_skip("no memory: %s", strerror(errno));
	memset(data, 0x5a, PAGE);
	for (i = 0; i < threads; i++) {
		took[i] = aligned_buffer(passes * ops * sizeof(*took[i]));
		chunks[i] = aligned_buffer(CHUNK);
	}
	pthread_barrier_init(&start, NULL, threads);
}

static void setup(struct trial *t)
{
	size_t at;

	whole = 0;
	if (!op->blocks)
		return;
	/* Page by page: one large write makes folios of 2 MiB on XFS, mapped by one fault. */
	for (at = 0; at < size; at += PAGE)
		if (!write_page(at))
			race_invalid(t, "setup: write: %s", strerror(errno));
	if (fdatasync(file.fd))
		race_invalid(t, "setup: fdatasync: %s", strerror(errno));
}

/* A pass of one thread. */
static void member(struct trial *t, unsigned int number)
{
	size_t *order = malloc(ops * sizeof(*order)), i, j;
	uint64_t rng = gate_rng(t, number + pass * MAX_THREADS);
	uint32_t *out = took[number] + pass * ops;

	chunk = chunks[number];
	for (i = 0; order && i < ops; i++) {
		j = op->random ? prng_below(&rng, i + 1) : i;
		order[i] = order[j];
		order[j] = (number * ops + i) * op->stride;
	}
	pthread_barrier_wait(&start);
	began[number] = ticks();
	for (i = 0; order && i < ops; i++) {
		uint64_t from;

		if (op->before)
			op->before(order[i]);
		from = ticks();
		if (!op->once(order[i]))
			race_invalid(t, "%s at %zu: %s", op->name, order[i], strerror(errno));
		from = ticks() - from;
		out[i] = from < UINT32_MAX ? from : UINT32_MAX;
	}
	ended[number] = ticks();
	if (!order)
		race_invalid(t, "no memory for the order");
	free(order);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void measure(struct trial *t)
{
	static struct histogram all;
	size_t each = passes * ops, n = threads * each, i;
	uint32_t *sorted = malloc(n * sizeof(*sorted));

	if (!sorted)
		race_skip("no memory for %zu times", n);
	for (pass = 0; pass < passes; pass++) {
		uint64_t first = UINT64_MAX, last = 0;

		if (!op->ready()) {
			race_invalid(t, "before %s: %s", op->name, strerror(errno));
			return;
		}
		gate_crew(t, threads, member);
		for (i = 0; i < threads; i++) {
			first = began[i] < first ? began[i] : first;
			last = ended[i] > last ? ended[i] : last;
		}
		whole += last - first;
	}
	histogram_clear(&all);
	for (i = 0; i < n; i++) {
		sorted[i] = took[i / each][i % each];
		histogram_add(&all, sorted[i]);
	}
	qsort(sorted, n, sizeof(*sorted), by_value);
	race_note(t, "ops", n);
	race_note(t, "p50_ticks", sorted[n / 2]);
	race_note(t, "p99_ticks", sorted[n * 99 / 100]);
	race_note(t, "each_ticks", whole / n);
	histogram_print(&all, "op", "ticks");
	free(sorted);
}

static void other(struct trial *t)
{
	gate_plant_stuck(t);
}

static void check(struct trial *t)
{
	if (!whole)
		race_untested(t, "no operation took any time");
}

static const struct race race = {
	.name	= "cost",
	.plants	= PLANT_STUCK,
	.open	= open_file,
	.setup	= setup,
	.a	= measure,
	.b	= other,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "op threads ops passes readahead", 600, argc, argv);
}
