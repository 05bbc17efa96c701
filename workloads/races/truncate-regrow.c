// SPDX-License-Identifier: GPL-2.0
/*
 * A fault during a shrinking truncate leaves old data that a later grow shows.
 *
 *	A: ftruncate(smaller)		B: load through mmap, above the new size
 *	---------------------		----------------------------------------
 *					filemap_fault(): index < i_size, go on
 *					page not in cache
 *					  <window: filemap_fault>
 *	evict page cache beyond new size
 *	  <window: *_truncate>
 *					add a folio, map and read old blocks
 *	remove blocks
 *	return
 *	ftruncate(larger): shows the folio
 *
 * Symptom:	the regrown range reads as the deleted data: mmap and buffered
 *		pread. POSIX says it reads as zeroes.
 * Held by:	two things. invalidate_lock, shared around B's folio, exclusive
 *		around A; and the order in A, which lowers i_size before it
 *		evicts: both read paths fill what is beyond i_size with zeroes
 *		(ext4_mpage_readpages(), iomap_block_needs_zeroing()). Without
 *		the lock alone B gets in ("entered":1) but reads zeroes, so the
 *		switch takes both away.
 * Fixed by:	730633f0b7f9 (5.15); 653c60b633a9 (xfs, 4.1).
 * Systems:	ext4, XFS; any block size.
 * Switches:	truncate.
 * Windows:	ext4_truncate or xfs_truncate first (for A), then filemap_fault
 *		(for B), which must end first: A's delay must be well above B's.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	64
#define KEEP	16	/* pages that survive the shrink */

static struct file file;

static void open_file(struct trial *t)
{
	file_open(&file, t, "truncate-regrow", PAGES * PAGE);
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
	/*
	 * Armed: B is known to be past its size check. Unarmed: somewhere in
	 * the time that a fault takes.
	 */
	if (!race_wait_window("filemap_fault", 1000))
		race_spin_us(prng_below(&t->rng_a, 100));
	if (ftruncate(file.fd, KEEP * PAGE))
		race_invalid(t, "ftruncate: %s", strerror(errno));
}

static void fault(struct trial *t)
{
	size_t page = KEEP + prng_below(&t->rng_b, PAGES - KEEP);

	/* SIGBUS is what should happen if the shrink came first. */
	race_note(t, "sigbus", !race_touch(file.map + page * PAGE));
	/* Over while A is still held: nothing kept B out. */
	race_note(t, "entered", race_window_open());
	race_note(t, "page", page);
}

static void watch(struct trial *t)
{
	(void)t;
	race_watch_overtaken("filemap_fault");
}

static void check(struct trial *t)
{
	if (ftruncate(file.fd, file.size)) {
		race_invalid(t, "grow: %s", strerror(errno));
		return;
	}
	if (t->plant)
		file_plant(&file, t, KEEP * PAGE, (PAGES - KEEP) * PAGE);
	file_check_zero(&file, t, KEEP * PAGE, (PAGES - KEEP) * PAGE);
}

static const struct race race = {
	.name	= "truncate-regrow",
	.plants	= "cache disk",
	.open	= open_file,
	.setup	= setup,
	.a	= shrink,
	.b	= fault,
	.watch	= watch,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
