// SPDX-License-Identifier: GPL-2.0
/*
 * A page fault in the destination of a reflink shows the data of before.
 *
 *	A: ioctl(FICLONERANGE)		B: load through mmap of the destination
 *	----------------------		---------------------------------------
 *	write back, evict page cache
 *	  <window: xfs_remap>
 *					fault: adds a folio, reads the blocks
 *					  that are about to be unmapped
 *	unmap blocks, map the source's
 *	return
 *
 * Symptom:	the destination shows its old data, for as long as it is cached;
 *		O_DIRECT shows the clone.
 * Held by:	invalidate_lock of the destination, shared around B's fault,
 *		exclusive around A.
 * Fixed by:	5833112df7e9 (xfs, 4.16: the MMAPLOCK in reflink).
 * Systems:	XFS with reflink.
 * Switches:	fault, or remap.	Window: xfs_remap.
 */
#include "lib/clone.h"

int main(int argc, char **argv)
{
	return clone_main("reflink-fault", false, argc, argv);
}
