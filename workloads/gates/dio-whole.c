// SPDX-License-Identifier: GPL-2.0
/*
 * A direct write in one call: all of it is on the disk, or what is missing is as
 * it was before. No race: the ways in which a direct write that pins its source,
 * or that stops in the middle, has gone wrong or could.
 *
 * --mode	the write
 * large	65537 pages from small pages, and 256 MiB from a buffer that begins
 *		in the middle of a page: as many segments. Their number modulo
 *		65536 is one, which bi_vcnt of struct bio takes for "no need to split".
 * tail	a source that ends in the middle: the pages from some page on are not
 *		mapped. Over old data, of a clone where there are clones: a block that
 *		is written in part must not show what was on the disk before.
 * extend	the same, into an empty file, that is then made longer: behind what was
 *		written it must read zero. (Stock ext4 shows what was on the disk before,
 *		where a write failed in the middle. Stock XFS loses up to seven sectors here:
 *		the second round of the write begins in the middle of a block that is
 *		still unwritten, and iomap_dio_bio_iter() zeroes the block before it.)
 *
 * Oracle:	the return value says how much was written; what was, reads as
 *		written; the rest reads as before (of a failed write any part may
 *		have been written), through the mapping and O_DIRECT. No other bytes.
 * Bound:	120 s a trial.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/fs.h>

#include "lib/gate.h"
#include "lib/oracle.h"
#include "lib/prng.h"

#define SEGMENTS	65537ul
#define SMALL		(16 * PAGE)
#define SECTOR		512
#define CHUNK		(1024 * PAGE)	/* that is compared at a time */
#define OLD		21		/* tags of stamps */
#define NEW		22

static struct file file;
static char *source;
static size_t source_size, from, len;	/* what is written begins at source + from */
static int clone_fd = -1;
static bool large, extend;

static void open_file(struct trial *t)
{
	const char *mode = gate_option("mode", "tail");

	large = !strcmp(mode, "large");
	extend = !strcmp(mode, "extend");
	if (!large && !extend && strcmp(mode, "tail"))
		race_skip("--mode %s: large, tail or extend", mode);
	source_size = large ? (SEGMENTS + 1) * PAGE : SMALL + PAGE;
	file_open(&file, t, "dio-whole", large ? SEGMENTS * PAGE : SMALL);
	clone_fd = openat(t->dirfd, "dio-whole-clone", O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (clone_fd < 0)
		race_skip("dio-whole-clone: %s", strerror(errno));
}

static void setup(struct trial *t)
{
	size_t good;

	/* Small pages, or a folio would be one segment; fresh in each trial. */
	if (source)
		munmap(source, source_size);
	source = mmap(NULL, source_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (source == MAP_FAILED || madvise(source, source_size, MADV_NOHUGEPAGE)) {
		race_invalid(t, "setup: mmap: %s", strerror(errno));
		source = NULL;
		return;
	}
	if (large) {
		from = t->number % 2 ? 0 : SECTOR;
		len = t->number % 2 ? SEGMENTS * PAGE : (SEGMENTS - 1) * PAGE;
	} else {
		from = prng_below(&t->rng, PAGE / SECTOR) * SECTOR;
		len = SMALL;
	}
	stamp_fill(source + from, len, NEW, t->number, 0);
	if (!large) {
		/* Sometimes the first page is all there is. */
		good = 1 + prng_below(&t->rng, SMALL / PAGE - 1);
		if (munmap(source + good * PAGE, source_size - good * PAGE))
			race_invalid(t, "setup: munmap: %s", strerror(errno));
	}
	if (extend) {
		/* The blocks that it gets have been in use: a new disk is all zeroes. */
		if (ftruncate(file.fd, SMALL))
			race_invalid(t, "setup: ftruncate: %s", strerror(errno));
		file_stamp(&file, t, OLD, 0, SMALL);
		if (ftruncate(file.fd, 0) || syncfs(file.fd))
			race_invalid(t, "setup: ftruncate: %s", strerror(errno));
		return;
	}
	file_stamp(&file, t, OLD, 0, SMALL);
	/* Not on every file system: then it is a plain overwrite. */
	if (!large && ftruncate(clone_fd, 0) == 0)
		ioctl(clone_fd, FICLONE, file.fd);
}

/* @got bytes of the file from @at on: new up to @written, then as before. */
static void compare(struct trial *t, const char *view, const char *got, size_t at, size_t bytes,
		    ssize_t written)
{
	static char want[2][CHUNK];
	size_t i;

	stamp_fill(want[0], bytes, NEW, t->number, at);
	/* 256 MiB, a byte at a time, take a guest that is emulated a quarter of a minute. */
	if (written >= 0 && at + bytes <= (size_t)written && !memcmp(got, want[0], bytes))
		return;
	if (extend)
		memset(want[1], 0, bytes);
	else
		stamp_fill(want[1], bytes, OLD, t->number, at);
	for (i = 0; i < bytes; i++) {
		bool new = got[i] == want[0][i], old = got[i] == want[1][i];

		if (written < 0 ? new || old : at + i < (size_t)written ? new : old)
			continue;
		race_exposed(t, "%s: 0x%02x at %zu, which is %s; the write returned %zd", view,
			     (unsigned char)got[i], at + i,
			     new ? "new" : old ? "old" : "neither old nor new", written);
		return;
	}
}

static void racer_a(struct trial *t)
{
	ssize_t written = pwrite(file.direct, source + from, len, 0);
	static char *got;
	size_t at, size = extend ? SMALL : len;
	int error = errno;

	if (!got)
		got = aligned_buffer(CHUNK);
	race_note(t, "written", written);
	if (large && written != (ssize_t)len) {
		if (written < 0)
			race_untested(t, "pwrite: %s", strerror(error));
		else
			race_exposed(t, "%zd bytes of %zu written", written, len);
		return;
	}
	if (written < 0 && error != EFAULT)
		race_exposed(t, "pwrite: %s, not EFAULT", strerror(error));
	if (extend && ftruncate(file.fd, SMALL))
		race_invalid(t, "ftruncate: %s", strerror(errno));
	if (t->plant)
		file_plant(&file, t, 0, SMALL);
	for (at = 0; at < size && t->outcome != EXPOSED; at += CHUNK) {
		size_t bytes = size - at < CHUNK ? size - at : CHUNK;

		if (!race_copy(got, file.map + at, bytes))
			race_exposed(t, "SIGBUS below the end of the file");
		else
			compare(t, "mmap", got, at, bytes, written);
		if (pread(file.direct, got, bytes, at) != (ssize_t)bytes)
			race_exposed(t, "direct read at %zu: %s", at, strerror(errno));
		else
			compare(t, "direct", got, at, bytes, written);
		madvise(file.map + at, bytes, MADV_DONTNEED);
		file_drop_cache(&file, at, bytes);
	}
}

static void racer_b(struct trial *t)
{
	gate_plant_stuck(t);
}

static void check(struct trial *t)
{
	(void)t;
}

static struct race race = {
	.name	= "dio-whole",
	.plants	= "cache disk " PLANT_STUCK,
	.open	= open_file,
	.setup	= setup,
	.a	= racer_a,
	.b	= racer_b,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "mode", 120, argc, argv);
}
