// SPDX-License-Identifier: GPL-2.0
/*
 * Reclaim takes a page of a hole that is being punched, and a load brings it back.
 *
 *	A: fallocate(PUNCH_HOLE)	B: madvise(PAGEOUT), load
 *	------------------------	-------------------------
 *	evict page cache of range
 *	  <window: ext4_punch, xfs_punch>
 *					reclaim: what the last load
 *					  brought is unmapped and freed
 *					fault: lock, add a folio, read
 *					  the old block, unlock
 *	remove blocks
 *	return
 *
 * What a plain load brought back is mapped and touched no more; under memory
 * pressure it goes and is read again, for as long as the blocks are there. That
 * reclaim, which takes no lock of this kind, meets eviction and fault at any
 * moment must not matter.
 *
 * Symptom:	the hole reads as the deleted data: mmap and buffered pread.
 * Held by:	invalidate_lock, shared around B's fault, exclusive around A.
 * Fixed by:	ea3d7209ca01 (ext4, 4.5), e8e9ad42c1f1 (xfs, 4.1).
 * Systems:	ext4, XFS; any block size.
 * Switches:	fault, or punch.	Window: ext4_punch, xfs_punch.
 */
#include <fcntl.h>

#include "lib/hole.h"

int main(int argc, char **argv)
{
	return hole_main("punch-reclaim-fault", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 way_reclaim, argc, argv);
}
