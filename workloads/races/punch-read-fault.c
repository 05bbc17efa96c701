// SPDX-License-Identifier: GPL-2.0
/*
 * A page fault in a hole that is being punched brings the old data back.
 *
 *	A: fallocate(PUNCH_HOLE)	B: load through mmap
 *	------------------------	--------------------
 *	evict page cache of hole
 *	  <window: *_punch>
 *					fault: page not in cache
 *					filemap_fault() adds a folio
 *					->read_folio() maps old blocks
 *	remove blocks
 *	return
 *
 * Symptom:	the hole reads as the deleted data for as long as the folio is
 *		cached: mmap and buffered pread show it, O_DIRECT pread does not.
 * Held by:	invalidate_lock, shared around B's fault, exclusive around A.
 * Fixed by:	ea3d7209ca01 (ext4, 4.5), e8e9ad42c1f1 (xfs, 4.1),
 *		730633f0b7f9 (the common lock, 5.15).
 * Systems:	ext4, XFS; any block size.
 * Switches:	fault, or punch.	Windows: ext4_punch, xfs_punch.
 */
#include <fcntl.h>

#include "lib/hole.h"

int main(int argc, char **argv)
{
	return hole_main("punch-read-fault", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 way_fault, argc, argv);
}
