/* SPDX-License-Identifier: MIT */
/*
 * Members that sleep all the time, over rings that are nearly always empty or full. A park here has no end of its
 * own, so one lost wake-up is a hang, which the watchdog turns into a failure. It decides nothing about speed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "guestbed.h"

#define KEY     UINT64_C(5)
#define ROUNDS  3000u
#define GIVE_UP UINT64_C(60000000000)

struct side {
	struct bed_vm *vm;
	const char *wrong;
	uint32_t done;
	uint32_t lost; /* parks that nobody ended */
};

static struct bed_host host;
static struct ivc_pub pub;
static struct ivc_sub sub;
static struct ivc_seat seats[1];
static struct side pub_side;
static struct side sub_side;

/* Sleeps until a bell of this VM, whatever the deadline says. */
static int park(void *os, uint64_t deadline_ns)
{
	struct bed_vm *const vm = os;
	ivc_handle_t rang;
	const int err = ivc_call_wait(&vm->guest, (ivc_handle_t){0}, GIVE_UP, &rang);

	(void)deadline_ns;
	if (err == IVC_E_TIMEDOUT) {
		(vm->id == 1 ? &pub_side : &sub_side)->lost++;
		return IVC_E_INTR;
	}
	return 0;
}

static void *sub_flood(void *arg)
{
	struct side *const me = arg;
	uint8_t message[2048];

	while (me->done < ROUNDS) {
		const int64_t bytes = ivc_sub_recv(&sub, message, sizeof(message), IVC_FOREVER);
		uint32_t number;

		memcpy(&number, message, sizeof(number));
		if (bytes < 4 || number != me->done) {
			me->wrong = "receive";
			break;
		}
		me->done++;
	}
	return NULL;
}

static void *sub_echo(void *arg)
{
	struct side *const me = arg;
	uint8_t message[2048];

	while (me->done < ROUNDS) {
		const int64_t bytes = ivc_sub_recv(&sub, message, sizeof(message), IVC_FOREVER);

		if (bytes < 0 || ivc_sub_send(&sub, message, (size_t)bytes, IVC_FOREVER) != 0) {
			me->wrong = "echo";
			break;
		}
		me->done++;
	}
	return NULL;
}

static int setup(void **state)
{
	static const struct ivc_pub_options small = {.bytes = 1024};

	(void)state;
	memset(&pub_side, 0, sizeof(pub_side));
	memset(&sub_side, 0, sizeof(sub_side));
	if (bed_open(&host) != NULL) {
		return -1;
	}
	host.vm[0].env.park = park;
	host.vm[1].env.park = park;
	pub_side.vm = bed_vm(&host, 1);
	sub_side.vm = bed_vm(&host, 2);
	return pub_side.vm != NULL && sub_side.vm != NULL &&
			       ivc_pub_open(&pub, &pub_side.vm->guest, ivc_key(KEY), &small, seats) == 0 &&
			       ivc_sub_open(&sub, &sub_side.vm->guest, ivc_vmid(1), ivc_key(KEY), NULL) == 0 &&
			       ivc_pub_readers(&pub) == 1
		       ? 0
		       : -1;
}

static int teardown(void **state)
{
	(void)state;
	(void)ivc_pub_close(&pub, IVC_DRAIN);
	(void)ivc_sub_close(&sub);
	return bed_close(&host) == 0 ? 0 : -1;
}

static void test_guest_sleepers_never_miss_room_or_data(void **state)
{
	uint8_t message[2048];
	pthread_t thread;
	uint32_t k;
	int err = 0;

	(void)state;
	memset(message, 0, sizeof(message));
	assert_int_equal(pthread_create(&thread, NULL, sub_flood, &sub_side), 0);
	for (k = 0; k < ROUNDS && err == 0; k++) {
		memcpy(message, &k, sizeof(k));
		err = ivc_pub_send(&pub, message, 4 + (k * 37) % (ivc_pub_message_max(&pub) - 4), IVC_FOREVER);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(err, 0);
	assert_null(sub_side.wrong);
	assert_int_equal(sub_side.done, ROUNDS);
	assert_int_equal(pub_side.lost + sub_side.lost, 0);
	assert_int_equal(ivc_pub_drain(&pub, IVC_FOREVER), 0);
}

static void test_guest_sleepers_never_miss_an_answer(void **state)
{
	uint8_t message[1024];
	uint8_t answer[1024];
	pthread_t thread;
	uint32_t seat = 9;
	bool right = true;
	uint32_t k;

	(void)state;
	memset(message, 0, sizeof(message));
	assert_int_equal(pthread_create(&thread, NULL, sub_echo, &sub_side), 0);
	for (k = 0; k < ROUNDS && right; k++) {
		const size_t bytes = 4 + k % 300;

		memcpy(message, &k, sizeof(k));
		right = ivc_pub_send(&pub, message, bytes, IVC_FOREVER) == 0 &&
			ivc_pub_recv(&pub, &seat, answer, sizeof(answer), IVC_FOREVER) == (int64_t)bytes &&
			memcmp(message, answer, bytes) == 0 && seat == 0;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(right);
	assert_null(sub_side.wrong);
	assert_int_equal(pub_side.lost + sub_side.lost, 0);
}

/* Readers come and go while the publisher sends and sleeps for room. */
static void *sub_comes_and_goes(void *arg)
{
	struct side *const me = arg;
	uint8_t message[2048];

	while (me->done < 200) {
		uint32_t k;

		for (k = 0; k < me->done % 7; k++) {
			if (ivc_sub_recv(&sub, message, sizeof(message), GIVE_UP) < 0) {
				me->wrong = "receive";
				return NULL;
			}
		}
		if (ivc_sub_close(&sub) != 0 ||
		    ivc_sub_open(&sub, &me->vm->guest, ivc_vmid(1), ivc_key(KEY), NULL) != 0) {
			me->wrong = "open";
			return NULL;
		}
		me->done++;
	}
	(void)ivc_sub_close(&sub);
	return NULL;
}

static void test_guest_publisher_goes_on_while_readers_come_and_go(void **state)
{
	uint8_t message[256];
	pthread_t thread;
	uint64_t sent = 0;
	bool gone = false;
	int err = 0;

	(void)state;
	memset(message, 0, sizeof(message));
	assert_int_equal(pthread_create(&thread, NULL, sub_comes_and_goes, &sub_side), 0);
	while (err == 0 && !gone) {
		err = ivc_pub_send(&pub, message, sizeof(message), GIVE_UP);
		sent++;
		if (sent % 64 == 0) {
			(void)pthread_mutex_lock(&host.lock);
			gone = sub_side.wrong != NULL || sub_side.vm->calls[6] == 201;
			(void)pthread_mutex_unlock(&host.lock);
		}
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(err, 0);
	assert_null(sub_side.wrong);
	assert_int_equal(sub_side.done, 200);
	assert_int_equal(ivc_pub_readers(&pub), 0);
	assert_int_equal(pub_side.lost + sub_side.lost, 0);
}

/* What was sent before the end arrives, also when the end comes in the middle of a look. */
static void *sub_to_the_end(void *arg)
{
	struct side *const me = arg;
	uint8_t message[2048];
	int64_t bytes;

	do {
		bytes = ivc_sub_recv(&sub, message, sizeof(message), GIVE_UP);
		me->done += bytes >= 0;
	} while (bytes >= 0);
	if (bytes != IVC_E_PIPE || ivc_sub_state(&sub) != IVC_CHANNEL_DRAIN) {
		me->wrong = "another end";
	}
	return NULL;
}

static void test_guest_last_messages_before_the_end_arrive(void **state)
{
	uint32_t round;

	(void)state;
	assert_int_equal(ivc_pub_close(&pub, IVC_REVOKE), 0);
	assert_int_equal(ivc_sub_close(&sub), 0);
	for (round = 0; round < 300; round++) {
		pthread_t thread;
		uint32_t k;

		sub_side.done = 0;
		assert_int_equal(ivc_pub_open(&pub, &pub_side.vm->guest, ivc_key(KEY), NULL, seats), 0);
		assert_int_equal(ivc_sub_open(&sub, &sub_side.vm->guest, ivc_vmid(1), ivc_key(KEY), NULL), 0);
		assert_int_equal(ivc_pub_readers(&pub), 1);
		assert_int_equal(pthread_create(&thread, NULL, sub_to_the_end, &sub_side), 0);
		for (k = 0; k < round % 20; k++) {
			assert_int_equal(ivc_pub_send(&pub, &k, sizeof(k), 0), 0);
		}
		assert_int_equal(ivc_pub_close(&pub, IVC_DRAIN), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_null(sub_side.wrong);
		assert_int_equal(sub_side.done, round % 20);
		assert_int_equal(ivc_sub_close(&sub), 0);
	}
	assert_int_equal(pub_side.lost + sub_side.lost, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_guest_sleepers_never_miss_room_or_data),
		T(test_guest_sleepers_never_miss_an_answer),
		T(test_guest_last_messages_before_the_end_arrive),
		T(test_guest_publisher_goes_on_while_readers_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
