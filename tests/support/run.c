/* SPDX-License-Identifier: MIT */
/* Seeds, clocks and gates of test programs. It knows nothing of the project under test. */
#include "run.h"

#include <ivc/atomic.h>

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t run_number(const char *name, uint64_t usual)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : usual;
}

uint64_t run_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t run_seed(const char *test)
{
	const uint64_t seed = run_number("IVC_SEED", run_now_ns() | 1);

	printf("%s: IVC_SEED=%" PRIu64 "\n", test, seed);
	(void)fflush(stdout);
	return seed ? seed : 1;
}

uint64_t run_random(uint64_t *state)
{
	uint64_t x = *state;

	/* xorshift64*: full period, good enough to choose test steps */
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

uint64_t run_below(uint64_t *state, uint64_t n)
{
	return (run_random(state) >> 11) % n;
}

void run_gate_pass(struct run_gate *gate)
{
	(void)ivc_fetch_add_u32(&gate->waiting, 1);
	while (ivc_load_acquire_u32(&gate->waiting) < gate->count) {
		(void)sched_yield();
	}
}

bool run_until(const uint32_t *word, uint32_t value, uint32_t ms)
{
	const uint64_t end = run_now_ns() + (uint64_t)ms * 1000000;
	const struct timespec nap = {.tv_nsec = 50000};

	while (ivc_load_acquire_u32(word) != value) {
		if (run_now_ns() > end) {
			return false;
		}
		(void)nanosleep(&nap, NULL);
	}
	return true;
}
