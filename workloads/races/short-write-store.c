// SPDX-License-Identifier: GPL-2.0
/*
 * A store beside a buffered write that is cut short loses its blocks.
 *
 *	A: writev(): a page, a bad address	B: store through mmap, behind the page
 *	----------------------------------	--------------------------------------
 *	reserve delayed blocks for all of it
 *	copy the first page; the second faults
 *	look for dirty pages in the rest: none
 *	  <window: iomap_release>
 *						fault: a page of zeroes
 *						page_mkwrite: a delayed block is
 *						  there, nothing to reserve; dirty
 *	remove the delayed blocks of the rest
 *	return
 *						writeback: no block, no data
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
#include <sys/uio.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	32
#define SIZE	(PAGES * PAGE)
#define HEAD	1	/* pages that are written */
#define TAG	20

static struct file file;
static char *page, *bad;
static bool stored[PAGES];

static void open_file(struct trial *t)
{
	file_open(&file, t, "short-write-store", SIZE);
	page = aligned_buffer(PAGE);
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
	stamp_fill(page, PAGE, TAG, t->number, 0);
}

static void write_short(struct trial *t)
{
	const struct iovec parts[] = {
		{ .iov_base = page, .iov_len = PAGE },
		{ .iov_base = bad, .iov_len = SIZE - PAGE },
	};
	ssize_t n;

	race_spin_us(prng_below(&t->rng_a, 200));
	n = pwritev(file.fd, parts, 2, 0);
	if (n != (ssize_t)PAGE)
		race_invalid(t, "pwritev wrote %zd, not the first page: %s", n, strerror(errno));
	race_note(t, "written", n);
}

/*
 * One store: the folio may be as large as the write was to be, and then a second
 * store, once A is done, reserves blocks for all of it again.
 */
static void enter(struct trial *t)
{
	size_t at = HEAD + prng_below(&t->rng_b, PAGES - HEAD);

	race_meet(t);
	if (race_window_open())
		race_count_access();
	if (race_store((uint64_t *)(file.map + at * PAGE), stamp(TAG, t->number, at * PAGE)))
		stored[at] = true;
	else
		race_untested(t, "SIGBUS below EOF");
	race_note(t, "page", at);
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, 0, SIZE);
	file_check_stores(&file, t, TAG, HEAD, stored);
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
