/* SPDX-License-Identifier: GPL-2.0 */
/* The file system under test as a whole: taken off, checked, put back. */
#ifndef WORKLOADS_VOLUME_H
#define WORKLOADS_VOLUME_H

#include "lib/race.h"

struct volume {
	char	device[64], type[16], options[256];
};

/* Finds what is mounted on @dir. False if nothing is. */
bool volume_find(struct volume *v, const char *dir);

/*
 * Unmounts @dir, checks the file system without repair (e2fsck -fn, xfs_repair
 * -n) and mounts it again as it was. What the checker said goes to stdout as
 * diagnostics if it is not content, its exit status into the trial's "fsck".
 * Exposed if the checker is not content, or if one of the mounts fails.
 * @plant: damages the device before the check and heals it after.
 */
void volume_check(const struct volume *v, struct trial *t, bool plant);

#endif
