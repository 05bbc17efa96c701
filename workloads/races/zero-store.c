// SPDX-License-Identifier: GPL-2.0
/*
 * A store through mmap to a range that is being zeroed brings the old data back.
 *
 *	A: fallocate(ZERO_RANGE)	B: store through mmap
 *	------------------------	---------------------
 *	evict page cache of range
 *	  <window: ext4_zero, xfs_punch>
 *					fault: adds a folio, reads old blocks
 *					page_mkwrite: the folio is dirty
 *	ext4: mark extents unwritten
 *	XFS: punch, then allocate
 *	return
 *					writeback: the old data is on disk again
 *
 * Symptom:	the rest of the page is old data, in the cache and, on ext4, on the
 *		disk. The word that B stored may be there or not.
 * Held by:	invalidate_lock, shared in filemap_fault() and page_mkwrite,
 *		exclusive around A.
 * Fixed by:	ea3d7209ca01 (ext4, 4.5), e8e9ad42c1f1 (xfs, 4.1).
 * Systems:	ext4, XFS; any block size.
 * Switches:	fault+mkwrite, or punch.	Windows: ext4_zero, xfs_punch.
 */
#include <fcntl.h>

#include "lib/hole.h"

int main(int argc, char **argv)
{
	return hole_main("zero-store", FALLOC_FL_ZERO_RANGE, way_store, argc, argv);
}
