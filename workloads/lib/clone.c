// SPDX-License-Identifier: GPL-2.0
/* What reflink-fault and reflink-store share: all but what B does. */
#include "lib/clone.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	64
#define SIZE	(PAGES * PAGE)
#define BEFORE	8		/* pages of the destination left alone at either end */
#define AFTER	(PAGES - BEFORE)
#define WORD	64		/* B stores here in a page, nowhere else */
#define OLD	17		/* tags of the data of destination and source */
#define NEW	18
#define STORED	19

static struct file dest, source;
static const char *name;
static bool stores;
static bool stored[PAGES];	/* by B in this trial, or perhaps */

static void open_files(struct trial *t)
{
	struct file_clone_range range = { .src_length = PAGE };

	file_open(&dest, t, name, SIZE);
	file_open(&source, t, "clone-source", SIZE);
	file_stamp(&source, t, NEW, 0, SIZE);
	range.src_fd = source.fd;
	if (ioctl(dest.fd, FICLONERANGE, &range))
		race_skip("FICLONERANGE: %s", strerror(errno));
}

static void setup(struct trial *t)
{
	/* Blocks of their own again, for both. */
	if (ftruncate(dest.fd, 0) || ftruncate(dest.fd, SIZE) || ftruncate(source.fd, 0) ||
	    ftruncate(source.fd, SIZE))
		race_invalid(t, "setup: ftruncate: %s", strerror(errno));
	file_stamp(&dest, t, OLD, 0, SIZE);
	file_stamp(&source, t, NEW, 0, SIZE);
	memset(stored, 0, sizeof(stored));
}

static void clone_middle(struct trial *t)
{
	struct file_clone_range range = { .src_fd = source.fd };
	size_t from, to;

	race_slice(t, &from, &to);
	range.src_offset = range.dest_offset = from * PAGE;
	range.src_length = (to - from) * PAGE;
	race_stagger(t, 200);
	if (ioctl(dest.fd, FICLONERANGE, &range))
		race_invalid(t, "FICLONERANGE: %s", strerror(errno));
}

static void enter_once(struct trial *t)
{
	size_t page, from, to;
	char *at;

	race_slice(t, &from, &to);
	page = from + prng_below(&t->rng_b, to - from);
	at = dest.map + page * PAGE;
	stored[page] |= stores;
	if (!(stores ? race_store((uint64_t *)(at + WORD), stamp(STORED, t->number, page)) :
		       race_touch(at)))
		race_untested(t, "SIGBUS below EOF");
}

static void enter(struct trial *t)
{
	race_until_done(t, "tries", enter_once);
}

/* Of a page that B stored to, the word may be its own or what was cloned. */
static bool right_in_dest(struct trial *t, size_t at, uint64_t got)
{
	size_t page = at / PAGE;
	bool inside = page >= BEFORE && page < AFTER;

	if (got == stamp(inside ? NEW : OLD, t->number, at))
		return true;
	return at % PAGE == WORD && stored[page] && got == stamp(STORED, t->number, page);
}

static bool right_in_source(struct trial *t, size_t at, uint64_t got)
{
	return got == stamp(NEW, t->number, at);
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(strcmp(t->plant, "disk") ? &dest : &source, t, BEFORE * PAGE,
			   (AFTER - BEFORE) * PAGE);
	file_check_words(&dest, t, "destination", right_in_dest);
	/* Not what is cached, which nobody touched, but what dest's writeback hit. */
	if (!file_drop_cache(&source, 0, SIZE))
		race_untested(t, "check: source: %s", strerror(errno));
	file_check_words(&source, t, "source", right_in_source);
}

int clone_main(const char *race_name, bool b_stores, int argc, char **argv)
{
	static struct race race = {
		.plants	= "cache disk",
		.batch	= 32,
		.begin	= BEFORE,
		.end	= AFTER,
		.open	= open_files,
		.setup	= setup,
		.a	= clone_middle,
		.b	= enter,
		.check	= check,
	};

	name = race_name;
	stores = b_stores;
	race.name = name;
	return race_main(&race, argc, argv);
}
