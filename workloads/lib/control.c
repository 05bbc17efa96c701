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

bool window_parse(struct window *w, const char *text)
{
	const char *colon = strchr(text, ':');
	char *end;

	memset(w, 0, sizeof(*w));
	w->probability = 100;
	if (!colon || colon == text || (size_t)(colon - text) >= sizeof(w->name))
		return false;
	memcpy(w->name, text, colon - text);
	w->delay_us = strtoul(colon + 1, &end, 10);
	if (end == colon + 1)
		return false;
	if (*end == ':')
		w->probability = strtoul(end + 1, &end, 10);
	return !*end && w->probability >= 1 && w->probability <= 100;
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

const char *window_arm(struct window *w, const char *task)
{
	/* The mode last: a window is complete before it holds anybody. */
	if (!put(WINDOWS, w->name, "mode", "off") ||
	    !put(WINDOWS, w->name, "task", task) ||
	    !put_number(w->name, "delay_us", w->delay_us) ||
	    !put_number(w->name, "probability", w->probability) ||
	    !put_number(w->name, "hits", 0) ||
	    !put_number(w->name, "delays", 0) ||
	    !put(WINDOWS, w->name, "mode", w->delay_us ? "delay" : "count"))
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

const char *switch_all_off(void)
{
	DIR *dir = opendir(SWITCHES);
	const char *error = NULL;
	struct dirent *entry;

	if (!dir)
		return NULL;
	while (!error && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			error = switch_set(entry->d_name, false);
	closedir(dir);
	return error;
}
