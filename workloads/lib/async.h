/* SPDX-License-Identifier: GPL-2.0 */
/* Asynchronous reads and writes by system call: libaio's and io_uring's, without their libraries. */
#ifndef WORKLOADS_ASYNC_H
#define WORKLOADS_ASYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define MAX_ASYNC 8

struct request {
	bool	write;
	int	fd;
	void	*buf;
	size_t	len;
	off_t	offset;
	ssize_t	result;		/* bytes, or -errno */
};

/*
 * Submits @n requests (at most MAX_ASYNC) together and waits for all of them.
 * Each thread has a context of its own. False, with errno, if they could not be
 * submitted or waited for.
 */
bool async_aio(struct request *requests, unsigned int n);
bool async_uring(struct request *requests, unsigned int n);

#endif
