// SPDX-License-Identifier: GPL-2.0
/*
 * What the machine is, before it is believed: one line of JSON on stdout.
 *
 *	preflight --dir DIR
 *
 * A guest with one CPU, the wrong kernel or the wrong file system holds every
 * race. Exit 0, or 4 when a fact cannot be had.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#define MAX_CPUS 64

static void fail(const char *what)
{
	fprintf(stderr, "preflight: %s: %s\n", what, strerror(errno));
	exit(4);
}

/* A CPU counts when a thread can be put on it and is then seen there. */
static bool runs_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set) && sched_getcpu() == cpu;
}

/* The last mount on @dir wins, as in the kernel. */
static void mount_of(const char *dir, char *type, char *options)
{
	char device[256], where[256], t[64], o[512];
	FILE *f = fopen("/proc/self/mounts", "re");
	bool found = false;

	if (!f)
		fail("/proc/self/mounts");
	while (fscanf(f, "%255s %255s %63s %511s %*d %*d", device, where, t, o) == 4)
		if (!strcmp(where, dir)) {
			strcpy(type, t);
			strcpy(options, o);
			found = true;
		}
	fclose(f);
	if (!found) {
		errno = ENOENT;
		fail(dir);
	}
}

/* Whether blocks can be shared: tried, since no mount option shows it. Leaves nothing. */
static bool reflinks(const char *dir)
{
	int from = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int to = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	bool yes;

	if (from < 0 || to < 0)
		fail("O_TMPFILE");
	yes = !ioctl(to, FICLONE, from);
	if (!yes && errno != EOPNOTSUPP)
		fail("FICLONE");
	close(from);
	close(to);
	return yes;
}

int main(int argc, char **argv)
{
	char type[64], options[512], clocksource[64] = "unknown", *option, *rest = options;
	struct utsname uts;
	struct statvfs fs;
	long cpus, cpu;
	FILE *f;

	if (argc != 3 || strcmp(argv[1], "--dir")) {
		fprintf(stderr, "usage: preflight --dir DIR\n");
		return 4;
	}
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uname(&uts);
	mount_of(argv[2], type, options);
	if (statvfs(argv[2], &fs))
		fail(argv[2]);
	f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
	if (f) {
		if (fscanf(f, "%63s", clocksource) != 1)
			strcpy(clocksource, "unknown");
		fclose(f);
	}

	printf("{\"release\":\"%s\",\"cpus_online\":%ld,\"affinity\":[", uts.release, cpus);
	for (cpu = 0; cpu < cpus && cpu < MAX_CPUS; cpu++)
		printf("%s%s", cpu ? "," : "", runs_on(cpu) ? "true" : "false");
	printf("],\"fs_type\":\"%s\",\"block_size\":%lu,\"mount_options\":[", type, fs.f_bsize);
	while ((option = strsep(&rest, ",")))
		printf("%s\"%s\"", option == options ? "" : ",", option);
	printf("],\"reflink\":%s,\"free_bytes\":%llu,\"clocksource\":\"%s\"}\n",
	       reflinks(argv[2]) ? "true" : "false",
	       (unsigned long long)fs.f_bavail * fs.f_frsize, clocksource);
	return 0;
}
