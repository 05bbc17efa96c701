// SPDX-License-Identifier: GPL-2.0
/*
 * Runs the kernel's torture test of the range lock through debugfs: readers,
 * writers, downgraders, tryers and killed waiters on random ranges of one tree.
 * A trial is one run of --seconds (10); its seed is drawn from --seed.
 *
 *	--readers N --writers N --downgraders N --trylockers N --killable N --span N
 *
 * What would deadlock: a wake-up that is lost, a waiter that is never served.
 *
 * Oracle:	the test's own: no two holders whose ranges conflict, nobody who
 *		waits longer than the test's max_wait_ms; and each thread of each
 *		kind got the lock at least once.
 * Bound:	60 s more than the run, which stops its threads itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/prng.h"

static const char * const kinds[] = { "readers", "writers", "downgraders", "trylockers",
				      "killable", "span" };

static const char *root;
static unsigned long seconds;
static char stats[1 << 16];
static int run_error;

static bool put(const char *file, unsigned long long value)
{
	char path[160], text[32];
	int fd, len, error = 0;

	snprintf(path, sizeof(path), "%s/%s", root, file);
	len = snprintf(text, sizeof(text), "%llu", value);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (write(fd, text, len) != len)
		error = errno;
	close(fd);
	errno = error;
	return !error;
}

static void open_torture(struct trial *t)
{
	unsigned int i;

	(void)t;
	root = gate_option("root", "/sys/kernel/debug/range_torture");
	seconds = gate_number("seconds", 10);
	if (access(root, F_OK))
		race_skip("%s: %s (CONFIG_RANGE_LOCK_TORTURE_TEST?)", root, strerror(errno));
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (gate_option(kinds[i], NULL) &&
		    !put(kinds[i], strtoul(gate_option(kinds[i], "0"), NULL, 0)))
			race_skip("%s/%s: %s", root, kinds[i], strerror(errno));
}

static void setup(struct trial *t)
{
	unsigned long seed = prng_below(&t->rng, 1ul << 62) + 1;

	stats[0] = '\0';
	run_error = 0;
	race_note(t, "torture_seed", seed);
	if (!put("seed", seed))
		race_invalid(t, "setup: %s/seed: %s", root, strerror(errno));
}

static void run(struct trial *t)
{
	char path[160];
	size_t len = 0;
	ssize_t n;
	int fd;

	if (!put("run", seconds))
		run_error = errno;
	snprintf(path, sizeof(path), "%s/stats", root);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while ((n = read(fd, stats + len, sizeof(stats) - 1 - len)) > 0)
		len += n;
	if (fd < 0 || n < 0)
		race_invalid(t, "%s: %s", path, strerror(errno));
	close(fd);
	stats[len] = '\0';
}

static void other(struct trial *t)
{
	gate_plant_stuck(t);
}

/* The number that follows " @key="; -1 if there is none. */
static long long value(const char *line, const char *key)
{
	char word[40];
	const char *at;

	snprintf(word, sizeof(word), " %s=", key);
	at = strstr(line, word);
	return at ? atoll(at + strlen(word)) : -1;
}

static void check_run(struct trial *t, const char *line)
{
	static const char * const must_be_0[] = { "violations", "overdue", "stalled" };
	unsigned int i;

	race_note(t, "acquired", value(line, "acquired"));
	race_note(t, "max_wait_us", value(line, "max_wait_us"));
	if (!strstr(line, " state=done "))
		race_exposed(t, "the run did not end by itself: %.120s", line);
	for (i = 0; i < 3; i++) {
		long long n = value(line, must_be_0[i]);

		/* Self-test: one conflict. */
		n += !i && t->plant && !strcmp(t->plant, "violation");
		if (n < 0)
			race_invalid(t, "no number of %s in: %.120s", must_be_0[i], line);
		else if (n)
			race_exposed(t, "%lld %s", n, must_be_0[i]);
	}
}

static void check(struct trial *t)
{
	long long threads = -1, seen = 0;
	char *line, *rest = stats;

	if (run_error && run_error != ETIME) {
		race_invalid(t, "%s/run: %s", root, strerror(run_error));
		return;
	}
	if (run_error == ETIME)
		race_exposed(t, "threads never got the lock: a wake-up was lost");
	while ((line = strsep(&rest, "\n"))) {
		if (*line)
			printf("# %s\n", line);
		if (!strncmp(line, "run ", 4)) {
			threads = value(line, "threads");
			check_run(t, line);
		} else if (!strncmp(line, "thread ", 7)) {
			seen++;
			if (value(line, "acquired") <= 0)
				race_exposed(t, "a thread never got the lock: %.120s", line);
		}
	}
	race_note(t, "threads", seen);
	if (threads < 1 || seen != threads)
		race_untested(t, "stats tell of %lld threads, the run had %lld", seen, threads);
}

static const struct race race = {
	.name	= "range-torture",
	.plants	= "violation " PLANT_STUCK,
	.open	= open_torture,
	.setup	= setup,
	.a	= run,
	.b	= other,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "seconds root readers writers downgraders trylockers killable span",
			 60, argc, argv);
}
