// SPDX-License-Identifier: GPL-2.0
/* Blocks go while somebody brings pages back. See hole.h. */
#include "lib/hole.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "lib/prng.h"
#include "lib/race.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif

#define PAGES	64
#define BEFORE	8	/* pages left alone at either end */
#define AFTER	(PAGES - BEFORE)
#define HOLE	((AFTER - BEFORE) * PAGE)
#define STORE_AT	512	/* way_store() changes a word here in a page ... */
#define STORED	21		/* ... to a stamp with this tag */
#define BATCH	4	/* pages that a way in asks for, if it can ask for more than one */

static struct file file;
static const char *name;
static int mode;	/* of fallocate(2) */
static way_in *way;

static size_t batch(size_t page, size_t end)
{
	return (end - page < BATCH ? end - page : BATCH) * PAGE;
}

bool way_fault(struct file *f, size_t page, size_t end)
{
	(void)end;
	errno = EFAULT;
	return race_touch(f->map + page * PAGE);
}

bool way_store(struct file *f, size_t page, size_t end)
{
	(void)end;
	errno = EFAULT;
	return race_store((uint64_t *)(f->map + page * PAGE + STORE_AT), stamp(STORED, 0, page));
}

bool way_populate(struct file *f, size_t page, size_t end)
{
	return !madvise(f->map + page * PAGE, batch(page, end), MADV_POPULATE_READ);
}

bool way_willneed(struct file *f, size_t page, size_t end)
{
	return !madvise(f->map + page * PAGE, batch(page, end), MADV_WILLNEED);
}

bool way_fadvise(struct file *f, size_t page, size_t end)
{
	errno = posix_fadvise(f->fd, page * PAGE, batch(page, end), POSIX_FADV_WILLNEED);
	return !errno;
}

bool way_readahead(struct file *f, size_t page, size_t end)
{
	return !readahead(f->fd, page * PAGE, batch(page, end));
}

bool way_pread(struct file *f, size_t page, size_t end)
{
	static _Thread_local char buf[PAGE];

	(void)end;
	return pread(f->fd, buf, PAGE, page * PAGE) == (ssize_t)PAGE;
}

bool way_sendfile(struct file *f, size_t page, size_t end)
{
	static _Thread_local int null = -1;
	off_t at = page * PAGE;

	(void)end;
	if (null < 0)
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	return sendfile(null, f->fd, &at, PAGE) == (ssize_t)PAGE;
}

static void open_file(struct trial *t)
{
	file_open(&file, t, name, PAGES * PAGE);
}

static void setup(struct trial *t)
{
	file_stamp(&file, t, 1, 0, file.size);
}

static void remove_blocks(struct trial *t)
{
	/* B is under way first, more or less. */
	race_spin_us(prng_below(&t->rng_a, 200));
	if (fallocate(file.fd, mode, BEFORE * PAGE, HOLE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

static void enter_once(struct trial *t)
{
	size_t page = BEFORE + prng_below(&t->rng_b, AFTER - BEFORE);

	if (!way(&file, page, AFTER))
		race_untested(t, "B: %s", strerror(errno));
}

static void enter(struct trial *t)
{
	race_until_done(t, "tries", enter_once);
}

/* Zeroes in the range, and there the word that B stored. */
static bool right(struct trial *t, size_t at, uint64_t got)
{
	size_t page = at / PAGE;

	(void)t;
	if (page < BEFORE || page >= AFTER || !got)
		return true;
	return at % PAGE == STORE_AT && got == stamp(STORED, 0, page);
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, BEFORE * PAGE, HOLE);
	if (way == way_store)
		file_check_words(&file, t, "the range", right);
	else
		file_check_zero(&file, t, BEFORE * PAGE, HOLE);
}

int hole_main(const char *race_name, int fallocate_mode, way_in *way_for_b, int argc, char **argv)
{
	static struct race race = {
		.plants	= "cache disk",
		.open	= open_file,
		.setup	= setup,
		.a	= remove_blocks,
		.b	= enter,
		.check	= check,
	};

	name = race_name;
	mode = fallocate_mode;
	way = way_for_b;
	race.name = name;
	return race_main(&race, argc, argv);
}
