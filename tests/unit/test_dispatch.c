/* SPDX-License-Identifier: MIT */
/*
 * Registers, numbers, slots and the order of checks, against rules written down here a second time (docs/abi.md 1 and
 * 3). It knows nothing of how the core finds its answers.
 */
#include "run.h"
#include "world.h"

#include <string.h>

#define KEY_OWN    UINT64_C(0x77) /* the caller's, sectioned */
#define KEY_PEER   UINT64_C(0x88) /* of vm[1], the caller is not in it */
#define KEY_JOINED UINT64_C(0x99) /* of vm[2], the caller is in seat 0 */
#define KEY_OPEN   UINT64_C(0x55) /* nobody's */
#define LIMIT      (UINT64_C(1) << 22)
#define SEATS      4u
#define SEAT_LOG   2u

static struct world w;
static uint64_t handle_own;
static uint64_t handle_joined;

static int setup(void **state)
{
	const uint64_t layout = WORLD_SEATS(SEATS) | (uint64_t)SEAT_LOG << IVC_LAYOUT_SEAT_LOG_SHIFT;
	struct world_window at;

	(void)state;
	world_defaults(&w);
	w.config.region_bytes = LIMIT;
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], KEY_OWN, 4096, layout, &at), 0);
	handle_own = page_handle(&w.vm[0], at.base);
	assert_int_equal(call_publish(&w.vm[1], KEY_PEER, 4096, layout, NULL), 0);
	assert_int_equal(call_publish(&w.vm[2], KEY_JOINED, 4096, layout, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[0], &w.vm[2], KEY_JOINED, 0, &at), 0);
	handle_joined = page_handle(&w.vm[0], at.base);
	(void)call_look(&w.vm[0], 0);
	(void)call_look(&w.vm[0], 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_clean(world_close(&w));
	return 0;
}

/* The rules. */

static bool is_ram(uint64_t at, uint64_t bytes)
{
	if (bytes - 1 > UINT64_MAX - at) {
		return false;
	}
	return (at < WORLD_RAM_BYTES && bytes <= WORLD_RAM_BYTES - at) ||
	       (at >= WORLD_RAM_SMALL && at - WORLD_RAM_SMALL <= 4096 - bytes) || at >= WORLD_RAM_TOP;
}

static uint64_t up(uint64_t v, uint64_t unit)
{
	return (v + unit - 1) / unit * unit;
}

static bool layout_ok(uint64_t layout)
{
	const uint64_t seats = layout >> IVC_LAYOUT_SEATS_SHIFT & 0xffff;
	const uint64_t seat_log = layout >> IVC_LAYOUT_SEAT_LOG_SHIFT & 0xff;

	if (layout == 0) {
		return true;
	}
	return (layout & 0xff) == 1 && seats >= 1 && seats <= IVC_SEATS_MAX && seat_log < 52 &&
	       WORLD_GRANULE << seat_log <= LIMIT && (layout & IVC_LAYOUT_ZERO_MASK) == 0;
}

static uint64_t window_bytes(uint64_t layout, uint64_t wanted)
{
	const uint64_t data = up(wanted, WORLD_GRANULE);
	const uint64_t seat = WORLD_GRANULE << (layout >> IVC_LAYOUT_SEAT_LOG_SHIFT & 0xff);
	uint64_t at = data >= IVC_HUGE_BYTES ? IVC_HUGE_BYTES : WORLD_GRANULE;

	if (layout == 0) {
		return data;
	}
	at = up(at + data, seat >= IVC_HUGE_BYTES ? IVC_HUGE_BYTES : WORLD_GRANULE);
	return at + (layout >> IVC_LAYOUT_SEATS_SHIFT & 0xffff) * seat;
}

static int64_t expect_publish(const uint64_t *a)
{
	uint64_t wanted;

	if (a[4] || a[5] || a[1] % 8 || a[2] % 8 || a[1] == a[2] || !layout_ok(a[3])) {
		return IVC_E_INVAL;
	}
	if (!is_ram(a[1], 8) || !is_ram(a[2], 8)) {
		return IVC_E_FAULT;
	}
	wanted = load64(&w.vm[0], a[2]);
	if (wanted == 0 || wanted > LIMIT) {
		return IVC_E_INVAL;
	}
	if (a[0] == KEY_OWN) {
		return IVC_E_EXIST;
	}
	return window_bytes(a[3], wanted) > WORLD_WINDOW_BYTES ? IVC_E_NOSPC : 0;
}

static int64_t expect_subscribe(const uint64_t *a)
{
	if (a[0] > IVC_VM_ID_LAST || a[0] == w.vm[0].id || a[5] > 1) {
		return IVC_E_INVAL;
	}
	if (a[2] % 8 || a[3] % 8 || a[4] % 8 || a[2] == a[3] || (a[4] && (a[4] == a[2] || a[4] == a[3]))) {
		return IVC_E_INVAL;
	}
	if (!is_ram(a[2], 8) || !is_ram(a[3], 8) || (a[4] && !is_ram(a[4], 8))) {
		return IVC_E_FAULT;
	}
	if (a[0] == w.vm[2].id && a[1] == KEY_JOINED) {
		return IVC_E_EXIST;
	}
	return a[0] == w.vm[1].id && a[1] == KEY_PEER ? 0 : IVC_E_NOENT;
}

static int64_t expect_notify(const uint64_t *a)
{
	if (a[0] > IVC_VM_ID_LAST || (a[2] > IVC_VM_ID_LAST && a[2] != IVC_ALL) || a[3] > 1 || a[4] || a[5]) {
		return IVC_E_INVAL;
	}
	if (a[0] == w.vm[0].id && a[1] == KEY_OWN) {
		return a[2] == IVC_ALL ? 0 : IVC_E_NOENT; /* nobody is in it */
	}
	if (a[0] == w.vm[2].id && a[1] == KEY_JOINED) {
		return a[2] == IVC_ALL || a[2] == w.vm[2].id ? 0 : IVC_E_NOENT;
	}
	return IVC_E_NOENT;
}

static int64_t expect_bell(const uint64_t *a)
{
	if ((a[1] >= IVC_SEATS_MAX && a[1] != IVC_ALL) || (a[2] >= IVC_SEATS_MAX && a[2] != IVC_ALL) || a[3] > 1 ||
	    a[4] || a[5]) {
		return IVC_E_INVAL;
	}
	if ((a[0] == handle_own && a[2] == IVC_ALL) || (a[0] == handle_joined && a[2] == 0)) {
		return a[1] == IVC_ALL ? 0 : IVC_E_NOENT; /* nobody sits there, or the peer has no seat */
	}
	return IVC_E_STALE;
}

static int64_t expect(uint64_t nr, const uint64_t *a)
{
	const uint64_t rest = a[2] | a[3] | a[4] | a[5];

	switch (nr >= IVC_HC_ALIAS && nr - IVC_HC_ALIAS <= IVC_HC_SMALL_LAST ? nr - IVC_HC_ALIAS : nr) {
	case IVC_HC_HYPERVISOR_DISABLE:
	case IVC_HC_HYPERVISOR_PREPARE_DISABLE:
		return a[0] | a[1] | rest ? IVC_E_INVAL : IVC_E_PERM;
	case IVC_HC_HYPERVISOR_DEBUG:
		return rest ? IVC_E_INVAL : IVC_E_PERM;
	case IVC_HC_PUBLISH:
		return expect_publish(a);
	case IVC_HC_SUBSCRIBE:
		return expect_subscribe(a);
	case IVC_HC_UNPUBLISH:
		return rest || a[1] > 1 ? IVC_E_INVAL : a[0] == KEY_OWN ? 0 : IVC_E_NOENT;
	case IVC_HC_UNSUBSCRIBE:
		if (rest || a[0] > IVC_VM_ID_LAST) {
			return IVC_E_INVAL;
		}
		return a[0] == w.vm[2].id && a[1] == KEY_JOINED ? 0 : IVC_E_NOENT;
	case IVC_HC_NOTIFY:
		return expect_notify(a);
	case IVC_HC_FEATURES:
		return a[0] | a[1] | rest ? IVC_E_INVAL : 1;
	case IVC_HC_VM_ID:
		return a[0] | a[1] | rest ? IVC_E_INVAL : (int64_t)w.vm[0].id;
	case IVC_HC_WAIT:
		if (rest) {
			return IVC_E_INVAL;
		}
		if (a[0] != 0 && a[0] != handle_own && a[0] != handle_joined) {
			return IVC_E_STALE;
		}
		return a[1] == 0 ? IVC_E_AGAIN : WORLD_PARKED;
	case IVC_HC_BELL:
		return expect_bell(a);
	case IVC_HC_VM_INFO:
		if (a[1] | rest || a[0] % 8) {
			return IVC_E_INVAL;
		}
		return is_ram(a[0], 64) ? 0 : IVC_E_FAULT;
	case IVC_HC_RESET:
		return a[0] | a[1] | rest ? IVC_E_INVAL : 0;
	default:
		return IVC_E_NOSYS;
	}
}

/* Arguments that succeed, or would with more rights. */
struct good {
	uint64_t nr;
	uint64_t a[6];
};

static const struct good good[] = {
	{IVC_HC_HYPERVISOR_DISABLE, {0}},
	{IVC_HC_HYPERVISOR_PREPARE_DISABLE, {0}},
	{IVC_HC_HYPERVISOR_DEBUG, {1, 2}},
	{IVC_HC_PUBLISH, {KEY_OPEN, 0x1000, 0x2000, 0}},
	{IVC_HC_PUBLISH, {KEY_OPEN, 0x1000, 0x2000, WORLD_SECTIONED}},
	{IVC_HC_SUBSCRIBE, {2, KEY_PEER, 0x1000, 0x2000, 0x3000, 0}},
	{IVC_HC_SUBSCRIBE, {2, KEY_PEER, 0x1000, 0x2000, 0, 1}},
	{IVC_HC_UNPUBLISH, {KEY_OWN, 0}},
	{IVC_HC_UNSUBSCRIBE, {3, KEY_JOINED}},
	{IVC_HC_NOTIFY, {1, KEY_OWN, IVC_ALL, 0}},
	{IVC_HC_NOTIFY, {3, KEY_JOINED, 3, 1}},
	{IVC_HC_FEATURES, {0}},
	{IVC_HC_VM_ID, {0}},
	{IVC_HC_WAIT, {0, 0}},
	{IVC_HC_VM_INFO, {0x4000}},
};

#define GOOD_COUNT (sizeof(good) / sizeof(good[0]))

/* Puts the world back to what setup() made, after @nr succeeded with @a. */
static void undo(uint64_t nr, const uint64_t *a)
{
	const uint64_t layout = WORLD_SEATS(SEATS) | (uint64_t)SEAT_LOG << IVC_LAYOUT_SEAT_LOG_SHIFT;
	struct world_window at;

	switch (nr >= IVC_HC_ALIAS && nr - IVC_HC_ALIAS <= IVC_HC_SMALL_LAST ? nr - IVC_HC_ALIAS : nr) {
	case IVC_HC_PUBLISH:
		assert_int_equal(call_unpublish(&w.vm[0], a[0], 0), 0);
		break;
	case IVC_HC_SUBSCRIBE:
		assert_int_equal(call_unsubscribe(&w.vm[0], &w.vm[1], KEY_PEER), 0);
		break;
	case IVC_HC_UNPUBLISH:
		assert_int_equal(call_publish(&w.vm[0], KEY_OWN, 4096, layout, &at), 0);
		handle_own = page_handle(&w.vm[0], at.base);
		break;
	case IVC_HC_UNSUBSCRIBE:
		assert_int_equal(call_subscribe(&w.vm[0], &w.vm[2], KEY_JOINED, 0, &at), 0);
		handle_joined = page_handle(&w.vm[0], at.base);
		break;
	default:
		break;
	}
	for (uint32_t i = 0; i < 8 && call_look(&w.vm[0], 0) > 0; i++) {
	}
}

/* One call; the result must be what the rules say, and on an error no out slot may have changed. */
static void check(uint64_t nr, const uint64_t *a)
{
	static const uint64_t slots[] = {0, 8, 0x1000, 0x2000, 0x3000, 0x4000, 0x8000};
	uint64_t before[sizeof(slots) / sizeof(slots[0])];
	int64_t want;
	int64_t got;

	(void)ivc_fake_store(w.vm[0].host, 0x1000, 8, WORLD_UNTOUCHED);
	(void)ivc_fake_store(w.vm[0].host, 0x2000, 8, 4096);
	for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
		before[i] = load64(&w.vm[0], slots[i]);
	}
	want = expect(nr, a);
	got = call_on(&w.vm[0], 0, nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (nr == IVC_HC_FEATURES && got > 0) {
		got = 1;
	}
	if (got != want) {
		fail_msg("nr 0x%llx (0x%llx 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx): %lld, not %lld",
			 (unsigned long long)nr, (unsigned long long)a[0], (unsigned long long)a[1],
			 (unsigned long long)a[2], (unsigned long long)a[3], (unsigned long long)a[4],
			 (unsigned long long)a[5], (long long)got, (long long)want);
	}
	if (got < 0) {
		for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
			assert_int_equal(load64(&w.vm[0], slots[i]), before[i]);
		}
	} else {
		undo(nr, a);
	}
}

static void test_dispatch_register_at_every_boundary_obeys_the_rules(void **state)
{
	(void)state;
	for (size_t g = 0; g < GOOD_COUNT; g++) {
		for (uint32_t reg = 0; reg < 6; reg++) {
			for (uint32_t k = 0; k < 64; k++) {
				for (uint32_t d = 0; d < 3; d++) {
					uint64_t a[6];

					memcpy(a, good[g].a, sizeof(a));
					a[reg] = (UINT64_C(1) << k) + d - 1;
					check(good[g].nr, a);
				}
			}
		}
		assert_clean(world_check(&w));
	}
}

static void test_dispatch_register_all_ones_obeys_the_rules(void **state)
{
	(void)state;
	for (size_t g = 0; g < GOOD_COUNT; g++) {
		for (uint32_t reg = 0; reg < 6; reg++) {
			for (uint64_t less = 0; less < 18; less++) {
				uint64_t a[6];

				memcpy(a, good[g].a, sizeof(a));
				a[reg] = UINT64_MAX - less;
				check(good[g].nr, a);
			}
		}
	}
}

static void test_dispatch_bell_and_wait_registers_obey_the_rules(void **state)
{
	(void)state;
	for (uint32_t reg = 0; reg < 6; reg++) {
		for (uint32_t k = 0; k < 64; k++) {
			for (uint32_t d = 0; d < 3; d++) {
				const uint64_t v = (UINT64_C(1) << k) + d - 1;
				uint64_t own[6] = {handle_own, IVC_ALL, IVC_ALL, 0};
				uint64_t joined[6] = {handle_joined, IVC_ALL, 0, 1};
				uint64_t look[6] = {handle_own, 0};

				own[reg] = v;
				joined[reg] = v;
				look[reg] = v;
				check(IVC_HC_BELL, own);
				check(IVC_HC_BELL, joined);
				check(IVC_HC_WAIT, look);
			}
		}
	}
}

static void test_dispatch_alias_number_is_the_same_call(void **state)
{
	(void)state;
	for (size_t g = 0; g < GOOD_COUNT; g++) {
		if (good[g].nr > IVC_HC_SMALL_LAST) {
			continue;
		}
		check(IVC_HC_ALIAS + good[g].nr, good[g].a);
		for (uint32_t reg = 0; reg < 6; reg++) {
			uint64_t a[6];

			memcpy(a, good[g].a, sizeof(a));
			a[reg] = UINT64_C(0x123);
			check(IVC_HC_ALIAS + good[g].nr, a);
		}
	}
}

static void test_dispatch_unknown_number_answers_nosys(void **state)
{
	static const uint64_t unknown[] = {
		8,
		9,
		0xff,
		0x100000003,
		UINT64_C(0x8000000000000003),
		0x495642ff,
		0x49564306,
		0x4956430f,
		0x49564318,
		UINT64_C(0x149564300),
		UINT64_C(0x149564313),
		0x84000000,
		UINT64_MAX,
		UINT64_MAX - 2,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		check(unknown[i], good[3].a);
		check(unknown[i], good[0].a);
	}
	for (uint32_t k = 3; k < 64; k++) {
		for (uint32_t d = 0; d < 3; d++) {
			const uint64_t nr = (UINT64_C(1) << k) + d - 1;

			if (nr > IVC_HC_SMALL_LAST) {
				check(nr, good[0].a);
			}
		}
	}
}

static void test_dispatch_unknown_number_writes_the_result(void **state)
{
	struct ivc_call c = {.nr = 0x100000003, .arg = {KEY_OPEN, 0x1000, 0x2000}, .result = 12345};

	(void)state;
	assert_int_equal(ivc_hv_hypercall(w.vm[0].vm, ivc_fake_vcpu(w.vm[0].host, 0), &c), IVC_DONE);
	assert_int_equal(c.result, IVC_E_NOSYS);
}

static void test_dispatch_high_numbers_only_small_ones_are_foreign(void **state)
{
	struct world high;

	(void)state;
	world_defaults(&high);
	high.config.flags = IVC_HV_HIGH_NUMBERS;
	assert_int_equal(world_open(&high), 0);
	for (uint64_t nr = 0; nr < 12; nr++) {
		struct ivc_call c = {.nr = nr, .arg = {KEY_OPEN, 0x1000, 0x2000}, .result = 12345};
		const enum ivc_verdict verdict = ivc_hv_hypercall(high.vm[0].vm, ivc_fake_vcpu(high.vm[0].host, 0), &c);

		if (nr <= IVC_HC_SMALL_LAST) {
			assert_int_equal(verdict, IVC_FOREIGN);
			assert_int_equal(c.result, 12345);
			assert_int_equal(c.nr, nr);
		}
	}
	(void)ivc_fake_store(high.vm[0].host, 0x2000, 8, 4096);
	assert_int_equal(call(&high.vm[0], IVC_HC_ALIAS + IVC_HC_PUBLISH, KEY_OPEN, 0x1000, 0x2000, 0), 0);
	assert_int_equal(call(&high.vm[0], IVC_HC_ALIAS + IVC_HC_UNPUBLISH, KEY_OPEN, 0, 0, 0), 0);
	assert_true(call(&high.vm[0], IVC_HC_FEATURES, 0, 0, 0, 0) > 0);
	assert_clean(world_close(&high));
}

/* Order of checks: each row has two defects; the earlier one answers. */
static void test_dispatch_two_defects_first_check_wins(void **state)
{
	static const struct {
		const char *what;
		uint64_t nr;
		uint64_t a[6];
		uint64_t size; /* in the size slot */
		int64_t want;
	} rows[] = {
		{"number, registers", 99, {1, 1, 1, 1, 1, 1}, 4096, IVC_E_NOSYS},
		{"registers, slot", IVC_HC_PUBLISH, {KEY_OPEN, WORLD_HOLE, 0x2000, 0, 1}, 4096, IVC_E_INVAL},
		{"alignment, slot", IVC_HC_PUBLISH, {KEY_OPEN, WORLD_HOLE, 0x2001}, 4096, IVC_E_INVAL},
		{"equal slots, slot", IVC_HC_PUBLISH, {KEY_OPEN, WORLD_HOLE, WORLD_HOLE}, 4096, IVC_E_INVAL},
		{"layout, slot", IVC_HC_PUBLISH, {KEY_OPEN, WORLD_HOLE, 0x2000, 2}, 4096, IVC_E_INVAL},
		{"layout, name", IVC_HC_PUBLISH, {KEY_OWN, 0x1000, 0x2000, 2}, 4096, IVC_E_INVAL},
		{"base slot, size", IVC_HC_PUBLISH, {KEY_OPEN, WORLD_HOLE, 0x2000}, 0, IVC_E_FAULT},
		{"base slot, name", IVC_HC_PUBLISH, {KEY_OWN, WORLD_HOLE, 0x2000}, 4096, IVC_E_FAULT},
		{"size slot, name", IVC_HC_PUBLISH, {KEY_OWN, 0x1000, WORLD_READ_ONLY}, 4096, IVC_E_FAULT},
		{"size, name", IVC_HC_PUBLISH, {KEY_OWN, 0x1000, 0x2000}, 0, IVC_E_INVAL},
		{"size above, name", IVC_HC_PUBLISH, {KEY_OWN, 0x1000, 0x2000}, LIMIT + 1, IVC_E_INVAL},
		{"self, slot", IVC_HC_SUBSCRIBE, {1, KEY_OWN, WORLD_HOLE, 0x2000}, 0, IVC_E_INVAL},
		{"flags, slot", IVC_HC_SUBSCRIBE, {2, KEY_PEER, WORLD_HOLE, 0x2000, 0, 2}, 0, IVC_E_INVAL},
		{"seat slot alignment, slot", IVC_HC_SUBSCRIBE, {2, KEY_PEER, WORLD_HOLE, 0x2000, 4}, 0, IVC_E_INVAL},
		{"equal seat slot, slot",
		 IVC_HC_SUBSCRIBE,
		 {2, KEY_PEER, 0x1000, WORLD_HOLE, WORLD_HOLE},
		 0,
		 IVC_E_INVAL},
		{"slot, no such name", IVC_HC_SUBSCRIBE, {2, KEY_OPEN, 0x1000, WORLD_HOLE}, 0, IVC_E_FAULT},
		{"seat slot, no such name",
		 IVC_HC_SUBSCRIBE,
		 {2, KEY_OPEN, 0x1000, 0x2000, WORLD_HOLE},
		 0,
		 IVC_E_FAULT},
		{"slot, joined already", IVC_HC_SUBSCRIBE, {3, KEY_JOINED, 0x1000, WORLD_READ_ONLY}, 0, IVC_E_FAULT},
		{"registers, name", IVC_HC_UNPUBLISH, {KEY_OPEN, 2}, 0, IVC_E_INVAL},
		{"registers, name", IVC_HC_UNSUBSCRIBE, {2, KEY_OPEN, 1}, 0, IVC_E_INVAL},
		{"registers, rights", IVC_HC_HYPERVISOR_DISABLE, {1}, 0, IVC_E_INVAL},
		{"registers, rights", IVC_HC_HYPERVISOR_DEBUG, {0, 0, 1}, 0, IVC_E_INVAL},
		{"registers, name", IVC_HC_NOTIFY, {2, KEY_OPEN, IVC_ALL, 2}, 0, IVC_E_INVAL},
		{"registers, handle", IVC_HC_BELL, {1, IVC_ALL, IVC_ALL, 2}, 0, IVC_E_INVAL},
		{"registers, handle", IVC_HC_WAIT, {1, 0, 1}, 0, IVC_E_INVAL},
		{"alignment, slot", IVC_HC_VM_INFO, {WORLD_HOLE + 4}, 0, IVC_E_INVAL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const uint64_t *a = rows[i].a;
		int64_t got;

		(void)ivc_fake_store(w.vm[0].host, 0x2000, 8, rows[i].size);
		got = call_on(&w.vm[0], 0, rows[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		if (got != rows[i].want) {
			fail_msg("%s (nr 0x%llx): %lld, not %lld", rows[i].what, (unsigned long long)rows[i].nr,
				 (long long)got, (long long)rows[i].want);
		}
	}
	assert_clean(world_check(&w));
}

/* The later rows of the table need a registry with small limits. */
static void test_dispatch_two_resources_short_first_check_wins(void **state)
{
	struct world small;
	struct snapshot before;
	struct snapshot after;

	(void)state;
	world_defaults(&small);
	small.vm_config.quota.channels = 1;
	small.vm_config.quota.bytes = 5 * WORLD_GRANULE;
	small.vm_config.window_bytes = 4 * WORLD_GRANULE;
	assert_int_equal(world_open(&small), 0);
	assert_int_equal(call_publish(&small.vm[0], 1, 4096, 0, NULL), 0);
	snapshot_take(&small, &before);
	/* name before quota of channels */
	assert_int_equal(call_publish(&small.vm[0], 1, 4096, 0, NULL), IVC_E_EXIST);
	/* quota of channels before window */
	assert_int_equal(call_publish(&small.vm[0], 2, 8 * WORLD_GRANULE, 0, NULL), IVC_E_DQUOT);
	/* quota of bytes before window */
	assert_int_equal(call_publish(&small.vm[1], 2, 8 * WORLD_GRANULE, 0, NULL), IVC_E_DQUOT);
	/* window before memory */
	ivc_fake_fail(small.fake, IVC_FAKE_MEM_NEW, 1, 1, IVC_E_NOMEM);
	assert_int_equal(call_publish(&small.vm[1], 2, 5 * WORLD_GRANULE, 0, NULL), IVC_E_NOSPC);
	ivc_fake_fail(small.fake, IVC_FAKE_MEM_NEW, 1, 1, IVC_E_NOMEM);
	assert_int_equal(call_publish(&small.vm[1], 2, 4 * WORLD_GRANULE, 0, NULL), IVC_E_NOMEM);
	ivc_fake_fail(small.fake, IVC_FAKE_MEM_NEW, 0, 0, 0);
	snapshot_take(&small, &after);
	before.ram[0] = after.ram[0]; /* the helpers wrote the slots */
	before.ram[1] = after.ram[1];
	assert_clean(snapshot_differs(&before, &after));
	assert_clean(world_close(&small));
}

static void test_dispatch_features_word_is_exact(void **state)
{
	const int64_t word = call(&w.vm[0], IVC_HC_FEATURES, 0, 0, 0, 0);
	const int64_t known = (int64_t)(IVC_FEATURE_IVC | UINT64_C(1) << IVC_FEATURE_MAJOR_SHIFT |
					UINT64_C(12) << IVC_FEATURE_GRANULE_SHIFT | IVC_FEATURE_SECTIONED |
					IVC_FEATURE_REVOKE | IVC_FEATURE_BELL | IVC_FEATURE_WAIT | IVC_FEATURE_VM_INFO);

	(void)state;
	assert_int_equal(word, known); /* no doorbell page was given to attach */
	assert_int_equal(call(&w.vm[3], IVC_HC_VM_ID, 0, 0, 0, 0), 4);
}

static void test_dispatch_layout_word_every_bit_is_judged(void **state)
{
	static const uint64_t from[] = {0, WORLD_SECTIONED, WORLD_SEATS(248), WORLD_SEATS(249), WORLD_SEATS(0)};

	(void)state;
	for (size_t f = 0; f < sizeof(from) / sizeof(from[0]); f++) {
		for (uint32_t bit = 0; bit < 64; bit++) {
			const uint64_t a[6] = {KEY_OPEN, 0x1000, 0x2000, from[f] ^ UINT64_C(1) << bit};

			check(IVC_HC_PUBLISH, a);
		}
	}
	for (uint64_t kind = 0; kind < 256; kind++) {
		const uint64_t a[6] = {KEY_OPEN, 0x1000, 0x2000, (WORLD_SECTIONED & ~UINT64_C(0xff)) | kind};

		check(IVC_HC_PUBLISH, a);
	}
	for (uint64_t seat_log = 0; seat_log < 256; seat_log++) {
		const uint64_t a[6] = {KEY_OPEN, 0x1000, 0x2000, WORLD_SECTIONED | seat_log << 24};

		check(IVC_HC_PUBLISH, a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_dispatch_register_at_every_boundary_obeys_the_rules, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_dispatch_register_all_ones_obeys_the_rules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dispatch_bell_and_wait_registers_obey_the_rules, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dispatch_alias_number_is_the_same_call, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dispatch_unknown_number_answers_nosys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dispatch_unknown_number_writes_the_result, setup, teardown),
		cmocka_unit_test(test_dispatch_high_numbers_only_small_ones_are_foreign),
		cmocka_unit_test_setup_teardown(test_dispatch_two_defects_first_check_wins, setup, teardown),
		cmocka_unit_test(test_dispatch_two_resources_short_first_check_wins),
		cmocka_unit_test_setup_teardown(test_dispatch_features_word_is_exact, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dispatch_layout_word_every_bit_is_judged, setup, teardown),
	};

	return cmocka_run_group_tests_name("dispatch", tests, NULL, NULL);
}
