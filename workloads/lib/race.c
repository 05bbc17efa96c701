// SPDX-License-Identifier: GPL-2.0
/* The frame of a race reproducer. See race.h and docs/reproducers.md. */
#include "lib/race.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "lib/bus.h"
#include "lib/control.h"
#include "lib/frame.h"
#include "lib/judge.h"
#include "lib/prng.h"

struct frame frame;

static unsigned int count[3];		/* trials by outcome */
static bool plan_printed;

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
	fprintf(stderr, "%s: %s\n", frame.race->name, text);
	options_release(&frame.options);
	_exit(count[EXPOSED] ? EXIT_EXPOSED : EXIT_SKIP);
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

/* Pages [*@from, *@to) that the @n-th trial of a set-up has to itself. */
static void slice(const struct trial *t, unsigned int n, size_t *from, size_t *to)
{
	size_t pages = frame.race->end - frame.race->begin;

	if (frame.race->backwards)
		n = t->batch - 1 - n;
	*from = frame.race->begin + pages * n / t->batch;
	*to = frame.race->begin + pages * (n + 1) / t->batch;
}

void race_slice(const struct trial *t, size_t *from, size_t *to)
{
	slice(t, t->turn, from, to);
}

void race_found(size_t at)
{
	unsigned int n;

	for (n = 0; n < frame.trial.batch; n++) {
		size_t from, to;

		slice(&frame.trial, n, &from, &to);
		if (at / PAGE >= from && at / PAGE < to)
			frame.attempts[n].found = true;
	}
}

void frame_forget(void)
{
	frame.trial.outcome = HELD;
	frame.trial.why[0] = frame.trial.more[0] = '\0';
}

/* What the oracle's one look at all the trials of a set-up says of this one. */
static void conclude(struct attempt *a, bool last)
{
	bool exposed = a->outcome == EXPOSED ||
		       (frame.trial.outcome == EXPOSED && (frame.trial.batch == 1 || a->found));

	/* Damage that is nobody's is somebody's still: it must not be lost. */
	if (frame.trial.outcome == EXPOSED && last && !exposed) {
		unsigned int n;

		exposed = true;
		for (n = 0; n < frame.trial.batch; n++)
			exposed &= !frame.attempts[n].found;
	}
	if (exposed || (frame.trial.invalid && a->outcome == HELD) ||
	    (frame.trial.outcome == UNTESTED && a->outcome == HELD)) {
		if (a->outcome != EXPOSED)
			memcpy(a->why, frame.trial.why, sizeof(a->why));
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
	for (i = 0; i < frame.options.nr_windows; i++)
		printf("%s\"%s\":%lld", i ? "," : "", frame.options.windows[i].name, a->hits[i]);
	printf("},\"why\":\"%s\",\"us\":%llu%s}\n", why, (unsigned long long)us, a->more);
	printf("%s %u trial-%u%s%s\n", a->outcome == EXPOSED ? "not ok" : "ok", number, number,
	       a->outcome == UNTESTED ? " # SKIP " : "", a->outcome == UNTESTED ? a->why : "");
}

/* Of all threads, in seconds. */
static double cpu_time(void)
{
	struct rusage use;

	getrusage(RUSAGE_SELF, &use);
	return use.ru_utime.tv_sec + use.ru_stime.tv_sec +
	       (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

/* A set-up, @size trials from number @first on, and the oracle. */
static void run_batch(unsigned int first, unsigned int size)
{
	uint64_t started = race_now_us();
	unsigned int before = count[EXPOSED], n;
	double cpu = cpu_time();
	bool good;

	memset(frame.attempts, 0, sizeof(frame.attempts));
	frame.trial.number = first;
	frame.trial.batch = size;
	frame.trial.turn = 0;
	frame.trial.warm = frame.way & ALIGN_WARM;
	frame.trial.rng = prng_mix(frame.options.seed ^ ((uint64_t)first << 32));
	frame.trial.invalid = false;
	frame_forget();
	frame.race->setup(&frame.trial);
	/* A trial without its set-up is not run: it might find what belongs there. */
	good = !frame.trial.invalid && racers_run(first);
	if (good) {
		frame_forget();
		frame.race->check(&frame.trial);
	}
	for (n = 0; n < size; n++) {
		struct attempt *a = &frame.attempts[n];

		conclude(a, n == size - 1);
		if (a->ran && !options_meeting(&frame.options)) {
			align_learn(&frame.align, &a->aligned, a->a_us, a->b_us,
				    a->outcome == EXPOSED);
		}
		/* What the oracle counted is of all of them: said with the last. */
		if (n == size - 1 && good && strlen(a->more) + strlen(frame.trial.more) < sizeof(a->more))
			strcat(a->more, frame.trial.more);
		count[a->outcome]++;
		print_trial(a, first + n, (race_now_us() - started) / size);
	}
	if (!options_meeting(&frame.options))
		align_yielded(&frame.align, frame.way, count[EXPOSED] - before, cpu_time() - cpu);
	/* Not a write(2) each: they become known together. */
	fflush(stdout);
}

static void print_summary(void)
{
	unsigned int i;

	printf("# {\"summary\":{\"held\":%u,\"exposed\":%u,\"untested\":%u},\"orders\":{",
	       count[HELD], count[EXPOSED], count[UNTESTED]);
	for (i = 0; i < 3; i++)
		printf("%s\"%s\":%u", i ? "," : "", frame_orders[i], frame.order_count[i]);
	printf("},\"cpu_s\":%.3f}\n", cpu_time());
	fflush(stdout);
}

static void run_trials(void)
{
	int can = ALIGN_LOOSE | (frame.race->warm ? ALIGN_WARM : 0) |
		  (frame.options.batch > 1 ? ALIGN_SOLO : 0);
	uint64_t end = UINT64_MAX;
	unsigned long n = 0;

	if (frame.options.limit_s > 0)
		end = race_now_us() + frame.options.limit_s * 1e6;
	while (n < frame.options.trials && !(frame.options.first && count[EXPOSED])) {
		unsigned long size = frame.options.trials - n;

		if (n >= frame.options.at_least && race_now_us() >= end)
			break;
		frame.way = align_way(&frame.align, can);
		if (frame.way & ALIGN_SOLO)
			size = 1;
		else if (size > frame.options.batch)
			size = frame.options.batch;
		/* The self-test plants once: one wrong byte must be enough. */
		frame.trial.plant = n ? NULL : frame.options.plant;
		run_batch(n + 1, size);
		n += size;
	}
	/* With a limit nobody knew before how many there would be. */
	if (frame.options.limit_s > 0)
		printf("1..%lu\n", n);
}

int race_main(const struct race *r, int argc, char **argv)
{
	int code;

	frame.race = r;
	code = options_parse(&frame.options, r, argc, argv);
	if (code >= 0)
		return code;
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		race_skip("one CPU: a race needs two");
	frame.trial.dir = frame.options.dir;
	frame.trial.dirfd = open(frame.trial.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (frame.trial.dirfd < 0)
		race_skip("%s: %s", frame.trial.dir, strerror(errno));
	frame.trial.fstype = fs_name(frame.trial.dir);
	bus_catch();
	options_arm(&frame.options);
	frame.trial.batch = frame.options.batch;
	frame.race->open(&frame.trial);

	racers_start();
	align_init(&frame.align, frame.options.align, frame.options.seed);
	if (!(frame.options.limit_s > 0))
		printf("1..%lu\n", frame.options.trials);
	plan_printed = true;
	options_print(&frame.options, r, frame.trial.fstype);
	fflush(stdout);
	run_trials();
	options_release(&frame.options);
	print_summary();
	if (count[EXPOSED])
		return EXIT_EXPOSED;
	return count[HELD] ? EXIT_HELD : EXIT_SKIP;
}
