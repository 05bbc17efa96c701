/* SPDX-License-Identifier: GPL-2.0 */
/*
 * When racer B starts, counted from racer A, in a trial without a window to meet in.
 *
 * Two threads that are released together nearly always overlap in the same way.
 * So one of them is delayed: by how much is drawn from the time that both take,
 * which the first trials show, and more often from where it paid before.
 */
#ifndef WORKLOADS_ALIGN_H
#define WORKLOADS_ALIGN_H

#include <stdbool.h>
#include <stdint.h>

#define ALIGN_BINS	32	/* of the range of offsets */
#define ALIGN_LEARN	8	/* trials without a delay, to learn how long both take */

enum align_mode {
	ALIGN_NONE,		/* the plain loop: each goes when it wakes up */
	ALIGN_BARRIER,		/* both leave a spinning barrier together */
	ALIGN_FUZZY,		/* ... and one of them is delayed */
};

struct align {
	enum align_mode	mode;
	uint64_t	rng;
	unsigned int	trials;			/* learned from so far */
	double		a_us, b_us;		/* moving averages of what both take */
	double		offset_us;		/* of the trial in hand */
	int		bin;			/* that it is in; -1 = it was not drawn */
	struct {
		unsigned char hit, miss;
	} bins[ALIGN_BINS];
};

/* Begins a program's alignment; the same seed and the same feedback give the same draws. */
void align_init(struct align *al, enum align_mode mode, uint64_t seed);

/*
 * Draws the next trial's offset in microseconds: B starts so much after A, before it
 * if negative. 0 unless the mode is fuzzy, and while it still learns.
 */
double align_draw(struct align *al);

/*
 * A trial is over in which A took @a_us and B's first access @b_us microseconds;
 * @paid: it was exposed. A time below 0 is not known and not learned from.
 */
void align_learn(struct align *al, double a_us, double b_us, bool paid);

/* Where the offsets lie: [-@before, @after] microseconds around A's start. */
void align_range(const struct align *al, double *before, double *after);

/* "none", "barrier", "fuzzy"; false for any other @name. */
bool align_mode_named(const char *name, enum align_mode *mode);
const char *align_mode_name(enum align_mode mode);

#endif
