/* SPDX-License-Identifier: GPL-2.0 */
/* Behind race_untested(), race_exposed() and the like, see race.h. */
#ifndef WORKLOADS_JUDGE_H
#define WORKLOADS_JUDGE_H

#include <stddef.h>

/*
 * @text as the inside of a JSON string, into @size bytes at @out; cut if it is
 * longer. Callers quote nothing that needs escaping, but this makes sure.
 */
void json_escape(char *out, size_t size, const char *text);

#endif
