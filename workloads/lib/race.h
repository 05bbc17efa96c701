/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The frame of a race reproducer: options, two pinned racing threads, windows
 * and switches, KTAP and JSON output. A reproducer is a `struct race` and
 *
 *	int main(int argc, char **argv) { return race_main(&race, argc, argv); }
 *
 * docs/reproducers.md says how to write one.
 */
#ifndef WORKLOADS_RACE_H
#define WORKLOADS_RACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096ul
#define MAX_BATCH 64	/* trials that may share a set-up */

/* Exit codes of the programs: those of kselftest. */
enum { EXIT_HELD = 0, EXIT_EXPOSED = 1, EXIT_SKIP = 4 };

enum outcome { HELD, EXPOSED, UNTESTED };

/* One attempt. `struct race` callbacks share it; the frame owns it. */
struct trial {
	unsigned int	number;		/* from 1; of a batch, the first one's */
	/* Trials that share this set-up (in open(): at most), and which of them this is. */
	unsigned int	batch, turn;
	bool		warm;		/* B has brought in what A will remove, see warm() */
	uint64_t	rng;		/* this trial's stream, see prng.h: main thread */
	uint64_t	rng_a, rng_b;	/* and one for each racer */
	int		dirfd;		/* directory under test */
	const char	*dir;		/* its path */
	const char	*fstype;	/* "ext4", "xfs", ... */
	const char	*plant;		/* self-test: what to plant, NULL = nothing */

	enum outcome	outcome;
	bool		invalid;	/* nothing that is seen counts */
	char		why[256];	/* one sentence, "" when held */
	char		more[1024];	/* further JSON members, each ",\"k\":v" */
};

struct race {
	const char	*name;
	const char	*plants;	/* kinds of --plant, separated by a space */
	/*
	 * Trials that one set-up has room for, if more than one: each then has its
	 * own share, see race_slice(), of the pages [begin, end) that A removes, and
	 * the oracle looks once for all and says by race_found() whose was damaged.
	 */
	unsigned int	batch;
	size_t		begin, end;
	bool		backwards;	/* the last pages are the first trial's */
	/* Main thread, once. Exits through race_skip() if it cannot be done. */
	void (*open)(struct trial *t);
	/* Main thread: a fresh file state. Not part of the race. */
	void (*setup)(struct trial *t);
	/* The two racers, one CPU each, released together. */
	void (*a)(struct trial *t);	/* removes: punch, truncate, ... */
	void (*b)(struct trial *t);	/* brings back: fault, store, read, ... */
	/*
	 * Racer B, before the start of some fuzzy trials; may be NULL. Brings in what A
	 * will remove: what B then does costs next to nothing until A has removed it, and
	 * B is at the lock at that very moment. Which pays more, with it or without, is
	 * learned. setup() sees in @t->warm which it is.
	 */
	void (*warm)(struct trial *t);
	/* Main thread, while the racers run; may be NULL. Must return when A is done. */
	void (*watch)(struct trial *t);
	/*
	 * After a trial that shares its set-up, both racers are done; may be NULL. Looks
	 * for what the next trial would wipe out before check() sees it. Any thread.
	 */
	void (*glance)(struct trial *t);
	/* Main thread, both racers are done: the oracle. Not if the trial is invalid. */
	void (*check)(struct trial *t);
};

/* Runs --trials attempts of @race. Returns the exit code. */
int race_main(const struct race *race, int argc, char **argv);

/* Ends the program with EXIT_SKIP and a KTAP line saying why. */
void race_skip(const char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));

/*
 * The pages [*@from, *@to) that the trial in hand may remove and bring back: all of
 * [begin, end) unless it shares its set-up.
 */
void race_slice(const struct trial *t, size_t *from, size_t *to);

/* For check(): there is damage in the page of byte @at. Beside race_exposed(). */
void race_found(size_t at);

/*
 * The trial in hand says nothing if nothing is found: sets it untested, unless
 * it is or becomes exposed. Callable from every thread.
 */
void race_untested(struct trial *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The trial in hand did not take place: set-up or A itself failed, and old
 * data is where it belongs. Untested for good; check() is not called.
 */
void race_invalid(struct trial *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The oracle fired. The first reason given is kept. */
void race_exposed(struct trial *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Adds ,"key":value to the trial's JSON line. */
void race_note(struct trial *t, const char *key, long long value);
void race_note_string(struct trial *t, const char *key, const char *value);

/* True as soon as racer A has left its function: B's loop ends then. */
bool race_a_done(void);

/*
 * Waits until a racer stands in the named window. Returns false when the
 * window is not armed, or after @timeout_ms.
 */
bool race_wait_window(const char *name, unsigned int timeout_ms);

/*
 * For racer B: waits until A stands in the first window of the command line,
 * or returns at once if nothing is armed. An armed trial in which A is not
 * met there within a second becomes untested.
 */
void race_meet(struct trial *t);

/* Is A held in the first window right now? */
bool race_window_open(void);

/* Is a task held in the named window right now? False if it is not armed. */
bool race_window_held(const char *name);

/* Has a task been held in the named window in this trial, and let go? */
bool race_window_over(const char *name);

/*
 * For racer B: meets A, then does @once until A is done, and at least once. Counts
 * what begins in the window, and adds @key, how often it was done, to the JSON line.
 */
void race_until_done(struct trial *t, const char *key, void (*once)(struct trial *t));

/*
 * For racer A: a random pause of less than @us microseconds, so that B is under way
 * first, more or less. None where the trial's own offset sees to that.
 */
void race_stagger(struct trial *t, unsigned int us);

/*
 * For watch(), where B is held in a window of its own, @name, until A has
 * overtaken it: returns when A is done, or as soon as the trial counts. It does
 * if B was seen held while A stood in the first window, and was then let go
 * while A still stood there: from then on the lock alone could keep B out.
 */
void race_watch_overtaken(const char *name);

/*
 * Counts an access of B that met A in the first window. An armed trial without
 * one is untested, because B came too early or too late to tell a lock from
 * luck. Adds "in_window" to the JSON line. From one thread only.
 */
void race_count_access(void);

/* Spins (with a pause) for @us microseconds. */
void race_spin_us(uint64_t us);

/* Monotonic clock, microseconds. */
uint64_t race_now_us(void);

/* Touches one byte for reading. Returns false if the kernel sent SIGBUS. */
bool race_touch(const volatile char *p);

/* Stores 8 bytes at @p. Returns false if the kernel sent SIGBUS. */
bool race_store(volatile uint64_t *p, uint64_t value);

/* memcpy() from a mapping. Returns false if the kernel sent SIGBUS. */
bool race_copy(void *to, const void *from, size_t len);

#endif
