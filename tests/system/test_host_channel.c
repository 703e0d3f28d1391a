/* SPDX-License-Identifier: MIT */
/*
 * Channels between VMs, the same on every host: messages both ways, several readers, several channels, what is left at
 * the end of a channel, and flat channels by the calls alone.
 */
#include "host.h"

static void test_host_channel_messages_both_ways_arrive_in_order(void **state)
{
	struct host *h = host_start();
	struct host_vm *p = host_vm_start(h, 1, 1), *s = host_vm_start(h, 2, 1);
	struct puppet_answer a;

	(void)state;
	assert_int_equal(host_do(p, ORDER(PUPPET_OPEN_PUB, 0, 7, 32768, 1, 3), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_OPEN_SUB, 0, 1, 7, HOST_LONG), NULL), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_AWAIT, 0, 1, HOST_LONG), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_AWAIT, 0, 0, HOST_LONG), NULL), 0);

	/* More than the ring holds, so both sides wait for one another. */
	host_begin(s, 0, ORDER(PUPPET_RECV, 0, 3000, 11, HOST_LONG));
	assert_int_equal(host_do(p, ORDER(PUPPET_SEND, 0, 3000, 0, 11, HOST_LONG), &a), 0);
	assert_int_equal(a.value[0], 3000);
	assert_int_equal(host_end(s, 0, &a), 0);
	assert_int_equal(a.value[0], 3000);
	assert_int_equal(a.value[2], 0);

	host_begin(p, 0, ORDER(PUPPET_RECV, 0, 2000, 12, HOST_LONG));
	assert_int_equal(host_do(s, ORDER(PUPPET_SEND, 0, 2000, 0, 12, HOST_LONG), NULL), 0);
	assert_int_equal(host_end(p, 0, &a), 0);
	assert_int_equal(a.value[0], 2000);

	/* Large ones, nearly half of the ring. */
	host_begin(s, 0, ORDER(PUPPET_RECV, 0, 50, 13, HOST_LONG));
	assert_int_equal(host_do(p, ORDER(PUPPET_SEND, 0, 50, 14000, 13, HOST_LONG), NULL), 0);
	assert_int_equal(host_end(s, 0, &a), 0);
	assert_int_equal(a.value[1], 50 * 14000);
	assert_int_equal(host_do(p, ORDER(PUPPET_DRAIN, 0, HOST_LONG), NULL), 0);
	host_vm_leave(s);
	host_vm_leave(p);
	host_stop(h);
}

#define READERS 4u

static void test_host_channel_four_readers_get_everything_a_fifth_waits_for_a_seat(void **state)
{
	struct host *h = host_start();
	struct host_vm *p = host_vm_start(h, 1, 1), *s[READERS], *late;
	struct puppet_answer a;
	uint32_t seats = 0;

	(void)state;
	assert_int_equal(host_do(p, ORDER(PUPPET_OPEN_PUB, 0, 1, 16384, READERS), NULL), 0);
	for (uint32_t i = 0; i < READERS; i++) {
		s[i] = host_vm_start(h, 2 + i, 1);
		assert_int_equal(host_do(s[i], ORDER(PUPPET_OPEN_SUB, 0, 1, 1, HOST_LONG), &a), 0);
		seats |= 1u << a.value[0];
	}
	assert_int_equal(seats, 0xf);
	late = host_vm_start(h, 9, 1);
	assert_int_equal(host_do(late, ORDER(PUPPET_OPEN_SUB, 0, 1, 1, 0), NULL), IVC_E_BUSY);
	assert_int_equal(host_do(p, ORDER(PUPPET_AWAIT, 0, READERS, HOST_LONG), NULL), 0);
	for (uint32_t i = 0; i < READERS; i++) {
		assert_int_equal(host_do(s[i], ORDER(PUPPET_AWAIT, 0, 0, HOST_LONG), NULL), 0);
		host_begin(s[i], 0, ORDER(PUPPET_RECV, 0, 1000, 5, HOST_LONG));
	}
	assert_int_equal(host_do(p, ORDER(PUPPET_SEND, 0, 1000, 0, 5, HOST_LONG), NULL), 0);
	for (uint32_t i = 0; i < READERS; i++) {
		assert_int_equal(host_end(s[i], 0, &a), 0);
		assert_int_equal(a.value[2], 0); /* the first one too */
	}
	/* All of them answer at once; the publisher takes them in turn and each one's in order. */
	for (uint32_t i = 0; i < READERS; i++) {
		host_begin(s[i], 0, ORDER(PUPPET_SEND, 0, 300, 0, 6, HOST_LONG));
	}
	assert_int_equal(host_do(p, ORDER(PUPPET_RECV, 0, READERS * 300, 6, HOST_LONG), &a), 0);
	assert_int_equal(a.value[0], READERS * 300);
	for (uint32_t i = 0; i < READERS; i++) {
		assert_int_equal(host_end(s[i], 0, NULL), 0);
	}
	/* One goes, the late one has its seat, and its stream begins when it is admitted. */
	host_begin(late, 0, ORDER(PUPPET_OPEN_SUB, 0, 1, 1, HOST_LONG));
	assert_int_equal(host_do(s[1], ORDER(PUPPET_CLOSE, 0), NULL), 0);
	assert_int_equal(host_end(late, 0, NULL), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_AWAIT, 0, READERS, HOST_LONG), NULL), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_SEND, 0, 10, 0, 5, HOST_LONG), NULL), 0);
	assert_int_equal(host_do(late, ORDER(PUPPET_RECV, 0, 10, 5, HOST_LONG), &a), 0);
	assert_int_equal(a.value[2], 1000);
	assert_int_equal(host_do(late, ORDER(PUPPET_RECV, 0, 1, 5, 0), NULL), IVC_E_AGAIN);
	for (uint32_t i = 0; i < READERS; i++) {
		host_vm_leave(s[i]);
	}
	host_vm_leave(late);
	host_vm_leave(p);
	host_stop(h);
}

static void test_host_channel_many_between_the_same_vms_stay_apart(void **state)
{
	struct host *h = host_start();
	struct host_vm *vm[2] = {host_vm_start(h, 1, 1), host_vm_start(h, 2, 1)};
	struct puppet_answer a;

	(void)state;
	/* Three of VM 1's, three of VM 2's, each reads the other's; names are per publisher. */
	for (uint32_t i = 0; i < 2; i++) {
		for (uint32_t c = 0; c < 3; c++) {
			assert_int_equal(host_do(vm[i], ORDER(PUPPET_OPEN_PUB, c, c, 8192, 2), NULL), 0);
		}
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_OPEN_PUB, 7, 1, 8192, 2), NULL), IVC_E_EXIST);
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_OPEN_SUB, 7, i + 1, 1, 0), NULL), IVC_E_INVAL);
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_OPEN_SUB, 7, 2 - i, 99, 0), NULL), IVC_E_NOENT);
	}
	for (uint32_t i = 0; i < 2; i++) {
		for (uint32_t c = 0; c < 3; c++) {
			assert_int_equal(host_do(vm[i], ORDER(PUPPET_OPEN_SUB, 3 + c, 2 - i, c, 0), NULL), 0);
		}
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_OPEN_SUB, 7, 2 - i, 1, 0), NULL), IVC_E_EXIST);
	}
	for (uint32_t i = 0; i < 2; i++) {
		for (uint32_t c = 0; c < 3; c++) {
			assert_int_equal(host_do(vm[i], ORDER(PUPPET_AWAIT, c, 1, HOST_LONG), NULL), 0);
			assert_int_equal(host_do(vm[i], ORDER(PUPPET_SEND, c, 20, 0, 100 + 10 * i + c, 0), NULL), 0);
		}
	}
	for (uint32_t i = 0; i < 2; i++) {
		for (uint32_t c = 0; c < 3; c++) {
			assert_int_equal(
				host_do(vm[i], ORDER(PUPPET_RECV, 3 + c, 20, 100 + 10 * (1 - i) + c, HOST_LONG), &a),
				0);
			assert_int_equal(a.value[0], 20);
		}
	}
	/* One of them goes, under all eyes; the others work on, and the name is free at once. */
	assert_int_equal(host_do(vm[0], ORDER(PUPPET_CLOSE, 1, IVC_REVOKE), NULL), 0);
	assert_int_equal(host_do(vm[0], ORDER(PUPPET_OPEN_PUB, 1, 1, 8192, 2), NULL), 0);
	assert_int_equal(host_do(vm[1], ORDER(PUPPET_RECV, 4, 1, 0, HOST_LONG), NULL), IVC_E_PIPE);
	assert_int_equal(host_do(vm[0], ORDER(PUPPET_SEND, 2, 5, 0, 102, 0), NULL), 0);
	assert_int_equal(host_do(vm[1], ORDER(PUPPET_RECV, 5, 5, 102, HOST_LONG), NULL), 0);
	host_vm_leave(vm[1]);
	host_vm_leave(vm[0]);
	host_stop(h);
}

/* How a channel may end, and what its reader has of it. */
static void test_host_channel_end_tells_the_reader_how_and_leaves_what_it_may_read(void **state)
{
	static const struct {
		uint8_t on_death;
		enum puppet_op op;
		uint64_t arg0, arg1;
		uint32_t state;
		bool readable;
	} ends[] = {
		{0, PUPPET_CLOSE, 0, IVC_DRAIN, IVC_CHANNEL_DRAIN, true},
		{0, PUPPET_CLOSE, 0, IVC_REVOKE, IVC_CHANNEL_REVOKED, false},
		{0, PUPPET_EXIT, 5, 0, IVC_CHANNEL_DEAD, true},
		{IVC_REVOKE, PUPPET_EXIT, 6, 0, IVC_CHANNEL_REVOKED, false},
		{0, PUPPET_LEAVE, 0, 0, IVC_CHANNEL_DRAIN, true},
	};
	struct host *h = host_start();
	struct host_vm *s = host_vm_start(h, 2, 1);

	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct host_vm *p = host_vm_start(h, 1, 1);
		struct puppet_answer a;
		struct host_end end;
		int64_t got;

		assert_int_equal(host_do(p, ORDER(PUPPET_OPEN_PUB, 0, 1, 16384, 1, 0, ends[i].on_death), NULL), 0);
		assert_int_equal(host_do(s, ORDER(PUPPET_OPEN_SUB, 0, 1, 1, HOST_LONG), NULL), 0);
		assert_int_equal(host_do(p, ORDER(PUPPET_AWAIT, 0, 1, HOST_LONG), NULL), 0);
		assert_int_equal(host_do(p, ORDER(PUPPET_SEND, 0, 30, 0, 9, 0), NULL), 0);
		assert_int_equal(host_do(s, ORDER(PUPPET_RECV, 0, 10, 9, HOST_LONG), NULL), 0);
		if (ends[i].op == PUPPET_CLOSE) {
			assert_int_equal(host_do(p, ORDER(PUPPET_CLOSE, ends[i].arg0, ends[i].arg1), NULL), 0);
			host_vm_leave(p);
		} else {
			host_begin(p, 0, ORDER(ends[i].op, ends[i].arg0));
			end = host_vm_bury(p);
			assert_int_equal(end.kind, HOST_EXITED);
			assert_int_equal(end.code, ends[i].arg0);
		}
		/* What is closed reads as zeros, also where the head was. */
		assert_int_equal(host_do(s,
					 ends[i].readable ? ORDER(PUPPET_WATCH, 0, offsetof(struct ivc_hv_page, state),
								  4, ends[i].state, HOST_LONG)
							  : ORDER(PUPPET_WATCH, 0, 0, 8, 0, HOST_LONG),
					 NULL),
				 0);
		got = host_do(s, ORDER(PUPPET_RECV, 0, 30, 9, HOST_LONG), &a);
		assert_int_equal(got, IVC_E_PIPE);
		assert_int_equal(a.value[0], ends[i].readable ? 20 : 0);
		assert_int_equal(host_do(s, ORDER(PUPPET_STATE, 0), NULL), ends[i].state);
		assert_int_equal(host_do(s, ORDER(PUPPET_SEND, 0, 1, 0, 9, HOST_LONG), NULL), IVC_E_PIPE);
		assert_int_equal(host_do(s, ORDER(PUPPET_CLOSE, 0), NULL), 0);
	}
	host_vm_leave(s);
	host_stop(h);
}

/* What is looked at in place counts only if it was still there when it was given back. */
static void test_host_channel_message_peeked_and_revoked_does_not_count(void **state)
{
	struct host *h = host_start();
	struct host_vm *p = host_vm_start(h, 1, 1), *s = host_vm_start(h, 2, 1);
	struct puppet_answer a;

	(void)state;
	assert_int_equal(host_do(p, ORDER(PUPPET_OPEN_PUB, 0, 1, 16384, 1), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_OPEN_SUB, 0, 1, 1, HOST_LONG), NULL), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_AWAIT, 0, 1, HOST_LONG), NULL), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_SEND, 0, 2, 100, 9, 0), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_PEEK, 0), &a), 0);
	assert_int_equal(a.value[0], 100);
	assert_int_equal(a.value[1], 9);
	assert_int_equal(host_do(s, ORDER(PUPPET_RELEASE, 0), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_PEEK, 0), &a), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_CLOSE, 0, IVC_REVOKE), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_RELEASE, 0), NULL), IVC_E_PIPE);
	host_vm_leave(s);
	host_vm_leave(p);
	host_stop(h);
}

static void test_host_channel_flat_is_shared_by_two_through_the_calls_alone(void **state)
{
	struct host *h = host_start();
	struct host_vm *p = host_vm_start(h, 1, 1), *s = host_vm_start(h, 2, 1), *third = host_vm_start(h, 3, 1);
	struct puppet_answer a;

	(void)state;
	assert_int_equal(host_do(p, ORDER(PUPPET_MAP_PUB, 0, 77, 5000, IVC_LAYOUT_FLAT), &a), 0);
	assert_int_equal(a.value[1], 8192);
	assert_int_equal(host_do(s, ORDER(PUPPET_MAP_SUB, 0, 1, 77, 0, 0, HOST_LONG), &a), 0);
	assert_int_equal(a.value[1], 8192);
	assert_int_equal(host_do(third, ORDER(PUPPET_MAP_SUB, 0, 1, 77, 0, 0, 0), NULL), IVC_E_BUSY);
	/* The head, then both write everywhere, the head too: nobody ever reads it back. */
	assert_int_equal(host_do(s, ORDER(PUPPET_READ, 0, 0, 8), &a), 0);
	assert_int_equal(a.value[0], 1);
	assert_int_equal(host_do(s, ORDER(PUPPET_READ, 0, 8, 8), &a), 0);
	assert_int_equal(a.value[0], 77);
	assert_int_equal(host_do(s, ORDER(PUPPET_FILL, 0, 0, 8192, 0x5a), NULL), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_DIFF, 0, 0, 8192, 0x5a), &a), 0);
	assert_int_equal(a.value[0], 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_WRITE, 0, 4096, 8, 99, 1), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_WATCH, 0, 4096, 8, 99, HOST_LONG), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_NOTIFY, 1, 77, IVC_ALL, 0), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_CLOSE, 0), NULL), 0);
	/* Now there is room for the third, which finds what was written. */
	assert_int_equal(host_do(third, ORDER(PUPPET_MAP_SUB, 0, 1, 77, 0, 0, HOST_LONG), NULL), 0);
	assert_int_equal(host_do(third, ORDER(PUPPET_READ, 0, 4096, 8), &a), 0);
	assert_int_equal(a.value[0], 99);
	assert_int_equal(host_do(p, ORDER(PUPPET_CLOSE, 0, IVC_UNPUBLISH_DRAIN), NULL), 0);
	assert_int_equal(host_do(third, ORDER(PUPPET_READ, 0, 4096, 8), &a), 0);
	assert_int_equal(a.value[0], 99);
	assert_int_equal(host_do(third, ORDER(PUPPET_NOTIFY, 1, 77, IVC_ALL, 0), NULL), IVC_E_NOENT);
	host_vm_leave(third);
	host_vm_leave(s);
	host_vm_leave(p);
	host_stop(h);
}

/* Registers as they come: what is refused has had no effect. */
static void test_host_channel_bad_calls_are_refused_without_effect(void **state)
{
	struct host *h = host_start();
	struct host_vm *p = host_vm_start(h, 1, 1);
	struct puppet_answer a;
	uint64_t slots, window;

	(void)state;
	assert_int_equal(host_do(p, ORDER(PUPPET_HELLO, 0), &a), 0);
	window = a.value[2];
	slots = a.value[4];
#define CALL(...) host_do(p, ORDER(PUPPET_CALL, __VA_ARGS__), NULL)
#define LAYOUT    (IVC_LAYOUT_SECTIONED | 1u << IVC_LAYOUT_SEATS_SHIFT)
	assert_int_equal(CALL(UINT64_C(0x100000003), 1, slots, slots + 8, LAYOUT), IVC_E_NOSYS);
	assert_int_equal(CALL(4711), IVC_E_NOSYS);
	assert_int_equal(CALL(UINT64_MAX), IVC_E_NOSYS);
	assert_int_equal(CALL(IVC_HC_VM_ID, 1), IVC_E_INVAL);
	assert_int_equal(CALL(IVC_HC_VM_ID), 1);
	assert_int_equal(CALL(IVC_HC_HYPERVISOR_DISABLE), IVC_E_PERM);
	assert_int_equal(host_do(p, ORDER(PUPPET_SLOT, 0, 111, 1), NULL), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_SLOT, 1, 8192, 1), NULL), 0);
	assert_int_equal(CALL(IVC_HC_PUBLISH, 1, slots, slots, LAYOUT), IVC_E_INVAL);
	assert_int_equal(CALL(IVC_HC_PUBLISH, 1, slots + 4, slots + 8, LAYOUT), IVC_E_INVAL);
	assert_int_equal(CALL(IVC_HC_PUBLISH, 1, slots, slots + 8, LAYOUT, 1), IVC_E_INVAL);
	assert_int_equal(CALL(IVC_HC_PUBLISH, 1, window, slots + 8, LAYOUT), IVC_E_FAULT);
	assert_int_equal(CALL(IVC_HC_PUBLISH, 1, slots, UINT64_MAX - 7, LAYOUT), IVC_E_FAULT);
	assert_int_equal(CALL(IVC_HC_PUBLISH, 1, UINT64_C(1) << 45, slots + 8, LAYOUT), IVC_E_FAULT);
	assert_int_equal(CALL(IVC_HC_PUBLISH, 1, slots, slots + 8, LAYOUT | 7), IVC_E_INVAL);
	assert_int_equal(CALL(IVC_HC_SUBSCRIBE, 9, 1, slots, slots + 8, slots + 16), IVC_E_NOENT);
	assert_int_equal(CALL(IVC_HC_VM_INFO, window), IVC_E_FAULT);
	assert_int_equal(CALL(IVC_HC_WAIT, 12345, 0), IVC_E_STALE);
	assert_int_equal(CALL(IVC_HC_BELL, 12345, 0, IVC_ALL), IVC_E_STALE);
	assert_int_equal(host_do(p, ORDER(PUPPET_SLOT, 0, 0, 0), &a), 0);
	assert_int_equal(a.value[0], 111);
	/* And the same with nothing wrong, under the number for those whose small numbers are taken. */
	assert_int_equal(CALL(IVC_HC_ALIAS + IVC_HC_PUBLISH, 1, slots, slots + 8, LAYOUT), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_SLOT, 0, 0, 0), &a), 0);
	assert_true(a.value[0] >= window);
	assert_int_equal(CALL(IVC_HC_UNPUBLISH, 1, 0), 0);
#undef LAYOUT
#undef CALL
	host_vm_leave(p);
	host_stop(h);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_channel_messages_both_ways_arrive_in_order),
		cmocka_unit_test(test_host_channel_four_readers_get_everything_a_fifth_waits_for_a_seat),
		cmocka_unit_test(test_host_channel_many_between_the_same_vms_stay_apart),
		cmocka_unit_test(test_host_channel_end_tells_the_reader_how_and_leaves_what_it_may_read),
		cmocka_unit_test(test_host_channel_message_peeked_and_revoked_does_not_count),
		cmocka_unit_test(test_host_channel_flat_is_shared_by_two_through_the_calls_alone),
		cmocka_unit_test(test_host_channel_bad_calls_are_refused_without_effect),
	};

	return host_main(argc, argv, "channel", tests, sizeof(tests) / sizeof(tests[0]));
}
