// SPDX-License-Identifier: GPL-2.0
/*
 * A read(2) completes a partly filled folio with blocks that are being punched.
 *
 *	A: fallocate(PUNCH_HOLE), an	B: pread() of the part of a folio
 *	edge within a page		that is in the hole
 *	-------------------------	---------------------------------
 *	evict page cache of hole; a
 *	  folio across the edge stays,
 *	  its blocks in the hole are
 *	  unmapped
 *	  <window: ext4_punch>
 *					folio found, not up to date there:
 *					  filemap_update_page() looks the
 *					  blocks up again and reads them
 *	remove blocks
 *	return
 *
 * Set-up writes one block of the page at either edge into a cold page cache:
 * that block is up to date, the others are not and are read by nobody, as the
 * write covers its block. B reads both edges, in an order drawn by lot.
 *
 * Symptom:	the hole's part of that page reads as the deleted data: mmap and
 *		buffered pread.
 * Held by:	invalidate_lock, shared in filemap_update_page(), exclusive
 *		around A. The folio lock is not enough: B may have it between
 *		A's eviction and A's removal of blocks.
 * Fixed by:	730633f0b7f9 (5.15).
 * Systems:	ext4 with blocks smaller than a page. XFS takes the IOLOCK in
 *		read(2).
 * Switches:	update, or punch.	Window: ext4_punch.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	32
#define FRONT	8	/* page with the first byte of the hole */
#define BACK	24	/* page with the last one */

static struct file file;
static char *buf;
static size_t block, start, end;	/* bytes: a block; the hole */

static void open_file(struct trial *t)
{
	struct statfs fs;

	if (fstatfs(t->dirfd, &fs))
		race_skip("fstatfs: %s", strerror(errno));
	block = fs.f_bsize;
	if (block >= PAGE)
		race_skip("blocks of %zu bytes: no folio is partly up to date", block);
	start = FRONT * PAGE + block;
	end = (BACK + 1) * PAGE - block;
	file_open(&file, t, "punch-partial", PAGES * PAGE);
	buf = aligned_buffer(PAGE);
}

/* Writes the block at @offset, which is outside of the hole, and nothing else. */
static void write_block(struct trial *t, size_t offset)
{
	stamp_fill(buf, block, 9, t->number, offset);
	if (pwrite(file.fd, buf, block, offset) != (ssize_t)block)
		race_invalid(t, "setup: pwrite: %s", strerror(errno));
}

static void setup(struct trial *t)
{
	/*
	 * First, as buffers of an exposed trial are still mapped to blocks that
	 * the file does not have any more: the stamps would go there.
	 */
	if (!file_drop_cache(&file, 0, file.size))
		race_invalid(t, "setup: fdatasync: %s", strerror(errno));
	file_stamp(&file, t, 8, 0, file.size);
	write_block(t, start - block);
	write_block(t, end);
	if (fdatasync(file.fd))
		race_invalid(t, "setup: fdatasync: %s", strerror(errno));
}

static void punch(struct trial *t)
{
	race_stagger(t, 200);
	if (fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

static void read_edges(struct trial *t)
{
	bool back = prng_below(&t->rng_b, 2);
	unsigned int i;

	race_meet(t);
	for (i = 0; i < 2; i++, back = !back) {
		/* One block of the hole's part; there are PAGE / block - 1. */
		size_t nth = prng_below(&t->rng_b, PAGE / block - 1);
		size_t at = (back ? BACK * PAGE : start) + nth * block;

		if (race_window_open())
			race_count_access();
		if (pread(file.fd, buf, block, at) != (ssize_t)block)
			race_untested(t, "pread: %s", strerror(errno));
		race_note(t, back ? "entered_back" : "entered_front", race_window_open());
	}
}

/* The block beside either edge must have survived. */
static void check_outside(struct trial *t, size_t offset)
{
	uint64_t *words = (uint64_t *)buf;
	size_t i;

	if (pread(file.fd, buf, block, offset) != (ssize_t)block) {
		race_untested(t, "check: pread: %s", strerror(errno));
		return;
	}
	for (i = 0; i < block / sizeof(*words); i++)
		if (words[i] != stamp(9, t->number, offset + i * sizeof(*words))) {
			race_exposed(t, "outside: the block beside the hole changed at offset %zu",
				     offset + i * sizeof(*words));
			return;
		}
}

/* One wrong byte in the block before the hole. */
static void plant_outside(struct trial *t)
{
	size_t at = start - block + prng_below(&t->rng, block);

	if (pread(file.fd, buf, 1, at) != 1)
		race_invalid(t, "plant: %s", strerror(errno));
	buf[0] ^= 0x5a;
	if (pwrite(file.fd, buf, 1, at) != 1)
		race_invalid(t, "plant: %s", strerror(errno));
}

static void check(struct trial *t)
{
	if (t->plant && !strcmp(t->plant, "outside"))
		plant_outside(t);
	else if (t->plant)
		/* Whole pages only: a page is what is written to the disk. */
		file_plant(&file, t, (FRONT + 1) * PAGE, (BACK - FRONT - 1) * PAGE);
	file_check_zero(&file, t, start, end - start);
	check_outside(t, start - block);
	check_outside(t, end);
}

static const struct race race = {
	.name	= "punch-partial",
	.plants	= "cache disk outside",
	.open	= open_file,
	.setup	= setup,
	.a	= punch,
	.b	= read_edges,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
