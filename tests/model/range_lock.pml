/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Model of kernel/locking/range_lock.c, for spin; test_range_lock_model.py runs it.
 *
 * Three tasks lock ranges of three indices, as bit masks.  What is done under the spinlock
 * is one step; of the data that is touched outside of it, every access is one.  These go
 * through a store buffer for each task, as on x86: a store is seen by others some time
 * later, in order; a barrier or an atomic read-modify-write waits for that.  Among them is
 * the store that gives the spinlock back, so the next one to take it sees what was stored
 * under it.  -DSC leaves the buffers out (for liveness, where they only cost time).
 *
 * -DFAST adds the fast path of readers.  Its atomics are full barriers here, as on x86:
 * what acquire and release do on weaker machines is outside of this model.
 *
 * Checked: no two conflicting holders (assertion in got()), no lost wakeup (a task that
 * sleeps for ever is an invalid end state; the tasks make ROUNDS rounds each), counts that
 * never drop below zero (-DCOUNTS), and, with -DLOOP, that a waiting writer gets its range (ltl served).
 *
 * Who only tries never waits, but a writer that does closes the gate and may open it again, and
 * a reader can come or go before, between and after these: with the spinlock held over them,
 * each is a step.  So it is for a writer of the whole tree that finds the tree free.
 *
 * FORMS0..2 say which forms the tasks choose from, RANGES0..2 which ranges.  A mutant is one
 * of the macros that start with NO_, or one of those in the list at the end of this comment:
 * each takes out or displaces exactly one thing.
 *
 *   NO_WAIT_BARRIER   range_wait(): state is set without a barrier before blocking is read
 *   NO_WAKE_BARRIER   wake_up_q(): no barrier between blocking = 0 and the look at the state
 *   WAKE_BEFORE_STORE range_unblock(): wakes first, stores blocking = 0 then
 *   NO_TICKET         range_dequeue(): also lets go those that came earlier
 *   NO_FIFO           range_enqueue(): goes in front of those that wait
 *   NO_KILL_DEQUEUE   range_wait(): who is killed leaves its range in the tree
 *   NO_KILL_WAKE      range_wait(): who is killed does not let go those behind it
 *   NO_KILL_RECHECK   range_wait(): who is killed does not look again under the spinlock if
 *                     it was let through: harmless, as to leave is all that it has to do
 *   NO_DOWNGRADE_WAKE range_write_downgrade(): readers are not let go
 *   DOWNGRADE_ALL     range_write_downgrade(): writers are let go too
 *   NO_CONVERT_MARK   whole-tree reader: writers do not change over to tree->readers
 *   NO_CONVERT_ONCE   whole-tree reader: counted again by writers that wait for readers
 *   NO_WRITER_FLAG    whole-tree writer: leaves the tree without setting tree->writer
 *  and with FAST
 *   NO_CMPXCHG        reader: looks at the gate, then counts itself
 *   NO_CLOSED_RECHECK writer: looks for readers, then closes the gate
 *   NO_DRAIN_RECHECK  last reader: does not look again under the spinlock
 *   NO_DRAIN_WAKE     last reader: does not let go the writers
 *   NO_GATE_COUNT     gate opens as soon as one writer leaves, though others are there
 *   NO_TRY_RECHECK    writer that tries: looks for readers, then closes the gate
 *   NO_TRY_GATE       reader that tries: does not mind a writer of the whole tree
 */
#define N 3
#ifndef ROUNDS
#define ROUNDS 1
#endif

/* Forms, a bit each. */
#define READ     1
#define WRITE    2
#define READALL  4
#define WRITEALL 8
#define DOWN     16 /* WRITE, then downgrade */
#define KREAD    32 /* killable */
#define KWRITE   64
#define DOWNALL  128
#define TRYREAD  256
#define TRYWRITE 512
#define TRYREADALL  1024
#define TRYWRITEALL 2048

#define EXCL (WRITE | WRITEALL | DOWN | KWRITE | DOWNALL | TRYWRITE | TRYWRITEALL)
#define ALL  (READALL | WRITEALL | DOWNALL | TRYREADALL | TRYWRITEALL)
#define TRY  (TRYREAD | TRYWRITE | TRYREADALL | TRYWRITEALL)

#define BIT(i) (1 << (i))
#define overlap(a, b) ((mask[a] & mask[b]) != 0)

#ifdef NO_TICKET
#define came_after(a, b) (a != b)
#else
#define came_after(a, b) (a != b && (earlier[a] & BIT(b)))
#endif

#ifdef DOWNGRADE_ALL
#define let_in(a) true
#else
#define let_in(a) (!excl[a])
#endif

/* struct range_lock, on the stack of each task */
bool intree[N];    /* node is in the tree */
byte mask[N];      /* start, last */
bool excl[N];      /* exclusive */
byte blk[N];       /* blocking, as seen under the spinlock */
bool blkv[N];      /* blocking != 0, as its owner sees it outside */
bool after[N];     /* after_readers */
byte earlier[N];   /* ticket: the tasks in the tree whose ticket is lower */

/* struct range_lock_tree */
byte nrw;          /* nr_writers */
bool writer;       /* writer */
byte readers;      /* FAST: RANGE_CLOSED is bit 0; 2 for each reader */
#define CLOSED   1
#define READER   2

/* What is not in the C code. */
bool asleep[N];    /* task->__state != TASK_RUNNING */
bool spin;         /* the spinlock is held, or its release is in a store buffer */
byte holds[N];     /* 0, 1 shared, 2 exclusive */
bool wants0;       /* task 0 waits */
byte j;            /* only inside of one step */

mtype = { to_sleep, to_run, unblock, unspin };
chan buf[N] = [5] of { mtype, byte };

#define drained(me) (len(buf[me]) == 0)

inline apply(me, what, arg) {
	if
	:: what == to_sleep -> asleep[me] = true
	:: what == to_run -> asleep[me] = false
	:: what == unblock -> blkv[arg] = false
	:: what == unspin -> spin = false
	fi
}

inline store(me, what, arg) {
#ifdef SC
	apply(me, what, arg)
#else
	buf[me]!what(arg)
#endif
}

#ifndef SC
active proctype memory() {
	mtype what;
	byte arg;
end:
	do
	:: atomic { buf[0]?what(arg) -> apply(0, what, arg); what = 0; arg = 0 }
	:: atomic { buf[1]?what(arg) -> apply(1, what, arg); what = 0; arg = 0 }
	:: atomic { buf[2]?what(arg) -> apply(2, what, arg); what = 0; arg = 0 }
	od
}
#endif

/* spin_lock(): an atomic, so a full barrier. */
#define spin_lock(me) (!spin && drained(me))

/* Stores blocking = 0 where range_unblock() found so, and then releases the spinlock. */
inline store_unblocked(me) {
	for (j : 0 .. N - 1) {
		if
		:: wake & BIT(j) -> store(me, unblock, j)
		:: else
		fi
	}
	j = 0;
	if
	:: !drained(me) -> spin = true; store(me, unspin, 0)
	:: else -> spin = false
	fi
}

inline spin_unlock(me) {
#ifdef WAKE_BEFORE_STORE
	if
	:: wake -> spin = true
	:: else
	fi
#else
	store_unblocked(me)
#endif
}

/* wake_up_q(): try_to_wake_up() of each, which looks at the state behind a full barrier. */
inline wake_up_q(me) {
	if
	:: wake ->
#ifndef NO_WAKE_BARRIER
		drained(me);
#endif
		k = 0;
		do
		:: k < N ->
			atomic {
				if
				:: wake & BIT(k) -> asleep[k] = false
				:: else
				fi;
				k++
			}
		:: else -> break
		od;
#ifdef WAKE_BEFORE_STORE
		atomic { store_unblocked(me) }
#endif
		atomic { k = 0; wake = 0 }
	:: else
	fi
}

/* range_unblock(): one thing less to wait for. */
inline range_unblock(other) {
#ifdef COUNTS
	assert(blk[other] > 0);
#endif
	if
	:: blk[other] > 1 -> blk[other]--
	:: else -> blk[other] = 0; wake = wake | BIT(other)
	fi
}

inline forget(me) {
	intree[me] = false;
	for (j : 0 .. N - 1) {
		earlier[j] = earlier[j] & ~BIT(me)
	}
}

/* A writer came or went: range_enqueue(), range_dequeue() and whoever changes tree->writer. */
inline gate_close() {
#ifdef FAST
	readers = readers | CLOSED
#else
	skip
#endif
}

inline gate_open() {
#ifdef FAST
#ifdef NO_GATE_COUNT
	readers = readers & ~CLOSED
#else
	if
	:: nrw == 0 && !writer -> readers = readers & ~CLOSED
	:: else
	fi
#endif
#else
	skip
#endif
}

/* range_enqueue().  @old is what atomic_fetch_or() of the gate returned. */
inline range_enqueue(me, old) {
	blk[me] = writer;
	after[me] = excl[me] && old >= READER;
	blk[me] = blk[me] + after[me];
	for (j : 0 .. N - 1) {
		if
#ifdef NO_FIFO
		:: intree[j] && overlap(j, me) && (excl[j] || excl[me]) && blk[j] > 0 ->
			blk[j]++; earlier[j] = earlier[j] | BIT(me)
		:: intree[j] && overlap(j, me) && (excl[j] || excl[me]) && blk[j] == 0 ->
			blk[me]++; earlier[me] = earlier[me] | BIT(j)
#else
		:: intree[j] ->
			earlier[me] = earlier[me] | BIT(j);
			blk[me] = blk[me] + (overlap(j, me) && (excl[j] || excl[me]))
#endif
		:: else
		fi
	}
	intree[me] = true;
	blkv[me] = blk[me] > 0;
	if
	:: excl[me] -> nrw++; gate_close()
	:: else
	fi;
	wants0 = (me == 0 -> blk[me] > 0 : wants0)
}

/* range_dequeue() */
inline range_dequeue(me) {
	nrw = nrw - excl[me];
	for (j : 0 .. N - 1) {
		if
		:: intree[j] && came_after(j, me) && overlap(j, me) && (excl[j] || excl[me]) ->
			range_unblock(j)
		:: else
		fi
	}
	forget(me);
	earlier[me] = 0;
	if
	:: excl[me] -> gate_open()
	:: else
	fi
}

/* The lock function returns: nobody else may be there. */
inline got(me, how) {
	d_step {
		for (j : 0 .. N - 1) {
			assert(j == me || holds[j] == 0 || !overlap(j, me) || holds[j] + how == 2)
		}
		j = 0;
		holds[me] = how;
		wants0 = (me == 0 -> false : wants0)
	}
}

/* range_wait().  @failed is set if a signal came first. */
inline range_wait(me, killable) {
	do
	:: true ->
		store(me, to_sleep, 0);            /* set_current_state() */
#ifndef NO_WAIT_BARRIER
		drained(me);                    /* its smp_mb() */
#endif
		if
		:: !blkv[me] -> break           /* smp_load_acquire(&rl->blocking) */
		:: blkv[me] ->
			if
			:: killable ->          /* signal_pending_state() */
				atomic {
					spin_lock(me);
					if
#ifdef NO_KILL_RECHECK
					:: true ->
#else
					:: blk[me] > 0 ->
#endif
						failed = true;
#ifdef NO_KILL_WAKE
						nrw = nrw - excl[me];
						forget(me);
						earlier[me] = 0;
						if
						:: excl[me] -> gate_open()
						:: else
						fi;
#else
#ifndef NO_KILL_DEQUEUE
						range_dequeue(me);
#endif
#endif
						blkv[me] = false
#ifndef NO_KILL_RECHECK
					:: else
#endif
					fi;
					spin_unlock(me)
				}
				break
			:: true ->              /* schedule() looks behind a barrier */
				drained(me);
				!asleep[me]
			fi
		fi
	od;
	store(me, to_run, 0);                      /* __set_current_state() */
	wake_up_q(me)
}

/* range_release_readers() */
inline release_readers() {
	for (j : 0 .. N - 1) {
		if
		:: intree[j] && after[j] -> after[j] = false; range_unblock(j)
		:: else
		fi
	}
}

/*
 * Readers without a node: range_read_lock_all_nested(), and with FAST all of them.  Leaves
 * @tracked as false if there is no node, and as true if the caller has to queue.
 */
inline read_fast(me) {
#ifdef FAST
	c = readers;
	do
	:: c & CLOSED -> tracked = true; break
	:: else ->
		atomic {
			drained(me);
#ifdef NO_CMPXCHG
			readers = readers + READER; break
#else
			if
			:: readers == c -> readers = readers + READER; break
			:: else -> c = readers
			fi
#endif
		}
	od;
	c = 0
#else
	tracked = true
#endif
}

inline read_lock(me, all, killable) {
	tracked = false;
	failed = false;
	read_fast(me);
	if
	:: tracked ->
		atomic {
			spin_lock(me);
			if
			:: all && !writer && nrw == 0 -> readers = readers + READER; tracked = false
			:: else -> range_enqueue(me, 0)
			fi;
			j = 0;
			spin_unlock(me)
		}
	:: else
	fi;
	if
	:: tracked && blkv[me] -> range_wait(me, killable)
	:: else
	fi;
	if
	:: tracked && all ->
		/* "All writers that are left came after us and have counted us." */
		atomic {
			spin_lock(me);
			forget(me);
			earlier[me] = 0;
#ifndef NO_CONVERT_MARK
			for (j : 0 .. N - 1) {
				if
				:: intree[j] && excl[j] ->
#ifndef NO_CONVERT_ONCE
					blk[j] = blk[j] - after[j];
#endif
					after[j] = true
				:: else
				fi
			}
#endif
			j = 0;
			readers = readers + READER;
			tracked = false
		}
	:: else
	fi
}

/* range_read_trylock(), range_read_trylock_all().  @failed is set if it cannot be had now. */
inline read_trylock(me, all) {
	tracked = false;
	failed = false;
	read_fast(me);
	if
	:: tracked ->
		atomic {
			spin_lock(me);
#ifndef NO_TRY_GATE
			failed = writer || (all && nrw > 0);
#endif
			for (j : 0 .. N - 1) {
				failed = failed || (intree[j] && overlap(j, me) && excl[j])
			}
			if
			:: failed
			:: !failed && all -> readers = readers + READER; tracked = false
			:: else -> range_enqueue(me, 0)
			fi;
			j = 0;
			spin_unlock(me)
		}
	:: else
	fi
}

/* range_read_unlock(), range_read_unlock_all() */
inline read_unlock(me) {
	if
	:: tracked ->
		atomic { spin_lock(me); range_dequeue(me); spin_unlock(me) };
		wake_up_q(me)
	:: else ->
#ifdef FAST
		atomic { drained(me); readers = readers - READER; c = readers };
		if
		:: c == CLOSED ->
#ifndef NO_DRAIN_WAKE
			atomic {
				spin_lock(me);
				if
#ifdef NO_DRAIN_RECHECK
				:: true -> release_readers()
#else
				:: readers == CLOSED -> release_readers()
				:: else
#endif
				fi;
				spin_unlock(me)
			}
#endif
		:: else
		fi;
		c = 0;
#else
		atomic {
			spin_lock(me);
			readers = readers - READER;
			if
			:: readers == 0 -> release_readers()
			:: else
			fi;
			spin_unlock(me)
		}
#endif
		wake_up_q(me)
	fi
}

/* range_write_lock_nested(), range_write_lock_all_nested() */
inline write_lock(me, all, killable) {
	failed = false;
#ifdef NO_CLOSED_RECHECK
	c = readers;
#endif
	atomic {
		spin_lock(me);
#ifndef NO_CLOSED_RECHECK
		c = readers;
#endif
		tracked = !all || writer || intree[0] || intree[1] || intree[2];
		if
		:: tracked -> range_enqueue(me, c); c = 0; j = 0; spin_unlock(me)
		:: else ->
			gate_close();
			spin = true
		fi
	}
	if
	:: !tracked && c < READER -> atomic { writer = true; c = 0; spin = false }
	:: !tracked && c >= READER ->
		/* Those readers may be gone by now. */
		atomic { tracked = true; c = readers; range_enqueue(me, c); c = 0; j = 0; spin_unlock(me) }
	:: else
	fi;
	if
	:: tracked && blkv[me] -> range_wait(me, killable)
	:: else
	fi;
	if
	:: tracked && all ->
		atomic {
			spin_lock(me);
			forget(me);
			j = 0;
			earlier[me] = 0;
			nrw--;
#ifndef NO_WRITER_FLAG
			writer = true
#endif
		}
	:: else
	fi
}

/* range_write_trylock(), range_write_trylock_all().  @failed is set if it cannot be had now. */
inline write_trylock(me, all) {
	atomic {
		spin_lock(me);
		failed = writer || readers >= READER;
		for (j : 0 .. N - 1) {
			failed = failed || (intree[j] && overlap(j, me))
		}
		j = 0;
		c = readers;
		spin = !failed
	}
	if
	:: !failed ->
		atomic {
#ifndef NO_TRY_RECHECK
			c = readers;
#endif
			if
			:: all -> gate_close()
			:: else -> range_enqueue(me, c); j = 0
			fi
		}
		atomic {
			if
			:: c < READER -> writer = (all -> true : writer)
			:: else ->
				failed = true;
				if
				:: !all ->
					nrw--;
					forget(me);
					j = 0;
					earlier[me] = 0;
					after[me] = false;
					blk[me] = 0;
					blkv[me] = false;
					wants0 = (me == 0 -> false : wants0)
				:: else
				fi;
				gate_open()
			fi
		}
		spin = false
	:: else
	fi;
	c = 0
}

/* range_write_unlock(), range_write_unlock_all() */
inline write_unlock(me, all) {
	atomic {
		spin_lock(me);
		if
		:: all ->
			writer = false;
			for (j : 0 .. N - 1) {
				if
				:: intree[j] -> range_unblock(j)
				:: else
				fi
			}
			gate_open()
		:: else -> range_dequeue(me)
		fi;
		spin_unlock(me)
	}
	wake_up_q(me)
}

/* range_write_downgrade(), range_write_downgrade_all() */
inline write_downgrade(me, all) {
	atomic {
		spin_lock(me);
		excl[me] = false;
		if
		:: all ->
			writer = false;
			readers = readers + READER;
			tracked = false
		:: else ->
			nrw--;
			tracked = true
		fi;
		for (j : 0 .. N - 1) {
			if
			:: all && intree[j] && excl[j] -> after[j] = true
			:: j != me && intree[j] && overlap(j, me) && let_in(j) ->
#ifndef NO_DOWNGRADE_WAKE
				range_unblock(j)
#else
				skip
#endif
			:: else
			fi
		}
		gate_open();
		spin_unlock(me)
	}
	wake_up_q(me)
}

proctype task(byte me; short forms; byte ranges) {
	short form;
	byte round, c, wake, k;
	bool failed, tracked;

	do
#ifdef LOOP
	:: true ->
#else
	:: round == ROUNDS -> break
	:: round < ROUNDS ->
		round++;
#endif
		atomic {
			if
			:: forms & READ -> form = READ
			:: forms & WRITE -> form = WRITE
			:: forms & READALL -> form = READALL
			:: forms & WRITEALL -> form = WRITEALL
			:: forms & DOWN -> form = DOWN
			:: forms & KREAD -> form = KREAD
			:: forms & KWRITE -> form = KWRITE
			:: forms & DOWNALL -> form = DOWNALL
			:: forms & TRYREAD -> form = TRYREAD
			:: forms & TRYWRITE -> form = TRYWRITE
			:: forms & TRYREADALL -> form = TRYREADALL
			:: forms & TRYWRITEALL -> form = TRYWRITEALL
			fi;
			excl[me] = (form & EXCL) != 0;
			if
			:: form & ALL -> mask[me] = 7
			:: else ->
				if
				:: ranges & 1 -> mask[me] = 3   /* these two overlap */
				:: ranges & 2 -> mask[me] = 6
				:: ranges & 4 -> mask[me] = 4   /* not the first */
				:: ranges & 8 -> mask[me] = 7
				fi
			fi
		}
		if
		:: excl[me] ->
			if
			:: form & TRY -> write_trylock(me, ((form & ALL) != 0))
			:: else -> write_lock(me, ((form & ALL) != 0), (form & KWRITE))
			fi;
			if
			:: failed
			:: !failed && (form & (DOWN | DOWNALL)) ->
				got(me, 2);
				holds[me] = 1;
				write_downgrade(me, (form & DOWNALL));
				holds[me] = 0;
				read_unlock(me)
			:: else ->
				got(me, 2);
				holds[me] = 0;
				write_unlock(me, (form & ALL))
			fi
		:: else ->
			if
			:: form & TRY -> read_trylock(me, (form & ALL))
			:: else -> read_lock(me, (form & ALL), (form & KREAD))
			fi;
			if
			:: failed
			:: else ->
				got(me, 1);
				holds[me] = 0;
				read_unlock(me)
			fi
		fi;
		atomic { form = 0; failed = false; tracked = false; mask[me] = 0; excl[me] = false }
	od
}

init {
	atomic {
		run task(0, FORMS0, RANGES0);
		run task(1, FORMS1, RANGES1);
		run task(2, FORMS2, RANGES2)
	}
}

#ifdef LOOP
ltl served { [] (wants0 -> <> !wants0) }
#endif
