/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Operations that arrive at fixed times, whatever became of those before: an operation
 * that is blocked for a hundred intervals makes a hundred late, and each counts from
 * its own arrival. A loop that starts one when the last is done would count one.
 */
#ifndef WORKLOADS_SCHEDULE_H
#define WORKLOADS_SCHEDULE_H

#include <stdint.h>

struct schedule {
	uint64_t	next;		/* arrival, ns of CLOCK_MONOTONIC */
	uint64_t	interval;	/* ns */
};

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t schedule_now(void);

/* The first arrival is one @interval_ns from @begin. */
void schedule_begin(struct schedule *s, uint64_t begin, uint64_t interval_ns);

/*
 * Returns when the next operation arrives, in ns: sleeps until then, or returns at once when
 * that is over. The latency of the operation is what has passed since when it is done.
 */
uint64_t schedule_wait(struct schedule *s);

/* The calling thread is woken up when it asked to be, not 50 us later. */
void schedule_precisely(void);

/*
 * The time stamp counter. Under QEMU's -icount with shift=0 it counts guest instructions,
 * of all CPUs, and nanoseconds in which all of them sleep.
 */
static inline uint64_t ticks(void)
{
	return __builtin_ia32_rdtsc();
}

#endif
