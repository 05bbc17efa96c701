// SPDX-License-Identifier: GPL-2.0
/*
 * A store while data journalling is turned on is lost.
 *
 *	A: ioctl(FS_IOC_SETFLAGS, +j)	B: store through mmap
 *	-----------------------------	---------------------
 *	write back all of the file
 *	  <window: ext4_journal_flag>
 *					fault, page_mkwrite: a delayed block is
 *					  reserved, the folio is dirty
 *	change the address space operations
 *	return
 *					writeback by operations that know of no
 *					  delayed blocks
 *
 * Symptom:	a store that could be read back is gone after writeback, or the
 *		journal complains.
 * Held by:	invalidate_lock, shared in page_mkwrite, exclusive around A.
 * Fixed by:	c8585c6fcaf2 (ext4, 4.7).
 * Systems:	ext4.
 * Switches:	journal-flag, or mkwrite.	Window: ext4_journal_flag.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	32
#define SIZE	(PAGES * PAGE)
#define TAG	22

static struct file file;
static bool stored[PAGES];

static bool journal(bool on)
{
	int flags;

	if (ioctl(file.fd, FS_IOC_GETFLAGS, &flags))
		return false;
	flags = on ? flags | FS_JOURNAL_DATA_FL : flags & ~FS_JOURNAL_DATA_FL;
	return !ioctl(file.fd, FS_IOC_SETFLAGS, &flags);
}

static void open_file(struct trial *t)
{
	file_open(&file, t, "journal-flag-store", SIZE);
	if (!journal(true) || !journal(false))
		race_skip("data journalling: %s", strerror(errno));
}

static void setup(struct trial *t)
{
	if (!journal(false))
		race_invalid(t, "setup: -j: %s", strerror(errno));
	/* One hole: a store must reserve a block. */
	if (ftruncate(file.fd, 0) || ftruncate(file.fd, SIZE) || fsync(file.fd))
		race_invalid(t, "setup: %s", strerror(errno));
	memset(stored, 0, sizeof(stored));
}

static void turn_on(struct trial *t)
{
	race_spin_us(prng_below(&t->rng_a, 200));
	if (!journal(true))
		race_invalid(t, "+j: %s", strerror(errno));
}

static void enter(struct trial *t)
{
	long long tries = 0;

	race_meet(t);
	do {
		size_t at = prng_below(&t->rng_b, PAGES);

		if (race_window_open())
			race_count_access();
		if (race_store((uint64_t *)(file.map + at * PAGE), stamp(TAG, t->number, at * PAGE)))
			stored[at] = true;
		else
			race_untested(t, "SIGBUS below EOF");
		tries++;
	} while (!race_a_done());
	race_note(t, "tries", tries);
}

static void check(struct trial *t)
{
	/* The last view is of the disk: out of the journal with it. */
	if (fsync(file.fd) || !journal(false))
		race_exposed(t, "writing back, -j: %s", strerror(errno));
	if (t->plant)
		file_plant(&file, t, 0, SIZE);
	file_check_stores(&file, t, TAG, 0, stored);
}

static const struct race race = {
	.name	= "journal-flag-store",
	.plants	= "cache disk",
	.open	= open_file,
	.setup	= setup,
	.a	= turn_on,
	.b	= enter,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
