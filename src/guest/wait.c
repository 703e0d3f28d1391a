/* SPDX-License-Identifier: MIT */
/*
 * Spin, arm, sleep. A sleeper arms, fences and looks again before it sleeps; whoever changes what is waited for
 * changes it, fences and looks at the arm word: one of the two always sees the other. Nothing rests on it alone:
 * every sleep has an end.
 */
#include "regs_begin.h"

#include "wait.h"

#define SPINS_FIRST 256u                /* looks before the first sleep: some ten microseconds, chosen */
#define CLOCK_EVERY 32u                 /* looks between two readings of the clock */
#define SLICE_NS    UINT64_C(100000000) /* longest sleep without another look, chosen */

int ivc_wait_begin_(struct ivc_wait *w, const struct ivc_guest *g, const struct ivc_section_ *at, bool owner,
		    bool polls, uint32_t *number, uint8_t bits, uint64_t timeout_ns)
{
	uint64_t now;

	*w = (struct ivc_wait){
		.g = g,
		.side = ivc_side_head_(owner ? at->publisher : at->seat),
		.number = number,
		.handle = at->handle,
		.deadline = timeout_ns,
		.bits = g->env_.park == NULL ? bits | IVC_ARM_CALL : bits,
		.sleeps = !polls && (g->env_.park != NULL || (g->features_ & IVC_FEATURE_WAIT) != 0),
	};
	if (timeout_ns == 0 || timeout_ns == IVC_FOREVER) {
		return 0;
	}
	if (g->env_.now_ns == NULL) {
		return IVC_E_INVAL;
	}
	now = g->env_.now_ns(g->env_.os);
	w->deadline = timeout_ns < IVC_FOREVER - 1 - now ? now + timeout_ns : IVC_FOREVER - 1;
	return 0;
}

static void disarm(struct ivc_wait *w)
{
	if (w->armed) {
		w->armed = false;
		/* Relaxed: a peer that misses it sends a bell too many. */
		ivc_store_relaxed_u32(&w->side->arm, 0);
	}
}

static int sleep_slice(struct ivc_wait *w, uint64_t now)
{
	const struct ivc_env *const env = &w->g->env_;
	uint64_t slice = SLICE_NS;
	ivc_handle_t rang;
	int err;

	if (w->deadline != IVC_FOREVER && w->deadline - now < slice) {
		slice = w->deadline - now;
	}
	if (env->park != NULL) {
		/*
		 * There is a clock: ivc_guest_init() takes no park without one.
		 * [DOORBELL] the interrupt, then the caller's next look. Partner: ivc_wait_ring_().
		 */
		return env->park(env->os, now + slice) == IVC_E_INTR ? IVC_E_INTR : 0;
	}
	err = ivc_call_wait(w->g, (ivc_handle_t){w->handle}, slice, &rang);
	if (err == IVC_E_INTR) {
		return IVC_E_INTR;
	}
	/*
	 * Timed out or rang: look again. Anything else means that this member, or the hypervisor, is gone; a last
	 * look decides what the caller gets.
	 */
	w->ended = err != 0 && err != IVC_E_TIMEDOUT && err != IVC_E_AGAIN;
	return 0;
}

void ivc_wait_arm_(struct ivc_wait *w)
{
	/* Each arming has another number, so that a peer can tell a new sleep from one that it rang for. */
	*w->number = *w->number < UINT32_MAX >> IVC_ARM_SHIFT ? *w->number + 1 : 1;
	w->armed = true;
	ivc_store_relaxed_u32(&w->side->arm, *w->number << IVC_ARM_SHIFT | w->bits);
	/* [ARM-FULL] arm word, full fence, then the caller's next look. Partner: ivc_armed_(). */
	ivc_fence_full();
}

int ivc_wait_turn_(struct ivc_wait *w)
{
	const struct ivc_env *const env = &w->g->env_;
	uint64_t now = 0;
	int err;

	if (w->deadline == 0) {
		return IVC_E_AGAIN;
	}
	if (w->ended) {
		return IVC_E_PIPE;
	}
	w->spins++;
	if (env->now_ns != NULL && (w->armed || w->spins % CLOCK_EVERY == 0)) {
		now = env->now_ns(env->os);
		if (w->deadline != IVC_FOREVER && now >= w->deadline) {
			return IVC_E_TIMEDOUT;
		}
	}
	if (!w->sleeps || w->spins < SPINS_FIRST) {
		ivc_cpu_relax();
		return 0;
	}
	if (!w->armed) {
		ivc_wait_arm_(w);
		return 0;
	}
	err = sleep_slice(w, now);
	disarm(w);
	return err;
}

void ivc_wait_end_(struct ivc_wait *w)
{
	disarm(w);
}

uint32_t ivc_armed_(const volatile struct ivc_side_head *side, uint32_t bit, uint32_t rang)
{
	/* [ARM-FULL] the caller's change, full fence, then the arm word. Partner: ivc_wait_arm_(). */
	ivc_fence_full();
	return ivc_armed_now_(side, bit, rang);
}

int ivc_wait_ring_(const struct ivc_guest *g, uint64_t handle, uint64_t target, uint64_t own, uint32_t arm)
{
	if (g->doorbell_page_ == NULL || (arm & IVC_ARM_CALL) != 0) {
		return ivc_call_bell(g, (ivc_handle_t){handle}, target, own, IVC_BELL_NO_PARK);
	}
	/* [DOORBELL] release: what the peer waits for, then the bell, which is this store. Partner: sleep_slice(). */
	ivc_store_release_u32(g->doorbell_page_, (uint32_t)(handle << IVC_DOORBELL_INDEX_SHIFT) |
							 (target == IVC_ALL ? IVC_DOORBELL_ALL : (uint32_t)target));
	return 0;
}

#include "regs_end.h"
