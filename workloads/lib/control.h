/* SPDX-License-Identifier: GPL-2.0 */
/* Windows and switches of the kernel under test, through debugfs. */
#ifndef WORKLOADS_CONTROL_H
#define WORKLOADS_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#define MAX_WINDOWS	4
#define MAX_SWITCHES	8

struct window {
	char		name[32];
	unsigned int	delay_us;	/* 0: count hits only */
	unsigned int	probability;	/* per cent */
	char		partner[32];	/* a rendezvous with this one; "" = a delay */
	char		attempt[32];	/* what is passed before the lock there, or "" */
	long long	hits_before;	/* at the start of the trial */
	long long	delays_before;
	long long	met_before;
	long long	excluded_before;
};

/*
 * Parses NAME:DELAY_US[:PROBABILITY][@PARTNER[/ATTEMPT]]. Returns false if it is
 * malformed.
 */
bool window_parse(struct window *w, const char *text);

/*
 * Arms @w for tasks whose name begins with @task and resets its counters.
 * Returns NULL, or why it cannot be done.
 */
const char *window_arm(struct window *w, const char *task);
void window_disarm(struct window *w);

/* Passes by a matching task since window_arm(); -1 if it cannot be read. */
long long window_hits(const struct window *w);

/* Passes that were held, to the end, since window_arm(); -1 as above. */
long long window_delays(const struct window *w);

/* Rendezvous that the partner came to, and those it was kept from; as above. */
long long window_met(const struct window *w);
long long window_excluded(const struct window *w);

/* Tasks held in the window right now; -1 as above. */
long long window_held(const struct window *w);

/*
 * Turns all windows off, also those that an earlier program left armed. A
 * kernel without windows is fine. Returns NULL, or why it cannot be done.
 */
const char *window_all_off(void);

/*
 * Turns the switch @name of a control kernel on or off and reads it back.
 * Returns NULL, or why it cannot be done.
 */
const char *switch_set(const char *name, bool on);

/*
 * Turns all switches off. A kernel without switches is fine, one whose
 * switches are out of reach is not. Returns NULL, or why it cannot be done.
 */
const char *switch_all_off(void);

#endif
