/* SPDX-License-Identifier: MIT */
/*
 * Both ends of the ring against a hostile other side: every load of a shared word takes its value from the fuzz
 * input, so a second load of the same word sees another value. It decides which invariants must hold then; not what
 * is received.
 *
 * ivc/atomic.h is replaced here by accessors that ask the input: the ring has no other way to shared words.
 */
#define IVC_ATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t *input;
static size_t input_left;
static uint32_t loads;
static const volatile void *own_begin; /* where stores may go */
static const volatile void *own_end;

static uint8_t take(void)
{
	if (input_left == 0) {
		return 0;
	}
	input_left--;
	return *input++;
}

static uint64_t take_word(uint32_t bytes)
{
	uint64_t word = 0;

	while (bytes-- != 0) {
		word = word << 8 | take();
	}
	return word;
}

/* The right value, one near it, or any. */
static uint64_t hostile_u64(const volatile uint64_t *at)
{
	const uint8_t how = take();
	const uint64_t right = *at;

	loads++;
	switch (how & 7) {
	case 4:
		return right + (uint64_t)(int64_t)(int8_t)take();
	case 5:
		return right + ((uint64_t)take() << 32);
	case 6:
		return right ^ take_word(2) << (how >> 3);
	case 7:
		return take_word(8);
	default:
		return right;
	}
}

static void own_store(volatile uint64_t *at, uint64_t v)
{
	if ((const volatile void *)at < own_begin || (const volatile void *)(at + 1) > own_end) {
		abort(); /* a store to a word of the other side */
	}
	*at = v;
}

static inline uint64_t ivc_load_relaxed_u64(const volatile uint64_t *at)
{
	return hostile_u64(at);
}

static inline uint64_t ivc_load_acquire_u64(const volatile uint64_t *at)
{
	return hostile_u64(at);
}

static inline void ivc_store_relaxed_u64(volatile uint64_t *at, uint64_t v)
{
	own_store(at, v);
}

static inline void ivc_store_release_u64(volatile uint64_t *at, uint64_t v)
{
	own_store(at, v);
}

#include "../../src/guest/ring.c"

#define READERS      2u
#define STEPS_MAX    512u
#define LOADS_READER 4u /* of one call: tail, newest entry, two entries */
#define LOADS_WRITER (2u * READERS)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds)
{
	if (!holds) {
		abort();
	}
}

struct memory {
	uint8_t *part;
	uint8_t *mark[READERS];
	uint8_t *message; /* exactly message_max bytes: one more is a report */
	uint64_t bytes;
	struct ivc_ring_geometry geo;
};

static void own(const void *at, uint64_t bytes)
{
	own_begin = at;
	own_end = (const uint8_t *)at + bytes;
}

static void fuzz_reader(const struct memory *m)
{
	const struct ivc_ring_start start = {take_word(8), take_word(2) * 8};
	struct ivc_ring_reader r;
	bool bad = false;
	uint32_t k;

	own(m->mark[0], IVC_RING_BLOCK);
	if (ivc_ring_reader_init(&r, m->part, m->bytes, m->mark[0], &start, take_word(8)) != 0) {
		return;
	}
	for (k = 0; k < STEPS_MAX && input_left != 0; k++) {
		const size_t room = take() % 4 != 0 ? m->geo.message_max : take();
		const void *at = NULL;
		int64_t bytes;

		loads = 0;
		switch (take() % 4) {
		case 0:
			bytes = ivc_ring_peek(&r, &at);
			if (bytes >= 0) {
				const uint8_t *const from = at;

				demand(from >= r.payload_ && (uint64_t)bytes <= r.geo_.capacity &&
				       (size_t)(from - r.payload_) <= r.geo_.capacity - (size_t)bytes);
			}
			break;
		case 1:
			ivc_ring_release(&r);
			bytes = IVC_E_AGAIN;
			break;
		case 2:
			ivc_ring_flush(&r);
			bytes = IVC_E_AGAIN;
			break;
		default:
			bytes = ivc_ring_recv(&r, m->message, room < m->geo.message_max ? room : m->geo.message_max);
			break;
		}
		demand(loads <= LOADS_READER);
		demand(bytes <= (int64_t)m->geo.message_max);
		demand(bytes >= 0 || bytes == IVC_E_AGAIN || bytes == IVC_E_MSGSIZE || bytes == IVC_E_BADMSG);
		demand(r.off_ <= r.geo_.capacity && r.end_ <= r.geo_.capacity);
		if (bad) {
			const uint64_t before = *(uint64_t *)(void *)m->mark[0];

			demand(ivc_ring_recv(&r, m->message, m->geo.message_max) == IVC_E_BADMSG);
			ivc_ring_flush(&r);
			demand(*(uint64_t *)(void *)m->mark[0] == before);
		}
		bad = bad || bytes == IVC_E_BADMSG;
	}
}

static void fuzz_writer(const struct memory *m)
{
	struct ivc_ring_cursor cursor[READERS];
	struct ivc_ring_writer w;
	struct ivc_ring_start start;
	const uint64_t begin = take_word(8);
	const uint64_t told = take_word(8);
	uint32_t readers = 1 + take() % READERS;
	uint32_t i;
	uint32_t k;

	own(m->part, m->bytes);
	demand(ivc_ring_writer_init(&w, m->part, m->bytes, begin, (uint32_t)take_word(4)) == 0);
	for (i = 0; i < readers; i++) {
		memcpy(m->mark[i], &told, sizeof(told));
		ivc_ring_admit(&w, &cursor[i], m->mark[i], told, &start);
	}
	for (k = 0; k < STEPS_MAX && input_left != 0; k++) {
		const uint8_t what = take();
		const uint32_t bytes = take() % 4 != 0 ? take() : (uint32_t)take_word(2);
		void *at = NULL;
		int err = 0;

		loads = 0;
		switch (what % 5) {
		case 0:
			err = ivc_ring_reserve(&w, bytes, &at);
			if (err == 0) {
				memset(at, 0x55, bytes);
			}
			break;
		case 1:
			(void)ivc_ring_commit(&w, bytes);
			break;
		case 2:
			(void)ivc_ring_drained(&w);
			break;
		case 3:
			i = what / 5 % readers;
			if (ivc_ring_lied(&cursor[i])) {
				ivc_ring_drop(&w, &cursor[i]);
				ivc_ring_admit(&w, &cursor[i], m->mark[i], *(uint64_t *)(void *)m->mark[i], &start);
			}
			break;
		default:
			err = ivc_ring_send(&w, m->message, bytes <= m->geo.message_max ? bytes : m->geo.message_max);
			/* The other side reads along, more or less. */
			for (i = 0; i < readers && what >= 128; i++) {
				const uint64_t c0 = (uint64_t)(w.runs_ - cursor[i].base_runs_) << 32 |
						    (uint32_t)(w.lap_v_ + w.off_ / 8 - cursor[i].base_v_);

				memcpy(m->mark[i], &c0, sizeof(c0));
			}
			break;
		}
		demand(loads <= LOADS_WRITER);
		demand(err == 0 || err == IVC_E_AGAIN || err == IVC_E_MSGSIZE || err == IVC_E_BADMSG);
		demand(w.off_ <= w.end_ && w.end_ <= w.geo_.capacity);
		/* What the writer takes for in use never exceeds the payload. */
		demand((uint64_t)(w.lap_v_ + w.off_ / 8 - w.floor_v_) * 8 <= w.geo_.capacity);
		demand(w.runs_ - w.floor_runs_ <= w.geo_.run_count);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t sizes[] = {512, 1024, 3840, 4096};
	struct memory m;
	uint32_t i;

	input = data;
	input_left = size;
	m.bytes = sizes[take() % 4];
	demand(ivc_ring_measure(m.bytes, &m.geo) == 0);
	m.part = aligned_alloc(IVC_RING_BLOCK, m.bytes);
	m.message = malloc(m.geo.message_max);
	demand(m.part != NULL && m.message != NULL);
	memset(m.part, 0, m.bytes);
	memset(m.message, 0x33, m.geo.message_max);
	for (i = 0; i < READERS; i++) {
		m.mark[i] = aligned_alloc(IVC_RING_BLOCK, IVC_RING_BLOCK);
		demand(m.mark[i] != NULL);
		memset(m.mark[i], 0, IVC_RING_BLOCK);
	}
	if (take() % 2 == 0) {
		fuzz_reader(&m);
	} else {
		fuzz_writer(&m);
	}
	for (i = 0; i < READERS; i++) {
		free(m.mark[i]);
	}
	free(m.message);
	free(m.part);
	return 0;
}
