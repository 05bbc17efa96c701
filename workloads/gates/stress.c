// SPDX-License-Identifier: GPL-2.0
/*
 * Everything at once on a disk that is nearly full: buffered and direct reads
 * and writes, loads and stores through mappings, punch, zero range, collapse,
 * insert, truncate, clone, fsync, populate, a file that grows until the disk is
 * full and shrinks again, and a dropper of all caches.
 *
 *	0 .. 5	workers		each changes a file of its own, of which every byte is
 *				known (lib/model.c), and the chaos file, which all of
 *				them change at once; now and then it looks into somebody
 *				else's file
 *	6	filler		takes the free blocks, with data that must never be seen
 *				anywhere else, and gives them back
 *	7	dropper		/proc/sys/vm/drop_caches, sync
 *
 * What would deadlock: any pair of the above. Lock orders are those that the
 * other gates take one by one. Which of them meets which is luck, and time.
 *
 * Oracle:	own files read as the model says: now and then, at the end, and after
 *		umount and mount. The chaos file holds nothing but zeroes and what was
 *		written to it: bytes from 0x80 on, which no other file has. No call
 *		fails but for want of space, or for another thread's doing. e2fsck -fn
 *		or xfs_repair -n finds nothing after each trial. Each worker gets on.
 *
 * Own files that others look into are not written with O_DIRECT: a fault that
 * meets a direct write may leave the old page in the cache, as the kernel says
 * itself, and dio-write-fault is about that. The others are.
 *
 * --plant collision makes one of the failures that direct I/O is allowed, which is
 * counted and must not expose the trial.
 *
 * A trial takes --seconds (20) and the checks. Bound: 300 s more.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/chaos.h"
#include "lib/gate.h"
#include "lib/model.h"
#include "lib/oracle.h"
#include "lib/prng.h"
#include "lib/volume.h"

#define WORKERS		6
#define FILLER		WORKERS
#define DROPPER		(WORKERS + 1)
#define CREW		(WORKERS + 2)

#define MIB		(1ul << 20)
#define SLACK		(14 * MIB)	/* what all files but the ballast may use */
#define LOW		(MIB / 4)	/* free space at which the filler gives back */
#define CHUNK		(256ul << 10)

static struct model models[WORKERS];
static struct volume volume;
static unsigned long seconds;
static struct chaos chaos;
static uint64_t end_us;
static atomic_bool stop;
static atomic_llong fills, drops;
static _Thread_local unsigned char *buf;

static void lost(struct trial *t, const char *what)
{
	race_exposed(t, "%s: %s", what, strerror(errno));
	atomic_store(&stop, true);
}

/* --- the crew --- */

/* Reads that keep the owner's lock busy and change nothing. */
static void look_elsewhere(unsigned int self, uint64_t *rng)
{
	unsigned int other = prng_below(rng, WORKERS / 2) * 2;
	size_t at = prng_below(rng, MODEL_MAX);

	if (other == self)
		return;
	if (prng_below(rng, 2))
		race_touch(models[other].map + at);
	else if (pread(models[other].fd, buf, 4 * PAGE, at) < 0)
		return;
}

static void worker(struct trial *t, unsigned int self, uint64_t *rng)
{
	/* Until each got something done: one that starves misses the bound. */
	while (!atomic_load(&stop) && (race_now_us() < end_us || !models[self].steps)) {
		switch (prng_below(rng, 4)) {
		case 0:
			look_elsewhere(self, rng);
			break;
		case 1:
			if (!chaos_step(&chaos, t, rng))
				atomic_store(&stop, true);
			break;
		default:
			if (!model_step(&models[self], t, rng))
				atomic_store(&stop, true);
		}
	}
}

static void filler(struct trial *t)
{
	int fd = openat(t->dirfd, "filler", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct statvfs fs;
	off_t size = 0;

	memset(buf, FILLER_BYTE, CHUNK);
	while (fd >= 0 && !atomic_load(&stop) && race_now_us() < end_us) {
		ssize_t n = -1;

		if (!fstatvfs(fd, &fs) && fs.f_bfree * fs.f_frsize > LOW)
			n = pwrite(fd, buf, CHUNK, size);
		if (n > 0) {
			size += n;
			continue;
		}
		/* Give back a part, from where others did not write: sync it first. */
		if (fsync(fd) && errno != ENOSPC)
			lost(t, "filler: fsync");
		size = size / 4;
		if (ftruncate(fd, size))
			lost(t, "filler: truncate");
		atomic_fetch_add(&fills, 1);
	}
	if (fd < 0)
		lost(t, "filler");
	close(fd);
}

static void dropper(struct trial *t)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	while (!atomic_load(&stop) && race_now_us() < end_us) {
		if (fd < 0 || write(fd, "3", 1) != 1)
			lost(t, "drop_caches");
		if (!(atomic_fetch_add(&drops, 1) % 8))
			sync();
		usleep(100000);
	}
	close(fd);
}

static void member(struct trial *t, unsigned int number)
{
	uint64_t rng = gate_rng(t, number);

	buf = aligned_buffer(CHUNK);
	if (number == FILLER)
		filler(t);
	else if (number == DROPPER)
		dropper(t);
	else
		worker(t, number, &rng);
	free(buf);
}

static void racer_a(struct trial *t)
{
	end_us = race_now_us() + seconds * 1000000;
	gate_crew(t, CREW, member);
}

static void racer_b(struct trial *t)
{
	gate_plant_stuck(t);
}

/* --- set-up and checks --- */

/* Takes the disk but for SLACK; blocks of it are never written. */
static void ballast(struct trial *t)
{
	int fd = openat(t->dirfd, "ballast", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;
	off_t size = 0;

	if (fd < 0 || fstat(fd, &st))
		race_skip("ballast: %s", strerror(errno));
	if (!st.st_size) {
		while (!fallocate(fd, 0, size, MIB))
			size += MIB;
		if (errno != ENOSPC || size < (off_t)SLACK || ftruncate(fd, size - SLACK) ||
		    fsync(fd))
			race_skip("ballast of %lld bytes: %s", (long long)size, strerror(errno));
	}
	close(fd);
}

static void open_all(struct trial *t)
{
	seconds = gate_number("seconds", 20);
	if (!volume_find(&volume, t->dir))
		race_skip("%s is not where a file system is mounted", t->dir);
	if (!chaos_open(&chaos, t, true))
		race_skip("chaos: %s", strerror(errno));
	chaos_close(&chaos);
}

static void setup(struct trial *t)
{
	unsigned int i;
	char name[16];

	atomic_store(&stop, false);
	atomic_store(&fills, 0);
	atomic_store(&drops, 0);
	/* The last trial's filler would leave the ballast no room, and the models none. */
	unlinkat(t->dirfd, "filler", 0);
	for (i = 0; i < WORKERS; i++) {
		snprintf(name, sizeof(name), "own-%u", i);
		models[i].use_direct = i % 2;
		models[i].use_clone = chaos.can_clone;
		model_create(&models[i], t, name);
	}
	if (!chaos_open(&chaos, t, true))
		race_invalid(t, "setup: chaos: %s", strerror(errno));
	ballast(t);
}

static void plant(struct trial *t)
{
	unsigned int victim = prng_below(&t->rng, WORKERS);

	if (!strcmp(t->plant, "cache")) {
		/* A byte the model is sure of: 0x80 is in no own file. */
		models[victim].unknown[0] = !models[victim].size;
		if (pwrite(models[victim].fd, "\x80", 1, 0) != 1)
			race_invalid(t, "plant: %s", strerror(errno));
	} else if (!strcmp(t->plant, "leak")) {
		if (pwrite(chaos.fd, (char[]){ FILLER_BYTE }, 1, prng_below(&t->rng, CHAOS_MAX)) != 1)
			race_invalid(t, "plant: %s", strerror(errno));
	} else if (!strcmp(t->plant, "collision") && !chaos_collide(&chaos)) {
		race_invalid(t, "plant: %s", strerror(errno));
	}
}

static void note_all(struct trial *t)
{
	long long steps = 0, least = -1, full = 0;
	unsigned int i;

	for (i = 0; i < WORKERS; i++) {
		steps += models[i].steps;
		full += models[i].full;
		if (least < 0 || models[i].steps < least)
			least = models[i].steps;
	}
	race_note(t, "steps", steps);
	race_note(t, "least", least);
	race_note(t, "chaos", atomic_load(&chaos.calls));
	race_note(t, "dio_collisions", atomic_load(&chaos.collisions));
	race_note(t, "no_space", full);
	race_note(t, "fills", atomic_load(&fills));
	race_note(t, "drops", atomic_load(&drops));
}

static void check(struct trial *t)
{
	unsigned int i;

	/* What cannot be written back for want of space is not known after a mount. */
	unlinkat(t->dirfd, "filler", 0);
	if (t->plant)
		plant(t);
	note_all(t);
	for (i = 0; i < WORKERS; i++)
		model_verify(&models[i], t, "at the end");
	chaos_verify(&chaos, t, "at the end");
	for (i = 0; i < WORKERS; i++) {
		if (fsync(models[i].fd) && errno != ENOSPC)
			race_exposed(t, "%s: fsync: %s", models[i].name, strerror(errno));
		model_close(&models[i]);
	}
	chaos_close(&chaos);
	volume_check(&volume, t, t->plant && !strcmp(t->plant, "fsck"));
	for (i = 0; i < WORKERS; i++) {
		if (!model_open(&models[i], t))
			continue;
		model_verify(&models[i], t, "after a new mount");
		model_close(&models[i]);
	}
	if (chaos_open(&chaos, t, false))
		chaos_verify(&chaos, t, "after a new mount");
	else
		race_exposed(t, "chaos: %s", strerror(errno));
	chaos_close(&chaos);
}

static const struct race race = {
	.name	= "stress",
	.plants	= "cache leak collision fsck " PLANT_STUCK,
	.open	= open_all,
	.setup	= setup,
	.a	= racer_a,
	.b	= racer_b,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "seconds", 300, argc, argv);
}
