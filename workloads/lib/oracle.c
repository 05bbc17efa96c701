// SPDX-License-Identifier: GPL-2.0
/* What must be read where: stamped data, and ranges that must be zero. */
#include "lib/oracle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/prng.h"

void *aligned_buffer(size_t len)
{
	void *buf;

	if (posix_memalign(&buf, PAGE, len))
		race_skip("no memory for a buffer of %zu bytes", len);
	memset(buf, 0, len);
	return buf;
}

void file_open(struct file *f, struct trial *t, const char *name, size_t size)
{
	f->size = size;
	f->fd = openat(t->dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (f->fd < 0)
		race_skip("cannot create %s/%s: %s", t->dir, name, strerror(errno));
	f->direct = openat(t->dirfd, name, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (f->direct < 0)
		race_skip("cannot open %s/%s with O_DIRECT: %s", t->dir, name, strerror(errno));
	if (ftruncate(f->fd, size))
		race_skip("cannot make %s/%s %zu bytes long: %s", t->dir, name, size,
			  strerror(errno));
	f->map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	if (f->map == MAP_FAILED)
		race_skip("cannot map %s/%s: %s", t->dir, name, strerror(errno));
	/* A fault reads its own page and no other, unless a race wants more. */
	if (madvise(f->map, size, MADV_RANDOM))
		race_skip("MADV_RANDOM: %s", strerror(errno));
}

uint64_t stamp(unsigned int tag, unsigned int trial, uint64_t offset)
{
	return prng_mix(((uint64_t)tag << 56) ^ ((uint64_t)trial << 32) ^ offset) | 1;
}

void stamp_fill(void *buf, size_t len, unsigned int tag, unsigned int trial, uint64_t offset)
{
	uint64_t *words = buf;
	size_t i;

	for (i = 0; i < len / sizeof(*words); i++)
		words[i] = stamp(tag, trial, offset + i * sizeof(*words));
}

bool file_drop_cache(struct file *f, size_t offset, size_t len)
{
	int error;

	/* DONTNEED skips pages that are mapped or dirty: unmap, write, drop. */
	madvise(f->map + offset, len, MADV_DONTNEED);
	error = fdatasync(f->fd);
	posix_fadvise(f->fd, offset, len, POSIX_FADV_DONTNEED);
	return !error;
}

/* Stamps on disk and in the page cache, clean. */
void file_stamp_cached(struct file *f, struct trial *t, unsigned int tag, size_t offset,
		       size_t len)
{
	static char *buf;
	static size_t size;
	ssize_t n;

	if (size < len) {
		buf = aligned_buffer(len);
		size = len;
	}
	stamp_fill(buf, len, tag, t->number, offset);
	n = pwrite(f->fd, buf, len, offset);
	if (n != (ssize_t)len)
		race_invalid(t, "setup: wrote %zd of %zu bytes: %s", n, len, strerror(errno));
	if (fsync(f->fd))
		race_invalid(t, "setup: fsync: %s", strerror(errno));
}

void file_stamp(struct file *f, struct trial *t, unsigned int tag, size_t offset, size_t len)
{
	file_stamp_cached(f, t, tag, offset, len);
	if (!file_drop_cache(f, offset, len))
		race_invalid(t, "setup: fdatasync: %s", strerror(errno));
}

/*
 * Returns pages of @buf, which stands for file bytes from @offset on, with a byte
 * that is not 0; says where the first is.
 */
static unsigned int stale_pages(const char *buf, size_t offset, size_t len, size_t *first)
{
	unsigned int pages = 0;
	size_t page, i;

	for (page = 0; page < len; page += PAGE) {
		/* Whole words first: most pages have nothing to see. */
		for (i = page; i + 8 <= page + PAGE && i + 8 <= len; i += 8)
			if (*(const uint64_t *)(buf + i))
				break;
		for (; i < page + PAGE && i < len; i++)
			if (buf[i])
				break;
		if (i == page + PAGE || i == len)
			continue;
		race_found(offset + i);
		if (!pages++)
			*first = i;
	}
	return pages;
}

void file_check_zero(struct file *f, struct trial *t, size_t offset, size_t len)
{
	static const char * const views[] = { "mmap", "pread", "direct" };
	static char *buf;
	static size_t size;
	unsigned int v;

	if (size < len) {
		buf = aligned_buffer(len);
		size = len;
	}
	for (v = 0; v < 3; v++) {
		unsigned int pages;
		size_t first = 0;
		ssize_t n = len;
		char key[32];

		if (v)
			n = pread(v == 1 ? f->fd : f->direct, buf, len, offset);
		else if (!race_copy(buf, f->map + offset, len))
			n = 0;
		if (n != (ssize_t)len) {
			race_untested(t, "check: %s got %zd of %zu bytes: %s", views[v], n, len,
				      strerror(errno));
			return;
		}
		pages = stale_pages(buf, offset, len, &first);
		snprintf(key, sizeof(key), "stale_%s", views[v]);
		race_note(t, key, pages);
		if (pages)
			race_exposed(t, "%s shows old data in %u pages of the range, first at offset %zu (byte 0x%02x)",
				     views[v], pages, offset + first,
				     (unsigned char)buf[first]);
	}
}

void file_glance_zero(struct file *f, struct trial *t, size_t offset, size_t len)
{
	unsigned char cached;
	char buf[PAGE];
	size_t at, first;

	for (at = offset; at < offset + len; at += PAGE) {
		if (mincore(f->map + at, PAGE, &cached)) {
			race_untested(t, "glance: mincore: %s", strerror(errno));
			return;
		}
		if (!(cached & 1))
			continue;
		if (pread(f->fd, buf, PAGE, at) != (ssize_t)PAGE)
			race_untested(t, "glance: pread: %s", strerror(errno));
		else if (stale_pages(buf, at, PAGE, &first))
			race_exposed(t, "pread shows old data at offset %zu (byte 0x%02x)",
				     at + first, (unsigned char)buf[first]);
	}
}

void file_check_views(struct file *f, struct trial *t, file_compare *compare)
{
	static void *got;
	static size_t size;

	if (size < f->size) {
		got = aligned_buffer(f->size);
		size = f->size;
	}
	if (!race_copy(got, f->map, f->size))
		race_exposed(t, "SIGBUS below the end of the file");
	else
		compare(t, "mmap", got);
	if (pread(f->fd, got, f->size, 0) != (ssize_t)f->size)
		race_exposed(t, "pread: %s", strerror(errno));
	else
		compare(t, "pread", got);
	if (!file_drop_cache(f, 0, f->size))
		race_exposed(t, "fdatasync: %s", strerror(errno));
	if (pread(f->direct, got, f->size, 0) != (ssize_t)f->size)
		race_exposed(t, "direct: %s", strerror(errno));
	else
		compare(t, "direct", got);
}

/* Of the file_check_words() under way: its comparison has no argument to spare. */
static struct {
	const char	*what;
	size_t		size;
	word_is_right	*right;
} words;

static void compare_words(struct trial *t, const char *view, const void *seen)
{
	const uint64_t *got = seen;
	unsigned int pages = 0;
	size_t page, at, first = 0;

	for (page = 0; page < words.size; page += PAGE)
		for (at = page; at < page + PAGE; at += sizeof(*got))
			if (!words.right(t, at, got[at / sizeof(*got)])) {
				race_found(at);
				first = pages++ ? first : at;
				break;
			}
	if (pages)
		race_exposed(t, "%s, %s: %u pages are wrong, first at offset %zu: %016llx", words.what,
			     view, pages, first, (unsigned long long)got[first / sizeof(*got)]);
}

void file_check_words(struct file *f, struct trial *t, const char *what, word_is_right *right)
{
	words.what = what;
	words.size = f->size;
	words.right = right;
	file_check_views(f, t, compare_words);
}

void file_plant(struct file *f, struct trial *t, size_t offset, size_t len)
{
	size_t at = offset + prng_below(&t->rng, len);

	if (!strcmp(t->plant, "cache")) {
		f->map[at] ^= 0x5a;
	} else if (!strcmp(t->plant, "disk")) {
		size_t page = at & ~(PAGE - 1);
		static char *buf;

		if (!buf)
			buf = aligned_buffer(PAGE);
		memset(buf, 0, PAGE);
		buf[at - page] = 0x5a;
		if (pwrite(f->direct, buf, PAGE, page) != (ssize_t)PAGE)
			race_invalid(t, "plant: %s", strerror(errno));
	}
}
