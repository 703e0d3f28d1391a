/* SPDX-License-Identifier: MIT */
/*
 * The core's locks and the order in which they nest. Fair (ticket) locks whose waiters call the host's relax op, so that
 * a bare-metal host can answer shootdowns meanwhile and a hosted one sleeps. It knows nothing of what they protect.
 *
 * Order, outermost first (docs/locking.md):
 *   1. control lock   one per VM: its control calls, held over ops. A thread never holds two of them.
 *   2. channel lock   one per channel: state, seats, view states. Never held over an op, a grace period or another
 *                     channel's lock.
 *   3. leaf locks     hv->lock (free records, VM table), vm->park (parked calls). Nothing is taken under them; op unpark is
 *                     called under vm->park, so that no unpark comes after ivc_hv_park_end() has returned.
 */
#ifndef IVC_HV_LOCK_H
#define IVC_HV_LOCK_H

#include <ivc/atomic.h>
#include <ivc/platform.h>

struct ivc_lock {
	uint32_t next;  /* ticket of the next comer */
	uint32_t owner; /* ticket that is served */
};

/* How this registry waits: the relax op, or the hosted default. */
struct ivc_waiter {
	void (*relax)(void *host);
	void *host;
};

/* One turn of any wait inside the core. @turn counts them, from 0. */
void ivc_wait_turn(const struct ivc_waiter *waiter, uint32_t turn);

static inline void ivc_lock_take(const struct ivc_waiter *waiter, struct ivc_lock *lock)
{
	const uint32_t ticket = ivc_fetch_add_u32(&lock->next, 1);
	uint32_t turn = 0;

	/* [LOCK] acquire: the holder before us, then what we do. Partner: ivc_lock_give(). */
	while (ivc_load_acquire_u32(&lock->owner) != ticket) {
		ivc_wait_turn(waiter, turn++);
	}
}

static inline void ivc_lock_give(struct ivc_lock *lock)
{
	/* [LOCK] release: what we did, then the next holder. Partner: ivc_lock_take(). Only the holder writes this word. */
	ivc_store_release_u32(&lock->owner, ivc_load_relaxed_u32(&lock->owner) + 1);
}

#endif
