// SPDX-License-Identifier: GPL-2.0
/*
 * POSIX_FADV_WILLNEED in a hole that is being punched brings the old data back.
 *
 *	A: fallocate(PUNCH_HOLE)	B: posix_fadvise(WILLNEED)
 *	------------------------	--------------------------
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
 * Fixed by:	40144e49ff84, 692fe62433d4 (who reads ahead), 730633f0b7f9
 *		(the common lock, 5.15).
 * Systems:	ext4, any block size. XFS takes the IOLOCK in fadvise(2).
 * Switches:	readahead, or punch.	Window: ext4_punch.
 */
#include <fcntl.h>

#include "lib/hole.h"

int main(int argc, char **argv)
{
	return hole_main("punch-fadvise", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 way_fadvise, argc, argv);
}
