/* SPDX-License-Identifier: GPL-2.0 */
/* What must be read where: stamped data, and ranges that must be zero. */
#ifndef WORKLOADS_ORACLE_H
#define WORKLOADS_ORACLE_H

#include "lib/race.h"

/* A file under test: opened three ways, mapped once. */
struct file {
	int	fd;		/* buffered, read and write */
	int	direct;		/* O_DIRECT */
	char	*map;		/* MAP_SHARED, MADV_RANDOM */
	size_t	size;
};

/*
 * Creates @name under the directory under test with @size bytes and maps it.
 * Exits through race_skip() on failure.
 */
void file_open(struct file *f, struct trial *t, const char *name, size_t size);

/*
 * The stamp of the 8 bytes at @offset. Never 0, different for each trial,
 * offset and tag, so that stale data tells whose it was.
 */
uint64_t stamp(unsigned int tag, unsigned int trial, uint64_t offset);

/* Fills @buf, which stands for file bytes from @offset on, with stamps. */
void stamp_fill(void *buf, size_t len, unsigned int tag, unsigned int trial, uint64_t offset);

/*
 * Writes stamps over [@offset, @offset + @len), waits for the disk and drops
 * the range from the page cache. A trial whose setup fails is untested.
 */
void file_stamp(struct file *f, struct trial *t, unsigned int tag, size_t offset, size_t len);

/* The same, but for the last: what is there is in the page cache as well. */
void file_stamp_cached(struct file *f, struct trial *t, unsigned int tag, size_t offset,
		       size_t len);

/*
 * Writes the file back and drops [@offset, @offset + @len) from the page cache.
 * Returns false, with errno, if writing back failed.
 */
bool file_drop_cache(struct file *f, size_t offset, size_t len);

/*
 * The hole must read zero through the mapping, buffered pread and O_DIRECT
 * pread. Reports the first wrong byte with the view that showed it; adds
 * stale_mmap, stale_pread, stale_direct (pages) to the JSON line.
 */
void file_check_zero(struct file *f, struct trial *t, size_t offset, size_t len);

/*
 * What is in the page cache of that range, in whole pages, must be zero; reads nothing
 * from the disk and leaves the cache as it is. For `struct race`'s glance().
 */
void file_glance_zero(struct file *f, struct trial *t, size_t offset, size_t len);

/* Says what is wrong with @got, all of a file, seen through @view. */
typedef void file_compare(struct trial *t, const char *view, const void *got);

/*
 * Shows @compare the whole file through the mapping, by buffered pread and, when
 * it has been written back and dropped, by O_DIRECT pread. A view that cannot be
 * had exposes the trial.
 */
void file_check_views(struct file *f, struct trial *t, file_compare *compare);

/* May @got be the 8 bytes at offset @at of the file? */
typedef bool word_is_right(struct trial *t, size_t at, uint64_t got);

/* Asks @right of each word of the file, in three views as above. @what begins the report. */
void file_check_words(struct file *f, struct trial *t, const char *what, word_is_right *right);

/*
 * Self-test. "cache": one wrong byte through the page cache; "disk": one wrong
 * byte through O_DIRECT. At a random place of [@offset, @offset + @len).
 */
void file_plant(struct file *f, struct trial *t, size_t offset, size_t len);

/* Aligned buffer of @len bytes that lives until the program ends. */
void *aligned_buffer(size_t len);

#endif
