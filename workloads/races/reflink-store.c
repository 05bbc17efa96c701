// SPDX-License-Identifier: GPL-2.0
/*
 * A store to the destination of a reflink makes a page dirty that is the clone's.
 *
 *	A: ioctl(FICLONERANGE)		B: store through mmap of the destination
 *	----------------------		----------------------------------------
 *	write back, evict page cache
 *	  <window: xfs_remap>
 *					fault: adds a folio, reads old blocks
 *					page_mkwrite: blocks are not shared yet,
 *					  nothing to reserve; folio is dirty
 *	unmap blocks, map the source's
 *	return
 *					writeback
 *
 * Symptoms:	the rest of the page is the destination's old data, in the cache
 *		and, written back, on the disk; blocks that are shared by then
 *		are written in place, which changes the source, too.
 * Held by:	invalidate_lock of the destination, shared in filemap_fault() and
 *		page_mkwrite, exclusive around A.
 * Fixed by:	as reflink-fault.
 * Systems:	XFS with reflink.
 * Switches:	fault+mkwrite, or remap.	Window: xfs_remap.
 */
#include <stdbool.h>

#include "lib/clone.h"

int main(int argc, char **argv)
{
	return clone_main("reflink-store", true, argc, argv);
}
