// SPDX-License-Identifier: GPL-2.0
/*
 * A store during a shrinking truncate leaves a dirty page that a later grow shows.
 *
 *	A: ftruncate(smaller)		B: store through mmap, above the new size
 *	---------------------		-----------------------------------------
 *					filemap_fault(): index < i_size, go on
 *					page not in cache
 *					  <window: filemap_fault>
 *	evict page cache beyond new size
 *	  <window: *_truncate>
 *					add a folio, map and read old blocks
 *					page_mkwrite: the folio is dirty
 *	remove blocks
 *	return
 *	ftruncate(larger): shows the folio
 *
 * Symptom:	as truncate-regrow, and the page is dirty: with its data, old and
 *		new, it is written to blocks that are allocated for it again.
 * Held by:	as truncate-regrow.
 * Fixed by:	730633f0b7f9 (5.15); 653c60b633a9 (xfs, 4.1).
 * Systems:	ext4, XFS; any block size.
 * Switches:	truncate.
 * Windows:	ext4_truncate or xfs_truncate first (for A), then filemap_fault
 *		(for B), which must end first: A's delay must be well above B's.
 */
#include "lib/regrow.h"

int main(int argc, char **argv)
{
	return regrow_main("truncate-store", "filemap_fault", way_store, argc, argv);
}
