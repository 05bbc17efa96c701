// SPDX-License-Identifier: GPL-2.0
/*
 * What an operation waits for somebody who has a part of its file exclusively.
 *
 *	holder (CPU 1)				visitor (CPU 0)
 *	--------------				---------------
 *	every --period-us: fills its part	every --interval-us: one fault or pread
 *	of the file, then punches it, or	of a page that is not in the cache
 *	cuts it off, or writes it directly
 *
 *	pages	[0, ops)		the visitor's, cold, each visited once
 *		[ops, ops + 2 * extents)	the holder's: every second page has a block,
 *					so that there are --extents extents to remove
 *
 * --holder	does						and is timed in it
 * punch	writes all its blocks, fdatasync, punches	the punch
 * truncate	the same, cuts them off, grows the file again	the truncate
 * direct	writes the first of its extents with O_DIRECT	the write
 * extend	writes a byte behind the end, at a distance	the write
 * none		nothing
 *
 * --visit	fault (MADV_RANDOM) or pread, 4 KiB, from the device
 * --where	beside: as above; inside: a hole of the holder's part, nothing to read
 *
 * Both arrive by a fixed schedule (lib/schedule.h), and a latency is counted from the
 * arrival. Visits that arrived during a hold are counted apart as well ("during"): what
 * the holder does beforehand has locks of its own. --slow N makes all intervals N times
 * as long, for guests without KVM whose clock is the host's, and visits half as many.
 * Prints all histograms, in nanoseconds; a trial's JSON has percentiles of each, and
 * visits_s and holds_s: how many a second were done.
 *
 * The visitor is on CPU 0 because of -icount: QEMU runs one CPU until a timer is due, then
 * the others from the first one on. A timer of CPU 0 is served at once, one of
 * another CPU only when CPU 0, if it is busy, has had its next turn.
 *
 * There is no verdict.
 * Bound:	600 s a trial.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/histogram.h"
#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/schedule.h"

#define SECOND	1000000000ull
#define MAX_HOLDS	8192
#define GAP	(3 * PAGE + 100)	/* between two extending writes */

static struct file file;
static const char *holder, *visit, *where;
static unsigned long ops, extents, interval_us, period_us, slow;
static size_t held_at, size;		/* bytes */
static char *block;			/* a page of data, aligned */
static size_t *order;			/* pages that are visited, ops of them */
static struct histogram visits, during, holds;
static uint64_t *took;			/* by each visit */
static struct { uint64_t from, to; } held[MAX_HOLDS];
static unsigned long nr_held;
static atomic_bool over;
static uint64_t begin, visits_ns, holds_ns;

static bool word_is(const char *word, const char *a, const char *b)
{
	return !strcmp(word, a) || (b && !strcmp(word, b));
}

static void open_file(struct trial *t)
{
	holder = gate_option("holder", "punch");
	visit = gate_option("visit", "fault");
	where = gate_option("where", "beside");
	extents = gate_number("extents", 512);
	interval_us = gate_number("interval-us", 500);
	period_us = gate_number("period-us", 250000);
	slow = gate_number("slow", 1);
	ops = gate_number("ops", slow > 1 ? 2000 : 4000);
	if (!word_is(holder, "punch", "truncate") && !word_is(holder, "direct", "extend") &&
	    !word_is(holder, "none", NULL))
		race_skip("--holder %s: not one of: punch truncate direct extend none", holder);
	if (!word_is(visit, "fault", "pread"))
		race_skip("--visit %s: not fault or pread", visit);
	if (!word_is(where, "beside", "inside"))
		race_skip("--where %s: not beside or inside", where);
	if (word_is(where, "inside", NULL) && !word_is(holder, "punch", "none"))
		race_skip("--where inside: there is nothing but a punch to be inside of");
	held_at = ops * PAGE;
	size = held_at + 2 * extents * PAGE;
	file_open(&file, t, "beside", size);
	posix_fadvise(file.fd, 0, 0, POSIX_FADV_RANDOM);
	block = aligned_buffer(PAGE);
	memset(block, 0x5a, PAGE);
	order = aligned_buffer(ops * sizeof(*order));
	took = aligned_buffer(ops * sizeof(*took));
}

/* Every second page of the holder's part gets a block. */
static bool fill(void)
{
	unsigned long i;

	for (i = 0; i < extents; i++)
		if (pwrite(file.fd, block, PAGE, held_at + 2 * i * PAGE) != (ssize_t)PAGE)
			return false;
	return !fdatasync(file.fd);
}

static void setup(struct trial *t)
{
	unsigned long i, j;

	if (ftruncate(file.fd, 0) || ftruncate(file.fd, size)) {
		race_invalid(t, "setup: ftruncate: %s", strerror(errno));
		return;
	}
	for (i = 0; i < ops; i++) {
		/* A page visited twice is still in the cache, but for what is punched meanwhile. */
		size_t page = word_is(where, "inside", NULL) ?
			      ops + 2 * (prng_next(&t->rng) % extents) + 1 : i;

		j = prng_below(&t->rng, i + 1);
		order[i] = order[j];
		order[j] = page;
	}
	/* The visitor's part in one go: what is cold there is the page cache, not the map. */
	file_stamp(&file, t, 17, 0, held_at);
	if (!fill())
		race_invalid(t, "setup: %s", strerror(errno));
	if (word_is(holder, "extend", NULL) && ftruncate(file.fd, held_at + PAGE))
		race_invalid(t, "setup: ftruncate: %s", strerror(errno));
	histogram_clear(&visits);
	histogram_clear(&during);
	histogram_clear(&holds);
	nr_held = 0;
	atomic_store(&over, false);
}

/* What takes a part of the file exclusively; false with errno. */
static bool hold(unsigned long number)
{
	switch (holder[0]) {
	case 'p':
		return !fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, held_at,
				  size - held_at);
	case 't':
		return !ftruncate(file.fd, held_at);
	case 'd':
		return pwrite(file.direct, block, PAGE,
			      held_at + 2 * (number % extents) * PAGE) == (ssize_t)PAGE;
	default:
		return pwrite(file.fd, block, 1, held_at + PAGE + (number + 1) * GAP) == 1;
	}
}

/* Before and after, untimed: the state that the next hold() is to find. */
static bool prepare(void)
{
	return !word_is(holder, "punch", "truncate") || fill();
}

static bool restore(void)
{
	return !word_is(holder, "truncate", NULL) || !ftruncate(file.fd, size);
}

static void hold_on(struct trial *t)
{
	struct schedule s;
	unsigned long n;

	schedule_begin(&s, begin, period_us * slow * 1000);
	for (n = 0; !atomic_load(&over); n++) {
		uint64_t arrival, from, to;

		if (!prepare())
			break;
		arrival = schedule_wait(&s);
		from = schedule_now();
		if (!hold(n))
			break;
		to = schedule_now();
		histogram_add(&holds, to - arrival);
		if (nr_held < MAX_HOLDS) {
			held[nr_held].from = from;
			held[nr_held++].to = to;
		}
		if (!restore())
			break;
	}
	holds_ns = schedule_now() - begin;
	if (!atomic_load(&over))
		race_invalid(t, "%s: %s", holder, strerror(errno));
}

static void call(struct trial *t)
{
	struct schedule s;
	unsigned long i;
	char byte;

	schedule_begin(&s, begin, interval_us * slow * 1000);
	for (i = 0; i < ops; i++) {
		size_t at = order[i] * PAGE;
		uint64_t arrival = schedule_wait(&s);

		if (word_is(visit, "fault", NULL) ? !race_touch(file.map + at) :
						    pread(file.fd, &byte, 1, at) != 1)
			race_invalid(t, "%s of page %zu: %s", visit, order[i], strerror(errno));
		took[i] = schedule_now() - arrival;
		histogram_add(&visits, took[i]);
	}
	visits_ns = schedule_now() - begin;
	atomic_store(&over, true);
}

static void member(struct trial *t, unsigned int number)
{
	schedule_precisely();
	if (!number)
		call(t);
	else if (!word_is(holder, "none", NULL))
		hold_on(t);
}

static void note(struct trial *t, const char *name, const struct histogram *h, uint64_t ns)
{
	static const struct { const char *name; double part; } parts[] = {
		{ "p50", 0.5 }, { "p99", 0.99 }, { "p999", 0.999 },
	};
	char key[40];
	unsigned int i;

	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(key, sizeof(key), "%s_%s_ns", name, parts[i].name);
		race_note(t, key, histogram_at(h, parts[i].part));
	}
	snprintf(key, sizeof(key), "%s_max_ns", name);
	race_note(t, key, h->max);
	snprintf(key, sizeof(key), "%s_n", name);
	race_note(t, key, h->count);
	if (ns) {
		snprintf(key, sizeof(key), "%ss_s", name);
		race_note(t, key, h->count * SECOND / ns);
	}
	histogram_print(h, name, "ns");
}

/* Those that arrived while the holder was at it, who waited for nothing else. */
static void sort_out(void)
{
	uint64_t arrival = begin;
	unsigned long i, n = 0;

	for (i = 0; i < ops; i++) {
		arrival += interval_us * slow * 1000;
		while (n < nr_held && held[n].to < arrival)
			n++;
		if (n < nr_held && held[n].from <= arrival)
			histogram_add(&during, took[i]);
	}
}

static void measure(struct trial *t)
{
	/* At a whole second, so that the kernel's ticks come at the same moments each time. */
	begin = (schedule_now() / SECOND + 1) * SECOND;
	gate_crew(t, 2, member);
	note(t, "visit", &visits, visits_ns);
	if (word_is(holder, "none", NULL))
		return;
	note(t, "hold", &holds, holds_ns);
	sort_out();
	note(t, "during", &during, 0);
}

static void other(struct trial *t)
{
	gate_plant_stuck(t);
}

static void check(struct trial *t)
{
	if (!word_is(holder, "none", NULL) && holds.count < 2)
		race_untested(t, "%llu times held beside the visits",
			      (unsigned long long)holds.count);
}

static const struct race race = {
	.name	= "beside",
	.plants	= PLANT_STUCK,
	.open	= open_file,
	.setup	= setup,
	.a	= measure,
	.b	= other,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "holder visit where ops extents interval-us period-us slow", 600,
			 argc, argv);
}
