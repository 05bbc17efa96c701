// SPDX-License-Identifier: GPL-2.0
/* Both racing threads, and the trials that they run. See race.h. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "lib/frame.h"
#include "lib/prng.h"

static pthread_barrier_t go, done;	/* main and both racers; these sleep */
static atomic_uint arrivals;		/* at the racers' own barrier; this spins */
static bool unattended;			/* the racers run all trials of a set-up alone */
static bool over;			/* ... and this was the last */
static unsigned int first_trial;	/* of the set-up in hand */
/* When A's and B's functions began and ended: nanoseconds. */
static uint64_t a_began, a_ended, b_began, b_ended;

const char * const frame_orders[3] = { "a_first", "b_first", "overlap" };

uint64_t frame_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

uint64_t race_now_us(void)
{
	return frame_now_ns() / 1000;
}

void race_spin_us(uint64_t us)
{
	uint64_t end = race_now_us() + us;

	while (race_now_us() < end)
		frame_relax();
}

bool race_a_done(void)
{
	return atomic_load(&frame.a_done);
}

void race_stagger(struct trial *t, unsigned int us)
{
	/* An offset that was drawn is not to be blurred by another. */
	if (frame.way & ALIGN_LOOSE || frame.align.mode != ALIGN_FUZZY)
		race_spin_us(prng_below(&t->rng_a, us));
}

/* Both racers leave within a few instructions of each other. */
static void line_up(void)
{
	static _Thread_local unsigned int mine;
	unsigned int all = 2 * ++mine;

	atomic_fetch_add(&arrivals, 1);
	while ((int)(atomic_load(&arrivals) - all) < 0)
		frame_relax();
}

/* What each racer came to and when, in its order: "a+@812 b+@815 b1@901 a-@940 b-@950". */
static void note_events(struct trial *t)
{
	struct { const char *name; uint64_t ns; } events[] = {
		{ "a+", a_began }, { "b+", b_began }, { "b1", frame.b_first },
		{ "a-", a_ended }, { "b-", b_ended },
	}, swap;
	unsigned int i, j, nr = sizeof(events) / sizeof(events[0]);
	char text[200] = "";
	size_t n = 0;

	for (i = 1; i < nr; i++)
		for (j = i; j && events[j].ns < events[j - 1].ns; j--) {
			swap = events[j];
			events[j] = events[j - 1];
			events[j - 1] = swap;
		}
	for (i = 0; i < nr; i++)
		if (events[i].ns)	/* B may have no first access that is known */
			n += snprintf(text + n, sizeof(text) - n, "%s%s@%llu", n ? " " : "",
				      events[i].name, (unsigned long long)events[i].ns);
	race_note_string(t, "events", text);
}

/* What the times say of how the two met. */
static void note_times(struct attempt *a)
{
	unsigned int order = b_began >= a_ended ? 0 : b_ended <= a_began ? 1 : 2;
	struct trial *t = &frame.trial;

	frame.order_count[order]++;
	race_note_string(t, "order", frame_orders[order]);
	a->a_us = (a_ended - (double)a_began) / 1e3;
	a->b_us = ((frame.b_first ? frame.b_first : b_ended) - (double)b_began) / 1e3;
	race_note(t, "a_us", lround(a->a_us));
	race_note(t, "b_us", lround(a->b_us));
	if (frame.options.clock)
		note_events(t);
	if (options_meeting(&frame.options))
		return;
	race_note_string(t, "way", align_way_name(a->aligned.way));
	race_note(t, "offset_us", lround(a->aligned.offset_us));
}

/* Before the @n-th trial of the set-up. */
static void begin(unsigned int n)
{
	uint64_t rng = prng_mix(frame.options.seed ^ ((uint64_t)(first_trial + n) << 32));
	struct trial *t = &frame.trial;

	t->turn = n;
	t->rng_a = prng_mix(rng ^ 'a');
	t->rng_b = prng_mix(rng ^ 'b');
	frame_forget();
	meet_reset();
	frame.in_window = 0;
	frame.b_first = 0;
	atomic_store(&frame.a_done, false);
	frame.attempts[n].aligned = align_draw(&frame.align, frame.way);
}

/* After it; false: it spoilt the set-up for the others. */
static bool end(unsigned int n)
{
	struct attempt *a = &frame.attempts[n];
	struct trial *t = &frame.trial;

	a->ran = true;
	note_times(a);
	if (!t->invalid)
		meet_judge(a);
	if (!t->invalid && t->batch > 1 && frame.race->glance)
		frame.race->glance(t);
	a->outcome = t->outcome;
	memcpy(a->why, t->why, sizeof(a->why));
	memcpy(a->more, t->more, sizeof(a->more));
	return !t->invalid;
}

/* One racer's part of a trial: together with the other, but for the trial's offset. */
static void take_turn(bool is_a)
{
	struct trial *t = &frame.trial;
	double offset = frame.attempts[t->turn].aligned.offset_us;

	if (!is_a && t->warm && frame.race->warm)
		frame.race->warm(t);
	if (!(frame.way & ALIGN_LOOSE))
		line_up();
	if (is_a ? offset < 0 : offset > 0)
		race_spin_us(fabs(offset));
	if (is_a) {
		a_began = frame_now_ns();
		frame.race->a(t);
		a_ended = frame_now_ns();
		atomic_store(&frame.a_done, true);
	} else {
		b_began = frame_now_ns();
		frame.race->b(t);
		b_ended = frame_now_ns();
	}
}

/*
 * All trials of a set-up, without anybody to be woken up in between: under TCG that
 * takes longer than some races do. A keeps the records.
 */
static void run_unattended(bool is_a)
{
	unsigned int n;

	for (n = 0; ; n++) {
		if (is_a) {
			over = (n && !end(n - 1)) || n == frame.trial.batch;
			if (!over)
				begin(n);
		}
		line_up();
		if (over)
			return;
		take_turn(is_a);
		line_up();
	}
}

static void *racer(void *arg)
{
	bool is_a = !arg;

	prctl(PR_SET_NAME, is_a ? RACER "a" : RACER "b");
	for (;;) {
		pthread_barrier_wait(&go);
		if (unattended)
			run_unattended(is_a);
		else
			take_turn(is_a);
		pthread_barrier_wait(&done);
	}
	return NULL;
}

/* Starts racer @n on the CPU of the same number. */
static void start_racer(unsigned int n)
{
	pthread_attr_t attr;
	pthread_t thread;
	cpu_set_t set;
	int error;

	CPU_ZERO(&set);
	CPU_SET(n, &set);
	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	error = pthread_create(&thread, &attr, racer, (void *)(uintptr_t)n);
	/* Unchecked this once hid that a guest had one CPU only. */
	if (error)
		race_skip("cannot start a thread on CPU %u: %s", n, strerror(error));
	pthread_attr_destroy(&attr);
}

void racers_start(void)
{
	unsigned int n;

	pthread_barrier_init(&go, NULL, 3);
	pthread_barrier_init(&done, NULL, 3);
	for (n = 0; n < 2; n++)
		start_racer(n);
}

bool racers_run(unsigned int first)
{
	struct trial *t = &frame.trial;
	bool good = true;
	unsigned int n;

	first_trial = first;
	/* watch() is for windows; the plain loop goes when each is woken up. */
	unattended = t->batch > 1 && frame.align.mode == ALIGN_FUZZY &&
		     !(frame.way & ALIGN_LOOSE);
	if (unattended) {
		pthread_barrier_wait(&go);
		pthread_barrier_wait(&done);
		return !t->invalid;
	}
	for (n = 0; n < t->batch && good; n++) {
		begin(n);
		pthread_barrier_wait(&go);
		if (frame.race->watch)
			frame.race->watch(t);
		pthread_barrier_wait(&done);
		good = end(n);
	}
	return good;
}
