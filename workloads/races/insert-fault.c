// SPDX-License-Identifier: GPL-2.0
/*
 * Loads and stores through mmap while a hole is inserted into the file.
 *
 *	A: fallocate(INSERT_RANGE)	B: load or store through mmap, behind it
 *	--------------------------	----------------------------------------
 *	write back all that moves
 *	  <window: *_flushed>
 *					odd trials: store; the folio is dirty
 *	evict it: the store is gone
 *	  <window: *_insert>
 *					even trials: fault: adds a folio, reads
 *					  the block that was there
 *	shift extents
 *	return
 *
 * Symptoms:	lost	a store is neither where it was made nor where that page
 *			has moved to.
 *		stale	a page shows what was at its offset before: in the new
 *			hole, which must be zero, and behind it.
 * Held by:	invalidate_lock, shared in filemap_fault() and page_mkwrite,
 *		exclusive around A.
 * Fixed by:	32ebffd3bbb4 and ea3d7209ca01 (ext4, 4.5), e8e9ad42c1f1 (xfs, 4.1).
 * Systems:	ext4, XFS; any block size.
 * Switches:	shift, or fault+mkwrite.
 * Windows:	ext4_insert, xfs_insert first; ext4_flushed, xfs_flushed.
 */
#include "lib/race.h"
#include "lib/shift.h"

int main(int argc, char **argv)
{
	return shift_main("insert-fault", false, argc, argv);
}
