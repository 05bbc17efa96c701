// SPDX-License-Identifier: GPL-2.0
/* What came of a trial, and what else is known of it. From any thread. */
#include "lib/judge.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/race.h"

static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;

static void judge(struct trial *t, enum outcome outcome, const char *fmt, va_list ap)
{
	pthread_mutex_lock(&report_lock);
	/* Exposed beats untested: old data is old data however it was met. */
	if (!t->invalid &&
	    (t->outcome == HELD || (t->outcome == UNTESTED && outcome == EXPOSED))) {
		t->outcome = outcome;
		vsnprintf(t->why, sizeof(t->why), fmt, ap);
	}
	pthread_mutex_unlock(&report_lock);
}

void race_untested(struct trial *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	judge(t, UNTESTED, fmt, ap);
	va_end(ap);
}

void race_invalid(struct trial *t, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&report_lock);
	if (!t->invalid) {
		t->invalid = true;
		t->outcome = UNTESTED;
		va_start(ap, fmt);
		vsnprintf(t->why, sizeof(t->why), fmt, ap);
		va_end(ap);
	}
	pthread_mutex_unlock(&report_lock);
}

void race_exposed(struct trial *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	judge(t, EXPOSED, fmt, ap);
	va_end(ap);
}

void json_escape(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text && n + 7 < size; text++) {
		unsigned char c = *text;

		if (c == '"' || c == '\\')
			n += snprintf(out + n, size - n, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			n += snprintf(out + n, size - n, "\\u%04x", c);
		else
			out[n++] = c;
	}
	out[n] = '\0';
}

static void note(struct trial *t, const char *key, const char *value)
{
	size_t n;

	pthread_mutex_lock(&report_lock);
	n = strlen(t->more);
	/* Whole members only: a torn one would spoil the line. */
	if (n + strlen(key) + strlen(value) + 5 < sizeof(t->more))
		snprintf(t->more + n, sizeof(t->more) - n, ",\"%s\":%s", key, value);
	pthread_mutex_unlock(&report_lock);
}

void race_note(struct trial *t, const char *key, long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", value);
	note(t, key, text);
}

void race_note_string(struct trial *t, const char *key, const char *value)
{
	char escaped[256], text[260];

	json_escape(escaped, sizeof(escaped), value);
	snprintf(text, sizeof(text), "\"%s\"", escaped);
	note(t, key, text);
}
