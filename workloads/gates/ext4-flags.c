// SPDX-License-Identifier: GPL-2.0
/*
 * ext4's two ioctls that lock a whole file against faults, under faults.
 *
 * --mode swap-boot: EXT4_IOC_SWAP_BOOT exchanges the file's blocks with those of
 * the boot loader's inode.
 *
 *	A: swap					B: faults and preads
 *	-------					--------------------
 *	lock the whole file, exclusive		lock a page, shared
 *	write back, evict everything
 *	exchange extents and sizes
 *
 * Oracle: each word that is ever read is the one or the other file's word of
 * that offset; after an even number of swaps the file is what it was.
 *
 * --mode journal-flag: chattr +j, chattr -j.
 *
 *	A: FS_IOC_SETFLAGS			B: stores and fsyncs
 *	------------------			--------------------
 *	lock the whole file, exclusive		page_mkwrite: lock a page, shared; start
 *	write back				  a transaction below it
 *	stop the journal, change the flag
 *
 * Lock order: A waits for the journal with the lock held; B must not have a
 * transaction open while it waits for the lock.
 *
 * Oracle: every acknowledged store is there, in the cache and on the disk.
 * Bound: 60 s a trial. Systems: ext4.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/oracle.h"
#include "lib/prng.h"

#define EXT4_IOC_SWAP_BOOT	_IO('f', 17)
#define JOURNAL_DATA		0x00004000	/* FS_JOURNAL_DATA_FL */

#define PAGES	32
#define SIZE	(PAGES * PAGE)
#define ROUNDS	20	/* at least; even: the file is the same again at the end */
#define ACCESSES 50	/* of B, at least */

static struct file file;
static struct race race;
static bool swaps;
static uint64_t stored[PAGES];
static atomic_uint accesses;

static bool swap(struct trial *t)
{
	if (!ioctl(file.fd, EXT4_IOC_SWAP_BOOT))
		return true;
	race_invalid(t, "EXT4_IOC_SWAP_BOOT: %s", strerror(errno));
	return false;
}

static bool journal(struct trial *t, bool on)
{
	int flags;

	if (ioctl(file.fd, FS_IOC_GETFLAGS, &flags))
		flags = 0;
	flags = on ? flags | JOURNAL_DATA : flags & ~JOURNAL_DATA;
	if (!ioctl(file.fd, FS_IOC_SETFLAGS, &flags))
		return true;
	race_invalid(t, "chattr %cj: %s", on ? '+' : '-', strerror(errno));
	return false;
}

static void open_file(struct trial *t)
{
	const char *mode = gate_option("mode", "swap-boot");

	if (strcmp(t->fstype, "ext4"))
		race_skip("%s has no such ioctl", t->fstype);
	swaps = !strcmp(mode, "swap-boot");
	if (!swaps && strcmp(mode, "journal-flag"))
		race_skip("--mode %s: not one of: swap-boot journal-flag", mode);
	race.name = swaps ? "swap-boot" : "journal-flag";
	file_open(&file, t, race.name, SIZE);
}

static void setup(struct trial *t)
{
	unsigned int i;

	atomic_store(&accesses, 0);
	if (!swaps) {
		journal(t, false);
		file_stamp(&file, t, 14, 0, SIZE);
		for (i = 0; i < PAGES; i++)
			stored[i] = stamp(14, t->number, i * PAGE);
		return;
	}
	/* The boot loader's inode gets tag 15, of full size; the file tag 14. */
	if (ftruncate(file.fd, SIZE))
		race_invalid(t, "setup: %s", strerror(errno));
	file_stamp(&file, t, 15, 0, SIZE);
	if (!swap(t))
		return;
	if (ftruncate(file.fd, SIZE))
		race_invalid(t, "setup: %s", strerror(errno));
	file_stamp(&file, t, 14, 0, SIZE);
}

static void toggle(struct trial *t)
{
	unsigned int i;

	/* Each waits for the other to get somewhere: nobody may starve. */
	for (i = 0; i < ROUNDS || i % 2 || atomic_load(&accesses) < ACCESSES; i++)
		if (!(swaps ? swap(t) : journal(t, !(i % 2))))
			return;
	race_note(t, "changes", i);
}

/* Is @word one of the two that may stand at @offset? */
static bool known(struct trial *t, uint64_t word, size_t offset)
{
	return word == stamp(14, t->number, offset) || word == stamp(15, t->number, offset);
}

static void look(struct trial *t, uint64_t *rng)
{
	size_t at = prng_below(rng, SIZE / sizeof(uint64_t)) * sizeof(uint64_t);
	uint64_t word;

	madvise(file.map, SIZE, MADV_DONTNEED);
	if (!race_copy(&word, file.map + at, sizeof(word)))
		race_exposed(t, "SIGBUS below the end of both files");
	else if (!known(t, word, at))
		race_exposed(t, "mmap: a word at %zu of neither file: %016llx", at,
			     (unsigned long long)word);
	if (pread(file.fd, &word, sizeof(word), at) != sizeof(word))
		race_exposed(t, "pread: %s", strerror(errno));
	else if (!known(t, word, at))
		race_exposed(t, "pread: a word at %zu of neither file: %016llx", at,
			     (unsigned long long)word);
}

static void store(struct trial *t, uint64_t *rng)
{
	size_t page = prng_below(rng, PAGES);
	uint64_t value = prng_next(rng) | 1;

	if (!race_store((uint64_t *)(file.map + page * PAGE), value))
		race_exposed(t, "SIGBUS below the end of the file");
	stored[page] = value;
	if (!(atomic_load(&accesses) % 16) && fsync(file.fd))
		race_exposed(t, "fsync: %s", strerror(errno));
}

static void faults(struct trial *t)
{
	gate_plant_stuck(t);
	while (!race_a_done()) {
		if (swaps)
			look(t, &t->rng_b);
		else
			store(t, &t->rng_b);
		atomic_fetch_add(&accesses, 1);
	}
	race_note(t, "accesses", atomic_load(&accesses));
}

static void check_view(struct trial *t, const char *view, const void *seen)
{
	const char *got = seen;
	size_t at;

	for (at = 0; at < SIZE; at += sizeof(uint64_t)) {
		uint64_t word = *(const uint64_t *)(got + at), want = stamp(14, t->number, at);

		if (!swaps && !(at % PAGE))
			want = stored[at / PAGE];
		if (word == want)
			continue;
		race_exposed(t, "%s: %016llx at %zu, not %016llx", view, (unsigned long long)word,
			     at, (unsigned long long)want);
		return;
	}
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, 0, SIZE);
	file_check_views(&file, t, check_view);
}

static struct race race = {
	.name	= "ext4-flags",
	.plants	= "cache disk " PLANT_STUCK,
	.open	= open_file,
	.setup	= setup,
	.a	= toggle,
	.b	= faults,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "mode", 60, argc, argv);
}
