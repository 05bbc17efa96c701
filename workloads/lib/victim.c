// SPDX-License-Identifier: GPL-2.0
/* Another file that gets the blocks of a hole. */
#include "lib/victim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"

#define SPARE		(256 * 1024ul)		/* for metadata of the last writeback */
#define CHUNK		(64 * 1024ul)		/* of the victim's writes */
#define MAX_SIZE	(16ul << 20)
#define MAX_EXTENTS	2048

struct extents {
	unsigned int n;
	struct { uint64_t start, len; } at[MAX_EXTENTS];	/* bytes on the device */
};

static int filler, spare;
static int victim = -1, victim_direct = -1;
static char *chunk;
static size_t size;			/* of the victim */
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

void victim_fill(struct trial *t, size_t room)
{
	struct stat st;
	off_t filled = 0;
	size_t step;

	chunk = aligned_buffer(CHUNK);
	release_reserve(t);
	spare = nameless(t, "spare", 0);
	if (posix_fallocate(spare, 0, SPARE))
		race_skip("no room for %lu spare bytes in %s", SPARE, t->dir);
	filler = nameless(t, "filler", 0);
	for (step = 64ul << 20; step >= PAGE; step /= 2)
		while (!posix_fallocate(filler, filled, step))
			filled += step;
	if (fstat(filler, &st) || st.st_size < (off_t)room ||
	    ftruncate(filler, st.st_size - room))
		race_skip("cannot make room after filling %s: %s", t->dir, strerror(errno));
	syncfs(t->dirfd);
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

void victim_drop(struct trial *t)
{
	if (victim >= 0) {
		/* XFS frees what an unlinked file had some time after the close. */
		if (ftruncate(victim, 0))
			race_invalid(t, "setup: victim: %s", strerror(errno));
		close(victim);
	}
	if (victim_direct >= 0)
		close(victim_direct);
	victim = victim_direct = -1;
	/* Freed blocks can be had again after the commit. */
	syncfs(t->dirfd);
	if (posix_fallocate(spare, 0, SPARE))
		race_invalid(t, "setup: no room for %lu spare bytes", SPARE);
}

void victim_create(struct trial *t, int fd, uint64_t start, uint64_t len)
{
	size = 0;
	get_extents(fd, start, len, &freed);
	if (!freed.n)
		race_invalid(t, "setup: FIEMAP knows no blocks of the file");
	victim = openat(t->dirfd, "victim", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	victim_direct = openat(t->dirfd, "victim", O_RDWR | O_DIRECT | O_CLOEXEC);
	unlinkat(t->dirfd, "victim", 0);
	if (victim < 0 || victim_direct < 0)
		race_invalid(t, "setup: victim: %s", strerror(errno));
	fsync(victim);
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

void victim_write(struct trial *t)
{
	size_t len = CHUNK;
	int attempts = 3;

	commit_punch();
	while (size < MAX_SIZE) {
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
}

void victim_give_room(struct trial *t)
{
	if (ftruncate(spare, 0))
		race_untested(t, "check: spare: %s", strerror(errno));
	fsync(spare);
}

/* Pages of the victim that do not hold what was written to them. */
static unsigned int bad_pages(struct trial *t, int fd, size_t *first)
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

void victim_check(struct trial *t, bool must_reuse)
{
	static struct extents got;
	uint64_t reused, wanted = 0;
	unsigned int bad, i;
	size_t first = 0;

	get_extents(victim, 0, size, &got);
	reused = overlap(&freed, &got);
	for (i = 0; i < freed.n; i++)
		wanted += freed.at[i].len;
	race_note(t, "victim_bytes", size);
	race_note(t, "reused_bytes", reused);

	posix_fadvise(victim, 0, 0, POSIX_FADV_DONTNEED);
	bad = bad_pages(t, victim_direct, &first);
	if (!bad)
		bad = bad_pages(t, victim, &first);
	race_note(t, "victim_bad_pages", bad);
	if (bad)
		race_exposed(t, "victim: %u pages of another file were overwritten, first at offset %zu",
			     bad, first);
	if (must_reuse && reused < wanted / 2)
		race_untested(t, "the victim got %llu of %llu freed bytes",
			      (unsigned long long)reused, (unsigned long long)wanted);
}

void victim_plant(struct trial *t)
{
	off_t at;
	char byte;

	if (!size) {
		race_invalid(t, "plant: the victim is empty");
		return;
	}
	at = prng_below(&t->rng, size);
	if (pread(victim, &byte, 1, at) != 1)
		race_invalid(t, "plant: %s", strerror(errno));
	byte ^= 0x5a;
	if (pwrite(victim, &byte, 1, at) != 1 || fsync(victim))
		race_invalid(t, "plant: %s", strerror(errno));
}
