/* SPDX-License-Identifier: MIT */
/*
 * Round trips of a message between the two VMs, in turns with the least that two processes on this machine need: one line
 * of data and one flag line each way, over plain shared memory. It decides how many, and when it has been long enough.
 */
#include "demo.h"

#include <ivc/atomic.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS      100u
#define ROUND_TRIPS 500u
#define BUDGET_NS   UINT64_C(1500000000) /* of all rounds together */
#define STUCK_NS    DEMO_WAIT_NS
#define LOOKS       4096u /* between two looks at the clock */

static void turn(const struct demo_vm *vm)
{
	if (vm->cpu >= 0) {
		ivc_cpu_relax();
	} else {
		(void)sched_yield(); /* one CPU for both: let the other one run */
	}
}

/* ---------------------------------------------------------------------------------------------- plain shared memory */

/* line_await - until the flag is @n. Return: 0; IVC_E_TIMEDOUT. */
static int line_await(const struct demo_vm *vm, const struct demo_line *flag, uint64_t n)
{
	uint64_t end = 0;

	/* [TRIP-LINE] acquire: the flag, then the data line. Partner: line_send(). */
	for (uint32_t looks = 1; ivc_load_acquire_u64(&flag->word[0]) != n; looks++) {
		turn(vm);
		if (looks % LOOKS == 0) {
			const uint64_t now = demo_now_ns();

			end = end ? end : now + STUCK_NS;
			if (now > end) {
				return IVC_E_TIMEDOUT;
			}
		}
	}
	return 0;
}

static void line_send(struct demo_line *flag, struct demo_line *data, const uint64_t word[8], uint64_t n)
{
	for (size_t i = 0; i < 8; i++) {
		ivc_store_relaxed_u64(&data->word[i], word[i]);
	}
	/* [TRIP-LINE] release: the data line, then the flag. Partner: line_await(). */
	ivc_store_release_u64(&flag->word[0], n);
}

static void line_take(const struct demo_line *data, uint64_t word[8])
{
	for (size_t i = 0; i < 8; i++) {
		word[i] = ivc_load_relaxed_u64(&data->word[i]);
	}
}

/* ----------------------------------------------------------------------------------------------------------- asking */

static int channel_trip(struct demo_vm *vm, uint64_t word[8])
{
	int64_t n = ivc_pub_send(&vm->pub, word, DEMO_TRIP_BYTES, DEMO_WAIT_NS);
	uint64_t end = 0;

	if (n) {
		return (int)n;
	}
	for (uint32_t looks = 1;; looks++) {
		n = ivc_pub_recv(&vm->pub, NULL, word, DEMO_TRIP_BYTES, 0);
		if (n != IVC_E_AGAIN) {
			return n == (int64_t)DEMO_TRIP_BYTES ? 0 : n < 0 ? (int)n : IVC_E_PROTO;
		}
		turn(vm);
		if (looks % LOOKS == 0) {
			const uint64_t now = demo_now_ns();

			end = end ? end : now + STUCK_NS;
			if (now > end) {
				return IVC_E_TIMEDOUT;
			}
		}
	}
}

static int line_trip(struct demo_vm *vm, uint64_t word[8], uint64_t n)
{
	struct demo_shared *s = vm->shared;
	int err;

	line_send(&s->ping, &s->ping_data, word, n);
	err = line_await(vm, &s->pong, n);
	if (!err) {
		line_take(&s->pong_data, word);
	}
	return err;
}

static int by_size(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void percentiles(struct demo_percentiles *p, uint32_t *ns, size_t count)
{
	qsort(ns, count, sizeof(*ns), by_size);
	p->p50 = ns[count / 2];
	p->p99 = ns[count * 99 / 100];
	p->p999 = ns[count * 999 / 1000];
}

/* One clock reading per trip: the end of one is the beginning of the next. */
static uint32_t elapsed(uint64_t *last)
{
	const uint64_t now = demo_now_ns();
	const uint64_t ns = now - *last;

	*last = now;
	return ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static int rounds(struct demo_vm *vm, uint32_t *channel_ns, uint32_t *line_ns, uint32_t *count)
{
	const uint64_t end = demo_now_ns() + BUDGET_NS;
	uint64_t word[8] = {0};
	uint64_t last;
	int err;

	for (uint32_t round = 0; round < ROUNDS && (round == 0 || demo_now_ns() < end); round++) {
		last = demo_now_ns();
		for (uint32_t i = 0; i < ROUND_TRIPS; i++) {
			word[0] = i;
			err = channel_trip(vm, word);
			if (err) {
				return err;
			}
			channel_ns[*count + i] = elapsed(&last);
		}
		last = demo_now_ns();
		for (uint32_t i = 0; i < ROUND_TRIPS; i++) {
			word[0] = i;
			err = line_trip(vm, word, (uint64_t)*count + i + 1);
			if (err) {
				return err;
			}
			line_ns[*count + i] = elapsed(&last);
		}
		*count += ROUND_TRIPS;
	}
	/* Another length tells the echo that no round follows. */
	return ivc_pub_send(&vm->pub, word, 1, DEMO_WAIT_NS);
}

int demo_trip_ask(struct demo_vm *vm, struct demo_answer *a)
{
	uint32_t *channel_ns = calloc((size_t)ROUNDS * ROUND_TRIPS, sizeof(*channel_ns));
	uint32_t *line_ns = calloc((size_t)ROUNDS * ROUND_TRIPS, sizeof(*line_ns));
	int err = IVC_E_NOMEM;

	if (channel_ns && line_ns) {
		/* Not zero pages any more. */
		memset(channel_ns, 1, sizeof(*channel_ns) * ROUNDS * ROUND_TRIPS);
		memset(line_ns, 1, sizeof(*line_ns) * ROUNDS * ROUND_TRIPS);
		err = rounds(vm, channel_ns, line_ns, &a->trips);
	}
	if (!err) {
		percentiles(&a->channel, channel_ns, a->trips);
		percentiles(&a->limit, line_ns, a->trips);
	}
	free(channel_ns);
	free(line_ns);
	return err;
}

/* ------------------------------------------------------------------------------------------------------------- echo */

/* channel_echo - one message. Return: its bytes, or IVC_E_*. */
static int64_t channel_echo(struct demo_vm *vm)
{
	uint64_t word[8];
	uint64_t end = 0;
	int64_t n;

	for (uint32_t looks = 1; (n = ivc_sub_recv(&vm->sub, word, sizeof(word), 0)) == IVC_E_AGAIN; looks++) {
		turn(vm);
		if (looks % LOOKS == 0) {
			const uint64_t now = demo_now_ns();

			end = end ? end : now + STUCK_NS;
			if (now > end) {
				return IVC_E_TIMEDOUT;
			}
		}
	}
	if (n == (int64_t)DEMO_TRIP_BYTES) {
		const int err = ivc_sub_send(&vm->sub, word, sizeof(word), DEMO_WAIT_NS);

		return err ? err : n;
	}
	return n;
}

int demo_trip_echo(struct demo_vm *vm)
{
	struct demo_shared *s = vm->shared;
	uint64_t word[8];
	uint64_t lines = 0;

	for (;;) {
		for (uint32_t i = 0; i < ROUND_TRIPS; i++) {
			const int64_t n = channel_echo(vm);

			if (n < 0) {
				return (int)n;
			}
			if (n == 1 && i == 0) {
				return 0;
			}
			if (n != (int64_t)DEMO_TRIP_BYTES) {
				return IVC_E_PROTO;
			}
		}
		for (uint32_t i = 0; i < ROUND_TRIPS; i++) {
			const int err = line_await(vm, &s->ping, ++lines);

			if (err) {
				return err;
			}
			line_take(&s->ping_data, word);
			line_send(&s->pong, &s->pong_data, word, lines);
		}
	}
}
