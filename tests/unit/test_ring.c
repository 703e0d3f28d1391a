/* SPDX-License-Identifier: MIT */
/*
 * The ring alone: sizes, wraps, refusals, and one test for each thing that a hostile side may write. It decides what a
 * correct ring answers; it knows no channel. IVC_SEED repeats the random test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <ivc/ring.h>

#define PART_BYTES 4096u
#define PART_MAX   (1u << 20)
#define READERS    3u

/* One writer and some readers over memory of this process. */
struct bed {
	struct ivc_ring_writer writer;
	struct ivc_ring_cursor cursor[READERS];
	struct ivc_ring_reader reader[READERS];
	struct ivc_ring_start start[READERS];
	uint64_t bytes;
	uint64_t told;
	uint32_t readers;
};

static _Alignas(128) uint8_t part[PART_MAX];
static _Alignas(128) uint8_t marks[READERS][IVC_RING_BLOCK];
static uint8_t buffer[PART_MAX];

/* Where counters begin: an ordinary place, and just below each wrap. */
static const uint32_t begins[] = {0, 1, INT32_MAX - 1u, UINT32_MAX - 1u, UINT32_MAX};
#define BEGINS (sizeof(begins) / sizeof(begins[0]))

static struct ivc_ring_head *head(void)
{
	return (struct ivc_ring_head *)(void *)part;
}

static struct ivc_ring_mark *mark(uint32_t i)
{
	return (struct ivc_ring_mark *)(void *)marks[i];
}

static uint64_t *run(const struct bed *b, uint32_t number)
{
	uint64_t *const entries = (uint64_t *)(void *)(part + IVC_RING_BLOCK);

	return &entries[number & (b->writer.geo_.run_count - 1)];
}

static uint64_t pair_of(uint32_t high, uint32_t low)
{
	return (uint64_t)high << 32 | low;
}

static uint64_t entry_of(uint32_t start, uint32_t off, uint32_t length)
{
	return (uint64_t)(start & IVC_RING_START_MASK) << 44 | (uint64_t)(off / 8) << 20 | length;
}

static void admit(struct bed *b, uint32_t i)
{
	ivc_store_relaxed_u64(&mark(i)->c0, b->told);
	ivc_ring_admit(&b->writer, &b->cursor[i], mark(i), b->told, &b->start[i]);
	assert_int_equal(ivc_ring_reader_init(&b->reader[i], part, b->bytes, mark(i), &b->start[i], b->told), 0);
}

static void bed_open(struct bed *b, uint64_t bytes, uint32_t readers, uint32_t begin)
{
	uint32_t i;

	memset(part, 0, bytes);
	memset(marks, 0, sizeof(marks));
	memset(b, 0, sizeof(*b));
	b->bytes = bytes;
	b->readers = readers;
	b->told = pair_of(begin, begin);
	assert_int_equal(ivc_ring_writer_init(&b->writer, part, bytes, pair_of(begin, begin), begin), 0);
	for (i = 0; i < readers; i++) {
		admit(b, i);
	}
}

static void fill(uint8_t *at, size_t bytes, uint32_t number)
{
	size_t i;

	for (i = 0; i < bytes; i++) {
		at[i] = (uint8_t)(number * 31u + i * 7u);
	}
}

static bool filled(const uint8_t *at, size_t bytes, uint32_t number)
{
	size_t i;

	for (i = 0; i < bytes; i++) {
		if (at[i] != (uint8_t)(number * 31u + i * 7u)) {
			return false;
		}
	}
	return true;
}

static int send(struct bed *b, size_t bytes, uint32_t number)
{
	static uint8_t message[PART_MAX];

	fill(message, bytes, number);
	return ivc_ring_send(&b->writer, message, bytes);
}

static void expect(struct bed *b, uint32_t i, size_t bytes, uint32_t number)
{
	buffer[bytes] = 0xee;
	assert_int_equal(ivc_ring_recv(&b->reader[i], buffer, sizeof(buffer)), bytes);
	assert_true(filled(buffer, bytes, number));
	assert_int_equal(buffer[bytes], 0xee);
}

static uint32_t message_max(const struct bed *b)
{
	return b->writer.geo_.message_max;
}

/* ------------------------------------------------------------------------------------------------------- geometry */

static void test_ring_measure_of_any_size_is_consistent(void **state)
{
	struct ivc_ring_geometry geo;
	uint64_t bytes;

	(void)state;
	assert_int_equal(ivc_ring_measure(0, &geo), IVC_E_INVAL);
	assert_int_equal(ivc_ring_measure(IVC_RING_PART_MIN - 1, &geo), IVC_E_INVAL);
	for (bytes = IVC_RING_PART_MIN; bytes < UINT64_C(1) << 40; bytes += bytes / 3 + 1) {
		assert_int_equal(ivc_ring_measure(bytes, &geo), 0);
		assert_true((uint64_t)IVC_RING_BLOCK + (uint64_t)geo.run_count * 8 + geo.capacity <= bytes);
		assert_int_equal(geo.capacity % 64, 0);
		assert_true(geo.capacity <= IVC_RING_CAP_MAX);
		assert_int_equal(geo.run_count & (geo.run_count - 1), 0);
		assert_int_equal(geo.stride_min & (geo.stride_min - 1), 0);
		assert_true(geo.capacity / geo.stride_min <= IVC_RING_START_MASK);
		assert_true(geo.message_max >= 64 && geo.message_max <= IVC_RING_LEN_MAX);
		assert_true(geo.message_max <= geo.capacity / 2);
	}
}

static void test_ring_bytes_for_a_payload_hold_it(void **state)
{
	struct ivc_ring_geometry geo;
	uint64_t payload;

	(void)state;
	for (payload = 0; payload <= IVC_RING_CAP_MAX; payload += payload / 5 + 1) {
		assert_int_equal(ivc_ring_measure(ivc_ring_bytes(payload), &geo), 0);
		assert_true(geo.capacity >= payload);
	}
	assert_int_equal(ivc_ring_bytes((uint64_t)IVC_RING_CAP_MAX + 1), 0);
	assert_int_equal(ivc_ring_bytes(UINT64_MAX), 0);
}

static void test_ring_init_with_bad_memory_is_refused(void **state)
{
	const struct ivc_ring_start zero = {0, 0};
	const struct ivc_ring_start beyond = {0, PART_BYTES};
	const struct ivc_ring_start odd = {0, 4};
	struct ivc_ring_writer w;
	struct ivc_ring_reader r;

	(void)state;
	assert_int_equal(ivc_ring_writer_init(&w, part + 64, PART_BYTES, 0, 0), IVC_E_INVAL);
	assert_int_equal(ivc_ring_writer_init(&w, part, 256, 0, 0), IVC_E_INVAL);
	assert_int_equal(ivc_ring_reader_init(&r, part + 8, PART_BYTES, marks[0], &zero, 0), IVC_E_INVAL);
	assert_int_equal(ivc_ring_reader_init(&r, part, PART_BYTES, marks[0] + 8, &zero, 0), IVC_E_INVAL);
	assert_int_equal(ivc_ring_reader_init(&r, part, 0, marks[0], &zero, 0), IVC_E_INVAL);
	assert_int_equal(ivc_ring_reader_init(&r, part, PART_BYTES, marks[0], &beyond, 0), IVC_E_BADMSG);
	assert_int_equal(ivc_ring_reader_init(&r, part, PART_BYTES, marks[0], &odd, 0), IVC_E_BADMSG);
}

/* ---------------------------------------------------------------------------------------------------------- sizes */

static void test_ring_every_size_arrives_across_every_wrap(void **state)
{
	struct bed b;
	size_t i;

	(void)state;
	for (i = 0; i < BEGINS; i++) {
		const size_t sizes[] = {0, 1, 7, 8, 9, 16, 17, 32, 33, 63, 64, 65, 1000, 0, 0};
		const size_t count = sizeof(sizes) / sizeof(sizes[0]);
		uint32_t number = 0;
		uint32_t lap;
		size_t k;

		bed_open(&b, PART_BYTES, 1, begins[i]);
		for (lap = 0; lap < 20; lap++) {
			for (k = 0; k < count; k++) {
				const size_t bytes = k + 2 == count   ? message_max(&b) - 1
						     : k + 1 == count ? message_max(&b)
								      : sizes[k];

				assert_int_equal(send(&b, bytes, number), 0);
				expect(&b, 0, bytes, number);
				ivc_ring_flush(&b.reader[0]);
				number++;
			}
		}
		assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, sizeof(buffer)), IVC_E_AGAIN);
		assert_true(ivc_ring_drained(&b.writer));
	}
}

static void test_ring_message_that_can_never_fit_is_refused(void **state)
{
	static volatile size_t huge[] = {IVC_RING_LEN_MAX + 1, IVC_RING_LEN_NONE_, (size_t)UINT32_MAX + 1, SIZE_MAX};
	struct bed b;
	void *at = NULL;
	size_t k;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	assert_int_equal(send(&b, message_max(&b) + 1, 0), IVC_E_MSGSIZE);
	for (k = 0; k < sizeof(huge) / sizeof(huge[0]); k++) {
		assert_int_equal(ivc_ring_send(&b.writer, buffer, huge[k]), IVC_E_MSGSIZE);
	}
	assert_int_equal(ivc_ring_reserve(&b.writer, message_max(&b) + 1, &at), IVC_E_MSGSIZE);
	assert_null(at);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, sizeof(buffer)), IVC_E_AGAIN);
	assert_int_equal(send(&b, message_max(&b), 1), 0);
	expect(&b, 0, message_max(&b), 1);
}

/* The longest message fits into an empty ring wherever the last one ended. */
static void test_ring_longest_message_fits_at_any_offset_when_drained(void **state)
{
	struct bed b;
	uint32_t off;

	(void)state;
	bed_open(&b, 1024, 1, 0);
	for (off = 0; off <= b.writer.geo_.capacity; off += 8) {
		uint32_t sent;

		bed_open(&b, 1024, 1, 0);
		for (sent = 0; b.writer.off_ != off; sent++) {
			b.writer.check_ = b.writer.tail_ + 2; /* no restart: it would hide the offset */
			assert_int_equal(send(&b, 8, sent), 0);
			expect(&b, 0, 8, sent);
		}
		b.writer.check_ = b.writer.tail_ + 2;
		assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
		assert_int_equal(send(&b, message_max(&b), 77), 0);
		expect(&b, 0, message_max(&b), 77);
	}
}

static void test_ring_exactly_full_takes_no_more_and_loses_nothing(void **state)
{
	struct bed b;
	size_t i;

	(void)state;
	for (i = 0; i < BEGINS; i++) {
		uint32_t sent = 0;
		uint32_t k;

		bed_open(&b, PART_BYTES, 1, begins[i]);
		while (send(&b, 64, sent) == 0) {
			sent++;
		}
		assert_int_equal(sent, b.writer.geo_.capacity / 64);
		assert_int_equal(send(&b, 64, sent), IVC_E_AGAIN);
		assert_int_equal(send(&b, 0, sent), IVC_E_AGAIN);
		for (k = 0; k < sent; k++) {
			expect(&b, 0, 64, k);
		}
		assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, sizeof(buffer)), IVC_E_AGAIN);
		assert_int_equal(send(&b, 64, sent), 0);
		expect(&b, 0, 64, sent);
	}
}

/* Lengths that change each time use up the run entries before the payload. */
static void test_ring_exactly_full_of_runs_takes_no_more_and_loses_nothing(void **state)
{
	struct bed b;
	void *at;
	size_t i;

	(void)state;
	for (i = 0; i < BEGINS; i++) {
		uint32_t sent = 0;
		uint32_t k;

		bed_open(&b, PART_BYTES, 1, begins[i]);
		while (send(&b, sent % 2, sent) == 0) {
			sent++;
		}
		assert_int_equal(sent, b.writer.geo_.run_count);
		assert_int_equal(send(&b, (sent + 1) % 2, sent), 0); /* no new run */
		sent++;
		assert_int_equal(send(&b, (sent + 1) % 2, sent), IVC_E_AGAIN);
		assert_int_equal(ivc_ring_reserve(&b.writer, sent % 2, &at), IVC_E_AGAIN); /* could become one */
		for (k = 0; k < sent; k++) {
			expect(&b, 0, k + 1 == sent ? (k + 1) % 2 : k % 2, k);
		}
		assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, sizeof(buffer)), IVC_E_AGAIN);
		assert_int_equal(send(&b, 9, 7), 0);
		expect(&b, 0, 9, 7);
	}
}

static void test_ring_message_that_ends_at_the_wrap_is_whole(void **state)
{
	struct bed b;
	uint32_t capacity;
	uint32_t k;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	capacity = b.writer.geo_.capacity;
	b.writer.check_ = UINT32_MAX / 4; /* no restart */
	for (k = 0; k < 3 * (capacity / 64); k++) {
		assert_int_equal(send(&b, 64, k), 0);
		if ((k + 1) % (capacity / 64) == 0) {
			assert_int_equal(b.writer.off_, capacity); /* this one ends exactly there */
		}
		expect(&b, 0, 64, k);
	}
}

static void test_ring_too_little_room_before_the_wrap_is_skipped(void **state)
{
	struct bed b;
	const void *at;
	uint32_t k;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	b.writer.check_ = UINT32_MAX / 4;
	for (k = 0; b.writer.geo_.capacity - b.writer.off_ >= 192; k++) {
		assert_int_equal(send(&b, 192, k), 0);
		expect(&b, 0, 192, k);
	}
	assert_int_not_equal(b.writer.geo_.capacity - b.writer.off_, 0);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
	assert_int_equal(send(&b, 192, k), 0);
	assert_int_equal(b.writer.off_, 192);
	assert_int_equal(ivc_ring_peek(&b.reader[0], &at), 192);
	assert_ptr_equal(at, b.writer.payload_);
	assert_true(filled(at, 192, k));
}

static void test_ring_buffer_too_small_keeps_the_message(void **state)
{
	struct bed b;
	const void *at;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	assert_int_equal(send(&b, 100, 1), 0);
	assert_int_equal(send(&b, 5, 2), 0);
	memset(buffer, 0xee, sizeof(buffer));
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 99), IVC_E_MSGSIZE);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 0), IVC_E_MSGSIZE);
	assert_int_equal(buffer[0], 0xee);
	assert_int_equal(ivc_ring_peek(&b.reader[0], &at), 100);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 100), 100);
	assert_true(filled(buffer, 100, 1));
	expect(&b, 0, 5, 2);
}

/* ---------------------------------------------------------------------------------------------------- in place */

static void test_ring_reserve_and_commit_less_sends_what_was_committed(void **state)
{
	struct bed b;
	void *at = NULL;
	uint32_t k;

	(void)state;
	bed_open(&b, PART_BYTES, 1, UINT32_MAX - 1);
	for (k = 0; k < 500; k++) {
		const size_t room = (k * 37) % (message_max(&b) + 1);
		const size_t used = room == 0 ? 0 : (k * 11) % (room + 1);

		assert_int_equal(ivc_ring_reserve(&b.writer, room, &at), 0);
		assert_int_equal(ivc_ring_commit(&b.writer, room + 1), IVC_E_INVAL);
		fill(at, used, k);
		assert_int_equal(ivc_ring_commit(&b.writer, used), 0);
		expect(&b, 0, used, k);
		ivc_ring_flush(&b.reader[0]);
	}
	assert_int_equal(ivc_ring_commit(&b.writer, 0), IVC_E_INVAL);
}

static void test_ring_reservation_given_up_leaves_no_trace(void **state)
{
	struct bed b;
	void *at = NULL;
	uint32_t k;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	for (k = 0; k < 200; k++) {
		assert_int_equal(ivc_ring_reserve(&b.writer, 500, &at), 0);
		memset(at, 0xbb, 500);
		assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, sizeof(buffer)), IVC_E_AGAIN);
		assert_int_equal(ivc_ring_reserve(&b.writer, 8, &at), 0);
		assert_int_equal(send(&b, 48, k), 0);
		assert_int_equal(ivc_ring_commit(&b.writer, 8), IVC_E_INVAL);
		expect(&b, 0, 48, k);
	}
}

static void test_ring_release_without_peek_changes_nothing(void **state)
{
	struct bed b;
	const void *at;
	const void *again;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	ivc_ring_release(&b.reader[0]);
	assert_int_equal(send(&b, 8, 1), 0);
	assert_int_equal(send(&b, 8, 2), 0);
	ivc_ring_release(&b.reader[0]);
	assert_int_equal(ivc_ring_peek(&b.reader[0], &at), 8);
	assert_int_equal(ivc_ring_peek(&b.reader[0], &again), 8);
	assert_ptr_equal(at, again);
	ivc_ring_release(&b.reader[0]);
	ivc_ring_release(&b.reader[0]);
	expect(&b, 0, 8, 2);
}

static void test_ring_peeked_message_is_not_overwritten(void **state)
{
	struct bed b;
	const void *at;
	uint32_t sent;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	assert_int_equal(send(&b, 64, 0), 0);
	assert_int_equal(ivc_ring_peek(&b.reader[0], &at), 64);
	ivc_ring_flush(&b.reader[0]);
	for (sent = 1; send(&b, 64, sent) == 0; sent++) {
	}
	assert_int_equal(sent, b.writer.geo_.capacity / 64);
	assert_true(filled(at, 64, 0));
}

/* ------------------------------------------------------------------------------------------------ several readers */

static void test_ring_slowest_reader_holds_the_writer_back(void **state)
{
	struct bed b;
	uint32_t sent;
	uint32_t k;

	(void)state;
	bed_open(&b, PART_BYTES, 2, 0);
	for (sent = 0; send(&b, 64, sent) == 0; sent++) {
		expect(&b, 0, 64, sent);
	}
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
	assert_int_equal(send(&b, 64, sent), IVC_E_AGAIN);
	for (k = 0; k < sent; k++) {
		expect(&b, 1, 64, k);
	}
	assert_int_equal(ivc_ring_recv(&b.reader[1], buffer, 1), IVC_E_AGAIN);
	assert_int_equal(send(&b, 64, sent), 0);
	expect(&b, 0, 64, sent);
	expect(&b, 1, 64, sent);
}

static void test_ring_dropped_reader_holds_nobody_back(void **state)
{
	struct bed b;
	uint32_t sent;

	(void)state;
	bed_open(&b, PART_BYTES, 2, 0);
	for (sent = 0; send(&b, 64, sent) == 0; sent++) {
		expect(&b, 0, 64, sent);
	}
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
	ivc_ring_drop(&b.writer, &b.cursor[1]);
	assert_false(ivc_ring_admitted(&b.cursor[1]));
	ivc_ring_drop(&b.writer, &b.cursor[1]);
	assert_int_equal(send(&b, 64, sent), 0);
	expect(&b, 0, 64, sent);
}

static void test_ring_cursor_admitted_twice_is_one_reader(void **state)
{
	struct bed b;
	uint32_t k;

	(void)state;
	bed_open(&b, PART_BYTES, 2, 0);
	assert_int_equal(send(&b, 64, 0), 0);
	expect(&b, 0, 64, 0);
	admit(&b, 1);
	admit(&b, 1);
	/* Each look at the cursors ends; both are still looked at. */
	for (k = 1; send(&b, 64, k) == 0; k++) {
		expect(&b, 0, 64, k);
	}
	assert_false(ivc_ring_drained(&b.writer));
	ivc_ring_drop(&b.writer, &b.cursor[1]);
	assert_int_equal(send(&b, 64, k), 0);
	expect(&b, 0, 64, k);
	ivc_ring_flush(&b.reader[0]);
	assert_true(ivc_ring_drained(&b.writer));
}

static void test_ring_dropping_a_cursor_that_is_not_admitted_changes_nothing(void **state)
{
	struct ivc_ring_cursor never;
	struct bed b;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	memset(&never, 0, sizeof(never));
	never.next_ = &b.cursor[0];
	ivc_ring_drop(&b.writer, &never);
	assert_ptr_equal(never.next_, &b.cursor[0]);
	assert_true(ivc_ring_admitted(&b.cursor[0]));
	assert_int_equal(send(&b, 64, 0), 0);
	assert_false(ivc_ring_drained(&b.writer));
}

static void test_ring_send_that_can_never_fit_gives_the_reservation_up(void **state)
{
	struct bed b;
	void *at = NULL;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	assert_int_equal(ivc_ring_reserve(&b.writer, 8, &at), 0);
	assert_int_equal(ivc_ring_send(&b.writer, buffer, (size_t)message_max(&b) + 1), IVC_E_MSGSIZE);
	assert_int_equal(ivc_ring_commit(&b.writer, 8), IVC_E_INVAL);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, sizeof(buffer)), IVC_E_AGAIN);
	assert_int_equal(send(&b, 8, 1), 0);
	expect(&b, 0, 8, 1);
}

static void test_ring_late_reader_begins_at_its_admission(void **state)
{
	struct bed b;
	size_t i;

	(void)state;
	for (i = 0; i < BEGINS; i++) {
		uint32_t k;

		bed_open(&b, PART_BYTES, 1, begins[i]);
		for (k = 0; k < 40; k++) {
			assert_int_equal(send(&b, 24, k), 0);
		}
		admit(&b, 1);
		assert_int_equal(ivc_ring_recv(&b.reader[1], buffer, 1), IVC_E_AGAIN);
		for (; k < 60; k++) {
			assert_int_equal(send(&b, 24, k), 0);
		}
		for (k = 0; k < 60; k++) {
			expect(&b, 0, 24, k);
			if (k >= 40) {
				expect(&b, 1, 24, k);
			}
		}
	}
}

static void test_ring_without_reader_takes_everything(void **state)
{
	struct bed b;
	uint32_t k;

	(void)state;
	bed_open(&b, PART_BYTES, 0, 0);
	for (k = 0; k < 10000; k++) {
		assert_int_equal(send(&b, k % (message_max(&b) + 1), k), 0);
	}
	admit(&b, 0);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
	assert_int_equal(send(&b, 10, 1), 0);
	expect(&b, 0, 10, 1);
}

/* Ping-pong stays in the first lines of the payload. */
static void test_ring_drained_ring_starts_again_at_the_front(void **state)
{
	struct bed b;
	uint32_t k;
	uint32_t high = 0;

	(void)state;
	bed_open(&b, PART_BYTES, 1, UINT32_MAX - 100);
	for (k = 0; k < 1000; k++) {
		assert_int_equal(send(&b, 64, k), 0);
		high = b.writer.off_ > high ? b.writer.off_ : high;
		expect(&b, 0, 64, k);
		assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
	}
	assert_true(high <= 64 * 8);
}

/* ------------------------------------------------------------------------------- a hostile writer, check by check */

/* The reader refuses, for good, and stores nothing any more. */
static void expect_bad(struct bed *b)
{
	const uint64_t told = mark(0)->c0;
	const void *at = &at;
	const void *const before = at;
	uint32_t k;

	assert_int_equal(ivc_ring_peek(&b->reader[0], &at), IVC_E_BADMSG);
	assert_ptr_equal(at, before);
	/* Also when the words are right again. */
	ivc_store_relaxed_u64(&head()->w0, pair_of(b->writer.tail_, b->writer.runs_));
	for (k = 0; k < 3; k++) {
		assert_int_equal(ivc_ring_recv(&b->reader[0], buffer, sizeof(buffer)), IVC_E_BADMSG);
		ivc_ring_release(&b->reader[0]);
		ivc_ring_flush(&b->reader[0]);
	}
	assert_int_equal(mark(0)->c0, told);
}

/* Three messages were read, so that counters stand at begin + 3 messages, + 1 run. */
static void hostile_open(struct bed *b, uint32_t begin)
{
	uint32_t k;

	bed_open(b, PART_BYTES, 1, begin);
	for (k = 0; k < 3; k++) {
		assert_int_equal(send(b, 64, k), 0);
		expect(b, 0, 64, k);
	}
	assert_int_equal(ivc_ring_recv(&b->reader[0], buffer, 1), IVC_E_AGAIN);
}

static void hostile_publish(struct bed *b, uint32_t messages, uint32_t runs)
{
	ivc_store_release_u64(&head()->w0, pair_of(b->writer.tail_ + messages, b->writer.runs_ + runs));
}

static void hostile_entry(struct bed *b, uint32_t number, uint64_t entry)
{
	ivc_store_relaxed_u64(run(b, b->writer.runs_ + number), entry);
	ivc_store_relaxed_u64(&head()->w1, entry);
}

static void test_ring_tail_behind_is_refused(void **state)
{
	struct bed b;
	size_t i;

	(void)state;
	for (i = 0; i < BEGINS; i++) {
		hostile_open(&b, begins[i]);
		hostile_publish(&b, UINT32_MAX, 0);
		expect_bad(&b);
	}
}

static void test_ring_tail_beyond_what_fits_is_refused(void **state)
{
	struct bed b;
	size_t i;

	(void)state;
	for (i = 0; i < BEGINS; i++) {
		hostile_open(&b, begins[i]);
		hostile_publish(&b, b.writer.geo_.capacity / 8 + 1, 0);
		expect_bad(&b);
		hostile_open(&b, begins[i]);
		hostile_publish(&b, UINT32_C(1) << 31, 0);
		expect_bad(&b);
	}
}

static void test_ring_runs_without_message_are_refused(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, 0);
	hostile_publish(&b, 0, 1);
	expect_bad(&b);
	hostile_open(&b, 0);
	hostile_publish(&b, 0, UINT32_MAX);
	expect_bad(&b);
}

static void test_ring_more_runs_than_messages_are_refused(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, UINT32_MAX - 1);
	hostile_entry(&b, 0, entry_of(b.writer.tail_, 0, 8));
	hostile_publish(&b, 1, 2);
	expect_bad(&b);
	hostile_open(&b, 0);
	hostile_publish(&b, 1, UINT32_MAX);
	expect_bad(&b);
}

static void test_ring_more_runs_than_entries_are_refused(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, 0);
	hostile_publish(&b, b.writer.geo_.run_count + 1, b.writer.geo_.run_count + 1);
	expect_bad(&b);
}

static void test_ring_run_that_starts_behind_is_refused(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, 0);
	hostile_entry(&b, 0, entry_of(b.writer.tail_ - 1, 0, 8));
	hostile_publish(&b, 2, 1);
	expect_bad(&b);
}

static void test_ring_run_that_starts_at_the_tail_is_refused(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, 0);
	hostile_entry(&b, 0, entry_of(b.writer.tail_ + 2, 0, 8));
	hostile_publish(&b, 2, 1);
	expect_bad(&b);
}

static void test_ring_second_run_at_the_same_message_is_refused(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, 0);
	hostile_entry(&b, 0, entry_of(b.writer.tail_, 0, 8));
	hostile_entry(&b, 1, entry_of(b.writer.tail_, 8, 16));
	hostile_publish(&b, 2, 2);
	expect_bad(&b);
}

static void test_ring_run_longer_than_any_message_is_refused(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, 0);
	hostile_entry(&b, 0, entry_of(b.writer.tail_, 0, message_max(&b) + 1));
	hostile_publish(&b, 1, 1);
	expect_bad(&b);
	hostile_open(&b, 0);
	hostile_entry(&b, 0, entry_of(b.writer.tail_, 0, IVC_RING_LEN_MAX));
	hostile_publish(&b, 1, 1);
	expect_bad(&b);
}

static void test_ring_run_that_ends_behind_the_payload_is_refused(void **state)
{
	struct bed b;
	uint32_t capacity;

	(void)state;
	hostile_open(&b, 0);
	capacity = b.writer.geo_.capacity;
	hostile_entry(&b, 0, entry_of(b.writer.tail_, capacity - 64, 65));
	hostile_publish(&b, 1, 1);
	expect_bad(&b);
	hostile_open(&b, 0);
	hostile_entry(&b, 0, entry_of(b.writer.tail_, capacity, 0));
	hostile_publish(&b, 1, 1);
	expect_bad(&b);
	hostile_open(&b, 0);
	hostile_entry(&b, 0, entry_of(b.writer.tail_, (UINT32_C(1) << 27) - 8, 8));
	hostile_publish(&b, 1, 1);
	expect_bad(&b);
}

static void test_ring_run_at_a_crooked_offset_is_refused(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, 0);
	hostile_entry(&b, 0, entry_of(b.writer.tail_, 8, 64));
	hostile_publish(&b, 1, 1);
	expect_bad(&b);
}

static void test_ring_first_message_without_run_is_refused(void **state)
{
	struct bed b;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	hostile_publish(&b, 1, 0);
	expect_bad(&b);
	/* Or with a run that begins at a later message. */
	bed_open(&b, PART_BYTES, 1, 0);
	hostile_entry(&b, 0, entry_of(b.writer.tail_ + 1, 0, 8));
	hostile_publish(&b, 2, 1);
	expect_bad(&b);
}

static void test_ring_all_ones_and_all_zero_do_no_harm(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, 5);
	memset(part, 0xff, PART_BYTES);
	expect_bad(&b);
	hostile_open(&b, 5);
	memset(part, 0, PART_BYTES);
	expect_bad(&b);
	/* Untouched memory is an empty ring. */
	bed_open(&b, PART_BYTES, 1, 0);
	memset(part, 0, PART_BYTES);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
}

/* ------------------------------------------------------------------------------- a hostile reader, check by check */

/* The writer refuses, for good, and stores nothing any more. */
static void expect_evicted(struct bed *b)
{
	static uint8_t copy[PART_BYTES];
	void *at;
	uint32_t k;

	assert_false(ivc_ring_lied(&b->cursor[0]));
	(void)ivc_ring_drained(&b->writer);
	assert_true(ivc_ring_lied(&b->cursor[0]));
	assert_true(ivc_ring_admitted(&b->cursor[0]));
	memcpy(copy, part, PART_BYTES);
	ivc_store_relaxed_u64(&mark(0)->c0, b->reader[0].told_);
	for (k = 0; k < 3; k++) {
		assert_int_equal(send(b, 64, k), IVC_E_BADMSG);
		assert_int_equal(send(b, 8, k), IVC_E_BADMSG);
		assert_int_equal(ivc_ring_reserve(&b->writer, 8, &at), IVC_E_BADMSG);
		assert_int_equal(ivc_ring_commit(&b->writer, 0), IVC_E_INVAL);
	}
	assert_memory_equal(copy, part, PART_BYTES);
	/* Dropping the liar makes it a ring without reader. */
	ivc_ring_drop(&b->writer, &b->cursor[0]);
	assert_int_equal(send(b, 64, 0), 0);
}

static void lying_open(struct bed *b, uint32_t begin, uint32_t runs, uint32_t v)
{
	hostile_open(b, begin);
	(void)ivc_ring_drained(&b->writer);
	assert_int_equal(send(b, 64, 3), 0);
	ivc_store_release_u64(&mark(0)->c0,
			      pair_of((uint32_t)(b->reader[0].told_ >> 32) + runs, (uint32_t)b->reader[0].told_ + v));
}

static void test_ring_cursor_ahead_is_refused(void **state)
{
	struct bed b;
	size_t i;

	(void)state;
	for (i = 0; i < BEGINS; i++) {
		lying_open(&b, begins[i], 0, 9); /* the message has 8 units */
		expect_evicted(&b);
		lying_open(&b, begins[i], 0, UINT32_C(1) << 31);
		expect_evicted(&b);
	}
}

static void test_ring_cursor_backward_is_refused(void **state)
{
	struct bed b;
	size_t i;

	(void)state;
	for (i = 0; i < BEGINS; i++) {
		lying_open(&b, begins[i], 0, UINT32_MAX);
		expect_evicted(&b);
	}
}

static void test_ring_cursor_runs_ahead_are_refused(void **state)
{
	struct bed b;

	(void)state;
	lying_open(&b, UINT32_MAX - 1, 1, 0);
	expect_evicted(&b);
}

static void test_ring_cursor_runs_backward_are_refused(void **state)
{
	struct bed b;

	(void)state;
	lying_open(&b, 0, UINT32_MAX, 0);
	expect_evicted(&b);
}

static void test_ring_liar_among_readers_is_left_behind(void **state)
{
	struct bed b;
	uint32_t sent;

	(void)state;
	bed_open(&b, PART_BYTES, 3, 0);
	for (sent = 0; send(&b, 64, sent) == 0; sent++) {
		expect(&b, 0, 64, sent);
		expect(&b, 2, 64, sent);
	}
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
	assert_int_equal(ivc_ring_recv(&b.reader[2], buffer, 1), IVC_E_AGAIN);
	ivc_store_release_u64(&mark(1)->c0, UINT64_MAX);
	assert_int_equal(send(&b, 64, sent), 0);
	assert_true(ivc_ring_lied(&b.cursor[1]));
	assert_false(ivc_ring_lied(&b.cursor[0]));
	expect(&b, 0, 64, sent);
	expect(&b, 2, 64, sent);
}

/* A reader that frees what it has not read is overwritten, and reads garbage inside the ring at worst. */
static void test_ring_cursor_at_the_end_frees_only_the_liars_own_data(void **state)
{
	struct bed b;
	uint32_t sent;
	uint32_t k;

	(void)state;
	bed_open(&b, PART_BYTES, 2, 0);
	for (sent = 0; send(&b, 64, sent) == 0; sent++) {
	}
	/* A well-formed lie: "all read". Reader 0 has read nothing and loses nothing. */
	ivc_store_release_u64(&mark(1)->c0, pair_of(b.writer.runs_, sent * 8));
	assert_int_equal(send(&b, 64, sent), IVC_E_AGAIN);
	for (k = 0; k < sent; k++) {
		expect(&b, 0, 64, k);
	}
}

/* --------------------------------------------------------------- defects of the code that this protocol comes from */

/* D18: a payload above the slot size was cut silently, and so was a receive into a small buffer. */
static void test_ring_d18_nothing_is_cut_silently(void **state)
{
	struct bed b;

	(void)state;
	bed_open(&b, PART_BYTES, 1, 0);
	assert_int_equal(send(&b, 49, 1), 0);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 48), IVC_E_MSGSIZE);
	expect(&b, 0, 49, 1);
	assert_int_equal(send(&b, message_max(&b) + 1, 2), IVC_E_MSGSIZE);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, sizeof(buffer)), IVC_E_AGAIN);
}

/* D19: an entry of unknown kind left the reader stuck in front of it, with another answer each time. */
static void test_ring_d19_unknown_entry_ends_the_ring_with_one_answer(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, 0);
	hostile_entry(&b, 0, UINT64_MAX);
	hostile_publish(&b, 1, 1);
	expect_bad(&b);
}

/* D20: the peer's counters were believed, so old slots were read again and live ones written over. */
static void test_ring_d20_counters_of_the_peer_are_not_believed(void **state)
{
	struct bed b;

	(void)state;
	hostile_open(&b, 0);
	hostile_publish(&b, b.writer.geo_.capacity / 64 + b.writer.geo_.capacity, 0);
	expect_bad(&b);
	lying_open(&b, 0, 0, b.writer.geo_.capacity);
	expect_evicted(&b);
	/* Nor is the own counter read back: a peer that changes it changes nothing. */
	bed_open(&b, PART_BYTES, 1, 0);
	assert_int_equal(send(&b, 64, 0), 0);
	ivc_store_relaxed_u64(&head()->w0, UINT64_MAX);
	assert_int_equal(send(&b, 64, 1), 0);
	expect(&b, 0, 64, 0);
	ivc_store_relaxed_u64(&mark(0)->c0, UINT64_MAX);
	expect(&b, 0, 64, 1);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
	assert_int_not_equal(mark(0)->c0, UINT64_MAX);
	assert_true(ivc_ring_drained(&b.writer));
}

/* D21: the magic number was visible before the rings were ready. Here nothing has to be made ready. */
static void test_ring_d21_reader_before_the_writer_sees_an_empty_ring(void **state)
{
	const struct ivc_ring_start zero = {0, 0};
	struct bed b;

	(void)state;
	bed_open(&b, PART_BYTES, 0, 0);
	memset(part, 0, PART_BYTES);
	assert_int_equal(ivc_ring_reader_init(&b.reader[0], part, PART_BYTES, marks[0], &zero, 0), 0);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
	assert_int_equal(ivc_ring_writer_init(&b.writer, part, PART_BYTES, 0, 0), 0);
	assert_int_equal(ivc_ring_recv(&b.reader[0], buffer, 1), IVC_E_AGAIN);
	ivc_ring_admit(&b.writer, &b.cursor[0], marks[0], 0, &b.start[0]);
	assert_int_equal(send(&b, 20, 9), 0);
	expect(&b, 0, 20, 9);
}

/* ------------------------------------------------------------------------------------------------ against a queue */

#define MODEL_QUEUE 65536u

struct model {
	uint32_t length[MODEL_QUEUE];
	uint32_t sent;
	uint32_t read[READERS];
	bool in[READERS];
};

static uint32_t next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*seed >> 33);
}

static uint32_t pick_length(uint64_t *seed, uint32_t mode, uint32_t last, uint32_t max)
{
	switch (mode) {
	case 0:
		return next_random(seed) % (max + 1);
	case 1:
		return next_random(seed) % 40 % (max + 1);
	case 2:
		return next_random(seed) % 8 != 0 ? last : next_random(seed) % (max / 4 + 1);
	default:
		return 8;
	}
}

static void model_send(struct bed *b, struct model *m, uint64_t *seed, uint32_t bytes)
{
	uint32_t used = bytes;
	void *at = NULL;
	int err;

	if (next_random(seed) % 4 != 0) {
		err = send(b, bytes, m->sent);
	} else {
		err = ivc_ring_reserve(&b->writer, bytes, &at);
		if (err == 0) {
			if (next_random(seed) % 8 == 0) {
				return;
			}
			used = next_random(seed) % (bytes + 1);
			fill(at, used, m->sent);
			err = ivc_ring_commit(&b->writer, used);
		}
	}
	if (err == 0) {
		m->length[m->sent % MODEL_QUEUE] = used;
		m->sent++;
	} else {
		assert_int_equal(err, IVC_E_AGAIN);
	}
}

static void model_read(struct bed *b, struct model *m, uint64_t *seed, uint32_t i)
{
	const size_t room = next_random(seed) % 4 == 0 ? next_random(seed) % 64 : sizeof(buffer);
	const int64_t bytes = ivc_ring_recv(&b->reader[i], buffer, room);

	if (bytes == IVC_E_AGAIN) {
		assert_int_equal(m->read[i], m->sent);
		return;
	}
	assert_true(m->read[i] < m->sent);
	if (bytes == IVC_E_MSGSIZE) {
		assert_true(m->length[m->read[i] % MODEL_QUEUE] > room);
		return;
	}
	assert_int_equal(bytes, m->length[m->read[i] % MODEL_QUEUE]);
	assert_true(filled(buffer, (size_t)bytes, m->read[i]));
	m->read[i]++;
}

static void model_run(uint64_t seed, uint32_t steps)
{
	static const uint64_t sizes[] = {512, 640, 1024, 3840, 4096, 65536, PART_MAX};
	static struct model m;
	const uint32_t mode = next_random(&seed) % 4;
	uint32_t last = 64;
	struct bed b;
	uint32_t k;

	memset(&m, 0, sizeof(m));
	bed_open(&b, sizes[next_random(&seed) % (sizeof(sizes) / sizeof(sizes[0]))], 1,
		 begins[next_random(&seed) % BEGINS] - next_random(&seed) % 200);
	m.in[0] = true;
	for (k = 0; k < steps; k++) {
		const uint32_t what = next_random(&seed) % 64;
		const uint32_t i = next_random(&seed) % READERS;

		if (what < 30) {
			last = pick_length(&seed, mode, last, message_max(&b));
			model_send(&b, &m, &seed, last);
		} else if (what < 62) {
			if (m.in[i]) {
				model_read(&b, &m, &seed, i);
			}
		} else if (i != 0 && m.in[i]) {
			ivc_ring_drop(&b.writer, &b.cursor[i]);
			m.in[i] = false;
		} else if (i != 0) {
			admit(&b, i);
			m.in[i] = true;
			m.read[i] = m.sent;
		}
		assert_int_equal(b.writer.lied_, 0);
	}
}

static void test_ring_random_operations_agree_with_a_queue(void **state)
{
	const char *const given = getenv("IVC_SEED");
	const uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : 20261122;
	uint64_t k;

	(void)state;
	print_message("IVC_SEED=%llu\n", (unsigned long long)seed);
	for (k = 0; k < 40; k++) {
		model_run(seed + k, 5000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring_measure_of_any_size_is_consistent),
		cmocka_unit_test(test_ring_bytes_for_a_payload_hold_it),
		cmocka_unit_test(test_ring_init_with_bad_memory_is_refused),
		cmocka_unit_test(test_ring_every_size_arrives_across_every_wrap),
		cmocka_unit_test(test_ring_message_that_can_never_fit_is_refused),
		cmocka_unit_test(test_ring_longest_message_fits_at_any_offset_when_drained),
		cmocka_unit_test(test_ring_exactly_full_takes_no_more_and_loses_nothing),
		cmocka_unit_test(test_ring_exactly_full_of_runs_takes_no_more_and_loses_nothing),
		cmocka_unit_test(test_ring_message_that_ends_at_the_wrap_is_whole),
		cmocka_unit_test(test_ring_too_little_room_before_the_wrap_is_skipped),
		cmocka_unit_test(test_ring_buffer_too_small_keeps_the_message),
		cmocka_unit_test(test_ring_reserve_and_commit_less_sends_what_was_committed),
		cmocka_unit_test(test_ring_reservation_given_up_leaves_no_trace),
		cmocka_unit_test(test_ring_release_without_peek_changes_nothing),
		cmocka_unit_test(test_ring_peeked_message_is_not_overwritten),
		cmocka_unit_test(test_ring_slowest_reader_holds_the_writer_back),
		cmocka_unit_test(test_ring_dropped_reader_holds_nobody_back),
		cmocka_unit_test(test_ring_cursor_admitted_twice_is_one_reader),
		cmocka_unit_test(test_ring_dropping_a_cursor_that_is_not_admitted_changes_nothing),
		cmocka_unit_test(test_ring_send_that_can_never_fit_gives_the_reservation_up),
		cmocka_unit_test(test_ring_late_reader_begins_at_its_admission),
		cmocka_unit_test(test_ring_without_reader_takes_everything),
		cmocka_unit_test(test_ring_drained_ring_starts_again_at_the_front),
		cmocka_unit_test(test_ring_tail_behind_is_refused),
		cmocka_unit_test(test_ring_tail_beyond_what_fits_is_refused),
		cmocka_unit_test(test_ring_runs_without_message_are_refused),
		cmocka_unit_test(test_ring_more_runs_than_messages_are_refused),
		cmocka_unit_test(test_ring_more_runs_than_entries_are_refused),
		cmocka_unit_test(test_ring_run_that_starts_behind_is_refused),
		cmocka_unit_test(test_ring_run_that_starts_at_the_tail_is_refused),
		cmocka_unit_test(test_ring_second_run_at_the_same_message_is_refused),
		cmocka_unit_test(test_ring_run_longer_than_any_message_is_refused),
		cmocka_unit_test(test_ring_run_that_ends_behind_the_payload_is_refused),
		cmocka_unit_test(test_ring_run_at_a_crooked_offset_is_refused),
		cmocka_unit_test(test_ring_first_message_without_run_is_refused),
		cmocka_unit_test(test_ring_all_ones_and_all_zero_do_no_harm),
		cmocka_unit_test(test_ring_cursor_ahead_is_refused),
		cmocka_unit_test(test_ring_cursor_backward_is_refused),
		cmocka_unit_test(test_ring_cursor_runs_ahead_are_refused),
		cmocka_unit_test(test_ring_cursor_runs_backward_are_refused),
		cmocka_unit_test(test_ring_liar_among_readers_is_left_behind),
		cmocka_unit_test(test_ring_cursor_at_the_end_frees_only_the_liars_own_data),
		cmocka_unit_test(test_ring_d18_nothing_is_cut_silently),
		cmocka_unit_test(test_ring_d19_unknown_entry_ends_the_ring_with_one_answer),
		cmocka_unit_test(test_ring_d20_counters_of_the_peer_are_not_believed),
		cmocka_unit_test(test_ring_d21_reader_before_the_writer_sees_an_empty_ring),
		cmocka_unit_test(test_ring_random_operations_agree_with_a_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
