// SPDX-License-Identifier: GPL-2.0
/* Fixed arrivals. See schedule.h. */
#include "lib/schedule.h"

#include <errno.h>
#include <sys/prctl.h>
#include <time.h>

#define SECOND 1000000000ull

uint64_t schedule_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

void schedule_begin(struct schedule *s, uint64_t begin, uint64_t interval_ns)
{
	s->next = begin;
	s->interval = interval_ns;
}

uint64_t schedule_wait(struct schedule *s)
{
	struct timespec at;

	s->next += s->interval;
	at.tv_sec = s->next / SECOND;
	at.tv_nsec = s->next % SECOND;
	while (schedule_now() < s->next &&
	       clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
	return s->next;
}

void schedule_precisely(void)
{
	prctl(PR_SET_TIMERSLACK, 1ul);
}
