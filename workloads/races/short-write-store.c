// SPDX-License-Identifier: GPL-2.0
/*
 * A store where a buffered write is cut short, here to nothing, loses its blocks.
 *
 *	A: write() from a bad address		B: store through mmap
 *	-----------------------------		---------------------
 *	reserve delayed blocks for all of it
 *	the copy faults
 *	look for dirty pages in the rest: none
 *	  <window: iomap_release>
 *						fault: a page of zeroes
 *						page_mkwrite: a delayed block is
 *						  there, nothing to reserve; dirty
 *	remove the delayed blocks of the rest
 *	return EFAULT
 *						writeback: no block, no data
 *
 * A write of which a part was copied goes on behind it, and reserves again what it
 * has just removed: only the last of its rounds loses anything, so this has one.
 *
 * Symptom:	a store that could be read back is gone after writeback.
 * Held by:	invalidate_lock, exclusive around search and removal.
 * Fixed by:	198dd8aedee6, f43dc4dc3eff (xfs, 6.2).
 * Systems:	XFS.
 * Switches:	release, or fault+mkwrite.	Window: iomap_release.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	32
#define SIZE	(PAGES * PAGE)
#define TAG	20

static struct file file;
static char *bad;
static bool stored[PAGES];

static void open_file(struct trial *t)
{
	file_open(&file, t, "short-write-store", SIZE);
	bad = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bad == MAP_FAILED)
		race_skip("mmap: %s", strerror(errno));
}

static void setup(struct trial *t)
{
	/* One hole, of which nothing is cached or reserved. */
	if (ftruncate(file.fd, 0) || ftruncate(file.fd, SIZE) || fsync(file.fd))
		race_invalid(t, "setup: %s", strerror(errno));
	memset(stored, 0, sizeof(stored));
}

static void write_short(struct trial *t)
{
	race_stagger(t, 200);
	if (pwrite(file.fd, bad, SIZE, 0) >= 0 || errno != EFAULT)
		race_invalid(t, "a write from nowhere: %s", strerror(errno));
}

/*
 * One store: where folios are large a second one, once A is done, reserves blocks
 * for all of the folio again.
 */
static void enter(struct trial *t)
{
	size_t at = prng_below(&t->rng_b, PAGES);

	race_meet(t);
	if (race_window_open())
		race_count_access();
	if (race_store((uint64_t *)(file.map + at * PAGE), stamp(TAG, t->number, at * PAGE)))
		stored[at] = true;
	else
		race_untested(t, "SIGBUS below EOF");
	race_note(t, "page", at);
}

static bool right(struct trial *t, size_t at, uint64_t got)
{
	return got == (!(at % PAGE) && stored[at / PAGE] ? stamp(TAG, t->number, at) : 0);
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, 0, SIZE);
	file_check_words(&file, t, "the file", right);
}

static const struct race race = {
	.name	= "short-write-store",
	.plants	= "cache disk",
	.open	= open_file,
	.setup	= setup,
	.a	= write_short,
	.b	= enter,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
