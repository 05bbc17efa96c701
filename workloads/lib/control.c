// SPDX-License-Identifier: GPL-2.0
/* Windows and switches of the kernel under test, through debugfs. */
#include "lib/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOWS "/sys/kernel/debug/race_windows"
#define SWITCHES "/sys/kernel/debug/reopen_races"

static char why[256];

static bool put(const char *dir, const char *name, const char *file, const char *value)
{
	char path[160];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s%s%s", dir, name, *file ? "/" : "", file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		snprintf(why, sizeof(why), "%s: %s", path, strerror(errno));
		return false;
	}
	n = write(fd, value, strlen(value));
	if (n != (ssize_t)strlen(value))
		snprintf(why, sizeof(why), "%s: cannot write '%s': %s", path, value,
			 strerror(errno));
	close(fd);
	return n == (ssize_t)strlen(value);
}

static bool put_number(const char *name, const char *file, unsigned int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return put(WINDOWS, name, file, text);
}

static bool window_name(char *to, const char *from, size_t len)
{
	if (!len || len >= sizeof(((struct window *)NULL)->name))
		return false;
	memcpy(to, from, len);
	to[len] = '\0';
	return true;
}

/* PARTNER[/ATTEMPT] */
static bool parse_partner(struct window *w, const char *text)
{
	size_t len = strcspn(text, "/");

	if (!w->delay_us || !window_name(w->partner, text, len))
		return false;
	return !text[len] || window_name(w->attempt, text + len + 1, strlen(text + len + 1));
}

bool window_parse(struct window *w, const char *text)
{
	const char *colon = strchr(text, ':');
	char *end;

	memset(w, 0, sizeof(*w));
	w->probability = 100;
	if (!colon || !window_name(w->name, text, colon - text))
		return false;
	w->delay_us = strtoul(colon + 1, &end, 10);
	if (end == colon + 1)
		return false;
	if (*end == ':')
		w->probability = strtoul(end + 1, &end, 10);
	if (w->probability < 1 || w->probability > 100)
		return false;
	return !*end || (*end == '@' && parse_partner(w, end + 1));
}

static long long counter(const struct window *w, const char *file)
{
	char path[160], text[32];
	ssize_t n;
	int fd;

	/* Opened anew each time: these files cannot be sought. */
	snprintf(path, sizeof(path), WINDOWS "/%s/%s", w->name, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	return atoll(text);
}

long long window_hits(const struct window *w)
{
	return counter(w, "hits");
}

long long window_delays(const struct window *w)
{
	return counter(w, "delays");
}

long long window_met(const struct window *w)
{
	return counter(w, "met");
}

long long window_excluded(const struct window *w)
{
	return counter(w, "excluded");
}

long long window_held(const struct window *w)
{
	return counter(w, "held");
}

/* Calls @off for each entry of @dir; NULL if there is no such directory. */
static const char *for_each(const char *path, const char *(*off)(const char *name))
{
	DIR *dir = opendir(path);
	const char *error = NULL;
	struct dirent *entry;

	if (!dir)
		return NULL;
	while (!error && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			error = off(entry->d_name);
	closedir(dir);
	return error;
}

static const char *window_off(const char *name)
{
	/* The files beside the windows are "pass" and "pass_atomic". */
	if (!strncmp(name, "pass", 4))
		return NULL;
	return put(WINDOWS, name, "mode", "off") ? NULL : why;
}

const char *window_all_off(void)
{
	return for_each(WINDOWS, window_off);
}

/* Both ends of the lock count only; the window itself is armed by the caller. */
static bool arm_rendezvous(const struct window *w, const char *task)
{
	const char *ends[] = { w->partner, w->attempt };
	unsigned int i;

	for (i = 0; i < 2 && ends[i][0]; i++)
		if (!put(WINDOWS, ends[i], "task", task) || !put(WINDOWS, ends[i], "mode", "count"))
			return false;
	return put(WINDOWS, w->name, "partner", w->partner) &&
	       put(WINDOWS, w->name, "attempt", w->attempt) &&
	       put_number(w->name, "met", 0) && put_number(w->name, "excluded", 0);
}

const char *window_arm(struct window *w, const char *task)
{
	const char *mode = w->partner[0] ? "rendezvous" : w->delay_us ? "delay" : "count";

	/* The mode last: a window is complete before it holds anybody. */
	if (!put(WINDOWS, w->name, "mode", "off") ||
	    !put(WINDOWS, w->name, "task", task) ||
	    !put_number(w->name, "delay_us", w->delay_us) ||
	    !put_number(w->name, "probability", w->probability) ||
	    !put_number(w->name, "hits", 0) ||
	    !put_number(w->name, "delays", 0))
		return why;
	if (w->partner[0] && !arm_rendezvous(w, task))
		return why;
	if (!put(WINDOWS, w->name, "mode", mode))
		return why;
	if (window_hits(w)) {
		snprintf(why, sizeof(why), "%s/%s/hits does not read 0 after a reset", WINDOWS,
			 w->name);
		return why;
	}
	return NULL;
}

void window_disarm(struct window *w)
{
	put(WINDOWS, w->name, "mode", "off");
	if (w->partner[0])
		put(WINDOWS, w->partner, "mode", "off");
	if (w->attempt[0])
		put(WINDOWS, w->attempt, "mode", "off");
}

const char *switch_set(const char *name, bool on)
{
	char path[160], back[4] = "";
	int fd;

	if (!put(SWITCHES, name, "", on ? "1" : "0"))
		return why;
	snprintf(path, sizeof(path), SWITCHES "/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, back, sizeof(back) - 1) < 1 || back[0] != (on ? '1' : '0')) {
		snprintf(why, sizeof(why), "%s reads back '%s'", path, back);
		if (fd >= 0)
			close(fd);
		return why;
	}
	close(fd);
	return NULL;
}

static const char *switch_off(const char *name)
{
	return switch_set(name, false);
}

const char *switch_all_off(void)
{
	char cmdline[4096] = "";
	int fd;

	if (access(SWITCHES, F_OK)) {
		/* debugfs may just not be mounted. */
		fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			if (read(fd, cmdline, sizeof(cmdline) - 1) < 0)
				cmdline[0] = '\0';
			close(fd);
		}
		if (strstr(cmdline, "reopen_races="))
			return "switches were turned on at boot and " SWITCHES " is not there";
		return NULL;
	}
	return for_each(SWITCHES, switch_off);
}
