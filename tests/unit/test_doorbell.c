/* SPDX-License-Identifier: MIT */
/*
 * Direct bells: which ones are on from when to when, and what becomes of a store that none has taken. It decides nothing
 * about how a host makes them.
 */
#include "run.h"
#include "world.h"

#include <ivc/atomic.h>

#include <inttypes.h>
#include <pthread.h>

#define KEY     UINT64_C(0x626c)
#define SLEEPER (WORLD_SEATS(3) | IVC_LAYOUT_SLEEPS)

static struct world w;
static struct world_vm *const pub = &w.vm[0];
static struct world_vm *const sub = &w.vm[1];
static struct world_vm *const third = &w.vm[2];
static struct world_vm *const stranger = &w.vm[3];

static int setup(void **state)
{
	(void)state;
	world_defaults(&w);
	w.vm_config.doorbell = WORLD_DOORBELL;
	w.vm_config.vector = WORLD_VECTOR;
	assert_int_equal(world_open(&w), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_clean(world_check(&w));
	assert_clean(world_close(&w));
	return 0;
}

static uint32_t value_of(uint64_t handle, uint32_t target)
{
	return (uint32_t)(handle << 8) | target;
}

/* Whom a store of @vm rings directly: an id, or 0. */
static uint32_t rings(struct world_vm *vm, uint32_t value)
{
	uint32_t to = 0;

	return ivc_fake_doorbell_to(vm->host, value, &to) ? to : 0;
}

static uint32_t on_now(void)
{
	return ivc_fake_doorbells(w.fake, NULL);
}

static uint32_t bells(const struct world_vm *vm)
{
	return ivc_fake_bells(vm->host);
}

static uint64_t strays(const struct world_vm *vm)
{
	return vm_stats(vm).stray_writes;
}

/* A channel of `pub` with `sub` in seat 0; everybody may sleep. Return: its handle. */
static uint64_t channel(void)
{
	struct world_window at;

	assert_int_equal(call_publish(pub, KEY, 4096, SLEEPER, &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	return page_handle(pub, at.base);
}

/* ------------------------------------------------------------------------------------------------ when they are on */

static void test_doorbell_is_on_both_ways_after_a_join(void **state)
{
	const uint64_t handle = channel();
	const struct ivc_vm_stats before = vm_stats(sub);
	const uint32_t heard = bells(sub);

	(void)state;
	assert_int_equal(on_now(), 2);
	assert_int_equal(rings(pub, value_of(handle, 0)), sub->id);
	assert_int_equal(rings(sub, value_of(handle, 0xff)), pub->id);
	assert_true(store_doorbell(pub, value_of(handle, 0)));
	assert_int_equal(bells(sub), heard + 1);
	assert_int_equal(vm_stats(sub).bells_in, before.bells_in); /* the core did not see it */
	assert_int_equal(call_subscribe(third, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	assert_int_equal(on_now(), 4);
	assert_int_equal(rings(pub, value_of(handle, 1)), third->id);
	assert_int_equal(rings(third, value_of(handle, 0xff)), pub->id);
}

struct moment {
	enum ivc_fake_op op;
	struct world_window at;
	uint32_t seen;
	uint8_t state; /* of seat 0 when it was asked for */
	uint32_t on;   /* bells that were on then */
};

static void look_at(void *arg, enum ivc_fake_op op, struct ivc_fake_vm *vm)
{
	struct moment *m = arg;

	(void)vm;
	if (op == m->op && m->seen++ == 0) {
		m->state = page_seat_state(pub, m->at.base, 0);
		m->on = on_now();
	}
}

static void test_doorbell_is_on_before_the_seat_is_active(void **state)
{
	struct moment m = {.op = IVC_FAKE_DOORBELL};

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, SLEEPER, &m.at), 0);
	ivc_fake_hook(w.fake, look_at, &m);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_int_equal(m.seen, 2);
	assert_int_equal(m.state, IVC_SEAT_JOINING);
	assert_int_equal(page_seat_state(pub, m.at.base, 0), IVC_SEAT_ACTIVE);
}

static void attach_as(uint32_t index, bool doorbell, bool vector)
{
	assert_int_equal(world_detach(&w, index), 0);
	w.vm_config.doorbell = doorbell ? WORLD_DOORBELL : 0;
	w.vm_config.vector = vector ? WORLD_VECTOR : 0;
	assert_int_equal(world_attach(&w, index, index + 1), 0);
}

static void test_doorbell_needs_a_page_here_and_a_vector_and_sleep_there(void **state)
{
	(void)state;
	for (uint32_t is = 0; is < 64; is++) {
		const bool down = (is & 1) != 0 && (is & 16) != 0 && (is & 32) != 0;
		const bool up = (is & 8) != 0 && (is & 2) != 0 && (is & 4) != 0;
		struct world_window at;
		uint64_t handle;

		attach_as(0, is & 1, is & 2);
		attach_as(1, is & 8, is & 16);
		assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2) | (is & 4 ? IVC_LAYOUT_SLEEPS : 0), &at),
				 0);
		assert_int_equal(call_subscribe(sub, pub, KEY, is & 32 ? IVC_SUBSCRIBE_SLEEPS : 0, NULL), 0);
		handle = page_handle(pub, at.base);
		assert_int_equal(rings(pub, value_of(handle, 0)), down ? sub->id : 0);
		assert_int_equal(rings(sub, value_of(handle, 0xff)), up ? pub->id : 0);
		assert_int_equal(on_now(), down + up);
		assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_DRAIN), 0);
		assert_int_equal(on_now(), 0);
	}
}

static void test_doorbell_has_no_part_in_flat_channels(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_DOORBELL), 0);
}

static void reopen_with_ops(void)
{
	const struct ivc_plat_ops ops = w.ops;

	assert_clean(world_close(&w));
	world_defaults(&w);
	w.vm_config.doorbell = WORLD_DOORBELL;
	w.vm_config.vector = WORLD_VECTOR;
	w.ops = ops;
	assert_int_equal(world_open(&w), 0);
}

static void test_doorbell_without_the_op_is_mediated(void **state)
{
	uint64_t handle;
	uint32_t heard;

	(void)state;
	w.ops.doorbell = NULL;
	reopen_with_ops();
	handle = channel();
	heard = bells(sub);
	assert_false(store_doorbell(pub, value_of(handle, 0)));
	assert_int_equal(bells(sub), heard + 1);
}

/* A host that was built before the op was thought of. */
static void test_doorbell_behind_the_end_of_the_table_is_not_called(void **state)
{
	(void)state;
	w.ops.size = offsetof(struct ivc_plat_ops, doorbell);
	reopen_with_ops();
	(void)channel();
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_DOORBELL), 0);
}

/* ------------------------------------------------------------------------------------------------ when they go off */

static void test_doorbell_goes_off_when_the_member_leaves(void **state)
{
	struct moment m = {.op = IVC_FAKE_CLOSE};
	const uint64_t handle = channel();

	(void)state;
	ivc_fake_hook(w.fake, look_at, &m);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_int_equal(m.seen, 1);
	assert_int_equal(m.on, 0); /* before the publisher's view of the seat is closed */
	assert_int_equal(on_now(), 0);
	assert_int_equal(rings(pub, value_of(handle, 0)), 0);
}

static void test_doorbell_of_the_others_stays_on_when_one_leaves(void **state)
{
	const uint64_t handle = channel();

	(void)state;
	assert_int_equal(call_subscribe(third, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(on_now(), 2);
	assert_int_equal(rings(pub, value_of(handle, 1)), third->id);
	assert_int_equal(call_subscribe(stranger, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	assert_int_equal(rings(pub, value_of(handle, 0)), stranger->id);
}

static void unpublished(uint64_t how)
{
	struct moment m = {.op = IVC_FAKE_UNMAP};

	(void)channel();
	assert_int_equal(call_subscribe(third, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	ivc_fake_hook(w.fake, look_at, &m);
	assert_int_equal(call_unpublish(pub, KEY, how), 0);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_int_equal(m.on, 2); /* the second seat's; the first one's are off before its view goes */
	assert_int_equal(on_now(), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_unsubscribe(third, pub, KEY), 0);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_DOORBELL_OFF), 4);
}

static void test_doorbell_goes_off_when_the_channel_is_unpublished(void **state)
{
	(void)state;
	unpublished(IVC_UNPUBLISH_DRAIN);
}

static void test_doorbell_goes_off_when_the_channel_is_revoked(void **state)
{
	(void)state;
	unpublished(IVC_UNPUBLISH_REVOKE);
}

static void test_doorbell_goes_off_when_a_vm_ends(void **state)
{
	(void)state;
	for (uint32_t dying = 0; dying < 2; dying++) {
		(void)channel();
		assert_int_equal(on_now(), 2);
		assert_int_equal(world_detach(&w, dying), 0);
		assert_int_equal(on_now(), 0);
		assert_int_equal(world_attach(&w, dying, dying + 1), 0);
		assert_int_equal(call_reset(pub), 0);
		assert_int_equal(call_reset(sub), 0);
	}
}

static void test_doorbell_goes_off_when_a_vm_is_reset(void **state)
{
	(void)state;
	(void)channel();
	assert_int_equal(call_reset(sub), 0);
	assert_int_equal(on_now(), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	assert_int_equal(on_now(), 2);
	assert_int_equal(call_reset(pub), 0);
	assert_int_equal(on_now(), 0);
}

/* The host's VM is gone, its views with it: off is asked for all the same, before detach is done. */
static void test_doorbell_goes_off_when_the_hosts_vm_was_killed(void **state)
{
	(void)state;
	for (uint32_t dying = 0; dying < 2; dying++) {
		(void)channel();
		world_kill(&w, dying);
		assert_int_equal(world_detach(&w, dying), 0);
		assert_int_equal(on_now(), 0);
		assert_int_equal(world_attach(&w, dying, dying + 1), 0);
		assert_int_equal(call_reset(pub), 0);
		assert_int_equal(call_reset(sub), 0);
	}
}

static void test_doorbell_goes_off_when_the_hypervisor_ends(void **state)
{
	int64_t result = IVC_E_AGAIN;

	(void)state;
	assert_int_equal(world_detach(&w, 3), 0);
	w.vm_config.flags = IVC_VM_PRIVILEGED;
	assert_int_equal(world_attach(&w, 3, 4), 0);
	(void)channel();
	assert_int_equal(call(stranger, IVC_HC_HYPERVISOR_PREPARE_DISABLE, 0, 0, 0, 0), 0);
	for (uint32_t turn = 0; result == IVC_E_AGAIN && turn < 100; turn++) {
		result = call(stranger, IVC_HC_HYPERVISOR_DISABLE, 0, 0, 0, 0);
	}
	assert_int_equal(result, 0);
	assert_int_equal(on_now(), 0);
	ivc_hv_doorbell(pub->vm, 0xff);
	assert_int_equal(strays(pub), 1);
}

/* ------------------------------------------------------------------------------------------------------ late views */

static void test_doorbell_waits_for_a_late_view(void **state)
{
	struct world_window at;
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, SLEEPER, &at), 0);
	ivc_fake_later(pub->host, true);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, &seen), 0);
	assert_int_equal(on_now(), 0);
	assert_false(store_doorbell(sub, value_of(page_handle(sub, seen.base), 0xff)));
	assert_int_equal(strays(sub), 0); /* mediated: it sits there already */
	assert_int_equal(view_finish(pub, 0), 1);
	assert_int_equal(on_now(), 2);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(on_now(), 0); /* though the close is not answered yet */
	assert_int_equal(ivc_fake_later_count(pub->host), 1);
	assert_int_equal(view_finish(pub, 0), 1);
}

static void test_doorbell_is_never_on_for_a_seat_that_left_before_its_view_came(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, SLEEPER, NULL), 0);
	ivc_fake_later(pub->host, true);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	while (view_finish(pub, 0) != 0) {
	}
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_DOORBELL), 0);
}

static void test_doorbell_is_never_on_for_a_view_that_could_not_be_mapped(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, SLEEPER, NULL), 0);
	ivc_fake_later(pub->host, true);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	assert_int_equal(view_finish(pub, IVC_E_NOSPC), 1);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_DOORBELL), 0);
}

/* A thread that tells the end of late views, and stays in the first op that turns a bell on until it may go on. */
struct held {
	uint32_t inside; /* atomic */
	uint32_t go;     /* atomic */
	uint32_t done;   /* atomic */
};

static void hold(void *arg, enum ivc_fake_op op, struct ivc_fake_vm *vm)
{
	struct held *held = arg;

	(void)vm;
	if (op == IVC_FAKE_DOORBELL && ivc_fetch_add_u32(&held->inside, 1) == 0) {
		(void)run_until(&held->go, 1, 20000);
	}
}

static void *finish_views(void *arg)
{
	struct held *held = arg;

	if (ivc_hv_thread_enter() == 0) {
		while (view_finish(pub, 0) != 0) {
		}
		ivc_hv_thread_leave();
	}
	ivc_store_release_u32(&held->done, 1);
	return NULL;
}

static void hold_a_join(struct held *held, pthread_t *thread)
{
	assert_int_equal(call_publish(pub, KEY, 4096, SLEEPER, NULL), 0);
	ivc_fake_later(pub->host, true);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	ivc_fake_later(pub->host, false);
	ivc_fake_hook(w.fake, hold, held);
	assert_int_equal(pthread_create(thread, NULL, finish_views, held), 0);
	assert_true(run_until(&held->inside, 1, 20000));
}

static void let_go(struct held *held, pthread_t thread)
{
	ivc_store_release_u32(&held->go, 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_int_equal(on_now(), 0);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_DOORBELL), 2);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_DOORBELL_OFF), 2);
}

static void test_doorbell_goes_off_again_when_the_member_left_meanwhile(void **state)
{
	struct held held = {0};
	pthread_t thread;

	(void)state;
	hold_a_join(&held, &thread);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0); /* does not wait for the publisher's host */
	let_go(&held, thread);
}

static void test_doorbell_goes_off_again_when_the_members_vm_ends_meanwhile(void **state)
{
	struct held held = {0};
	pthread_t thread;

	(void)state;
	hold_a_join(&held, &thread);
	assert_int_equal(ivc_hv_vm_detach(sub->vm), IVC_E_AGAIN);
	assert_int_equal(ivc_hv_vm_detach(sub->vm), IVC_E_AGAIN); /* its name may still be in the host's hands */
	let_go(&held, thread);
	assert_int_equal(world_detach(&w, 1), 0);
}

/* The publisher's host is still busy with the first sitting: both sittings ring the publisher by the same value. */
static void test_doorbell_of_a_vm_that_joins_again_meanwhile_is_on_once(void **state)
{
	struct world_window at = {0};
	struct held held = {0};
	pthread_t thread;
	uint64_t handle;
	uint32_t heard;

	(void)state;
	hold_a_join(&held, &thread);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, &at), 0);
	assert_int_equal(at.seat, 1);
	handle = page_handle(sub, at.base);
	ivc_store_release_u32(&held.go, 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_int_equal(rings(pub, value_of(handle, 0)), 0);
	assert_int_equal(rings(pub, value_of(handle, 1)), sub->id);
	heard = bells(pub);
	(void)store_doorbell(sub, value_of(handle, 0xff));
	assert_int_equal(bells(pub), heard + 1);
	assert_int_equal(strays(sub), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(on_now(), 0);
}

struct unpublisher {
	pthread_t thread;
	int64_t result;
	uint32_t done; /* atomic */
};

static void *unpublish(void *arg)
{
	struct unpublisher *me = arg;

	if (ivc_hv_thread_enter() == 0) {
		me->result = call_unpublish(pub, KEY, IVC_UNPUBLISH_REVOKE);
		ivc_hv_thread_leave();
	}
	ivc_store_release_u32(&me->done, 1);
	return NULL;
}

static void test_doorbell_goes_off_again_when_the_publisher_leaves_meanwhile(void **state)
{
	struct unpublisher other = {.result = 1};
	struct held held = {0};
	pthread_t thread;

	(void)state;
	hold_a_join(&held, &thread);
	assert_int_equal(pthread_create(&other.thread, NULL, unpublish, &other), 0);
	while (hv_stats(&w).channels_now != 0) {
		ivc_cpu_relax(); /* until the channel has ended; it waits for the view */
	}
	assert_int_equal(ivc_load_acquire_u32(&other.done), 0);
	ivc_store_release_u32(&held.go, 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(pthread_join(other.thread, NULL), 0);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_int_equal(other.result, 0);
	assert_int_equal(on_now(), 0);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_DOORBELL_OFF), ivc_fake_count(w.fake, IVC_FAKE_DOORBELL));
}

/* ------------------------------------------------------------------------------------------------------ failing op */

static void test_doorbell_that_cannot_be_turned_on_is_mediated(void **state)
{
	(void)state;
	for (uint32_t nth = 1; nth <= 2; nth++) {
		uint64_t handle;
		uint32_t heard[2];

		ivc_fake_fail(w.fake, IVC_FAKE_DOORBELL, nth, 1, IVC_E_NOSPC);
		handle = channel();
		ivc_fake_fail(w.fake, IVC_FAKE_ANY, 0, 0, 0);
		assert_int_equal(on_now(), 1);
		heard[0] = bells(pub);
		heard[1] = bells(sub);
		assert_int_equal(store_doorbell(pub, value_of(handle, 0)), nth != 1);
		assert_int_equal(store_doorbell(sub, value_of(handle, 0xff)), nth != 2);
		assert_int_equal(bells(pub), heard[0] + 1);
		assert_int_equal(bells(sub), heard[1] + 1);
		assert_int_equal(strays(pub) + strays(sub), 0);
		assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
		assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_DRAIN), 0);
		assert_int_equal(on_now(), 0);
	}
}

static void test_doorbell_is_not_turned_on_for_a_vm_that_was_given_up(void **state)
{
	struct world_window at;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, SLEEPER, &at), 0);
	assert_int_equal(call_publish(sub, KEY + 1, 4096, WORLD_SECTIONED, NULL), 0);
	ivc_fake_later(pub->host, true);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	ivc_fake_fail(w.fake, IVC_FAKE_UNMAP, 1, 1, IVC_E_IO);
	assert_int_equal(call_unpublish(sub, KEY + 1, IVC_UNPUBLISH_DRAIN), IVC_E_IO);
	ivc_fake_fail(w.fake, IVC_FAKE_ANY, 0, 0, 0);
	assert_int_equal(view_finish(pub, 0), 1);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_DOORBELL), 0);
	ivc_hv_doorbell(sub->vm, value_of(page_handle(pub, at.base), 0xff));
	assert_int_equal(strays(sub), 1);
}

/* ------------------------------------------------------------------------------------------------- values over time */

/* Dead records wait for a grace period in hundreds: publish until the index comes again. */
static uint64_t same_index_again(uint64_t handle)
{
	for (uint32_t turn = 0; turn < 2000; turn++) {
		struct world_window at;
		uint64_t next;

		assert_int_equal(call_publish(pub, KEY, 4096, SLEEPER, &at), 0);
		next = page_handle(pub, at.base);
		if ((next ^ handle) % (UINT64_C(1) << IVC_HANDLE_INDEX_BITS) == 0) {
			assert_int_not_equal(next, handle);
			return next;
		}
		assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_DRAIN), 0);
	}
	fail_msg("the index did not come again");
	return 0;
}

static void test_doorbell_value_of_an_old_channel_rings_nobody_of_a_new_one(void **state)
{
	const uint64_t old = channel();
	const uint32_t up = value_of(old, 0xff);
	uint32_t heard;

	(void)state;
	assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_DRAIN), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	(void)same_index_again(old);
	assert_int_equal(call_subscribe(third, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	assert_int_equal(rings(third, up), pub->id);
	heard = bells(pub);
	assert_false(store_doorbell(sub, up));
	assert_int_equal(bells(pub), heard);
	assert_int_equal(strays(sub), 1);
}

/* ------------------------------------------------------------------------------------------------ what is promised */

static void test_doorbell_page_is_told_to_those_that_have_one(void **state)
{
	const int64_t bit = IVC_FEATURE_DOORBELL;

	(void)state;
	attach_as(1, false, true);
	attach_as(2, true, false);
	assert_int_equal(call(pub, IVC_HC_FEATURES, 0, 0, 0, 0) & bit, bit);
	assert_int_equal(call(sub, IVC_HC_FEATURES, 0, 0, 0, 0) & bit, 0);
	assert_int_equal(call(third, IVC_HC_FEATURES, 0, 0, 0, 0) & bit, bit);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(call(&w.vm[i], IVC_HC_VM_INFO, WORLD_RAM_SMALL, 0, 0, 0), 0);
		assert_int_equal(load64(&w.vm[i], WORLD_RAM_SMALL + 32), i != 1 ? WORLD_DOORBELL : 0);
		assert_int_equal(load32(&w.vm[i], WORLD_RAM_SMALL + 40), i != 2 ? WORLD_VECTOR : 0);
	}
}

/* A handler that never takes pending bells hears every one. */
static void test_doorbell_bells_of_the_core_interrupt_also_when_pending(void **state)
{
	const uint64_t handle = channel();
	const uint32_t heard = bells(sub);

	(void)state;
	assert_int_equal(call_bell(pub, handle, 0, IVC_ALL), 0);
	assert_int_equal(call_bell(pub, handle, IVC_ALL, IVC_ALL), 0);
	assert_int_equal(call_notify(pub, pub, KEY, sub->id), 0);
	ivc_hv_doorbell(pub->vm, value_of(handle, 0xff));
	assert_int_equal(bells(sub), heard + 4);
	assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_DRAIN), 0);
	assert_int_equal(bells(sub), heard + 5);
}

/* ------------------------------------------------------------------------------------------------- mediated stores */

static void test_doorbell_store_that_nobody_took_rings_as_bell_does(void **state)
{
	struct ivc_call c;
	uint64_t handle;
	uint64_t out;

	(void)state;
	w.ops.doorbell = NULL;
	reopen_with_ops();
	handle = channel();
	assert_int_equal(call_subscribe(third, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	while (call_look(pub, 0) > 0) {
	}
	out = vm_stats(pub).bells_out;
	ivc_hv_doorbell(pub->vm, value_of(handle, 0xff)); /* every peer */
	assert_int_equal(vm_stats(pub).bells_out, out + 1);
	assert_int_equal(call_look(sub, handle), (int64_t)handle);
	assert_int_equal(call_look(third, handle), (int64_t)handle);
	ivc_hv_doorbell(pub->vm, value_of(handle, 1));
	assert_int_equal(call_look(sub, handle), IVC_E_AGAIN);
	assert_int_equal(call_look(third, handle), (int64_t)handle);
	ivc_hv_doorbell(third->vm, value_of(handle, 0xff));
	assert_int_equal(call_look(pub, handle), (int64_t)handle);
	assert_int_equal(call_look(sub, handle), IVC_E_AGAIN);
	assert_int_equal(call_wait(pub, 0, &c, handle, IVC_FOREVER), IVC_PARKED);
	ivc_hv_doorbell(sub->vm, value_of(handle, 0xff));
	assert_int_equal(c.result, (int64_t)handle);
	assert_int_equal(strays(pub) + strays(sub) + strays(third), 0);
}

static void test_doorbell_store_that_names_nothing_rings_nobody_and_is_counted(void **state)
{
	const uint64_t handle = channel();
	const uint32_t bad_of_publisher[] = {value_of(handle, 1),        value_of(handle, 3), value_of(handle, 0xfe),
					     value_of(handle + 1, 0xff), 0xffffffffu,         0xffffff00u};
	const uint32_t bad_of_member[] = {value_of(handle, 0), value_of(handle, 1), value_of(handle, 0xfe),
					  0xffffffffu};
	uint32_t heard[WORLD_VMS];

	(void)state;
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		heard[i] = bells(&w.vm[i]);
	}
	for (uint32_t i = 0; i < 6; i++) {
		assert_false(store_doorbell(pub, bad_of_publisher[i]));
	}
	for (uint32_t i = 0; i < 4; i++) {
		assert_false(store_doorbell(sub, bad_of_member[i]));
	}
	for (uint32_t low = 0; low < 256; low++) {
		assert_false(store_doorbell(stranger, value_of(handle, low)));
	}
	assert_int_equal(strays(pub), 6);
	assert_int_equal(strays(sub), 4);
	assert_int_equal(strays(stranger), 256);
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		assert_int_equal(bells(&w.vm[i]), heard[i]);
	}
}

static void test_doorbell_store_of_a_member_whose_publisher_is_gone_rings_nobody(void **state)
{
	const uint64_t handle = channel();
	uint32_t heard;

	(void)state;
	assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_DRAIN), 0);
	heard = bells(pub);
	assert_false(store_doorbell(sub, value_of(handle, 0xff)));
	assert_false(store_doorbell(pub, value_of(handle, 0)));
	assert_int_equal(bells(pub), heard);
	assert_int_equal(strays(sub), 1);
	assert_int_equal(strays(pub), 1);
}

static void test_doorbell_store_of_a_vm_that_is_going_rings_nobody(void **state)
{
	const uint64_t handle = channel();
	uint32_t heard;

	(void)state;
	assert_int_equal(ivc_hv_vm_detach(sub->vm), IVC_E_AGAIN);
	heard = bells(pub);
	ivc_hv_doorbell(sub->vm, value_of(handle, 0xff));
	assert_int_equal(bells(pub), heard);
	assert_int_equal(strays(sub), 1);
	assert_int_equal(world_detach(&w, 1), 0);
}

static void test_doorbell_random_values_ring_only_peers(void **state)
{
	const uint64_t count = run_scaled(200000);
	uint64_t rng = run_seed("test_doorbell");
	uint32_t heard;

	(void)state;
	(void)channel(); /* `stranger` is in nothing that the others are in */
	assert_int_equal(call_subscribe(third, pub, KEY, 0, NULL), 0);
	heard = bells(stranger);
	for (uint64_t i = 0; i < count; i++) {
		const uint32_t value = (uint32_t)run_random(&rng) & (run_below(&rng, 2) ? 0xffffffffu : 0x3ffu);
		const uint32_t pub_heard = bells(pub);

		(void)store_doorbell(&w.vm[1 + run_below(&rng, 3)], value);
		assert_true(bells(pub) - pub_heard <= 1);
		(void)store_doorbell(pub, value);
	}
	assert_int_equal(bells(stranger), heard);
	assert_true(strays(stranger) > count / 4);
}

static void enter_again(void *arg, enum ivc_fake_op op, struct ivc_fake_vm *vm)
{
	(void)vm;
	if (op == IVC_FAKE_MEM_NEW) {
		ivc_hv_doorbell(sub->vm, *(uint32_t *)arg);
	}
}

static void *not_registered(void *arg)
{
	ivc_hv_doorbell(sub->vm, *(uint32_t *)arg);
	return NULL;
}

static void test_doorbell_store_from_where_the_core_is_not_entered_has_no_effect(void **state)
{
	uint32_t value = value_of(channel(), 0xff);
	uint32_t heard = bells(pub);
	pthread_t thread;

	(void)state;
	ivc_fake_hook(w.fake, enter_again, &value);
	assert_int_equal(call_publish(stranger, KEY, 4096, 0, NULL), 0);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_int_equal(pthread_create(&thread, NULL, not_registered, &value), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(bells(pub), heard);
	assert_int_equal(strays(sub), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_doorbell_is_on_both_ways_after_a_join),
		T(test_doorbell_is_on_before_the_seat_is_active),
		T(test_doorbell_needs_a_page_here_and_a_vector_and_sleep_there),
		T(test_doorbell_has_no_part_in_flat_channels),
		T(test_doorbell_without_the_op_is_mediated),
		T(test_doorbell_behind_the_end_of_the_table_is_not_called),
		T(test_doorbell_goes_off_when_the_member_leaves),
		T(test_doorbell_of_the_others_stays_on_when_one_leaves),
		T(test_doorbell_goes_off_when_the_channel_is_unpublished),
		T(test_doorbell_goes_off_when_the_channel_is_revoked),
		T(test_doorbell_goes_off_when_a_vm_ends),
		T(test_doorbell_goes_off_when_a_vm_is_reset),
		T(test_doorbell_goes_off_when_the_hosts_vm_was_killed),
		T(test_doorbell_goes_off_when_the_hypervisor_ends),
		T(test_doorbell_waits_for_a_late_view),
		T(test_doorbell_is_never_on_for_a_seat_that_left_before_its_view_came),
		T(test_doorbell_is_never_on_for_a_view_that_could_not_be_mapped),
		T(test_doorbell_goes_off_again_when_the_member_left_meanwhile),
		T(test_doorbell_goes_off_again_when_the_members_vm_ends_meanwhile),
		T(test_doorbell_of_a_vm_that_joins_again_meanwhile_is_on_once),
		T(test_doorbell_goes_off_again_when_the_publisher_leaves_meanwhile),
		T(test_doorbell_that_cannot_be_turned_on_is_mediated),
		T(test_doorbell_is_not_turned_on_for_a_vm_that_was_given_up),
		T(test_doorbell_value_of_an_old_channel_rings_nobody_of_a_new_one),
		T(test_doorbell_page_is_told_to_those_that_have_one),
		T(test_doorbell_bells_of_the_core_interrupt_also_when_pending),
		T(test_doorbell_store_that_nobody_took_rings_as_bell_does),
		T(test_doorbell_store_that_names_nothing_rings_nobody_and_is_counted),
		T(test_doorbell_store_of_a_member_whose_publisher_is_gone_rings_nobody),
		T(test_doorbell_store_of_a_vm_that_is_going_rings_nobody),
		T(test_doorbell_random_values_ring_only_peers),
		T(test_doorbell_store_from_where_the_core_is_not_entered_has_no_effect),
	};

	return cmocka_run_group_tests_name("doorbell", tests, NULL, NULL);
}
