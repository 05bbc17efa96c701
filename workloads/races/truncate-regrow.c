// SPDX-License-Identifier: GPL-2.0
/*
 * A fault during a shrinking truncate leaves old data that a later grow shows.
 *
 *	A: ftruncate(smaller)		B: load through mmap, above the new size
 *	---------------------		----------------------------------------
 *					filemap_fault(): index < i_size, go on
 *					page not in cache
 *					  <window: filemap_fault>
 *	evict page cache beyond new size
 *	  <window: *_truncate>
 *					add a folio, map and read old blocks
 *	remove blocks
 *	return
 *	ftruncate(larger): shows the folio
 *
 * Symptom:	the regrown range reads as the deleted data: mmap and buffered
 *		pread. POSIX says it reads as zeroes.
 * Held by:	two things. invalidate_lock, shared around B's folio, exclusive
 *		around A; and the order in A, which lowers i_size before it
 *		evicts: both read paths fill what is beyond i_size with zeroes
 *		(ext4_mpage_readpages(), iomap_block_needs_zeroing()). Without
 *		the lock alone B gets in ("entered":1) but reads zeroes, so the
 *		switch takes both away.
 * Fixed by:	730633f0b7f9 (5.15); 653c60b633a9 (xfs, 4.1).
 * Systems:	ext4, XFS; any block size.
 * Switches:	truncate.
 * Windows:	ext4_truncate or xfs_truncate first (for A), then filemap_fault
 *		(for B), which must end first: A's delay must be well above B's.
 */
#include "lib/regrow.h"

int main(int argc, char **argv)
{
	return regrow_main("truncate-regrow", "filemap_fault", way_fault, argc, argv);
}
