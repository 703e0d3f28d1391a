/* SPDX-License-Identifier: MIT */
/*
 * Two calls at once, made deterministic: one thread is held inside an op of the host while others go on, so that each
 * of the interleavings that matter is run every time. Each test names the outcomes that are allowed.
 */
#include "run.h"
#include "world.h"

#include <ivc/atomic.h>

#include <pthread.h>
#include <sched.h>

#define KEY     UINT64_C(0x6b)
#define MS      10000u /* generous: a wait that lasts so long is a failure */
#define HELPERS 3u

static struct world w;
static struct world_vm *const pub = &w.vm[0];
static struct world_vm *const sub = &w.vm[1];
static struct world_vm *const third = &w.vm[2];

/* The first op of this kind for this VM waits inside until it is let go. */
static struct hold {
	enum ivc_fake_op op;
	struct ivc_fake_vm *vm; /* NULL: any */
	uint32_t taken;         /* atomic */
	uint32_t reached;       /* atomic */
	uint32_t go;            /* atomic */
} hold;

static void hold_hook(void *arg, enum ivc_fake_op op, struct ivc_fake_vm *vm)
{
	(void)arg;
	if (op != hold.op || (hold.vm && hold.vm != vm) || ivc_fetch_add_u32(&hold.taken, 1) != 0) {
		return;
	}
	ivc_store_release_u32(&hold.reached, 1);
	(void)run_until(&hold.go, 1, MS);
}

static void hold_at(enum ivc_fake_op op, struct world_vm *vm)
{
	hold = (struct hold){.op = op, .vm = vm ? vm->host : NULL};
	ivc_fake_hook(w.fake, hold_hook, NULL);
}

static void let_go(void)
{
	ivc_store_release_u32(&hold.go, 1);
}

/* A thread that makes one call. */
struct helper {
	pthread_t thread;
	int64_t (*act)(void);
	int64_t result;
	uint32_t done; /* atomic */
};

static struct helper helpers[HELPERS];

static void *helper_run(void *arg)
{
	struct helper *h = arg;

	if (ivc_hv_thread_enter() == 0) {
		h->result = h->act();
		ivc_hv_thread_leave();
	}
	ivc_store_release_u32(&h->done, 1);
	return NULL;
}

static uint64_t relaxed_before; /* turns of waiting inside the core when the last helper was started */
static uint32_t last_started;

static void start(uint32_t i, int64_t (*act)(void))
{
	relaxed_before = ivc_fake_count(w.fake, IVC_FAKE_RELAX);
	last_started = i;
	helpers[i] = (struct helper){.act = act, .result = INT64_MIN};
	assert_int_equal(pthread_create(&helpers[i].thread, NULL, helper_run, &helpers[i]), 0);
}

static int64_t join(uint32_t i)
{
	assert_int_equal(pthread_join(helpers[i].thread, NULL), 0);
	return helpers[i].result;
}

/* Starts @act and waits until it is held. */
static void start_held(uint32_t i, int64_t (*act)(void), enum ivc_fake_op op, struct world_vm *vm)
{
	hold_at(op, vm);
	start(i, act);
	assert_true(run_until(&hold.reached, 1, MS));
}

/*
 * Until the helper started last has got as far as it can: it is done, or it waits inside the core. One that waits where
 * nothing can be seen of it (for a grace period, or in an op) gets time instead.
 */
static void settle(void)
{
	const uint64_t unseen = run_now_ns() + 300000000;
	uint64_t end;

	while (ivc_fake_count(w.fake, IVC_FAKE_RELAX) == relaxed_before &&
	       ivc_load_acquire_u32(&helpers[last_started].done) == 0 && run_now_ns() < unseen) {
		(void)sched_yield();
	}
	end = run_now_ns() + 2000000; /* more than one wait may be on its way */
	while (run_now_ns() < end) {
		(void)sched_yield();
	}
}

static int setup(void **state)
{
	(void)state;
	world_defaults(&w);
	w.vm_config.vector = 33;
	assert_int_equal(world_open(&w), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_clean(world_check(&w));
	assert_clean(world_close(&w));
	return 0;
}

/* The calls. Each vCPU of a VM has slots of its own. */

static int64_t publish_0(void)
{
	return call_publish_on(pub, 0, KEY, 4096, WORLD_SEATS(2), NULL);
}

static int64_t publish_1(void)
{
	return call_publish_on(pub, 1, KEY, 4096, WORLD_SEATS(2), NULL);
}

static int64_t subscribe_0(void)
{
	return call_subscribe_on(sub, 0, pub->id, KEY, 0, NULL);
}

static int64_t subscribe_1(void)
{
	return call_subscribe_on(sub, 1, pub->id, KEY, 0, NULL);
}

static int64_t subscribe_third(void)
{
	return call_subscribe_on(third, 0, pub->id, KEY, 0, NULL);
}

static int64_t unsubscribe_0(void)
{
	return call_on(sub, 0, IVC_HC_UNSUBSCRIBE, pub->id, KEY, 0, 0, 0, 0);
}

static int64_t unsubscribe_1(void)
{
	return call_on(sub, 1, IVC_HC_UNSUBSCRIBE, pub->id, KEY, 0, 0, 0, 0);
}

static int64_t unpublish_0(void)
{
	return call_on(pub, 0, IVC_HC_UNPUBLISH, KEY, IVC_UNPUBLISH_DRAIN, 0, 0, 0, 0);
}

static int64_t unpublish_1(void)
{
	return call_on(pub, 1, IVC_HC_UNPUBLISH, KEY, IVC_UNPUBLISH_DRAIN, 0, 0, 0, 0);
}

static int64_t revoke_0(void)
{
	return call_on(pub, 0, IVC_HC_UNPUBLISH, KEY, IVC_UNPUBLISH_REVOKE, 0, 0, 0, 0);
}

static int64_t detach_pub(void)
{
	return world_detach(&w, 0);
}

static int64_t detach_sub(void)
{
	return world_detach(&w, 1);
}

/* Until another thread's detach of @vm has begun: from then on it takes no calls. */
static void until_dying(struct world_vm *vm)
{
	const uint64_t end = run_now_ns() + UINT64_C(1000000) * MS;

	while (call_on(vm, 3, IVC_HC_VM_ID, 0, 0, 0, 0, 0, 0) != IVC_E_SHUTDOWN) {
		assert_true(run_now_ns() < end);
		(void)sched_yield();
	}
}

/* R1 and defect D6: two vCPUs publish one key. The loser's memory was freed while it was still mapped. */
static void test_race_d6_publish_by_two_vcpus_one_wins(void **state)
{
	(void)state;
	start_held(0, publish_0, IVC_FAKE_MAP, pub);
	start(1, publish_1);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), IVC_E_EXIST);
	assert_int_equal(ivc_fake_mems(w.fake), 2);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

/* R1, second half: when the winner rolls back, the other one is not told EXIST of a key that never was. */
static void test_race_d6_publish_that_rolls_back_does_not_refuse_the_other(void **state)
{
	(void)state;
	ivc_fake_fail(w.fake, IVC_FAKE_MAP, 2, 1, IVC_E_NOMEM);
	start_held(0, publish_0, IVC_FAKE_MAP, pub);
	start(1, publish_1);
	settle();
	let_go();
	assert_int_equal(join(0), IVC_E_NOMEM);
	assert_int_equal(join(1), 0);
}

/* R2: a channel is found by nobody before its publish is certain to succeed. */
static void test_race_publish_against_subscribe_is_noent_until_it_is_whole(void **state)
{
	(void)state;
	start_held(0, publish_0, IVC_FAKE_MAP, pub);
	assert_int_equal(subscribe_0(), IVC_E_NOENT);
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(subscribe_0(), 0);
}

/* Defect D7: registered before mapped, left in between, mapped all the same. */
static void test_race_d7_unsubscribe_during_subscribe_waits_for_it(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	start_held(0, subscribe_0, IVC_FAKE_MAP, sub);
	start(1, unsubscribe_1);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_views(sub->host, NULL, 0), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 2);
	assert_int_equal(unsubscribe_0(), IVC_E_NOENT);
}

static void test_race_subscribe_by_two_vcpus_one_wins(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	start_held(0, subscribe_0, IVC_FAKE_MAP, sub);
	start(1, subscribe_1);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), IVC_E_EXIST);
	assert_int_equal(vm_stats(sub).memberships_now, 1);
}

/* Two VMs want the last seat. */
static void test_race_subscribe_of_two_vms_to_the_last_seat_one_wins(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	start_held(0, subscribe_0, IVC_FAKE_MAP, sub);
	assert_int_equal(subscribe_third(), IVC_E_BUSY);
	let_go();
	assert_int_equal(join(0), 0);
}

/* R3: the publisher leaves while somebody joins. */
static void test_race_unpublish_during_subscribe_is_noent(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	start_held(0, subscribe_0, IVC_FAKE_MAP, sub);
	assert_int_equal(unpublish_0(), 0); /* does not wait for the other VM's host */
	let_go();
	assert_int_equal(join(0), IVC_E_NOENT);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(vm_stats(sub).bytes_now, 0);
	assert_int_equal(vm_stats(sub).window_now, 0);
}

static void test_race_revoke_during_subscribe_is_noent(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	start_held(0, subscribe_0, IVC_FAKE_MAP, sub);
	start(1, revoke_0);
	settle();
	let_go();
	assert_int_equal(join(0), IVC_E_NOENT);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(vm_stats(sub).memberships_now, 0);
}

/* The publisher leaves while the subscriber's thread maps the seat into the publisher's window. */
static void test_race_unpublish_while_its_seat_view_is_mapped(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	start_held(0, subscribe_0, IVC_FAKE_MAP, pub);
	start(1, unpublish_0);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_views(pub->host, NULL, 0), 0);
	assert_int_equal(unsubscribe_0(), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

/* ... and revokes while it leaves a seat that is just being closed. */
static void test_race_revoke_while_a_seat_view_is_closed(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	start_held(0, unsubscribe_0, IVC_FAKE_CLOSE, pub);
	start(1, revoke_0);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

/* R4: the last member leaves the zombie while its key is published again. */
static void test_race_last_unsubscribe_against_publish_again_both_succeed(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	assert_int_equal(unpublish_0(), 0);
	start_held(0, unsubscribe_0, IVC_FAKE_UNMAP, sub);
	assert_int_equal(publish_1(), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 5); /* three of the old one, two of the new one */
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 2);
	assert_int_equal(subscribe_0(), 0);
}

/* R5 and R6: the same end twice. */
static void test_race_unsubscribe_by_two_vcpus_one_wins(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	start_held(0, unsubscribe_0, IVC_FAKE_UNMAP, sub);
	start(1, unsubscribe_1);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), IVC_E_NOENT);
}

static void test_race_unpublish_by_two_vcpus_one_wins(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	start_held(0, unpublish_0, IVC_FAKE_UNMAP, pub);
	start(1, unpublish_1);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), IVC_E_NOENT);
}

/* R7: a member leaves while its VM is torn down. */
static void test_race_unsubscribe_against_detach_of_the_same_vm(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	start_held(0, unsubscribe_0, IVC_FAKE_UNMAP, sub);
	start(1, detach_sub);
	until_dying(sub);
	assert_int_equal(ivc_load_acquire_u32(&helpers[1].done), 0); /* it waits for the call in flight */
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_views(sub->host, NULL, 0), 0);
}

/* R8: the publisher dies while somebody joins. */
static void test_race_detach_of_publisher_during_subscribe(void **state)
{
	int64_t result;

	(void)state;
	assert_int_equal(publish_0(), 0);
	start_held(0, subscribe_0, IVC_FAKE_MAP, sub);
	start(1, detach_pub);
	settle();
	let_go();
	result = join(0);
	assert_int_equal(join(1), 0);
	assert_true(result == IVC_E_NOENT || result == 0);
	assert_int_equal(vm_stats(sub).memberships_now, result == 0 ? 1 : 0);
}

static void test_race_detach_of_publisher_while_its_seat_view_is_mapped(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	start_held(0, subscribe_0, IVC_FAKE_MAP, pub);
	start(1, detach_pub);
	until_dying(pub);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_views(pub->host, NULL, 0), 0);
	assert_int_equal(unsubscribe_0(), 0);
}

/* 2.4: a VM dies in the middle of its own publish, subscribe. */
static void test_race_detach_during_own_publish_leaves_no_channel(void **state)
{
	(void)state;
	start_held(0, publish_0, IVC_FAKE_MAP, pub);
	start(1, detach_pub);
	until_dying(pub);
	let_go();
	assert_int_equal(join(0), IVC_E_SHUTDOWN);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(hv_stats(&w).channels_now, 0);
	assert_int_equal(subscribe_0(), IVC_E_NOENT);
}

static void test_race_detach_during_own_subscribe_leaves_no_member(void **state)
{
	struct world_window at;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &at), 0);
	start_held(0, subscribe_0, IVC_FAKE_MAP, sub);
	start(1, detach_sub);
	until_dying(sub);
	let_go();
	assert_int_equal(join(0), IVC_E_SHUTDOWN);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 2);
	assert_int_equal(hv_stats(&w).memberships_now, 0);
	assert_int_not_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_ACTIVE);
	assert_int_equal(subscribe_third(), 0);
}

/* Both ends die at once. */
static void test_race_detach_of_both_ends_ends(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	assert_int_equal(call_publish(sub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(pub, sub, KEY, 0, NULL), 0);
	start_held(0, detach_pub, IVC_FAKE_UNMAP, NULL);
	start(1, detach_sub);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

/* The publisher takes the memory back while the member is on its way out, and the other way round. */
static void test_race_revoke_while_a_member_leaves(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	start_held(0, unsubscribe_0, IVC_FAKE_UNMAP, sub);
	start(1, revoke_0);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(ivc_fake_views(sub->host, NULL, 0), 0);
}

static void test_race_unsubscribe_while_the_memory_is_taken_back(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	start_held(0, revoke_0, IVC_FAKE_CLOSE, sub);
	start(1, unsubscribe_0);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(ivc_fake_views(sub->host, NULL, 0), 0);
}

static void test_race_detach_of_member_while_the_memory_is_taken_back(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	start_held(0, revoke_0, IVC_FAKE_CLOSE, sub);
	start(1, detach_sub);
	until_dying(sub);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

/* R9: a bell while the target leaves or dies: delivered before, or not at all. */
static void test_race_notify_while_the_target_leaves(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	start_held(0, unsubscribe_0, IVC_FAKE_UNMAP, sub);
	assert_int_equal(call_on(pub, 1, IVC_HC_NOTIFY, pub->id, KEY, IVC_ALL, 0, 0, 0), 0);
	assert_int_equal(call_on(pub, 1, IVC_HC_NOTIFY, pub->id, KEY, sub->id, 0, 0, 0), IVC_E_NOENT);
	let_go();
	assert_int_equal(join(0), 0);
	while (call_look(sub, 0) > 0) {
	}
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN);
}

/* The host ends a parked call while a bell has just won: no unpark comes after park_end has returned. */
static struct ivc_call parked;

static int64_t notify_sub(void)
{
	return call_on(pub, 1, IVC_HC_NOTIFY, pub->id, KEY, sub->id, 0, 0, 0);
}

static int64_t end_park(void)
{
	ivc_hv_park_end(sub->vm, ivc_fake_vcpu(sub->host, 1), &parked, IVC_E_TIMEDOUT);
	return parked.result;
}

static void test_race_park_end_returns_after_the_unpark_that_won(void **state)
{
	uint32_t returned_early;

	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	while (call_look(sub, 0) > 0) {
	}
	assert_int_equal(call_wait(sub, 1, &parked, 0, IVC_FOREVER), IVC_PARKED);
	start_held(0, notify_sub, IVC_FAKE_UNPARK, sub);
	start(1, end_park);
	settle();
	returned_early = ivc_load_acquire_u32(&helpers[1].done);
	let_go();
	assert_int_equal(join(0), 0);
	assert_true(join(1) > 0);
	assert_int_equal(returned_early, 0);
	assert_int_equal(ivc_load_acquire_u32(&ivc_fake_vcpu(sub->host, 1)->unparks), 1);
}

/* R12: two publishes, quota for one. */
static int64_t publish_other(void)
{
	return call_publish_on(pub, 1, KEY + 1, 4096, 0, NULL);
}

static void test_race_quota_for_one_of_two_publishes(void **state)
{
	(void)state;
	assert_int_equal(world_detach(&w, 0), 0);
	w.vm_config.quota.channels = 1;
	assert_int_equal(world_attach(&w, 0, 1), 0);
	start_held(0, publish_0, IVC_FAKE_MAP, pub);
	start(1, publish_other);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), IVC_E_DQUOT);
}

/* ... and when the first one rolls back, the quota is the second one's. */
static void test_race_quota_of_a_rolled_back_publish_is_free_at_once(void **state)
{
	(void)state;
	assert_int_equal(world_detach(&w, 0), 0);
	w.vm_config.quota.channels = 1;
	assert_int_equal(world_attach(&w, 0, 1), 0);
	ivc_fake_fail(w.fake, IVC_FAKE_MAP, 1, 1, IVC_E_NOMEM);
	start_held(0, publish_0, IVC_FAKE_MAP, pub);
	start(1, publish_other);
	settle();
	let_go();
	assert_int_equal(join(0), IVC_E_NOMEM);
	assert_int_equal(join(1), 0);
}

/*
 * A reader (NOTIFY, held inside op bell) may still look at records that die meanwhile: the call that fills the list of
 * the dead waits for it.
 */
static int64_t publish_and_unpublish_many(void)
{
	for (uint64_t key = 0; key < 400; key++) {
		if (call_publish(third, key, 4096, 0, NULL) != 0 || call_unpublish(third, key, 0) != 0) {
			return (int64_t)key + 1;
		}
	}
	return 0;
}

static void test_race_record_is_not_used_again_while_a_reader_may_hold_it(void **state)
{
	bool done;

	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	start_held(0, notify_sub, IVC_FAKE_BELL, sub);
	start(1, publish_and_unpublish_many);
	done = run_until(&helpers[1].done, 1, 300);
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_false(done);
}

/* After a detach no op names the VM: one that is on its way is waited for. */
static void test_race_detach_waits_for_a_bell_that_is_on_its_way(void **state)
{
	bool done;

	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	start_held(0, notify_sub, IVC_FAKE_BELL, sub);
	start(1, detach_sub);
	until_dying(sub);
	done = run_until(&helpers[1].done, 1, 300);
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_false(done);
}

/* Between the look for a seat and taking it: the channel ends, or somebody else sits down. */
static void test_race_unpublish_before_the_seat_is_taken_is_noent(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	start_held(0, subscribe_0, IVC_FAKE_MEM_NEW, NULL);
	assert_int_equal(unpublish_0(), 0);
	let_go();
	assert_int_equal(join(0), IVC_E_NOENT);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(vm_stats(sub).bytes_now, 0);
	assert_int_equal(vm_stats(sub).window_now, 0);
}

static void test_race_last_seat_taken_by_another_is_busy(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	start_held(0, subscribe_0, IVC_FAKE_MEM_NEW, NULL);
	assert_int_equal(subscribe_third(), 0);
	let_go();
	assert_int_equal(join(0), IVC_E_BUSY);
	assert_int_equal(ivc_fake_mems(w.fake), 3);
	assert_int_equal(vm_stats(sub).bytes_now, 0);
}

/* DISABLE against calls that are on their way. */
static void third_is_privileged(void)
{
	assert_int_equal(world_detach(&w, 2), 0);
	w.vm_config.flags = IVC_VM_PRIVILEGED;
	assert_int_equal(world_attach(&w, 2, 3), 0);
	w.vm_config.flags = 0;
}

static int64_t disable(void)
{
	int64_t result = IVC_E_AGAIN;

	while (result == IVC_E_AGAIN) {
		result = call(third, IVC_HC_HYPERVISOR_DISABLE, 0, 0, 0, 0);
		(void)sched_yield();
	}
	return result;
}

static void test_race_disable_waits_for_a_publish_on_its_way(void **state)
{
	(void)state;
	third_is_privileged();
	start_held(0, publish_0, IVC_FAKE_MAP, pub);
	assert_int_equal(call(third, IVC_HC_HYPERVISOR_PREPARE_DISABLE, 0, 0, 0, 0), 0);
	assert_int_equal(call(third, IVC_HC_HYPERVISOR_DISABLE, 0, 0, 0, 0), IVC_E_AGAIN);
	assert_int_equal(ivc_hv_phase(w.hv), IVC_HV_PREPARED);
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(disable(), 0);
	assert_int_equal(hv_stats(&w).channels_now, 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

static void test_race_disable_while_a_member_leaves(void **state)
{
	(void)state;
	third_is_privileged();
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	assert_int_equal(call(third, IVC_HC_HYPERVISOR_PREPARE_DISABLE, 0, 0, 0, 0), 0);
	start_held(0, unsubscribe_0, IVC_FAKE_UNMAP, sub);
	start(1, disable);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_hv_phase(w.hv), IVC_HV_OFF);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

static void test_race_disable_while_a_vm_is_torn_down(void **state)
{
	(void)state;
	third_is_privileged();
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	assert_int_equal(call_publish(pub, KEY + 1, 4096, WORLD_SEATS(2), NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY + 1, 0, NULL), 0);
	assert_int_equal(call(third, IVC_HC_HYPERVISOR_PREPARE_DISABLE, 0, 0, 0, 0), 0);
	start_held(0, detach_pub, IVC_FAKE_UNMAP, pub);
	start(1, disable);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_hv_phase(w.hv), IVC_HV_OFF);
	/* the membership stays, its memory does not, whichever of the two saw the other's end */
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(world_detach(&w, 1), 0);
}

/* Deadlock hunters: two VMs take things from each other at the same time. */
static int64_t cross_a(void)
{
	return call_on(pub, 0, IVC_HC_UNPUBLISH, KEY, IVC_UNPUBLISH_REVOKE, 0, 0, 0, 0);
}

static int64_t cross_b(void)
{
	return call_on(sub, 0, IVC_HC_UNPUBLISH, KEY, IVC_UNPUBLISH_REVOKE, 0, 0, 0, 0);
}

static void test_race_two_vms_revoke_each_other(void **state)
{
	(void)state;
	assert_int_equal(publish_0(), 0);
	assert_int_equal(subscribe_0(), 0);
	assert_int_equal(call_publish(sub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(pub, sub, KEY, 0, NULL), 0);
	start_held(0, cross_a, IVC_FAKE_CLOSE, sub);
	start(1, cross_b);
	settle();
	let_go();
	assert_int_equal(join(0), 0);
	assert_int_equal(join(1), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_race_d6_publish_by_two_vcpus_one_wins),
		T(test_race_d6_publish_that_rolls_back_does_not_refuse_the_other),
		T(test_race_publish_against_subscribe_is_noent_until_it_is_whole),
		T(test_race_d7_unsubscribe_during_subscribe_waits_for_it),
		T(test_race_subscribe_by_two_vcpus_one_wins),
		T(test_race_subscribe_of_two_vms_to_the_last_seat_one_wins),
		T(test_race_unpublish_during_subscribe_is_noent),
		T(test_race_revoke_during_subscribe_is_noent),
		T(test_race_unpublish_while_its_seat_view_is_mapped),
		T(test_race_revoke_while_a_seat_view_is_closed),
		T(test_race_last_unsubscribe_against_publish_again_both_succeed),
		T(test_race_unsubscribe_by_two_vcpus_one_wins),
		T(test_race_unpublish_by_two_vcpus_one_wins),
		T(test_race_unsubscribe_against_detach_of_the_same_vm),
		T(test_race_detach_of_publisher_during_subscribe),
		T(test_race_detach_of_publisher_while_its_seat_view_is_mapped),
		T(test_race_detach_during_own_publish_leaves_no_channel),
		T(test_race_detach_during_own_subscribe_leaves_no_member),
		T(test_race_detach_of_both_ends_ends),
		T(test_race_revoke_while_a_member_leaves),
		T(test_race_unsubscribe_while_the_memory_is_taken_back),
		T(test_race_detach_of_member_while_the_memory_is_taken_back),
		T(test_race_notify_while_the_target_leaves),
		T(test_race_park_end_returns_after_the_unpark_that_won),
		T(test_race_quota_for_one_of_two_publishes),
		T(test_race_quota_of_a_rolled_back_publish_is_free_at_once),
		T(test_race_record_is_not_used_again_while_a_reader_may_hold_it),
		T(test_race_detach_waits_for_a_bell_that_is_on_its_way),
		T(test_race_unpublish_before_the_seat_is_taken_is_noent),
		T(test_race_last_seat_taken_by_another_is_busy),
		T(test_race_disable_waits_for_a_publish_on_its_way),
		T(test_race_disable_while_a_member_leaves),
		T(test_race_disable_while_a_vm_is_torn_down),
		T(test_race_two_vms_revoke_each_other),
	};

	return cmocka_run_group_tests_name("race", tests, NULL, NULL);
}
