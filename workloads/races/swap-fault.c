// SPDX-License-Identifier: GPL-2.0
/*
 * A page fault while two files exchange their blocks shows the wrong file.
 *
 *	A: EXT4_IOC_SWAP_BOOT,		B: load through mmap
 *	   XFS_IOC_SWAPEXT
 *	----------------------		--------------------
 *	write back, evict page cache
 *	  <window: ext4_swap, xfs_swap>
 *					fault: adds a folio, reads the
 *					  file's blocks of before
 *	exchange the blocks
 *	return
 *
 * Symptom:	pages of the file show what the other file has now, for as long as
 *		they are cached; O_DIRECT shows the right data.
 * Held by:	invalidate_lock, shared around B's fault, exclusive around A.
 * Fixed by:	a46c68a318b0 (ext4), 723cac484733 (xfs).
 * Systems:	ext4 (other file: the boot loader inode), XFS (any file).
 * Switches:	fault, or swap.		Windows: ext4_swap, xfs_swap.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/hole.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	64
#define SIZE	(PAGES * PAGE)
#define OURS	15	/* tags of the data that the file has before the swap, and after */
#define THEIRS	16

#define EXT4_IOC_SWAP_BOOT	_IO('f', 17)

/* From fs/xfs/libxfs/xfs_fs.h: the stat of the target must be what it is now. */
struct swapext_stat {
	uint64_t	ino;
	uint16_t	mode, nlink;
	uint32_t	uid, gid, rdev;
	int32_t		blksize;
	int64_t		size;
	struct { int64_t sec; int32_t nsec; int32_t pad; } atime, mtime, ctime;
	int64_t		blocks;
	uint32_t	xflags;
	int32_t		extsize, extents;
	uint32_t	gen;
	uint16_t	projid_lo, forkoff, projid_hi;
	uint8_t		pad[6];
	uint32_t	cowextsize;
	uint32_t	dmevmask;
	uint16_t	dmstate, aextents;
};

struct swapext {
	int64_t		version, target, donor;
	int64_t		offset, length;
	char		pad[16];
	struct swapext_stat stat;
};

#define XFS_IOC_SWAPEXT		_IOWR('X', 109, struct swapext)

static struct file file, donor;
static bool xfs;

static bool swap_boot(void)
{
	return !ioctl(file.fd, EXT4_IOC_SWAP_BOOT);
}

static bool swap_extents(void)
{
	struct swapext sx = {
		.target	= file.fd,
		.donor	= donor.fd,
		.length	= SIZE,
	};
	struct stat st;

	if (fstat(file.fd, &st))
		return false;
	sx.stat.ino = st.st_ino;
	sx.stat.mtime.sec = st.st_mtim.tv_sec;
	sx.stat.mtime.nsec = st.st_mtim.tv_nsec;
	sx.stat.ctime.sec = st.st_ctim.tv_sec;
	sx.stat.ctime.nsec = st.st_ctim.tv_nsec;
	return !ioctl(file.fd, XFS_IOC_SWAPEXT, &sx);
}

static void open_files(struct trial *t)
{
	xfs = !strcmp(t->fstype, "xfs");
	file_open(&file, t, "swap-fault", SIZE);
	if (xfs)
		file_open(&donor, t, "swap-fault-donor", SIZE);
	file_stamp(&file, t, THEIRS, 0, SIZE);
	/* The boot loader inode begins empty: it gets the first data. */
	if (!xfs && (!swap_boot() || ftruncate(file.fd, SIZE)))
		race_skip("swap with the boot loader: %s", strerror(errno));
}

static void setup(struct trial *t)
{
	/* Each side anew, so that what is stale is of this trial. */
	if (xfs) {
		file_stamp(&donor, t, THEIRS, 0, SIZE);
	} else {
		file_stamp(&file, t, THEIRS, 0, SIZE);
		if (!swap_boot())
			race_invalid(t, "setup: swap: %s", strerror(errno));
	}
	file_stamp(&file, t, OURS, 0, SIZE);
	/* Inode timestamps that the ioctl compares must not change any more. */
	if (fsync(file.fd))
		race_invalid(t, "setup: fsync: %s", strerror(errno));
}

static void swap(struct trial *t)
{
	race_stagger(t, 200);
	if (!(xfs ? swap_extents() : swap_boot()))
		race_invalid(t, "swap: %s", strerror(errno));
}

static void enter_once(struct trial *t)
{
	if (!way_fault(&file, prng_below(&t->rng_b, PAGES), PAGES))
		race_untested(t, "SIGBUS below EOF");
}

static void enter(struct trial *t)
{
	race_until_done(t, "tries", enter_once);
}

static bool right(struct trial *t, size_t at, uint64_t got)
{
	return got == stamp(THEIRS, t->number, at);
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, 0, SIZE);
	file_check_words(&file, t, "the file", right);
}

static const struct race race = {
	.name	= "swap-fault",
	.plants	= "cache disk",
	.open	= open_files,
	.setup	= setup,
	.a	= swap,
	.b	= enter,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
