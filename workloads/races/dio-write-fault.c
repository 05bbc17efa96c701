// SPDX-License-Identifier: GPL-2.0
/*
 * A store through mmap during a direct write undoes the direct write.
 *
 *	A: pwrite(O_DIRECT), or io_submit()	B: store of 8 bytes through mmap
 *	-----------------------------------	--------------------------------
 *	write back and evict the range
 *	  <window: iomap_dio>
 *						fault: adds a folio, reads the
 *						  old blocks
 *						page_mkwrite: folio is dirty
 *	submit, complete
 *	evict again: -EBUSY, the folio is dirty
 *	  ("Page cache invalidation failure on
 *	  direct I/O", fsync will say EIO)
 *	return
 *						fsync: the folio is written back,
 *						  old contents and all
 *
 * Symptom:	bytes of the direct write that nobody else stored to are gone: on
 *		disk, in the page cache, everywhere. Which of the two last wrote
 *		the 8 bytes that B stores is free.
 * Held by:	nothing on stock, which only says so in the log; there this race
 *		must fire. By a lock of the range, exclusive from before the
 *		eviction until completion, that faults take too.
 * Fixed by:	nobody yet. 5a9d929d6e13 (4.15) made it known: log line and EIO.
 * Systems:	ext4, XFS; any block size.
 * Switches:	none.			Window: iomap_dio.
 *
 * Every second trial writes with Linux AIO: there the request completes after
 * the submitting call has returned, and whoever keeps B out must do so until
 * then.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES		32
#define MIN_PAGES	2		/* of a direct write */
#define MAX_PAGES	16
#define WORDS		(PAGE / sizeof(uint64_t))

static struct file file;
static uint64_t *direct;		/* what A writes */
static uint64_t *seen;			/* what the oracle reads */
static aio_context_t aio;

/* This trial's direct write, in pages, and where in a page B stores. */
static unsigned int first, pages, word;
static bool async, stored[PAGES];

static void open_file(struct trial *t)
{
	file_open(&file, t, "dio-write-fault", PAGES * PAGE);
	direct = aligned_buffer(MAX_PAGES * PAGE);
	seen = aligned_buffer(PAGES * PAGE);
	if (syscall(SYS_io_setup, 1, &aio))
		race_skip("io_setup: %s", strerror(errno));
}

static void setup(struct trial *t)
{
	/* Cold: the fault must read what is on disk. */
	file_stamp(&file, t, 1, 0, file.size);
	pages = MIN_PAGES + prng_below(&t->rng, MAX_PAGES - MIN_PAGES + 1);
	first = prng_below(&t->rng, PAGES - pages + 1);
	word = prng_below(&t->rng, WORDS);
	async = t->number % 2 == 0;
	memset(stored, 0, sizeof(stored));
	stamp_fill(direct, pages * PAGE, 2, t->number, first * PAGE);
}

/* Submits with Linux AIO and waits. Returns what pwrite() would, with errno. */
static ssize_t aio_write(size_t len, off_t offset)
{
	struct iocb cb = {
		.aio_lio_opcode	= IOCB_CMD_PWRITE,
		.aio_fildes	= file.direct,
		.aio_buf	= (uintptr_t)direct,
		.aio_nbytes	= len,
		.aio_offset	= offset,
	}, *list = &cb;
	struct io_event event;
	long n;

	if (syscall(SYS_io_submit, aio, 1, &list) != 1)
		return -1;
	do
		n = syscall(SYS_io_getevents, aio, 1, 1, &event, NULL);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		return -1;
	if (event.res < 0) {
		errno = -event.res;
		return -1;
	}
	return event.res;
}

static void write_direct(struct trial *t)
{
	size_t len = pages * PAGE;
	ssize_t n;

	race_stagger(t, 200);
	n = async ? aio_write(len, first * PAGE) : pwrite(file.direct, direct, len, first * PAGE);
	if (n != (ssize_t)len)
		race_invalid(t, "direct write: wrote %zd of %zu bytes: %s", n, len,
			     strerror(errno));
}

static void store_once(struct trial *t)
{
	unsigned int page = first + prng_below(&t->rng_b, pages);
	uint64_t *at = (uint64_t *)(file.map + page * PAGE) + word;

	/* A load first: the folio comes back clean, and is dirtied later. */
	if (prng_below(&t->rng_b, 2) && !race_touch((char *)at))
		race_untested(t, "SIGBUS on a load");
	if (!race_store(at, stamp(7, t->number, page)))
		race_untested(t, "SIGBUS on a store");
	stored[page] = true;
}

static void store(struct trial *t)
{
	/* On stock this fires by luck, too: what the self-test finds was planted. */
	if (!t->plant)
		race_until_done(t, "stores", store_once);
}

/* Pages of @seen that are not as the direct write left them, but for B's word. */
static unsigned int undone_pages(struct trial *t, size_t *where)
{
	unsigned int page, i, bad = 0;

	for (page = 0; page < PAGES; page++) {
		unsigned int tag = page >= first && page < first + pages ? 2 : 1;

		for (i = 0; i < WORDS; i++) {
			size_t at = page * PAGE + i * sizeof(uint64_t);
			uint64_t is = seen[at / sizeof(uint64_t)];

			if (is == stamp(tag, t->number, at) ||
			    (stored[page] && i == word && is == stamp(7, t->number, page)))
				continue;
			if (!bad++)
				*where = at;
			break;
		}
	}
	return bad;
}

static void check(struct trial *t)
{
	static const char * const views[] = { "direct", "pread", "mmap" };
	unsigned int v;
	int error;

	if (t->plant && !strcmp(t->plant, "cache"))
		file_plant(&file, t, 0, file.size);
	/* EIO is how the kernel says what it knows; the oracle looks for itself. */
	error = file_drop_cache(&file, 0, file.size) ? 0 : errno;
	race_note(t, "fsync_errno", error);
	if (error && error != EIO)
		race_untested(t, "check: fsync: %s", strerror(error));
	if (t->plant && !strcmp(t->plant, "disk"))
		file_plant(&file, t, 0, file.size);
	race_note_string(t, "via", async ? "aio" : "pwrite");
	race_note(t, "pages", pages);
	for (v = 0; v < 3; v++) {
		unsigned int bad;
		size_t where = 0;
		ssize_t n = file.size;
		char key[32];

		if (v < 2)
			n = pread(v ? file.fd : file.direct, seen, file.size, 0);
		else if (!race_copy(seen, file.map, file.size))
			n = 0;
		if (n != (ssize_t)file.size) {
			race_untested(t, "check: %s got %zd bytes: %s", views[v], n,
				      strerror(errno));
			return;
		}
		bad = undone_pages(t, &where);
		snprintf(key, sizeof(key), "stale_%s", views[v]);
		race_note(t, key, bad);
		if (bad)
			race_exposed(t, "%s: %u pages do not hold what was written directly, first at offset %zu",
				     views[v], bad, where);
	}
}

static const struct race race = {
	.name	= "dio-write-fault",
	.plants	= "cache disk",
	.open	= open_file,
	.setup	= setup,
	.a	= write_direct,
	.b	= store,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
