/* SPDX-License-Identifier: MIT */
/*
 * What every bench shares: two pinned CPUs, a probe of how far apart they are, contestants taken in turn, percentiles,
 * and the table at the end. It decides how a number is taken and what is printed beside it; it knows nothing of IVC.
 *
 * A run: each round takes one short sample of every contestant. Before and after a sample two threads throw a flag to
 * and fro; the median trip gives the placement class of the two CPUs (a virtual machine's CPUs are moved about by its
 * host). A sample whose class changed is dropped, and only samples of one class are compared.
 *
 * Concurrency: one thread drives the harness. A case may use the second CPU by bench_pair() or by a bench_peer.
 *
 * Freestanding, for the loops that run in a guest: bench_now(), bench_trip(), bench_keep(), and a bench_fail() that the
 * guest gives.
 */
#ifndef IVC_BENCH_HARNESS_H
#define IVC_BENCH_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if __STDC_HOSTED__
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif
#endif

enum bench_role {
	BENCH_OURS,
	BENCH_RIVAL, /* another way to do the same */
	BENCH_LIMIT  /* what this machine can do at best; the first one of a group is what `x limit` divides by */
};

struct bench;

/* One sample of one case. */
struct bench_sample {
	struct bench *bench;
	uint32_t variant; /* in: which of the case's variants */
	uint32_t per;     /* operations between two bench_trip() calls; 1 */
	uint64_t budget_ns;
	double last_ns;  /* in: what one operation took in an earlier sample; 0: none yet */
	double value_ns; /* out, instead of trips: ns per operation. Neither: the sample is dropped */
	uint32_t *trip_;
	uint32_t trips_;
	uint32_t room_;
};

struct bench_case {
	const char *group; /* cases of one group stand in one table */
	const char *name;
	const char *unit; /* of what: "message", "trip", "call" */
	enum bench_role role;
	uint32_t bytes;         /* payload of one operation, for the GiB/s column; 0: none */
	const char *variant[2]; /* several ways to do it, of which the best one counts; NULL: one way */
	void (*run)(struct bench_sample *s, void *arg);
	void *arg;
};

/**
 * bench_open - reads the options, chooses the CPUs, sets the clock up. Prints help or a complaint and exits by itself.
 * @name: as in "bench_ring". @about: one line for --help. Owner: the harness, until bench_close().
 */
struct bench *bench_open(int argc, char **argv, const char *name, const char *about);

/** bench_add - a contestant; the strings and @c->arg are borrowed. */
void bench_add(struct bench *b, const struct bench_case *c);

/** bench_note - a line for below the table, as for a rival that is not here. Formatted as printf() does. */
void bench_note(struct bench *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** bench_run - takes samples until the time is over, then prints. */
void bench_run(struct bench *b);

/** bench_close - Return: exit code of the program. */
int bench_close(struct bench *b);

/** bench_skip - nothing can be measured here: says why, on stderr and in JSON. Return: as bench_close(). */
int bench_skip(struct bench *b, const char *why);

/** bench_fail - something is wrong with what is measured, or with the machine: says so and ends the program with 2. */
void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/** bench_temporary - a file and its directory that are removed when the program fails; a pass removes them itself. */
void bench_temporary(const char *file, const char *directory);

/** bench_text - a string as printf() makes it; never freed. */
const char *bench_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** bench_memory - zeroed shared memory, page aligned, touched; never unmapped. */
void *bench_memory(size_t bytes);

/** bench_cpu - the number of the first (0) or second (1) CPU. bench_pin - puts the calling thread there. */
int bench_cpu(const struct bench *b, int which);
void bench_pin(const struct bench *b, int which);

/** bench_quick - a smoke run: the numbers will not be used. */
bool bench_quick(const struct bench *b);

/** bench_wanted - a case of this group would be run (--only). */
bool bench_wanted(const struct bench *b, const char *group);

/**
 * bench_pair - runs @first here, on the first CPU, and @second in a thread on the second one, both from one start line;
 * returns when both have returned.
 */
void bench_pair(struct bench *b, void (*first)(void *arg), void (*second)(void *arg), void *arg);

/* Another process on the second CPU (or anywhere, @which < 0) that waits for commands. */
struct bench_peer;

/**
 * bench_peer_start - forks. @serve runs in the child for each command. Before the first bench_pair() or bench_run().
 * The child dies with this process.
 */
struct bench_peer *bench_peer_start(struct bench *b, int which,
				    void (*serve)(void *arg, uint32_t command, uint64_t value), void *arg);
/** bench_peer_begin, bench_peer_end - give a command; wait until @serve has returned. */
void bench_peer_begin(struct bench_peer *peer, uint32_t command, uint64_t value);
void bench_peer_end(struct bench_peer *peer);

/* Time. */

#if __STDC_HOSTED__
extern bool bench_tsc_;
extern double bench_tick_ns_;

/** bench_now - in ticks of the clock. */
static inline uint64_t bench_now(void)
{
	struct timespec at;

#if defined(__x86_64__)
	if (bench_tsc_) {
		return __rdtsc();
	}
#endif
	clock_gettime(CLOCK_MONOTONIC_RAW, &at);
	return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

/** bench_ns - ticks to nanoseconds. */
static inline double bench_ns(uint64_t ticks)
{
	return (double)ticks * bench_tick_ns_;
}
#else
static inline uint64_t bench_now(void)
{
	return __builtin_ia32_rdtsc();
}
#endif

/** bench_trip - one measured piece of s->per operations took @ticks. */
static inline void bench_trip(struct bench_sample *s, uint64_t ticks)
{
	if (s->trips_ < s->room_) {
		s->trip_[s->trips_++] = ticks < UINT32_MAX ? (uint32_t)ticks : UINT32_MAX;
	}
}

/** bench_keep - the compiler must take the bytes behind @at as used and as changed. */
static inline void bench_keep(const void *at)
{
	__asm__ __volatile__("" : : "r"(at) : "memory");
}

/** bench_count - operations that fit the budget; @first where nothing is known yet. At most @max. */
uint32_t bench_count(const struct bench_sample *s, uint32_t first, uint32_t max);

#endif
