// SPDX-License-Identifier: GPL-2.0
/*
 * A file that is copied into itself: the source is a mapping, or the page
 * cache, of the file that is written.
 *
 *	A, B: pwrite(fd, map + src, len, dst)
 *	-------------------------------------
 *	lock the page of dst			a buffered write of [dst, ...)
 *	read from map + src, which faults:
 *	  lock the page of src			deadlock if it is the page of dst, or if
 *						the other thread holds it and wants ours
 *
 * Lock order: the lock on a file range is taken below mmap_lock (a fault comes
 * with it), so nobody may touch user memory while holding one. A write faults
 * its source in first, takes the lock, copies with page faults disabled, drops
 * the lock and tries again when the page was gone. A direct read or write has
 * the same trap for its whole length, and until it completes.
 *
 * The source is cold: the main thread keeps dropping the page cache.
 *
 * --via	the copies
 * write	pwrite() from the mapping; any offsets
 * dio		O_DIRECT reads into and writes from the mapping: in the same page, in
 *		other pages; sync, libaio, io_uring, two requests at once
 * splice	splice() through a pipe, vmsplice(), sendfile(), copy_file_range()
 *
 * Oracle:	where POSIX or the order of the copy determines the bytes (no
 *		overlap; the range onto itself; a buffered copy downwards), the file
 *		reads as a copy in memory says: mmap, pread, O_DIRECT.
 * Bound:	60 s a trial, which takes less than a second when idle.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/async.h"
#include "lib/gate.h"
#include "lib/oracle.h"
#include "lib/prng.h"

#define REGION	(16 * PAGE)
#define REGIONS	4		/* two of each racer */
#define SIZE	(REGIONS * REGION)
#define COPIES	24		/* of each racer in a trial */
#define SECTOR	512

static struct file file;
static unsigned char *want;	/* what the file must read as */
static struct race race;
static bool (*copy_once)(struct trial *t, uint64_t *rng, unsigned int racer);

struct copy {
	size_t src, dst, len;
};

/* A copy inside of @region, of multiples of @grain bytes at most. */
static struct copy choose(uint64_t *rng, unsigned int region, size_t grain)
{
	size_t base = region * REGION, slots = REGION / grain;
	struct copy c;

	c.len = (1 + prng_below(rng, slots / 3)) * grain;
	c.src = base + prng_below(rng, (REGION - c.len) / grain + 1) * grain;
	c.dst = base + prng_below(rng, (REGION - c.len) / grain + 1) * grain;
	/* The nearest way to a deadlock deserves more than luck. */
	if (!prng_below(rng, 4))
		c.dst = c.src;
	return c;
}

/* Do source and destination share a page, other than being the same range? */
static bool entangled(const struct copy *c)
{
	size_t src = c->src & ~(PAGE - 1), dst = c->dst & ~(PAGE - 1);

	return c->src != c->dst && src < c->dst + c->len && dst < c->src + c->len;
}

/* Nothing but the range itself is known after such a copy: write it anew. */
static void restamp(struct trial *t, unsigned int region)
{
	size_t at = region * REGION;

	stamp_fill(want + at, REGION, 7, t->number, at);
	if (pwrite(file.fd, want + at, REGION, at) != (ssize_t)REGION || fdatasync(file.fd))
		race_invalid(t, "cannot write the region again: %s", strerror(errno));
}

static void settle(struct trial *t, const struct copy *c, bool determined)
{
	if (determined)
		memmove(want + c->dst, want + c->src, c->len);
	else
		restamp(t, c->dst / REGION);
}

static bool short_copy(struct trial *t, const char *what, const struct copy *c, ssize_t got)
{
	if (got == (ssize_t)c->len)
		return false;
	race_exposed(t, "%s of %zu bytes from %zu to %zu came to %zd: %s", what, c->len, c->src,
		     c->dst, got, strerror(errno));
	return true;
}

/* --- --via write --- */

static bool by_write(struct trial *t, uint64_t *rng, unsigned int racer)
{
	static const size_t grains[] = { 1, 8, SECTOR, PAGE };
	struct copy c = choose(rng, racer * 2 + prng_below(rng, 2), grains[prng_below(rng, 4)]);

	if (short_copy(t, "pwrite", &c, pwrite(file.fd, file.map + c.src, c.len, c.dst)))
		return false;
	/* Pages are copied upwards: only an overlap from below is undetermined. */
	settle(t, &c, c.dst <= c.src || c.dst >= c.src + c.len);
	return true;
}

/* --- --via dio --- */

/* Finishes what a direct request left, as any program must. */
static void finish(struct request *r)
{
	while (r->result >= 0 && (size_t)r->result < r->len) {
		char *buf = (char *)r->buf + r->result;
		size_t len = r->len - r->result;
		off_t offset = r->offset + r->result;
		ssize_t n = r->write ? pwrite(r->fd, buf, len, offset)
				     : pread(r->fd, buf, len, offset);

		r->result = n < 0 ? -errno : r->result + n;
		if (n <= 0)
			return;
	}
}

static bool by_dio(struct trial *t, uint64_t *rng, unsigned int racer)
{
	unsigned int how = prng_below(rng, 3), n = how ? 2 : 1, i;
	struct copy copies[2];
	struct request requests[2];

	for (i = 0; i < n; i++) {
		struct request *r = &requests[i];
		struct copy *c = &copies[i];

		*c = choose(rng, racer * 2 + (how ? i : prng_below(rng, 2)),
			    prng_below(rng, 4) ? PAGE : SECTOR);
		r->write = prng_below(rng, 2);
		r->fd = file.direct;
		r->buf = file.map + (r->write ? c->src : c->dst);
		r->len = c->len;
		r->offset = r->write ? c->dst : c->src;
		r->result = 0;
	}
	if ((how == 1 && !async_aio(requests, n)) || (how == 2 && !async_uring(requests, n))) {
		race_untested(t, "%s: %s", how == 1 ? "libaio" : "io_uring", strerror(errno));
		return false;
	}
	for (i = 0; i < n; i++) {
		finish(&requests[i]);
		errno = requests[i].result < 0 ? -requests[i].result : 0;
		if (short_copy(t, requests[i].write ? "direct write" : "direct read", &copies[i],
			       requests[i].result))
			return false;
		/* Two who share a page: the cache may keep the page as it was before. */
		settle(t, &copies[i], !entangled(&copies[i]));
	}
	return true;
}

/* --- --via splice --- */

static _Thread_local int pipe_ends[2];

static ssize_t drain(size_t len, size_t dst)
{
	loff_t to = dst;
	size_t done = 0;

	while (done < len) {
		ssize_t n = splice(pipe_ends[0], NULL, file.fd, &to, len - done, 0);

		if (n <= 0)
			break;
		done += n;
	}
	return done;
}

static ssize_t through_pipe(const struct copy *c, bool mapped)
{
	loff_t from = c->src;
	size_t done = 0;

	while (done < c->len) {
		struct iovec v = { file.map + c->src + done, c->len - done };
		ssize_t n, m;

		n = mapped ? vmsplice(pipe_ends[1], &v, 1, 0)
			   : splice(file.fd, &from, pipe_ends[1], NULL, c->len - done, 0);
		if (n <= 0)
			return n < 0 ? n : (ssize_t)done;
		m = drain(n, c->dst + done);
		done += m;
		if (m != n)
			return done;
	}
	return done;
}

/*
 * sendfile() has one offset for its source only, and copies to where the
 * destination stands: a descriptor of its own for each thread.
 */
static ssize_t by_sendfile(struct trial *t, const struct copy *c)
{
	int to = openat(t->dirfd, "copy-self", O_WRONLY | O_CLOEXEC);
	off_t from = c->src;
	size_t done = 0;

	if (to < 0 || lseek(to, c->dst, SEEK_SET) < 0)
		return -1;
	while (done < c->len) {
		ssize_t n = sendfile(to, file.fd, &from, c->len - done);

		if (n <= 0)
			break;
		done += n;
	}
	close(to);
	return done;
}

static ssize_t by_copy_file_range(const struct copy *c)
{
	loff_t from = c->src, to = c->dst;
	size_t done = 0;

	while (done < c->len) {
		ssize_t n = copy_file_range(file.fd, &from, file.fd, &to, c->len - done, 0);

		if (n <= 0)
			break;
		done += n;
	}
	return done;
}

static bool by_splice(struct trial *t, uint64_t *rng, unsigned int racer)
{
	static const char * const names[] = { "splice", "vmsplice", "sendfile",
					      "copy_file_range" };
	static const size_t grains[] = { 1, SECTOR, PAGE, PAGE };
	unsigned int region = racer * 2 + prng_below(rng, 2), how = prng_below(rng, 4);
	struct copy c = choose(rng, region, grains[prng_below(rng, 4)]);
	bool overlap = c.src < c.dst + c.len && c.dst < c.src + c.len;
	ssize_t got;

	if (!pipe_ends[1] && pipe2(pipe_ends, O_CLOEXEC)) {
		race_untested(t, "pipe: %s", strerror(errno));
		return false;
	}
	/* copy_file_range(2) refuses a range that overlaps itself. */
	if (how == 3 && overlap)
		how = 0;
	if (how < 2)
		got = through_pipe(&c, how);
	else
		got = how == 2 ? by_sendfile(t, &c) : by_copy_file_range(&c);
	if (short_copy(t, names[how], &c, got))
		return false;
	settle(t, &c, !entangled(&c));
	return true;
}

/* --- the trial --- */

static void open_file(struct trial *t)
{
	static const struct {
		const char *name, *workload;
		bool (*copy_once)(struct trial *t, uint64_t *rng, unsigned int racer);
	} vias[] = {
		{ "write", "write-mmap-self", by_write },
		{ "dio", "dio-mmap-self", by_dio },
		{ "splice", "splice-self", by_splice },
	};
	const char *via = gate_option("via", "write");
	unsigned int i;

	for (i = 0; i < 3 && strcmp(via, vias[i].name);)
		i++;
	if (i == 3)
		race_skip("--via %s: not one of: write dio splice", via);
	race.name = vias[i].workload;
	copy_once = vias[i].copy_once;
	want = aligned_buffer(SIZE);
	file_open(&file, t, "copy-self", SIZE);
}

static void setup(struct trial *t)
{
	stamp_fill(want, SIZE, 6, t->number, 0);
	file_stamp(&file, t, 6, 0, SIZE);
}

static void copies(struct trial *t, uint64_t *rng, unsigned int racer)
{
	unsigned int i;

	for (i = 0; i < COPIES; i++)
		if (!copy_once(t, rng, racer))
			return;
}

static void racer_a(struct trial *t)
{
	copies(t, &t->rng_a, 0);
}

static void racer_b(struct trial *t)
{
	gate_plant_stuck(t);
	copies(t, &t->rng_b, 1);
}

/* Sources go cold, also between the moment they were faulted in and the copy. */
static void chill(struct trial *t)
{
	long long drops = 0;

	while (!race_a_done()) {
		madvise(file.map, SIZE, MADV_DONTNEED);
		/* Writes what is dirty, waits for nothing, drops what is clean. */
		sync_file_range(file.fd, 0, SIZE, SYNC_FILE_RANGE_WRITE);
		posix_fadvise(file.fd, 0, SIZE, POSIX_FADV_DONTNEED);
		drops++;
		usleep(300);
	}
	race_note(t, "drops", drops);
}

static void compare(struct trial *t, const char *view, const void *seen)
{
	const unsigned char *got = seen;
	size_t i, wrong = 0, first = 0;

	for (i = 0; i < SIZE; i++)
		first = got[i] != want[i] && !wrong++ ? i : first;
	if (wrong)
		race_exposed(t, "%s: %zu wrong bytes, first at %zu: 0x%02x, not 0x%02x", view,
			     wrong, first, got[first], want[first]);
}

static void check(struct trial *t)
{
	if (t->plant)
		file_plant(&file, t, 0, SIZE);
	file_check_views(&file, t, compare);
}

static struct race race = {
	.name	= "copy-self",
	.plants	= "cache disk " PLANT_STUCK,
	.open	= open_file,
	.setup	= setup,
	.a	= racer_a,
	.b	= racer_b,
	.watch	= chill,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "via", 60, argc, argv);
}
