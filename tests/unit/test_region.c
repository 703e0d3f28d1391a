/* SPDX-License-Identifier: MIT */
/* What PUBLISH writes into a region and where its sections lie, byte by byte (docs/abi.md 5). */
#include "run.h"
#include "world.h"

#include <string.h>

#define KEY UINT64_C(0x1122334455667788)

static uint8_t byte_at(struct world_vm *vm, uint64_t at)
{
	uint64_t value;

	assert_true(ivc_fake_load(vm->host, at, 1, &value));
	return (uint8_t)value;
}

/* Little-endian number of @bytes at @at, put together from bytes so that nothing of abi.h's structs is trusted. */
static uint64_t wire(struct world_vm *vm, uint64_t at, uint32_t bytes)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < bytes; i++) {
		value |= (uint64_t)byte_at(vm, at + i) << 8 * i;
	}
	return value;
}

static void test_region_flat_head_is_16_bytes_and_the_rest_zero(void **state)
{
	struct world w;
	struct world_window at;

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[2], KEY, 8192, 0, &at), 0);
	assert_int_equal(wire(&w.vm[2], at.base, 8), 3);
	assert_int_equal(wire(&w.vm[2], at.base + 8, 8), KEY);
	assert_true(ivc_fake_filled(w.vm[2].host, at.base + 16, 8192 - 16, 0));
	assert_clean(world_close(&w));
}

static void test_region_flat_head_may_be_overwritten_and_is_never_read_back(void **state)
{
	struct world w;
	struct world_window at;
	struct world_window seen;

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], KEY, 4096, 0, &at), 0);
	assert_true(ivc_fake_fill(w.vm[0].host, at.base, 4096, UINT64_MAX));
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, &seen), 0);
	assert_int_equal(seen.bytes, 4096);
	assert_int_equal(load64(&w.vm[1], seen.base), UINT64_MAX);
	assert_int_equal(call_notify(&w.vm[1], &w.vm[0], KEY, IVC_ALL), 0);
	assert_int_equal(call_unpublish(&w.vm[0], KEY, 0), 0);
	assert_clean(world_close(&w));
}

static void test_region_hv_page_every_offset_is_as_documented(void **state)
{
	const uint64_t layout = WORLD_SEATS(5) | UINT64_C(1) << IVC_LAYOUT_SEAT_LOG_SHIFT | IVC_LAYOUT_SLEEPS |
				UINT64_C(0xabcdef) << IVC_LAYOUT_GUEST_SHIFT;
	struct world w;
	struct world_window at;
	struct world_window seen;

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[1], KEY, 5000, layout, &at), 0);
	assert_int_equal(wire(&w.vm[1], at.base, 8), 2);
	assert_int_equal(wire(&w.vm[1], at.base + 8, 8), KEY);
	assert_int_equal(wire(&w.vm[1], at.base + 16, 4), 0x49564353);
	assert_int_equal(wire(&w.vm[1], at.base + 20, 2), 1);
	assert_int_equal(wire(&w.vm[1], at.base + 22, 2), 0);
	assert_int_equal(wire(&w.vm[1], at.base + 24, 4), 128);
	assert_int_equal(wire(&w.vm[1], at.base + 28, 1), 12);
	assert_int_equal(wire(&w.vm[1], at.base + 29, 3), 0);
	assert_int_equal(wire(&w.vm[1], at.base + 32, 8), layout);
	assert_true(wire(&w.vm[1], at.base + 40, 8) != 0);
	assert_true(wire(&w.vm[1], at.base + 48, 8) != 0);
	assert_int_equal(wire(&w.vm[1], at.base + 55, 1) >> 7, 0); /* handle bit 63 */
	assert_true(wire(&w.vm[1], at.base + 56, 8) != 0);
	assert_int_equal(wire(&w.vm[1], at.base + 64, 8), 4096);
	assert_int_equal(wire(&w.vm[1], at.base + 72, 8), 8192);
	assert_int_equal(wire(&w.vm[1], at.base + 80, 8), 12288);
	assert_int_equal(wire(&w.vm[1], at.base + 88, 8), 8192);
	assert_int_equal(wire(&w.vm[1], at.base + 96, 4), 5);
	assert_int_equal(wire(&w.vm[1], at.base + 100, 4), 0);
	assert_int_equal(wire(&w.vm[1], at.base + 104, 4), 1);
	assert_int_equal(wire(&w.vm[1], at.base + 108, 4), 0);
	assert_true(ivc_fake_filled(w.vm[1].host, at.base + 112, 4096 - 112, 0));
	assert_int_equal(at.bytes, 12288 + 5 * 8192);
	/* a member's entry */
	assert_int_equal(call_subscribe(&w.vm[3], &w.vm[1], KEY, IVC_SUBSCRIBE_SLEEPS, &seen), 0);
	assert_int_equal(wire(&w.vm[3], seen.base + 128, 4), 4);
	assert_int_equal(wire(&w.vm[3], seen.base + 132, 1), IVC_SEAT_ACTIVE);
	assert_int_equal(wire(&w.vm[3], seen.base + 133, 1), 1);
	assert_int_equal(wire(&w.vm[3], seen.base + 134, 2), 0);
	assert_true(wire(&w.vm[3], seen.base + 136, 8) != 0);
	assert_true(ivc_fake_filled(w.vm[3].host, seen.base + 144, 4096 - 144, 0));
	assert_clean(world_close(&w));
}

static void test_region_granule_of_64k_is_used_everywhere(void **state)
{
	struct world w;
	struct world_window at;
	struct world_window seen;

	(void)state;
	world_defaults(&w);
	w.config.granule_log2 = 16;
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], KEY, 1, WORLD_SEATS(2), &at), 0);
	assert_int_equal(at.bytes, 4 * 65536);
	assert_int_equal(wire(&w.vm[0], at.base + 28, 1), 16);
	assert_int_equal(page_data_at(&w.vm[0], at.base) - at.base, 65536);
	assert_int_equal(page_seat_at(&w.vm[0], at.base, 1) - at.base, 3 * 65536);
	assert_true(ivc_fake_filled(w.vm[0].host, at.base + 4096, 65536 - 4096, 0));
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, &seen), 0);
	assert_int_equal(at.base % 65536, 0);
	assert_int_equal(seen.base % 65536, 0);
	assert_int_equal(vm_stats(&w.vm[1]).bytes_now, 3 * 65536);
	assert_clean(world_close(&w));
}

/* Sections of 2 MiB or more are aligned to it in window and backing (the fake host checks views and memory). */
static void test_region_huge_sections_are_aligned(void **state)
{
	static const struct {
		uint64_t bytes;
		uint64_t seat_log;
	} rows[] = {
		{IVC_HUGE_BYTES, 0}, {IVC_HUGE_BYTES - 4096, 0}, {IVC_HUGE_BYTES + 4096, 0}, {4096, 9},
		{4096, 8},           {IVC_HUGE_BYTES + 1, 10},
	};
	struct world w;

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], KEY + 1, 4096, 0, NULL), 0); /* the cursor is not aligned by chance */
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const uint64_t layout = WORLD_SEATS(2) | rows[i].seat_log << IVC_LAYOUT_SEAT_LOG_SHIFT;
		struct world_window at;
		struct world_window seen;
		uint64_t data;
		uint64_t seat;

		assert_int_equal(call_publish(&w.vm[0], KEY, rows[i].bytes, layout, &at), 0);
		assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, &seen), 0);
		data = page_data_at(&w.vm[0], at.base);
		seat = page_seat_at(&w.vm[1], seen.base, 1);
		assert_int_equal(at.bytes, seen.bytes);
		if (rows[i].bytes >= IVC_HUGE_BYTES) {
			assert_int_equal(data % IVC_HUGE_BYTES, 0);
		}
		if (rows[i].seat_log >= 9) {
			assert_int_equal(seat % IVC_HUGE_BYTES, 0);
		}
		assert_true(at.base + at.bytes >= page_seat_at(&w.vm[0], at.base, 2));
		assert_true(page_seat_at(&w.vm[0], at.base, 0) >= data + rows[i].bytes);
		assert_clean(world_check(&w));
		assert_int_equal(call_unpublish(&w.vm[0], KEY, 0), 0);
		assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], KEY), 0);
	}
	assert_int_equal(call_publish(&w.vm[0], KEY, IVC_HUGE_BYTES, 0, NULL), 0);
	assert_clean(world_check(&w));
	assert_clean(world_close(&w));
}

static void test_region_all_248_seats_have_their_place(void **state)
{
	struct world w;
	struct world_window at;
	struct world_window seen;

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], KEY, 4096, WORLD_SEATS(248), &at), 0);
	assert_int_equal(at.bytes, 250 * 4096);
	assert_int_equal(wire(&w.vm[0], at.base + 96, 4), 248);
	for (uint32_t i = 1; i < WORLD_VMS; i++) {
		assert_int_equal(call_subscribe(&w.vm[i], &w.vm[0], KEY, 0, &seen), 0);
		assert_int_equal(seen.seat, i - 1);
		assert_int_equal(seen.bytes, at.bytes);
	}
	/* a seat costs only who takes it */
	assert_int_equal(vm_stats(&w.vm[0]).bytes_now, 2 * 4096);
	assert_int_equal(hv_stats(&w).bytes_now, 5 * 4096);
	assert_clean(world_close(&w));
}

static void test_region_epochs_and_handles_never_repeat(void **state)
{
	struct world w;
	uint64_t epoch = 0;
	uint64_t handles[600];

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	for (uint32_t i = 0; i < 600; i++) {
		struct world_window at;

		assert_int_equal(call_publish(&w.vm[0], KEY, 4096, WORLD_SECTIONED, &at), 0);
		handles[i] = page_handle(&w.vm[0], at.base);
		assert_true(wire(&w.vm[0], at.base + 40, 8) > epoch);
		epoch = wire(&w.vm[0], at.base + 40, 8);
		for (uint32_t k = 0; k < i; k++) {
			assert_true(handles[k] != handles[i]);
		}
		assert_int_equal(call_unpublish(&w.vm[0], KEY, 0), 0);
		assert_int_equal(call_look(&w.vm[0], handles[i]), IVC_E_STALE);
	}
	assert_clean(world_close(&w));
}

static void test_region_no_host_address_shows_in_the_page(void **state)
{
	struct world w;
	struct world_window at;
	const uint64_t stack = (uint64_t)(uintptr_t)&w >> 32;
	const uint64_t code = (uint64_t)(uintptr_t)&byte_at >> 32;

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], KEY, 4096, WORLD_SECTIONED, &at), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, NULL), 0);
	for (uint64_t i = 64; i < 4096; i += 8) { /* the words before are random or given by the guest */
		const uint64_t word = load64(&w.vm[0], at.base + i);

		assert_true(word >> 32 != stack && word >> 32 != code);
	}
	assert_clean(world_close(&w));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_region_flat_head_is_16_bytes_and_the_rest_zero),
		cmocka_unit_test(test_region_flat_head_may_be_overwritten_and_is_never_read_back),
		cmocka_unit_test(test_region_hv_page_every_offset_is_as_documented),
		cmocka_unit_test(test_region_granule_of_64k_is_used_everywhere),
		cmocka_unit_test(test_region_huge_sections_are_aligned),
		cmocka_unit_test(test_region_all_248_seats_have_their_place),
		cmocka_unit_test(test_region_epochs_and_handles_never_repeat),
		cmocka_unit_test(test_region_no_host_address_shows_in_the_page),
	};

	return cmocka_run_group_tests_name("region", tests, NULL, NULL);
}
