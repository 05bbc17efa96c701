/* SPDX-License-Identifier: GPL-2.0 */
/* The command line of a reproducer, and the windows and switches that it asks for. */
#ifndef WORKLOADS_OPTIONS_H
#define WORKLOADS_OPTIONS_H

#include <stdbool.h>

#include "lib/align.h"
#include "lib/control.h"
#include "lib/race.h"

/* Windows hold only tasks named like this: setup and checks run at full speed. */
#define RACER "race-"

struct options {
	const char	*dir;
	unsigned long	trials, seed;
	unsigned long	at_least;	/* trials, whatever the limit */
	double		limit_s;	/* seconds for all trials; 0: none */
	bool		first;		/* no further trial once one was exposed */
	bool		clock;		/* each trial says what it came to, and when */
	const char	*plant;
	enum align_mode	align;
	unsigned long	batch;		/* trials of one set-up at most; 0: by the mode */
	struct window	windows[MAX_WINDOWS];
	unsigned int	nr_windows;
	const char	*switches[MAX_SWITCHES];
	unsigned int	nr_switches;
};

/*
 * Reads the command line. Returns -1 to go on, else what the program is to exit
 * with; exits through race_skip() where an option cannot be taken.
 */
int options_parse(struct options *o, const struct race *race, int argc, char **argv);

/* Turns off what others left on, then on what was asked for. Exits through race_skip(). */
void options_arm(struct options *o);

/* Turns all of that off again; nothing if it was never turned on. */
void options_release(struct options *o);

/* The first window, if it holds whom it meets: there the racers meet. Else NULL. */
const struct window *options_meeting(const struct options *o);

/* The JSON line that says what the program was told. */
void options_print(const struct options *o, const struct race *race, const char *fstype);

#endif
