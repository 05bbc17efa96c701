// SPDX-License-Identifier: GPL-2.0
/*
 * An access beside a range that is being removed must not wait for the removal,
 * one inside it must. The functional test of a range lock.
 *
 *	A: punch [0, 1 MiB)		B: page in [2 MiB, 3 MiB)	main: page of the hole
 *	-------------------		-------------------------	----------------------
 *	evict page cache of hole
 *	  <window: *_punch, 200 ms>	cold fault or pread, timed	the same, timed
 *					  range lock: returns		  waits
 *					  one lock per file: waits
 *	remove blocks
 *	return
 *
 * --mode	A		B		inside		exposed means
 * fault	punch		fault		fault		the disjoint access waited
 * read		punch		pread		pread		the same (not XFS: read(2) takes
 *							the IOLOCK there, as a punch does)
 * truncate	truncate tail	fault below	-		the same
 * inside	punch		-		fault		the access inside did NOT wait
 *
 * The modes fault, read and truncate are exposed on every kernel with one
 * invalidate_lock per file, and that is how they are known to fire. For the same
 * reason no other fault of the kernel may look like it: in these modes an access
 * inside that does not wait, or wrong data, makes the trial invalid. It is mode
 * inside that is exposed by a missing wait, on every kernel.
 *
 * Held:	B is done in a tenth of what was left of A's time when B began.
 * Exposed:	B was done only after A had been let go.
 * Untested:	in between: neither waited nor quick, the host is busy.
 * Bound:	30 s a trial.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/oracle.h"
#include "lib/prng.h"

#define MIB	(1ul << 20)
#define HOLE	MIB		/* the punch is [0, HOLE) */
#define BESIDE	(2 * MIB)
#define KEEP	(3 * MIB)	/* what the truncate leaves */
#define SIZE	(4 * MIB)

static struct file file;
static struct race race;
static const char *mode;

static uint64_t a_begin, a_end;

struct access {
	size_t		page;
	bool		met;		/* it began while A stood in the window */
	bool		open_after;	/* A still stood there when it was done */
	bool		right;		/* it saw the stamp of its page */
	uint64_t	begin, end;
};

static struct access beside, inside;

static bool mode_is(const char *name)
{
	return !strcmp(mode, name);
}

static void open_file(struct trial *t)
{
	static char name[24] = "disjoint-";

	mode = gate_option("mode", "fault");
	if (!mode_is("fault") && !mode_is("read") && !mode_is("truncate") && !mode_is("inside"))
		race_skip("--mode %s: not one of: fault read truncate inside", mode);
	if (mode_is("read") && strcmp(t->fstype, "ext4"))
		race_skip("read(2) waits for a punch on %s, whatever the lock", t->fstype);
	strncat(name, mode, sizeof(name) - strlen(name) - 1);
	race.name = name;
	file_open(&file, t, name, SIZE);
}

static void setup(struct trial *t)
{
	memset(&beside, 0, sizeof(beside));
	memset(&inside, 0, sizeof(inside));
	if (ftruncate(file.fd, SIZE))
		race_invalid(t, "setup: ftruncate: %s", strerror(errno));
	file_stamp(&file, t, 5, 0, SIZE);
}

static void shrink_or_punch(struct trial *t)
{
	int error;

	a_begin = race_now_us();
	if (mode_is("truncate"))
		error = ftruncate(file.fd, KEEP);
	else
		error = fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HOLE);
	a_end = race_now_us();
	if (error)
		race_invalid(t, "%s: %s", mode, strerror(errno));
}

static void touch(struct trial *t, struct access *a, size_t offset)
{
	uint64_t word = 0;

	a->page = offset / PAGE;
	a->met = race_window_open();
	a->begin = race_now_us();
	if (mode_is("read")) {
		if (pread(file.fd, &word, sizeof(word), offset) != sizeof(word))
			race_invalid(t, "pread: %s", strerror(errno));
	} else if (!race_copy(&word, file.map + offset, sizeof(word))) {
		race_invalid(t, "SIGBUS below the end of the file");
	}
	a->end = race_now_us();
	a->open_after = race_window_open();
	a->right = word == stamp(5, t->number, offset);
}

static bool planted(struct trial *t, const char *kind)
{
	return t->plant && !strcmp(t->plant, kind);
}

static void access_beside(struct trial *t)
{
	size_t offset = BESIDE + prng_below(&t->rng_b, (KEEP - BESIDE) / PAGE) * PAGE;

	gate_plant_stuck(t);
	race_meet(t);
	if (mode_is("inside"))
		return;
	/* Self-test: an access that does wait. */
	if (planted(t, "late"))
		offset -= BESIDE;
	touch(t, &beside, offset);
	if (beside.met)
		race_count_access();
}

/* The main thread, on whatever CPU is free. */
static void access_inside(struct trial *t)
{
	size_t offset = prng_below(&t->rng, HOLE / PAGE) * PAGE;

	if (mode_is("truncate"))
		return;		/* what is beyond i_size gets SIGBUS without any lock */
	while (!race_window_open() && !race_a_done())
		usleep(200);
	if (planted(t, "early")) {
		/* Self-test: nothing that could wait. */
		inside.met = inside.open_after = race_window_open();
		inside.begin = inside.end = race_now_us();
	} else {
		touch(t, &inside, offset);
	}
	if (mode_is("inside") && inside.met)
		race_count_access();
}

static void note(struct trial *t, const char *key, long long value)
{
	if (a_end)
		race_note(t, key, value);
}

static void check_beside(struct trial *t)
{
	uint64_t hold = a_end - a_begin, took = beside.end - beside.begin, left;

	left = a_end > beside.begin ? a_end - beside.begin : 0;
	note(t, "beside_us", took);
	note(t, "left_us", left);
	note(t, "beside_page", beside.page);
	if (!beside.met || left < hold / 4)
		race_untested(t, "the disjoint access came too late");
	else if (!beside.right && !t->plant)
		race_invalid(t, "the disjoint access read wrong data in page %zu", beside.page);
	else if (!beside.open_after)
		race_exposed(t, "the disjoint access waited: %llu us of the %llu us that were left",
			     (unsigned long long)took, (unsigned long long)left);
	else if (took * 10 >= left)
		race_untested(t, "the disjoint access was slow and did not wait: %llu of %llu us",
			      (unsigned long long)took, (unsigned long long)left);
}

static void check(struct trial *t)
{
	note(t, "hold_us", a_end - a_begin);
	if (!mode_is("truncate")) {
		note(t, "inside_us", inside.end - inside.begin);
		if (!inside.met)
			race_untested(t, "the access inside came too late");
		else if (!inside.open_after)
			;
		else if (mode_is("inside"))
			race_exposed(t, "the access to page %zu of the hole did not wait",
				     inside.page);
		else
			race_invalid(t, "the access to page %zu of the hole did not wait",
				     inside.page);
	}
	if (mode_is("inside"))
		file_check_zero(&file, t, 0, HOLE);
	else
		check_beside(t);
}

static struct race race = {
	.name	= "disjoint",
	.plants	= "late early " PLANT_STUCK,
	.open	= open_file,
	.setup	= setup,
	.a	= shrink_or_punch,
	.b	= access_beside,
	.watch	= access_inside,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "mode", 30, argc, argv);
}
