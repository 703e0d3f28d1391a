/* SPDX-License-Identifier: MIT */
/*
 * Publisher and subscriber over the small hypervisor: admission, both directions, ends of every kind, members that lie,
 * sleeping. It decides what the guest API answers; the rings have their own test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "guestbed.h"

#define KEY       UINT64_C(0x64656d6f)
#define LONG_NS   UINT64_C(20000000000)
#define SHORT_NS  UINT64_C(2000000)
#define CALL_WAIT 10u
#define CALL_BELL 11u

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
	host.dead = false;
	host.twist = NULL;
	(void)ivc_pub_close(&pub, IVC_REVOKE);
	(void)ivc_sub_close(&sub);
	(void)ivc_sub_close(&sub2);
	return bed_close(&host) == 0 ? 0 : -1;
}

static const struct ivc_pub_options two_seats = {.bytes = 8192, .seats = 2};

static void open_pub(const struct ivc_pub_options *o)
{
	assert_int_equal(ivc_pub_open(&pub, &vm1->guest, ivc_key(KEY), o, seats), 0);
}

static void open_sub(struct ivc_sub *s, struct bed_vm *vm)
{
	assert_int_equal(ivc_sub_open(s, &vm->guest, ivc_vmid(1), ivc_key(KEY), NULL), 0);
}

/* A channel with one admitted reader. */
static void open_both(const struct ivc_pub_options *o)
{
	open_pub(o);
	open_sub(&sub, vm2);
	assert_int_equal(ivc_pub_readers(&pub), 1);
	assert_true(ivc_sub_admitted(&sub));
}

static struct bed_channel *channel(void)
{
	return bed_channel(&host, 1, KEY);
}

/* ------------------------------------------------------------------------------------------------- open and close */

static void test_guest_publish_and_subscribe_and_close_leaves_nothing(void **state)
{
	(void)state;
	open_pub(NULL);
	assert_int_equal(ivc_pub_state(&pub), IVC_CHANNEL_LIVE);
	assert_int_equal(ivc_pub_readers(&pub), 0);
	assert_true(ivc_pub_message_max(&pub) >= 30000);
	open_sub(&sub, vm2);
	assert_int_equal(ivc_sub_state(&sub), IVC_CHANNEL_LIVE);
	assert_int_equal(ivc_sub_seat(&sub), 0);
	assert_int_equal(ivc_sub_close(&sub), 0);
	assert_int_equal(ivc_sub_close(&sub), IVC_E_INVAL);
	assert_int_equal(ivc_pub_close(&pub, IVC_DRAIN), 0);
	assert_int_equal(ivc_pub_close(&pub, IVC_DRAIN), IVC_E_INVAL);
	assert_int_equal(ivc_pub_state(&pub), IVC_CHANNEL_REVOKED);
	assert_int_equal(ivc_sub_state(&sub), IVC_CHANNEL_REVOKED);
}

static void test_guest_open_errors_of_the_hypervisor_are_returned(void **state)
{
	struct ivc_pub other;

	(void)state;
	assert_int_equal(ivc_sub_open(&sub, &vm2->guest, ivc_vmid(1), ivc_key(KEY), NULL), IVC_E_NOENT);
	open_pub(NULL);
	assert_int_equal(ivc_pub_open(&other, &vm1->guest, ivc_key(KEY), NULL, seats), IVC_E_EXIST);
	open_sub(&sub, vm2);
	assert_int_equal(ivc_sub_open(&sub2, &vm3->guest, ivc_vmid(1), ivc_key(KEY), NULL), IVC_E_BUSY);
	assert_int_equal(ivc_sub_open(&sub2, &vm2->guest, ivc_vmid(1), ivc_key(KEY), NULL), IVC_E_EXIST);
}

static void test_guest_pub_open_with_bad_options_publishes_nothing(void **state)
{
	static const struct ivc_pub_options bad[] = {
		{.bytes = UINT64_C(1) << 40}, {.bytes = UINT64_MAX}, {.seats = IVC_SEATS_MAX + 1},
		{.seat_granules_log2 = 60},   {.on_death = 2},       {.polls = 2},
		{.slots = BED_SLOTS},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(ivc_pub_open(&pub, &vm1->guest, ivc_key(KEY), &bad[i], seats), IVC_E_INVAL);
		assert_null(channel());
	}
	assert_int_equal(vm1->calls[3], 0);
}

static void test_guest_closed_objects_answer_inval(void **state)
{
	const void *at;
	void *room;
	uint32_t seat;

	(void)state;
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), IVC_E_INVAL);
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 1, 0), IVC_E_INVAL);
	assert_int_equal(ivc_pub_reserve(&pub, 1, &room), IVC_E_INVAL);
	assert_int_equal(ivc_pub_commit(&pub, 1), IVC_E_INVAL);
	assert_int_equal(ivc_pub_readers(&pub), IVC_E_INVAL);
	assert_int_equal(ivc_pub_drain(&pub, 0), IVC_E_INVAL);
	assert_int_equal(ivc_pub_release(&pub), IVC_E_INVAL);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), IVC_E_INVAL);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), IVC_E_INVAL);
	assert_int_equal(ivc_sub_peek(&sub, &at), IVC_E_INVAL);
	assert_int_equal(ivc_sub_release(&sub), IVC_E_INVAL);
	assert_int_equal(ivc_sub_arm(&sub), IVC_E_INVAL);
	assert_int_equal(ivc_sub_drain(&sub, 0), IVC_E_INVAL);
}

/* -------------------------------------------------------------------------------------------------------- admission */

static void test_guest_reader_is_admitted_by_the_publishers_next_call(void **state)
{
	(void)state;
	open_pub(NULL);
	open_sub(&sub, vm2);
	assert_false(ivc_sub_admitted(&sub));
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_AGAIN);
	assert_int_equal(ivc_sub_send(&sub, "early", 5, 0), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_send(&pub, "first", 5, 0), 0);
	assert_true(ivc_sub_admitted(&sub));
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), 5);
	assert_memory_equal(buffer, "first", 5);
	assert_int_equal(ivc_sub_send(&sub, "late", 4, 0), 0);
}

static void test_guest_joining_seat_is_not_admitted(void **state)
{
	struct ivc_seat_info info;

	(void)state;
	host.joining = true;
	open_pub(NULL);
	open_sub(&sub, vm2);
	assert_int_equal(ivc_pub_readers(&pub), 0);
	assert_int_equal(ivc_pub_seat(&pub, 0, &info), 0);
	assert_int_equal(info.state, IVC_SEAT_JOINING);
	assert_int_equal(info.vm.v, 2);
	assert_false(info.admitted);
	assert_int_equal(ivc_pub_send(&pub, "nobody", 6, 0), 0);
	bed_activate(&host);
	assert_int_equal(ivc_pub_readers(&pub), 1);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_seat(&pub, 1, &info), IVC_E_INVAL);
}

static void test_guest_send_without_reader_succeeds_and_is_gone(void **state)
{
	uint32_t k;

	(void)state;
	open_pub(NULL);
	for (k = 0; k < 10000; k++) {
		assert_int_equal(ivc_pub_send(&pub, buffer, 1000, 0), 0);
	}
	assert_int_equal(ivc_pub_drain(&pub, 0), 0);
	open_sub(&sub, vm2);
	assert_int_equal(ivc_pub_readers(&pub), 1);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_AGAIN);
}

/* The record that admits is complete when its epoch is: another epoch admits nobody. (Upstream defect D21.) */
static void test_guest_d21_half_written_admission_admits_nobody(void **state)
{
	uint64_t *admission;

	(void)state;
	open_pub(NULL);
	open_sub(&sub, vm2);
	admission = (uint64_t *)(void *)(channel()->publisher + 128);
	admission[1] = UINT64_MAX;
	admission[2] = UINT64_MAX;
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_AGAIN);
	admission[0] = channel()->page->seat[0].epoch + 1;
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_readers(&pub), 1);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_AGAIN);
	assert_true(ivc_sub_admitted(&sub));
}

static void test_guest_seat_table_being_written_keeps_the_last_copy(void **state)
{
	(void)state;
	open_both(NULL);
	channel()->page->sequence++;
	memset(channel()->page->seat, 0xff, sizeof(channel()->page->seat[0]));
	assert_int_equal(ivc_pub_readers(&pub), 1);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), 1);
	channel()->page->sequence++;
	assert_int_equal(ivc_pub_readers(&pub), 0);
}

/* -------------------------------------------------------------------------------------------------- both directions */

static void test_guest_messages_of_all_sizes_go_both_ways(void **state)
{
	static const struct ivc_pub_options small = {.bytes = 4096};
	size_t bytes;
	uint32_t seat = 9;

	(void)state;
	open_both(&small);
	for (bytes = 0; bytes <= ivc_pub_message_max(&pub); bytes += bytes < 100 ? 1 : 97) {
		static uint8_t message[4096];

		memset(message, (int)bytes, sizeof(message));
		assert_int_equal(ivc_pub_send(&pub, message, bytes, 0), 0);
		assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), bytes);
		assert_memory_equal(buffer, message, bytes);
		assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_AGAIN);
		if (bytes <= ivc_sub_message_max(&sub)) {
			assert_int_equal(ivc_sub_send(&sub, message, bytes, 0), 0);
			assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, sizeof(buffer), 0), bytes);
			assert_int_equal(seat, 0);
			assert_memory_equal(buffer, message, bytes);
			assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, sizeof(buffer), 0), IVC_E_AGAIN);
		}
	}
	assert_int_equal(ivc_pub_send(&pub, buffer, ivc_pub_message_max(&pub) + 1, 0), IVC_E_MSGSIZE);
	assert_int_equal(ivc_sub_send(&sub, buffer, ivc_sub_message_max(&sub) + 1, 0), IVC_E_MSGSIZE);
	assert_int_equal(ivc_pub_send(&pub, buffer, ivc_pub_message_max(&pub) + 1, LONG_NS), IVC_E_MSGSIZE);
}

static void test_guest_small_buffer_keeps_the_message_and_tells_its_size(void **state)
{
	const void *at;
	uint32_t seat = 9;

	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_pub_send(&pub, "twelve bytes", 12, 0), 0);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 11, LONG_NS), IVC_E_MSGSIZE);
	assert_int_equal(ivc_sub_peek(&sub, &at), 12);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 12, 0), 12);
	assert_int_equal(ivc_sub_send(&sub, "twelve bytes", 12, 0), 0);
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 11, LONG_NS), IVC_E_MSGSIZE);
	assert_int_equal(seat, 0);
	assert_int_equal(ivc_pub_peek(&pub, &seat, &at), 12);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 12, 0), 12);
}

static void test_guest_in_place_send_and_receive(void **state)
{
	const void *at;
	void *room = NULL;
	uint32_t seat;

	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_sub_release(&sub), IVC_E_INVAL);
	assert_int_equal(ivc_pub_reserve(&pub, 100, &room), 0);
	memcpy(room, "in place", 8);
	assert_int_equal(ivc_sub_peek(&sub, &at), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_commit(&pub, 8), 0);
	assert_int_equal(ivc_pub_commit(&pub, 8), IVC_E_INVAL);
	assert_int_equal(ivc_sub_peek(&sub, &at), 8);
	assert_memory_equal(at, "in place", 8);
	assert_int_equal(ivc_sub_release(&sub), 0);
	assert_int_equal(ivc_sub_send(&sub, "back", 4, 0), 0);
	assert_int_equal(ivc_pub_peek(&pub, &seat, &at), 4);
	assert_memory_equal(at, "back", 4);
	assert_int_equal(ivc_pub_release(&pub), 0);
	assert_int_equal(ivc_pub_release(&pub), IVC_E_INVAL);
	assert_int_equal(ivc_pub_peek(&pub, &seat, &at), IVC_E_AGAIN);
}

static void test_guest_two_readers_get_all_and_answer_in_turn(void **state)
{
	uint32_t from[2] = {0, 0};
	uint32_t seat;
	uint32_t k;

	(void)state;
	open_pub(&two_seats);
	open_sub(&sub, vm2);
	open_sub(&sub2, vm3);
	assert_int_equal(ivc_pub_readers(&pub), 2);
	for (k = 0; k < 1000; k++) {
		assert_int_equal(ivc_pub_send(&pub, &k, sizeof(k), 0), 0);
		assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), sizeof(k));
		assert_memory_equal(buffer, &k, sizeof(k));
		assert_int_equal(ivc_sub_recv(&sub2, buffer, sizeof(buffer), 0), sizeof(k));
		assert_memory_equal(buffer, &k, sizeof(k));
	}
	for (k = 0; k < 10; k++) {
		assert_int_equal(ivc_sub_send(&sub, "2", 1, 0), 0);
		assert_int_equal(ivc_sub_send(&sub2, "3", 1, 0), 0);
	}
	for (k = 0; k < 10; k++) {
		assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 1, 0), 1);
		assert_int_equal(buffer[0], '2' + seat);
		from[seat]++;
	}
	assert_int_equal(from[0], 5);
	assert_int_equal(from[1], 5);
}

static void test_guest_drain_is_done_when_the_reader_has_read_all(void **state)
{
	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_pub_drain(&pub, 0), 0);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(ivc_pub_drain(&pub, 0), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_drain(&pub, SHORT_NS), IVC_E_TIMEDOUT);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), 1);
	assert_int_equal(ivc_pub_drain(&pub, 0), 0); /* without another look of the reader */
	assert_int_equal(ivc_sub_drain(&sub, 0), 0);
	assert_int_equal(ivc_sub_send(&sub, "y", 1, 0), 0);
	assert_int_equal(ivc_sub_drain(&sub, 0), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, 0), 1);
	assert_int_equal(ivc_sub_drain(&sub, 0), 0);
}

/* ----------------------------------------------------------------------------------------------------------- ends */

static void test_guest_drained_channel_is_read_to_its_end(void **state)
{
	uint32_t k;

	(void)state;
	open_both(NULL);
	for (k = 0; k < 50; k++) {
		assert_int_equal(ivc_pub_send(&pub, &k, sizeof(k), 0), 0);
	}
	assert_int_equal(ivc_pub_close(&pub, IVC_DRAIN), 0);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), IVC_E_PIPE);
	for (k = 0; k < 50; k++) {
		assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), sizeof(k));
		assert_memory_equal(buffer, &k, sizeof(k));
	}
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), LONG_NS), IVC_E_PIPE);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_PIPE);
	assert_int_equal(ivc_sub_state(&sub), IVC_CHANNEL_DRAIN);
}

static void test_guest_dead_publisher_is_read_to_its_end(void **state)
{
	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_pub_send(&pub, "last", 4, 0), 0);
	bed_kill(&host, 1);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), 4);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_PIPE);
	assert_int_equal(ivc_sub_drain(&sub, LONG_NS), IVC_E_PIPE);
	assert_int_equal(ivc_sub_state(&sub), IVC_CHANNEL_DEAD);
	pub.open_ = false;
}

static void test_guest_revoked_channel_gives_nothing_more(void **state)
{
	const void *at;

	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_pub_send(&pub, "one", 3, 0), 0);
	assert_int_equal(ivc_pub_send(&pub, "two", 3, 0), 0);
	assert_int_equal(ivc_sub_peek(&sub, &at), 3);
	assert_int_equal(ivc_pub_close(&pub, IVC_REVOKE), 0);
	assert_int_equal(ivc_sub_release(&sub), IVC_E_PIPE);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_PIPE);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), IVC_E_PIPE);
	assert_int_equal(ivc_sub_state(&sub), IVC_CHANNEL_REVOKED);
}

static void test_guest_revoke_under_a_receive_is_no_message(void **state)
{
	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_pub_send(&pub, "one", 3, 0), 0);
	assert_int_equal(ivc_pub_send(&pub, "one", 3, 0), 0);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), 3);
	/* The second message is known already; its bytes are taken away before they are copied. */
	assert_int_equal(ivc_pub_close(&pub, IVC_REVOKE), 0);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_PIPE);
}

static void test_guest_death_with_revoke_option_revokes(void **state)
{
	static const struct ivc_pub_options o = {.on_death = IVC_REVOKE};

	(void)state;
	open_both(&o);
	assert_int_equal(ivc_pub_send(&pub, "last", 4, 0), 0);
	bed_kill(&host, 1);
	assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), IVC_E_PIPE);
	assert_int_equal(ivc_sub_state(&sub), IVC_CHANNEL_REVOKED);
	pub.open_ = false;
}

static void test_guest_unknown_channel_states_mean_revoked(void **state)
{
	static const uint32_t states[] = {0, 5, UINT32_MAX};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		open_both(NULL);
		channel()->page->state = states[i];
		assert_int_equal(ivc_sub_state(&sub), IVC_CHANNEL_REVOKED);
		assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), IVC_E_PIPE);
		assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), IVC_E_PIPE);
		assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, LONG_NS), IVC_E_PIPE);
		channel()->page->state = IVC_CHANNEL_LIVE;
		assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), IVC_E_PIPE);
		assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), IVC_E_PIPE);
		assert_int_equal(ivc_sub_close(&sub), 0);
		assert_int_equal(ivc_pub_close(&pub, IVC_REVOKE), 0);
	}
}

static void test_guest_hypervisor_that_goes_ends_everything(void **state)
{
	(void)state;
	open_both(NULL);
	bed_gone(&host);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, LONG_NS), IVC_E_PIPE);
	assert_int_equal(ivc_pub_readers(&pub), IVC_E_PIPE);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, LONG_NS), IVC_E_PIPE);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, LONG_NS), IVC_E_PIPE);
	assert_int_equal(ivc_sub_close(&sub), IVC_E_SHUTDOWN);
	assert_int_equal(ivc_pub_close(&pub, IVC_DRAIN), IVC_E_SHUTDOWN);
	host.dead = false;
	(void)ivc_call_unsubscribe(&vm2->guest, ivc_vmid(1), ivc_key(KEY));
	(void)ivc_call_unpublish(&vm1->guest, ivc_key(KEY), IVC_UNPUBLISH_REVOKE);
}

static void test_guest_departed_reader_leaves_flow_control(void **state)
{
	struct ivc_seat_info info;
	uint32_t k;

	(void)state;
	open_both(NULL);
	while (ivc_pub_send(&pub, buffer, 1000, 0) == 0) {
	}
	assert_int_equal(ivc_pub_send(&pub, buffer, 1000, SHORT_NS), IVC_E_TIMEDOUT);
	assert_int_equal(ivc_sub_close(&sub), 0);
	for (k = 0; k < 1000; k++) {
		assert_int_equal(ivc_pub_send(&pub, buffer, 1000, 0), 0);
	}
	assert_int_equal(ivc_pub_readers(&pub), 0);
	assert_int_equal(ivc_pub_drain(&pub, 0), 0);
	assert_int_equal(ivc_pub_seat(&pub, 0, &info), 0);
	assert_int_equal(info.state, IVC_SEAT_LEFT);
	assert_false(info.broken);
}

static void test_guest_dead_reader_leaves_flow_control(void **state)
{
	(void)state;
	open_both(NULL);
	while (ivc_pub_send(&pub, buffer, 1000, 0) == 0) {
	}
	bed_kill(&host, 2);
	assert_int_equal(ivc_pub_send(&pub, buffer, 1000, 0), 0);
	assert_int_equal(ivc_pub_readers(&pub), 0);
	sub.open_ = false;
}

static void test_guest_seat_taken_again_is_a_new_reader(void **state)
{
	uint32_t k;

	(void)state;
	open_pub(NULL);
	for (k = 0; k < 50; k++) {
		struct bed_vm *const vm = k % 2 != 0 ? vm2 : vm3;

		open_sub(&sub, vm);
		assert_int_equal(ivc_pub_send(&pub, &k, sizeof(k), 0), 0);
		assert_int_equal(ivc_pub_send(&pub, &k, sizeof(k), 0), 0);
		assert_int_equal(ivc_sub_recv(&sub, buffer, sizeof(buffer), 0), sizeof(k));
		assert_memory_equal(buffer, &k, sizeof(k));
		assert_int_equal(ivc_sub_drain(&sub, 0), 0);
		assert_int_equal(ivc_sub_send(&sub, &k, sizeof(k), 0), 0);
		if (k % 3 == 0) {
			assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, sizeof(buffer), 0), sizeof(k));
			assert_memory_equal(buffer, &k, sizeof(k));
			assert_int_equal(ivc_sub_drain(&sub, 0), 0);
		}
		assert_int_equal(ivc_sub_close(&sub), 0);
		if (k % 4 == 0) {
			assert_int_equal(ivc_pub_readers(&pub), 0);
		}
	}
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, sizeof(buffer), 0), IVC_E_AGAIN);
}

static void test_guest_message_of_a_reader_that_left_is_not_given_out(void **state)
{
	const void *at;
	uint32_t seat;

	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_sub_send(&sub, "bye", 3, 0), 0);
	assert_int_equal(ivc_pub_peek(&pub, &seat, &at), 3);
	assert_int_equal(ivc_sub_close(&sub), 0);
	assert_int_equal(ivc_pub_release(&pub), IVC_E_PIPE);
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 3, 0), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_readers(&pub), 0);
}

/* ---------------------------------------------------------------------------------------------------------- liars */

static void test_guest_reader_with_a_lying_cursor_is_reported_once_and_left(void **state)
{
	struct ivc_seat_info info;
	uint32_t seat = 9;
	uint32_t k;

	(void)state;
	open_pub(&two_seats);
	open_sub(&sub, vm2);
	open_sub(&sub2, vm3);
	assert_int_equal(ivc_pub_readers(&pub), 2);
	ivc_store_release_u64((uint64_t *)(void *)(channel()->seat[0] + 128), UINT64_MAX);
	for (k = 0; k < 1000; k++) {
		assert_int_equal(ivc_pub_send(&pub, &k, sizeof(k), 0), 0);
		assert_int_equal(ivc_sub_recv(&sub2, buffer, sizeof(buffer), 0), sizeof(k));
	}
	assert_int_equal(ivc_pub_readers(&pub), 1);
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 1, LONG_NS), IVC_E_BADMSG);
	assert_int_equal(seat, 0);
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 1, 0), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_seat(&pub, 0, &info), 0);
	assert_true(info.broken);
	assert_false(info.admitted);
	/* It does not come back with this sitting, but with the next one. */
	channel()->page->sequence += 2;
	assert_int_equal(ivc_pub_readers(&pub), 1);
	assert_int_equal(ivc_sub_close(&sub), 0);
	open_sub(&sub, vm2);
	assert_int_equal(ivc_pub_readers(&pub), 2);
}

static void test_guest_lying_cursor_of_the_only_reader_does_not_stop_the_publisher(void **state)
{
	void *at;
	uint32_t k;

	(void)state;
	open_both(NULL);
	ivc_store_release_u64((uint64_t *)(void *)(channel()->seat[0] + 128), UINT64_MAX);
	for (k = 0; k < 1000; k++) {
		assert_int_equal(ivc_pub_send(&pub, buffer, 1000, 0), 0);
	}
	assert_int_equal(ivc_pub_reserve(&pub, 10, &at), 0);
	assert_int_equal(ivc_pub_commit(&pub, 10), 0);
	assert_int_equal(ivc_pub_readers(&pub), 0);
	assert_int_equal(ivc_pub_drain(&pub, 0), 0);
}

static void test_guest_reader_with_a_lying_ring_is_reported_once_and_left(void **state)
{
	uint32_t seat = 9;

	(void)state;
	open_both(NULL);
	ivc_store_release_u64((uint64_t *)(void *)(channel()->seat[0] + 256), UINT64_MAX);
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 1, LONG_NS), IVC_E_BADMSG);
	assert_int_equal(seat, 0);
	assert_int_equal(ivc_pub_readers(&pub), 0);
	assert_int_equal(ivc_pub_recv(&pub, &seat, buffer, 1, 0), IVC_E_AGAIN);
}

static void test_guest_closed_seat_is_no_liar(void **state)
{
	struct ivc_seat_info info;

	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), 0);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, 0), 1);
	/* What a publisher may see before it has looked at the table: the section is zero, the seat is LEFT. */
	assert_int_equal(ivc_sub_close(&sub), 0);
	pub.seen_ = channel()->page->sequence;
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, 0), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_seat(&pub, 0, &info), 0);
	assert_false(info.broken);
}

static void test_guest_message_of_a_seat_closed_under_a_receive_is_no_message(void **state)
{
	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_sub_send(&sub, "one", 3, 0), 0);
	assert_int_equal(ivc_sub_send(&sub, "two", 3, 0), 0);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 3, 0), 3);
	/* The second message is known already; its bytes are zeros by now, and the table was not looked at again. */
	assert_int_equal(ivc_sub_close(&sub), 0);
	pub.seen_ = channel()->page->sequence;
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 3, 0), IVC_E_AGAIN);
}

static void test_guest_lying_publisher_ends_the_subscription_for_good(void **state)
{
	(void)state;
	open_both(NULL);
	ivc_store_release_u64(&pub.ring_.head_->w0, UINT64_MAX);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, LONG_NS), IVC_E_BADMSG);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), IVC_E_BADMSG);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), IVC_E_BADMSG);
	assert_int_equal(ivc_pub_close(&pub, IVC_DRAIN), 0);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), IVC_E_BADMSG);
}

static void test_guest_lying_admission_ends_the_subscription_for_good(void **state)
{
	uint64_t *admission;

	(void)state;
	open_pub(NULL);
	open_sub(&sub, vm2);
	admission = (uint64_t *)(void *)(channel()->publisher + 128);
	admission[2] = UINT64_MAX;
	ivc_store_release_u64(&admission[0], channel()->page->seat[0].epoch);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, LONG_NS), IVC_E_BADMSG);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), IVC_E_BADMSG);
}

static void test_guest_lie_of_an_ended_channel_is_its_end(void **state)
{
	(void)state;
	open_both(NULL);
	memset(channel()->publisher, 0xff, 8192);
	channel()->page->state = IVC_CHANNEL_DEAD;
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, LONG_NS), IVC_E_PIPE);
}

/* ------------------------------------------------------------------------------------------------------- sleeping */

struct sleeper {
	pthread_t thread;
	int64_t result;
	uint64_t timeout;
};

static void *sleeping_recv(void *arg)
{
	struct sleeper *const s = arg;

	s->result = ivc_sub_recv(&sub, buffer, sizeof(buffer), s->timeout);
	return NULL;
}

static void *sleeping_send(void *arg)
{
	static const uint8_t message[1000];
	struct sleeper *const s = arg;

	s->result = ivc_pub_send(&pub, message, sizeof(message), s->timeout);
	return NULL;
}

static void *sleeping_pub_recv(void *arg)
{
	struct sleeper *const s = arg;

	s->result = ivc_pub_recv(&pub, NULL, buffer, sizeof(buffer), s->timeout);
	return NULL;
}

static void *sleeping_await(void *arg)
{
	struct sleeper *const s = arg;

	s->result = ivc_pub_await(&pub, 1, s->timeout);
	return NULL;
}

/* Starts @what and waits until it is armed; then a bell must wake it. */
static void sleep_begin(struct sleeper *s, void *(*what)(void *), const uint8_t *side, struct bed_vm *vm)
{
	uint32_t turn;

	s->timeout = LONG_NS;
	assert_int_equal(pthread_create(&s->thread, NULL, what, s), 0);
	for (turn = 0; turn < 20000; turn++) {
		(void)pthread_mutex_lock(&host.lock);
		if (ivc_load_relaxed_u32((const uint32_t *)(const void *)side) != 0 && vm->calls[CALL_WAIT] != 0) {
			(void)pthread_mutex_unlock(&host.lock);
			return;
		}
		(void)pthread_mutex_unlock(&host.lock);
		(void)usleep(100);
	}
	fail_msg("did not sleep");
}

static int64_t sleep_end(struct sleeper *s)
{
	(void)pthread_join(s->thread, NULL);
	return s->result;
}

static void test_guest_sleeping_subscriber_is_rung_once_per_sleep(void **state)
{
	struct sleeper s;
	uint32_t k;

	(void)state;
	open_both(NULL);
	sleep_begin(&s, sleeping_recv, channel()->seat[0], vm2);
	assert_int_equal(ivc_pub_send(&pub, "wake", 4, 0), 0);
	assert_int_equal(sleep_end(&s), 4);
	assert_true(vm1->calls[CALL_BELL] >= 1);
	/* Awake: nobody rings. */
	(void)pthread_mutex_lock(&host.lock);
	vm1->calls[CALL_BELL] = 0;
	(void)pthread_mutex_unlock(&host.lock);
	for (k = 0; k < 10; k++) {
		assert_int_equal(ivc_pub_send(&pub, "more", 4, 0), 0);
	}
	assert_int_equal(vm1->calls[CALL_BELL], 0);
}

static void test_guest_polling_members_are_never_rung(void **state)
{
	static const struct ivc_pub_options pub_polls = {.polls = 1};
	static const struct ivc_sub_options sub_polls = {.polls = 1};

	(void)state;
	open_pub(&pub_polls);
	assert_int_equal(ivc_sub_open(&sub, &vm2->guest, ivc_vmid(1), ivc_key(KEY), &sub_polls), 0);
	assert_int_equal(ivc_pub_readers(&pub), 1);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, SHORT_NS), IVC_E_TIMEDOUT);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, SHORT_NS), IVC_E_TIMEDOUT);
	assert_int_equal(ivc_sub_arm(&sub), IVC_E_OPNOTSUPP);
	/* Even when their arm words say otherwise. */
	memset(channel()->seat[0], 0xff, 4);
	memset(channel()->publisher, 0xff, 4);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(ivc_sub_send(&sub, "x", 1, 0), 0);
	assert_int_equal(vm1->calls[CALL_BELL] + vm2->calls[CALL_BELL], 0);
	assert_int_equal(vm1->calls[CALL_WAIT] + vm2->calls[CALL_WAIT], 0);
}

static void test_guest_sleeping_publisher_wakes_for_room(void **state)
{
	struct sleeper s;

	(void)state;
	open_both(NULL);
	while (ivc_pub_send(&pub, buffer, 1000, 0) == 0) {
	}
	sleep_begin(&s, sleeping_send, channel()->publisher, vm1);
	while (ivc_sub_recv(&sub, buffer, sizeof(buffer), 0) >= 0) {
	}
	assert_int_equal(sleep_end(&s), 0);
}

static void test_guest_sleeping_publisher_wakes_for_a_message(void **state)
{
	struct sleeper s;

	(void)state;
	open_both(NULL);
	sleep_begin(&s, sleeping_pub_recv, channel()->publisher, vm1);
	assert_int_equal(ivc_sub_send(&sub, "hello", 5, 0), 0);
	assert_int_equal(sleep_end(&s), 5);
	assert_true(vm2->calls[CALL_BELL] >= 1);
}

static void test_guest_sleeping_publisher_wakes_for_the_readers_death(void **state)
{
	struct sleeper s;

	(void)state;
	open_both(NULL);
	while (ivc_pub_send(&pub, buffer, 1000, 0) == 0) {
	}
	sleep_begin(&s, sleeping_send, channel()->publisher, vm1);
	bed_kill(&host, 2);
	assert_int_equal(sleep_end(&s), 0);
	sub.open_ = false;
}

static void test_guest_sleeping_subscriber_wakes_for_the_publishers_death(void **state)
{
	struct sleeper s;

	(void)state;
	open_both(NULL);
	sleep_begin(&s, sleeping_recv, channel()->seat[0], vm2);
	bed_kill(&host, 1);
	assert_int_equal(sleep_end(&s), IVC_E_PIPE);
	assert_int_equal(ivc_sub_state(&sub), IVC_CHANNEL_DEAD);
	pub.open_ = false;
}

static void test_guest_sleeping_members_wake_when_the_hypervisor_goes(void **state)
{
	struct sleeper s;

	(void)state;
	open_both(NULL);
	sleep_begin(&s, sleeping_recv, channel()->seat[0], vm2);
	bed_gone(&host);
	assert_int_equal(sleep_end(&s), IVC_E_PIPE);
}

static void test_guest_await_wakes_for_the_first_reader(void **state)
{
	struct sleeper s;

	(void)state;
	open_pub(NULL);
	assert_int_equal(ivc_pub_await(&pub, 1, 0), IVC_E_AGAIN);
	assert_int_equal(ivc_pub_await(&pub, 1, SHORT_NS), IVC_E_TIMEDOUT);
	vm1->calls[CALL_WAIT] = 0;
	sleep_begin(&s, sleeping_await, channel()->publisher, vm1);
	open_sub(&sub, vm2);
	assert_int_equal(sleep_end(&s), 0);
	assert_int_equal(ivc_pub_await(&pub, 1, 0), 0);
}

static void test_guest_unadmitted_subscriber_sleeps_until_it_is_served(void **state)
{
	struct sleeper s;

	(void)state;
	open_pub(NULL);
	open_sub(&sub, vm2);
	sleep_begin(&s, sleeping_recv, channel()->seat[0], vm2);
	assert_int_equal(ivc_pub_send(&pub, "first", 5, 0), 0);
	assert_int_equal(sleep_end(&s), 5);
}

static void test_guest_timeouts_end_waits(void **state)
{
	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, SHORT_NS), IVC_E_TIMEDOUT);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, SHORT_NS), IVC_E_TIMEDOUT);
	assert_int_equal(channel()->publisher[0], 0);
	assert_int_equal(channel()->seat[0][0], 0);
	vm2->guest.env_.now_ns = NULL;
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, SHORT_NS), IVC_E_INVAL);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, IVC_FOREVER), 1);
}

static int park_interrupted(void *os, uint64_t deadline_ns)
{
	(void)os;
	(void)deadline_ns;
	return IVC_E_INTR;
}

static void test_guest_interrupted_park_ends_the_wait(void **state)
{
	(void)state;
	open_both(NULL);
	vm2->guest.env_.park = park_interrupted;
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, IVC_FOREVER), IVC_E_INTR);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, IVC_FOREVER), 1);
}

static void wait_is_stale(void *arg, struct bed_vm *vm, const struct ivc_regs *regs, int64_t *result)
{
	(void)arg;
	(void)vm;
	if (regs->nr == IVC_HC_WAIT) {
		*result = IVC_E_STALE;
	}
}

/* A hypervisor that does not know the member any more cannot wake it: the wait ends, after a last look. */
static void test_guest_wait_that_cannot_sleep_any_more_ends(void **state)
{
	(void)state;
	open_both(NULL);
	host.twist = wait_is_stale;
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, IVC_FOREVER), IVC_E_PIPE);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, LONG_NS), IVC_E_PIPE);
}

static void test_guest_arm_asks_for_a_bell_unless_something_is_there(void **state)
{
	(void)state;
	open_both(NULL);
	assert_int_equal(ivc_sub_arm(&sub), 0);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(ivc_pub_send(&pub, "y", 1, 0), 0);
	assert_int_equal(vm1->calls[CALL_BELL], 1); /* one sleep, one bell */
	assert_true(ivc_guest_interrupt(&vm2->guest));
	assert_int_equal(ivc_sub_arm(&sub), IVC_E_AGAIN);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), 1);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), 1);
	assert_int_equal(ivc_sub_arm(&sub), 0);
	assert_int_equal(ivc_pub_send(&pub, "z", 1, 0), 0);
	assert_int_equal(vm1->calls[CALL_BELL], 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_guest_publish_and_subscribe_and_close_leaves_nothing),
		T(test_guest_open_errors_of_the_hypervisor_are_returned),
		T(test_guest_pub_open_with_bad_options_publishes_nothing),
		T(test_guest_closed_objects_answer_inval),
		T(test_guest_reader_is_admitted_by_the_publishers_next_call),
		T(test_guest_joining_seat_is_not_admitted),
		T(test_guest_send_without_reader_succeeds_and_is_gone),
		T(test_guest_d21_half_written_admission_admits_nobody),
		T(test_guest_seat_table_being_written_keeps_the_last_copy),
		T(test_guest_messages_of_all_sizes_go_both_ways),
		T(test_guest_small_buffer_keeps_the_message_and_tells_its_size),
		T(test_guest_in_place_send_and_receive),
		T(test_guest_two_readers_get_all_and_answer_in_turn),
		T(test_guest_drain_is_done_when_the_reader_has_read_all),
		T(test_guest_drained_channel_is_read_to_its_end),
		T(test_guest_dead_publisher_is_read_to_its_end),
		T(test_guest_revoked_channel_gives_nothing_more),
		T(test_guest_revoke_under_a_receive_is_no_message),
		T(test_guest_death_with_revoke_option_revokes),
		T(test_guest_unknown_channel_states_mean_revoked),
		T(test_guest_hypervisor_that_goes_ends_everything),
		T(test_guest_departed_reader_leaves_flow_control),
		T(test_guest_dead_reader_leaves_flow_control),
		T(test_guest_seat_taken_again_is_a_new_reader),
		T(test_guest_message_of_a_reader_that_left_is_not_given_out),
		T(test_guest_reader_with_a_lying_cursor_is_reported_once_and_left),
		T(test_guest_lying_cursor_of_the_only_reader_does_not_stop_the_publisher),
		T(test_guest_reader_with_a_lying_ring_is_reported_once_and_left),
		T(test_guest_closed_seat_is_no_liar),
		T(test_guest_message_of_a_seat_closed_under_a_receive_is_no_message),
		T(test_guest_lying_publisher_ends_the_subscription_for_good),
		T(test_guest_lying_admission_ends_the_subscription_for_good),
		T(test_guest_lie_of_an_ended_channel_is_its_end),
		T(test_guest_sleeping_subscriber_is_rung_once_per_sleep),
		T(test_guest_polling_members_are_never_rung),
		T(test_guest_sleeping_publisher_wakes_for_room),
		T(test_guest_sleeping_publisher_wakes_for_a_message),
		T(test_guest_sleeping_publisher_wakes_for_the_readers_death),
		T(test_guest_sleeping_subscriber_wakes_for_the_publishers_death),
		T(test_guest_sleeping_members_wake_when_the_hypervisor_goes),
		T(test_guest_await_wakes_for_the_first_reader),
		T(test_guest_unadmitted_subscriber_sleeps_until_it_is_served),
		T(test_guest_timeouts_end_waits),
		T(test_guest_interrupted_park_ends_the_wait),
		T(test_guest_wait_that_cannot_sleep_any_more_ends),
		T(test_guest_arm_asks_for_a_bell_unless_something_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
