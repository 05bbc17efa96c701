// SPDX-License-Identifier: GPL-2.0
/*
 * What an inode takes: bytes of its slab object, and the time to make and to drop one.
 *
 * Makes --files (1000) empty files, looks into /proc/slabinfo while they are open in the
 * cache, and removes them. A trial's JSON has object_bytes (of the file system's inode, which
 * the VFS's is a part of), per_slab, slab_bytes, and the median ticks of a creation and of a
 * removal; under QEMU's -icount these are guest instructions. There is no verdict.
 * Bound:	600 s a trial.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/gate.h"
#include "lib/histogram.h"
#include "lib/oracle.h"
#include "lib/schedule.h"

static unsigned long files;
static uint32_t *took;
static long object_bytes, per_slab, slab_pages;

static void open_dir(struct trial *t)
{
	(void)t;
	files = gate_number("files", 1000);
	took = aligned_buffer(files * sizeof(*took));
}

static void setup(struct trial *t)
{
	(void)t;
	object_bytes = 0;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Reads the line of @cache in /proc/slabinfo. */
static void read_slab(struct trial *t, const char *cache)
{
	char line[512], name[64];
	FILE *f = fopen("/proc/slabinfo", "re");
	long size, each, pages;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %*d %*d %ld %ld %ld", name, &size, &each, &pages) == 4 &&
		    !strcmp(name, cache)) {
			object_bytes = size;
			per_slab = each;
			slab_pages = pages;
		}
	}
	if (f)
		fclose(f);
	if (!object_bytes)
		race_invalid(t, "no %s in /proc/slabinfo", cache);
}

static void each_file(struct trial *t, const char *what, bool make)
{
	static struct histogram all;
	unsigned long i;
	char name[32];

	histogram_clear(&all);
	for (i = 0; i < files; i++) {
		uint64_t from;
		int fd = 0;

		snprintf(name, sizeof(name), "inode-%lu", i);
		from = ticks();
		if (make)
			fd = openat(t->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		else
			fd = unlinkat(t->dirfd, name, 0);
		took[i] = ticks() - from;
		if (fd < 0)
			race_invalid(t, "%s: %s", name, strerror(errno));
		else if (make)
			close(fd);
		histogram_add(&all, took[i]);
	}
	histogram_print(&all, what, "ticks");
	qsort(took, files, sizeof(*took), by_value);
}

static void measure(struct trial *t)
{
	each_file(t, "create", true);
	race_note(t, "create_p50_ticks", took[files / 2]);
	read_slab(t, strcmp(t->fstype, "ext4") ? "xfs_inode" : "ext4_inode_cache");
	each_file(t, "remove", false);
	race_note(t, "remove_p50_ticks", took[files / 2]);
	race_note(t, "object_bytes", object_bytes);
	race_note(t, "per_slab", per_slab);
	race_note(t, "slab_bytes", slab_pages * PAGE);
}

static void other(struct trial *t)
{
	gate_plant_stuck(t);
}

static void check(struct trial *t)
{
	if (object_bytes < 512)
		race_untested(t, "an inode of %ld bytes", object_bytes);
}

static const struct race race = {
	.name	= "inode",
	.plants	= PLANT_STUCK,
	.open	= open_dir,
	.setup	= setup,
	.a	= measure,
	.b	= other,
	.check	= check,
};

int main(int argc, char **argv)
{
	return gate_main(&race, "files", 600, argc, argv);
}
