// SPDX-License-Identifier: GPL-2.0
/* Log-linear histograms. See histogram.h. */
#include "lib/histogram.h"

#include <stdio.h>
#include <string.h>

#define SUB (1u << HISTOGRAM_BITS)

/* Values below SUB have a bucket each, every power of two above has SUB of them. */
static unsigned int bucket_of(uint64_t value)
{
	unsigned int shift;

	if (value < SUB)
		return value;
	if (value >> HISTOGRAM_TOP)
		return HISTOGRAM_BUCKETS - 1;
	shift = 63 - __builtin_clzll(value) - HISTOGRAM_BITS;
	return ((shift + 1) << HISTOGRAM_BITS) + (value >> shift) - SUB;
}

/* The smallest value of a bucket. */
static uint64_t floor_of(unsigned int bucket)
{
	unsigned int shift = bucket >> HISTOGRAM_BITS;

	if (!shift)
		return bucket;
	return (uint64_t)(SUB + bucket % SUB) << (shift - 1);
}

void histogram_clear(struct histogram *h)
{
	memset(h, 0, sizeof(*h));
	h->min = UINT64_MAX;
}

void histogram_add(struct histogram *h, uint64_t value)
{
	h->count++;
	h->sum += value;
	if (value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
	h->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *h, const struct histogram *from)
{
	unsigned int i;

	h->count += from->count;
	h->sum += from->sum;
	if (from->min < h->min)
		h->min = from->min;
	if (from->max > h->max)
		h->max = from->max;
	for (i = 0; i < HISTOGRAM_BUCKETS; i++)
		h->buckets[i] += from->buckets[i];
}

uint64_t histogram_at(const struct histogram *h, double part)
{
	uint64_t rank = part * h->count, seen = 0;
	unsigned int i;

	if (!h->count)
		return 0;
	if (rank >= h->count)
		rank = h->count - 1;
	for (i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen > rank)
			return floor_of(i);
	}
	return h->max;
}

void histogram_print(const struct histogram *h, const char *name, const char *unit)
{
	const char *comma = "";
	unsigned int i;

	printf("# {\"histogram\":\"%s\",\"unit\":\"%s\",\"bits\":%d,\"count\":%llu,\"sum\":%llu,\"min\":%llu,\"max\":%llu,\"buckets\":[",
	       name, unit, HISTOGRAM_BITS, (unsigned long long)h->count,
	       (unsigned long long)h->sum, (unsigned long long)(h->count ? h->min : 0),
	       (unsigned long long)h->max);
	for (i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (!h->buckets[i])
			continue;
		printf("%s[%u,%u]", comma, i, h->buckets[i]);
		comma = ",";
	}
	printf("]}\n");
}
