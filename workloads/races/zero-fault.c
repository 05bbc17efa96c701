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
#include <fcntl.h>

#include "lib/hole.h"

int main(int argc, char **argv)
{
	return hole_main("zero-fault", FALLOC_FL_ZERO_RANGE, way_fault, argc, argv);
}
