// SPDX-License-Identifier: GPL-2.0
/* What truncate-regrow and truncate-read share: all but the way in. */
#include "lib/regrow.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/prng.h"
#include "lib/race.h"

#define KEEP	16	/* pages that survive every shrink */
#define TAIL	48	/* pages that go, of a trial alone; else one for each */

static struct file file;
static const char *name, *hold;
static way_in *way;

static void open_file(struct trial *t);
static void setup(struct trial *t);
static void shrink(struct trial *t);
static void enter(struct trial *t);
static void watch(struct trial *t);
static void glance(struct trial *t);
static void check(struct trial *t);

static struct race race = {
	.plants		= "cache disk",
	.batch		= TAIL,
	.begin		= KEEP,
	.end		= KEEP + TAIL,
	.backwards	= true,		/* a shrink takes what is behind it, too */
	.open		= open_file,
	.setup		= setup,
	.a		= shrink,
	.b		= enter,
	.watch		= watch,
	.glance		= glance,
	.check		= check,
};

static void open_file(struct trial *t)
{
	file_open(&file, t, name, (KEEP + TAIL) * PAGE);
}

static void setup(struct trial *t)
{
	/* The last trial may have failed between shrink and grow. */
	if (ftruncate(file.fd, file.size))
		race_invalid(t, "setup: ftruncate: %s", strerror(errno));
	file_stamp(&file, t, 4, 0, file.size);
}

static void shrink(struct trial *t)
{
	size_t from, to;

	race_slice(t, &from, &to);
	/*
	 * Armed: B is known to be past its size check. Unarmed: somewhere in
	 * the time that a fault takes.
	 */
	if (!race_wait_window(hold, 1000))
		race_stagger(t, 100);
	if (ftruncate(file.fd, from * PAGE))
		race_invalid(t, "ftruncate: %s", strerror(errno));
}

static void enter(struct trial *t)
{
	size_t page, from, to;

	race_slice(t, &from, &to);
	page = from + prng_below(&t->rng_b, to - from);
	/* SIGBUS, or nothing read, is what should happen if the shrink came first. */
	race_note(t, "refused", !way(&file, page, to));
	/* Over while A is still held: nothing kept B out. */
	race_note(t, "entered", race_window_open());
	race_note(t, "page", page);
}

static void watch(struct trial *t)
{
	(void)t;
	race_watch_overtaken(hold);
}

static bool grow(struct trial *t)
{
	if (!ftruncate(file.fd, file.size))
		return true;
	race_invalid(t, "grow: %s", strerror(errno));
	return false;
}

/* The next shrink takes with it what this trial left in the cache. */
static void glance(struct trial *t)
{
	size_t from, to;

	race_slice(t, &from, &to);
	if (grow(t))
		file_glance_zero(&file, t, from * PAGE, (to - from) * PAGE);
}

static void check(struct trial *t)
{
	if (!grow(t))
		return;
	if (t->plant)
		file_plant(&file, t, KEEP * PAGE, TAIL * PAGE);
	file_check_zero(&file, t, KEEP * PAGE, TAIL * PAGE);
}

int regrow_main(const char *race_name, const char *hold_window, way_in *way_for_b, int argc,
		char **argv)
{
	name = race_name;
	hold = hold_window;
	way = way_for_b;
	race.name = name;
	return race_main(&race, argc, argv);
}
