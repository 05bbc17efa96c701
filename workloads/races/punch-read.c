// SPDX-License-Identifier: GPL-2.0
/*
 * A read(2) during a hole punch leaves old data in the page cache.
 *
 *	A: fallocate(PUNCH_HOLE)	B: pread() of a page of the hole
 *	------------------------	--------------------------------
 *					readahead adds the folio and reads it
 *					  <window: filemap_read>
 *	evict page cache of hole
 *	  <window: ext4_punch>
 *					the folio is gone:
 *					  filemap_create_folio() adds it again
 *					  and reads the old blocks
 *	remove blocks
 *	return
 *
 * B may have read the old data, as it began before A had returned. The page
 * cache must not keep it.
 *
 * Symptom:	the hole reads as the deleted data: mmap and buffered pread.
 * Held by:	invalidate_lock, shared in filemap_create_folio(), exclusive
 *		around A. Readahead takes the same lock before; B is held between
 *		the two, so that the second must be what keeps it out.
 * Fixed by:	730633f0b7f9 and d4f5258eae7b (ext4, 5.15).
 * Systems:	ext4, any block size. XFS takes the IOLOCK in read(2).
 * Switches:	read, or punch.
 * Windows:	ext4_punch first (for A), then filemap_read (for B), which must
 *		end first: A's delay must be well above B's.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	64
#define BEFORE	8	/* pages before and after the hole */
#define HOLE	((PAGES - 2 * BEFORE) * PAGE)

static struct file file;
static char *buf;

static void open_file(struct trial *t)
{
	file_open(&file, t, "punch-read", PAGES * PAGE);
	buf = aligned_buffer(PAGE);
}

static void setup(struct trial *t)
{
	file_stamp(&file, t, 5, 0, file.size);
}

static void punch(struct trial *t)
{
	/* Armed: B is known to be past readahead. Unarmed: somewhere near it. */
	if (!race_wait_window("filemap_read", 1000))
		race_stagger(t, 200);
	if (fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BEFORE * PAGE, HOLE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

static void read_page(struct trial *t)
{
	size_t page = BEFORE + prng_below(&t->rng_b, HOLE / PAGE);

	if (pread(file.fd, buf, PAGE, page * PAGE) != (ssize_t)PAGE)
		race_untested(t, "pread: %s", strerror(errno));
	/* Over while A is still held: nothing kept B out. */
	race_note(t, "entered", race_window_open());
	race_note(t, "page", page);
}

static void watch(struct trial *t)
{
	(void)t;
	race_watch_overtaken("filemap_read");
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, BEFORE * PAGE, HOLE);
	file_check_zero(&file, t, BEFORE * PAGE, HOLE);
}

static const struct race race = {
	.name	= "punch-read",
	.plants	= "cache disk",
	.open	= open_file,
	.setup	= setup,
	.a	= punch,
	.b	= read_page,
	.watch	= watch,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
