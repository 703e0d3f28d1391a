/* SPDX-License-Identifier: MIT */
/* Seeds, clocks and gates of test programs. It knows nothing of the project under test. */
#include "run.h"

#include <ivc/atomic.h>

#include <dirent.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DIRECTORIES 64
static char directories[DIRECTORIES][64]; /* the latest that were made */
static unsigned int directories_made;
static pid_t directories_of;

uint64_t run_number(const char *name, uint64_t usual)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : usual;
}

uint64_t run_scaled(uint64_t loops)
{
	const uint64_t scale = run_number("IVC_TEST_SCALE", 1);
	const uint64_t scaled = loops / (scale ? scale : 1);

	return scaled ? scaled : 1;
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

static void directory_remove(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	char inside[384];

	if (!dir) {
		return; /* as it should be */
	}
	while ((entry = readdir(dir))) {
		(void)snprintf(inside, sizeof(inside), "%s/%s", path, entry->d_name);
		(void)unlink(inside);
	}
	(void)closedir(dir);
	(void)rmdir(path);
}

static void directories_remove(void)
{
	for (unsigned int i = 0; i < DIRECTORIES && getpid() == directories_of; i++) {
		if (directories[i][0]) {
			directory_remove(directories[i]);
		}
	}
}

void run_directory(char *pattern)
{
	assert_non_null(mkdtemp(pattern));
	if (!directories_of) {
		directories_of = getpid();
		assert_int_equal(atexit(directories_remove), 0);
	}
	(void)snprintf(directories[directories_made++ % DIRECTORIES], sizeof(directories[0]), "%s", pattern);
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
