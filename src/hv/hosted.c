/* SPDX-License-Identifier: MIT */
/*
 * The C library's part of the core: per-thread state, memory at create, a seed, a polite wait. The name table apart, the
 * only file of the core that includes its headers.
 */
#include "hosted.h"

#include "lock.h"
#include "rcu.h"

#include <ivc/abi.h>

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

char ivc_rcu_period_;

struct ivc_thread *ivc_thread_self(void)
{
	static _Thread_local struct ivc_thread self;

	return &self;
}

void *ivc_hosted_alloc(uint64_t bytes)
{
	const size_t whole = (bytes + 63) & ~(size_t)63;
	void *at = aligned_alloc(64, whole);

	if (at != NULL) {
		memset(at, 0, whole);
	}
	return at;
}

void ivc_hosted_free(void *at)
{
	free(at);
}

int ivc_hosted_seed(uint64_t seed[2])
{
	return getrandom(seed, 2 * sizeof(seed[0]), 0) == (ssize_t)(2 * sizeof(seed[0])) ? 0 : IVC_E_NOMEM;
}

void ivc_hosted_wait(uint32_t turn)
{
	/* Chosen, not measured: a short lock is given up within the spins, an op of a host within the sleeps. */
	enum {
		SPINS = 64,
		YIELDS = 256,
		SLEEP_NS = 20000
	};

	if (turn < SPINS) {
		ivc_cpu_relax();
	} else if (turn < YIELDS) {
		(void)sched_yield();
	} else {
		const struct timespec pause = {.tv_nsec = SLEEP_NS};

		(void)nanosleep(&pause, NULL);
	}
}
