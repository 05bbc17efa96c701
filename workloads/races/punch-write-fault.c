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
 *
 * The file system is filled once, so that the victim, which takes all that is
 * left, is sure to get the freed blocks; FIEMAP checks that it did. Some spare
 * blocks are given back before the last writeback: a full ext4 drops delayed
 * data for want of a block for its extent tree, which is no race.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES		64
#define BEFORE		8
#define HOLE_PAGES	(PAGES - 2 * BEFORE)
#define HOLE		(HOLE_PAGES * PAGE)
#define STORE_AT	512			/* B stores here in a page, nowhere else */
#define ROOM		(1ul << 20)		/* left free by the filler */
#define SPARE		(256 * 1024ul)		/* for metadata of the last writeback */
#define CHUNK		(64 * 1024ul)		/* of the victim's writes */
#define MAX_EXTENTS	2048

struct extents {
	unsigned int n;
	struct { uint64_t start, len; } at[MAX_EXTENTS];	/* bytes on the device */
};

static struct file file;
static int filler, spare;
static int victim = -1, victim_direct = -1;
static char *chunk, *before, *after;
static struct extents freed;

/*
 * Both systems keep blocks back that count as free but are given to nobody.
 * While there are such, the victim may get those instead of the freed ones.
 */
static void release_reserve(struct trial *t)
{
	char path[64];
	struct stat st;
	int fd;

	if (fstat(t->dirfd, &st))
		race_skip("fstat: %s", strerror(errno));
	if (!strcmp(t->fstype, "xfs")) {
		/* struct xfs_fsop_resblks and XFS_IOC_SET_RESBLKS, fs/xfs/libxfs/xfs_fs.h */
		struct { uint64_t resblks, avail; } none = { 0, 0 };

		if (ioctl(t->dirfd, _IOWR('X', 114, none), &none))
			race_skip("cannot release the XFS reserve: %s", strerror(errno));
	} else if (!strcmp(t->fstype, "ext4")) {
		char name[256], *base;
		ssize_t n;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(st.st_dev),
			 minor(st.st_dev));
		n = readlink(path, name, sizeof(name) - 1);
		if (n < 0)
			race_skip("%s: %s", path, strerror(errno));
		name[n] = '\0';
		base = strrchr(name, '/');
		snprintf(path, sizeof(path), "/sys/fs/ext4/%.30s/reserved_clusters",
			 base ? base + 1 : name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			race_skip("cannot release the ext4 reserve: %s: %s", path,
				  strerror(errno));
		close(fd);
	}
}

/* An unlinked file: whatever ends this program gives its blocks back. */
static int nameless(struct trial *t, const char *name, int flags)
{
	int fd = openat(t->dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);

	if (fd < 0)
		race_skip("cannot create %s/%s: %s", t->dir, name, strerror(errno));
	unlinkat(t->dirfd, name, 0);
	return fd;
}

/* Fills the file system to the brim, then gives ROOM bytes back. */
static void fill(struct trial *t)
{
	struct stat st;
	off_t size = 0;
	size_t step;

	spare = nameless(t, "spare", 0);
	if (posix_fallocate(spare, 0, SPARE))
		race_skip("no room for %lu spare bytes in %s", SPARE, t->dir);
	filler = nameless(t, "filler", 0);
	for (step = 64ul << 20; step >= PAGE; step /= 2)
		while (!posix_fallocate(filler, size, step))
			size += step;
	if (fstat(filler, &st) || st.st_size < (off_t)ROOM ||
	    ftruncate(filler, st.st_size - ROOM))
		race_skip("cannot make room after filling %s: %s", t->dir, strerror(errno));
	syncfs(t->dirfd);
}

static void open_files(struct trial *t)
{
	chunk = aligned_buffer(CHUNK);
	before = aligned_buffer(HOLE);
	after = aligned_buffer(HOLE);
	file_open(&file, t, "punch-write-fault", PAGES * PAGE);
	/* Its blocks exist before the file system is filled. */
	file_stamp(&file, t, 1, 0, file.size);
	release_reserve(t);
	fill(t);
}

static void get_extents(int fd, uint64_t start, uint64_t len, struct extents *out)
{
	static struct fiemap *map;
	unsigned int i;

	if (!map)
		map = calloc(1, sizeof(*map) + MAX_EXTENTS * sizeof(struct fiemap_extent));
	memset(map, 0, sizeof(*map));
	map->fm_start = start;
	map->fm_length = len;
	map->fm_flags = FIEMAP_FLAG_SYNC;
	map->fm_extent_count = MAX_EXTENTS;
	out->n = 0;
	if (ioctl(fd, FS_IOC_FIEMAP, map))
		return;
	for (i = 0; i < map->fm_mapped_extents; i++) {
		const struct fiemap_extent *e = &map->fm_extents[i];
		uint64_t skip = e->fe_logical < start ? start - e->fe_logical : 0;
		uint64_t end = e->fe_logical + e->fe_length;

		if (end > start + len)
			end = start + len;
		if (e->fe_flags & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC))
			continue;
		out->at[out->n].start = e->fe_physical + skip;
		out->at[out->n++].len = end - e->fe_logical - skip;
	}
}

/* Bytes that are in both. */
static uint64_t overlap(const struct extents *x, const struct extents *y)
{
	uint64_t sum = 0;
	unsigned int i, j;

	for (i = 0; i < x->n; i++)
		for (j = 0; j < y->n; j++) {
			uint64_t a = x->at[i].start, b = y->at[j].start;
			uint64_t ae = a + x->at[i].len, be = b + y->at[j].len;
			uint64_t lo = a > b ? a : b, hi = ae < be ? ae : be;

			if (lo < hi)
				sum += hi - lo;
		}
	return sum;
}

static void setup(struct trial *t)
{
	if (victim >= 0) {
		/* XFS frees what an unlinked file had some time after the close. */
		if (ftruncate(victim, 0))
			race_invalid(t, "setup: victim: %s", strerror(errno));
		close(victim);
	}
	if (victim_direct >= 0)
		close(victim_direct);
	/* Freed blocks can be had again after the commit. */
	syncfs(t->dirfd);
	if (posix_fallocate(spare, 0, SPARE))
		race_invalid(t, "setup: no room for %lu spare bytes", SPARE);
	file_stamp(&file, t, 1, 0, file.size);
	get_extents(file.fd, BEFORE * PAGE, HOLE, &freed);
	if (!freed.n)
		race_invalid(t, "setup: FIEMAP knows no blocks of the file");
	victim = openat(t->dirfd, "victim", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	victim_direct = openat(t->dirfd, "victim", O_RDWR | O_DIRECT | O_CLOEXEC);
	unlinkat(t->dirfd, "victim", 0);
	if (victim < 0 || victim_direct < 0)
		race_invalid(t, "setup: victim: %s", strerror(errno));
	fsync(victim);
}

static void punch(struct trial *t)
{
	race_spin_us(prng_below(&t->rng_a, 200));
	if (fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BEFORE * PAGE, HOLE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

static void store(struct trial *t)
{
	long long stores = 0;

	race_meet(t);
	do {
		size_t page = BEFORE + prng_below(&t->rng_b, HOLE_PAGES);

		if (race_window_open())
			race_count_access();
		if (!race_store((uint64_t *)(file.map + page * PAGE + STORE_AT),
				stamp(7, t->number, page)))
			race_untested(t, "SIGBUS on a store");
		stores++;
	} while (!race_a_done());
	race_note(t, "stores", stores);
}

/*
 * Freed blocks can be had after the commit. This commits the punch, whose
 * transaction the new time stamp joins, and unlike syncfs() it writes none of
 * the hole's pages back.
 */
static void commit_punch(void)
{
	futimens(victim, NULL);
	fsync(victim);
}

/* All that is left goes to the victim, the freed blocks among it. */
static size_t write_victim(struct trial *t)
{
	size_t size = 0, len = CHUNK;
	int attempts = 3;

	commit_punch();
	while (size < 16 * ROOM) {
		ssize_t n;

		stamp_fill(chunk, len, 9, t->number, size);
		n = pwrite(victim_direct, chunk, len, size);
		if (n > 0 && n % PAGE == 0) {
			size += n;
		} else if (n < 0 && errno == ENOSPC && len > PAGE) {
			len /= 2;
		} else if (n < 0 && errno == ENOSPC && --attempts) {
			/* XFS lets go of busy extents a little after the commit. */
			commit_punch();
			len = CHUNK;
		} else if (n < 0 && errno == ENOSPC) {
			break;
		} else {
			race_untested(t, "victim: wrote %zd: %s", n, strerror(errno));
			break;
		}
	}
	if (fsync(victim))
		race_untested(t, "victim: fsync: %s", strerror(errno));
	return size;
}

/* Pages of the victim that do not hold what was written to them. */
static unsigned int bad_victim_pages(struct trial *t, size_t size, int fd, size_t *first)
{
	unsigned int bad = 0;
	size_t at, page, i;

	for (at = 0; at < size; at += CHUNK) {
		size_t len = size - at < CHUNK ? size - at : CHUNK;

		if (pread(fd, chunk, len, at) != (ssize_t)len) {
			race_untested(t, "victim: cannot read at %zu: %s", at, strerror(errno));
			return bad;
		}
		for (page = 0; page < len; page += PAGE)
			for (i = page; i < page + PAGE; i += 8)
				if (*(uint64_t *)(chunk + i) != stamp(9, t->number, at + i)) {
					if (!bad++)
						*first = at + i;
					break;
				}
	}
	return bad;
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
static void plant(struct trial *t, const char *kind, size_t victim_size)
{
	char byte;
	int fd = file.fd;
	off_t at = BEFORE * PAGE + prng_below(&t->rng, HOLE_PAGES) * PAGE;

	if (!t->plant || strcmp(t->plant, kind))
		return;
	if (!strcmp(kind, "stale")) {
		at += 1;
	} else if (!strcmp(kind, "lost")) {
		at += STORE_AT;
	} else {
		if (!victim_size)
			return;
		fd = victim;
		at = prng_below(&t->rng, victim_size);
	}
	if (pread(fd, &byte, 1, at) != 1)
		race_invalid(t, "plant: %s", strerror(errno));
	byte ^= 0x5a;
	if (pwrite(fd, &byte, 1, at) != 1)
		race_invalid(t, "plant: %s", strerror(errno));
}

static void check(struct trial *t)
{
	unsigned int bad, lost = 0;
	size_t size, i, first = 0;
	static struct extents got;
	uint64_t reused, wanted = 0;
	bool written;

	plant(t, "stale", 0);
	if (pread(file.fd, before, HOLE, BEFORE * PAGE) != (ssize_t)HOLE)
		race_untested(t, "check: pread: %s", strerror(errno));
	check_stale(t);

	size = write_victim(t);
	get_extents(victim, 0, size, &got);
	reused = overlap(&freed, &got);
	for (i = 0; i < freed.n; i++)
		wanted += freed.at[i].len;
	race_note(t, "victim_bytes", size);
	race_note(t, "reused_bytes", reused);
	plant(t, "victim", size);

	/* Room for the metadata of what is written back now. */
	if (ftruncate(spare, 0))
		race_untested(t, "check: spare: %s", strerror(errno));
	fsync(spare);
	plant(t, "lost", 0);
	written = file_drop_cache(&file, 0, file.size);
	if (!written)
		race_untested(t, "check: writing back: %s", strerror(errno));
	syncfs(t->dirfd);
	posix_fadvise(victim, 0, 0, POSIX_FADV_DONTNEED);

	bad = bad_victim_pages(t, size, victim_direct, &first);
	if (!bad)
		bad = bad_victim_pages(t, size, victim, &first);
	race_note(t, "victim_bad_pages", bad);
	if (bad)
		race_exposed(t, "victim: %u pages of another file were overwritten, first at offset %zu",
			     bad, first);

	if (pread(file.fd, after, HOLE, BEFORE * PAGE) != (ssize_t)HOLE)
		race_untested(t, "check: pread: %s", strerror(errno));
	for (i = 0; i < HOLE; i += PAGE)
		lost += !!memcmp(before + i + STORE_AT, after + i + STORE_AT, 8);
	race_note(t, "lost_stores", lost);
	/* What could not be written back is lost with an error, not by a race. */
	if (lost && written)
		race_exposed(t, "lost: %u stores that were there after the punch are gone after writeback",
			     lost);
	/* Where the damage would show in the victim, it must have the blocks. */
	if (!strcmp(t->fstype, "ext4") && reused < wanted / 2)
		race_untested(t, "the victim got %llu of %llu freed bytes",
			      (unsigned long long)reused, (unsigned long long)wanted);
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
