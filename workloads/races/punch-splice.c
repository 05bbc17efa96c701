// SPDX-License-Identifier: GPL-2.0
/*
 * A splice(2) to a pipe during a hole punch leaves old data in the page cache.
 *
 *	A: fallocate(PUNCH_HOLE)	B: splice() of pages of the hole
 *	------------------------	--------------------------------
 *					readahead adds folios and reads them
 *					  <window: filemap_read>
 *	evict page cache of hole
 *	  <window: ext4_punch>
 *					a folio is gone: filemap_create_folio()
 *					  adds it again, reads the old block
 *					the pipe refers to that folio
 *	remove blocks
 *	return
 *
 * The way in is that of punch-read; the way there is filemap_splice_read(),
 * which sendfile(2) takes too, and which insists on folios that are up to date
 * as a whole. What is in the pipe may be the old data, as B began before A had
 * returned. The page cache must not keep it: that is checked while the pipe
 * still holds the folios, and then what is in the pipe must be what the file
 * had or zeroes, nothing else.
 *
 * Symptom:	the hole reads as the deleted data: mmap and buffered pread.
 * Held by:	invalidate_lock, shared in filemap_create_folio(), exclusive
 *		around A.
 * Fixed by:	730633f0b7f9 and d4f5258eae7b (ext4, 5.15).
 * Systems:	ext4, any block size. XFS takes the IOLOCK in splice_read.
 * Switches:	read, or punch.
 * Windows:	ext4_punch first (for A), then filemap_read (for B), which must
 *		end first: A's delay must be well above B's.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/race.h"

#define PAGES	64
#define BEFORE	8	/* pages before and after the hole */
#define SPLICE	4	/* pages that B moves */
#define HOLE	((PAGES - 2 * BEFORE) * PAGE)

static struct file file;
static uint64_t *buf;
static int pipe_out, pipe_in;
static size_t page, in_pipe;	/* where B read and how many bytes it got */

static void open_file(struct trial *t)
{
	int ends[2];

	file_open(&file, t, "punch-splice", PAGES * PAGE);
	buf = aligned_buffer(SPLICE * PAGE);
	if (pipe2(ends, O_CLOEXEC) || fcntl(ends[1], F_SETPIPE_SZ, 2 * SPLICE * PAGE) < 0)
		race_skip("cannot make a pipe: %s", strerror(errno));
	pipe_out = ends[0];
	pipe_in = ends[1];
}

static void setup(struct trial *t)
{
	file_stamp(&file, t, 6, 0, file.size);
}

static void punch(struct trial *t)
{
	/* Armed: B is known to be past readahead. Unarmed: somewhere near it. */
	if (!race_wait_window("filemap_read", 1000))
		race_stagger(t, 200);
	if (fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BEFORE * PAGE, HOLE))
		race_invalid(t, "fallocate: %s", strerror(errno));
}

static void splice_pages(struct trial *t)
{
	loff_t at;
	ssize_t n;

	page = BEFORE + prng_below(&t->rng_b, HOLE / PAGE - SPLICE + 1);
	at = page * PAGE;
	n = splice(file.fd, &at, pipe_in, NULL, SPLICE * PAGE, 0);
	if (n <= 0)
		race_untested(t, "splice: %s", n ? strerror(errno) : "end of file");
	in_pipe = n > 0 ? n : 0;
	/* Over while A is still held: nothing kept B out. */
	race_note(t, "entered", race_window_open());
	race_note(t, "page", page);
	race_note(t, "spliced", in_pipe);
}

static void watch(struct trial *t)
{
	(void)t;
	race_watch_overtaken("filemap_read");
}

/* Empties the pipe. What comes out was in the file at one time or another. */
static void check_pipe(struct trial *t)
{
	size_t got = 0, i;

	while (got < in_pipe) {
		ssize_t n = read(pipe_out, (char *)buf + got, in_pipe - got);

		if (n <= 0)
			race_skip("cannot empty the pipe: %s", strerror(errno));
		got += n;
	}
	in_pipe = 0;
	if (t->plant && !strcmp(t->plant, "pipe"))
		buf[prng_below(&t->rng, got / sizeof(*buf))] ^= 0x5a;
	for (i = 0; i < got / sizeof(*buf); i++) {
		size_t at = page * PAGE + i * sizeof(*buf);

		if (buf[i] && buf[i] != stamp(6, t->number, at)) {
			race_exposed(t, "pipe: neither old data nor zeroes at offset %zu", at);
			return;
		}
	}
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, BEFORE * PAGE, HOLE);
	file_check_zero(&file, t, BEFORE * PAGE, HOLE);
	check_pipe(t);
}

static const struct race race = {
	.name	= "punch-splice",
	.plants	= "cache disk pipe",
	.open	= open_file,
	.setup	= setup,
	.a	= punch,
	.b	= splice_pages,
	.watch	= watch,
	.check	= check,
};

int main(int argc, char **argv)
{
	return race_main(&race, argc, argv);
}
