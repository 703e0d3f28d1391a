/* SPDX-License-Identifier: MIT */
/* Who pays for what and when it comes back; limits of a VM and of the registry (docs/limits.md). */
#include "run.h"
#include "world.h"

static struct world w;

static int close_clean(void **state)
{
	(void)state;
	assert_clean(world_check(&w));
	assert_clean(world_close(&w));
	return 0;
}

static void open_with(uint32_t channels, uint32_t memberships, uint64_t bytes)
{
	world_defaults(&w);
	w.vm_config.quota.channels = channels;
	w.vm_config.quota.memberships = memberships;
	w.vm_config.quota.bytes = bytes;
	assert_int_equal(world_open(&w), 0);
}

static void test_quota_channels_at_the_limit_is_dquot_and_comes_back(void **state)
{
	(void)state;
	open_with(2, 2, UINT64_C(1) << 30);
	assert_int_equal(call_publish(&w.vm[0], 1, 4096, 0, NULL), 0);
	assert_int_equal(call_publish(&w.vm[0], 2, 4096, 0, NULL), 0);
	assert_int_equal(call_publish(&w.vm[0], 3, 4096, 0, NULL), IVC_E_DQUOT);
	assert_int_equal(call_publish(&w.vm[1], 3, 4096, 0, NULL), 0); /* one VM's quota is not another's */
	assert_int_equal(call_unpublish(&w.vm[0], 1, 0), 0);
	assert_int_equal(call_publish(&w.vm[0], 3, 4096, 0, NULL), 0);
	assert_int_equal(close_clean(state), 0);
}

static void test_quota_zero_means_none(void **state)
{
	(void)state;
	open_with(0, 0, 0);
	assert_int_equal(call_publish(&w.vm[0], 1, 4096, 0, NULL), IVC_E_DQUOT);
	assert_int_equal(close_clean(state), 0);
	open_with(1, 0, UINT64_C(1) << 30);
	assert_int_equal(call_publish(&w.vm[0], 1, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 1, 0, NULL), IVC_E_DQUOT);
	assert_int_equal(close_clean(state), 0);
	open_with(1, 1, 0);
	assert_int_equal(call_publish(&w.vm[0], 1, 4096, 0, NULL), IVC_E_DQUOT);
	assert_int_equal(close_clean(state), 0);
}

static void test_quota_memberships_revoked_ones_count_until_they_leave(void **state)
{
	(void)state;
	open_with(8, 2, UINT64_C(1) << 30);
	for (uint64_t key = 1; key <= 3; key++) {
		assert_int_equal(call_publish(&w.vm[0], key, 4096, WORLD_SECTIONED, NULL), 0);
	}
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 1, 0, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 2, 0, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 3, 0, NULL), IVC_E_DQUOT);
	assert_int_equal(call_unpublish(&w.vm[0], 1, IVC_UNPUBLISH_REVOKE), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 3, 0, NULL), IVC_E_DQUOT);
	assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], 1), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 3, 0, NULL), 0);
	assert_int_equal(close_clean(state), 0);
}

static void test_quota_bytes_each_pays_for_what_its_windows_pin(void **state)
{
	const uint64_t layout = WORLD_SEATS(4) | UINT64_C(2) << IVC_LAYOUT_SEAT_LOG_SHIFT;
	const uint64_t page = 4096;

	(void)state;
	open_with(8, 8, UINT64_C(1) << 30);
	assert_int_equal(call_publish(&w.vm[0], 1, 8 * page, layout, NULL), 0);
	assert_int_equal(vm_stats(&w.vm[0]).bytes_now, 9 * page);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 1, 0, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[2], &w.vm[0], 1, 0, NULL), 0);
	assert_int_equal(vm_stats(&w.vm[0]).bytes_now, 9 * page);
	assert_int_equal(vm_stats(&w.vm[1]).bytes_now, 13 * page);
	assert_int_equal(vm_stats(&w.vm[2]).bytes_now, 13 * page);
	assert_int_equal(hv_stats(&w).bytes_now, 17 * page);
	assert_int_equal(hv_stats(&w).sections_now, 4);
	/* unpublish moves nothing but the publisher's own */
	assert_int_equal(call_unpublish(&w.vm[0], 1, 0), 0);
	assert_int_equal(vm_stats(&w.vm[0]).bytes_now, 0);
	assert_int_equal(vm_stats(&w.vm[1]).bytes_now, 13 * page);
	assert_int_equal(hv_stats(&w).bytes_now, 17 * page);
	assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], 1), 0);
	assert_int_equal(hv_stats(&w).bytes_now, 13 * page);
	assert_int_equal(call_unsubscribe(&w.vm[2], &w.vm[0], 1), 0);
	assert_int_equal(hv_stats(&w).bytes_now, 0);
	/* flat: both pay for the one section */
	assert_int_equal(call_publish(&w.vm[0], 1, page, 0, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 1, 0, NULL), 0);
	assert_int_equal(vm_stats(&w.vm[0]).bytes_now, page);
	assert_int_equal(vm_stats(&w.vm[1]).bytes_now, page);
	assert_int_equal(close_clean(state), 0);
}

static void test_quota_bytes_exactly_reached_is_allowed_one_more_is_dquot(void **state)
{
	(void)state;
	open_with(8, 8, 4 * 4096);
	assert_int_equal(call_publish(&w.vm[0], 1, 5 * 4096, 0, NULL), IVC_E_DQUOT);
	assert_int_equal(call_publish(&w.vm[0], 1, 4 * 4096, 0, NULL), 0);
	assert_int_equal(call_publish(&w.vm[0], 2, 1, 0, NULL), IVC_E_DQUOT);
	assert_int_equal(call_unpublish(&w.vm[0], 1, 0), 0);
	assert_int_equal(call_publish(&w.vm[0], 1, 3 * 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 1, 0, NULL), IVC_E_DQUOT);
	assert_int_equal(call_unpublish(&w.vm[0], 1, 0), 0);
	assert_int_equal(call_publish(&w.vm[0], 1, 2 * 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 1, 0, NULL), 0);
	assert_int_equal(close_clean(state), 0);
}

/* ... but for what the host gives them to write to, which stays charged until they leave. */
static void test_quota_revoke_gives_the_members_their_charge_back(void **state)
{
	(void)state;
	open_with(8, 8, UINT64_C(1) << 30);
	assert_int_equal(call_publish(&w.vm[0], 1, 4096, WORLD_SEATS(3), NULL), 0);
	for (uint32_t i = 1; i < WORLD_VMS; i++) {
		assert_int_equal(call_subscribe(&w.vm[i], &w.vm[0], 1, 0, NULL), 0);
	}
	assert_int_equal(call_unpublish(&w.vm[0], 1, IVC_UNPUBLISH_REVOKE), 0);
	assert_int_equal(vm_stats(&w.vm[0]).bytes_now, 0);
	assert_int_equal(hv_stats(&w).bytes_now, 0);
	for (uint32_t i = 1; i < WORLD_VMS; i++) {
		assert_int_equal(vm_stats(&w.vm[i]).bytes_now, 4096);
		assert_int_equal(call_unsubscribe(&w.vm[i], &w.vm[0], 1), 0);
		assert_int_equal(vm_stats(&w.vm[i]).bytes_now, 0);
	}
	assert_int_equal(close_clean(state), 0);
}

static void test_quota_window_full_is_nospc_and_comes_back(void **state)
{
	uint32_t fit = 0;

	(void)state;
	world_defaults(&w);
	w.vm_config.window_bytes = 16 * 4096;
	assert_int_equal(world_open(&w), 0);
	for (uint32_t round = 0; round < 3; round++) {
		uint32_t n = 0;

		while (call_publish(&w.vm[0], n, 3 * 4096, 0, NULL) == 0) {
			n++;
		}
		assert_int_equal(call_publish(&w.vm[0], n, 3 * 4096, 0, NULL), IVC_E_NOSPC);
		assert_int_equal(call_publish(&w.vm[0], n, 4096, 0, NULL), 0); /* what is left still serves */
		assert_true(round == 0 || n == fit);
		fit = n;
		for (uint32_t key = 0; key <= n; key++) {
			assert_int_equal(call_unpublish(&w.vm[0], key, 0), 0);
		}
	}
	assert_int_equal(fit, 5);
	assert_int_equal(close_clean(state), 0);
}

static void test_quota_window_full_for_a_member_is_nospc_and_costs_nothing(void **state)
{
	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(world_detach(&w, 1), 0);
	w.vm_config.window_bytes = 3 * 4096;
	assert_int_equal(world_attach(&w, 1, 2), 0);
	assert_int_equal(call_publish(&w.vm[0], 1, 4096, WORLD_SEATS(2), NULL), 0);
	assert_int_equal(call_publish(&w.vm[0], 2, 4096, WORLD_SEATS(1), NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 1, 0, NULL), IVC_E_NOSPC);
	assert_int_equal(vm_stats(&w.vm[1]).bytes_now, 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 2, 0, NULL), 0);
	assert_int_equal(close_clean(state), 0);
}

static void test_quota_revoked_range_is_held_until_unsubscribe(void **state)
{
	(void)state;
	world_defaults(&w);
	w.vm_config.window_bytes = 4 * 4096;
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], 1, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 1, 0, NULL), 0);
	assert_int_equal(call_unpublish(&w.vm[0], 1, IVC_UNPUBLISH_REVOKE), 0);
	assert_int_equal(call_publish(&w.vm[1], 1, 4 * 4096, 0, NULL), IVC_E_NOSPC);
	assert_int_equal(call_publish(&w.vm[0], 1, 4 * 4096, 0, NULL), 0);
	assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], 1), 0);
	assert_int_equal(call_publish(&w.vm[1], 1, 4 * 4096, 0, NULL), 0);
	assert_int_equal(close_clean(state), 0);
}

static void test_quota_registry_channels_at_the_limit_is_nomem(void **state)
{
	(void)state;
	world_defaults(&w);
	w.config.channels = 3;
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], 1, 4096, 0, NULL), 0);
	assert_int_equal(call_publish(&w.vm[1], 1, 4096, 0, NULL), 0);
	assert_int_equal(call_publish(&w.vm[2], 1, 4096, 0, NULL), 0);
	assert_int_equal(call_publish(&w.vm[3], 1, 4096, 0, NULL), IVC_E_NOMEM);
	/* a channel counts until its last member has left */
	assert_int_equal(call_subscribe(&w.vm[3], &w.vm[0], 1, 0, NULL), 0);
	assert_int_equal(call_unpublish(&w.vm[0], 1, 0), 0);
	assert_int_equal(call_publish(&w.vm[3], 1, 4096, 0, NULL), IVC_E_NOMEM);
	assert_int_equal(call_unsubscribe(&w.vm[3], &w.vm[0], 1), 0);
	assert_int_equal(call_publish(&w.vm[3], 1, 4096, 0, NULL), 0);
	assert_int_equal(close_clean(state), 0);
}

static void test_quota_registry_memberships_at_the_limit_is_nomem(void **state)
{
	(void)state;
	world_defaults(&w);
	w.config.memberships = 2;
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], 1, 4096, WORLD_SEATS(8), NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], 1, 0, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[2], &w.vm[0], 1, 0, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[3], &w.vm[0], 1, 0, NULL), IVC_E_NOMEM);
	assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], 1), 0);
	assert_int_equal(call_subscribe(&w.vm[3], &w.vm[0], 1, 0, NULL), 0);
	assert_int_equal(close_clean(state), 0);
}

static void test_quota_seats_above_the_registrys_bound_is_inval(void **state)
{
	(void)state;
	world_defaults(&w);
	w.config.seats = 2;
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], 1, 4096, WORLD_SEATS(2), NULL), 0);
	assert_int_equal(call_publish(&w.vm[0], 2, 4096, WORLD_SEATS(3), NULL), IVC_E_INVAL);
	assert_int_equal(close_clean(state), 0);
}

/* Records wait for a grace period; that must not cost a caller its quota. */
static void test_quota_tight_loop_never_meets_a_limit(void **state)
{
	(void)state;
	world_defaults(&w);
	w.config.channels = 2;
	w.config.memberships = 2;
	w.config.vm_channels = 1;
	w.config.vm_memberships = 1;
	assert_int_equal(world_open(&w), 0);
	for (uint32_t i = 0; i < 3000; i++) {
		assert_int_equal(call_publish(&w.vm[0], i, 4096, WORLD_SECTIONED, NULL), 0);
		assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], i, 0, NULL), 0);
		assert_int_equal(call_unpublish(&w.vm[0], i, i % 2), 0);
		assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], i), 0);
	}
	assert_true(hv_stats(&w).records_waiting <= 256);
	assert_int_equal(close_clean(state), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quota_channels_at_the_limit_is_dquot_and_comes_back),
		cmocka_unit_test(test_quota_zero_means_none),
		cmocka_unit_test(test_quota_memberships_revoked_ones_count_until_they_leave),
		cmocka_unit_test(test_quota_bytes_each_pays_for_what_its_windows_pin),
		cmocka_unit_test(test_quota_bytes_exactly_reached_is_allowed_one_more_is_dquot),
		cmocka_unit_test(test_quota_revoke_gives_the_members_their_charge_back),
		cmocka_unit_test(test_quota_window_full_is_nospc_and_comes_back),
		cmocka_unit_test(test_quota_window_full_for_a_member_is_nospc_and_costs_nothing),
		cmocka_unit_test(test_quota_revoked_range_is_held_until_unsubscribe),
		cmocka_unit_test(test_quota_registry_channels_at_the_limit_is_nomem),
		cmocka_unit_test(test_quota_registry_memberships_at_the_limit_is_nomem),
		cmocka_unit_test(test_quota_seats_above_the_registrys_bound_is_inval),
		cmocka_unit_test(test_quota_tight_loop_never_meets_a_limit),
	};

	return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
