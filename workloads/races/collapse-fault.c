// SPDX-License-Identifier: GPL-2.0
/*
 * Loads and stores through mmap while a range is cut out of the file.
 *
 *	A: fallocate(COLLAPSE_RANGE)	B: load or store through mmap, behind it
 *	----------------------------	----------------------------------------
 *	write back all that moves
 *	  <window: *_flushed>
 *					odd trials: store; the folio is dirty
 *	evict it: the store is gone
 *	  <window: *_collapse>
 *					even trials: fault: adds a folio, reads
 *					  the block that was there
 *	remove blocks, shift extents
 *	lower i_size
 *	return
 *
 * Symptoms:	lost	a store is neither where it was made nor where that page
 *			has moved to. Whether it was made before or after the
 *			collapse is free, both at once it was not.
 *		stale	a page shows what was at its offset before; dirty, it is
 *			written back over a block that now belongs elsewhere.
 * Held by:	invalidate_lock, shared in filemap_fault() and page_mkwrite,
 *		exclusive around A.
 * Fixed by:	32ebffd3bbb4 and ea3d7209ca01 (ext4, 4.5), e8e9ad42c1f1 (xfs, 4.1).
 * Systems:	ext4, XFS; any block size.
 * Switches:	shift, or fault+mkwrite.
 * Windows:	ext4_collapse, xfs_collapse first; ext4_flushed, xfs_flushed.
 *		XFS passes xfs_flushed twice: it begins with a hole punch.
 */
#include "lib/race.h"
#include "lib/shift.h"

int main(int argc, char **argv)
{
	return shift_main("collapse-fault", true, argc, argv);
}
