// SPDX-License-Identifier: GPL-2.0
/*
 * MADV_WILLNEED in a hole that is being punched brings the old data back.
 *
 *	A: fallocate(PUNCH_HOLE)	B: madvise(WILLNEED)
 *	------------------------	--------------------
 *	evict page cache of range
 *	  <window: ext4_punch>
 *					lock; add folios, map the old
 *					  blocks, submit; unlock
 *	remove blocks
 *	return
 *
 * Symptom:	the hole reads as the deleted data: mmap and buffered pread.
 * Held by:	invalidate_lock, shared around the folios that readahead adds,
 *		exclusive around A.
 * Fixed by:	692fe62433d4 (through vfs_fadvise()), 730633f0b7f9 (5.15).
 * Systems:	ext4, any block size. XFS takes the IOLOCK in fadvise(2), which this becomes.
 * Switches:	readahead, or punch.	Window: ext4_punch.
 */
#include <fcntl.h>

#include "lib/hole.h"

int main(int argc, char **argv)
{
	return hole_main("punch-willneed", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 way_willneed, argc, argv);
}
