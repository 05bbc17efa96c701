// SPDX-License-Identifier: GPL-2.0
/* Accesses to a mapping: a fault beyond EOF is an answer, not a crash. */
#include "lib/bus.h"

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "lib/race.h"

/* Volatile: the compiler sees nobody who could read it in between. */
static _Thread_local sigjmp_buf *volatile bus_return;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	if (bus_return)
		siglongjmp(*bus_return, 1);
	signal(sig, SIG_DFL);
	raise(sig);
}

bool race_touch(const volatile char *p)
{
	sigjmp_buf here;

	if (sigsetjmp(here, 0)) {
		bus_return = NULL;
		return false;
	}
	bus_return = &here;
	(void)*p;
	bus_return = NULL;
	return true;
}

bool race_store(volatile uint64_t *p, uint64_t value)
{
	sigjmp_buf here;

	if (sigsetjmp(here, 0)) {
		bus_return = NULL;
		return false;
	}
	bus_return = &here;
	*p = value;
	bus_return = NULL;
	return true;
}

bool race_copy(void *to, const void *from, size_t len)
{
	sigjmp_buf here;

	if (sigsetjmp(here, 0)) {
		bus_return = NULL;
		return false;
	}
	bus_return = &here;
	memcpy(to, from, len);
	/* Not to be moved above the copy. */
	atomic_signal_fence(memory_order_seq_cst);
	bus_return = NULL;
	return true;
}

void bus_catch(void)
{
	struct sigaction bus = {
		.sa_sigaction = on_sigbus,
		/* No mask to restore: sigsetjmp() costs no system call. */
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	sigaction(SIGBUS, &bus, NULL);
}
