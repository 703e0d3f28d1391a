/* SPDX-License-Identifier: MIT */
/*
 * Seats: which one is taken, what it shows and to whom, late views, and the fence that a sleeper brings.
 */
#include "run.h"
#include "world.h"

#include <string.h>

#define KEY UINT64_C(0x6b6579)

static struct world w;
static struct world_vm *const pub = &w.vm[0];
static struct world_vm *const sub = &w.vm[1];
static struct world_vm *const third = &w.vm[2];
static struct world_vm *const stranger = &w.vm[3];

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

static void test_seat_lowest_free_one_is_taken(void **state)
{
	struct world_window at;
	struct world_window seen[3];

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(3), &at), 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(call_subscribe(&w.vm[1 + i], pub, KEY, 0, &seen[i]), 0);
		assert_int_equal(seen[i].seat, i);
		assert_int_equal(page_seat_state(pub, at.base, i), IVC_SEAT_ACTIVE);
		assert_int_equal(load32(pub, at.base + 128 + 16 * i), w.vm[1 + i].id);
	}
	assert_int_equal(call_unsubscribe(&w.vm[2], pub, KEY), 0);
	assert_int_equal(call_unsubscribe(&w.vm[1], pub, KEY), 0);
	assert_int_equal(call_subscribe(&w.vm[2], pub, KEY, 0, &seen[0]), 0);
	assert_int_equal(seen[0].seat, 0);
	assert_int_equal(call_subscribe(&w.vm[1], pub, KEY, 0, &seen[1]), 0);
	assert_int_equal(seen[1].seat, 1);
}

static void test_seat_all_taken_is_busy(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_subscribe(stranger, pub, KEY, 0, NULL), IVC_E_BUSY);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_subscribe(stranger, pub, KEY, 0, NULL), 0);
}

static void test_seat_taken_again_is_fresh_and_has_a_new_epoch(void **state)
{
	struct world_window at;
	struct world_window seen;
	uint64_t epoch;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_true(ivc_fake_fill(sub->host, page_seat_at(sub, seen.base, 0), 4096, WORLD_CANARY));
	epoch = page_seat_epoch(pub, at.base, 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	/* what the publisher sees of a seat that left stays backed */
	assert_int_equal(load64(pub, page_seat_at(pub, at.base, 0)), 0);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, &seen), 0);
	assert_true(ivc_fake_filled(third->host, page_seat_at(third, seen.base, 0), 4096, 0));
	assert_true(ivc_fake_filled(pub->host, page_seat_at(pub, at.base, 0), 4096, 0));
	assert_true(page_seat_epoch(pub, at.base, 0) != epoch);
	assert_true(ivc_fake_store(third->host, page_seat_at(third, seen.base, 0), 8, 3));
	assert_int_equal(load64(pub, page_seat_at(pub, at.base, 0)), 3);
}

static void test_seat_sequence_is_even_and_moves_with_membership(void **state)
{
	struct world_window at;
	uint32_t sequence;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), &at), 0);
	sequence = page_sequence(pub, at.base);
	assert_int_equal(sequence % 2, 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_not_equal(page_sequence(pub, at.base), sequence);
	assert_int_equal(page_sequence(pub, at.base) % 2, 0);
	sequence = page_sequence(pub, at.base);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_not_equal(page_sequence(pub, at.base), sequence);
	assert_int_equal(page_sequence(pub, at.base) % 2, 0);
}

static void test_seat_with_late_view_is_joining_then_active(void **state)
{
	struct world_window at;
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &at), 0);
	ivc_fake_later(pub->host, true);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(ivc_fake_later_count(pub->host), 1);
	assert_int_equal(page_seat_state(sub, seen.base, 0), IVC_SEAT_JOINING);
	assert_true(ivc_fake_store(sub->host, page_seat_at(sub, seen.base, 0), 8, 1));
	assert_int_equal(view_finish(pub, 0), 1);
	assert_int_equal(page_seat_state(sub, seen.base, 0), IVC_SEAT_ACTIVE);
	assert_int_equal(load64(pub, page_seat_at(pub, at.base, 0)), 1);
	assert_int_equal(call_look(sub, 0) > 0 || call_look(pub, 0) > 0, 1);
	while (call_look(pub, 0) > 0 || call_look(sub, 0) > 0) {
	}
}

static void test_seat_is_not_taken_again_while_the_old_view_closes(void **state)
{
	struct world_window at;
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	ivc_fake_later(pub->host, true);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(ivc_fake_later_count(pub->host), 1);
	assert_int_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_LEFT);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, &seen), 0);
	assert_int_equal(seen.seat, 1);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), IVC_E_BUSY);
	assert_int_equal(view_finish(pub, 0), 2);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(seen.seat, 0);
	(void)view_finish(pub, 0);
	assert_int_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_ACTIVE);
	assert_int_equal(page_seat_state(pub, at.base, 1), IVC_SEAT_ACTIVE);
}

static void test_seat_unsubscribe_before_late_view_came_leaves_nothing(void **state)
{
	struct world_window at;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &at), 0);
	ivc_fake_later(pub->host, true);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_LEFT);
	while (view_finish(pub, 0) != 0) {
	}
	assert_int_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_LEFT);
	assert_int_equal(ivc_fake_mems(w.fake), 2);
	assert_int_equal(vm_stats(sub).bytes_now, 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	while (view_finish(pub, 0) != 0) {
	}
}

/* What the publisher's page says of seat 1 at the moment of the fence. */
struct at_fence {
	uint64_t base;
	uint64_t word;
	uint32_t fences;
};

static void look_at_fence(void *arg, enum ivc_fake_op op, struct ivc_fake_vm *host)
{
	struct at_fence *fence = arg;

	(void)host;
	if (op == IVC_FAKE_BARRIER) {
		fence->fences++;
		fence->word = load64(pub, fence->base + IVC_HV_PAGE_HEADER + 16);
	}
}

static void test_seat_sleeper_is_shown_before_the_fence(void **state)
{
	struct world_window at;
	struct at_fence fence = {0};

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	fence.base = at.base;
	ivc_fake_hook(w.fake, look_at_fence, &fence);
	assert_int_equal(call_subscribe(third, pub, KEY, IVC_SUBSCRIBE_SLEEPS, NULL), 0);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_int_equal(fence.fences, 1);
	assert_int_equal(fence.word & UINT32_MAX, third->id);
	assert_int_equal(fence.word >> 40 & 0xff, IVC_SEAT_SLEEPS);
}

static void test_seat_subscribe_by_sleeper_fences_everyone_first(void **state)
{
	struct world_window at;
	struct world_window seen;
	const uint64_t before = ivc_fake_count(w.fake, IVC_FAKE_BARRIER);

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_BARRIER), before);
	assert_int_equal(call_subscribe(third, pub, KEY, IVC_SUBSCRIBE_SLEEPS, &seen), 0);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_BARRIER), before + 1);
	assert_int_equal(load64(pub, at.base + 128 + 16) >> 40 & 0xff, IVC_SEAT_SLEEPS);
	assert_int_equal(load64(pub, at.base + 128) >> 40 & 0xff, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_seat_lowest_free_one_is_taken),
		T(test_seat_all_taken_is_busy),
		T(test_seat_taken_again_is_fresh_and_has_a_new_epoch),
		T(test_seat_sequence_is_even_and_moves_with_membership),
		T(test_seat_with_late_view_is_joining_then_active),
		T(test_seat_is_not_taken_again_while_the_old_view_closes),
		T(test_seat_unsubscribe_before_late_view_came_leaves_nothing),
		T(test_seat_sleeper_is_shown_before_the_fence),
		T(test_seat_subscribe_by_sleeper_fences_everyone_first),
	};

	return cmocka_run_group_tests_name("seat", tests, NULL, NULL);
}
