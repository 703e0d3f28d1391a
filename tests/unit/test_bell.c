/* SPDX-License-Identifier: MIT */
/*
 * NOTIFY, BELL and WAIT: who hears what, one pending bit per channel and member, and the end of a parked call: exactly
 * one of bell, park_end and teardown ends it.
 */
#include "run.h"
#include "world.h"

#include <ivc/atomic.h>

#include <pthread.h>

#define KEY  UINT64_C(0x6b)
#define KEY2 UINT64_C(0x6c)

static struct world w;
static struct world_vm *const pub = &w.vm[0];
static struct world_vm *const sub = &w.vm[1];
static struct world_vm *const third = &w.vm[2];
static struct world_vm *const stranger = &w.vm[3];
static uint64_t handle;

static void quiet(void)
{
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		while (w.vm[i].vm && call_look(&w.vm[i], 0) > 0) {
		}
	}
}

/* One channel of pub with sub in seat 0 and third in seat 1; nothing is pending. */
static int setup(void **state)
{
	struct world_window at;

	(void)state;
	world_defaults(&w);
	w.vm_config.vector = 33;
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(4), &at), 0);
	handle = page_handle(pub, at.base);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, NULL), 0);
	quiet();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_clean(world_check(&w));
	assert_clean(world_close(&w));
	return 0;
}

static uint32_t unparks(struct world_vm *vm, uint32_t vcpu)
{
	return ivc_load_acquire_u32(&ivc_fake_vcpu(vm->host, vcpu)->unparks);
}

static void test_bell_notify_by_publisher_reaches_every_member(void **state)
{
	(void)state;
	assert_int_equal(call_notify(pub, pub, KEY, IVC_ALL), 0);
	assert_int_equal(call_look(sub, 0), handle);
	assert_int_equal(call_look(third, 0), handle);
	assert_int_equal(call_look(pub, 0), IVC_E_AGAIN);
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
}

static void test_bell_notify_of_one_member_reaches_it_alone(void **state)
{
	(void)state;
	assert_int_equal(call_notify(pub, pub, KEY, third->id), 0);
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
	assert_int_equal(call_look(third, handle), handle);
	assert_int_equal(call_notify(pub, pub, KEY, stranger->id), IVC_E_NOENT);
	assert_int_equal(call_notify(pub, pub, KEY, pub->id), IVC_E_NOENT);
	assert_int_equal(call_look(stranger, 0), IVC_E_AGAIN);
}

static void test_bell_notify_by_member_reaches_the_publisher_only(void **state)
{
	(void)state;
	assert_int_equal(call_notify(sub, pub, KEY, IVC_ALL), 0);
	assert_int_equal(call_look(pub, 0), handle);
	assert_int_equal(call_notify(sub, pub, KEY, pub->id), 0);
	assert_int_equal(call_look(pub, 0), handle);
	assert_int_equal(call_look(third, 0), IVC_E_AGAIN);
	assert_int_equal(call_notify(sub, pub, KEY, third->id), IVC_E_NOENT);
	assert_int_equal(call_look(third, 0), IVC_E_AGAIN);
}

static void test_bell_notify_by_stranger_injects_nothing(void **state)
{
	(void)state;
	assert_int_equal(call_notify(stranger, pub, KEY, IVC_ALL), IVC_E_NOENT);
	assert_int_equal(call_notify(stranger, pub, KEY, sub->id), IVC_E_NOENT);
	assert_int_equal(call_notify(stranger, pub, KEY2, IVC_ALL), IVC_E_NOENT);
	assert_int_equal(call_look(pub, 0), IVC_E_AGAIN);
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
}

static void test_bell_notify_of_zombie_is_noent(void **state)
{
	(void)state;
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	quiet();
	assert_int_equal(call_notify(sub, pub, KEY, IVC_ALL), IVC_E_NOENT);
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(4), NULL), 0);
	assert_int_equal(call_notify(sub, pub, KEY, IVC_ALL), IVC_E_NOENT); /* not in the new one */
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), IVC_E_NOENT);
	assert_int_equal(call_look(pub, 0), IVC_E_AGAIN);
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
}

static void test_bell_notify_without_members_succeeds(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY2, 4096, 0, NULL), 0);
	assert_int_equal(call_notify(pub, pub, KEY2, IVC_ALL), 0);
	assert_int_equal(vm_stats(pub).bells_out, 0);
}

static void test_bell_notify_works_on_flat_channels(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY2, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY2, 0, NULL), 0);
	quiet();
	assert_int_equal(call_notify(sub, pub, KEY2, pub->id), 0);
	assert_true(call_look(pub, 0) > 0);
	assert_int_equal(call_notify(pub, pub, KEY2, sub->id), 0);
	assert_true(call_look(sub, 0) > 0);
}

static void test_bell_by_handle_reaches_seat_and_publisher(void **state)
{
	(void)state;
	assert_int_equal(call_bell(pub, handle, 1, IVC_ALL), 0);
	assert_int_equal(call_look(third, 0), handle);
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
	assert_int_equal(call_bell(pub, handle, IVC_ALL, IVC_ALL), 0);
	assert_int_equal(call_look(third, 0), handle);
	assert_int_equal(call_look(sub, 0), handle);
	assert_int_equal(call_bell(third, handle, IVC_ALL, 1), 0);
	assert_int_equal(call_look(pub, handle), handle);
}

static void test_bell_by_handle_of_another_or_of_nobody_is_stale(void **state)
{
	(void)state;
	assert_int_equal(call_bell(stranger, handle, IVC_ALL, 0), IVC_E_STALE);
	assert_int_equal(call_bell(stranger, handle, IVC_ALL, IVC_ALL), IVC_E_STALE);
	assert_int_equal(call_bell(sub, handle, IVC_ALL, IVC_ALL), IVC_E_STALE);
	assert_int_equal(call_bell(sub, handle, IVC_ALL, 1), IVC_E_STALE); /* another's seat */
	assert_int_equal(call_bell(pub, handle, IVC_ALL, 0), IVC_E_STALE);
	assert_int_equal(call_bell(pub, handle ^ UINT64_C(1) << 24, IVC_ALL, IVC_ALL), IVC_E_STALE);
	assert_int_equal(call_bell(pub, handle | UINT64_C(1) << 63, IVC_ALL, IVC_ALL), IVC_E_STALE);
	assert_int_equal(call_bell(pub, handle + 1, IVC_ALL, IVC_ALL), IVC_E_STALE);
	assert_int_equal(call_bell(pub, 0, IVC_ALL, IVC_ALL), IVC_E_STALE);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	assert_int_equal(call_bell(pub, handle, IVC_ALL, IVC_ALL), IVC_E_STALE);
	assert_true(call_bell(sub, handle, IVC_ALL, 0) < 0); /* the publisher is gone */
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_bell(sub, handle, IVC_ALL, 0), IVC_E_STALE);
}

static void test_bell_pending_bells_of_one_channel_merge(void **state)
{
	const uint64_t in = vm_stats(sub).bells_merged;

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	}
	assert_int_equal(call_look(sub, 0), handle);
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
	assert_int_equal(vm_stats(sub).bells_merged, in + 4);
}

static void test_bell_pending_bells_of_two_channels_are_both_delivered(void **state)
{
	struct world_window at;
	uint64_t other;
	int64_t first;
	int64_t second;

	(void)state;
	assert_int_equal(call_publish(pub, KEY2, 4096, WORLD_SECTIONED, &at), 0);
	other = page_handle(pub, at.base);
	assert_int_equal(call_subscribe(sub, pub, KEY2, 0, NULL), 0);
	quiet();
	for (uint32_t i = 0; i < 10; i++) {
		assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
		assert_int_equal(call_notify(pub, pub, KEY2, sub->id), 0);
		first = call_look(sub, 0);
		second = call_look(sub, 0);
		assert_true(first + second == (int64_t)(handle + other) && first != second);
		assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
	}
	/* a look for one does not take the other */
	assert_int_equal(call_notify(pub, pub, KEY2, sub->id), 0);
	assert_int_equal(call_look(sub, handle), IVC_E_AGAIN);
	assert_int_equal(call_look(sub, other), other);
}

/* A noisy channel does not starve a quiet one: each WAIT for any begins where the last one ended. */
static void test_bell_wait_for_any_is_fair(void **state)
{
	struct world_window at;
	uint64_t other;
	uint32_t heard = 0;

	(void)state;
	assert_int_equal(call_publish(pub, KEY2, 4096, WORLD_SECTIONED, &at), 0);
	other = page_handle(pub, at.base);
	assert_int_equal(call_subscribe(sub, pub, KEY2, 0, NULL), 0);
	quiet();
	assert_int_equal(call_notify(pub, pub, KEY2, sub->id), 0);
	for (uint32_t i = 0; i < 3 && !heard; i++) {
		assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
		heard = call_look(sub, 0) == (int64_t)other;
	}
	assert_int_equal(heard, 1);
}

static void test_bell_interrupt_op_is_raised_for_the_target(void **state)
{
	const uint32_t before = ivc_fake_bells(sub->host);
	const uint32_t of_third = ivc_fake_bells(third->host);

	(void)state;
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	assert_int_equal(ivc_fake_bells(sub->host), before + 1);
	assert_int_equal(ivc_fake_bells(third->host), of_third);
}

static void test_bell_membership_and_state_changes_are_bells(void **state)
{
	(void)state;
	assert_int_equal(call_subscribe(stranger, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_look(pub, 0), handle);
	quiet();
	assert_int_equal(call_unsubscribe(stranger, pub, KEY), 0);
	assert_int_equal(call_look(pub, 0), handle);
	quiet();
	assert_int_equal(world_detach(&w, 2), 0);
	assert_int_equal(call_look(pub, 0), handle);
	quiet();
	assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_REVOKE), 0);
	assert_int_equal(call_look(sub, 0), handle);
}

/* Waiting. */

static void test_bell_wait_with_pending_bell_is_done_at_once(void **state)
{
	struct ivc_call c;

	(void)state;
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	assert_int_equal(call_wait(sub, 0, &c, handle, IVC_FOREVER), IVC_DONE);
	assert_int_equal(c.result, handle);
	assert_int_equal(unparks(sub, 0), 0);
}

static void test_bell_wait_parks_and_a_bell_unparks_once(void **state)
{
	struct ivc_call c;

	(void)state;
	assert_int_equal(call_wait(sub, 1, &c, 0, IVC_FOREVER), IVC_PARKED);
	assert_true(c.deadline_ns == IVC_FOREVER);
	assert_int_equal(unparks(sub, 1), 0);
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	assert_int_equal(unparks(sub, 1), 1);
	assert_int_equal(c.result, handle);
	/* it took the bell, and no second unpark comes */
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	assert_int_equal(unparks(sub, 1), 1);
	/* a late end by the host changes nothing */
	ivc_hv_park_end(sub->vm, ivc_fake_vcpu(sub->host, 1), &c, IVC_E_TIMEDOUT);
	assert_int_equal(c.result, handle);
	assert_int_equal(vm_stats(sub).waits_parked, 1);
}

static void test_bell_wait_on_one_channel_ignores_another(void **state)
{
	struct ivc_call c;

	(void)state;
	assert_int_equal(call_publish(pub, KEY2, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY2, 0, NULL), 0);
	quiet();
	assert_int_equal(call_wait(sub, 0, &c, handle, IVC_FOREVER), IVC_PARKED);
	assert_int_equal(call_notify(pub, pub, KEY2, sub->id), 0);
	assert_int_equal(unparks(sub, 0), 0);
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	assert_int_equal(unparks(sub, 0), 1);
	assert_int_equal(c.result, handle);
	assert_true(call_look(sub, 0) > 0); /* the other one is still pending */
}

static void test_bell_wait_two_vcpus_one_bell_ends_one(void **state)
{
	struct ivc_call a;
	struct ivc_call b;

	(void)state;
	assert_int_equal(call_wait(sub, 0, &a, 0, IVC_FOREVER), IVC_PARKED);
	assert_int_equal(call_wait(sub, 1, &b, 0, IVC_FOREVER), IVC_PARKED);
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	assert_int_equal(unparks(sub, 0) + unparks(sub, 1), 1);
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	assert_int_equal(unparks(sub, 0), 1);
	assert_int_equal(unparks(sub, 1), 1);
	assert_int_equal(a.result, handle);
	assert_int_equal(b.result, handle);
}

/* Three vCPUs on three things: each end finds the right one, wherever it stands in the list. */
static void test_bell_wait_ends_the_right_one_of_many(void **state)
{
	static struct ivc_call c[3];
	struct world_window at;
	uint64_t other;

	(void)state;
	assert_int_equal(call_publish(pub, KEY2, 4096, WORLD_SECTIONED, &at), 0);
	other = page_handle(pub, at.base);
	assert_int_equal(call_subscribe(sub, pub, KEY2, 0, NULL), 0);
	quiet();
	for (uint32_t turn = 0; turn < 2; turn++) {
		assert_int_equal(call_wait(sub, 0, &c[0], handle, IVC_FOREVER), IVC_PARKED);
		assert_int_equal(call_wait(sub, 1, &c[1], other, IVC_FOREVER), IVC_PARKED);
		assert_int_equal(call_wait(sub, 2, &c[2], other, IVC_FOREVER), IVC_PARKED);
		if (turn == 0) {
			assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0); /* the last in the list */
			assert_int_equal(c[0].result, handle);
			assert_int_equal(unparks(sub, 0), 1);
		} else {
			ivc_hv_park_end(sub->vm, ivc_fake_vcpu(sub->host, 0), &c[0], IVC_E_INTR);
			assert_int_equal(c[0].result, IVC_E_INTR);
		}
		ivc_hv_park_end(sub->vm, ivc_fake_vcpu(sub->host, 1), &c[1], IVC_E_TIMEDOUT);
		assert_int_equal(c[1].result, IVC_E_TIMEDOUT);
		assert_int_equal(call_notify(pub, pub, KEY2, sub->id), 0);
		assert_int_equal(c[2].result, other);
	}
	assert_int_equal(unparks(sub, 0), 1);
	assert_int_equal(unparks(sub, 1), 0);
	assert_int_equal(unparks(sub, 2), 2);
}

static void test_bell_wait_deadline_is_told_and_ended_by_the_host(void **state)
{
	struct ivc_call c;

	(void)state;
	ivc_fake_clock(w.fake, 5000);
	assert_int_equal(call_wait(sub, 0, &c, 0, 700), IVC_PARKED);
	assert_int_equal(c.deadline_ns, 5700);
	ivc_hv_park_end(sub->vm, ivc_fake_vcpu(sub->host, 0), &c, IVC_E_TIMEDOUT);
	assert_int_equal(c.result, IVC_E_TIMEDOUT);
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	assert_int_equal(unparks(sub, 0), 0);        /* none after park_end */
	assert_int_equal(call_look(sub, 0), handle); /* and the bell is still there */
	assert_int_equal(call_wait(sub, 0, &c, 0, IVC_FOREVER), IVC_PARKED);
	ivc_hv_park_end(sub->vm, ivc_fake_vcpu(sub->host, 0), &c, IVC_E_INTR);
	assert_int_equal(c.result, IVC_E_INTR);
}

static void test_bell_wait_deadline_beyond_the_clock_is_forever(void **state)
{
	struct ivc_call c;

	(void)state;
	ivc_fake_clock(w.fake, UINT64_C(1) << 40);
	assert_int_equal(call_wait(sub, 0, &c, 0, IVC_FOREVER - 1), IVC_PARKED);
	assert_true(c.deadline_ns == IVC_FOREVER);
	ivc_hv_park_end(sub->vm, ivc_fake_vcpu(sub->host, 0), &c, IVC_E_TIMEDOUT);
}

static void test_bell_wait_on_stale_handle_is_stale(void **state)
{
	struct ivc_call c;

	(void)state;
	assert_int_equal(call_wait(stranger, 0, &c, handle, IVC_FOREVER), IVC_DONE);
	assert_int_equal(c.result, IVC_E_STALE);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_wait(sub, 0, &c, handle, IVC_FOREVER), IVC_DONE);
	assert_int_equal(c.result, IVC_E_STALE);
}

/* The state changes while a vCPU is parked on the channel: it must not sleep on. */
static void test_bell_wait_is_ended_by_unpublish(void **state)
{
	for (uint64_t how = 0; how < 2; how++) {
		struct ivc_call c;

		assert_int_equal(call_wait(sub, 0, &c, handle, IVC_FOREVER), IVC_PARKED);
		assert_int_equal(call_unpublish(pub, KEY, how), 0);
		assert_int_equal(unparks(sub, 0), 1);
		assert_int_equal(c.result, handle);
		(void)teardown(state);
		(void)setup(state);
	}
}

static void test_bell_wait_is_ended_by_the_publishers_death(void **state)
{
	struct ivc_call c;

	(void)state;
	assert_int_equal(call_wait(sub, 0, &c, 0, IVC_FOREVER), IVC_PARKED);
	assert_int_equal(world_detach(&w, 0), 0);
	assert_int_equal(unparks(sub, 0), 1);
	assert_int_equal(c.result, handle);
}

/* Another vCPU leaves the channel that one is parked on. */
static void test_bell_wait_is_ended_when_its_channel_is_left(void **state)
{
	static struct ivc_call c; /* outlives the test, should it fail */

	(void)state;
	assert_int_equal(call_wait(sub, 1, &c, handle, IVC_FOREVER), IVC_PARKED);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(unparks(sub, 1), 1);
	assert_int_equal(c.result, IVC_E_STALE);
}

static void test_bell_detach_unparks_with_shutdown(void **state)
{
	struct ivc_call a;
	struct ivc_call b;
	int err;

	(void)state;
	assert_int_equal(call_wait(sub, 0, &a, 0, IVC_FOREVER), IVC_PARKED);
	assert_int_equal(call_wait(sub, 1, &b, handle, IVC_FOREVER), IVC_PARKED);
	err = ivc_hv_vm_detach(sub->vm);
	assert_true(err == 0 || err == IVC_E_AGAIN);
	assert_int_equal(unparks(sub, 0), 1);
	assert_int_equal(unparks(sub, 1), 1);
	assert_int_equal(a.result, IVC_E_SHUTDOWN);
	assert_int_equal(b.result, IVC_E_SHUTDOWN);
	if (err == 0) {
		sub->vm = NULL;
		return;
	}
	assert_int_equal(call_look(sub, 0), IVC_E_SHUTDOWN);
	assert_int_equal(world_detach(&w, 1), 0);
}

static void test_bell_never_reaches_a_detached_vm(void **state)
{
	const uint32_t before = ivc_fake_bells(sub->host);

	(void)state;
	assert_int_equal(world_detach(&w, 1), 0);
	assert_int_equal(call_notify(pub, pub, KEY, IVC_ALL), 0);
	assert_int_equal(call_notify(pub, pub, KEY, 2), IVC_E_NOENT);
	assert_int_equal(ivc_fake_bells(sub->host), before);
	/* the next VM with that id starts with nothing */
	assert_int_equal(world_attach(&w, 1, 2), 0);
	assert_int_equal(call_notify(pub, pub, KEY, 2), IVC_E_NOENT);
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
	assert_int_equal(call_look(sub, handle), IVC_E_STALE);
}

/* A bell that was pending when the member left is not delivered to a later membership in the same slot. */
static void test_bell_pending_bell_does_not_outlive_the_membership(void **state)
{
	(void)state;
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
	assert_int_equal(call_notify(pub, pub, KEY, third->id), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
}

/* unpark may come before the host has seen PARKED: a bell from another thread, while WAIT is still on its way out. */
struct racer {
	struct run_gate *gate;
	uint32_t rounds;
	uint32_t wrong; /* results of NOTIFY that are not 0 */
};

static void *ring_many(void *arg)
{
	struct racer *racer = arg;

	if (ivc_hv_thread_enter() != 0) {
		racer->wrong++;
		return NULL;
	}
	run_gate_pass(racer->gate);
	for (uint32_t i = 0; i < racer->rounds; i++) {
		racer->wrong += call_notify(pub, pub, KEY, sub->id) != 0;
	}
	ivc_hv_thread_leave();
	return NULL;
}

static void test_bell_wait_against_bells_loses_none_and_ends_once(void **state)
{
	struct run_gate gate = {.count = 2};
	struct racer racer = {.gate = &gate, .rounds = 20000};
	struct ivc_call c;
	pthread_t thread;
	uint32_t seen = unparks(sub, 0);
	uint32_t lost = 0;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, ring_many, &racer), 0);
	run_gate_pass(&gate);
	for (uint32_t i = 0; i < 2000; i++) {
		if (call_wait(sub, 0, &c, 0, IVC_FOREVER) == IVC_PARKED) {
			if (!ivc_fake_unpark_wait(ivc_fake_vcpu(sub->host, 0), seen, 50)) {
				ivc_hv_park_end(sub->vm, ivc_fake_vcpu(sub->host, 0), &c, IVC_E_TIMEDOUT);
			}
			lost += unparks(sub, 0) - seen > 1;
			seen = unparks(sub, 0);
		}
		if (c.result == IVC_E_TIMEDOUT) {
			break; /* the other thread is through */
		}
		lost += c.result != (int64_t)handle;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(racer.wrong, 0);
	assert_int_equal(lost, 0);
	assert_int_equal(unparks(sub, 0), seen);
	quiet();
}

/* One bell for each wait, rung while the vCPU goes to sleep: not one of them is slept through. */
struct duel {
	uint32_t round; /* atomic: the waiter is about to wait for this one */
	uint32_t stop;  /* atomic */
	uint32_t wrong;
};

static void *ring_once_per_round(void *arg)
{
	struct duel *duel = arg;
	uint32_t rung = 0;
	uint64_t rng = 99;

	if (ivc_hv_thread_enter() != 0) {
		duel->wrong++;
		return NULL;
	}
	while (!ivc_load_acquire_u32(&duel->stop)) {
		if (ivc_load_acquire_u32(&duel->round) == rung) {
			continue;
		}
		rung++;
		for (uint64_t i = run_below(&rng, 64); i > 0; i--) {
			ivc_cpu_relax();
		}
		duel->wrong += call_notify(pub, pub, KEY, sub->id) != 0;
	}
	ivc_hv_thread_leave();
	return NULL;
}

static void test_bell_wait_never_sleeps_through_its_only_bell(void **state)
{
	static struct ivc_call c;
	struct duel duel = {0};
	struct ivc_fake_vcpu *cpu = ivc_fake_vcpu(sub->host, 0);
	const uint64_t end = run_now_ns() + UINT64_C(1500000000);
	uint32_t slept = 0;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, ring_once_per_round, &duel), 0);
	while (!slept && run_now_ns() < end) {
		const uint32_t seen = ivc_load_acquire_u32(&cpu->unparks);

		(void)ivc_fetch_add_u32(&duel.round, 1);
		if (call_wait(sub, 0, &c, 0, IVC_FOREVER) == IVC_PARKED && !ivc_fake_unpark_wait(cpu, seen, 5000)) {
			ivc_hv_park_end(sub->vm, cpu, &c, IVC_E_TIMEDOUT);
			slept++;
		}
		slept += c.result != (int64_t)handle;
	}
	ivc_store_release_u32(&duel.stop, 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(duel.wrong, 0);
	assert_int_equal(slept, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_bell_notify_by_publisher_reaches_every_member),
		T(test_bell_notify_of_one_member_reaches_it_alone),
		T(test_bell_notify_by_member_reaches_the_publisher_only),
		T(test_bell_notify_by_stranger_injects_nothing),
		T(test_bell_notify_of_zombie_is_noent),
		T(test_bell_notify_without_members_succeeds),
		T(test_bell_notify_works_on_flat_channels),
		T(test_bell_by_handle_reaches_seat_and_publisher),
		T(test_bell_by_handle_of_another_or_of_nobody_is_stale),
		T(test_bell_pending_bells_of_one_channel_merge),
		T(test_bell_pending_bells_of_two_channels_are_both_delivered),
		T(test_bell_wait_for_any_is_fair),
		T(test_bell_interrupt_op_is_raised_for_the_target),
		T(test_bell_membership_and_state_changes_are_bells),
		T(test_bell_wait_with_pending_bell_is_done_at_once),
		T(test_bell_wait_parks_and_a_bell_unparks_once),
		T(test_bell_wait_on_one_channel_ignores_another),
		T(test_bell_wait_two_vcpus_one_bell_ends_one),
		T(test_bell_wait_ends_the_right_one_of_many),
		T(test_bell_wait_deadline_is_told_and_ended_by_the_host),
		T(test_bell_wait_deadline_beyond_the_clock_is_forever),
		T(test_bell_wait_on_stale_handle_is_stale),
		T(test_bell_wait_is_ended_by_unpublish),
		T(test_bell_wait_is_ended_by_the_publishers_death),
		T(test_bell_wait_is_ended_when_its_channel_is_left),
		T(test_bell_detach_unparks_with_shutdown),
		T(test_bell_never_reaches_a_detached_vm),
		T(test_bell_pending_bell_does_not_outlive_the_membership),
		T(test_bell_wait_against_bells_loses_none_and_ends_once),
		T(test_bell_wait_never_sleeps_through_its_only_bell),
	};

	return cmocka_run_group_tests_name("bell", tests, NULL, NULL);
}
