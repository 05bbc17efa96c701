// SPDX-License-Identifier: GPL-2.0
/* A file that many threads change at once. See chaos.h. */
#include "lib/chaos.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/model.h"
#include "lib/oracle.h"
#include "lib/prng.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

bool chaos_open(struct chaos *c, struct trial *t, bool anew)
{
	struct file_clone_range range = { -1, 0, PAGE, PAGE };

	c->fd = openat(t->dirfd, "chaos", O_RDWR | O_CLOEXEC | (anew ? O_CREAT | O_TRUNC : 0), 0600);
	c->direct = openat(t->dirfd, "chaos", O_RDWR | O_DIRECT | O_CLOEXEC);
	c->map = mmap(NULL, CHAOS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (c->fd < 0 || c->direct < 0 || c->map == MAP_FAILED)
		return false;
	if (!anew)
		return true;
	atomic_store(&c->calls, 0);
	atomic_store(&c->collisions, 0);
	range.src_fd = c->fd;
	if (ftruncate(c->fd, 2 * PAGE))
		return false;
	c->can_clone = !ioctl(c->fd, FICLONERANGE, &range);
	return true;
}

void chaos_close(struct chaos *c)
{
	munmap(c->map, CHAOS_MAX);
	close(c->direct);
	close(c->fd);
}

/* What a call on a file that others change meanwhile may say. */
static bool excused(void)
{
	return errno == ENOSPC || errno == EINVAL || errno == EBUSY || errno == EFAULT ||
	       errno == EFBIG || errno == ETXTBSY || errno == EOPNOTSUPP;
}

static bool leaked(struct trial *t, const unsigned char *data, size_t len, const char *view)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (!data[i] || data[i] & 0x80)
			continue;
		race_exposed(t, "chaos: byte 0x%02x, %s, was never written there (%s)", data[i],
			     data[i] == FILLER_BYTE ? "the filler's" : "an own file's", view);
		return true;
	}
	return false;
}

static void fill(unsigned char *buf, size_t len, uint64_t *rng)
{
	size_t i;

	model_fill(buf, len, rng);
	for (i = 0; i < len; i++)
		buf[i] |= 0x80;
}

static void clone_part(struct chaos *c, size_t at, size_t len)
{
	struct file_clone_range range = { c->fd, at, len, (at + len) % CHAOS_MAX };

	if (c->can_clone && ioctl(c->fd, FICLONERANGE, &range))
		return;
}

/*
 * A direct write that cannot evict a page which a fault brought back says so in
 * the log and to the next fsync, as EIO. That is no disk error: it is counted.
 */
static int sync_counted(struct chaos *c)
{
	int error = fsync(c->fd);

	if (!error || errno != EIO)
		return error;
	atomic_fetch_add(&c->collisions, 1);
	return 0;
}

/*
 * A direct read that meets a page which mmap has dirtied since the cache was
 * written back finds a delayed block, and gives up with EIO (iomap_dio_iter(),
 * "Direct I/O collision with buffered writes!"). That is no disk error, either.
 */
static ssize_t read_counted(struct chaos *c, int fd, void *to, size_t len, off_t at)
{
	ssize_t n = pread(fd, to, len, at);

	if (n >= 0 || errno != EIO || fd != c->direct)
		return n;
	atomic_fetch_add(&c->collisions, 1);
	return 0;
}

bool chaos_collide(struct chaos *c)
{
	/*
	 * A hole, a block, a hole: the first zeroes the third through the mapping,
	 * which makes it a delayed block before the read gets there.
	 */
	if (ftruncate(c->fd, 0) || ftruncate(c->fd, 5 * PAGE) ||
	    pwrite(c->fd, "\xff", 1, PAGE) != 1 || sync_counted(c))
		return false;
	return !read_counted(c, c->direct, c->map + 2 * PAGE, 3 * PAGE, 0);
}

bool chaos_step(struct chaos *c, struct trial *t, uint64_t *rng)
{
	static _Thread_local unsigned char buf[16 * PAGE] __attribute__((aligned(PAGE)));
	size_t at = prng_below(rng, CHAOS_MAX / PAGE) * PAGE, rest;
	size_t len = (1 + prng_below(rng, 16)) * PAGE;
	bool clean = true;
	ssize_t n = 0;
	struct stat st;

	len = len < CHAOS_MAX - at ? len : CHAOS_MAX - at;
	atomic_fetch_add(&c->calls, 1);
	switch (prng_below(rng, 18)) {
	case 0:
	case 1:
		rest = prng_below(rng, PAGE);
		fill(buf, len, rng);
		n = pwrite(c->fd, buf, len - rest, at + rest);
		break;
	case 2:
		fill(buf, len, rng);
		n = pwrite(c->direct, buf, len, at);
		break;
	case 3:
		/* From and into its own mapping: the deadlock of copy-self. */
		n = pwrite(prng_below(rng, 2) ? c->fd : c->direct, c->map + at, PAGE,
			   prng_below(rng, CHAOS_MAX / PAGE) * PAGE);
		break;
	case 4:
		n = read_counted(c, c->direct, c->map + at, PAGE,
				 prng_below(rng, CHAOS_MAX / PAGE) * PAGE);
		break;
	case 5:
	case 6:
		n = read_counted(c, prng_below(rng, 2) ? c->fd : c->direct, buf, len, at);
		if (n > 0)
			clean = !leaked(t, buf, n, "read");
		break;
	case 7:
	case 8:
		fill(buf, len, rng);
		race_copy(c->map + at, buf, len);	/* SIGBUS is an answer */
		break;
	case 9:
	case 10:
		if (race_copy(buf, c->map + at, len))
			clean = !leaked(t, buf, len, "mmap");
		break;
	case 11:
		n = fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len);
		break;
	case 12:
		n = fallocate(c->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, at, len);
		break;
	case 13:
		n = fallocate(c->fd, FALLOC_FL_COLLAPSE_RANGE, at, len);
		break;
	case 14:
		if (!fstat(c->fd, &st) && (size_t)st.st_size + len <= CHAOS_MAX)
			n = fallocate(c->fd, FALLOC_FL_INSERT_RANGE, at, len);
		break;
	case 15:
		n = ftruncate(c->fd, prng_below(rng, CHAOS_MAX + 1));
		break;
	case 16:
		madvise(c->map + at, len,
			prng_below(rng, 2) ? MADV_POPULATE_READ : MADV_POPULATE_WRITE);
		posix_fadvise(c->fd, at, len, POSIX_FADV_DONTNEED);
		break;
	default:
		if (prng_below(rng, 2))
			clone_part(c, at, len);
		else
			n = sync_counted(c);
	}
	if (n < 0 && !excused()) {
		race_exposed(t, "chaos: %s", strerror(errno));
		return false;
	}
	return clean;
}

void chaos_verify(struct chaos *c, struct trial *t, const char *when)
{
	static unsigned char *buf;
	ssize_t n;

	if (!buf)
		buf = aligned_buffer(CHAOS_MAX);
	n = pread(c->fd, buf, CHAOS_MAX, 0);
	if (n < 0)
		race_exposed(t, "chaos: %s", strerror(errno));
	else
		leaked(t, buf, n, when);
}
