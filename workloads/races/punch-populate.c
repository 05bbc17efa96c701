// SPDX-License-Identifier: GPL-2.0
/*
 * MADV_POPULATE_READ of a hole that is being punched brings the old data back.
 *
 *	A: fallocate(PUNCH_HOLE)	B: madvise(POPULATE_READ)
 *	------------------------	-------------------------
 *	evict page cache of range
 *	  <window: ext4_punch, xfs_punch>
 *					fault after fault, without a
 *					  load: lock, add a folio, read
 *					  the old block, unlock
 *	remove blocks
 *	return
 *
 * Symptom:	the hole reads as the deleted data: mmap and buffered pread.
 * Held by:	invalidate_lock, shared around each fault, exclusive around A.
 * Fixed by:	ea3d7209ca01 (ext4, 4.5), e8e9ad42c1f1 (xfs, 4.1).
 * Systems:	ext4, XFS; any block size.
 * Switches:	fault, or punch.	Window: ext4_punch, xfs_punch.
 */
#include <fcntl.h>

#include "lib/hole.h"

int main(int argc, char **argv)
{
	return hole_main("punch-populate", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 way_populate, argc, argv);
}
