// SPDX-License-Identifier: GPL-2.0
/* Where racers meet: the windows of a trial. See race.h. */
#include <string.h>
#include <unistd.h>

#include "lib/control.h"
#include "lib/frame.h"

static bool wait_hit(const struct window *w, unsigned int timeout_ms)
{
	uint64_t end = race_now_us() + timeout_ms * 1000ull;

	while (race_now_us() < end) {
		if (window_hits(w) > w->hits_before)
			return true;
		frame_relax();
	}
	return false;
}

static const struct window *window_named(const char *name)
{
	unsigned int i;

	for (i = 0; i < frame.options.nr_windows; i++)
		if (!strcmp(frame.options.windows[i].name, name))
			return &frame.options.windows[i];
	return NULL;
}

bool race_wait_window(const char *name, unsigned int timeout_ms)
{
	const struct window *w = window_named(name);

	return w && w->delay_us && wait_hit(w, timeout_ms);
}

void race_meet(struct trial *t)
{
	const struct window *w = options_meeting(&frame.options);

	if (w && !wait_hit(w, 1000))
		race_untested(t, "window %s was not reached within a second", w->name);
}

bool race_window_open(void)
{
	const struct window *w = options_meeting(&frame.options);

	return w && window_held(w) > 0;
}

bool race_window_held(const char *name)
{
	const struct window *w = window_named(name);

	return w && window_held(w) > 0;
}

bool race_window_over(const char *name)
{
	const struct window *w = window_named(name);

	return w && window_delays(w) > w->delays_before;
}

void race_count_access(void)
{
	frame.in_window++;
}

void race_until_done(struct trial *t, const char *key, void (*once)(struct trial *t))
{
	long long times = 0;

	race_meet(t);
	do {
		if (race_window_open())
			race_count_access();
		once(t);
		if (!times++)
			frame.b_first = frame_now_ns();
	} while (!race_a_done());
	race_note(t, key, times);
}

void race_watch_overtaken(const char *name)
{
	const struct window *w = window_named(name);
	bool overtaken = false;

	while (w && !race_a_done()) {
		if (overtaken && race_window_over(name) && race_window_open()) {
			race_count_access();
			return;
		}
		/* B last: it was still held when A's window was open already. */
		overtaken |= race_window_open() && window_held(w) > 0;
		usleep(500);
	}
}

void meet_reset(void)
{
	/* Of a set-up's first trial, and where a racer looked around after the last one. */
	bool afresh = !frame.trial.turn || frame.race->glance;
	unsigned int i;

	for (i = 0; i < frame.options.nr_windows; i++) {
		struct window *w = &frame.options.windows[i];

		/* Only racers are counted: what the last trial saw still stands. */
		if (afresh)
			w->hits_before = window_hits(w);
		else
			w->hits_before += frame.attempts[frame.trial.turn - 1].hits[i];
		if (w->delay_us)
			w->delays_before = window_delays(w);
		if (!w->partner[0])
			continue;
		w->met_before = window_met(w);
		w->excluded_before = window_excluded(w);
	}
}

/*
 * What came of a rendezvous: on a good kernel B comes to the lock and no further
 * for as long as A waits. That, and not the absence of damage, is why it held.
 */
static void judge_rendezvous(struct trial *t, const struct window *w)
{
	bool met = window_met(w) > w->met_before;
	bool excluded = window_excluded(w) > w->excluded_before;

	race_note_string(t, "rendezvous", met ? "met" : excluded ? "excluded" : "missed");
	if (met)
		race_untested(t, "%s was passed while %s was held, but nothing came of it",
			      w->partner, w->name);
	else if (!excluded)
		race_untested(t, "nobody came to the lock while %s was held", w->name);
}

void meet_judge(struct attempt *a)
{
	const struct window *meeting = options_meeting(&frame.options);
	struct trial *t = &frame.trial;
	unsigned int i;

	for (i = 0; i < frame.options.nr_windows; i++) {
		const struct window *w = &frame.options.windows[i];

		a->hits[i] = window_hits(w) - w->hits_before;
		if (a->hits[i] <= 0)
			race_untested(t, "window %s was not reached", w->name);
	}
	if (meeting && meeting->partner[0]) {
		judge_rendezvous(t, meeting);
	} else if (meeting) {
		race_note(t, "in_window", frame.in_window);
		if (!frame.in_window)
			race_untested(t, "no access met the window %s", meeting->name);
	}
}
