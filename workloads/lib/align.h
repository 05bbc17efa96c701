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
#define ALIGN_TIMES	15	/* the newest times that the range is made from */

enum align_mode {
	ALIGN_NONE,		/* the plain loop: each goes when it wakes up */
	ALIGN_BARRIER,		/* both leave a spinning barrier together */
	ALIGN_FUZZY,		/* ... and one of them is delayed */
};

/* How often something paid, and did not, lately. */
struct align_record {
	double hit, miss;
};

/*
 * How the trials of a set-up are run, as bits. Which way is worth its time depends on the
 * race and on how busy the host is, so that is learned, too.
 */
enum {
	ALIGN_WARM	= 1,	/* B brings in before what A will remove, see race.h */
	ALIGN_LOOSE	= 2,	/* each racer goes when it wakes up, as in the plain loop */
	ALIGN_SOLO	= 4,	/* one trial has the set-up to itself, and all of the range */
	ALIGN_WAYS	= 8
};

/* What a way has brought lately. */
struct align_yield {
	double exposed, cpu_s;
};

struct align_times {
	double		us[ALIGN_TIMES];
	unsigned int	n;		/* ever */
};

struct align {
	enum align_mode		mode;
	uint64_t		rng;
	unsigned int		trials;			/* learned from so far */
	struct align_times	a, b;			/* what both took */
	/* By whether B was warm; the last is of trials without a delay. */
	struct align_record	bins[2][ALIGN_BINS + 1];
	struct align_yield	ways[ALIGN_WAYS];
};

/* How one trial's racers are brought together. */
struct aligned {
	double	offset_us;	/* B starts so much after A, before it if negative */
	int	bin;		/* that the offset is in; -1: it was not drawn */
	int	way;
};

/* Begins a program's alignment; the same seed and the same feedback give the same draws. */
void align_init(struct align *al, enum align_mode mode, uint64_t seed);

/* The next set-up's way, of those that @can has all bits of; in any mode but fuzzy the same. */
int align_way(struct align *al, int can);

/* "aligned", or "warm", "loose" and "solo" with a + between them; static. */
const char *align_way_name(int way);

/* The set-up's trials are over: so many were exposed, for so much of both CPUs' time. */
void align_yielded(struct align *al, int way, unsigned int exposed, double cpu_s);

/* Draws the next trial's offset: 0 unless the mode is fuzzy, while it learns, and if loose. */
struct aligned align_draw(struct align *al, int way);

/*
 * A trial is over in which A took @a_us and B's first access @b_us microseconds;
 * @paid: it was exposed. A time below 0 is not known and not learned from.
 */
void align_learn(struct align *al, const struct aligned *how, double a_us, double b_us,
		 bool paid);

/* Where the offsets lie: [-@before, @after] microseconds around A's start. */
void align_range(const struct align *al, double *before, double *after);

/* "none", "barrier", "fuzzy"; false for any other @name. */
bool align_mode_named(const char *name, enum align_mode *mode);
const char *align_mode_name(enum align_mode mode);

#endif
