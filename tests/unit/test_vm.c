/* SPDX-License-Identifier: MIT */
/*
 * A VM's coming and going: attach, reset, detach, death in every state that it can be in, its window's exits, and the
 * threads that may call.
 */
#include "run.h"
#include "world.h"

#include <pthread.h>
#include <string.h>

#define KEY  UINT64_C(0x6b)
#define KEY2 UINT64_C(0x6c)

static struct world w;
static struct world_vm *const pub = &w.vm[0];
static struct world_vm *const sub = &w.vm[1];
static struct world_vm *const third = &w.vm[2];

static int setup(void **state)
{
	(void)state;
	world_defaults(&w);
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

/* Attaching. */

static int attach(const struct ivc_vm_config *cfg, struct ivc_vm **vm)
{
	return ivc_hv_vm_attach(w.hv, cfg, vm);
}

static void test_vm_attach_with_bad_numbers_is_inval(void **state)
{
	struct ivc_vm_config good = w.vm_config;
	struct ivc_vm_config bad;
	struct ivc_vm *vm;

	(void)state;
	assert_int_equal(world_detach(&w, 3), 0);
	good.id = ivc_vmid(9);
	good.window = ivc_gpa(world_window(3));
	good.window_bytes = 1 << 20;
	good.host = w.vm[3].host;
	bad = good;
	bad.id = ivc_vmid(UINT32_MAX);
	assert_int_equal(attach(&bad, &vm), IVC_E_INVAL);
	bad = good;
	bad.flags = 2;
	assert_int_equal(attach(&bad, &vm), IVC_E_INVAL);
	bad = good;
	bad.window = ivc_gpa(world_window(3) + 8);
	assert_int_equal(attach(&bad, &vm), IVC_E_INVAL);
	bad = good;
	bad.window_bytes = 5000;
	assert_int_equal(attach(&bad, &vm), IVC_E_INVAL);
	bad = good;
	bad.window_bytes = 0;
	assert_int_equal(attach(&bad, &vm), IVC_E_INVAL);
	bad = good;
	bad.window = ivc_gpa(UINT64_MAX - 4095);
	bad.window_bytes = 8192;
	assert_int_equal(attach(&bad, &vm), IVC_E_INVAL);
	bad = good;
	bad.size = 8;
	assert_int_equal(attach(&bad, &vm), IVC_E_INVAL);
	bad = good;
	bad.id = ivc_vmid(1);
	assert_int_equal(attach(&bad, &vm), IVC_E_EXIST);
	assert_int_equal(hv_stats(&w).vms_now, 3);
	assert_int_equal(world_attach(&w, 3, 0xfffffffe), 0); /* the last id */
}

static void test_vm_attach_above_the_limit_is_nospc(void **state)
{
	struct ivc_vm_config cfg = w.vm_config;
	struct ivc_vm *vm;

	(void)state;
	cfg.id = ivc_vmid(77);
	cfg.window = ivc_gpa(world_window(7));
	assert_int_equal(attach(&cfg, &vm), IVC_E_NOSPC);
	assert_int_equal(hv_stats(&w).vms_now, WORLD_VMS);
}

static void test_vm_attach_id_0_is_a_vm_like_any_other(void **state)
{
	(void)state;
	assert_int_equal(world_detach(&w, 0), 0);
	assert_int_equal(world_attach(&w, 0, 0), 0);
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call(pub, IVC_HC_VM_ID, 0, 0, 0, 0), 0);
}

static void test_vm_window_at_the_top_of_the_address_space_works(void **state)
{
	struct ivc_vm_config cfg = w.vm_config;
	struct ivc_fake_ram ram = {.at = 0, .bytes = 65536};
	struct world_vm *vm = &w.vm[3];

	(void)state;
	assert_int_equal(world_detach(&w, 3), 0);
	cfg.id = ivc_vmid(4);
	cfg.window = ivc_gpa(UINT64_MAX - 0xffff);
	cfg.window_bytes = 0x10000;
	vm->host = ivc_fake_vm_new(w.fake, 4, cfg.window.v, cfg.window_bytes, &ram, 1);
	cfg.host = vm->host;
	assert_int_equal(attach(&cfg, &vm->vm), 0);
	for (uint32_t i = 0; i < 40; i++) {
		assert_int_equal(call_publish(vm, KEY, 5 * 4096, WORLD_SEATS(3), NULL), 0);
		assert_int_equal(call_unpublish(vm, KEY, 0), 0);
	}
	assert_int_equal(call(vm, IVC_HC_VM_INFO, UINT64_MAX - 7, 0, 0, 0), IVC_E_FAULT);
}

/* Detaching. */

static void test_vm_detach_takes_no_calls_from_the_first_on(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_publish(pub, KEY2, 4096, 0, NULL), 0);
	assert_int_equal(ivc_hv_vm_detach(pub->vm), IVC_E_AGAIN); /* one channel per call */
	assert_int_equal(call_publish(pub, 3, 4096, 0, NULL), IVC_E_SHUTDOWN);
	assert_int_equal(call_unpublish(pub, KEY, 0), IVC_E_SHUTDOWN);
	assert_int_equal(call(pub, IVC_HC_FEATURES, 0, 0, 0, 0), IVC_E_SHUTDOWN);
	assert_int_equal(call(pub, IVC_HC_PUBLISH, 0, 0, 0, 0), IVC_E_SHUTDOWN); /* before the registers */
	assert_int_equal(call(pub, 99, 0, 0, 0, 0), IVC_E_NOSYS);                /* behind the number */
	assert_int_equal(ivc_hv_vm_reset(pub->vm), IVC_E_SHUTDOWN);
	assert_int_equal(world_detach(&w, 0), 0);
}

static void test_vm_death_of_publisher_without_members_is_an_unpublish(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(world_detach(&w, 0), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(ivc_fake_views(pub->host, NULL, 0), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), IVC_E_NOENT);
}

static void test_vm_death_of_publisher_shows_dead_and_keeps_the_data(void **state)
{
	struct world_window at;
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_true(ivc_fake_fill(pub->host, page_data_at(pub, at.base), 4096, WORLD_CANARY));
	while (call_look(sub, 0) > 0) {
	}
	assert_int_equal(world_detach(&w, 0), 0);
	assert_int_equal(page_state(sub, seen.base), IVC_CHANNEL_DEAD);
	assert_true(ivc_fake_filled(sub->host, page_data_at(sub, seen.base), 4096, WORLD_CANARY));
	assert_true(call_look(sub, 0) > 0);
	assert_int_equal(call_look(sub, 0), IVC_E_AGAIN); /* told once */
	assert_int_equal(call_notify(sub, pub, KEY, IVC_ALL), IVC_E_NOENT);
	assert_int_equal(vm_stats(sub).bytes_now, 3 * 4096);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

static void test_vm_death_of_publisher_with_the_revoke_bit_takes_the_memory(void **state)
{
	struct world_window seen;
	uint64_t data;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED | IVC_LAYOUT_DEATH_REVOKE, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	data = page_data_at(sub, seen.base);
	assert_int_equal(world_detach(&w, 0), 0);
	assert_true(page_state(sub, seen.base) == IVC_CHANNEL_REVOKED || page_state(sub, seen.base) == 0);
	assert_int_equal(load64(sub, data), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
}

static void test_vm_death_of_member_shows_dead_in_its_seat(void **state)
{
	struct world_window at;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	while (call_look(pub, 0) > 0) {
	}
	assert_int_equal(world_detach(&w, 1), 0);
	assert_int_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_DEAD);
	assert_int_equal(load64(pub, page_seat_at(pub, at.base, 0)), 0); /* backed, but not with its memory */
	assert_true(call_look(pub, 0) > 0);
	assert_int_equal(ivc_fake_mems(w.fake), 2);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, NULL), 0);
	assert_int_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_ACTIVE);
}

static void test_vm_death_of_revoked_member_frees_its_range(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_REVOKE), 0);
	assert_int_equal(world_detach(&w, 1), 0);
	assert_int_equal(ivc_fake_views(sub->host, NULL, 0), 0);
	assert_int_equal(hv_stats(&w).memberships_now, 0);
}

static void test_vm_death_with_everything_held_leaves_nothing(void **state)
{
	(void)state;
	for (uint64_t key = 0; key < 8; key++) {
		assert_int_equal(call_publish(pub, key, 4096 * (key + 1), key % 2 ? WORLD_SEATS(3) : 0, NULL), 0);
		assert_int_equal(call_publish(sub, key, 4096 * (key + 1), key % 2 ? WORLD_SEATS(3) : 0, NULL), 0);
		assert_int_equal(call_subscribe(pub, sub, key, 0, NULL), 0);
		assert_int_equal(call_subscribe(sub, pub, key, 0, NULL), 0);
	}
	assert_int_equal(world_detach(&w, 0), 0);
	assert_clean(world_check(&w));
	assert_int_equal(hv_stats(&w).channels_now, 8);
	assert_int_equal(world_detach(&w, 1), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(hv_stats(&w).bytes_now, 0);
	assert_int_equal(ivc_fake_views(pub->host, NULL, 0), 0);
	assert_int_equal(ivc_fake_views(sub->host, NULL, 0), 0);
}

/* The host's VM is gone first: unmap and close find nothing to do, which is no failure. */
static void test_vm_death_after_the_hosts_vm_is_gone_is_clean(void **state)
{
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(call_publish(sub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(pub, sub, KEY, 0, NULL), 0);
	ivc_fake_vm_kill(pub->host);
	/* before the registry hears of it, a peer may still join: its view in the dead VM is refused */
	assert_int_equal(call_subscribe(third, pub, KEY, 0, NULL), 0);
	assert_int_equal(world_detach(&w, 0), 0);
	assert_int_equal(page_state(sub, seen.base), IVC_CHANNEL_DEAD);
	assert_int_equal(hv_stats(&w).quarantined_bytes, 0);
	assert_int_equal(call_unsubscribe(third, pub, KEY), 0);
}

static void test_vm_death_while_a_peer_waits_for_its_view(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), NULL), 0);
	ivc_fake_later(pub->host, true);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	ivc_fake_vm_kill(pub->host);
	assert_int_equal(world_detach(&w, 0), 0); /* the host answers what it owes first */
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

static void test_vm_death_of_member_while_its_view_is_coming(void **state)
{
	struct world_window at;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), &at), 0);
	ivc_fake_later(pub->host, true);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(ivc_hv_vm_detach(sub->vm), IVC_E_AGAIN);
	assert_int_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_DEAD);
	assert_int_equal(world_detach(&w, 1), 0);
	while (view_finish(pub, 0) != 0) {
	}
	assert_int_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_DEAD);
	assert_int_equal(ivc_fake_mems(w.fake), 2);
}

static void test_vm_id_used_again_inherits_nothing(void **state)
{
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(call_publish(sub, KEY2, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(pub, sub, KEY2, 0, NULL), 0);
	assert_int_equal(world_detach(&w, 0), 0);
	assert_int_equal(world_attach(&w, 0, 1), 0);
	assert_int_equal(vm_stats(pub).bytes_now, 0);
	assert_int_equal(vm_stats(pub).calls, 0);
	assert_int_equal(call_unpublish(pub, KEY, 0), IVC_E_NOENT);
	assert_int_equal(call_unsubscribe(pub, sub, KEY2), IVC_E_NOENT);
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(page_state(sub, seen.base), IVC_CHANNEL_DEAD);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), IVC_E_EXIST); /* the old membership has the name */
	assert_int_equal(call_notify(sub, pub, KEY, IVC_ALL), IVC_E_NOENT);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
}

static void test_vm_attach_detach_many_times_leaves_nothing(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 40; i++) {
		assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
		assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
		assert_int_equal(world_detach(&w, i % 2), 0);
		assert_int_equal(world_attach(&w, i % 2, 1 + i % 2), 0);
		assert_int_equal(world_detach(&w, 1 - i % 2), 0);
		assert_int_equal(world_attach(&w, 1 - i % 2, 2 - i % 2), 0);
		assert_int_equal(ivc_fake_mems(w.fake), 0);
	}
	assert_int_equal(hv_stats(&w).vms_now, WORLD_VMS);
}

/* Reset. */

static void test_vm_reset_ends_everything_and_the_vm_lives_on(void **state)
{
	struct world_window at;
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(call_publish(sub, KEY2, 4096, WORLD_SECTIONED, &at), 0);
	assert_int_equal(call_subscribe(pub, sub, KEY2, 0, NULL), 0);
	assert_int_equal(call(pub, IVC_HC_RESET, 0, 0, 0, 0), IVC_E_AGAIN); /* one channel per call */
	assert_int_equal(call_reset(pub), 0);
	assert_int_equal(page_state(sub, seen.base), IVC_CHANNEL_DEAD);
	assert_int_equal(page_seat_state(sub, at.base, 0), IVC_SEAT_DEAD);
	assert_int_equal(vm_stats(pub).channels_now, 0);
	assert_int_equal(vm_stats(pub).memberships_now, 0);
	assert_int_equal(vm_stats(pub).bytes_now, 0);
	assert_int_equal(vm_stats(pub).window_now, 0);
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_reset(pub), 0);
	assert_int_equal(call_reset(pub), 0); /* nothing to do is no error */
}

static void test_vm_reset_by_the_embedder_is_the_same(void **state)
{
	struct world_window seen;
	int err = IVC_E_AGAIN;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED | IVC_LAYOUT_DEATH_REVOKE, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	while (err == IVC_E_AGAIN) {
		err = ivc_hv_vm_reset(pub->vm);
	}
	assert_int_equal(err, 0);
	assert_true(page_state(sub, seen.base) == IVC_CHANNEL_REVOKED || page_state(sub, seen.base) == 0);
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
}

/* Accesses inside the window that no view answers. */

static void test_vm_window_access_is_answered_and_counted(void **state)
{
	uint8_t data[64];
	uint8_t ones[64];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	memset(data, 0, sizeof(data));
	assert_true(ivc_hv_window_access(pub->vm, ivc_gpa(world_window(0)), false, data, 8));
	assert_memory_equal(data, ones, 8);
	assert_int_equal(data[8], 0);
	assert_true(ivc_hv_window_access(pub->vm, ivc_gpa(world_window(0) + WORLD_WINDOW_BYTES - 64), false, data, 64));
	assert_memory_equal(data, ones, 64);
	assert_true(ivc_hv_window_access(pub->vm, ivc_gpa(world_window(0) + 4096), true, data, 4));
	memset(data, 7, sizeof(data));
	assert_false(ivc_hv_window_access(pub->vm, ivc_gpa(world_window(0) - 8), false, data, 8));
	assert_false(ivc_hv_window_access(pub->vm, ivc_gpa(world_window(0) + WORLD_WINDOW_BYTES), true, data, 8));
	assert_false(ivc_hv_window_access(pub->vm, ivc_gpa(0), false, data, 8));
	assert_false(ivc_hv_window_access(pub->vm, ivc_gpa(UINT64_MAX), false, data, 8));
	assert_int_equal(data[0], 7);
	assert_int_equal(vm_stats(pub).stray_reads, 2);
	assert_int_equal(vm_stats(pub).stray_writes, 1);
}

/* Threads. */

struct outcome {
	int64_t hypercall;
	int attach;
	int detach;
	int each;
	int reset;
};

static bool each_never(void *arg, const struct ivc_channel_info *info)
{
	(void)info;
	*(bool *)arg = true;
	return true;
}

static void *unregistered(void *arg)
{
	struct outcome *out = arg;
	struct ivc_vm_config cfg = w.vm_config;
	struct ivc_vm *vm = NULL;
	bool called = false;

	cfg.id = ivc_vmid(50);
	cfg.window = ivc_gpa(world_window(9));
	out->hypercall = call(pub, IVC_HC_FEATURES, 0, 0, 0, 0);
	out->attach = ivc_hv_vm_attach(w.hv, &cfg, &vm);
	out->detach = ivc_hv_vm_detach(pub->vm);
	out->reset = ivc_hv_vm_reset(pub->vm);
	out->each = ivc_hv_each(w.hv, each_never, &called);
	return NULL;
}

static void test_vm_call_from_unregistered_thread_is_perm(void **state)
{
	struct outcome out = {0};
	pthread_t thread;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, unregistered, &out), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(out.hypercall, IVC_E_PERM);
	assert_int_equal(out.attach, IVC_E_PERM);
	assert_int_equal(out.detach, IVC_E_PERM);
	assert_int_equal(out.reset, IVC_E_PERM);
	assert_int_equal(out.each, IVC_E_PERM);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
}

static void *nested(void *arg)
{
	int64_t *result = arg;

	result[0] = ivc_hv_thread_enter();
	result[1] = ivc_hv_thread_enter();
	ivc_hv_thread_leave();
	result[2] = call(pub, IVC_HC_VM_ID, 0, 0, 0, 0);
	ivc_hv_thread_leave();
	result[3] = call(pub, IVC_HC_VM_ID, 0, 0, 0, 0);
	return NULL;
}

static void test_vm_thread_enter_nests(void **state)
{
	int64_t result[4] = {-1, -1, -1, -1};
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, nested, result), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(result[0], 0);
	assert_int_equal(result[1], 0);
	assert_int_equal(result[2], 1);
	assert_int_equal(result[3], IVC_E_PERM);
}

/* A host that comes back into the core from one of its ops is told so, whatever it tries. */
struct reentry {
	uint32_t tries;
	uint32_t deadlk;
	int64_t other; /* an answer that was not IVC_E_DEADLK */
	bool embedder; /* try the embedder's functions, not hypercalls */
};

static void answer(struct reentry *r, int64_t got)
{
	r->tries++;
	if (got == IVC_E_DEADLK) {
		r->deadlk++;
	} else {
		r->other = got;
	}
}

static void reenter(void *arg, enum ivc_fake_op op, struct ivc_fake_vm *host)
{
	struct reentry *r = arg;

	(void)host;
	if (op == IVC_FAKE_RELAX) {
		return;
	}
	if (!r->embedder) {
		answer(r, call(third, IVC_HC_FEATURES, 0, 0, 0, 0));
		answer(r, call(pub, IVC_HC_UNPUBLISH, KEY, 0, 0, 0));
		answer(r, call(pub, 99, 0, 0, 0, 0));
	} else {
		answer(r, ivc_hv_vm_reset(pub->vm));
		answer(r, ivc_hv_vm_detach(third->vm));
	}
}

static void reentry_round(struct reentry *r)
{
	ivc_fake_hook(w.fake, reenter, r);
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_unpublish(pub, KEY, 1), 0);
	assert_int_equal(call(pub, IVC_HC_VM_INFO, 0, 0, 0, 0), 0);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_true(r->tries > 20);
	assert_int_equal(r->other, 0);
	assert_int_equal(r->deadlk, r->tries);
}

static void test_vm_hypercall_from_inside_an_op_is_deadlk(void **state)
{
	struct reentry r = {0};

	(void)state;
	reentry_round(&r);
}

static void test_vm_reset_and_detach_from_inside_an_op_are_deadlk(void **state)
{
	struct reentry r = {.embedder = true};

	(void)state;
	reentry_round(&r);
}

static void test_vm_hypercall_from_inside_an_op_of_detach_is_deadlk(void **state)
{
	struct reentry r = {0};

	(void)state;
	assert_int_equal(call_publish(sub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(third, sub, KEY, 0, NULL), 0);
	ivc_fake_hook(w.fake, reenter, &r);
	assert_int_equal(world_detach(&w, 1), 0);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_true(r.tries > 0);
	assert_int_equal(r.other, 0);
	assert_int_equal(world_attach(&w, 1, 2), 0);
}

static void test_vm_guest_can_cause_no_log_line(void **state)
{
	const uint64_t before = ivc_fake_count(w.fake, IVC_FAKE_LOG);

	(void)state;
	for (uint64_t nr = 0; nr < 400; nr++) {
		for (uint64_t a = 0; a < 3; a++) {
			(void)call(pub, nr % 2 ? IVC_HC_FEATURES + nr / 8 : nr / 8, a, a * 8, 0, 0);
		}
	}
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_reset(pub), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_LOG), before);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_vm_attach_with_bad_numbers_is_inval),
		T(test_vm_attach_above_the_limit_is_nospc),
		T(test_vm_attach_id_0_is_a_vm_like_any_other),
		T(test_vm_window_at_the_top_of_the_address_space_works),
		T(test_vm_detach_takes_no_calls_from_the_first_on),
		T(test_vm_death_of_publisher_without_members_is_an_unpublish),
		T(test_vm_death_of_publisher_shows_dead_and_keeps_the_data),
		T(test_vm_death_of_publisher_with_the_revoke_bit_takes_the_memory),
		T(test_vm_death_of_member_shows_dead_in_its_seat),
		T(test_vm_death_of_revoked_member_frees_its_range),
		T(test_vm_death_with_everything_held_leaves_nothing),
		T(test_vm_death_after_the_hosts_vm_is_gone_is_clean),
		T(test_vm_death_while_a_peer_waits_for_its_view),
		T(test_vm_death_of_member_while_its_view_is_coming),
		T(test_vm_id_used_again_inherits_nothing),
		T(test_vm_attach_detach_many_times_leaves_nothing),
		T(test_vm_reset_ends_everything_and_the_vm_lives_on),
		T(test_vm_reset_by_the_embedder_is_the_same),
		T(test_vm_window_access_is_answered_and_counted),
		T(test_vm_call_from_unregistered_thread_is_perm),
		T(test_vm_thread_enter_nests),
		T(test_vm_hypercall_from_inside_an_op_is_deadlk),
		T(test_vm_reset_and_detach_from_inside_an_op_are_deadlk),
		T(test_vm_hypercall_from_inside_an_op_of_detach_is_deadlk),
		T(test_vm_guest_can_cause_no_log_line),
	};

	return cmocka_run_group_tests_name("vm", tests, NULL, NULL);
}
