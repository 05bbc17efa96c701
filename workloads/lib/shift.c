// SPDX-License-Identifier: GPL-2.0
/* What collapse-fault and insert-fault share: all but the direction. */
#include "lib/shift.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES		64	/* before the shift */
#define AT		16	/* page where it begins */
#define LEN		16	/* pages that go, or come */
#define MAX_PAGES	(PAGES + LEN)
#define WORDS		(PAGE / sizeof(uint64_t))
#define WORD		64	/* B stores here in a page, nowhere else */

static bool collapse;
static const char *name;
static struct file file;
static uint64_t *seen;
static char flushed[32];		/* the window between writing back and eviction */

static unsigned int stores[MAX_PAGES];	/* of B in this trial, by the page it addressed */

/* Pages of the file once it is shifted. */
static unsigned int pages_after(void)
{
	return collapse ? PAGES - LEN : PAGES + LEN;
}

/* Where page @page of the old file is afterwards; -1 if it is gone. */
static int shifted(int page)
{
	if (page < AT)
		return page;
	if (!collapse)
		return page + LEN;
	return page < AT + LEN ? -1 : page - LEN;
}

/* Which page of the old file is page @page afterwards; -1 for a hole. */
static int origin(int page)
{
	if (page < AT)
		return page;
	if (collapse)
		return page + LEN;
	return page < AT + LEN ? -1 : page - LEN;
}

static void open_file(struct trial *t)
{
	file_open(&file, t, name, MAX_PAGES * PAGE);
	seen = aligned_buffer(MAX_PAGES * PAGE);
	snprintf(flushed, sizeof(flushed), "%s_flushed", t->fstype);
}

static void setup(struct trial *t)
{
	unsigned int page;

	/* All pages go, among them what an exposed trial left at wrong offsets. */
	if (ftruncate(file.fd, 0) || ftruncate(file.fd, PAGES * PAGE))
		race_invalid(t, "setup: ftruncate: %s", strerror(errno));
	file_stamp(&file, t, 1, 0, PAGES * PAGE);
	/* What is mapped, and clean, takes no more than page_mkwrite to be stored to. */
	for (page = 0; t->number % 2 && page < PAGES; page++)
		if (!race_touch(file.map + page * PAGE))
			race_invalid(t, "setup: SIGBUS");
	memset(stores, 0, sizeof(stores));
}

static void shift(struct trial *t)
{
	race_stagger(t, 200);
	if (fallocate(file.fd, collapse ? FALLOC_FL_COLLAPSE_RANGE : FALLOC_FL_INSERT_RANGE,
		      AT * PAGE, LEN * PAGE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

/* What B stores to a page: the @nth time, from 1. */
static uint64_t value(struct trial *t, int page, unsigned int nth)
{
	return stamp(7, t->number, ((uint64_t)page << 20) + nth);
}

/* One access, to a page that is in the file and shifted, before and after. */
static void access_page(struct trial *t, bool store)
{
	unsigned int low = collapse ? AT + LEN : AT;
	unsigned int high = collapse ? PAGES - LEN : PAGES;
	unsigned int page = low + prng_below(&t->rng_b, high - low);
	uint64_t *at = (uint64_t *)(file.map + page * PAGE) + WORD;

	if (!store) {
		if (!race_touch((char *)at))
			race_untested(t, "SIGBUS on a load");
		return;
	}
	if (race_store(at, value(t, page, stores[page] + 1)))
		stores[page]++;
	else
		race_untested(t, "SIGBUS on a store");
}

static void load_and_store(struct trial *t)
{
	long long accesses = 0;

	if (t->number % 2 && race_wait_window(flushed, 1000)) {
		/*
		 * While A is held there, and not while it evicts: a page that B brings
		 * back then is one more to evict, and A may be at it for seconds. From
		 * race_window_open() on it is the even trials' part.
		 */
		do {
			if (!race_window_held(flushed)) {
				race_spin_us(20);
				continue;
			}
			race_count_access();
			access_page(t, true);
			accesses++;
		} while (!race_window_open() && !race_a_done());
	} else {
		race_meet(t);
		do {
			if (race_window_open())
				race_count_access();
			access_page(t, prng_below(&t->rng_b, 2));
			accesses++;
		} while (!race_a_done());
	}
	race_note(t, "accesses", accesses);
}

static bool stored(struct trial *t, int page, uint64_t is)
{
	unsigned int nth;

	for (nth = 1; page >= 0 && nth <= stores[page]; nth++)
		if (is == value(t, page, nth))
			return true;
	return false;
}

/*
 * May @is stand at word WORD of page @page because B stored it? A store may have
 * addressed the page before the shift or after: order is free.
 */
static bool by_b(struct trial *t, int page, uint64_t is)
{
	return stored(t, page, is) || stored(t, origin(page), is);
}

/* Pages of @seen that are not the shifted file; lost stores of B to *@lost. */
static unsigned int wrong_pages(struct trial *t, size_t *first, unsigned int *lost)
{
	unsigned int wrong = 0, page, i;

	for (page = 0; page < pages_after(); page++) {
		int from = origin(page);

		for (i = 0; i < WORDS; i++) {
			uint64_t is = seen[page * WORDS + i], must = 0;

			if (from >= 0)
				must = stamp(1, t->number, from * PAGE + i * sizeof(uint64_t));
			if (is == must || (i == WORD && by_b(t, page, is)))
				continue;
			if (!wrong++)
				*first = page * PAGE + i * sizeof(uint64_t);
			break;
		}
	}
	*lost = 0;
	for (page = 0; page < PAGES; page++) {
		uint64_t last = value(t, page, stores[page]);
		int to = shifted(page);
		uint64_t there = to < 0 ? 0 : seen[to * WORDS + WORD];

		/*
		 * The last one is where it was made, or was shifted. Then a later
		 * one, to the page that is there now, may stand in its place.
		 */
		if (stores[page] && seen[page * WORDS + WORD] != last && there != last &&
		    !stored(t, to, there))
			++*lost;
	}
	return wrong;
}

/* Takes one store of B back. */
static void plant_lost(struct trial *t)
{
	unsigned int page;

	for (page = 0; page < PAGES; page++) {
		int at[] = { page, shifted(page) };
		unsigned int i;

		if (!stores[page])
			continue;
		for (i = 0; i < 2; i++) {
			int from = at[i] < 0 ? -1 : origin(at[i]);
			uint64_t old = 0;

			if (at[i] < 0)
				continue;
			if (from >= 0)
				old = stamp(1, t->number, from * PAGE + WORD * sizeof(uint64_t));
			if (!race_store((uint64_t *)(file.map + at[i] * PAGE) + WORD, old))
				race_invalid(t, "plant: SIGBUS");
		}
		return;
	}
	race_invalid(t, "plant: B has not stored");
}

static void check(struct trial *t)
{
	static const char * const views[] = { "mmap", "pread", "direct" };
	size_t size = pages_after() * PAGE;
	unsigned int v;

	if (t->plant && !strcmp(t->plant, "lost"))
		plant_lost(t);
	else if (t->plant)
		file_plant(&file, t, AT * PAGE, size - AT * PAGE);
	for (v = 0; v < 3; v++) {
		unsigned int wrong, lost = 0;
		size_t first = 0;
		ssize_t n = size;
		char key[32];

		/* What is dirty at a wrong offset does its harm when written back. */
		if (v == 2 && !file_drop_cache(&file, 0, size))
			race_untested(t, "check: fdatasync: %s", strerror(errno));
		if (v)
			n = pread(v == 1 ? file.fd : file.direct, seen, size, 0);
		else if (!race_copy(seen, file.map, size))
			n = 0;
		if (n != (ssize_t)size) {
			race_untested(t, "check: %s got %zd of %zu bytes: %s", views[v], n, size,
				      strerror(errno));
			return;
		}
		wrong = wrong_pages(t, &first, &lost);
		snprintf(key, sizeof(key), "stale_%s", views[v]);
		race_note(t, key, wrong);
		snprintf(key, sizeof(key), "lost_%s", views[v]);
		race_note(t, key, lost);
		if (wrong)
			race_exposed(t, "%s shows %u pages that are not those of the shifted file, first at offset %zu",
				     views[v], wrong, first);
		if (lost)
			race_exposed(t, "%s: %u stores are neither where they were made nor where that was shifted to",
				     views[v], lost);
	}
}

static struct race race = {
	.plants	= "cache disk lost",
	.open	= open_file,
	.setup	= setup,
	.a	= shift,
	.b	= load_and_store,
	.check	= check,
};

int shift_main(const char *program, bool is_collapse, int argc, char **argv)
{
	race.name = name = program;
	collapse = is_collapse;
	return race_main(&race, argc, argv);
}
