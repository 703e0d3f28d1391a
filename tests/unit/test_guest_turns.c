/* SPDX-License-Identifier: MIT */
/*
 * What a release gives back, which seat comes next, who is rung and when: the promises between two messages. It decides
 * nothing about opening, ends and liars, which test_guest_channel.c has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guestbed.h"

#define KEY       UINT64_C(0x7475726e)
#define LONG_NS   UINT64_C(20000000000)
#define CALL_WAIT 10u
#define CALL_BELL 11u
#define ARM_DATA  1u
#define ARM_ROOM  2u

static struct bed_host host;
static struct bed_vm *vm1;
static struct bed_vm *vm2;
static struct bed_vm *vm3;
static struct ivc_pub pub;
static struct ivc_sub sub;
static struct ivc_sub sub2;
static struct ivc_seat seats[BED_SEATS];
static uint8_t buffer[1 << 17];

static int setup(void **state)
{
	(void)state;
	if (bed_open(&host) != NULL) {
		return -1;
	}
	vm1 = bed_vm(&host, 1);
	vm2 = bed_vm(&host, 2);
	vm3 = bed_vm(&host, 3);
	memset(&pub, 0, sizeof(pub));
	memset(&sub, 0, sizeof(sub));
	memset(&sub2, 0, sizeof(sub2));
	return vm1 != NULL && vm2 != NULL && vm3 != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	host.twist = NULL;
	(void)ivc_pub_close(&pub, IVC_REVOKE);
	(void)ivc_sub_close(&sub);
	(void)ivc_sub_close(&sub2);
	return bed_close(&host) == 0 ? 0 : -1;
}

/* A channel of two seats; one or two readers are admitted. */
static void open_all(uint32_t readers)
{
	static const struct ivc_pub_options two_seats = {.bytes = 8192, .seats = 2};

	assert_int_equal(ivc_pub_open(&pub, &vm1->guest, ivc_key(KEY), &two_seats, seats), 0);
	assert_int_equal(ivc_sub_open(&sub, &vm2->guest, ivc_vmid(1), ivc_key(KEY), NULL), 0);
	if (readers == 2) {
		assert_int_equal(ivc_sub_open(&sub2, &vm3->guest, ivc_vmid(1), ivc_key(KEY), NULL), 0);
	}
	assert_int_equal(ivc_pub_readers(&pub), readers);
	assert_true(ivc_sub_admitted(&sub));
}

static struct bed_channel *channel(void)
{
	return bed_channel(&host, 1, KEY);
}

/* As if the owner of the section slept. */
static void arm(uint8_t *side, uint32_t number, uint32_t bit)
{
	ivc_store_release_u32((uint32_t *)(void *)side, number << 2 | bit);
}

/* --------------------------------------------------------------------------------------------------------- release */

static void test_guest_release_without_a_peek_of_the_subscriber_loses_nothing(void **state)
{
	const void *at;

	(void)state;
	open_all(1);
	assert_int_equal(ivc_pub_send(&pub, "first", 5, 0), 0);
	assert_int_equal(ivc_sub_arm(&sub), IVC_E_AGAIN);
	assert_int_equal(ivc_sub_release(&sub), IVC_E_INVAL);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), IVC_E_MSGSIZE);
	assert_int_equal(ivc_sub_release(&sub), IVC_E_INVAL);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), 5);
	/* What was peeked and then received is not released a second time. */
	assert_int_equal(ivc_pub_send(&pub, "second", 6, 0), 0);
	assert_int_equal(ivc_pub_send(&pub, "third", 5, 0), 0);
	assert_int_equal(ivc_sub_peek(&sub, &at), 6);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), 6);
	assert_int_equal(ivc_sub_arm(&sub), IVC_E_AGAIN);
	assert_int_equal(ivc_sub_release(&sub), IVC_E_INVAL);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), 5);
	assert_memory_equal(buffer, "third", 5);
}

static void test_guest_release_without_a_peek_of_the_publisher_loses_nothing(void **state)
{
	const void *at;
	uint32_t seat;

	(void)state;
	open_all(1);
	assert_int_equal(ivc_sub_send(&sub, "first", 5, 0), 0);
	assert_int_equal(ivc_sub_send(&sub, "second", 6, 0), 0);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, 0), IVC_E_MSGSIZE);
	assert_int_equal(ivc_pub_release(&pub), IVC_E_INVAL);
	assert_int_equal(ivc_pub_peek(&pub, &seat, &at), 5);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, sizeof(buffer), 0), 5);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, 0), IVC_E_MSGSIZE);
	assert_int_equal(ivc_pub_release(&pub), IVC_E_INVAL);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, sizeof(buffer), 0), 6);
	assert_memory_equal(buffer, "second", 6);
}

static void test_guest_release_after_the_reader_left_tells_it_once(void **state)
{
	const void *at;
	uint32_t seat;

	(void)state;
	open_all(1);
	assert_int_equal(ivc_sub_send(&sub, "bye", 3, 0), 0);
	assert_int_equal(ivc_pub_peek(&pub, &seat, &at), 3);
	assert_int_equal(ivc_sub_close(&sub), 0);
	/* The publisher has seen it leave before it releases. */
	assert_int_equal(ivc_pub_readers(&pub), 0);
	assert_int_equal(ivc_pub_release(&pub), IVC_E_PIPE);
	assert_int_equal(ivc_pub_release(&pub), IVC_E_INVAL);
}

/* ----------------------------------------------------------------------------------------------------------- turns */

static void test_guest_message_too_long_for_the_buffer_lets_other_seats_come(void **state)
{
	uint32_t seat = 9;
	uint32_t k;

	(void)state;
	open_all(2);
	assert_int_equal(ivc_sub_send(&sub, "twelve bytes", 12, 0), 0);
	for (k = 0; k < 3; k++) {
		assert_int_equal(ivc_sub_send(&sub2, "x", 1, 0), 0);
	}
	for (k = 0; k < 3; k++) {
		assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 4, 0), IVC_E_MSGSIZE);
		assert_int_equal(seat, 0);
		assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 4, 0), 1);
		assert_int_equal(seat, 1);
	}
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, sizeof(buffer), 0), 12);
	assert_int_equal(seat, 0);
}

static void test_guest_reader_that_left_under_a_copy_does_not_hide_the_next(void **state)
{
	uint32_t seat = 9;

	(void)state;
	open_all(2);
	assert_int_equal(ivc_sub_send(&sub, "one", 3, 0), 0);
	assert_int_equal(ivc_sub_send(&sub, "two", 3, 0), 0);
	assert_int_equal(ivc_sub_send(&sub2, "x", 1, 0), 0);
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 3, 0), 3);
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 3, 0), 1);
	assert_int_equal(ivc_sub_send(&sub2, "y", 1, 0), 0);
	/* Seat 0 is next and its message is known, but its bytes are gone and the table was not looked at again. */
	assert_int_equal(ivc_sub_close(&sub), 0);
	pub.seen_ = channel()->page->sequence;
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 3, 0), 1);
	assert_int_equal(seat, 1);
	assert_int_equal(buffer[0], 'y');
}

/* ----------------------------------------------------------------------------------------------------------- bells */

struct bells {
	uint32_t count;
	uint64_t flags; /* of all bells, or'ed and inverted: 0 where each had NO_PARK */
	int64_t answer;
};

static void bell_watch(void *arg, struct bed_vm *vm, const struct ivc_regs *regs, int64_t *result)
{
	struct bells *const b = arg;

	(void)vm;
	if (regs->nr == IVC_HC_BELL) {
		b->count++;
		b->flags |= ~regs->arg[3] & IVC_BELL_NO_PARK;
		*result = b->answer;
	}
}

static void test_guest_forged_arm_word_parks_no_sender(void **state)
{
	struct bells bells = {0, 0, 0};

	(void)state;
	open_all(1);
	host.twist_arg = &bells;
	host.twist = bell_watch;
	arm(channel()->seat[0], 77, ARM_DATA);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, LONG_NS), 0);
	assert_int_equal(bells.count, 1);
	arm(channel()->publisher, 77, ARM_DATA);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, LONG_NS), 0);
	assert_int_equal(bells.count, 2);
	arm(channel()->seat[0], 78, ARM_ROOM);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, LONG_NS), 1);
	arm(channel()->publisher, 78, ARM_ROOM);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, LONG_NS), 1);
	assert_int_equal(bells.count, 4);
	assert_int_equal(bells.flags, 0);
}

static void test_guest_bell_is_repeated_over_budget_but_not_after_a_failure(void **state)
{
	struct bells bells = {0, 0, IVC_E_AGAIN};
	uint32_t k;

	(void)state;
	open_all(1);
	host.twist_arg = &bells;
	host.twist = bell_watch;
	arm(channel()->seat[0], 5, ARM_DATA);
	arm(channel()->publisher, 5, ARM_DATA);
	for (k = 0; k < 3; k++) {
		assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
		assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), 0);
	}
	assert_int_equal(bells.count, 6);
	bells.answer = IVC_E_NOENT;
	for (k = 0; k < 3; k++) {
		assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
		assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), 0);
	}
	assert_int_equal(bells.count, 8);
	/* Another sleep is another try. */
	arm(channel()->seat[0], 6, ARM_DATA);
	arm(channel()->publisher, 6, ARM_DATA);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), 0);
	assert_int_equal(bells.count, 10);
}

static void test_guest_last_message_rings_who_sleeps_for_room(void **state)
{
	(void)state;
	open_all(1);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), 0);
	arm(channel()->publisher, 5, ARM_ROOM);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), 1);
	assert_int_equal(vm2->calls[CALL_BELL], 1);
	arm(channel()->seat[0], 5, ARM_ROOM);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, 0), 1);
	assert_int_equal(vm1->calls[CALL_BELL], 1);
}

/* The sleep began when the last message had just been released: the look that finds nothing rings. */
static void test_guest_look_that_finds_nothing_rings_who_fell_asleep_meanwhile(void **state)
{
	(void)state;
	open_all(1);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), 0);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), 1);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, 0), 1);
	arm(channel()->publisher, 5, ARM_ROOM);
	arm(channel()->seat[0], 5, ARM_ROOM);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, 0), IVC_E_AGAIN);
	assert_int_equal(vm2->calls[CALL_BELL], 1);
	assert_int_equal(vm1->calls[CALL_BELL], 1);
	/* Once: nothing was released since. */
	arm(channel()->publisher, 6, ARM_ROOM);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), IVC_E_AGAIN);
	assert_int_equal(vm2->calls[CALL_BELL], 1);
}

/* ------------------------------------------------------------------------------------------------------------ drain */

struct drainer {
	pthread_t thread;
	bool subscriber;
	int result;
};

static void *drain(void *arg)
{
	struct drainer *const d = arg;

	d->result = d->subscriber ? ivc_sub_drain(&sub, LONG_NS) : ivc_pub_drain(&pub, LONG_NS);
	return NULL;
}

/* Starts the drain and comes back when it sleeps. */
static void drain_begin(struct drainer *d, struct bed_vm *vm)
{
	uint32_t turn;

	assert_int_equal(pthread_create(&d->thread, NULL, drain, d), 0);
	for (turn = 0; turn < 100000; turn++) {
		bool sleeps;

		(void)pthread_mutex_lock(&host.lock);
		sleeps = vm->calls[CALL_WAIT] != 0;
		(void)pthread_mutex_unlock(&host.lock);
		if (sleeps) {
			return;
		}
		(void)usleep(100);
	}
	fail_msg("did not sleep");
}

/* One receive that takes the last message is the publisher's last act. */
static void test_guest_subscribers_drain_ends_with_the_publishers_last_receive(void **state)
{
	struct drainer d = {.subscriber = true};

	(void)state;
	open_all(1);
	assert_int_equal(ivc_sub_send(&sub, "last", 4, 0), 0);
	drain_begin(&d, vm2);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, sizeof(buffer), 0), 4);
	assert_int_equal(pthread_join(d.thread, NULL), 0);
	assert_int_equal(d.result, 0);
}

static void test_guest_publishers_drain_ends_with_the_last_receive(void **state)
{
	struct drainer d = {.subscriber = false};

	(void)state;
	open_all(2);
	assert_int_equal(ivc_pub_send(&pub, "last", 4, 0), 0);
	drain_begin(&d, vm1);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), 4);
	assert_int_equal(ivc_sub_recv(&sub2, buffer, sizeof(buffer), 0), 4);
	assert_int_equal(pthread_join(d.thread, NULL), 0);
	assert_int_equal(d.result, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_guest_release_without_a_peek_of_the_subscriber_loses_nothing),
		T(test_guest_release_without_a_peek_of_the_publisher_loses_nothing),
		T(test_guest_release_after_the_reader_left_tells_it_once),
		T(test_guest_message_too_long_for_the_buffer_lets_other_seats_come),
		T(test_guest_reader_that_left_under_a_copy_does_not_hide_the_next),
		T(test_guest_forged_arm_word_parks_no_sender),
		T(test_guest_bell_is_repeated_over_budget_but_not_after_a_failure),
		T(test_guest_last_message_rings_who_sleeps_for_room),
		T(test_guest_look_that_finds_nothing_rings_who_fell_asleep_meanwhile),
		T(test_guest_subscribers_drain_ends_with_the_publishers_last_receive),
		T(test_guest_publishers_drain_ends_with_the_last_receive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
