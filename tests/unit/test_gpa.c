/* SPDX-License-Identifier: MIT */
/* The window allocator alone, against a map of granules. */
#include "hv/gpa.h"
#include "run.h"

#include <ivc/abi.h>

#include <string.h>

#define GRANULES 96u
#define UNIT     UINT64_C(4096)
#define BASE     UINT64_C(0x40001000)

static struct ivc_gpa_range used[64];
static struct ivc_gpa_window window;

static int setup(void **state)
{
	(void)state;
	ivc_gpa_init(&window, BASE, GRANULES * UNIT, used, 64);
	return 0;
}

static void test_gpa_reserve_stays_inside_and_aligned(void **state)
{
	uint64_t at;

	(void)state;
	assert_int_equal(ivc_gpa_reserve(&window, UNIT, UNIT, &at), 0);
	assert_int_equal(at, BASE);
	assert_int_equal(ivc_gpa_reserve(&window, UNIT, 16 * UNIT, &at), 0);
	assert_int_equal(at % (16 * UNIT), 0);
	assert_true(at >= BASE && at + UNIT <= BASE + GRANULES * UNIT);
	assert_int_equal(window.taken, 2 * UNIT);
}

static void test_gpa_reserve_is_next_fit_then_wraps(void **state)
{
	uint64_t a;
	uint64_t b;

	(void)state;
	assert_int_equal(ivc_gpa_reserve(&window, 40 * UNIT, UNIT, &a), 0);
	ivc_gpa_release(&window, a);
	assert_int_equal(ivc_gpa_reserve(&window, 40 * UNIT, UNIT, &b), 0);
	assert_int_equal(b, a + 40 * UNIT);
	ivc_gpa_release(&window, b);
	assert_int_equal(ivc_gpa_reserve(&window, 40 * UNIT, UNIT, &b), 0);
	assert_int_equal(b, a);
}

static void test_gpa_reserve_too_large_or_zero_is_nospc(void **state)
{
	uint64_t at = 77;

	(void)state;
	assert_int_equal(ivc_gpa_reserve(&window, GRANULES * UNIT + UNIT, UNIT, &at), IVC_E_NOSPC);
	assert_int_equal(ivc_gpa_reserve(&window, UINT64_MAX & ~(UNIT - 1), UNIT, &at), IVC_E_NOSPC);
	assert_int_equal(ivc_gpa_reserve(&window, 0, UNIT, &at), IVC_E_NOSPC);
	assert_int_equal(at, 77);
	assert_int_equal(ivc_gpa_reserve(&window, GRANULES * UNIT, UNIT, &at), 0);
	assert_int_equal(ivc_gpa_reserve(&window, UNIT, UNIT, &at), IVC_E_NOSPC);
}

static void test_gpa_reserve_without_room_for_a_record_is_nospc(void **state)
{
	uint64_t at;

	(void)state;
	for (uint32_t i = 0; i < 64; i++) {
		assert_int_equal(ivc_gpa_reserve(&window, UNIT, UNIT, &at), 0);
	}
	assert_int_equal(ivc_gpa_reserve(&window, UNIT, UNIT, &at), IVC_E_NOSPC);
}

static void test_gpa_window_at_the_end_of_the_address_space_works(void **state)
{
	uint64_t at;
	uint64_t other;

	(void)state;
	ivc_gpa_init(&window, UINT64_MAX - 4 * UNIT + 1, 4 * UNIT, used, 64);
	for (uint32_t round = 0; round < 5; round++) {
		assert_int_equal(ivc_gpa_reserve(&window, 3 * UNIT, UNIT, &at), 0);
		assert_true(at >= UINT64_MAX - 4 * UNIT + 1);
		assert_int_equal(ivc_gpa_reserve(&window, 2 * UNIT, UNIT, &other), IVC_E_NOSPC);
		ivc_gpa_release(&window, at);
		assert_int_equal(ivc_gpa_reserve(&window, 2 * UNIT, 8 * UNIT, &at), IVC_E_NOSPC);
		assert_int_equal(ivc_gpa_reserve(&window, 4 * UNIT, UNIT, &at), 0);
		ivc_gpa_release(&window, at);
		assert_int_equal(window.taken, 0);
	}
}

/* Random reserves and releases; the map says which granules are free. */
static void test_gpa_random_ranges_never_meet_and_are_found_if_they_exist(void **state)
{
	uint64_t seed = run_seed("test_gpa_random");
	const uint64_t steps = run_number("IVC_OPS", 200000);
	bool taken[GRANULES] = {false};
	uint64_t at[64];
	uint64_t length[64];
	uint32_t count = 0;
	uint64_t sum = 0;

	(void)state;
	for (uint64_t step = 0; step < steps; step++) {
		if (count < 60 && run_below(&seed, 2)) {
			const uint64_t n = 1 + run_below(&seed, 12);
			const uint64_t align = UINT64_C(1) << run_below(&seed, 4);
			bool exists = false;
			uint64_t got;
			int err;

			for (uint64_t i = 0; i + n <= GRANULES && !exists; i++) {
				exists = (BASE / UNIT + i) % align == 0;
				for (uint64_t k = i; exists && k < i + n; k++) {
					exists = !taken[k];
				}
			}
			err = ivc_gpa_reserve(&window, n * UNIT, align * UNIT, &got);
			assert_int_equal(err, exists ? 0 : IVC_E_NOSPC);
			if (err) {
				continue;
			}
			assert_int_equal(got % (align * UNIT), 0);
			for (uint64_t k = (got - BASE) / UNIT; k < (got - BASE) / UNIT + n; k++) {
				assert_true(k < GRANULES && !taken[k]);
				taken[k] = true;
			}
			at[count] = got;
			length[count++] = n;
			sum += n * UNIT;
		} else if (count) {
			const uint64_t i = run_below(&seed, count);

			ivc_gpa_release(&window, at[i]);
			memset(&taken[(at[i] - BASE) / UNIT], 0, length[i] * sizeof(taken[0]));
			sum -= length[i] * UNIT;
			at[i] = at[--count];
			length[i] = length[count];
		}
		assert_int_equal(window.taken, sum);
	}
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_gpa_reserve_stays_inside_and_aligned),
		T(test_gpa_reserve_is_next_fit_then_wraps),
		T(test_gpa_reserve_too_large_or_zero_is_nospc),
		T(test_gpa_reserve_without_room_for_a_record_is_nospc),
		T(test_gpa_window_at_the_end_of_the_address_space_works),
		T(test_gpa_random_ranges_never_meet_and_are_found_if_they_exist),
	};

	return cmocka_run_group_tests_name("gpa", tests, NULL, NULL);
}
