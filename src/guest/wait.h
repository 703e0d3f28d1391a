/* SPDX-License-Identifier: MIT */
/*
 * How a member waits: a bounded spin, then armed sleeps in slices, each followed by another look at everything. It
 * decides when to spin, arm and sleep; it does not know what is waited for.
 */
#ifndef IVC_GUEST_WAIT_H
#define IVC_GUEST_WAIT_H

#include "section.h"

struct ivc_wait {
	const struct ivc_guest *g;
	volatile struct ivc_side_head *side; /* own section's head */
	uint32_t *number;                    /* of the last arming, in the member */
	uint64_t handle;
	uint64_t deadline;
	uint32_t spins;
	uint8_t bits; /* IVC_ARM_*: what the peers shall ring for, and how */
	bool sleeps;
	bool armed;
	bool ended; /* no sleep is possible any more: what the last look shows is the end */
};

/**
 * ivc_wait_begin_ - @timeout_ns as in ivc/guest.h.
 * Return: 0; IVC_E_INVAL: it needs a clock and there is none.
 */
int ivc_wait_begin_(struct ivc_wait *w, const struct ivc_guest *g, const struct ivc_section_ *at, bool owner,
		    bool polls, uint32_t *number, uint8_t bits, uint64_t timeout_ns);

/**
 * ivc_wait_turn_ - the caller has looked and found nothing: spend some time before it looks again.
 * Return: 0: look again; IVC_E_AGAIN: the timeout is 0; IVC_E_TIMEDOUT; IVC_E_INTR; IVC_E_PIPE: the hypervisor does not
 *         know this member any more.
 */
int ivc_wait_turn_(struct ivc_wait *w);

/** ivc_wait_arm_ - ask the peers for a bell, fence; the caller looks again before it sleeps. */
void ivc_wait_arm_(struct ivc_wait *w);

/** ivc_wait_end_ - nobody shall ring any more. Always, whatever the turns said. */
void ivc_wait_end_(struct ivc_wait *w);

/**
 * ivc_armed_ - what a peer with arm word @side sleeps for; 0: it is awake, or a bell was sent for this sleep already.
 * With a full fence before the look: a peer that sleeps for what the caller has changed is never missed.
 */
uint32_t ivc_armed_(const volatile struct ivc_side_head *side, uint32_t bit, uint32_t rang);

/* The look alone: it may miss a sleep that has just begun, unless the caller has the fence. */
static inline uint32_t ivc_armed_now_(const volatile struct ivc_side_head *side, uint32_t bit, uint32_t rang)
{
	const uint32_t arm = ivc_load_relaxed_u32(&side->arm);

	return (arm & bit) != 0 && arm != rang ? arm : 0;
}

/**
 * ivc_wait_ring_ - one bell for the sleep @arm of a peer: a store to the doorbell page where that can reach it, else BELL.
 * @target, @own: as of BELL. Never parks: a forged arm word would put the ringer to sleep.
 * Return: 0; IVC_E_AGAIN: over budget, the next change rings again; what BELL answers: not to be tried again.
 */
int ivc_wait_ring_(const struct ivc_guest *g, uint64_t handle, uint64_t target, uint64_t own, uint32_t arm);
#endif
