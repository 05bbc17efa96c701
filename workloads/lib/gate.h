/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The frame of a gate: a workload that must finish, with the right contents.
 * A gate is a `struct race` run in a child process; the parent forwards what
 * it prints and keeps the time. A trial that does not end within its bound is
 * reported as exposed, with what each thread waits for, and the parent leaves
 * without the child: a thread that nothing can kill must not take the report
 * with it.
 *
 *	int main(int argc, char **argv) { return gate_main(&race, "mode", 60, argc, argv); }
 *
 * docs/gates.md says more.
 */
#ifndef WORKLOADS_GATE_H
#define WORKLOADS_GATE_H

#include "lib/race.h"

/* The --plant of every gate: a thread that never ends, by gate_plant_stuck(). */
#define PLANT_STUCK "stuck"

/*
 * Runs the trials of @race under supervision. @own: names of the gate's own
 * options, separated by a space, each given as --NAME VALUE. @bound_s: seconds
 * that one trial may take, with its set-up and its check; --bound overrides. An
 * own option "seconds" is the length of a trial, and added to @bound_s.
 * Returns the exit code.
 */
int gate_main(const struct race *race, const char *own, unsigned int bound_s, int argc,
	      char **argv);

/* What the gate's own option @name was given, or @fallback. */
const char *gate_option(const char *name, const char *fallback);

/* As above, for a number; race_skip() if it is none, or 0. */
unsigned long gate_number(const char *name, unsigned long fallback);

/*
 * Runs @n threads of @fn, numbered from 0, on the CPUs in turn, each named
 * race-NUMBER, and returns when all of them did. One crew at a time.
 */
void gate_crew(struct trial *t, unsigned int n, void (*fn)(struct trial *t, unsigned int number));

/* The random stream of thread @number of the trial, see prng.h. */
uint64_t gate_rng(const struct trial *t, unsigned int number);

/* Self-test: does not return in the trial that is to be stuck. */
void gate_plant_stuck(const struct trial *t);

#endif
