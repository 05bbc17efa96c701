// SPDX-License-Identifier: GPL-2.0
/* The frame of a race reproducer. See race.h and docs/reproducers.md. */
#include "lib/race.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "lib/control.h"
#include "lib/prng.h"

/* Windows hold only tasks named like this: setup and checks run at full speed. */
#define RACER "race-"

static const struct race *race;
static struct trial trial;
static struct window windows[MAX_WINDOWS];
static unsigned int nr_windows;
static const char *switches[MAX_SWITCHES];
static unsigned int nr_switches;
static bool controls_touched;
static unsigned int count[3];		/* trials by outcome */
static bool plan_printed;
static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_barrier_t go, done;	/* main and both racers; these sleep */
static atomic_uint at_line;		/* the racers' own barrier; this spins */
static atomic_bool a_done;
static unsigned int in_window;		/* B's accesses while A stood in its window */

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

static void release_controls(void)
{
	unsigned int i;

	if (!controls_touched)
		return;
	for (i = 0; i < nr_windows; i++)
		window_disarm(&windows[i]);
	for (i = 0; i < nr_switches; i++)
		switch_set(switches[i], false);
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
	release_controls();
	_exit(count[EXPOSED] ? EXIT_EXPOSED : EXIT_SKIP);
}

static void judge(struct trial *t, enum outcome outcome, const char *fmt, va_list ap)
{
	pthread_mutex_lock(&report_lock);
	/* Exposed beats untested: old data is old data however it was met. */
	if (!t->invalid &&
	    (t->outcome == HELD || (t->outcome == UNTESTED && outcome == EXPOSED))) {
		t->outcome = outcome;
		vsnprintf(t->why, sizeof(t->why), fmt, ap);
	}
	pthread_mutex_unlock(&report_lock);
}

void race_untested(struct trial *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	judge(t, UNTESTED, fmt, ap);
	va_end(ap);
}

void race_invalid(struct trial *t, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&report_lock);
	if (!t->invalid) {
		t->invalid = true;
		t->outcome = UNTESTED;
		va_start(ap, fmt);
		vsnprintf(t->why, sizeof(t->why), fmt, ap);
		va_end(ap);
	}
	pthread_mutex_unlock(&report_lock);
}

void race_exposed(struct trial *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	judge(t, EXPOSED, fmt, ap);
	va_end(ap);
}

/* Callers quote nothing that needs escaping in JSON but this makes sure. */
static void json_escape(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text && n + 7 < size; text++) {
		unsigned char c = *text;

		if (c == '"' || c == '\\')
			n += snprintf(out + n, size - n, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			n += snprintf(out + n, size - n, "\\u%04x", c);
		else
			out[n++] = c;
	}
	out[n] = '\0';
}

static void note(struct trial *t, const char *key, const char *value)
{
	size_t n;

	pthread_mutex_lock(&report_lock);
	n = strlen(t->more);
	/* Whole members only: a torn one would spoil the line. */
	if (n + strlen(key) + strlen(value) + 5 < sizeof(t->more))
		snprintf(t->more + n, sizeof(t->more) - n, ",\"%s\":%s", key, value);
	pthread_mutex_unlock(&report_lock);
}

void race_note(struct trial *t, const char *key, long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", value);
	note(t, key, text);
}

void race_note_string(struct trial *t, const char *key, const char *value)
{
	char escaped[256], text[260];

	json_escape(escaped, sizeof(escaped), value);
	snprintf(text, sizeof(text), "\"%s\"", escaped);
	note(t, key, text);
}

/* --- SIGBUS: a fault beyond EOF is an answer, not a crash --- */

/* Volatile: the compiler sees nobody who could read it in between. */
static _Thread_local sigjmp_buf *volatile bus_return;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	if (bus_return)
		siglongjmp(*bus_return, 1);
	signal(sig, SIG_DFL);
	raise(sig);
}

bool race_touch(const volatile char *p)
{
	sigjmp_buf here;

	if (sigsetjmp(here, 0)) {
		bus_return = NULL;
		return false;
	}
	bus_return = &here;
	(void)*p;
	bus_return = NULL;
	return true;
}

bool race_store(volatile uint64_t *p, uint64_t value)
{
	sigjmp_buf here;

	if (sigsetjmp(here, 0)) {
		bus_return = NULL;
		return false;
	}
	bus_return = &here;
	*p = value;
	bus_return = NULL;
	return true;
}

bool race_copy(void *to, const void *from, size_t len)
{
	sigjmp_buf here;

	if (sigsetjmp(here, 0)) {
		bus_return = NULL;
		return false;
	}
	bus_return = &here;
	memcpy(to, from, len);
	/* Not to be moved above the copy. */
	atomic_signal_fence(memory_order_seq_cst);
	bus_return = NULL;
	return true;
}

/* --- the racers --- */

/* Both racers leave within a few instructions of each other. */
static void line_up(void)
{
	atomic_fetch_add(&at_line, 1);
	while (atomic_load(&at_line) < 2)
		relax();
}

static void *racer(void *arg)
{
	bool is_a = !arg;

	prctl(PR_SET_NAME, is_a ? RACER "a" : RACER "b");
	for (;;) {
		pthread_barrier_wait(&go);
		line_up();
		if (is_a) {
			race->a(&trial);
			atomic_store(&a_done, true);
		} else {
			race->b(&trial);
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

	for (i = 0; i < nr_windows; i++)
		if (!strcmp(windows[i].name, name))
			return &windows[i];
	return NULL;
}

bool race_wait_window(const char *name, unsigned int timeout_ms)
{
	const struct window *w = window_named(name);

	return w && w->delay_us && wait_hit(w, timeout_ms);
}

/* The window that A is held in, NULL if A is not held. */
static const struct window *meeting_point(void)
{
	return nr_windows && windows[0].delay_us ? &windows[0] : NULL;
}

void race_meet(struct trial *t)
{
	const struct window *w = meeting_point();

	if (w && !wait_hit(w, 1000))
		race_untested(t, "window %s was not reached within a second", w->name);
}

bool race_window_open(void)
{
	const struct window *w = meeting_point();

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

void race_until_done(struct trial *t, const char *key, void (*once)(struct trial *t))
{
	long long times = 0;

	race_meet(t);
	do {
		if (race_window_open())
			race_count_access();
		once(t);
		times++;
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

/* --- options and output --- */

static void usage(void)
{
	printf("Usage: %s --dir DIR [--trials N] [--seed N] [--switch A[+B]]\n"
	       "       [--window NAME:DELAY_US[:PROBABILITY][@PARTNER[/ATTEMPT]]]...\n"
	       "       [--plant KIND] [--first]\n"
	       "Races the kernel in DIR; KTAP and one JSON line per trial on stdout.\n"
	       "--first: no further trial once one was exposed.\n"
	       "Exit: 0 held, 1 exposed, 4 could not be tested.  Kinds of --plant: %s\n"
	       "Example: %s --dir /mnt --trials 100 --window ext4_punch:2000\n",
	       race->name, race->plants, race->name);
}

static void add_switches(char *list)
{
	char *name;

	while ((name = strsep(&list, "+"))) {
		if (!*name)
			continue;
		if (nr_switches == MAX_SWITCHES)
			race_skip("more than %d switches", MAX_SWITCHES);
		switches[nr_switches++] = name;
	}
}

static unsigned long number(const char *text, const char *what)
{
	char *end;
	unsigned long n = strtoul(text, &end, 0);

	if (*end || end == text)
		race_skip("%s: '%s' is not a number", what, text);
	return n;
}

static bool has_word(const char *words, const char *word)
{
	size_t len = strlen(word);
	const char *at;

	for (at = words; len && (at = strstr(at, word)); at += len)
		if ((at == words || at[-1] == ' ') && (!at[len] || at[len] == ' '))
			return true;
	return false;
}

static void arm(void)
{
	const char *error = switch_all_off();
	unsigned int i;

	if (!error)
		error = window_all_off();
	if (error)
		race_skip("%s", error);
	controls_touched = true;
	for (i = 0; i < nr_switches; i++) {
		error = switch_set(switches[i], true);
		if (error)
			race_skip("switch '%s': %s (is this a control kernel?)", switches[i],
				  error);
	}
	for (i = 0; i < nr_windows; i++) {
		error = window_arm(&windows[i], RACER);
		if (error)
			race_skip("%s (CONFIG_RACE_WINDOWS?)", error);
	}
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

static void print_header(unsigned long seed)
{
	struct utsname uts;
	unsigned int i;

	uname(&uts);
	printf("# {\"workload\":\"%s\",\"seed\":%lu,\"switches\":[", race->name, seed);
	for (i = 0; i < nr_switches; i++)
		printf("%s\"%s\"", i ? "," : "", switches[i]);
	printf("],\"windows\":{");
	for (i = 0; i < nr_windows; i++)
		printf("%s\"%s\":%u", i ? "," : "", windows[i].name, windows[i].delay_us);
	printf("},\"cpus\":%ld,\"release\":\"%s\",\"filesystem\":\"%s\"}\n",
	       sysconf(_SC_NPROCESSORS_ONLN), uts.release, trial.fstype);
}

static void print_trial(uint64_t started)
{
	static const char * const words[] = { "held", "exposed", "untested" };
	char why[512];
	unsigned int i;

	json_escape(why, sizeof(why), trial.why);
	printf("# {\"trial\":%u,\"outcome\":\"%s\",\"window_hits\":{", trial.number,
	       words[trial.outcome]);
	for (i = 0; i < nr_windows; i++)
		printf("%s\"%s\":%lld", i ? "," : "", windows[i].name,
		       window_hits(&windows[i]) - windows[i].hits_before);
	printf("},\"why\":\"%s\",\"us\":%llu%s}\n", why,
	       (unsigned long long)(race_now_us() - started), trial.more);
	printf("%s %u trial-%u%s%s\n", trial.outcome == EXPOSED ? "not ok" : "ok", trial.number,
	       trial.number, trial.outcome == UNTESTED ? " # SKIP " : "",
	       trial.outcome == UNTESTED ? trial.why : "");
	fflush(stdout);
}

static void run_trial(unsigned long seed, unsigned int n)
{
	uint64_t started = race_now_us();
	const struct window *meeting;
	unsigned int i;

	trial.number = n;
	trial.rng = prng_mix(seed ^ ((uint64_t)n << 32));
	trial.rng_a = prng_mix(trial.rng ^ 'a');
	trial.rng_b = prng_mix(trial.rng ^ 'b');
	trial.outcome = HELD;
	trial.invalid = false;
	trial.why[0] = trial.more[0] = '\0';
	race->setup(&trial);
	for (i = 0; i < nr_windows; i++) {
		windows[i].hits_before = window_hits(&windows[i]);
		windows[i].delays_before = window_delays(&windows[i]);
		if (!windows[i].partner[0])
			continue;
		windows[i].met_before = window_met(&windows[i]);
		windows[i].excluded_before = window_excluded(&windows[i]);
	}
	in_window = 0;
	atomic_store(&at_line, 0);
	atomic_store(&a_done, false);

	/* A trial without its set-up is not run: it might find what belongs there. */
	if (!trial.invalid) {
		pthread_barrier_wait(&go);
		if (race->watch)
			race->watch(&trial);
		pthread_barrier_wait(&done);
	}
	if (!trial.invalid)
		race->check(&trial);
	for (i = 0; i < nr_windows; i++)
		if (window_hits(&windows[i]) <= windows[i].hits_before)
			race_untested(&trial, "window %s was not reached", windows[i].name);
	meeting = meeting_point();
	if (meeting && meeting->partner[0]) {
		judge_rendezvous(&trial, meeting);
	} else if (meeting) {
		race_note(&trial, "in_window", in_window);
		if (!in_window)
			race_untested(&trial, "no access met the window %s", meeting->name);
	}
	print_trial(started);
}

int race_main(const struct race *r, int argc, char **argv)
{
	static const struct option options[] = {
		{ "dir", required_argument, NULL, 'd' },
		{ "trials", required_argument, NULL, 'n' },
		{ "seed", required_argument, NULL, 's' },
		{ "switch", required_argument, NULL, 'x' },
		{ "window", required_argument, NULL, 'w' },
		{ "plant", required_argument, NULL, 'p' },
		{ "first", no_argument, NULL, '1' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct sigaction bus = { .sa_sigaction = on_sigbus, 
				 /* No mask to restore: sigsetjmp() costs no system call. */
				 .sa_flags = SA_SIGINFO | SA_NODEFER };
	unsigned long trials = 100, seed = 1;
	const char *plant = NULL;
	bool first = false;
	unsigned int n;
	int c;

	race = r;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			trial.dir = optarg;
			break;
		case 'n':
			trials = number(optarg, "--trials");
			break;
		case 's':
			seed = number(optarg, "--seed");
			break;
		case 'x':
			add_switches(optarg);
			break;
		case 'w':
			if (nr_windows == MAX_WINDOWS)
				race_skip("more than %d windows", MAX_WINDOWS);
			if (!window_parse(&windows[nr_windows++], optarg))
				race_skip("--window %s: not NAME:DELAY_US[:PROBABILITY][@PARTNER[/ATTEMPT]]",
					  optarg);
			break;
		case 'p':
			plant = optarg;
			break;
		case '1':
			first = true;
			break;
		case 'h':
			usage();
			return EXIT_HELD;
		default:
			usage();
			return EXIT_SKIP;
		}
	}
	printf("KTAP version 1\n");
	if (!trial.dir)
		race_skip("no --dir");
	if (plant && !has_word(race->plants, plant))
		race_skip("--plant %s: not one of: %s", plant, race->plants);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		race_skip("one CPU: a race needs two");
	trial.dirfd = open(trial.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (trial.dirfd < 0)
		race_skip("%s: %s", trial.dir, strerror(errno));
	trial.fstype = fs_name(trial.dir);
	sigaction(SIGBUS, &bus, NULL);
	arm();
	race->open(&trial);

	pthread_barrier_init(&go, NULL, 3);
	pthread_barrier_init(&done, NULL, 3);
	for (n = 0; n < 2; n++)
		start_racer(n);

	printf("1..%lu\n", trials);
	plan_printed = true;
	print_header(seed);
	fflush(stdout);
	for (n = 1; n <= trials && !(first && count[EXPOSED]); n++) {
		/* The self-test plants once: one wrong byte must be enough. */
		trial.plant = n == 1 ? plant : NULL;
		run_trial(seed, n);
		count[trial.outcome]++;
	}
	release_controls();
	printf("# {\"summary\":{\"held\":%u,\"exposed\":%u,\"untested\":%u}}\n", count[HELD],
	       count[EXPOSED], count[UNTESTED]);
	fflush(stdout);
	if (count[EXPOSED])
		return EXIT_EXPOSED;
	return count[HELD] ? EXIT_HELD : EXIT_SKIP;
}
