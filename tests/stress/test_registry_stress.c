/* SPDX-License-Identifier: MIT */
/*
 * Threads that race in the registry, with yields at every op of the host. Each thread knows what it alone decides and
 * records what contradicts it; frames carry the handle of their channel, so a frame that two channels share shows.
 *
 * IVC_STRESS_MS sets how long all of it takes, IVC_SEED repeats the random choices (not the schedule).
 */
#include "run.h"
#include "world.h"

#include <ivc/atomic.h>

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define KEYS    3u
#define THREADS 4u

static struct world w;
static struct run_gate gate;
static uint32_t stop; /* atomic */

struct worker {
	pthread_t thread;
	uint64_t rng;
	struct world_vm *vm;
	uint32_t vcpu;
	bool alone; /* no other thread makes control calls of this VM */
	bool dies;  /* detaches and attaches its VM now and then */
	/* what it knows if it is alone */
	bool published[KEYS];
	bool joined[WORLD_VMS][KEYS];
	struct world_window own[KEYS];
	/* what it saw */
	uint64_t calls;
	uint64_t succeeded;
	uint64_t parked;
	uint32_t wrong;
	char first[120];
	struct ivc_call call;
};

static struct worker workers[THREADS];

static void note(struct worker *me, const char *what, int64_t result)
{
	if (me->wrong++ == 0) {
		(void)snprintf(me->first, sizeof(me->first), "vm %u vcpu %u: %s: %" PRId64, me->vm->id, me->vcpu, what,
			       result);
	}
}

static _Thread_local uint64_t yield_rng;

static void yield_hook(void *arg, enum ivc_fake_op op, struct ivc_fake_vm *vm)
{
	(void)arg;
	(void)vm;
	if (op != IVC_FAKE_RELAX && yield_rng && run_below(&yield_rng, 4) == 0) {
		for (uint64_t i = run_below(&yield_rng, 4); i > 0; i--) {
			(void)sched_yield();
		}
	}
}

static bool one_of(int64_t result, const int64_t *allowed, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (result == allowed[i]) {
			return true;
		}
	}
	return false;
}

#define ALLOWED(result, ...)                                                                                           \
	one_of(result, (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static void do_publish(struct worker *me)
{
	const uint64_t key = run_below(&me->rng, KEYS);
	const uint64_t layout = WORLD_SEATS(1 + run_below(&me->rng, 3)) |
				(run_below(&me->rng, 2) ? IVC_LAYOUT_DEATH_REVOKE : 0) |
				(run_below(&me->rng, 4) ? IVC_LAYOUT_SLEEPS : 0);
	struct world_window at;
	const int64_t got = call_publish_on(me->vm, me->vcpu, key, 4096, layout, &at);

	if (me->alone ? got != (me->published[key] ? IVC_E_EXIST : 0) : !ALLOWED(got, 0, IVC_E_EXIST)) {
		note(me, "publish", got);
	}
	if (got != 0) {
		return;
	}
	me->succeeded++;
	if (me->alone) {
		const uint64_t handle = page_handle(me->vm, at.base);

		me->published[key] = true;
		me->own[key] = at;
		if (!ivc_fake_filled(me->vm->host, page_data_at(me->vm, at.base), 4096, 0)) {
			note(me, "publish: memory is not zero", (int64_t)key);
		}
		(void)ivc_fake_fill(me->vm->host, page_data_at(me->vm, at.base), 4096, handle);
	}
}

static void do_unpublish(struct worker *me)
{
	const uint64_t key = run_below(&me->rng, KEYS);
	const int64_t got = call_on(me->vm, me->vcpu, IVC_HC_UNPUBLISH, key, run_below(&me->rng, 2), 0, 0, 0, 0);

	if (me->alone && me->published[key]) {
		const uint64_t data = me->own[key].base + WORLD_GRANULE;
		uint64_t value;

		if (ivc_fake_load(me->vm->host, data, 8, &value)) {
			note(me, "unpublish: the window is still there", (int64_t)value);
		}
	}
	if (me->alone ? got != (me->published[key] ? 0 : IVC_E_NOENT) : !ALLOWED(got, 0, IVC_E_NOENT)) {
		note(me, "unpublish", got);
	}
	me->published[key] = false;
	me->succeeded += got == 0;
}

/* What a member reads is its channel's, or nothing any more: the handle in the page, and the same one in the data. */
static void look_inside(struct worker *me, const struct world_window *at)
{
	const uint64_t handle = page_handle(me->vm, at->base);
	const uint64_t data = load64(me->vm, at->base + WORLD_GRANULE);
	const uint64_t seat = at->base + (2 + at->seat) * WORLD_GRANULE;
	const uint64_t later = page_handle(me->vm, at->base);
	uint64_t back;

	if (data != 0 && data != handle && handle != 0) {
		note(me, "a frame of another channel", (int64_t)data);
	}
	if (later != handle && later != 0) {
		note(me, "a page that changed its handle", (int64_t)later);
	}
	back = load64(me->vm, seat);
	if (back != 0) {
		note(me, "a seat section that is not fresh", (int64_t)back);
	}
	if (!ivc_fake_store(me->vm->host, seat, 8, handle | 1)) {
		note(me, "a seat section that cannot be written", 0);
	}
	back = load64(me->vm, seat);
	if (back != 0 && back != (handle | 1)) {
		note(me, "a seat section that somebody else writes", (int64_t)back);
	}
}

static void do_subscribe(struct worker *me)
{
	const uint32_t publisher = (uint32_t)run_below(&me->rng, WORLD_VMS);
	const uint64_t key = run_below(&me->rng, KEYS);
	bool *joined = &me->joined[publisher][key];
	struct world_window at;
	int64_t got;

	if (&w.vm[publisher] == me->vm) {
		return;
	}
	got = call_subscribe_on(me->vm, me->vcpu, publisher + 1, key, run_below(&me->rng, 2), &at);
	if (me->alone && *joined ? got != IVC_E_EXIST
	    : me->alone          ? !ALLOWED(got, 0, IVC_E_NOENT, IVC_E_BUSY)
				 : !ALLOWED(got, 0, IVC_E_NOENT, IVC_E_BUSY, IVC_E_EXIST)) {
		note(me, "subscribe", got);
	}
	if (got == 0) {
		me->succeeded++;
		*joined = true;
		if (me->alone) {
			look_inside(me, &at);
		}
	}
}

static void do_unsubscribe(struct worker *me)
{
	const uint32_t publisher = (uint32_t)run_below(&me->rng, WORLD_VMS);
	const uint64_t key = run_below(&me->rng, KEYS);
	const int64_t got = call_on(me->vm, me->vcpu, IVC_HC_UNSUBSCRIBE, publisher + 1, key, 0, 0, 0, 0);

	if (me->alone ? got != (me->joined[publisher][key] ? 0 : IVC_E_NOENT) : !ALLOWED(got, 0, IVC_E_NOENT)) {
		note(me, "unsubscribe", got);
	}
	me->joined[publisher][key] = false;
	me->succeeded += got == 0;
}

static void do_notify(struct worker *me)
{
	const uint64_t target = run_below(&me->rng, WORLD_VMS + 1);
	const int64_t got = call_on(me->vm, me->vcpu, IVC_HC_NOTIFY, 1 + run_below(&me->rng, WORLD_VMS),
				    run_below(&me->rng, KEYS), target == WORLD_VMS ? IVC_ALL : target + 1, 0, 0, 0);

	if (!ALLOWED(got, 0, IVC_E_NOENT)) {
		note(me, "notify", got);
	}
}

/* Values that are in use, that were, and that never are: whom they ring changes all the time. */
static void do_doorbell(struct worker *me)
{
	const uint32_t low = run_below(&me->rng, 2) ? 0xff : (uint32_t)run_below(&me->rng, 4);

	(void)store_doorbell(me->vm, (uint32_t)run_below(&me->rng, 2 * KEYS * WORLD_VMS) << 8 | low);
}

/* A parked call ends exactly once: by an unpark, or by us. */
static void do_wait(struct worker *me)
{
	struct ivc_fake_vcpu *cpu = ivc_fake_vcpu(me->vm->host, me->vcpu);
	const uint32_t before = ivc_load_acquire_u32(&cpu->unparks);
	const uint64_t timeout = run_below(&me->rng, 3) ? 0 : IVC_FOREVER;
	uint32_t unparks;

	if (call_wait(me->vm, me->vcpu, &me->call, 0, timeout) == IVC_PARKED) {
		me->parked++;
		for (uint64_t i = run_below(&me->rng, 40); i > 0 && ivc_load_acquire_u32(&cpu->unparks) == before;
		     i--) {
			(void)sched_yield();
		}
		ivc_hv_park_end(me->vm->vm, cpu, &me->call, IVC_E_TIMEDOUT);
		unparks = ivc_load_acquire_u32(&cpu->unparks) - before;
		if (unparks != (me->call.result == IVC_E_TIMEDOUT ? 0u : 1u)) {
			note(me, "unparks of one wait", unparks);
		}
	} else if (ivc_load_acquire_u32(&cpu->unparks) != before) {
		note(me, "unpark of a call that was not parked", 0);
	}
	if (me->call.result <= 0 && !ALLOWED(me->call.result, IVC_E_AGAIN, IVC_E_TIMEDOUT)) {
		note(me, "wait", me->call.result);
	}
}

static void do_end(struct worker *me)
{
	const int64_t got = call_on(me->vm, me->vcpu, IVC_HC_RESET, 0, 0, 0, 0, 0, 0);

	if (!ALLOWED(got, 0, IVC_E_AGAIN)) {
		note(me, "reset", got);
	}
	if (me->alone && got == IVC_E_AGAIN) {
		while (call_on(me->vm, me->vcpu, IVC_HC_RESET, 0, 0, 0, 0, 0, 0) == IVC_E_AGAIN) {
		}
	}
	memset(me->published, 0, sizeof(me->published));
	memset(me->joined, 0, sizeof(me->joined));
}

/* The VM goes and comes back under its id. The fake host's VM is the same one: only the registry's life is new. */
static void do_die(struct worker *me)
{
	struct ivc_vm_config cfg = w.vm_config;
	int err = IVC_E_AGAIN;

	while (err == IVC_E_AGAIN) {
		err = ivc_hv_vm_detach(me->vm->vm);
		if (err == IVC_E_AGAIN) {
			(void)sched_yield();
		}
	}
	if (err == 0 && ivc_fake_views(me->vm->host, NULL, 0) != 0) {
		note(me, "a detached VM has views", 0);
	}
	if (err == 0 && ivc_fake_doorbells(w.fake, me->vm->host) != 0) {
		note(me, "a detached VM rings, or is rung", 0);
	}
	cfg.id = ivc_vmid(me->vm->id);
	cfg.window = ivc_gpa(world_window(me->vm->id - 1));
	cfg.host = me->vm->host;
	err = err ? err : ivc_hv_vm_attach(w.hv, &cfg, &me->vm->vm);
	if (err) {
		note(me, "detach or attach", err);
		ivc_store_release_u32(&stop, 1);
	}
	memset(me->published, 0, sizeof(me->published));
	memset(me->joined, 0, sizeof(me->joined));
}

static void *worker_run(void *arg)
{
	struct worker *me = arg;

	if (ivc_hv_thread_enter() != 0) {
		note(me, "thread_enter", 0);
	}
	yield_rng = me->rng ^ 0x5555;
	run_gate_pass(&gate);
	while (!ivc_load_acquire_u32(&stop)) {
		const uint64_t what = run_below(&me->rng, 200);

		me->calls++;
		if (what < 40) {
			do_publish(me);
		} else if (what < 90) {
			do_subscribe(me);
		} else if (what < 115) {
			do_unpublish(me);
		} else if (what < 145) {
			do_unsubscribe(me);
		} else if (what < 158) {
			do_notify(me);
		} else if (what < 170) {
			do_doorbell(me);
		} else if (what < 196) {
			do_wait(me);
		} else if (what < 198 || !me->dies) {
			do_end(me);
		} else {
			do_die(me);
		}
	}
	yield_rng = 0;
	ivc_hv_thread_leave();
	return NULL;
}

/* The host that answers late, and the embedder's tool that looks at everything. */
static void *host_run(void *arg)
{
	uint32_t *wrong = arg;
	uint64_t rng = 77;

	*wrong += ivc_hv_thread_enter() != 0;
	run_gate_pass(&gate);
	while (!ivc_load_acquire_u32(&stop)) {
		struct world_vm *vm = &w.vm[run_below(&rng, WORLD_VMS)];

		ivc_fake_later(vm->host, run_below(&rng, 2));
		(void)view_finish(vm, 0);
		(void)sched_yield();
	}
	ivc_hv_thread_leave();
	return NULL;
}

static bool look_at(void *arg, const struct ivc_channel_info *info)
{
	uint32_t *wrong = arg;

	*wrong += info->seats == 0 || info->members > info->seats || info->windows > info->members + 1 ||
		  info->state < IVC_CHANNEL_LIVE || info->state > IVC_CHANNEL_REVOKED || info->handle.v == 0;
	return true;
}

static void *watch_run(void *arg)
{
	uint32_t *wrong = arg;
	struct ivc_hv_stats stats;

	*wrong += ivc_hv_thread_enter() != 0;
	run_gate_pass(&gate);
	while (!ivc_load_acquire_u32(&stop)) {
		(void)ivc_hv_each(w.hv, look_at, wrong);
		ivc_hv_stats(w.hv, &stats);
		*wrong += stats.vms_now > WORLD_VMS;
		(void)sched_yield();
	}
	ivc_hv_thread_leave();
	return NULL;
}

/* @vcpus threads on each of @vms VMs. */
static void race(const char *name, uint32_t vms, uint32_t vcpus, bool dies, bool late)
{
	const uint64_t ms = run_number("IVC_STRESS_MS", 2000) / 5;
	uint64_t seed = run_seed(name);
	uint64_t end;
	uint64_t calls = 0;
	uint64_t succeeded = 0;
	uint64_t parked = 0;
	uint32_t side_wrong[2] = {0};
	pthread_t side[2];
	const uint32_t count = vms * vcpus;

	world_defaults(&w);
	w.vm_config.vector = WORLD_VECTOR;
	w.vm_config.doorbell = WORLD_DOORBELL;
	assert_int_equal(world_open(&w), 0);
	ivc_fake_hook(w.fake, yield_hook, NULL);
	ivc_store_release_u32(&stop, 0);
	gate = (struct run_gate){.count = count + 1 + (late ? 2 : 0)};
	for (uint32_t i = 0; i < count; i++) {
		workers[i] = (struct worker){.rng = run_random(&seed) | 1,
					     .vm = &w.vm[i / vcpus],
					     .vcpu = i % vcpus,
					     .alone = vcpus == 1,
					     .dies = dies};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]), 0);
	}
	if (late) {
		assert_int_equal(pthread_create(&side[0], NULL, host_run, &side_wrong[0]), 0);
		assert_int_equal(pthread_create(&side[1], NULL, watch_run, &side_wrong[1]), 0);
	}
	run_gate_pass(&gate);
	end = run_now_ns() + ms * 1000000;
	while (run_now_ns() < end && !ivc_load_acquire_u32(&stop)) {
		const struct timespec nap = {.tv_nsec = 1000000};

		(void)nanosleep(&nap, NULL);
	}
	ivc_store_release_u32(&stop, 1);
	if (late) {
		/* Whoever waits for an answer gets it: the workers may be inside a call. */
		assert_int_equal(pthread_join(side[0], NULL), 0);
		for (uint32_t i = 0; i < WORLD_VMS; i++) {
			ivc_fake_later(w.vm[i].host, false);
		}
		for (uint32_t i = 0; i < WORLD_VMS; i++) {
			(void)view_finish(&w.vm[i], 0);
		}
		assert_int_equal(pthread_join(side[1], NULL), 0);
	}
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
		calls += workers[i].calls;
		succeeded += workers[i].succeeded;
		parked += workers[i].parked;
	}
	ivc_fake_hook(w.fake, NULL, NULL);
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		(void)view_finish(&w.vm[i], 0);
	}
	printf("%s: %" PRIu64 " calls, %" PRIu64 " changes, %" PRIu64 " parked\n", name, calls, succeeded, parked);
	for (uint32_t i = 0; i < count; i++) {
		if (workers[i].wrong) {
			fail_msg("%u wrong, first: %s", workers[i].wrong, workers[i].first);
		}
	}
	assert_int_equal(side_wrong[0] + side_wrong[1], 0);
	assert_clean(world_check(&w));
	assert_clean(world_close(&w));
}

static void test_registry_two_vms_race_cleanly(void **state)
{
	(void)state;
	race("two vms", 2, 1, false, false);
}

static void test_registry_two_vcpus_of_one_vm_race_cleanly(void **state)
{
	(void)state;
	race("two vms of two vcpus", 2, 2, false, false);
}

static void test_registry_late_views_race_cleanly(void **state)
{
	(void)state;
	race("late views", 2, 1, false, true);
}

static void test_registry_dying_vms_race_cleanly(void **state)
{
	(void)state;
	race("dying vms", 3, 1, true, false);
}

static void test_registry_dying_vms_and_late_views_race_cleanly(void **state)
{
	(void)state;
	race("dying vms, late views", 3, 1, true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registry_two_vms_race_cleanly),
		cmocka_unit_test(test_registry_two_vcpus_of_one_vm_race_cleanly),
		cmocka_unit_test(test_registry_late_views_race_cleanly),
		cmocka_unit_test(test_registry_dying_vms_race_cleanly),
		cmocka_unit_test(test_registry_dying_vms_and_late_views_race_cleanly),
	};

	return cmocka_run_group_tests_name("registry_stress", tests, NULL, NULL);
}
