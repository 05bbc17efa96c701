// SPDX-License-Identifier: GPL-2.0
/* Asynchronous reads and writes by system call. See async.h. */
#include "lib/async.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Thread_local aio_context_t aio;

bool async_aio(struct request *requests, unsigned int n)
{
	struct iocb blocks[MAX_ASYNC], *list[MAX_ASYNC];
	struct io_event events[MAX_ASYNC];
	unsigned int i, done = 0;

	if (n > MAX_ASYNC) {
		errno = EINVAL;
		return false;
	}
	if (!aio && syscall(SYS_io_setup, MAX_ASYNC, &aio))
		return false;
	memset(blocks, 0, sizeof(blocks));
	for (i = 0; i < n; i++) {
		blocks[i].aio_lio_opcode = requests[i].write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
		blocks[i].aio_fildes = requests[i].fd;
		blocks[i].aio_buf = (uintptr_t)requests[i].buf;
		blocks[i].aio_nbytes = requests[i].len;
		blocks[i].aio_offset = requests[i].offset;
		blocks[i].aio_data = i;
		list[i] = &blocks[i];
	}
	for (i = 0; i < n;) {
		long taken = syscall(SYS_io_submit, aio, n - i, list + i);

		if (taken <= 0)
			return false;
		i += taken;
	}
	while (done < n) {
		long got = syscall(SYS_io_getevents, aio, 1, n - done, events, NULL);
		long e;

		if (got < 0 && errno != EINTR)
			return false;
		for (e = 0; e < got; e++)
			requests[events[e].data].result = events[e].res;
		done += got > 0 ? got : 0;
	}
	return true;
}

/* One ring for each thread, mapped as io_uring_setup(2) says. */
static _Thread_local struct {
	int			fd;		/* 0: not yet set up */
	struct io_uring_params	params;
	char			*sq, *cq;
	struct io_uring_sqe	*sqes;
} ring;

static unsigned int *field(char *base, unsigned int offset)
{
	return (unsigned int *)(base + offset);
}

static bool ring_setup(void)
{
	struct io_uring_params *p = &ring.params;
	int prot = PROT_READ | PROT_WRITE, fd;

	fd = syscall(SYS_io_uring_setup, MAX_ASYNC, p);
	if (fd < 0)
		return false;
	ring.sq = mmap(NULL, p->sq_off.array + p->sq_entries * sizeof(unsigned int), prot,
		       MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
	ring.cq = mmap(NULL, p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe), prot,
		       MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_CQ_RING);
	ring.sqes = mmap(NULL, p->sq_entries * sizeof(struct io_uring_sqe), prot,
			 MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQES);
	if (ring.sq == MAP_FAILED || ring.cq == MAP_FAILED || (void *)ring.sqes == MAP_FAILED)
		return false;
	ring.fd = fd;
	return true;
}

static unsigned int reap(struct request *requests)
{
	const struct io_cqring_offsets *off = &ring.params.cq_off;
	unsigned int *head = field(ring.cq, off->head), *tail = field(ring.cq, off->tail);
	unsigned int mask = *field(ring.cq, off->ring_mask), at = *head, done = 0;
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)(ring.cq + off->cqes);

	for (; at != __atomic_load_n(tail, __ATOMIC_ACQUIRE); at++, done++)
		requests[cqes[at & mask].user_data].result = cqes[at & mask].res;
	__atomic_store_n(head, at, __ATOMIC_RELEASE);
	return done;
}

bool async_uring(struct request *requests, unsigned int n)
{
	const struct io_sqring_offsets *off = &ring.params.sq_off;
	unsigned int *tail, *array, mask, at, i, done = 0;

	if (n > MAX_ASYNC) {
		errno = EINVAL;
		return false;
	}
	if (!ring.fd && !ring_setup())
		return false;
	tail = field(ring.sq, off->tail);
	array = field(ring.sq, off->array);
	mask = *field(ring.sq, off->ring_mask);
	at = *tail;
	for (i = 0; i < n; i++, at++) {
		struct io_uring_sqe *sqe = &ring.sqes[at & mask];

		memset(sqe, 0, sizeof(*sqe));
		sqe->opcode = requests[i].write ? IORING_OP_WRITE : IORING_OP_READ;
		sqe->fd = requests[i].fd;
		sqe->addr = (uintptr_t)requests[i].buf;
		sqe->len = requests[i].len;
		sqe->off = requests[i].offset;
		sqe->user_data = i;
		array[at & mask] = at & mask;
	}
	__atomic_store_n(tail, at, __ATOMIC_RELEASE);
	for (i = n; done < n; done += reap(requests)) {
		long taken = syscall(SYS_io_uring_enter, ring.fd, i, 1, IORING_ENTER_GETEVENTS, NULL, 0);

		if (taken < 0 && errno != EINTR)
			return false;
		i -= taken > 0 ? taken : 0;
	}
	return true;
}
