// SPDX-License-Identifier: GPL-2.0
/* The frame of a race reproducer. See race.h and docs/reproducers.md. */
#include "lib/race.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "lib/align.h"
#include "lib/bus.h"
#include "lib/control.h"
#include "lib/judge.h"
#include "lib/options.h"
#include "lib/prng.h"

static const struct race *race;
static struct options options;
static struct trial trial;
static struct align align;		/* of unarmed trials */
static unsigned int count[3];		/* trials by outcome */
static bool plan_printed;

static pthread_barrier_t go, done;	/* main and both racers; these sleep */
static atomic_uint at_line;		/* the racers' own barrier; this spins */
static atomic_bool a_done;
static unsigned int in_window;		/* B's accesses while A stood in its window */
/* When A's and B's functions began and ended, and B's first access was over. */
static uint64_t a_began, a_ended, b_began, b_first, b_ended;
static const char * const orders[] = { "a_first", "b_first", "overlap" };
static unsigned int order_count[3];

/* The trials of a set-up: what is known of each before the oracle has looked. */
static struct attempt {
	enum outcome	outcome;
	char		why[sizeof(trial.why)];
	char		more[sizeof(trial.more)];
	long long	hits[MAX_WINDOWS];
	int		bin;		/* that this one's offset was drawn from */
	double		a_us, b_us;
	bool		ran, found;	/* found: the oracle saw damage in its slice */
} attempts[MAX_BATCH];

uint64_t race_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

/* Under TCG a spin without a pause keeps the other CPU from running. */
static void relax(void)
{
	__builtin_ia32_pause();
}

void race_spin_us(uint64_t us)
{
	uint64_t end = race_now_us() + us;

	while (race_now_us() < end)
		relax();
}

bool race_a_done(void)
{
	return atomic_load(&a_done);
}

void race_skip(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* Before the first trial the plan is 1..0; later the reader counts. */
	if (!plan_printed)
		printf("1..0 # SKIP %s\n", text);
	else
		printf("Bail out! %s\n", text);
	fflush(stdout);
	fprintf(stderr, "%s: %s\n", race->name, text);
	options_release(&options);
	_exit(count[EXPOSED] ? EXIT_EXPOSED : EXIT_SKIP);
}

/* --- the racers --- */

/* Both racers leave within a few instructions of each other. */
static void line_up(void)
{
	atomic_fetch_add(&at_line, 1);
	while (atomic_load(&at_line) < 2)
		relax();
}

/* A racer's turn: together with the other, but for the trial's offset. */
static void start_line(bool is_a)
{
	double offset = align.offset_us;

	if (align.mode == ALIGN_NONE)
		return;
	line_up();
	if (is_a ? offset < 0 : offset > 0)
		race_spin_us(fabs(offset));
}

static void *racer(void *arg)
{
	bool is_a = !arg;

	prctl(PR_SET_NAME, is_a ? RACER "a" : RACER "b");
	for (;;) {
		pthread_barrier_wait(&go);
		if (!is_a && trial.fuzzy && race->warm)
			race->warm(&trial);
		start_line(is_a);
		if (is_a) {
			a_began = race_now_us();
			race->a(&trial);
			a_ended = race_now_us();
			atomic_store(&a_done, true);
		} else {
			b_began = race_now_us();
			race->b(&trial);
			b_ended = race_now_us();
		}
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

static bool wait_hit(const struct window *w, unsigned int timeout_ms)
{
	uint64_t end = race_now_us() + timeout_ms * 1000ull;

	while (race_now_us() < end) {
		if (window_hits(w) > w->hits_before)
			return true;
		relax();
	}
	return false;
}

static const struct window *window_named(const char *name)
{
	unsigned int i;

	for (i = 0; i < options.nr_windows; i++)
		if (!strcmp(options.windows[i].name, name))
			return &options.windows[i];
	return NULL;
}

bool race_wait_window(const char *name, unsigned int timeout_ms)
{
	const struct window *w = window_named(name);

	return w && w->delay_us && wait_hit(w, timeout_ms);
}

void race_meet(struct trial *t)
{
	const struct window *w = options_meeting(&options);

	if (w && !wait_hit(w, 1000))
		race_untested(t, "window %s was not reached within a second", w->name);
}

bool race_window_open(void)
{
	const struct window *w = options_meeting(&options);

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
	in_window++;
}

void race_stagger(struct trial *t, unsigned int us)
{
	/* An offset that was drawn is not to be blurred by another. */
	if (align.mode != ALIGN_FUZZY)
		race_spin_us(prng_below(&t->rng_a, us));
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
			b_first = race_now_us();
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

static const char *fs_name(const char *dir)
{
	struct statfs fs;

	if (statfs(dir, &fs))
		race_skip("%s: %s", dir, strerror(errno));
	switch ((unsigned long)fs.f_type) {
	case 0xef53:
		return "ext4";
	case 0x58465342:
		return "xfs";
	default:
		return "other";
	}
}

/* --- trials --- */

/* Pages [*@from, *@to) that the @n-th trial of a set-up has to itself. */
static void slice(const struct trial *t, unsigned int n, size_t *from, size_t *to)
{
	size_t pages = race->end - race->begin;

	*from = race->begin + pages * n / t->batch;
	*to = race->begin + pages * (n + 1) / t->batch;
}

void race_slice(const struct trial *t, size_t *from, size_t *to)
{
	slice(t, t->turn, from, to);
}

void race_found(size_t at)
{
	unsigned int n;

	for (n = 0; n < trial.batch; n++) {
		size_t from, to;

		slice(&trial, n, &from, &to);
		if (at / PAGE >= from && at / PAGE < to)
			attempts[n].found = true;
	}
}

/* What the times say of how the two met. */
static void note_times(struct attempt *a)
{
	unsigned int order = b_began >= a_ended ? 0 : b_ended <= a_began ? 1 : 2;

	order_count[order]++;
	race_note_string(&trial, "order", orders[order]);
	a->a_us = a_ended - (double)a_began;
	a->b_us = (b_first ? b_first : b_ended) - (double)b_began;
	race_note(&trial, "a_us", lround(a->a_us));
	race_note(&trial, "b_us", lround(a->b_us));
	if (!options_meeting(&options))
		race_note(&trial, "offset_us", lround(align.offset_us));
}

/* Whether the windows were where the racers were, for this trial. */
static void judge_windows(struct attempt *a)
{
	const struct window *meeting = options_meeting(&options);
	unsigned int i;

	for (i = 0; i < options.nr_windows; i++) {
		const struct window *w = &options.windows[i];

		a->hits[i] = window_hits(w) - w->hits_before;
		if (a->hits[i] <= 0)
			race_untested(&trial, "window %s was not reached", w->name);
	}
	if (meeting && meeting->partner[0]) {
		judge_rendezvous(&trial, meeting);
	} else if (meeting) {
		race_note(&trial, "in_window", in_window);
		if (!in_window)
			race_untested(&trial, "no access met the window %s", meeting->name);
	}
}

static void reset_counters(void)
{
	unsigned int i;

	for (i = 0; i < options.nr_windows; i++) {
		struct window *w = &options.windows[i];

		/* Only racers are counted: what the last trial saw still stands. */
		w->hits_before = trial.turn ? w->hits_before + attempts[trial.turn - 1].hits[i] :
					      window_hits(w);
		if (w->delay_us)
			w->delays_before = window_delays(w);
		if (!w->partner[0])
			continue;
		w->met_before = window_met(w);
		w->excluded_before = window_excluded(w);
	}
}

/* What was said so far was of another stage, and has been kept where it belongs. */
static void forget(void)
{
	trial.outcome = HELD;
	trial.why[0] = trial.more[0] = '\0';
}

/* One attempt, in what the set-up left; false: it spoilt that for the others. */
static bool attempt(struct attempt *a, uint64_t rng)
{
	trial.rng_a = prng_mix(rng ^ 'a');
	trial.rng_b = prng_mix(rng ^ 'b');
	forget();
	reset_counters();
	in_window = 0;
	b_first = 0;
	atomic_store(&at_line, 0);
	atomic_store(&a_done, false);
	align_draw(&align);
	a->bin = align.bin;

	pthread_barrier_wait(&go);
	if (race->watch)
		race->watch(&trial);
	pthread_barrier_wait(&done);
	a->ran = true;
	note_times(a);
	if (!trial.invalid)
		judge_windows(a);
	a->outcome = trial.outcome;
	memcpy(a->why, trial.why, sizeof(a->why));
	memcpy(a->more, trial.more, sizeof(a->more));
	return !trial.invalid;
}

/* What the oracle's one look at all the trials of a set-up says of this one. */
static void conclude(struct attempt *a, bool last)
{
	bool exposed = a->outcome == EXPOSED ||
		       (trial.outcome == EXPOSED && (trial.batch == 1 || a->found));

	/* Damage that is nobody's is somebody's still: it must not be lost. */
	if (trial.outcome == EXPOSED && last && !exposed) {
		unsigned int n;

		exposed = true;
		for (n = 0; n < trial.batch; n++)
			exposed &= !attempts[n].found;
	}
	if (exposed || (trial.invalid && a->outcome == HELD) ||
	    (trial.outcome == UNTESTED && a->outcome == HELD)) {
		if (a->outcome != EXPOSED)
			memcpy(a->why, trial.why, sizeof(a->why));
		a->outcome = exposed ? EXPOSED : UNTESTED;
	}
}

static void print_trial(const struct attempt *a, unsigned int number, uint64_t us)
{
	static const char * const words[] = { "held", "exposed", "untested" };
	char why[512];
	unsigned int i;

	json_escape(why, sizeof(why), a->why);
	printf("# {\"trial\":%u,\"outcome\":\"%s\",\"window_hits\":{", number,
	       words[a->outcome]);
	for (i = 0; i < options.nr_windows; i++)
		printf("%s\"%s\":%lld", i ? "," : "", options.windows[i].name, a->hits[i]);
	printf("},\"why\":\"%s\",\"us\":%llu%s}\n", why, (unsigned long long)us, a->more);
	printf("%s %u trial-%u%s%s\n", a->outcome == EXPOSED ? "not ok" : "ok", number, number,
	       a->outcome == UNTESTED ? " # SKIP " : "", a->outcome == UNTESTED ? a->why : "");
	fflush(stdout);
}

/* A set-up, @size trials from number @first on, and the oracle. */
static void run_batch(unsigned int first, unsigned int size)
{
	uint64_t started = race_now_us();
	unsigned int n;
	bool good;

	memset(attempts, 0, sizeof(attempts));
	trial.number = first;
	trial.batch = size;
	trial.turn = 0;
	trial.rng = prng_mix(options.seed ^ ((uint64_t)first << 32));
	trial.invalid = false;
	forget();
	race->setup(&trial);
	/* A trial without its set-up is not run: it might find what belongs there. */
	good = !trial.invalid;
	for (n = 0; n < size && good; n++) {
		trial.turn = n;
		good = attempt(&attempts[n], prng_mix(options.seed ^ ((uint64_t)(first + n) << 32)));
	}
	if (good) {
		forget();
		race->check(&trial);
	}
	for (n = 0; n < size; n++) {
		struct attempt *a = &attempts[n];

		conclude(a, n == size - 1);
		if (a->ran && !options_meeting(&options)) {
			align.bin = a->bin;
			align_learn(&align, a->a_us, a->b_us, a->outcome == EXPOSED);
		}
		/* What the oracle counted is of all of them: said with the last. */
		if (n == size - 1 && good && strlen(a->more) + strlen(trial.more) < sizeof(a->more))
			strcat(a->more, trial.more);
		count[a->outcome]++;
		print_trial(a, first + n, (race_now_us() - started) / size);
	}
}

/* Of all threads, in seconds. */
static double cpu_time(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return use.ru_utime.tv_sec + use.ru_stime.tv_sec +
	       (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void print_summary(void)
{
	unsigned int i;

	printf("# {\"summary\":{\"held\":%u,\"exposed\":%u,\"untested\":%u},\"orders\":{",
	       count[HELD], count[EXPOSED], count[UNTESTED]);
	for (i = 0; i < 3; i++)
		printf("%s\"%s\":%u", i ? "," : "", orders[i], order_count[i]);
	printf("},\"cpu_s\":%.3f}\n", cpu_time());
	fflush(stdout);
}

static void run_trials(void)
{
	uint64_t end = UINT64_MAX;
	unsigned long n = 0;

	if (options.limit_s > 0)
		end = race_now_us() + options.limit_s * 1e6;
	while (n < options.trials && !(options.first && count[EXPOSED])) {
		unsigned long size = options.trials - n;

		if (n >= options.at_least && race_now_us() >= end)
			break;
		if (size > options.batch)
			size = options.batch;
		/* The self-test plants once: one wrong byte must be enough. */
		trial.plant = n ? NULL : options.plant;
		run_batch(n + 1, size);
		n += size;
	}
	/* With a limit nobody knew before how many there would be. */
	if (options.limit_s > 0)
		printf("1..%lu\n", n);
}

int race_main(const struct race *r, int argc, char **argv)
{
	unsigned int n;
	int code;

	race = r;
	code = options_parse(&options, race, argc, argv);
	if (code >= 0)
		return code;
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		race_skip("one CPU: a race needs two");
	trial.dir = options.dir;
	trial.dirfd = open(trial.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (trial.dirfd < 0)
		race_skip("%s: %s", trial.dir, strerror(errno));
	trial.fstype = fs_name(trial.dir);
	bus_catch();
	options_arm(&options);
	trial.batch = options.batch;
	trial.fuzzy = options.align == ALIGN_FUZZY;
	race->open(&trial);

	pthread_barrier_init(&go, NULL, 3);
	pthread_barrier_init(&done, NULL, 3);
	for (n = 0; n < 2; n++)
		start_racer(n);

	align_init(&align, options.align, options.seed);
	if (!(options.limit_s > 0))
		printf("1..%lu\n", options.trials);
	plan_printed = true;
	options_print(&options, race, trial.fstype);
	fflush(stdout);
	run_trials();
	options_release(&options);
	print_summary();
	if (count[EXPOSED])
		return EXIT_EXPOSED;
	return count[HELD] ? EXIT_HELD : EXIT_SKIP;
}
