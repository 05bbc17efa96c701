// SPDX-License-Identifier: GPL-2.0
/*
 * Runs a KUnit suite of the kernel through debugfs. A trial is one run.
 *
 *	--suite NAME	a directory under /sys/kernel/debug/kunit (range_lock)
 *
 * What would deadlock: whatever the suite locks and does not unlock.
 *
 * Oracle:	the suite's own results: KTAP that is whole, with at least one case
 *		that ran, and no "not ok". A kernel without the suite tests nothing.
 * Bound:	120 s a run.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/gate.h"

static const char *suite;
static char directory[160];
static char results[1 << 20];

static int open_in(const char *file, int flags)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	return open(path, flags | O_CLOEXEC);
}

static void open_suite(struct trial *t)
{
	int fd;

	(void)t;
	suite = gate_option("suite", "range_lock");
	snprintf(directory, sizeof(directory), "%s/%s",
		 gate_option("root", "/sys/kernel/debug/kunit"), suite);
	fd = open_in("run", O_WRONLY);
	if (fd < 0)
		race_skip("%s/run: %s (CONFIG_KUNIT_DEBUGFS and the suite's own option?)",
			  directory, strerror(errno));
	close(fd);
}

static void setup(struct trial *t)
{
	(void)t;
	results[0] = '\0';
}

static void run(struct trial *t)
{
	size_t len = 0;
	ssize_t n;
	int fd = open_in("run", O_WRONLY);

	/* The write returns when the suite is through. */
	if (fd < 0 || write(fd, "1", 1) != 1)
		race_invalid(t, "%s/run: %s", directory, strerror(errno));
	close(fd);
	fd = open_in("results", O_RDONLY);
	while ((n = read(fd, results + len, sizeof(results) - 1 - len)) > 0)
		len += n;
	if (fd < 0 || n < 0)
		race_invalid(t, "%s/results: %s", directory, strerror(errno));
	close(fd);
	results[len] = '\0';
	/* Self-test: a case that failed. */
	if (t->plant && !strcmp(t->plant, "not-ok"))
		strncat(results, "    not ok 1 planted\n", sizeof(results) - len - 1);
}

static void other(struct trial *t)
{
	gate_plant_stuck(t);
}

/* "ok 3 name # SKIP" or "not ok 3 name"; indented for cases, not for the suite. */
static void check_line(struct trial *t, const char *line, long long *passed, long long *skipped,
		       bool *whole)
{
	const char *text = line + strspn(line, " ");
	bool bad = !strncmp(text, "not ok ", 7);
	char name[96];

	if (!bad && strncmp(text, "ok ", 3))
		return;
	if (sscanf(text + (bad ? 7 : 3), "%*u %90s", name) != 1)
		return;
	if (bad)
		race_exposed(t, "not ok: %s", name);
	if (text == line)
		*whole = !strcmp(name, suite);
	else if (strstr(text, "# SKIP"))
		++*skipped;
	else if (!bad)
		++*passed;
}

static void check(struct trial *t)
{
	long long passed = 0, skipped = 0;
	char *line, *rest = results;
	bool whole = false;

	while ((line = strsep(&rest, "\n"))) {
		check_line(t, line, &passed, &skipped, &whole);
		/* A case says on lines of its own, before its result, what it expected. */
		if (!strstr(line, " ok ") || strstr(line, "not ok"))
			printf("# %s: %s\n", suite, line);
	}
	race_note(t, "passed", passed);
	race_note(t, "skipped", skipped);
	if (!whole)
		race_untested(t, "the results of %s end before the suite's own line", suite);
	else if (!passed)
		race_untested(t, "no case of %s ran", suite);
}

static const struct race race = {
	.name	= "kunit",
	.plants	= "not-ok " PLANT_STUCK,
	.open	= open_suite,
	.setup	= setup,
	.a	= run,
	.b	= other,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "suite root", 120, argc, argv);
}
