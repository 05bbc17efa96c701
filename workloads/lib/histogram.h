/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How often each value was seen: log-linear buckets, no wider than 1/1024 of what
 * is in them, so that nothing has to be known of the values beforehand and none is
 * thrown away. What is printed has every bucket; harness/bench/histogram.py reads it.
 */
#ifndef WORKLOADS_HISTOGRAM_H
#define WORKLOADS_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS		10
/* Up to 2^40: a quarter of an hour in nanoseconds. What is above counts as that. */
#define HISTOGRAM_TOP		40
#define HISTOGRAM_BUCKETS	((HISTOGRAM_TOP - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS)

struct histogram {
	uint64_t	count, sum, min, max;
	uint32_t	buckets[HISTOGRAM_BUCKETS];
};

/* Empties @h. */
void histogram_clear(struct histogram *h);

/* Counts @value. One thread at a time. */
void histogram_add(struct histogram *h, uint64_t value);

/* Adds all that @from has seen to @h. */
void histogram_merge(struct histogram *h, const struct histogram *from);

/*
 * The value below or at which a share @part of what was seen lies: the lower end of its
 * bucket, 0 if nothing was seen.
 */
uint64_t histogram_at(const struct histogram *h, double part);

/*
 * Prints @h on stdout as one line of JSON: its @name, the @unit of its values, and
 * [bucket, count] of each bucket that is not empty. One call at a time.
 */
void histogram_print(const struct histogram *h, const char *name, const char *unit);

#endif
