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

#define BEFORE	8	/* pages left alone at either end */
#define HOLE	48	/* pages that go, of a trial alone ... */
#define SHARE	2	/* ... and of one that shares its set-up */
#define STORE_AT	512	/* way_store() changes a word here in a page ... */
#define STORED	21		/* ... to a stamp with this tag */
#define BATCH	4	/* pages that a way in asks for, if it can ask for more than one */

static struct file file;
static int mode;	/* of fallocate(2) */
static way_in *way;

static void open_file(struct trial *t);
static void setup(struct trial *t);
static void remove_blocks(struct trial *t);
static void enter(struct trial *t);
static void map_pages(struct trial *t);
static void check(struct trial *t);

static struct race race = {
	.plants	= "cache disk",
	.batch	= MAX_BATCH,
	.begin	= BEFORE,
	.open	= open_file,
	.setup	= setup,
	.a	= remove_blocks,
	.b	= enter,
	.warm	= map_pages,
	.check	= check,
};

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

bool way_reclaim(struct file *f, size_t page, size_t end)
{
	if (madvise(f->map + page * PAGE, PAGE, MADV_PAGEOUT))
		return false;
	return way_fault(f, page, end);
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
	race.end = BEFORE + (t->batch > 1 ? SHARE * t->batch : HOLE);
	file_open(&file, t, race.name, (race.end + BEFORE) * PAGE);
}

static void setup(struct trial *t)
{
	/* B, under way, meets what is there: until A takes it away that costs nothing. */
	if (t->warm)
		file_stamp_cached(&file, t, 1, 0, file.size);
	else
		file_stamp(&file, t, 1, 0, file.size);
}

static void remove_blocks(struct trial *t)
{
	size_t from, to;

	race_slice(t, &from, &to);
	race_stagger(t, 200);
	if (fallocate(file.fd, mode, from * PAGE, (to - from) * PAGE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

static void map_pages(struct trial *t)
{
	size_t page, from, to;

	race_slice(t, &from, &to);
	for (page = from; page < to; page++)
		race_touch(file.map + page * PAGE);
}

static void enter_once(struct trial *t)
{
	size_t page, from, to;

	race_slice(t, &from, &to);
	page = from + prng_below(&t->rng_b, to - from);
	if (!way(&file, page, to))
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
	if (page < race.begin || page >= race.end || !got)
		return true;
	return at % PAGE == STORE_AT && got == stamp(STORED, 0, page);
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, race.begin * PAGE, (race.end - race.begin) * PAGE);
	if (way == way_store)
		file_check_words(&file, t, "the range", right);
	else
		file_check_zero(&file, t, race.begin * PAGE, (race.end - race.begin) * PAGE);
}

int hole_main(const char *race_name, int fallocate_mode, way_in *way_for_b, int argc, char **argv)
{
	mode = fallocate_mode;
	way = way_for_b;
	race.name = race_name;
	return race_main(&race, argc, argv);
}
