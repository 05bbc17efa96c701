// SPDX-License-Identifier: GPL-2.0
/* When racer B starts, counted from racer A. */
#include "lib/align.h"

#include <math.h>
#include <string.h>

#include "lib/prng.h"

#define SLACK		1.1	/* the range is so much more than what both take */
#define LEAST_US	2.0	/* a range below the clock's grain draws nothing */
#define MOST_US		20000.0	/* B that sleeps in the kernel would spread all draws thin */
#define MEMORY		24	/* trials of a bin that count; older ones fade */
#define YIELD_MEMORY	64	/* exposures of a way that count, ... */
#define YIELD_CPU_S	4	/* ... and seconds */
#define SLICE_S		1e-3	/* of a way that was not tried: any small time */

static const char * const names[] = { "none", "barrier", "fuzzy" };

bool align_mode_named(const char *name, enum align_mode *mode)
{
	unsigned int i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i])) {
			*mode = i;
			return true;
		}
	return false;
}

const char *align_mode_name(enum align_mode mode)
{
	return names[mode];
}

void align_init(struct align *al, enum align_mode mode, uint64_t seed)
{
	memset(al, 0, sizeof(*al));
	al->mode = mode;
	al->rng = prng_mix(seed ^ 0x616c69676eull);
}

static double unit(struct align *al)
{
	return (prng_next(&al->rng) >> 11) * 0x1p-53;
}

static double within(double us)
{
	return us < LEAST_US ? LEAST_US : us > MOST_US ? MOST_US : us;
}

/*
 * The median of the newest ones, 0 if there are none. A mean would follow the one trial
 * in which the host took a CPU away, and spread the offsets over all of that.
 */
static double median(const struct align_times *times)
{
	double sorted[ALIGN_TIMES];
	unsigned int n = times->n < ALIGN_TIMES ? times->n : ALIGN_TIMES, i, j;

	for (i = 0; i < n; i++) {
		for (j = i; j && sorted[j - 1] > times->us[i]; j--)
			sorted[j] = sorted[j - 1];
		sorted[j] = times->us[i];
	}
	return n ? sorted[n / 2] : 0;
}

void align_range(const struct align *al, double *before, double *after)
{
	*before = within(median(&al->b) * SLACK);
	*after = within(median(&al->a) * SLACK);
}

/* About a standard normal draw: that of four uniform ones. */
static double normal(struct align *al)
{
	return (unit(al) + unit(al) + unit(al) + unit(al) - 2) * sqrt(3);
}

/* About a draw from Beta(@a, @b): a normal one with its moments. */
static double beta(struct align *al, double a, double b)
{
	double n = a + b;

	return a / n + normal(al) * sqrt(a * b / (n + 1)) / n;
}

/*
 * Thompson sampling: each bin bids what its record makes likely, so that one that
 * paid is taken often, and one that was not tried is not forgotten.
 */
static int best_bin(struct align *al, const struct align_record *bins)
{
	double most = -1;
	int best = 0, i;

	for (i = 0; i <= ALIGN_BINS; i++) {
		double bid = beta(al, bins[i].hit + 1, bins[i].miss + 1);

		if (bid > most) {
			most = bid;
			best = i;
		}
	}
	return best;
}

int align_way(struct align *al, int can)
{
	double most = -1;
	int best = 0, way;

	if (al->mode == ALIGN_NONE)
		return ALIGN_LOOSE;
	if (al->mode == ALIGN_BARRIER)
		return 0;
	/* Thompson sampling again: about a draw from Gamma(exposures + 1/2), by the second. */
	for (way = 0; way < ALIGN_WAYS; way++) {
		double k = al->ways[way].exposed + 0.5;
		double bid = (k + sqrt(k) * normal(al)) / (al->ways[way].cpu_s + SLICE_S);

		if (way & ~can)
			continue;
		if (bid < 0)
			bid = 1e-9 * unit(al);
		if (bid > most) {
			most = bid;
			best = way;
		}
	}
	return best;
}

const char *align_way_name(int way)
{
	static const char * const ways[ALIGN_WAYS] = {
		"aligned", "warm", "loose", "warm+loose",
		"solo", "warm+solo", "loose+solo", "warm+loose+solo",
	};

	return ways[way];
}

void align_yielded(struct align *al, int way, unsigned int exposed, double cpu_s)
{
	struct align_yield *y = &al->ways[way];

	y->exposed += exposed;
	y->cpu_s += cpu_s;
	if (y->exposed >= YIELD_MEMORY || y->cpu_s >= YIELD_CPU_S) {
		y->exposed /= 2;
		y->cpu_s /= 2;
	}
}

struct aligned align_draw(struct align *al, int way)
{
	struct aligned how = { .bin = -1, .way = way };
	struct align_record *bins = al->bins[way & ALIGN_WARM];
	double before, after, kind, x;
	int bin;

	if (al->mode != ALIGN_FUZZY || (way & ALIGN_LOOSE) || al->trials < ALIGN_LEARN)
		return how;
	align_range(al, &before, &after);
	kind = unit(al);
	if (kind < 0.9) {
		bin = best_bin(al, bins);
		x = (bin + unit(al)) / ALIGN_BINS * (before + after) - before;
		if (bin == ALIGN_BINS) {
			how.bin = bin;
			return how;
		}
	} else if (kind < 0.95) {
		x = unit(al) * (before + after) - before;
	} else {
		/* Short delays often, long ones sometimes: the law of rr's chaos mode. */
		double far = unit(al) * (before + after) < before ? -before : after;

		x = copysign(exp(unit(al) * log(fabs(far) + 1)) - 1, far);
	}
	bin = (x + before) / (before + after) * ALIGN_BINS;
	how.bin = bin < ALIGN_BINS ? bin : ALIGN_BINS - 1;
	how.offset_us = x;
	return how;
}

static void remember(struct align_times *times, double us)
{
	if (us >= 0)
		times->us[times->n++ % ALIGN_TIMES] = us;
}

void align_learn(struct align *al, const struct aligned *how, double a_us, double b_us,
		 bool paid)
{
	struct align_record *r;

	/* How long a racer takes that had to be woken up says little of one that had not. */
	if (how->way & ALIGN_LOOSE)
		return;
	remember(&al->a, a_us);
	remember(&al->b, b_us);
	al->trials++;
	if (how->bin < 0)
		return;
	r = &al->bins[how->way & ALIGN_WARM][how->bin];
	if (paid)
		r->hit++;
	else
		r->miss++;
	if (r->hit + r->miss >= MEMORY) {
		r->hit /= 2;
		r->miss /= 2;
	}
}
