// SPDX-License-Identifier: GPL-2.0
/*
 * Readahead that starts outside of a hole brings old data into it.
 *
 *	A: fallocate(PUNCH_HOLE)	B: load or fadvise before the hole
 *	------------------------	----------------------------------
 *	evict page cache of hole
 *	  <window: *_punch>
 *					fault on the last page before the hole
 *					do_sync_mmap_readahead(): reads around
 *					readahead adds folios of the hole
 *					  and submits the old blocks
 *	remove blocks
 *	return
 *
 * B's fault never touches the hole: a lock around the fault's own page does not
 * help. On ext4 every second trial uses POSIX_FADV_WILLNEED instead, on a range
 * that begins before the hole and ends in it; XFS takes the IOLOCK there, as A
 * does, so on XFS B always faults.
 *
 * Symptom:	the hole reads as the deleted data: mmap and buffered pread.
 * Held by:	invalidate_lock, shared in page_cache_ra_unbounded() and
 *		page_cache_ra_order(), exclusive around A.
 * Fixed by:	40144e49ff84 (xfs), cf1ea0592dbf, 730633f0b7f9 (5.15).
 * Systems:	ext4, XFS; any block size.
 * Switches:	readahead, or punch.	Windows: ext4_punch, xfs_punch.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/oracle.h"
#include "lib/race.h"

#define PAGES	96
#define START	32	/* first page of the hole; aligned for large folios */
#define HOLE	((PAGES - START) * PAGE)

static struct file file;

static void open_file(struct trial *t)
{
	unsigned char in_core[8];

	file_open(&file, t, "punch-readahead", PAGES * PAGE);
	/* Without read-around a fault before the hole tests nothing. */
	file_stamp(&file, t, 3, 0, file.size);
	if (madvise(file.map, file.size, MADV_NORMAL) ||
	    !race_touch(file.map + (START - 1) * PAGE) ||
	    mincore(file.map + START * PAGE, sizeof(in_core) * PAGE, in_core))
		race_skip("cannot try read-around: %s", strerror(errno));
	if (!(in_core[0] & in_core[7] & 1))
		race_skip("a fault does not read around (read_ahead_kb below 64?)");
}

static void setup(struct trial *t)
{
	file_stamp(&file, t, 3, 0, file.size);
	/* The mapping reads around, unlike in the other reproducers. */
	if (madvise(file.map, file.size, MADV_NORMAL))
		race_invalid(t, "MADV_NORMAL: %s", strerror(errno));
}

static void punch(struct trial *t)
{
	race_stagger(t, 200);
	if (fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, START * PAGE, HOLE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

static void outside(struct trial *t)
{
	bool advise = !strcmp(t->fstype, "ext4") && t->number % 2;
	long long tries = 0;

	race_meet(t);
	do {
		/* Cold again, so that the next access reads. */
		madvise(file.map, START * PAGE, MADV_DONTNEED);
		posix_fadvise(file.fd, 0, START * PAGE, POSIX_FADV_DONTNEED);
		if (race_window_open())
			race_count_access();
		if (advise)
			posix_fadvise(file.fd, (START - 8) * PAGE, 24 * PAGE,
				      POSIX_FADV_WILLNEED);
		else if (!race_touch(file.map + (START - 1) * PAGE))
			race_untested(t, "SIGBUS below EOF");
		tries++;
	} while (!race_a_done());
	race_note(t, "tries", tries);
	race_note_string(t, "via", advise ? "fadvise" : "fault");
}

static void check(struct trial *t)
{
	if (madvise(file.map, file.size, MADV_RANDOM))
		race_untested(t, "MADV_RANDOM: %s", strerror(errno));
	if (t->plant)
		file_plant(&file, t, START * PAGE, HOLE);
	file_check_zero(&file, t, START * PAGE, HOLE);
}

static const struct race race = {
	.name	= "punch-readahead",
	.plants	= "cache disk",
	.open	= open_file,
	.setup	= setup,
	.a	= punch,
	.b	= outside,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
