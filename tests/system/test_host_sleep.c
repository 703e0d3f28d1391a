/* SPDX-License-Identifier: MIT */
/*
 * Sleeping VMs, the same on every host: what ends a WAIT, senders and readers that sleep in the rings, and no wakeup that
 * gets lost.
 */
#include "host.h"

#define LAYOUT(seats) (IVC_LAYOUT_SECTIONED | IVC_LAYOUT_SLEEPS | (uint64_t)(seats) << IVC_LAYOUT_SEATS_SHIFT)

/* Two members of VM 1's channel 1, by the calls alone; the seat is ACTIVE and what rang for that is taken. */
struct pair {
	struct host *h;
	struct host_vm *p, *s;
	uint64_t handle;
};

/* Takes the bells of who came and went; the last of them may be on its way still. */
static void quiet(struct host_vm *vm)
{
	while (host_do(vm, ORDER(PUPPET_WAIT, PUPPET_GPA, 5000000), NULL) == 0) {
	}
}

static void subscribe(struct pair *two)
{
	struct puppet_answer a;

	assert_int_equal(host_do(two->s, ORDER(PUPPET_MAP_SUB, 0, 1, 1, 1, IVC_SUBSCRIBE_SLEEPS, HOST_LONG), &a), 0);
	assert_int_equal(
		host_do(two->s,
			ORDER(PUPPET_WATCH, 0, IVC_HV_PAGE_HEADER + 16 * a.value[2] + 4, 1, IVC_SEAT_ACTIVE, HOST_LONG),
			NULL),
		0);
	assert_int_equal(host_do(two->s, ORDER(PUPPET_READ, 0, offsetof(struct ivc_hv_page, handle), 8), &a), 0);
	two->handle = a.value[0];
}

static void pair_start(struct pair *two)
{
	two->h = host_start();
	two->p = host_vm_start(two->h, 1, 1);
	two->s = host_vm_start(two->h, 2, 1);
	assert_int_equal(host_do(two->p, ORDER(PUPPET_MAP_PUB, 0, 1, 8192, LAYOUT(2)), NULL), 0);
	subscribe(two);
	quiet(two->p);
	quiet(two->s);
}

static void pair_stop(struct pair *two)
{
	host_vm_leave(two->s);
	host_vm_leave(two->p);
	host_stop(two->h);
}

/* Begins a WAIT of @vm for @ch; it does not end by itself. A bell that was on its way, of who came or went, is taken. */
static void park(struct host_vm *vm, uint64_t ch)
{
	for (int strays = 0; strays < 3; strays++) {
		host_begin(vm, 0, ORDER(PUPPET_WAIT, ch, IVC_FOREVER));
		proc_nap(20);
		if (!host_ready(vm, 0)) {
			return;
		}
		assert_int_equal(host_end(vm, 0, NULL), 0);
	}
	fail_msg("VM %u does not park", host_id(vm));
}

static void rung(struct pair *two, struct host_vm *vm)
{
	struct puppet_answer a;

	assert_int_equal(host_end(vm, 0, &a), 0);
	assert_int_equal(a.value[0], two->handle);
}

static void test_host_sleep_wait_ends_by_bell_call_and_notify(void **state)
{
	struct pair two;

	(void)state;
	pair_start(&two);
	for (int round = 0; round < 5; round++) {
		park(two.s, round % 2 ? 0 : PUPPET_GPA);
		assert_int_equal(host_do(two.p, ORDER(PUPPET_BELL, 0, round % 2 ? IVC_ALL : 0, 0), NULL), 0);
		rung(&two, two.s);
		park(two.p, round % 2 ? 0 : PUPPET_GPA);
		assert_int_equal(host_do(two.s, ORDER(PUPPET_NOTIFY, 1, 1, round % 2 ? IVC_ALL : 1, 0), NULL), 0);
		rung(&two, two.p);
	}
	/* A bell that nobody sleeps for is kept, once. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(host_do(two.p, ORDER(PUPPET_BELL, 0, 0, 0), NULL), 0);
	}
	assert_int_equal(host_do(two.s, ORDER(PUPPET_WAIT, 0, IVC_FOREVER), NULL), 0);
	assert_int_equal(host_do(two.s, ORDER(PUPPET_WAIT, 0, 0), NULL), IVC_E_AGAIN);
	pair_stop(&two);
}

static void test_host_sleep_wait_ends_at_its_deadline(void **state)
{
	const uint64_t ns = 30000000;
	struct pair two;
	uint64_t begun;

	(void)state;
	pair_start(&two);
	assert_int_equal(host_do(two.s, ORDER(PUPPET_WAIT, 0, 0), NULL), IVC_E_AGAIN);
	for (int i = 0; i < 3; i++) {
		begun = run_now_ns();
		assert_int_equal(host_do(two.s, ORDER(PUPPET_WAIT, i % 2 ? 0 : PUPPET_GPA, ns), NULL), IVC_E_TIMEDOUT);
		assert_true(run_now_ns() - begun >= ns);
	}
	pair_stop(&two);
}

static void test_host_sleep_wait_ends_when_the_channel_or_its_members_change(void **state)
{
	struct pair two;

	(void)state;
	pair_start(&two);
	/* A reader goes, a reader comes: the publisher hears it. */
	park(two.p, 0);
	assert_int_equal(host_do(two.s, ORDER(PUPPET_CLOSE, 0), NULL), 0);
	rung(&two, two.p);
	quiet(two.p);
	park(two.p, PUPPET_GPA);
	subscribe(&two);
	rung(&two, two.p);
	quiet(two.s);
	/* The channel ends: its member hears it, and each later WAIT for it returns at once. */
	park(two.s, 0);
	assert_int_equal(host_do(two.p, ORDER(PUPPET_CLOSE, 0, IVC_UNPUBLISH_DRAIN), NULL), 0);
	rung(&two, two.s);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(host_do(two.s, ORDER(PUPPET_WAIT, 0, IVC_FOREVER), NULL), 0);
	}
	assert_int_equal(host_do(two.s, ORDER(PUPPET_CLOSE, 0), NULL), 0);
	assert_int_equal(host_do(two.s, ORDER(PUPPET_WAIT, 0, IVC_FOREVER), NULL), IVC_E_STALE);
	pair_stop(&two);
}

static void test_host_sleep_wait_ends_when_the_peer_dies(void **state)
{
	struct pair two;
	struct host_end end;

	(void)state;
	pair_start(&two);
	park(two.p, 0);
	host_vm_kill(two.s);
	rung(&two, two.p);
	end = host_vm_bury(two.s);
	assert_int_equal(end.kind, HOST_KILLED);
	quiet(two.p);
	two.s = host_vm_start(two.h, 2, 1);
	subscribe(&two);
	quiet(two.s);
	park(two.s, PUPPET_GPA);
	host_begin(two.p, 0, ORDER(PUPPET_DIE, 0));
	rung(&two, two.s);
	end = host_vm_bury(two.p);
	assert_int_equal(end.kind, HOST_CRASHED);
	host_vm_leave(two.s);
	host_stop(two.h);
}

/* A bell and a WAIT each way, so often that a lost one would show: each wait has half a minute. */
static void test_host_sleep_no_bell_is_lost_between_two_that_wait(void **state)
{
	const uint64_t rounds = run_scaled(2000);
	struct pair two;
	struct puppet_answer a;

	(void)state;
	pair_start(&two);
	host_begin(two.s, 0, ORDER(PUPPET_WAITS, 0, rounds, HOST_LONG));
	assert_int_equal(host_do(two.p, ORDER(PUPPET_BELLS, 0, rounds, 0, HOST_LONG), &a), 0);
	assert_int_equal(a.value[0], rounds);
	assert_int_equal(host_end(two.s, 0, &a), 0);
	assert_int_equal(a.value[0], rounds);
	pair_stop(&two);
}

/* The same through the rings: who finds nothing arms, looks again and sleeps. */
static void test_host_sleep_no_wakeup_is_lost_in_the_rings(void **state)
{
	const uint64_t rounds = run_scaled(2500);
	struct host *h = host_start();
	struct host_vm *p = host_vm_start(h, 1, 1), *s = host_vm_start(h, 2, 1);
	struct puppet_answer a;

	(void)state;
	assert_int_equal(host_do(p, ORDER(PUPPET_OPEN_PUB, 0, 1, 16384, 1), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_OPEN_SUB, 0, 1, 1, HOST_LONG), NULL), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_AWAIT, 0, 1, HOST_LONG), NULL), 0);
	host_begin(s, 0, ORDER(PUPPET_ECHO, 0, rounds, HOST_LONG));
	assert_int_equal(host_do(p, ORDER(PUPPET_PING, 0, rounds, 0, HOST_LONG), &a), 0);
	assert_int_equal(a.value[0], rounds);
	assert_int_equal(host_end(s, 0, NULL), 0);
	host_begin(p, 0, ORDER(PUPPET_ECHO, 0, rounds / 5, IVC_FOREVER));
	assert_int_equal(host_do(s, ORDER(PUPPET_PING, 0, rounds / 5, 700, IVC_FOREVER), NULL), 0);
	assert_int_equal(host_end(p, 0, NULL), 0);
	host_vm_leave(s);
	host_vm_leave(p);
	host_stop(h);
}

static void test_host_sleep_sender_without_room_sleeps_until_the_reader_reads(void **state)
{
	struct host *h = host_start();
	struct host_vm *p = host_vm_start(h, 1, 1), *s = host_vm_start(h, 2, 1);
	struct puppet_answer a;
	uint64_t fit;

	(void)state;
	assert_int_equal(host_do(p, ORDER(PUPPET_OPEN_PUB, 0, 1, 8192, 1), NULL), 0);
	assert_int_equal(host_do(s, ORDER(PUPPET_OPEN_SUB, 0, 1, 1, HOST_LONG), NULL), 0);
	assert_int_equal(host_do(p, ORDER(PUPPET_AWAIT, 0, 1, HOST_LONG), NULL), 0);
	/* The publisher, then the same from the reader's side, whose ring is another one. */
	for (int i = 0; i < 2; i++) {
		struct host_vm *from = i ? s : p, *to = i ? p : s;

		if (i) {
			assert_int_equal(host_do(s, ORDER(PUPPET_AWAIT, 0, 0, HOST_LONG), NULL), 0);
		}
		assert_int_equal(host_do(from, ORDER(PUPPET_SEND, 0, 1000, 500, 3, 0), &a), IVC_E_AGAIN);
		fit = a.value[0];
		assert_true(fit > 2 && fit < 100);
		assert_int_equal(host_do(from, ORDER(PUPPET_SEND, 0, 1, 500, 3, 10000000), NULL), IVC_E_TIMEDOUT);
		host_begin(from, 0, ORDER(PUPPET_SEND, 0, 300, 500, 3, HOST_LONG));
		proc_nap(20);
		assert_false(host_ready(from, 0));
		assert_int_equal(host_do(to, ORDER(PUPPET_RECV, 0, fit + 300, 3, HOST_LONG), &a), 0);
		assert_int_equal(a.value[0], fit + 300);
		assert_int_equal(host_end(from, 0, NULL), 0);
		assert_int_equal(host_do(to, ORDER(PUPPET_RECV, 0, 1, 3, 0), NULL), IVC_E_AGAIN);
	}
	/* A sender that sleeps for room is woken by the end of who made it wait, too. */
	assert_int_equal(host_do(p, ORDER(PUPPET_SEND, 0, 1000, 500, 3, 0), NULL), IVC_E_AGAIN);
	host_begin(p, 0, ORDER(PUPPET_SEND, 0, 300, 500, 3, HOST_LONG));
	proc_nap(20);
	assert_false(host_ready(p, 0));
	host_vm_kill(s);
	assert_int_equal(host_end(p, 0, NULL), 0);
	assert_int_equal(host_vm_bury(s).kind, HOST_KILLED);
	host_vm_leave(p);
	host_stop(h);
}

/* One vCPU sleeps for one channel, another for a second one: each bell wakes whom it is for. */
static void test_host_sleep_two_vcpus_wait_for_their_own_channel(void **state)
{
	struct host *h = host_start();
	struct host_vm *p = host_vm_start(h, 1, 2), *s = host_vm_start(h, 2, 1);
	uint64_t handle[2];
	struct puppet_answer a;

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		host_begin(p, i, ORDER(PUPPET_MAP_PUB, 0, i, 4096, LAYOUT(1)));
		assert_int_equal(host_end(p, i, NULL), 0);
		host_begin(p, i, ORDER(PUPPET_READ, 0, offsetof(struct ivc_hv_page, handle), 8));
		assert_int_equal(host_end(p, i, &a), 0);
		handle[i] = a.value[0];
		assert_int_equal(host_do(s, ORDER(PUPPET_MAP_SUB, i, 1, i, 1, IVC_SUBSCRIBE_SLEEPS, HOST_LONG), &a), 0);
		assert_int_equal(
			host_do(s, ORDER(PUPPET_WATCH, i, IVC_HV_PAGE_HEADER + 4, 1, IVC_SEAT_ACTIVE, HOST_LONG), NULL),
			0);
	}
	quiet(p);
	for (uint32_t n = 0; n < 20; n++) {
		const uint32_t first = n % 2;

		host_begin(p, 0, ORDER(PUPPET_WAIT, 0, IVC_FOREVER));
		host_begin(p, 1, ORDER(PUPPET_WAIT, 0, IVC_FOREVER));
		assert_int_equal(host_do(s, ORDER(PUPPET_BELL, first, IVC_ALL, 0), NULL), 0);
		assert_int_equal(host_end(p, first, &a), 0);
		assert_int_equal(a.value[0], handle[first]);
		assert_false(host_ready(p, 1 - first));
		assert_int_equal(host_do(s, ORDER(PUPPET_BELL, 1 - first, IVC_ALL, 0), NULL), 0);
		assert_int_equal(host_end(p, 1 - first, &a), 0);
		assert_int_equal(a.value[0], handle[1 - first]);
	}
	/* The VM ends under a vCPU that sleeps. */
	host_begin(p, 1, ORDER(PUPPET_WAIT, 0, IVC_FOREVER));
	proc_nap(10);
	host_begin(p, 0, ORDER(PUPPET_EXIT, 9));
	assert_int_equal(host_vm_bury(p).code, 9);
	host_vm_leave(s);
	host_stop(h);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_sleep_wait_ends_by_bell_call_and_notify),
		cmocka_unit_test(test_host_sleep_wait_ends_at_its_deadline),
		cmocka_unit_test(test_host_sleep_wait_ends_when_the_channel_or_its_members_change),
		cmocka_unit_test(test_host_sleep_wait_ends_when_the_peer_dies),
		cmocka_unit_test(test_host_sleep_no_bell_is_lost_between_two_that_wait),
		cmocka_unit_test(test_host_sleep_no_wakeup_is_lost_in_the_rings),
		cmocka_unit_test(test_host_sleep_sender_without_room_sleeps_until_the_reader_reads),
		cmocka_unit_test(test_host_sleep_two_vcpus_wait_for_their_own_channel),
	};

	return host_main(argc, argv, "sleep", tests, sizeof(tests) / sizeof(tests[0]));
}
