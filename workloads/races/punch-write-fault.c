// SPDX-License-Identifier: GPL-2.0
/*
 * A store through mmap during a hole punch lands in blocks that are freed.
 *
 *	A: fallocate(PUNCH_HOLE)	B: store through mmap
 *	------------------------	---------------------
 *	evict page cache of hole
 *	  <window: *_punch>
 *					fault: adds a folio, reads old blocks
 *					page_mkwrite: old blocks are mapped,
 *					  nothing to allocate; folio is dirty
 *	remove blocks
 *	return
 *	(another file gets the blocks)
 *					writeback
 *
 * Symptoms, in the order they are looked for:
 *	stale	bytes of the hole that nobody stored to are not zero
 *	victim	writeback went to the freed blocks, which a victim file, written
 *		with O_DIRECT, had got meanwhile (CVE-2015-8839). On ext4, which
 *		keeps the block number in the buffer head.
 *	lost	a store that was there when the punch had returned is gone after
 *		writeback and a drop of the page cache. On XFS, whose writeback
 *		looks the extent up again, finds the hole and drops the data.
 * Held by:	invalidate_lock, shared in filemap_fault() and page_mkwrite,
 *		exclusive around A.
 * Fixed by:	ea3d7209ca01 (ext4, 4.5), e8e9ad42c1f1 (xfs, 4.1).
 * Systems:	ext4, XFS; any block size.
 * Switches:	fault+mkwrite, or punch.	Windows: ext4_punch, xfs_punch.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"
#include "lib/victim.h"

#define PAGES		64
#define BEFORE		8
#define HOLE_PAGES	(PAGES - 2 * BEFORE)
#define HOLE		(HOLE_PAGES * PAGE)
#define STORE_AT	512			/* B stores here in a page, nowhere else */
#define ROOM		(1ul << 20)		/* left free by the filler */

static struct file file;
static char *before, *after;

static void open_files(struct trial *t)
{
	before = aligned_buffer(HOLE);
	after = aligned_buffer(HOLE);
	file_open(&file, t, "punch-write-fault", PAGES * PAGE);
	/* Its blocks exist before the file system is filled. */
	file_stamp(&file, t, 1, 0, file.size);
	victim_fill(t, ROOM);
}

static void setup(struct trial *t)
{
	victim_drop(t);
	file_stamp(&file, t, 1, 0, file.size);
	victim_create(t, file.fd, BEFORE * PAGE, HOLE);
}

static void punch(struct trial *t)
{
	race_stagger(t, 200);
	if (fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BEFORE * PAGE, HOLE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

static void store_once(struct trial *t)
{
	size_t page = BEFORE + prng_below(&t->rng_b, HOLE_PAGES);

	if (!race_store((uint64_t *)(file.map + page * PAGE + STORE_AT), stamp(7, t->number, page)))
		race_untested(t, "SIGBUS on a store");
}

static void store(struct trial *t)
{
	race_until_done(t, "stores", store_once);
}

static void check_stale(struct trial *t)
{
	unsigned int pages = 0;
	size_t page, i, first = 0;

	for (page = 0; page < HOLE; page += PAGE)
		for (i = page; i < page + PAGE; i++) {
			bool stored = i >= page + STORE_AT && i < page + STORE_AT + 8;

			if (before[i] && !stored) {
				if (!pages++)
					first = i;
				break;
			}
		}
	race_note(t, "stale_pages", pages);
	if (pages)
		race_exposed(t, "stale: %u pages of the hole show old data, first at offset %zu",
			     pages, BEFORE * PAGE + first);
}

/* Ways to make the oracle fire; each goes through the file system. */
static void plant(struct trial *t, const char *kind)
{
	off_t at = BEFORE * PAGE + prng_below(&t->rng, HOLE_PAGES) * PAGE;
	char byte;

	if (!t->plant || strcmp(t->plant, kind))
		return;
	if (!strcmp(kind, "victim")) {
		victim_plant(t);
		return;
	}
	at += strcmp(kind, "lost") ? 1 : STORE_AT;
	if (pread(file.fd, &byte, 1, at) != 1)
		race_invalid(t, "plant: %s", strerror(errno));
	byte ^= 0x5a;
	if (pwrite(file.fd, &byte, 1, at) != 1)
		race_invalid(t, "plant: %s", strerror(errno));
}

static void check(struct trial *t)
{
	unsigned int lost = 0;
	bool written;
	size_t i;

	plant(t, "stale");
	if (pread(file.fd, before, HOLE, BEFORE * PAGE) != (ssize_t)HOLE)
		race_untested(t, "check: pread: %s", strerror(errno));
	check_stale(t);

	victim_write(t);
	plant(t, "victim");
	victim_give_room(t);
	plant(t, "lost");
	written = file_drop_cache(&file, 0, file.size);
	if (!written)
		race_untested(t, "check: writing back: %s", strerror(errno));
	syncfs(t->dirfd);
	/* XFS looks the extent up again: only on ext4 must it be the old one. */
	victim_check(t, !strcmp(t->fstype, "ext4"));

	if (pread(file.fd, after, HOLE, BEFORE * PAGE) != (ssize_t)HOLE)
		race_untested(t, "check: pread: %s", strerror(errno));
	for (i = 0; i < HOLE; i += PAGE)
		lost += !!memcmp(before + i + STORE_AT, after + i + STORE_AT, 8);
	race_note(t, "lost_stores", lost);
	/* What could not be written back is lost with an error, not by a race. */
	if (lost && written)
		race_exposed(t, "lost: %u stores that were there after the punch are gone after writeback",
			     lost);
}

static const struct race race = {
	.name	= "punch-write-fault",
	.plants	= "stale victim lost",
	.open	= open_files,
	.setup	= setup,
	.a	= punch,
	.b	= store,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
