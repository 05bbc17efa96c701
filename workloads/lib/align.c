// SPDX-License-Identifier: GPL-2.0
/* When racer B starts, counted from racer A. */
#include "lib/align.h"

#include <math.h>
#include <string.h>

#include "lib/prng.h"

#define ALPHA		0.25	/* weight of the newest time */
#define SLACK		1.1	/* the range is so much more than what both take */
#define LEAST_US	2.0	/* a range below the clock's grain draws nothing */
#define MOST_US		20000.0	/* B that sleeps in the kernel would spread all draws thin */
#define MEMORY		24	/* trials of a bin that count; older ones fade */

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
	al->bin = -1;
}

static double unit(struct align *al)
{
	return (prng_next(&al->rng) >> 11) * 0x1p-53;
}

static double within(double us)
{
	return us < LEAST_US ? LEAST_US : us > MOST_US ? MOST_US : us;
}

void align_range(const struct align *al, double *before, double *after)
{
	*before = within(al->b_us * SLACK);
	*after = within(al->a_us * SLACK);
}

/* About a draw from Beta(@a, @b): a normal one, of four uniform ones, with its moments. */
static double beta(struct align *al, double a, double b)
{
	double n = a + b, z = unit(al) + unit(al) + unit(al) + unit(al) - 2;

	return a / n + z * sqrt(3 * a * b / (n + 1)) / n;
}

/*
 * Thompson sampling: each bin bids what its record makes likely, so that one that
 * paid is taken often, and one that was not tried is not forgotten.
 */
static int best_bin(struct align *al)
{
	double most = -1;
	int best = 0, i;

	for (i = 0; i < ALIGN_BINS; i++) {
		double bid = beta(al, al->bins[i].hit + 1, al->bins[i].miss + 1);

		if (bid > most) {
			most = bid;
			best = i;
		}
	}
	return best;
}

double align_draw(struct align *al)
{
	double before, after, kind, x;

	al->bin = -1;
	al->offset_us = 0;
	if (al->mode != ALIGN_FUZZY || al->trials < ALIGN_LEARN)
		return 0;
	align_range(al, &before, &after);
	kind = unit(al);
	if (kind < 0.9) {
		x = (best_bin(al) + unit(al)) / ALIGN_BINS * (before + after) - before;
	} else if (kind < 0.95) {
		x = unit(al) * (before + after) - before;
	} else {
		/* Short delays often, long ones sometimes: the law of rr's chaos mode. */
		double far = unit(al) * (before + after) < before ? -before : after;

		x = copysign(exp(unit(al) * log(fabs(far) + 1)) - 1, far);
	}
	al->bin = (x + before) / (before + after) * ALIGN_BINS;
	if (al->bin >= ALIGN_BINS)
		al->bin = ALIGN_BINS - 1;
	al->offset_us = x;
	return x;
}

static void average(double *mean, double us, bool first)
{
	if (us >= 0)
		*mean = first ? us : *mean + ALPHA * (us - *mean);
}

void align_learn(struct align *al, double a_us, double b_us, bool paid)
{
	average(&al->a_us, a_us, !al->trials);
	average(&al->b_us, b_us, !al->trials);
	al->trials++;
	if (al->bin < 0)
		return;
	if (paid)
		al->bins[al->bin].hit++;
	else
		al->bins[al->bin].miss++;
	if (al->bins[al->bin].hit + al->bins[al->bin].miss >= MEMORY) {
		al->bins[al->bin].hit /= 2;
		al->bins[al->bin].miss /= 2;
	}
}
