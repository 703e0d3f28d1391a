/* SPDX-License-Identifier: MIT */
/*
 * The life of a channel, call by call: every transition of publish, subscribe, unpublish and unsubscribe, seats,
 * revoke, and one regression test for each defect known from the hypervisor that this ABI comes from.
 */
#include "run.h"
#include "world.h"

#include <string.h>

#define KEY  UINT64_C(0x6b6579)
#define KEY2 UINT64_C(0x6b657932)

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

/* Publishing. */

static void test_channel_publish_absent_gives_zeroed_window(void **state)
{
	struct world_window at;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 10000, 0, &at), 0);
	assert_int_equal(at.bytes, 12288);
	assert_true(at.base >= world_window(0) && at.base + at.bytes <= world_window(0) + WORLD_WINDOW_BYTES);
	assert_int_equal(load64(pub, at.base), pub->id);
	assert_int_equal(load64(pub, at.base + 8), KEY);
	assert_true(ivc_fake_filled(pub->host, at.base + 16, at.bytes - 16, 0));
	assert_true(ivc_fake_store(pub->host, at.base + at.bytes - 8, 8, 1));
}

static void test_channel_publish_live_key_is_exist_and_first_untouched(void **state)
{
	struct world_window at;
	struct world_window again;
	struct snapshot before;
	struct snapshot after;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &at), 0);
	assert_true(ivc_fake_fill(pub->host, page_data_at(pub, at.base), 4096, WORLD_CANARY));
	(void)call_publish(pub, KEY, 8192, 0, &again); /* the slots are as they will be */
	snapshot_take(&w, &before);
	assert_int_equal(call_publish(pub, KEY, 8192, 0, &again), IVC_E_EXIST);
	snapshot_take(&w, &after);
	assert_int_equal(again.base, WORLD_UNTOUCHED);
	assert_int_equal(again.bytes, 8192);
	assert_clean(snapshot_differs(&before, &after));
	assert_true(ivc_fake_filled(pub->host, page_data_at(pub, at.base), 4096, WORLD_CANARY));
	assert_int_equal(page_state(pub, at.base), IVC_CHANNEL_LIVE);
}

static void test_channel_publish_same_key_by_two_vms_are_two_channels(void **state)
{
	struct world_window a;
	struct world_window b;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, &a), 0);
	assert_int_equal(call_publish(sub, KEY, 4096, 0, &b), 0);
	assert_int_equal(load64(pub, a.base), pub->id);
	assert_int_equal(load64(sub, b.base), sub->id);
	assert_true(ivc_fake_store(pub->host, a.base + 64, 8, 7));
	assert_int_equal(load64(sub, b.base + 64), 0);
}

static void test_channel_publish_while_zombie_lives_gives_other_memory(void **state)
{
	struct world_window first;
	struct world_window second;
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &first), 0);
	assert_true(ivc_fake_fill(pub->host, page_data_at(pub, first.base), 4096, WORLD_CANARY));
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_DRAIN), 0);
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &second), 0);
	assert_true(ivc_fake_filled(pub->host, page_data_at(pub, second.base), 4096, 0));
	assert_int_equal(page_state(sub, seen.base), IVC_CHANNEL_DRAIN);
	assert_true(ivc_fake_filled(sub->host, page_data_at(sub, seen.base), 4096, WORLD_CANARY));
	assert_true(page_handle(sub, seen.base) != page_handle(pub, second.base));
	assert_true(load64(pub, second.base + offsetof(struct ivc_hv_page, epoch)) !=
		    load64(sub, seen.base + offsetof(struct ivc_hv_page, epoch)));
	/* the name means the new channel, the membership is still of the old one */
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), IVC_E_EXIST);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), IVC_E_BUSY);
}

static void test_channel_publish_of_every_key_value_works(void **state)
{
	static const uint64_t keys[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 32};

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		assert_int_equal(call_publish(pub, keys[i], 1, 0, NULL), 0);
		assert_int_equal(call_subscribe(sub, pub, keys[i], 0, NULL), 0);
	}
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		assert_int_equal(call_unpublish(pub, keys[i], 0), 0);
		assert_int_equal(call_unsubscribe(sub, pub, keys[i]), 0);
	}
}

/* Subscribing. */

static void test_channel_subscribe_live_sees_what_was_written_before(void **state)
{
	struct world_window at;
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 8192, WORLD_SECTIONED, &at), 0);
	assert_true(ivc_fake_fill(pub->host, page_data_at(pub, at.base), 8192, WORLD_CANARY));
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(seen.bytes, at.bytes);
	assert_int_equal(seen.seat, 0);
	assert_true(ivc_fake_filled(sub->host, page_data_at(sub, seen.base), 8192, WORLD_CANARY));
	assert_int_equal(page_handle(sub, seen.base), page_handle(pub, at.base));
}

static void test_channel_subscribe_twice_is_exist(void **state)
{
	const uint32_t views = 3;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), IVC_E_EXIST);
	assert_int_equal(ivc_fake_views(sub->host, NULL, 0), views);
}

static void test_channel_subscribe_absent_is_noent(void **state)
{
	(void)state;
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), IVC_E_NOENT);
	assert_int_equal(call_publish(pub, KEY2, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), IVC_E_NOENT);
	assert_int_equal(call_subscribe(sub, third, KEY2, 0, NULL), IVC_E_NOENT);
	assert_int_equal(call_subscribe_on(sub, 0, 77, KEY2, 0, NULL), IVC_E_NOENT);
}

static void test_channel_subscribe_to_zombie_is_noent(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, NULL), IVC_E_NOENT);
}

static void test_channel_subscribe_to_oneself_is_inval(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(pub, pub, KEY, 0, NULL), IVC_E_INVAL);
	assert_int_equal(call_subscribe(pub, pub, KEY2, 0, NULL), IVC_E_INVAL);
}

static void test_channel_subscribe_second_to_flat_is_busy(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, NULL), IVC_E_BUSY);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, NULL), 0);
}

/* Rights: one writer per page. */

static void test_channel_sections_have_one_writer_each(void **state)
{
	struct world_window at;
	struct world_window a;
	struct world_window b;
	uint64_t value;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(3), &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &a), 0);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, &b), 0);
	assert_int_equal(b.seat, 1);
	/* hv page: nobody's */
	assert_false(ivc_fake_store(pub->host, at.base, 8, 1));
	assert_false(ivc_fake_store(sub->host, a.base + 104, 4, 1));
	/* publisher section */
	assert_true(ivc_fake_store(pub->host, page_data_at(pub, at.base), 8, 5));
	assert_false(ivc_fake_store(sub->host, page_data_at(sub, a.base), 8, 6));
	assert_int_equal(load64(sub, page_data_at(sub, a.base)), 5);
	/* seat sections: the member writes, the publisher reads, the others see a hole */
	assert_true(ivc_fake_store(sub->host, page_seat_at(sub, a.base, 0), 8, 7));
	assert_int_equal(load64(pub, page_seat_at(pub, at.base, 0)), 7);
	assert_false(ivc_fake_store(pub->host, page_seat_at(pub, at.base, 0), 8, 8));
	assert_false(ivc_fake_load(third->host, page_seat_at(third, b.base, 0), 8, &value));
	assert_false(ivc_fake_load(pub->host, page_seat_at(pub, at.base, 2), 8, &value)); /* never taken */
	assert_true(ivc_fake_store(third->host, page_seat_at(third, b.base, 1), 8, 9));
	assert_int_equal(load64(pub, page_seat_at(pub, at.base, 1)), 9);
}

/* Unpublishing. */

static void test_channel_unpublish_without_members_leaves_nothing(void **state)
{
	struct world_window at;
	uint64_t value;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &at), 0);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	assert_false(ivc_fake_load(pub->host, at.base, 8, &value));
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(vm_stats(pub).bytes_now, 0);
	assert_int_equal(vm_stats(pub).window_now, 0);
	assert_int_equal(call_unpublish(pub, KEY, 0), IVC_E_NOENT);
}

static void test_channel_unpublish_drain_leaves_members_their_data(void **state)
{
	struct world_window at;
	struct world_window seen;
	uint64_t value;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_true(ivc_fake_fill(pub->host, page_data_at(pub, at.base), 4096, WORLD_CANARY));
	while (call_look(sub, 0) > 0) {
	}
	assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_DRAIN), 0);
	assert_false(ivc_fake_load(pub->host, at.base, 8, &value));
	assert_int_equal(page_state(sub, seen.base), IVC_CHANNEL_DRAIN);
	assert_true(ivc_fake_filled(sub->host, page_data_at(sub, seen.base), 4096, WORLD_CANARY));
	assert_true(ivc_fake_store(sub->host, page_seat_at(sub, seen.base, 0), 8, 1));
	assert_int_equal(call_look(sub, 0), (int64_t)page_handle(sub, seen.base)); /* a change of state is a bell */
	assert_int_equal(vm_stats(pub).bytes_now, 0);
	assert_int_equal(vm_stats(sub).bytes_now, 3 * WORLD_GRANULE);
	assert_int_equal(call_unpublish(pub, KEY, 0), IVC_E_NOENT);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), IVC_E_NOENT);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

static void test_channel_unpublish_by_another_vm_is_noent(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_unpublish(sub, KEY, 1), IVC_E_NOENT);
	assert_int_equal(call_unpublish(stranger, KEY, 1), IVC_E_NOENT);
	assert_int_equal(call_notify(sub, pub, KEY, IVC_ALL), 0);
}

static void test_channel_unpublish_revoke_takes_the_memory_and_keeps_the_range(void **state)
{
	struct world_window at;
	struct world_window seen;
	uint64_t data;
	uint64_t seat;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 8192, WORLD_SECTIONED, &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	data = page_data_at(sub, seen.base);
	seat = page_seat_at(sub, seen.base, 0);
	assert_true(ivc_fake_fill(pub->host, page_data_at(pub, at.base), 8192, WORLD_CANARY));
	assert_true(ivc_fake_fill(sub->host, seat, 4096, WORLD_CANARY));
	assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_REVOKE), 0);
	/* what could be read is a closed page; what could be written is private and zero */
	assert_true(page_state(sub, seen.base) == IVC_CHANNEL_REVOKED || page_state(sub, seen.base) == 0);
	assert_int_equal(load64(sub, data), 0);
	assert_int_equal(load64(sub, data + 4096), 0);
	assert_false(ivc_fake_store(sub->host, data, 8, 1));
	assert_true(ivc_fake_filled(sub->host, seat, 4096, 0));
	assert_true(ivc_fake_store(sub->host, seat, 8, 1));
	/* all region memory is gone, the membership is not */
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(vm_stats(sub).bytes_now, WORLD_GRANULE); /* the private memory in place of its seat section */
	assert_int_equal(vm_stats(sub).memberships_now, 1);
	assert_int_equal(vm_stats(sub).window_now, seen.bytes);
	assert_int_equal(vm_stats(pub).window_now, 0);
	assert_int_equal(call_notify(sub, pub, KEY, IVC_ALL), IVC_E_NOENT);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), IVC_E_NOENT);
	assert_int_equal(vm_stats(sub).window_now, 0);
	assert_int_equal(ivc_fake_views(sub->host, NULL, 0), 0);
}

static void test_channel_subscribe_while_revoked_is_exist(void **state)
{
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_REVOKE), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), IVC_E_EXIST);
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), IVC_E_EXIST);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(page_state(sub, seen.base), IVC_CHANNEL_LIVE);
}

static void test_channel_revoke_of_flat_leaves_private_zeroed_memory(void **state)
{
	struct world_window at;
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_true(ivc_fake_store(sub->host, seen.base + 64, 8, 1));
	assert_int_equal(load64(pub, at.base + 64), 1);
	assert_int_equal(call_unpublish(pub, KEY, IVC_UNPUBLISH_REVOKE), 0);
	assert_true(ivc_fake_filled(sub->host, seen.base, 4096, 0));
	assert_true(ivc_fake_store(sub->host, seen.base + 64, 8, 2));
	assert_int_equal(ivc_fake_mems(w.fake), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
}

static void test_channel_hostile_member_that_never_leaves_costs_the_publisher_nothing(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	for (uint32_t i = 0; i < 2000; i++) {
		assert_int_equal(call_unpublish(pub, KEY, i % 2), 0);
		assert_int_equal(vm_stats(pub).bytes_now, 0);
		assert_int_equal(vm_stats(pub).window_now, 0);
		assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	}
	assert_int_equal(vm_stats(sub).memberships_now, 1);
}

/* Unsubscribing. */

static void test_channel_unsubscribe_live_frees_the_window_and_the_seat(void **state)
{
	struct world_window at;
	struct world_window seen;
	uint64_t value;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_false(ivc_fake_load(sub->host, seen.base, 8, &value));
	assert_int_equal(vm_stats(sub).bytes_now, 0);
	assert_int_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_LEFT);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(page_seat_state(pub, at.base, 0), IVC_SEAT_ACTIVE);
}

static void test_channel_unsubscribe_stranger_is_noent(void **state)
{
	(void)state;
	assert_int_equal(call_unsubscribe(sub, pub, KEY), IVC_E_NOENT);
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), IVC_E_NOENT);
	assert_int_equal(call_unsubscribe(pub, pub, KEY), IVC_E_NOENT);
}

/* Named after the defects of the code that this ABI comes from. */

/* D1: a second publish replaced the first channel and freed its frame while it was mapped. */
static void test_channel_d1_publish_twice_keeps_the_first_mapped(void **state)
{
	struct world_window at;
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, &at), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), IVC_E_EXIST);
	assert_true(ivc_fake_store(pub->host, at.base + 2048, 8, WORLD_CANARY));
	assert_int_equal(load64(sub, seen.base + 2048), WORLD_CANARY);
	assert_int_equal(ivc_fake_mems(w.fake), 1);
}

/* D2: a second unpublish of a subscribed channel freed the frame under its members. */
static void test_channel_d2_unpublish_twice_keeps_the_members_memory(void **state)
{
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	assert_int_equal(call_unpublish(pub, KEY, 0), IVC_E_NOENT);
	assert_int_equal(ivc_fake_mems(w.fake), 1);
	assert_true(ivc_fake_store(sub->host, seen.base + 2048, 8, 1));
	assert_int_equal(load64(sub, seen.base), pub->id);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

/* D3: a second subscribe mapped a second window that no unsubscribe removed; an unpublished channel could be joined. */
static void test_channel_d3_subscribe_twice_has_one_window_and_unpublished_none(void **state)
{
	struct world_window seen;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), IVC_E_EXIST);
	assert_int_equal(ivc_fake_views(sub->host, NULL, 0), 1);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	assert_int_equal(call_subscribe(third, pub, KEY, 0, NULL), IVC_E_NOENT);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(ivc_fake_views(sub->host, NULL, 0), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

/* D4: address ranges were never returned, and no failure was rolled back. */
static void test_channel_d4_window_ranges_come_back(void **state)
{
	struct world small;

	(void)state;
	world_defaults(&small);
	small.vm_config.window_bytes = 4 * WORLD_GRANULE;
	assert_int_equal(world_open(&small), 0);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(call_publish(&small.vm[0], i, 3 * 4096, 0, NULL), 0);
		assert_int_equal(call_subscribe(&small.vm[1], &small.vm[0], i, 0, NULL), 0);
		assert_int_equal(call_publish(&small.vm[0], 1000, 2 * 4096, 0, NULL), IVC_E_NOSPC);
		ivc_fake_fail(small.fake, IVC_FAKE_MAP, 1, 1, IVC_E_IO);
		assert_int_equal(call_publish(&small.vm[0], 1000, 4096, 0, NULL), IVC_E_IO);
		assert_int_equal(call_unsubscribe(&small.vm[1], &small.vm[0], i), 0);
		assert_int_equal(call_unpublish(&small.vm[0], i, 0), 0);
	}
	assert_clean(world_close(&small));
}

/*
 * D5: the frame was freed before it was unmapped. The fake host checks every mem_free against all views; here the
 * order is read from its record too.
 */
static void test_channel_d5_memory_is_freed_after_the_last_unmap(void **state)
{
	struct ivc_fake_entry entry;
	uint64_t freed = 0;
	uint64_t unmapped = 0;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	for (uint64_t i = 0; ivc_fake_log_get(w.fake, i, &entry); i++) {
		if (entry.op == IVC_FAKE_UNMAP) {
			unmapped = i;
		} else if (entry.op == IVC_FAKE_MEM_FREE) {
			freed = i;
		}
	}
	assert_true(unmapped != 0 && freed > unmapped);
	assert_int_equal(ivc_fake_violations(w.fake, NULL), 0);
}

/* D5, second half: when the unmap fails the memory is never used again. */
static void test_channel_d5_memory_whose_unmap_failed_is_quarantined(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	ivc_fake_fail(w.fake, IVC_FAKE_UNMAP, 1, 1, IVC_E_IO);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), IVC_E_IO);
	assert_int_equal(ivc_fake_mems(w.fake), 1);
	assert_int_equal(hv_stats(&w).quarantined_bytes, 4096);
	assert_int_equal(hv_stats(&w).quarantined_sections, 1);
	assert_int_equal(ivc_fake_failed(sub->host), 1);
	assert_int_equal(call_publish(sub, KEY, 4096, 0, NULL), IVC_E_SHUTDOWN);
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(ivc_fake_mems(w.fake), 2);
	assert_int_equal(ivc_fake_violations(w.fake, NULL), 0);
}

/* D11: frames were not zeroed. */
static void test_channel_d11_no_byte_of_an_old_region_shows_in_a_new_one(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 200; i++) {
		struct world_window at;
		struct world_window seen;

		assert_int_equal(call_publish(pub, KEY, 8192, WORLD_SECTIONED, &at), 0);
		assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
		assert_true(ivc_fake_filled(pub->host, page_data_at(pub, at.base), 8192, 0));
		assert_true(ivc_fake_filled(sub->host, page_seat_at(sub, seen.base, 0), 4096, 0));
		assert_true(ivc_fake_fill(pub->host, page_data_at(pub, at.base), 8192, WORLD_CANARY));
		assert_true(ivc_fake_fill(sub->host, page_seat_at(sub, seen.base, 0), 4096, WORLD_CANARY));
		assert_int_equal(call_unpublish(pub, KEY, i % 2), 0);
		assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	}
}

static void test_channel_ranges_are_next_fit_so_a_stale_pointer_meets_a_hole(void **state)
{
	struct world_window first;
	struct world_window second;
	uint64_t value;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, 0, &first), 0);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	assert_int_equal(call_publish(pub, KEY, 4096, 0, &second), 0);
	assert_true(first.base != second.base);
	assert_false(ivc_fake_load(pub->host, first.base, 8, &value));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_channel_publish_absent_gives_zeroed_window),
		T(test_channel_publish_live_key_is_exist_and_first_untouched),
		T(test_channel_publish_same_key_by_two_vms_are_two_channels),
		T(test_channel_publish_while_zombie_lives_gives_other_memory),
		T(test_channel_publish_of_every_key_value_works),
		T(test_channel_subscribe_live_sees_what_was_written_before),
		T(test_channel_subscribe_twice_is_exist),
		T(test_channel_subscribe_absent_is_noent),
		T(test_channel_subscribe_to_zombie_is_noent),
		T(test_channel_subscribe_to_oneself_is_inval),
		T(test_channel_subscribe_second_to_flat_is_busy),
		T(test_channel_sections_have_one_writer_each),
		T(test_channel_unpublish_without_members_leaves_nothing),
		T(test_channel_unpublish_drain_leaves_members_their_data),
		T(test_channel_unpublish_by_another_vm_is_noent),
		T(test_channel_unpublish_revoke_takes_the_memory_and_keeps_the_range),
		T(test_channel_subscribe_while_revoked_is_exist),
		T(test_channel_revoke_of_flat_leaves_private_zeroed_memory),
		T(test_channel_hostile_member_that_never_leaves_costs_the_publisher_nothing),
		T(test_channel_unsubscribe_live_frees_the_window_and_the_seat),
		T(test_channel_unsubscribe_stranger_is_noent),
		T(test_channel_d1_publish_twice_keeps_the_first_mapped),
		T(test_channel_d2_unpublish_twice_keeps_the_members_memory),
		T(test_channel_d3_subscribe_twice_has_one_window_and_unpublished_none),
		T(test_channel_d4_window_ranges_come_back),
		T(test_channel_d5_memory_is_freed_after_the_last_unmap),
		T(test_channel_d5_memory_whose_unmap_failed_is_quarantined),
		T(test_channel_d11_no_byte_of_an_old_region_shows_in_a_new_one),
		T(test_channel_ranges_are_next_fit_so_a_stale_pointer_meets_a_hole),
	};

	return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
