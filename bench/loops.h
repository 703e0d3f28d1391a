/* SPDX-License-Identifier: MIT */
/*
 * The two things that every queue is asked to do, the same for all: a stream one way, a message there and back. The
 * sender copies each message once, out of a small table; the receiver copies it out and folds one word of each cache
 * line into a checksum that depends on the order and is compared afterwards. It knows no queue.
 */
#ifndef IVC_BENCH_LOOPS_H
#define IVC_BENCH_LOOPS_H

#include "harness.h"

#include <ivc/atomic.h>
#if __STDC_HOSTED__
#include <string.h>
#else
#include <ivc/bare.h>
#endif

#define LOOPS_TABLE       16384u /* bytes of source; it stays in the first level cache */
#define LOOPS_MESSAGE_MAX 4096u
#define LOOPS_LAPS_WARM   4u /* of the ring, before a stream counts */
#define LOOPS_LAPS_MIN    5u /* that count */
#define LOOPS_LAPS_MAX    1000u
#define LOOPS_INLINE      static inline __attribute__((always_inline))

/* Bytes of one message, and what is sent: loops_table + a multiple of the length. */
struct loops_data {
	_Alignas(64) uint8_t table[LOOPS_TABLE];
};

/* A queue as the loops see it. @bytes is the same in all calls of one loop. False: no room, or nothing there. */
typedef bool loops_send_fn(void *queue, const void *message, uint32_t bytes);
typedef bool loops_recv_fn(void *queue, void *buffer, uint32_t bytes);

/* Sum of all messages so far, in order. */
LOOPS_INLINE uint64_t loops_fold(uint64_t sum, const uint8_t *message, uint32_t bytes)
{
	uint32_t at;

	for (at = 0; at < bytes; at += 64) {
		uint64_t word;

		/* Where the library is freestanding, memcpy() itself is a call. */
		__builtin_memcpy(&word, message + at, sizeof(word));
		sum = sum * 31 + word;
	}
	return sum;
}

static inline void loops_data_fill(struct loops_data *data)
{
	uint64_t word = UINT64_C(0x9e3779b97f4a7c15);
	uint32_t at;

	for (at = 0; at < LOOPS_TABLE; at += 8) {
		word ^= word << 13;
		word ^= word >> 7;
		word ^= word << 17;
		memcpy(data->table + at, &word, sizeof(word));
	}
}

/* What loops_fold() gives after @count messages. */
static inline uint64_t loops_expect(const struct loops_data *data, uint32_t bytes, uint64_t count)
{
	const uint64_t period = bytes != 0 ? LOOPS_TABLE / bytes : 0;
	uint64_t sum = 0;
	uint64_t once = 0;  /* sum of one period */
	uint64_t power = 1; /* what a period multiplies by */
	uint64_t i;

	if (period == 0) {
		bench_fail("messages of %u bytes", bytes);
	}
	for (i = 0; i < LOOPS_TABLE; i += bytes < 64 ? bytes : 64) {
		power *= 31;
	}
	for (i = 0; i < period; i++) {
		once = loops_fold(once, data->table + i * bytes, bytes);
	}
	for (i = 0; i < count / period; i++) {
		sum = sum * power + once;
	}
	for (i = 0; i < count % period; i++) {
		sum = loops_fold(sum, data->table + i * bytes, bytes);
	}
	return sum;
}

LOOPS_INLINE void loops_poll(uint32_t variant)
{
	if (variant != 0) {
		ivc_cpu_relax();
	}
}

/* ------------------------------------------------------------------------------------------------------ one way */

struct loops_stream {
	struct bench_sample *s;
	const struct loops_data *data;
	void *queue;
	uint32_t bytes;
	uint32_t variant;
	uint32_t lap;  /* messages that fill the ring once: what is timed as one piece */
	uint32_t laps; /* that are measured */
	uint32_t warm; /* laps before them */
	uint64_t sum;
	uint32_t tick[LOOPS_LAPS_MAX]; /* of each lap, at the receiver */
};

LOOPS_INLINE void loops_stream_send(struct loops_stream *l, loops_send_fn *send, uint32_t bytes)
{
	const uint64_t count = (uint64_t)(l->warm + l->laps) * l->lap;
	const uint8_t *table = l->data->table;
	const uint32_t variant = l->variant;
	void *queue = l->queue;
	uint32_t at = 0;
	uint64_t i;

	for (i = 0; i < count; i++) {
		while (!send(queue, table + at, bytes)) {
			loops_poll(variant);
		}
		at = (at + bytes) & (LOOPS_TABLE - 1);
	}
}

LOOPS_INLINE uint64_t loops_take(struct loops_stream *l, loops_recv_fn *recv, uint32_t bytes, uint64_t count,
				 uint64_t sum, uint8_t *buffer)
{
	const uint32_t variant = l->variant;
	void *queue = l->queue;
	uint64_t i;

	for (i = 0; i < count; i++) {
		while (!recv(queue, buffer, bytes)) {
			loops_poll(variant);
		}
		bench_keep(buffer);
		sum = loops_fold(sum, buffer, bytes);
	}
	return sum;
}

LOOPS_INLINE void loops_stream_recv(struct loops_stream *l, loops_recv_fn *recv, uint32_t bytes)
{
	_Alignas(64) uint8_t buffer[LOOPS_MESSAGE_MAX];
	uint64_t sum = loops_take(l, recv, bytes, (uint64_t)l->warm * l->lap, 0, buffer);
	uint64_t before = bench_now();
	uint32_t i;

	for (i = 0; i < l->laps; i++) {
		uint64_t after;

		sum = loops_take(l, recv, bytes, l->lap, sum, buffer);
		after = bench_now();
		l->tick[i] = after - before < UINT32_MAX ? (uint32_t)(after - before) : UINT32_MAX;
		before = after;
	}
	l->sum = sum;
}

/* Fills in how much is to be sent: @capacity bytes of messages make a lap. */
static inline void loops_stream_plan(struct loops_stream *l, uint32_t capacity)
{
	l->variant = l->s->variant;
	l->lap = capacity / l->bytes;
	l->laps = bench_count(l->s, LOOPS_LAPS_MIN * l->lap, LOOPS_LAPS_MAX * l->lap) / l->lap;
	if (l->laps < LOOPS_LAPS_MIN) {
		l->laps = LOOPS_LAPS_MIN;
	}
	l->warm = LOOPS_LAPS_WARM;
}

static inline void loops_stream_done(struct loops_stream *l)
{
	uint32_t i;

	if (l->sum != loops_expect(l->data, l->bytes, (uint64_t)(l->warm + l->laps) * l->lap)) {
		bench_fail("checksum: the messages that arrived are not those that were sent");
	}
	l->s->per = l->lap;
	for (i = 0; i < l->laps; i++) {
		bench_trip(l->s, l->tick[i]);
	}
}

/* ----------------------------------------------------------------------------------------------- there and back */

struct loops_trip {
	struct bench_sample *s;
	const struct loops_data *data;
	void *there; /* queue */
	void *back;
	uint32_t bytes;
	uint32_t variant;
	uint32_t count;
	uint32_t warm;
	uint64_t sum;
};

LOOPS_INLINE void loops_trip_throw(struct loops_trip *l, loops_send_fn *send, loops_recv_fn *recv, uint32_t bytes)
{
	_Alignas(64) uint8_t buffer[LOOPS_MESSAGE_MAX];
	const uint8_t *table = l->data->table;
	const uint32_t variant = l->variant;
	uint64_t before = bench_now();
	uint64_t sum = 0;
	uint32_t at = 0;
	uint32_t i;

	for (i = 0; i < l->warm + l->count; i++) {
		uint64_t after;

		while (!send(l->there, table + at, bytes)) {
			loops_poll(variant);
		}
		while (!recv(l->back, buffer, bytes)) {
			loops_poll(variant);
		}
		bench_keep(buffer);
		sum = loops_fold(sum, buffer, bytes);
		at = (at + bytes) & (LOOPS_TABLE - 1);
		after = bench_now();
		if (i >= l->warm) {
			bench_trip(l->s, after - before);
		}
		before = after;
	}
	l->sum = sum;
}

LOOPS_INLINE void loops_trip_catch(struct loops_trip *l, loops_send_fn *send, loops_recv_fn *recv, uint32_t bytes)
{
	_Alignas(64) uint8_t buffer[LOOPS_MESSAGE_MAX];
	const uint32_t variant = l->variant;
	uint32_t i;

	for (i = 0; i < l->warm + l->count; i++) {
		while (!recv(l->there, buffer, bytes)) {
			loops_poll(variant);
		}
		bench_keep(buffer);
		while (!send(l->back, buffer, bytes)) {
			loops_poll(variant);
		}
	}
}

static inline void loops_trip_plan(struct loops_trip *l)
{
	l->variant = l->s->variant;
	l->count = bench_count(l->s, 500, 20000);
	l->warm = l->count / 10;
}

static inline void loops_trip_done(struct loops_trip *l)
{
	if (l->sum != loops_expect(l->data, l->bytes, l->warm + l->count)) {
		bench_fail("checksum: the messages that came back are not those that were sent");
	}
}

#endif
