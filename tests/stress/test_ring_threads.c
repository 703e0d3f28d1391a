/* SPDX-License-Identifier: MIT */
/*
 * The ring between threads, for ThreadSanitizer and for real races: honest ends with checksums, readers that come and
 * go, a hostile thread that scribbles over every shared word. Workers record, the main thread asserts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <ivc/ring.h>

#define MESSAGES    40000u
#define READERS_MAX 3u
#define PART_BYTES  4096u
#define GIVE_UP_S   60

struct end {
	pthread_t thread;
	struct bed *bed;
	uint32_t index;
	uint64_t seed;
	uint32_t done;
	const char *wrong; /* what was seen that must not be */
};

struct bed {
	struct ivc_ring_writer writer;
	struct ivc_ring_cursor cursor[READERS_MAX];
	struct ivc_ring_start start[READERS_MAX];
	struct end sender;
	struct end reader[READERS_MAX];
	uint32_t readers;
	uint32_t stop; /* atomic */
	uint32_t mode;
};

static _Alignas(128) uint8_t part[PART_BYTES];
static _Alignas(128) uint8_t marks[READERS_MAX][IVC_RING_BLOCK];

static uint32_t next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*seed >> 33);
}

static time_t seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* A message is its number, then bytes that follow from it, as long as its length says. */
static uint32_t length_of(uint32_t number, uint32_t mode, uint32_t max)
{
	uint64_t seed = number;

	switch (mode) {
	case 0:
		return 4 + next_random(&seed) % (max - 3);
	case 1:
		return 4 + (number / 50 * 13) % 100;
	default:
		return 64;
	}
}

static void fill(uint8_t *at, uint32_t bytes, uint32_t number)
{
	uint32_t i;

	memcpy(at, &number, sizeof(number));
	for (i = sizeof(number); i < bytes; i++) {
		at[i] = (uint8_t)(number + i);
	}
}

static bool filled(const uint8_t *at, uint32_t bytes)
{
	uint32_t number;
	uint32_t i;

	memcpy(&number, at, sizeof(number));
	for (i = sizeof(number); i < bytes; i++) {
		if (at[i] != (uint8_t)(number + i)) {
			return false;
		}
	}
	return true;
}

static void *sender_run(void *arg)
{
	struct end *const me = arg;
	struct bed *const b = me->bed;
	const uint32_t max = b->writer.geo_.message_max;
	const time_t end = seconds() + GIVE_UP_S;
	uint8_t message[PART_BYTES];
	uint32_t turns = 0;

	while (me->done < MESSAGES) {
		const uint32_t bytes = length_of(me->done, b->mode, max);
		void *at = NULL;
		int err;

		if (me->done % 3 == 0) {
			err = ivc_ring_reserve(&b->writer, bytes, &at);
			if (err == 0) {
				fill(at, bytes, me->done);
				err = ivc_ring_commit(&b->writer, bytes);
			}
		} else {
			fill(message, bytes, me->done);
			err = ivc_ring_send(&b->writer, message, bytes);
		}
		if (err == 0) {
			me->done++;
			continue;
		}
		if (err != IVC_E_AGAIN) {
			me->wrong = "send failed";
			break;
		}
		if (++turns % 256 == 0 && seconds() > end) {
			me->wrong = "no room for a minute";
			break;
		}
		(void)sched_yield();
	}
	return NULL;
}

static void *reader_run(void *arg)
{
	struct end *const me = arg;
	struct bed *const b = me->bed;
	const time_t end = seconds() + GIVE_UP_S;
	struct ivc_ring_reader r;
	uint8_t message[PART_BYTES];
	uint32_t turns = 0;

	if (ivc_ring_reader_init(&r, part, PART_BYTES, marks[me->index], &b->start[me->index], 0) != 0) {
		me->wrong = "init";
		return NULL;
	}
	while (me->done < MESSAGES) {
		const int64_t bytes = ivc_ring_recv(&r, message, sizeof(message));
		uint32_t number;

		if (bytes == IVC_E_AGAIN) {
			if (++turns % 256 == 0 && seconds() > end) {
				me->wrong = "nothing for a minute";
				break;
			}
			(void)sched_yield();
			continue;
		}
		if (bytes < 0) {
			me->wrong = "receive failed";
			break;
		}
		memcpy(&number, message, sizeof(number));
		if (number != me->done || (uint32_t)bytes != length_of(number, b->mode, r.geo_.message_max) ||
		    !filled(message, (uint32_t)bytes)) {
			me->wrong = "another message than the next one";
			break;
		}
		me->done++;
	}
	ivc_ring_flush(&r);
	return NULL;
}

static void run(uint32_t readers, uint32_t mode)
{
	static struct bed b;
	uint32_t i;

	memset(part, 0, sizeof(part));
	memset(marks, 0, sizeof(marks));
	memset(&b, 0, sizeof(b));
	b.readers = readers;
	b.mode = mode;
	assert_int_equal(ivc_ring_writer_init(&b.writer, part, PART_BYTES, UINT64_MAX - 1, UINT32_MAX - 500), 0);
	for (i = 0; i < readers; i++) {
		ivc_ring_admit(&b.writer, &b.cursor[i], marks[i], 0, &b.start[i]);
		b.reader[i].bed = &b;
		b.reader[i].index = i;
		assert_int_equal(pthread_create(&b.reader[i].thread, NULL, reader_run, &b.reader[i]), 0);
	}
	b.sender.bed = &b;
	assert_int_equal(pthread_create(&b.sender.thread, NULL, sender_run, &b.sender), 0);
	assert_int_equal(pthread_join(b.sender.thread, NULL), 0);
	for (i = 0; i < readers; i++) {
		assert_int_equal(pthread_join(b.reader[i].thread, NULL), 0);
	}
	assert_null(b.sender.wrong);
	for (i = 0; i < readers; i++) {
		assert_null(b.reader[i].wrong);
		assert_int_equal(b.reader[i].done, MESSAGES);
		assert_false(ivc_ring_lied(&b.cursor[i]));
	}
	assert_true(ivc_ring_drained(&b.writer));
}

static void test_ring_one_reader_gets_every_message_unharmed(void **state)
{
	(void)state;
	run(1, 0);
	run(1, 1);
	run(1, 2);
}

static void test_ring_three_readers_get_every_message_unharmed(void **state)
{
	(void)state;
	run(3, 0);
	run(3, 1);
}

/* -------------------------------------------------------------------------------------------- a hostile other end */

#define SCRIBBLES 200000u

static uint64_t scribble(uint64_t *seed)
{
	const uint64_t word = (uint64_t)next_random(seed) << 32 ^ next_random(seed);

	/* Mostly values near the right ones: they get past the first checks. */
	switch (next_random(seed) % 4) {
	case 0:
		return word;
	case 1:
		return (word & UINT64_C(0x0000003f0000000f));
	case 2:
		return (word & UINT64_C(0xf)) << 44 | (word >> 8 & 0x1ff) << 20 | (word >> 20 & 0x7ff);
	default:
		return ~UINT64_C(0) - (word & 0xff);
	}
}

/* Writes nonsense into every shared word of the other side, never into the payload. */
static void *scribbler_run(void *arg)
{
	struct end *const me = arg;
	uint64_t *const words = (uint64_t *)(void *)part;
	uint32_t k;

	for (k = 0; k < SCRIBBLES; k++) {
		ivc_store_release_u64(&words[next_random(&me->seed) % 2], scribble(&me->seed));
		ivc_store_relaxed_u64(&words[IVC_RING_BLOCK / 8 + next_random(&me->seed) % 32], scribble(&me->seed));
		ivc_store_release_u64((uint64_t *)(void *)marks[0], scribble(&me->seed));
	}
	ivc_store_release_u32(&me->bed->stop, 1);
	return NULL;
}

/* The reader survives: messages or BADMSG, the same for ever, then a fresh start. */
static void *victim_reader_run(void *arg)
{
	static const struct ivc_ring_start zero = {0, 0};
	struct end *const me = arg;
	struct ivc_ring_reader r;
	uint8_t message[PART_BYTES];

	while (ivc_load_acquire_u32(&me->bed->stop) == 0) {
		uint32_t k;

		if (ivc_ring_reader_init(&r, part, PART_BYTES, marks[1], &zero, 0) != 0) {
			me->wrong = "init";
			return NULL;
		}
		for (k = 0; k < 64; k++) {
			const int64_t bytes = ivc_ring_recv(&r, message, sizeof(message));

			if (bytes > (int64_t)r.geo_.message_max) {
				me->wrong = "longer than any message";
				return NULL;
			}
			if (bytes == IVC_E_BADMSG) {
				if (ivc_ring_recv(&r, message, sizeof(message)) != IVC_E_BADMSG) {
					me->wrong = "BADMSG that went away";
				}
				break;
			}
			me->done++;
		}
	}
	return NULL;
}

static void test_ring_reader_survives_a_scribbling_writer(void **state)
{
	static struct bed b;

	(void)state;
	memset(part, 0, sizeof(part));
	memset(marks, 0, sizeof(marks));
	memset(&b, 0, sizeof(b));
	b.sender = (struct end){.bed = &b, .seed = 1};
	b.reader[0] = (struct end){.bed = &b};
	assert_int_equal(pthread_create(&b.reader[0].thread, NULL, victim_reader_run, &b.reader[0]), 0);
	assert_int_equal(pthread_create(&b.sender.thread, NULL, scribbler_run, &b.sender), 0);
	assert_int_equal(pthread_join(b.sender.thread, NULL), 0);
	assert_int_equal(pthread_join(b.reader[0].thread, NULL), 0);
	assert_null(b.reader[0].wrong);
}

/*
 * The writer survives too, and an honest reader beside the liar loses nothing: marks[0] is scribbled, marks[1] is
 * not.
 */
static void *mark_scribbler_run(void *arg)
{
	struct end *const me = arg;

	while (ivc_load_acquire_u32(&me->bed->stop) == 0) {
		ivc_store_release_u64((uint64_t *)(void *)marks[0], scribble(&me->seed));
		if (next_random(&me->seed) % 16 == 0) {
			(void)sched_yield();
		}
	}
	return NULL;
}

static void test_ring_honest_reader_beside_a_liar_loses_nothing(void **state)
{
	static struct bed b;
	struct end liar;
	uint32_t round;

	(void)state;
	for (round = 0; round < 4; round++) {
		memset(part, 0, sizeof(part));
		memset(marks, 0, sizeof(marks));
		memset(&b, 0, sizeof(b));
		assert_int_equal(ivc_ring_writer_init(&b.writer, part, PART_BYTES, 0, 0), 0);
		ivc_ring_admit(&b.writer, &b.cursor[0], marks[0], 0, &b.start[0]);
		ivc_ring_admit(&b.writer, &b.cursor[1], marks[1], 0, &b.start[1]);
		liar = (struct end){.bed = &b, .seed = round + 1};
		b.sender = (struct end){.bed = &b};
		b.reader[1] = (struct end){.bed = &b, .index = 1};
		assert_int_equal(pthread_create(&liar.thread, NULL, mark_scribbler_run, &liar), 0);
		assert_int_equal(pthread_create(&b.reader[1].thread, NULL, reader_run, &b.reader[1]), 0);
		assert_int_equal(pthread_create(&b.sender.thread, NULL, sender_run, &b.sender), 0);
		assert_int_equal(pthread_join(b.sender.thread, NULL), 0);
		assert_int_equal(pthread_join(b.reader[1].thread, NULL), 0);
		ivc_store_release_u32(&b.stop, 1);
		assert_int_equal(pthread_join(liar.thread, NULL), 0);
		assert_null(b.sender.wrong);
		assert_null(b.reader[1].wrong);
		assert_int_equal(b.reader[1].done, MESSAGES);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring_one_reader_gets_every_message_unharmed),
		cmocka_unit_test(test_ring_three_readers_get_every_message_unharmed),
		cmocka_unit_test(test_ring_reader_survives_a_scribbling_writer),
		cmocka_unit_test(test_ring_honest_reader_beside_a_liar_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
