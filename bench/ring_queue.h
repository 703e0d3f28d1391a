/* SPDX-License-Identifier: MIT */
/*
 * ivc/ring.h as a queue of loops.h: writer, reader and both parts of the ring in shared memory, so that it works between
 * threads and, when made before the fork, between processes. It measures nothing.
 */
#ifndef IVC_BENCH_RING_QUEUE_H
#define IVC_BENCH_RING_QUEUE_H

#include "loops.h"

#include <ivc/ring.h>

/* The two sides in blocks of their own: with both in one line each send would take the reader's line away. */
struct ours {
	_Alignas(256) struct ivc_ring_writer writer;
	struct ivc_ring_cursor cursor;
	_Alignas(256) struct ivc_ring_reader reader;
	_Alignas(256) uint32_t bytes; /* of the payload that was asked for */
};

static inline struct ours *ours_new(uint32_t payload)
{
	const uint64_t bytes = ivc_ring_bytes(payload);
	struct ours *q = bench_memory(sizeof(*q));
	void *part = bench_memory(bytes);
	void *mark = bench_memory(4096);
	struct ivc_ring_start start;

	q->bytes = payload;
	if (ivc_ring_writer_init(&q->writer, part, bytes, 0, 0) != 0) {
		bench_fail("ring of %u bytes", payload);
	}
	ivc_ring_admit(&q->writer, &q->cursor, mark, 0, &start);
	if (ivc_ring_reader_init(&q->reader, part, bytes, mark, &start, 0) != 0) {
		bench_fail("reader of a ring of %u bytes", payload);
	}
	return q;
}

LOOPS_INLINE bool ours_send(void *queue, const void *message, uint32_t bytes)
{
	struct ours *q = queue;
	const int err = ivc_ring_send(&q->writer, message, bytes);

	if (err != 0 && err != IVC_E_AGAIN) {
		bench_fail("ivc_ring_send: %d", err);
	}
	return err == 0;
}

LOOPS_INLINE bool ours_recv(void *queue, void *buffer, uint32_t bytes)
{
	struct ours *q = queue;
	const int64_t got = ivc_ring_recv(&q->reader, buffer, LOOPS_MESSAGE_MAX);

	if (got != (int64_t)bytes && got != IVC_E_AGAIN) {
		bench_fail("ivc_ring_recv: %lld instead of %u", (long long)got, bytes);
	}
	return got >= 0;
}

/* A receiver that expects one size most of the time and lets the compiler know it. */
LOOPS_INLINE bool ours_recv_known(void *queue, void *buffer, uint32_t bytes)
{
	struct ours *q = queue;
	const void *at;
	const int64_t got = ivc_ring_peek(&q->reader, &at);

	if (got == (int64_t)bytes) {
		memcpy(buffer, at, bytes);
		ivc_ring_release(&q->reader);
		return true;
	}
	if (got != IVC_E_AGAIN) {
		bench_fail("ivc_ring_peek: %lld instead of %u", (long long)got, bytes);
	}
	return false;
}

#endif
