// SPDX-License-Identifier: GPL-2.0
/*
 * A page fault in a range that is being zeroed brings the old data back.
 *
 *	A: fallocate(ZERO_RANGE)	B: load through mmap
 *	------------------------	--------------------
 *	evict page cache of range
 *	  <window: ext4_zero, xfs_punch>
 *					fault: page not in cache
 *					filemap_fault() adds a folio
 *					->read_folio() maps old blocks
 *	ext4: mark extents unwritten
 *	XFS: punch, then allocate
 *	return
 *
 * Symptom:	the range reads as the old data for as long as the folio is
 *		cached: mmap and buffered pread show it, O_DIRECT pread does not.
 * Held by:	invalidate_lock, shared around B's fault, exclusive around A.
 * Fixed by:	ea3d7209ca01 (ext4, 4.5), e8e9ad42c1f1 (xfs, 4.1).
 * Systems:	ext4, XFS; any block size.
 * Switches:	fault, or punch.	Windows: ext4_zero, xfs_punch.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	64
#define BEFORE	8	/* pages left alone at either end */
#define RANGE	((PAGES - 2 * BEFORE) * PAGE)

static struct file file;

static void open_file(struct trial *t)
{
	file_open(&file, t, "zero-fault", PAGES * PAGE);
}

static void setup(struct trial *t)
{
	file_stamp(&file, t, 10, 0, file.size);
}

static void zero(struct trial *t)
{
	/* B is under way first, more or less. */
	race_spin_us(prng_below(&t->rng_a, 200));
	if (fallocate(file.fd, FALLOC_FL_ZERO_RANGE, BEFORE * PAGE, RANGE))
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
		file_plant(&file, t, BEFORE * PAGE, RANGE);
	file_check_zero(&file, t, BEFORE * PAGE, RANGE);
}

static const struct race race = {
	.name	= "zero-fault",
	.plants	= "cache disk",
	.open	= open_file,
	.setup	= setup,
	.a	= zero,
	.b	= fault,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
