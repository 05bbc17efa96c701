// SPDX-License-Identifier: GPL-2.0
/*
 * A read(2) in a hole that is being punched brings the old data back.
 *
 *	A: fallocate(PUNCH_HOLE)	B: pread() of a page of the hole
 *	------------------------	--------------------------------
 *	evict page cache of hole
 *	  <window: ext4_punch>
 *					page not in cache: readahead adds
 *					  folios, maps the old blocks, submits
 *					  <window: readahead_submitted>
 *	remove blocks
 *	return
 *
 * Symptom:	the hole reads as the deleted data: mmap and buffered pread.
 * Held by:	invalidate_lock, shared around the folios that readahead adds,
 *		exclusive around A.
 * Systems:	ext4, any block size. XFS takes the IOLOCK in read(2).
 * Switches:	readahead, or punch.	Window: ext4_punch.
 *
 * Written by "harness new race". It is a whole reproducer and fires as it is; to
 * make it yours, change in this order, and run it after each step:
 *
 *	1. this drawing: what A and B do, and what must not come between;
 *	2. bring_back(), what B does: a store, a fault, readahead(2), ...;
 *	3. take_away(), what A does: truncate, collapse, a direct write, ...;
 *	4. check(), if something else than zeroes is right afterwards;
 *	5. in harness.toml: the window that A is held in, the one behind the lock
 *	   that B gets to (partner) and the one before it (attempt), the switches
 *	   that let B in, the file systems.
 *
 * docs/reproducers.md has the rules. Where only the mode of fallocate(2) or the
 * way in differs, lib/hole.h makes a reproducer of one line.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define BEFORE	8	/* pages on either side that stay */
#define HOLE	48	/* pages that go */

static struct file file;
static char *buf;

/* Once: the file, and all that the racers need beside it. */
static void open_file(struct trial *t)
{
	file_open(&file, t, "@NAME@", (BEFORE + HOLE + BEFORE) * PAGE);
	buf = aligned_buffer(PAGE);
}

/* Before each trial: known data on the disk, nothing in the page cache. */
static void setup(struct trial *t)
{
	file_stamp(&file, t, 1, 0, file.size);
}

/* Racer A. The frame holds it in the first window of the command line. */
static void take_away(struct trial *t)
{
	race_stagger(t, 200);
	if (fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BEFORE * PAGE,
		      HOLE * PAGE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

/* Racer B, once: a page of the range, a different one each time. */
static void bring_back(struct trial *t)
{
	size_t page = BEFORE + prng_below(&t->rng_b, HOLE);

	if (pread(file.fd, buf, PAGE, page * PAGE) != (ssize_t)PAGE)
		race_untested(t, "pread: %s", strerror(errno));
}

/* Meets A in its window, then goes on until A is done. */
static void keep_bringing_back(struct trial *t)
{
	race_until_done(t, "tries", bring_back);
}

/*
 * The oracle: A has returned and nobody writes, so the range reads zero, however
 * it is looked at. --plant puts a wrong byte there, to see that it is found.
 */
static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, BEFORE * PAGE, HOLE * PAGE);
	file_check_zero(&file, t, BEFORE * PAGE, HOLE * PAGE);
}

static const struct race race = {
	.name	= "@NAME@",
	.plants	= "cache disk",
	.open	= open_file,
	.setup	= setup,
	.a	= take_away,
	.b	= keep_bringing_back,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
