// SPDX-License-Identifier: GPL-2.0
/*
 * Writeback of a page whose block a hole punch gives to somebody else.
 *
 *	A: writeback			B: fallocate(PUNCH_HOLE)
 *	------------			------------------------
 *	folio: look up its block, mark
 *	  it as under writeback, unlock
 *	  <window: *_writeback>
 *					evict: wait for the mark to go
 *	submit, complete, unmark
 *					page cache of hole evicted
 *					  <window: *_punch>
 *	writeback again: nothing to do
 *					remove blocks
 *					return
 *					(another file gets the blocks)
 *
 * Here A is not who removes: the first window is where racer A stands, and that
 * is writeback, which takes no lock of the mapping. Without B's wait A submits
 * after the block has changed hands. B writes the other file at once, as long as
 * A stands in its window, so that A is the last to write.
 *
 * Symptoms:	victim	another file, written with O_DIRECT, is overwritten.
 *		stale	the hole does not read zero.
 *		outside	what was dirty beside the hole is not on disk.
 * Held by:	eviction before the blocks are removed, and the wait of
 *		truncate_inode_pages_range() for PG_writeback; not by a lock.
 *		invalidate_lock keeps pages from coming back after that, so that
 *		writeback finds none in the second window.
 * Fixed by:	was never open.
 * Systems:	ext4, XFS; any block size.
 * Switches:	evict.
 * Windows:	ext4_writeback, iomap_writeback first (for A; B must punch and
 *		fill the file system in that time: 400 ms); ext4_punch, xfs_punch
 *		(for B).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"
#include "lib/victim.h"

#define PAGES	64
#define BEFORE	8
#define HOLE	((PAGES - 2 * BEFORE) * PAGE)
#define ROOM	(256 * 1024ul)		/* left free: less to write for the victim */

static struct file file;
static char *dirty;			/* what is under writeback */
static char punched[32];		/* B's window */

static void open_files(struct trial *t)
{
	dirty = aligned_buffer(PAGES * PAGE);
	snprintf(punched, sizeof(punched), "%s_punch", t->fstype);
	file_open(&file, t, "punch-writeback", PAGES * PAGE);
	/* Its blocks exist before the file system is filled. */
	file_stamp(&file, t, 1, 0, file.size);
	victim_fill(t, ROOM);
}

static void setup(struct trial *t)
{
	/* Folios of an exposed trial may be mapped to blocks of the victim. */
	if (ftruncate(file.fd, 0) || ftruncate(file.fd, file.size))
		race_invalid(t, "setup: ftruncate: %s", strerror(errno));
	victim_drop(t);
	file_stamp(&file, t, 1, 0, file.size);
	victim_create(t, file.fd, BEFORE * PAGE, HOLE);
	/* All have their blocks: writeback has to look up, not to allocate. */
	stamp_fill(dirty, PAGES * PAGE, 2, t->number, 0);
	if (pwrite(file.fd, dirty, PAGES * PAGE, 0) != (ssize_t)(PAGES * PAGE))
		race_invalid(t, "setup: pwrite: %s", strerror(errno));
}

/* Starts writeback of all that is dirty, and waits for none of it. */
static void write_back(struct trial *t)
{
	if (sync_file_range(file.fd, 0, 0, SYNC_FILE_RANGE_WRITE))
		race_untested(t, "sync_file_range: %s", strerror(errno));
}

static void writeback(struct trial *t)
{
	write_back(t);
	/* And once more while B stands between eviction and removal. */
	if (race_wait_window(punched, 1000)) {
		race_note(t, "met_punch", race_window_held(punched));
		write_back(t);
	}
}

static void punch(struct trial *t)
{
	race_meet(t);
	if (race_window_open())
		race_count_access();
	if (fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BEFORE * PAGE, HOLE))
		race_invalid(t, "fallocate: %s", strerror(errno));
	/* Over while A is still held: nothing made B wait. */
	race_note(t, "entered", race_window_open());
	victim_write(t);
	race_note(t, "victim_first", race_window_open());
}

/* What was dirty beside the hole was to be written back, and nothing else. */
static void check_outside(struct trial *t, size_t offset, size_t len)
{
	static uint64_t *buf;
	unsigned int pages = 0;
	size_t page, i, first = 0;

	if (!buf)
		buf = aligned_buffer(len);
	if (pread(file.direct, buf, len, offset) != (ssize_t)len) {
		race_untested(t, "check: pread: %s", strerror(errno));
		return;
	}
	for (page = 0; page < len; page += PAGE)
		for (i = page; i < page + PAGE; i += sizeof(*buf))
			if (buf[i / sizeof(*buf)] != stamp(2, t->number, offset + i)) {
				if (!pages++)
					first = offset + i;
				break;
			}
	if (pages)
		race_exposed(t, "outside: %u pages beside the hole are not as they were written, first at offset %zu",
			     pages, first);
}

static bool plants(struct trial *t, const char *kind)
{
	return t->plant && !strcmp(t->plant, kind);
}

static void check(struct trial *t)
{
	if (plants(t, "victim"))
		victim_plant(t);
	victim_give_room(t);
	/* A has not waited for its second writeback. */
	if (fdatasync(file.fd))
		race_untested(t, "check: writing back: %s", strerror(errno));
	victim_check(t, true);

	if (plants(t, "cache") || plants(t, "disk"))
		file_plant(&file, t, BEFORE * PAGE, HOLE);
	/* Before the cache is dropped: the hole's pages may be there still. */
	file_check_zero(&file, t, BEFORE * PAGE, HOLE);

	if (plants(t, "outside"))
		file.map[prng_below(&t->rng, BEFORE * PAGE)] ^= 0x5a;
	if (!file_drop_cache(&file, 0, file.size))
		race_untested(t, "check: writing back: %s", strerror(errno));
	check_outside(t, 0, BEFORE * PAGE);
	check_outside(t, BEFORE * PAGE + HOLE, BEFORE * PAGE);
}

static const struct race race = {
	.name	= "punch-writeback",
	.plants	= "victim cache disk outside",
	.open	= open_files,
	.setup	= setup,
	.a	= writeback,
	.b	= punch,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
