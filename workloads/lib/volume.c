// SPDX-License-Identifier: GPL-2.0
/* The file system under test as a whole. See volume.h. */
#include "lib/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define UMOUNT_TRIES	100	/* 50 ms apart */
#define DAMAGE		8	/* bytes */

bool volume_find(struct volume *v, const char *dir)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	struct mntent *entry;
	bool found = false;
	char real[256];

	if (!realpath(dir, real) || !mounts)
		return false;
	/* The last one on a directory is the one that is seen. */
	while ((entry = getmntent(mounts))) {
		if (strcmp(entry->mnt_dir, real))
			continue;
		snprintf(v->device, sizeof(v->device), "%s", entry->mnt_fsname);
		snprintf(v->type, sizeof(v->type), "%s", entry->mnt_type);
		snprintf(v->options, sizeof(v->options), "%s", entry->mnt_opts);
		found = true;
	}
	endmntent(mounts);
	return found;
}

/*
 * Runs a program; its exit status, -1 if it did not run or did not end by
 * itself. @said, if any, gets its output.
 */
static int run(char *said, size_t size, const char *const argv[])
{
	size_t len = 0;
	int ends[2], status;
	ssize_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	pid = fork();
	if (!pid) {
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(ends[1]);
	while (pid > 0) {
		char rest[512];
		bool room = len + 1 < size;

		n = read(ends[0], room ? said + len : rest, room ? size - 1 - len : sizeof(rest));
		if (n <= 0)
			break;
		len += room ? n : 0;
	}
	if (size)
		said[len] = '\0';
	close(ends[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/*
 * Inverts a few bytes that the checker must miss: ext4's count of free blocks
 * in the first group, XFS's in the first allocation group. Twice is never.
 */
static bool damage(const struct volume *v)
{
	off_t at = !strcmp(v->type, "xfs") ? 512 + 52 : 0;
	unsigned char bytes[DAMAGE];
	int fd = open(v->device, O_RDWR | O_CLOEXEC), i;
	unsigned int log = 0;
	bool done;

	if (fd < 0)
		return false;
	if (!at) {
		/* The descriptors are in the block after the superblock's. */
		if (pread(fd, &log, sizeof(log), 1024 + 24) != sizeof(log))
			log = 0;
		at = (log ? 1024l << log : 2048) + 12;
	}
	done = pread(fd, bytes, DAMAGE, at) == DAMAGE;
	for (i = 0; i < DAMAGE; i++)
		bytes[i] ^= 0xff;
	done = done && pwrite(fd, bytes, DAMAGE, at) == DAMAGE && !fsync(fd);
	close(fd);
	return done;
}

static void print_diagnostics(const char *said)
{
	const char *end;

	for (; *said; said = end + (*end == '\n')) {
		end = strchrnul(said, '\n');
		printf("# fsck: %.*s\n", (int)(end - said), said);
	}
}

void volume_check(const struct volume *v, struct trial *t, bool plant)
{
	const char *e2fsck[] = { "e2fsck", "-fn", v->device, NULL };
	const char *repair[] = { "xfs_repair", "-n", v->device, NULL };
	const char *umount[] = { "umount", t->dir, NULL };
	const char *mount[] = { "mount", "-t", v->type, "-o", v->options, v->device, t->dir, NULL };
	static char said[16384];
	int status = 0, tries;

	close(t->dirfd);
	/* A reference may outlive its system call for a moment: io_uring, deferred fput. */
	for (tries = 0; tries < UMOUNT_TRIES; tries++) {
		status = run(said, sizeof(said), umount);
		if (!status)
			break;
		usleep(50000);
	}
	if (status) {
		race_exposed(t, "umount %s: %.100s", t->dir, said);
	} else {
		if (plant && !damage(v))
			race_invalid(t, "plant: cannot damage %s", v->device);
		status = run(said, sizeof(said), strcmp(v->type, "xfs") ? e2fsck : repair);
		race_note(t, "fsck", status);
		if (plant)
			damage(v);
		if (status) {
			print_diagnostics(said);
			race_exposed(t, "%s is not content with %s: status %d",
				     strcmp(v->type, "xfs") ? e2fsck[0] : repair[0], v->device,
				     status);
		}
		if (run(said, sizeof(said), mount))
			race_skip("cannot mount %s again: %s", v->device, said);
	}
	t->dirfd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dirfd < 0)
		race_skip("%s: %s", t->dir, strerror(errno));
}
