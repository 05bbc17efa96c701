// SPDX-License-Identifier: GPL-2.0
/*
 * A fault outside of a hole reads a large folio that covers it.
 *
 *	A: fallocate(PUNCH_HOLE)	B: load, far before the hole
 *	------------------------	----------------------------
 *	evict page cache of hole
 *	  <window: xfs_punch>
 *					fault in a VM_HUGEPAGE mapping:
 *					page_cache_ra_order() rounds its index
 *					  down to 2 MiB and adds one folio of
 *					  that size, hole and all
 *					reads the old blocks into it
 *	remove blocks
 *	return
 *
 * The folio begins 1 MiB before the hole and ends after it: a lock around the
 * page that faulted, or around a range taken before the rounding, does not help.
 * What is read there later is one up-to-date folio with old data in its middle.
 *
 * Symptom:	the hole reads as the deleted data: mmap and buffered pread.
 * Held by:	invalidate_lock, shared in page_cache_ra_order(), exclusive around A.
 * Fixed by:	the same as punch-readahead; large folios came to XFS in 5.18.
 * Systems:	XFS (ext4 has no large folios before 6.16).
 * Switches:	readahead, or punch.	Window: xfs_punch.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/race.h"

#define SIZE	(2ul << 20)	/* of the largest folio, and of the file */
#define START	(SIZE / 2)	/* of the hole */
#define HOLE	(SIZE / 8)
#define TOUCHED	PAGE		/* where B loads */

/* Documentation/admin-guide/mm/pagemap.rst */
#define PFN		((1ull << 55) - 1)
#define PRESENT		(1ull << 63)
#define COMPOUND	((1ull << 15) | (1ull << 16))	/* head, tail */

static struct file file;
static int pagemap, kpageflags;
static bool large;

/* Is what B touched mapped from a large folio? */
static bool is_large(void)
{
	uint64_t entry = 0, flags = 0;
	off_t at = (uintptr_t)(file.map + TOUCHED) / PAGE * sizeof(entry);

	if (pread(pagemap, &entry, sizeof(entry), at) != sizeof(entry) || !(entry & PRESENT))
		return false;
	at = (entry & PFN) * sizeof(flags);
	return pread(kpageflags, &flags, sizeof(flags), at) == sizeof(flags) && flags & COMPOUND;
}

static void open_file(struct trial *t)
{
	if (strcmp(t->fstype, "xfs"))
		race_skip("no large folios on %s", t->fstype);
	file_open(&file, t, "punch-huge-readahead", SIZE);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0 || kpageflags < 0)
		race_skip("cannot see folios: %s (CONFIG_PROC_PAGE_MONITOR?)", strerror(errno));
	if (madvise(file.map, SIZE, MADV_NORMAL) || madvise(file.map, SIZE, MADV_HUGEPAGE))
		race_skip("MADV_HUGEPAGE: %s", strerror(errno));
}

static void setup(struct trial *t)
{
	/* An exposed trial may leave a folio that maps blocks which the file has lost. */
	if (ftruncate(file.fd, 0) || ftruncate(file.fd, SIZE))
		race_invalid(t, "setup: ftruncate: %s", strerror(errno));
	file_stamp(&file, t, 23, 0, SIZE);
}

static void punch(struct trial *t)
{
	race_stagger(t, 200);
	if (fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, START, HOLE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

/* Once: a second load would need the cache to be dropped, and the damage with it. */
static void load(struct trial *t)
{
	race_meet(t);
	if (race_window_open())
		race_count_access();
	if (!race_touch(file.map + TOUCHED))
		race_untested(t, "SIGBUS below EOF");
	/* At once: A, if it comes later, splits what is there. */
	large = is_large();
}

static void check(struct trial *t)
{
	race_note(t, "large", large);
	if (!large)
		race_untested(t, "the fault brought no large folio");
	if (t->plant)
		file_plant(&file, t, START, HOLE);
	file_check_zero(&file, t, START, HOLE);
}

static const struct race race = {
	.name	= "punch-huge-readahead",
	.plants	= "cache disk",
	.open	= open_file,
	.setup	= setup,
	.a	= punch,
	.b	= load,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
