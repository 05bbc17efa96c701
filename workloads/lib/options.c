// SPDX-License-Identifier: GPL-2.0
/* The command line of a reproducer. */
#include "lib/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static bool armed;	/* windows or switches were touched */

static void usage(const struct race *race)
{
	printf("Usage: %s --dir DIR [--trials N] [--seed N] [--switch A[+B]]\n"
	       "       [--window NAME:DELAY_US[:PROBABILITY][@PARTNER[/ATTEMPT]]]...\n"
	       "       [--plant KIND] [--first] [--clock]\n"
	       "       [--align none|barrier|fuzzy] [--batch N]\n"
	       "       [--limit SECONDS [--at-least N]]\n"
	       "Races the kernel in DIR; KTAP and one JSON line per trial on stdout.\n"
	       "--first: no further trial once one was exposed.\n"
	       "--clock: each trial says what its racers came to, and at which nanosecond.\n"
	       "--batch: so many trials, at most, share a set-up (default: fuzzy, as many as it\n"
	       "has room for; else 1).\n"
	       "--limit: none begins after that time, but for the first N (default 1).\n"
	       "--align: how unarmed racers are brought together (default fuzzy).\n"
	       "Exit: 0 held, 1 exposed, 4 could not be tested.  Kinds of --plant: %s\n"
	       "Example: %s --dir /mnt --trials 100 --window ext4_punch:2000\n",
	       race->name, race->plants, race->name);
}

static void add_switches(struct options *o, char *list)
{
	char *name;

	while ((name = strsep(&list, "+"))) {
		if (!*name)
			continue;
		if (o->nr_switches == MAX_SWITCHES)
			race_skip("more than %d switches", MAX_SWITCHES);
		o->switches[o->nr_switches++] = name;
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

static double seconds(const char *text)
{
	char *end;
	double s = strtod(text, &end);

	if (*end || end == text || !(s > 0 && s < 1e6))
		race_skip("--limit: '%s' is not a time in seconds", text);
	return s;
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

const struct window *options_meeting(const struct options *o)
{
	return o->nr_windows && o->windows[0].delay_us ? &o->windows[0] : NULL;
}

void options_arm(struct options *o)
{
	const char *error = switch_all_off();
	unsigned int i;

	if (!error)
		error = window_all_off();
	if (error)
		race_skip("%s", error);
	armed = true;
	for (i = 0; i < o->nr_switches; i++) {
		error = switch_set(o->switches[i], true);
		if (error)
			race_skip("switch '%s': %s (is this a control kernel?)",
				  o->switches[i], error);
	}
	for (i = 0; i < o->nr_windows; i++) {
		error = window_arm(&o->windows[i], RACER);
		if (error)
			race_skip("%s (CONFIG_RACE_WINDOWS?)", error);
	}
}

void options_release(struct options *o)
{
	unsigned int i;

	if (!armed)
		return;
	for (i = 0; i < o->nr_windows; i++)
		window_disarm(&o->windows[i]);
	for (i = 0; i < o->nr_switches; i++)
		switch_set(o->switches[i], false);
}

void options_print(const struct options *o, const struct race *race, const char *fstype)
{
	struct utsname uts;
	unsigned int i;

	uname(&uts);
	printf("# {\"workload\":\"%s\",\"seed\":%lu,\"switches\":[", race->name, o->seed);
	for (i = 0; i < o->nr_switches; i++)
		printf("%s\"%s\"", i ? "," : "", o->switches[i]);
	printf("],\"align\":\"%s\"", align_mode_name(o->align));
	if (o->limit_s > 0)
		printf(",\"limit\":%g", o->limit_s);
	printf(",\"windows\":{");
	for (i = 0; i < o->nr_windows; i++)
		printf("%s\"%s\":%u", i ? "," : "", o->windows[i].name,
		       o->windows[i].delay_us);
	printf("},\"cpus\":%ld,\"release\":\"%s\",\"filesystem\":\"%s\"}\n",
	       sysconf(_SC_NPROCESSORS_ONLN), uts.release, fstype);
}

int options_parse(struct options *o, const struct race *race, int argc, char **argv)
{
	static const struct option options[] = {
		{ "dir", required_argument, NULL, 'd' },
		{ "trials", required_argument, NULL, 'n' },
		{ "seed", required_argument, NULL, 's' },
		{ "switch", required_argument, NULL, 'x' },
		{ "window", required_argument, NULL, 'w' },
		{ "plant", required_argument, NULL, 'p' },
		{ "first", no_argument, NULL, '1' },
		{ "clock", no_argument, NULL, 'c' },
		{ "align", required_argument, NULL, 'a' },
		{ "batch", required_argument, NULL, 'b' },
		{ "limit", required_argument, NULL, 'l' },
		{ "at-least", required_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int c;

	*o = (struct options){ .trials = 100, .seed = 1, .at_least = 1, .align = ALIGN_FUZZY };
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			o->dir = optarg;
			break;
		case 'n':
			o->trials = number(optarg, "--trials");
			break;
		case 's':
			o->seed = number(optarg, "--seed");
			break;
		case 'x':
			add_switches(o, optarg);
			break;
		case 'w':
			if (o->nr_windows == MAX_WINDOWS)
				race_skip("more than %d windows", MAX_WINDOWS);
			if (!window_parse(&o->windows[o->nr_windows++], optarg))
				race_skip("--window %s: not NAME:DELAY_US[:PROBABILITY][@PARTNER[/ATTEMPT]]",
					  optarg);
			break;
		case 'p':
			o->plant = optarg;
			break;
		case '1':
			o->first = true;
			break;
		case 'c':
			o->clock = true;
			break;
		case 'a':
			if (!align_mode_named(optarg, &o->align))
				race_skip("--align %s: not none, barrier or fuzzy", optarg);
			break;
		case 'b':
			o->batch = number(optarg, "--batch");
			break;
		case 'l':
			o->limit_s = seconds(optarg);
			break;
		case 'm':
			o->at_least = number(optarg, "--at-least");
			break;
		case 'h':
			usage(race);
			return EXIT_HELD;
		default:
			usage(race);
			return EXIT_SKIP;
		}
	}
	printf("KTAP version 1\n");
	if (!o->dir)
		race_skip("no --dir");
	if (o->plant && !has_word(race->plants, o->plant))
		race_skip("--plant %s: not one of: %s", o->plant, race->plants);
	/* Armed racers meet in the window: to leave together is soon enough. */
	if (options_meeting(o))
		o->align = ALIGN_BARRIER;
	if (!o->batch)
		o->batch = o->align == ALIGN_FUZZY ? MAX_BATCH : 1;
	if (o->batch > race->batch)
		o->batch = race->batch ? race->batch : 1;
	return -1;
}
