// SPDX-License-Identifier: GPL-2.0
/*
 * A load below a truncate remembers extents that the truncate is about to free.
 *
 *	A: ftruncate(smaller)		B: load through mmap, below the new size
 *	---------------------		----------------------------------------
 *	evict page cache beyond new size
 *	  <window: ext4_truncate>
 *	lock i_data_sem, forget what is
 *	  cached of the extents beyond
 *	remove extents, last leaf first
 *					page not in cache, extent not known:
 *					  wait for i_data_sem
 *	transaction is to be committed
 *	  (see watch()): drop i_data_sem
 *					read the leaf in which the file will end
 *					  and cache all extents in it
 *	lock i_data_sem, go on: remove
 *	  the extents of that leaf, too
 *	return
 *	(another file gets the blocks)
 *	ftruncate(larger): shows the blocks
 *	write(): goes to the blocks
 *
 * Symptoms, in the order they are looked for:
 *	stale	the regrown range shows what others have in the freed blocks
 *	victim	a write to the range went to them: another file is overwritten.
 *		e2fsck finds nothing, as no extent on the disk is wrong.
 *	lost	that write is gone when the file is read by the extents it has
 * Held by:	invalidate_lock of all of the file, shared around B's page, exclusive
 *		around A. Or of a range, if A forgets what is cached again each time
 *		that it has dropped i_data_sem.
 * Fixed by:	the first mapping-range-lock for 6.12 had this hole. FIEMAP and
 *		writeback take no part in the lock, and have it on a stock 6.12.
 * Systems:	ext4: nobody else has an extent status tree. Any block size, but with
 *		small blocks fewer extents make the leaves that it takes.
 * Switches:	fault.			Window: ext4_truncate.
 *
 * A trial counts if A was seen to let go of i_data_sem: B came back before the last
 * extent was removed, or a commit that waited for A's transaction ended before A did.
 */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"
#include "lib/victim.h"
#include "lib/volume.h"

#define ROOM		(1ul << 20)	/* left free by the filler */
/*
 * Of the extent tree. Each that goes takes a record that the block is revoked, and a
 * transaction begins with room for 8 (ext4_trans_default_revoke_credits()): beyond
 * that it has to be extended, which is what watch() keeps A from.
 */
#define LEAVES		13
#define STORES		16		/* pages of the range that are written to in the end */
/* fs/ext4/ext4.h */
#define EXT4_IOC_CLEAR_ES_CACHE	_IO('f', 40)
#define EXT4_IOC_CHECKPOINT	_IOW('f', 43, uint32_t)

static struct file file;
static size_t block;			/* bytes */
static size_t keep;			/* bytes that stay: to the middle of a leaf */
static size_t leaf_end;			/* where that leaf's extents end */
static char *pattern, *seen;
static int commits = -1;		/* the file that makes watch()'s transactions */
static int device;			/* the block device, to drop leaves from its cache */

/* st_blocks: before A, when B came back, after A. */
static blkcnt_t blocks_before, blocks_loaded, blocks_after;
static unsigned int restarts;		/* commits within A's removal */
static sem_t removing;			/* B has seen blocks go: to watch() */

/* Every second block, so that no two are one extent. */
static void write_blocks(struct trial *t)
{
	size_t at;

	for (at = 0; at < file.size; at += 2 * block) {
		stamp_fill(pattern, block, 1, t->number, at);
		if (pwrite(file.fd, pattern, block, at) != (ssize_t)block) {
			race_invalid(t, "setup: pwrite: %s", strerror(errno));
			return;
		}
	}
}

/* Neither leaves nor extents of the file are in memory, as after memory pressure. */
static void forget_extents(struct trial *t)
{
	uint32_t flags = 0;

	if (!file_drop_cache(&file, 0, file.size))
		race_invalid(t, "setup: fdatasync: %s", strerror(errno));
	/* A leaf stays in memory as long as the journal has it to write. */
	if (ioctl(t->dirfd, EXT4_IOC_CHECKPOINT, &flags))
		race_invalid(t, "setup: EXT4_IOC_CHECKPOINT: %s", strerror(errno));
	if (fsync(device) || posix_fadvise(device, 0, 0, POSIX_FADV_DONTNEED))
		race_invalid(t, "setup: cannot drop the cache of the device: %s", strerror(errno));
	if (ioctl(file.fd, EXT4_IOC_CLEAR_ES_CACHE))
		race_invalid(t, "setup: EXT4_IOC_CLEAR_ES_CACHE: %s", strerror(errno));
}

static void open_files(struct trial *t)
{
	struct volume volume;
	struct statvfs fs;
	size_t leaf;

	if (fstatvfs(t->dirfd, &fs))
		race_skip("%s: %s", t->dir, strerror(errno));
	block = fs.f_bsize;
	/* Extents of 12 bytes behind a header of 12, and a checksum of 4. */
	leaf = (block - 16) / 12;
	/* The file will end in the middle of the second leaf. */
	keep = (leaf + leaf / 2) * 2 * block & ~(PAGE - 1);
	leaf_end = 2 * leaf * 2 * block & ~(PAGE - 1);
	if (!volume_find(&volume, t->dir))
		race_skip("nothing is mounted on %s", t->dir);
	device = open(volume.device, O_RDONLY | O_CLOEXEC);
	if (device < 0)
		race_skip("%s: %s", volume.device, strerror(errno));
	commits = openat(t->dirfd, "commits", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (commits < 0)
		race_skip("cannot create %s/commits: %s", t->dir, strerror(errno));
	pattern = aligned_buffer(block > PAGE ? block : PAGE);
	seen = aligned_buffer(PAGE);
	sem_init(&removing, 0, 0);
	file_open(&file, t, "truncate-cached-extents",
		  (LEAVES * leaf * 2 * block + PAGE - 1) & ~(PAGE - 1));
	/* Its blocks exist before the file system is filled. */
	write_blocks(t);
	fsync(file.fd);
	victim_fill(t, ROOM);
}

static blkcnt_t blocks(struct trial *t)
{
	struct stat st = { 0 };

	if (fstat(file.fd, &st))
		race_invalid(t, "fstat: %s", strerror(errno));
	return st.st_blocks;
}

static void setup(struct trial *t)
{

	/* What an exposed trial left in the extent status tree goes with the extents. */
	if (ftruncate(file.fd, 0) || ftruncate(file.fd, file.size))
		race_invalid(t, "setup: ftruncate: %s", strerror(errno));
	victim_drop(t);
	write_blocks(t);
	if (fsync(file.fd))
		race_invalid(t, "setup: fsync: %s", strerror(errno));
	victim_create(t, file.fd, keep, leaf_end - keep);
	forget_extents(t);
	blocks_before = blocks(t);
	blocks_loaded = blocks_after = 0;
	restarts = 0;
	while (!sem_trywait(&removing))
		;
}

static void shrink(struct trial *t)
{
	if (ftruncate(file.fd, keep))
		race_invalid(t, "ftruncate: %s", strerror(errno));
	blocks_after = blocks(t);
}

/* Waits until A has removed some extents: it has i_data_sem then. */
static bool wait_for_removal(struct trial *t)
{
	while (!race_a_done()) {
		if (blocks(t) < blocks_before)
			return true;
		race_spin_us(20);
	}
	return false;
}

static void load(struct trial *t)
{
	/* The leaf's own part of what stays: its second half goes. */
	size_t leaf_start = keep - (leaf_end - keep);
	size_t page = leaf_start / PAGE + 1;

	page += prng_below(&t->rng_b, keep / PAGE - page);
	race_meet(t);
	if (race_window_open())
		race_count_access();
	if (!wait_for_removal(t)) {
		race_untested(t, "the truncate was over before B saw it");
		return;
	}
	sem_post(&removing);
	if (!race_touch(file.map + page * PAGE))
		race_untested(t, "SIGBUS on a load");
	blocks_loaded = blocks(t);
	race_note(t, "page", page);
}

/*
 * Asks for a commit as soon as A is at its removal. A transaction whose commit has
 * begun cannot be extended: A has to restart, and drops i_data_sem for that.
 */
static void watch(struct trial *t)
{
	struct timespec soon;
	unsigned int n = 0;

	do {
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_nsec += 1000 * 1000;
		soon.tv_sec += soon.tv_nsec / 1000000000;
		soon.tv_nsec %= 1000000000;
		if (race_a_done())
			return;
	} while (sem_timedwait(&removing, &soon));
	while (!race_a_done()) {
		/* A change of the inode, and no block of the disk. */
		if (fchmod(commits, ++n % 2 ? 0640 : 0600) || fsync(commits)) {
			race_untested(t, "cannot commit: %s", strerror(errno));
			return;
		}
		restarts += !race_a_done();
	}
}

/* Ways to make the oracle fire; each goes through the file system. */
static bool plant(struct trial *t, const char *kind, off_t at)
{
	char byte;

	if (!t->plant || strcmp(t->plant, kind))
		return false;
	if (pread(file.fd, &byte, 1, at) != 1)
		race_invalid(t, "plant: %s", strerror(errno));
	byte ^= 0x5a;
	if (pwrite(file.fd, &byte, 1, at) != 1)
		race_invalid(t, "plant: %s", strerror(errno));
	return true;
}

/* Pages of the range, far from each other; each begins with a block that had an extent. */
static size_t written_page(unsigned int n)
{
	size_t unit = 2 * block > PAGE ? 2 * block : PAGE;

	return keep + n * ((leaf_end - keep) / STORES / unit * unit);
}

static void write_range(struct trial *t)
{
	unsigned int n;

	for (n = 0; n < STORES; n++) {
		size_t at = written_page(n);

		stamp_fill(pattern, PAGE, 8, t->number, at);
		if (pwrite(file.fd, pattern, PAGE, at) != (ssize_t)PAGE)
			race_untested(t, "check: pwrite: %s", strerror(errno));
	}
}

/* By the extents that are on the disk, and no others. */
static void check_lost(struct trial *t)
{
	unsigned int lost = 0, n;

	if (ioctl(file.fd, EXT4_IOC_CLEAR_ES_CACHE) || !file_drop_cache(&file, 0, file.size)) {
		race_untested(t, "check: cannot drop caches: %s", strerror(errno));
		return;
	}
	for (n = 0; n < STORES; n++) {
		size_t at = written_page(n);

		stamp_fill(pattern, PAGE, 8, t->number, at);
		if (pread(file.fd, seen, PAGE, at) != (ssize_t)PAGE)
			race_untested(t, "check: pread: %s", strerror(errno));
		lost += !!memcmp(seen, pattern, PAGE);
	}
	race_note(t, "lost_pages", lost);
	if (lost)
		race_exposed(t, "lost: %u pages that were written after the truncate are gone", lost);
}

static void check(struct trial *t)
{
	bool came_in = blocks_loaded > blocks_after;

	race_note(t, "came_in", came_in);
	race_note(t, "restarts", restarts);
	if (!came_in && !restarts)
		race_untested(t, "A was not seen to let go of i_data_sem");
	if (ftruncate(file.fd, file.size)) {
		race_invalid(t, "grow: %s", strerror(errno));
		return;
	}
	victim_write(t);
	victim_give_room(t);
	plant(t, "stale", keep + prng_below(&t->rng, leaf_end - keep));
	file_check_zero(&file, t, keep, leaf_end - keep);
	write_range(t);
	if (t->plant && !strcmp(t->plant, "victim"))
		victim_plant(t);
	plant(t, "lost", written_page(prng_below(&t->rng, STORES)));
	if (!file_drop_cache(&file, 0, file.size))
		race_untested(t, "check: writing back: %s", strerror(errno));
	syncfs(t->dirfd);
	victim_check(t, true);
	check_lost(t);
}

static const struct race race = {
	.name	= "truncate-cached-extents",
	.plants	= "stale victim lost",
	.open	= open_files,
	.setup	= setup,
	.a	= shrink,
	.b	= load,
	.watch	= watch,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
