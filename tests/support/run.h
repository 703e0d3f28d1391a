/* SPDX-License-Identifier: MIT */
/*
 * What test programs share: cmocka with its headers, the seed of a run, its length, a start barrier for workers.
 * Workers record; only the main thread asserts.
 */
#ifndef IVC_TESTS_RUN_H
#define IVC_TESTS_RUN_H

/* clang-format off: cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdbool.h>

/** run_seed - IVC_SEED from the environment, else a new one; it is printed so that the run can be repeated. */
uint64_t run_seed(const char *test);

/** run_number - the environment's @name as a number, else @usual. */
uint64_t run_number(const char *name, uint64_t usual);

/** run_scaled - @loops divided by IVC_TEST_SCALE, at least 1: loop counts that fit a slow machine too. */
uint64_t run_scaled(uint64_t loops);

/** run_random - the next number of a small generator; *@state is any number but 0. */
uint64_t run_random(uint64_t *state);
/** run_below - a random number below @n. */
uint64_t run_below(uint64_t *state, uint64_t n);

/** run_now_ns - monotonic clock. */
uint64_t run_now_ns(void);

/** run_gate_* - @count threads leave the gate together. */
struct run_gate {
	uint32_t waiting; /* atomic */
	uint32_t count;
};
void run_gate_pass(struct run_gate *gate);

/**
 * run_directory - a new directory, as mkdtemp(). Whoever makes it removes it; where a failed test did not get there, it
 * goes with what is in it when the test process ends.
 */
void run_directory(char *pattern);

/** run_until - waits until *@word is @value, at most @ms milliseconds. Return: whether it came. */
bool run_until(const uint32_t *word, uint32_t value, uint32_t ms);

#define assert_clean(text)                                                                                             \
	do {                                                                                                           \
		const char *clean_ = (text);                                                                           \
		if (clean_) {                                                                                          \
			fail_msg("%s", clean_);                                                                        \
		}                                                                                                      \
	} while (0)

#endif
