// SPDX-License-Identifier: GPL-2.0
/* What punch-read-fault and zero-fault share: all but the mode. See hole.h. */
#include "lib/hole.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	64
#define BEFORE	8	/* pages left alone at either end */
#define HOLE	((PAGES - 2 * BEFORE) * PAGE)

static struct file file;
static const char *name;
static int mode;	/* of fallocate(2) */

static void open_file(struct trial *t)
{
	file_open(&file, t, name, PAGES * PAGE);
}

static void setup(struct trial *t)
{
	file_stamp(&file, t, 1, 0, file.size);
}

static void remove_blocks(struct trial *t)
{
	/* B is under way first, more or less. */
	race_spin_us(prng_below(&t->rng_a, 200));
	if (fallocate(file.fd, mode, BEFORE * PAGE, HOLE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

static void fault(struct trial *t)
{
	long long touches = 0;

	race_meet(t);
	do {
		size_t page = BEFORE + prng_below(&t->rng_b, PAGES - 2 * BEFORE);

		if (race_window_open())
			race_count_access();
		if (!race_touch(file.map + page * PAGE))
			race_untested(t, "SIGBUS below EOF");
		touches++;
	} while (!race_a_done());
	race_note(t, "touches", touches);
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, BEFORE * PAGE, HOLE);
	file_check_zero(&file, t, BEFORE * PAGE, HOLE);
}

int hole_main(const char *race_name, int fallocate_mode, int argc, char **argv)
{
	static struct race race = {
		.plants	= "cache disk",
		.open	= open_file,
		.setup	= setup,
		.a	= remove_blocks,
		.b	= fault,
		.check	= check,
	};

	name = race_name;
	mode = fallocate_mode;
	race.name = name;
	return race_main(&race, argc, argv);
}
