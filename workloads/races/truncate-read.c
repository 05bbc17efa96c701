// SPDX-License-Identifier: GPL-2.0
/*
 * A read(2) during a shrinking truncate leaves old data that a later grow shows.
 *
 *	A: ftruncate(smaller)		B: pread() above the new size
 *	---------------------		-----------------------------
 *					filemap_read(): position < i_size, go on
 *					readahead adds the folio and reads it
 *					  <window: filemap_read>
 *	evict page cache beyond new size
 *	  <window: ext4_truncate>
 *					the folio is gone: filemap_create_folio()
 *					  adds it again and reads the old blocks
 *					position >= i_size: nothing is returned
 *	remove blocks
 *	return
 *	ftruncate(larger): shows the folio
 *
 * Symptom:	as truncate-regrow.
 * Held by:	as truncate-regrow, with the lock in filemap_create_folio().
 * Fixed by:	730633f0b7f9 (5.15).
 * Systems:	ext4, any block size. XFS takes the IOLOCK in read(2).
 * Switches:	truncate.
 * Windows:	ext4_truncate first (for A), then filemap_read (for B), which must
 *		end first: A's delay must be well above B's.
 */
#include "lib/regrow.h"

int main(int argc, char **argv)
{
	return regrow_main("truncate-read", "filemap_read", way_pread, argc, argv);
}
