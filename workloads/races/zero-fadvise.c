// SPDX-License-Identifier: GPL-2.0
/*
 * POSIX_FADV_WILLNEED in a range that is being zeroed brings the old data back.
 *
 *	A: fallocate(ZERO_RANGE)	B: posix_fadvise(WILLNEED)
 *	------------------------	--------------------------
 *	evict page cache of range
 *	  <window: ext4_zero>
 *					lock; add folios, map the old
 *					  blocks, submit; unlock
 *	mark extents unwritten
 *	return
 *
 * Symptom:	the range reads as the old data: mmap and buffered pread.
 * Held by:	invalidate_lock, shared around the folios that readahead adds,
 *		exclusive around A.
 * Fixed by:	40144e49ff84, 692fe62433d4 (who reads ahead), 730633f0b7f9
 *		(the common lock, 5.15).
 * Systems:	ext4, any block size. XFS takes the IOLOCK in fadvise(2).
 * Switches:	readahead, or punch.	Window: ext4_zero.
 */
#include <fcntl.h>

#include "lib/hole.h"

int main(int argc, char **argv)
{
	return hole_main("zero-fadvise", FALLOC_FL_ZERO_RANGE, way_fadvise, argc, argv);
}
