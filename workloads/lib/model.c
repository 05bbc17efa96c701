// SPDX-License-Identifier: GPL-2.0
/* A file and a model of it in memory. See model.h. */
#include "lib/model.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/oracle.h"
#include "lib/prng.h"

void model_fill(void *buf, size_t len, uint64_t *rng)
{
	unsigned char *bytes = buf;
	uint64_t word = 0;
	size_t i;

	for (i = 0; i < len; i++) {
		if (!(i % 8))
			word = prng_next(rng) & 0x7f7f7f7f7f7f7f7full;
		bytes[i] = word >> (i % 8 * 8);
	}
}

static bool wrong(struct model *m, struct trial *t, const char *what)
{
	race_exposed(t, "%s: %s: %s", m->name, what, strerror(errno));
	return false;
}

bool model_open(struct model *m, struct trial *t)
{
	m->fd = openat(t->dirfd, m->name, O_RDWR | O_CLOEXEC);
	m->direct = openat(t->dirfd, m->name, O_RDWR | O_DIRECT | O_CLOEXEC);
	m->map = mmap(NULL, MODEL_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (m->fd < 0 || m->direct < 0 || m->map == MAP_FAILED)
		return wrong(m, t, "open");
	return true;
}

void model_close(struct model *m)
{
	munmap(m->map, MODEL_MAX);
	close(m->direct);
	close(m->fd);
}

void model_create(struct model *m, struct trial *t, const char *name)
{
	int fd;

	snprintf(m->name, sizeof(m->name), "%s", name);
	if (!m->want) {
		m->want = aligned_buffer(MODEL_MAX);
		m->unknown = aligned_buffer(MODEL_MAX);
		m->scratch = aligned_buffer(MODEL_MAX);
	}
	memset(m->want, 0, MODEL_MAX);
	memset(m->unknown, 0, MODEL_MAX);
	m->size = m->steps = m->full = 0;
	unlinkat(t->dirfd, name, 0);
	fd = openat(t->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || close(fd) || !model_open(m, t))
		race_invalid(t, "setup: %s: %s", name, strerror(errno));
}

/* --- what a call did --- */

static void resize(struct model *m, size_t size)
{
	if (size < m->size) {
		memset(m->want + size, 0, m->size - size);
		memset(m->unknown + size, 0, m->size - size);
	}
	m->size = size;
}

static void doubt(struct model *m, size_t at, size_t len)
{
	if (at < m->size)
		memset(m->unknown + at, true, len < m->size - at ? len : m->size - at);
}

static void put(struct model *m, size_t at, size_t len, const void *data)
{
	if (at + len > m->size)
		m->size = at + len;
	if (data)
		memcpy(m->want + at, data, len);
	else
		memset(m->want + at, 0, len);
	memset(m->unknown + at, false, len);
}

/*
 * A call failed. For want of space it may: then nothing is known of [@at,
 * @at + @len), and the size is whatever it is. Anything else is exposed.
 */
static bool failed(struct model *m, struct trial *t, const char *what, size_t at, size_t len)
{
	struct stat st;

	if (errno != ENOSPC)
		return wrong(m, t, what);
	m->full++;
	if (fstat(m->fd, &st))
		return wrong(m, t, "fstat");
	if ((size_t)st.st_size > MODEL_MAX)
		return wrong(m, t, "larger than it was ever made");
	if ((size_t)st.st_size > m->size) {
		size_t old = m->size;

		resize(m, st.st_size);
		doubt(m, old, m->size - old);
	} else {
		resize(m, st.st_size);
	}
	doubt(m, at, len);
	return true;
}

/* --- the calls --- */

static bool by_write(struct model *m, struct trial *t, uint64_t *rng)
{
	bool direct = m->use_direct && prng_below(rng, 2);
	size_t grain = direct ? PAGE : 1;
	size_t at = prng_below(rng, MODEL_MAX / grain) * grain;
	size_t len = (1 + prng_below(rng, 16 * PAGE / grain)) * grain;
	ssize_t n;

	len = len < MODEL_MAX - at ? len : MODEL_MAX - at;
	model_fill(m->scratch, len, rng);
	n = pwrite(direct ? m->direct : m->fd, m->scratch, len, at);
	if (n > 0)
		put(m, at, n, m->scratch);
	if (n == (ssize_t)len)
		return true;
	/* A short write does not say why, the next one would. */
	errno = n < 0 ? errno : ENOSPC;
	n = n > 0 ? n : 0;
	return failed(m, t, direct ? "direct write" : "write", at + n, len - n);
}

static bool by_store(struct model *m, struct trial *t, uint64_t *rng)
{
	size_t at, len;

	if (!m->size)
		return true;
	at = prng_below(rng, m->size);
	len = 1 + prng_below(rng, 2 * PAGE);
	len = len < m->size - at ? len : m->size - at;
	model_fill(m->scratch, len, rng);
	if (race_copy(m->map + at, m->scratch, len)) {
		put(m, at, len, m->scratch);
		return true;
	}
	/* SIGBUS below the end of the file: a full disk says it like this. */
	errno = ENOSPC;
	return failed(m, t, "store", at, len);
}

static bool by_fallocate(struct model *m, struct trial *t, uint64_t *rng, int mode,
			 const char *what)
{
	size_t at = prng_below(rng, MODEL_MAX), len = 1 + prng_below(rng, 32 * PAGE);

	len = len < MODEL_MAX - at ? len : MODEL_MAX - at;
	if (fallocate(m->fd, mode | FALLOC_FL_KEEP_SIZE, at, len))
		return failed(m, t, what, at, mode ? len : 0);
	if (mode && at < m->size)
		put(m, at, len < m->size - at ? len : m->size - at, NULL);
	return true;
}

static bool by_collapse(struct model *m, struct trial *t, uint64_t *rng)
{
	size_t pages = m->size / PAGE, at, len;

	if (pages < 4)
		return true;
	len = (1 + prng_below(rng, pages / 2)) * PAGE;
	at = prng_below(rng, (m->size - len - 1) / PAGE + 1) * PAGE;
	if (at + len >= m->size)
		return true;
	if (fallocate(m->fd, FALLOC_FL_COLLAPSE_RANGE, at, len))
		return failed(m, t, "collapse", 0, MODEL_MAX);
	memmove(m->want + at, m->want + at + len, m->size - at - len);
	memmove(m->unknown + at, m->unknown + at + len, m->size - at - len);
	resize(m, m->size - len);
	return true;
}

static bool by_insert(struct model *m, struct trial *t, uint64_t *rng)
{
	size_t at, len = (1 + prng_below(rng, 16)) * PAGE, old = m->size;

	if (old < PAGE || old + len > MODEL_MAX)
		return true;
	at = prng_below(rng, old / PAGE) * PAGE;
	if (fallocate(m->fd, FALLOC_FL_INSERT_RANGE, at, len))
		return failed(m, t, "insert", 0, MODEL_MAX);
	m->size = old + len;
	memmove(m->want + at + len, m->want + at, old - at);
	memmove(m->unknown + at + len, m->unknown + at, old - at);
	put(m, at, len, NULL);
	return true;
}

static bool by_truncate(struct model *m, struct trial *t, uint64_t *rng)
{
	size_t size = prng_below(rng, MODEL_MAX + 1);

	if (ftruncate(m->fd, size))
		return failed(m, t, "truncate", 0, MODEL_MAX);
	resize(m, size);
	return true;
}

static bool by_clone(struct model *m, struct trial *t, uint64_t *rng)
{
	size_t half = m->size / 2 / PAGE * PAGE, len;
	struct file_clone_range range;

	if (!m->use_clone || half < 2 * PAGE)
		return true;
	len = (1 + prng_below(rng, half / PAGE)) * PAGE;
	range.src_fd = m->fd;
	range.src_offset = prng_below(rng, (half - len) / PAGE + 1) * PAGE;
	range.src_length = len;
	range.dest_offset = half + prng_below(rng, (half - len) / PAGE + 1) * PAGE;
	if (ioctl(m->fd, FICLONERANGE, &range))
		return failed(m, t, "clone", range.dest_offset, len);
	memcpy(m->want + range.dest_offset, m->want + range.src_offset, len);
	memcpy(m->unknown + range.dest_offset, m->unknown + range.src_offset, len);
	return true;
}

static bool by_sync(struct model *m, struct trial *t, uint64_t *rng)
{
	if (prng_below(rng, 2) ? fsync(m->fd) : fdatasync(m->fd))
		return failed(m, t, "fsync", 0, MODEL_MAX);
	if (prng_below(rng, 2))
		posix_fadvise(m->fd, 0, 0, POSIX_FADV_DONTNEED);
	return true;
}

/* --- checks --- */

static bool compare(struct model *m, struct trial *t, const char *when, const char *view,
		    size_t at, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (m->scratch[i] == m->want[at + i] || m->unknown[at + i])
			continue;
		race_exposed(t, "%s: wrong %s: byte %zu of %zu is 0x%02x, not 0x%02x (%s)", m->name,
			     when, at + i, m->size, m->scratch[i], m->want[at + i], view);
		return false;
	}
	return true;
}

static bool look(struct model *m, struct trial *t, uint64_t *rng)
{
	size_t at, len;

	if (!m->size)
		return true;
	at = prng_below(rng, m->size);
	len = 1 + prng_below(rng, 16 * PAGE);
	len = len < m->size - at ? len : m->size - at;
	if (prng_below(rng, 2)) {
		/* A hole on a full disk can be read, whoever reads it. */
		if (race_copy(m->scratch, m->map + at, len))
			return compare(m, t, "while it changes", "mmap", at, len);
		errno = EFAULT;
		return wrong(m, t, "load below the end of the file");
	}
	if (pread(m->fd, m->scratch, len, at) != (ssize_t)len)
		return wrong(m, t, "short read");
	return compare(m, t, "while it changes", "pread", at, len);
}

bool model_step(struct model *m, struct trial *t, uint64_t *rng)
{
	m->steps++;
	switch (prng_below(rng, 16)) {
	case 0:
	case 1:
	case 2:
		return by_write(m, t, rng);
	case 3:
	case 4:
		return by_store(m, t, rng);
	case 5:
		return by_fallocate(m, t, rng, FALLOC_FL_PUNCH_HOLE, "punch");
	case 6:
		return by_fallocate(m, t, rng, FALLOC_FL_ZERO_RANGE, "zero range");
	case 7:
		return by_fallocate(m, t, rng, 0, "fallocate");
	case 8:
		return by_collapse(m, t, rng);
	case 9:
		return by_insert(m, t, rng);
	case 10:
		return by_truncate(m, t, rng);
	case 11:
		return by_clone(m, t, rng);
	case 12:
		return by_sync(m, t, rng);
	default:
		return look(m, t, rng);
	}
}

bool model_verify(struct model *m, struct trial *t, const char *when)
{
	struct stat st;

	if (fstat(m->fd, &st))
		return wrong(m, t, "fstat");
	if ((size_t)st.st_size != m->size) {
		race_exposed(t, "%s: wrong %s: %lld bytes long, not %zu", m->name, when,
			     (long long)st.st_size, m->size);
		return false;
	}
	if (pread(m->fd, m->scratch, m->size, 0) != (ssize_t)m->size)
		return wrong(m, t, "short read");
	return compare(m, t, when, "pread", 0, m->size);
}
