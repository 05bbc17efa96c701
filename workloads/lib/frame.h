/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of the frame share: race.c, racers.c and meet.c. Not for reproducers. */
#ifndef WORKLOADS_FRAME_H
#define WORKLOADS_FRAME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/align.h"
#include "lib/options.h"
#include "lib/race.h"

/* A trial of a set-up: what is known of it before the oracle has looked. */
struct attempt {
	enum outcome	outcome;
	char		why[sizeof(((struct trial *)0)->why)];
	char		more[sizeof(((struct trial *)0)->more)];
	long long	hits[MAX_WINDOWS];
	struct aligned	aligned;	/* how its racers were brought together */
	double		a_us, b_us;
	bool		ran, found;	/* found: the oracle saw damage in its slice */
};

struct frame {
	const struct race *race;
	struct options	options;
	struct trial	trial;
	struct align	align;			/* of unarmed trials */
	int		way;			/* of the set-up in hand, see align.h */
	struct attempt	attempts[MAX_BATCH];
	unsigned int	order_count[3];		/* trials by who came first */
	unsigned int	in_window;		/* B's accesses while A stood in its window */
	uint64_t	b_first;		/* when B's first access was over, ns; 0: not known */
	atomic_bool	a_done;
};

extern struct frame frame;
extern const char * const frame_orders[3];

/* In a spin. Under TCG one without a pause keeps the other CPU from running. */
static inline void frame_relax(void)
{
	__builtin_ia32_pause();
}

/* What was said so far was of another stage, and has been kept where it belongs. */
void frame_forget(void);

/* --- racers.c: both racing threads --- */

/* Monotonic clock, nanoseconds. */
uint64_t frame_now_ns(void);

/* Starts them, each on its CPU. Exits through race_skip(). */
void racers_start(void);

/*
 * Runs the trials of the set-up in hand, the @first of the program being the first of
 * them; false: one of them spoilt the set-up for the others, which were not run.
 */
bool racers_run(unsigned int first);

/* --- meet.c: windows --- */

/* Before a trial. */
void meet_reset(void);

/* After it: whether the windows were where the racers were. Fills @a->hits. */
void meet_judge(struct attempt *a);

#endif
