/* SPDX-License-Identifier: MIT */
/*
 * Round trips of a message between the two VMs, in turns with the least that two VMs on this machine need: one line of
 * data and one flag line each way, over plain memory. That memory is a second channel, used without any of its
 * protocol. It decides how many, and when it has been long enough.
 */
#include "demo_order.h"

#include <ivc/atomic.h>

#define ROUNDS      100u
#define ROUND_TRIPS 500u
#define BUDGET_NS   UINT64_C(1500000000) /* of all rounds together */
#define STUCK_NS    DEMO_WAIT_NS

#define LINES_LAYOUT (IVC_LAYOUT_SECTIONED | UINT64_C(1) << IVC_LAYOUT_SEATS_SHIFT)

_Static_assert(2 * ROUNDS * ROUND_TRIPS * sizeof(uint32_t) <= DEMO_WORK_LEAST, "all times have room");

/* ---------------------------------------------------------------------------------------------- plain shared memory */

/* Two pairs of cache lines: a CPU may fetch the neighbour of a line with it. */
struct line {
	uint64_t word[8];
	uint64_t apart[8];
} IVC_ALIGNED_(128);

struct lines {
	struct line flag, data;
};

static uint64_t lines_key(const struct demo_vm *vm)
{
	return vm->born.key + 1;
}

int demo_lines_open(struct demo_vm *vm)
{
	struct ivc_call_region region;
	const int err = vm->born.publisher
				? ivc_call_publish(&vm->g, 0, ivc_key(lines_key(vm)), 1, LINES_LAYOUT, &region)
				: ivc_call_subscribe(&vm->g, 0, ivc_vmid((uint32_t)vm->born.from),
						     ivc_key(lines_key(vm)), true, 0, &region);

	if (!err) {
		vm->lines = region.base;
	}
	return err;
}

int demo_lines_close(struct demo_vm *vm)
{
	return vm->born.publisher
		       ? ivc_call_unpublish(&vm->g, ivc_key(lines_key(vm)), IVC_UNPUBLISH_REVOKE)
		       : ivc_call_unsubscribe(&vm->g, ivc_vmid((uint32_t)vm->born.from), ivc_key(lines_key(vm)));
}

/* lines_at - what the publisher writes, or what the reader writes. */
static struct lines *lines_at(struct demo_vm *vm, bool publisher)
{
	const volatile struct ivc_hv_page *page = demo_env_at(vm, vm->lines);

	return demo_env_at(vm, ivc_gpa(vm->lines.v +
				       ivc_load_relaxed_u64(publisher ? &page->publisher_offset : &page->seat_offset)));
}

/* overdue - a look at the clock, once in many @looks. */
static bool overdue(uint32_t looks, uint64_t *end)
{
	uint64_t now;

	if (looks % DEMO_LOOKS != 0) {
		return false;
	}
	now = demo_env_now();
	*end = *end ? *end : now + STUCK_NS;
	return now > *end;
}

/* line_await - until the flag is @n. Return: 0; IVC_E_TIMEDOUT. */
static int line_await(const struct demo_vm *vm, const struct line *flag, uint64_t n)
{
	uint64_t end = 0;

	/* [TRIP-LINE] acquire: the flag, then the data line. Partner: line_send(). */
	for (uint32_t looks = 1; ivc_load_acquire_u64(&flag->word[0]) != n; looks++) {
		demo_env_turn(vm);
		if (overdue(looks, &end)) {
			return IVC_E_TIMEDOUT;
		}
	}
	return 0;
}

static void line_send(struct lines *to, const uint64_t word[8], uint64_t n)
{
	for (size_t i = 0; i < 8; i++) {
		ivc_store_relaxed_u64(&to->data.word[i], word[i]);
	}
	/* [TRIP-LINE] release: the data line, then the flag. Partner: line_await(). */
	ivc_store_release_u64(&to->flag.word[0], n);
}

static void line_take(const struct lines *from, uint64_t word[8])
{
	for (size_t i = 0; i < 8; i++) {
		word[i] = ivc_load_relaxed_u64(&from->data.word[i]);
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
		demo_env_turn(vm);
		if (overdue(looks, &end)) {
			return IVC_E_TIMEDOUT;
		}
	}
}

static void percentiles(struct demo_percentiles *p, uint32_t *ns, uint32_t count)
{
	demo_sort(ns, count);
	p->p50 = ns[count / 2];
	p->p99 = ns[(uint64_t)count * 99 / 100];
	p->p999 = ns[(uint64_t)count * 999 / 1000];
}

/* One clock reading per trip: the end of one is the beginning of the next. */
static uint32_t elapsed(uint64_t *last)
{
	const uint64_t now = demo_env_now();
	const uint64_t ns = now - *last;

	*last = now;
	return ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static int rounds(struct demo_vm *vm, uint32_t *channel_ns, uint32_t *line_ns, uint32_t *count)
{
	const uint64_t end = demo_env_now() + BUDGET_NS;
	struct lines *to = lines_at(vm, true);
	const struct lines *from = lines_at(vm, false);
	uint64_t word[8] = {0};
	uint64_t last;
	int err;

	for (uint32_t round = 0; round < ROUNDS && (round == 0 || demo_env_now() < end); round++) {
		last = demo_env_now();
		for (uint32_t i = 0; i < ROUND_TRIPS; i++) {
			word[0] = i;
			err = channel_trip(vm, word);
			if (err) {
				return err;
			}
			channel_ns[*count + i] = elapsed(&last);
		}
		last = demo_env_now();
		for (uint32_t i = 0; i < ROUND_TRIPS; i++) {
			const uint64_t n = (uint64_t)*count + i + 1;

			word[0] = i;
			line_send(to, word, n);
			err = line_await(vm, &from->flag, n);
			if (err) {
				return err;
			}
			line_take(from, word);
			line_ns[*count + i] = elapsed(&last);
		}
		*count += ROUND_TRIPS;
	}
	/* Another length tells the echo that no round follows. */
	return ivc_pub_send(&vm->pub, word, 1, DEMO_WAIT_NS);
}

int demo_trip_ask(struct demo_vm *vm, struct demo_answer *a)
{
	uint32_t *channel_ns = (uint32_t *)(void *)vm->work;
	uint32_t *line_ns = channel_ns + ROUNDS * ROUND_TRIPS;
	int err;

	if (vm->work_bytes < DEMO_WORK_LEAST) {
		return IVC_E_NOMEM;
	}
	/* Pages that are there before the clock runs. */
	for (uint32_t i = 0; i < 2 * ROUNDS * ROUND_TRIPS; i++) {
		((volatile uint32_t *)channel_ns)[i] = 1;
	}
	err = rounds(vm, channel_ns, line_ns, &a->trips);
	if (!err) {
		percentiles(&a->channel, channel_ns, a->trips);
		percentiles(&a->limit, line_ns, a->trips);
	}
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
		demo_env_turn(vm);
		if (overdue(looks, &end)) {
			return IVC_E_TIMEDOUT;
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
	struct lines *to = lines_at(vm, false);
	const struct lines *from = lines_at(vm, true);
	uint64_t word[8];
	uint64_t n = 0;

	for (;;) {
		for (uint32_t i = 0; i < ROUND_TRIPS; i++) {
			const int64_t bytes = channel_echo(vm);

			if (bytes < 0) {
				return (int)bytes;
			}
			if (bytes == 1 && i == 0) {
				return 0;
			}
			if (bytes != (int64_t)DEMO_TRIP_BYTES) {
				return IVC_E_PROTO;
			}
		}
		for (uint32_t i = 0; i < ROUND_TRIPS; i++) {
			const int err = line_await(vm, &from->flag, ++n);

			if (err) {
				return err;
			}
			line_take(from, word);
			line_send(to, word, n);
		}
	}
}
