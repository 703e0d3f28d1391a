/* SPDX-License-Identifier: MIT */
/*
 * Slots in guest RAM: which addresses are accepted, what is read from them and how often, what is written and when. The
 * sizes that the size slot asks for and gets.
 */
#include "run.h"
#include "world.h"

#define KEY_OWN  UINT64_C(0x77) /* the caller's */
#define KEY_PEER UINT64_C(0x88) /* of vm[1], the caller is not in it */
#define KEY_OPEN UINT64_C(0x55) /* nobody's */
#define LIMIT    (UINT64_C(1) << 22)

static struct world w;

static int setup(void **state)
{
	(void)state;
	world_defaults(&w);
	w.config.region_bytes = LIMIT;
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], KEY_OWN, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_publish(&w.vm[1], KEY_PEER, 4096, WORLD_SEATS(4), NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_clean(world_check(&w));
	assert_clean(world_close(&w));
	return 0;
}

static void test_slot_of_every_kind_is_judged(void **state)
{
	struct world_window at;
	const struct {
		uint64_t slot;
		int64_t want;
	} rows[] = {
		{0, 0}, /* address 0 is RAM */
		{8, 0},
		{WORLD_RAM_BYTES - 8, 0},
		{WORLD_RAM_SMALL + 4088, 0},
		{WORLD_RAM_TOP + 4088, 0}, /* ends at 2^64 and does not pass it */
		{WORLD_RAM_BYTES, IVC_E_FAULT},
		{WORLD_HOLE, IVC_E_FAULT},
		{WORLD_READ_ONLY, IVC_E_FAULT},
		{world_window(0), IVC_E_FAULT}, /* own window: mapped or not */
		{world_window(0) + 8192, IVC_E_FAULT},
		{world_window(0) + WORLD_WINDOW_BYTES - 8, IVC_E_FAULT},
		{world_window(1), IVC_E_FAULT}, /* where a peer sees a channel: nothing here */
		{1, IVC_E_INVAL},
		{4, IVC_E_INVAL},
		{7, IVC_E_INVAL},
		{UINT64_MAX, IVC_E_INVAL},
		{UINT64_MAX - 3, IVC_E_INVAL},
	};

	(void)state;
	assert_int_equal(call_publish(&w.vm[0], KEY_OPEN, 16 * WORLD_GRANULE, 0, &at), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const uint64_t slot = rows[i].slot;

		(void)ivc_fake_store(w.vm[0].host, 0x2000, 8, 4096);
		(void)ivc_fake_store(w.vm[0].host, slot & ~UINT64_C(7), 8, 4096);
		assert_int_equal(call(&w.vm[0], IVC_HC_PUBLISH, 1000 + i, slot, 0x2000, 0), rows[i].want);
		(void)ivc_fake_store(w.vm[0].host, slot & ~UINT64_C(7), 8, 4096);
		assert_int_equal(call(&w.vm[0], IVC_HC_PUBLISH, 2000 + i, 0x1000, slot, 0), rows[i].want);
		assert_int_equal(call_on(&w.vm[0], 0, IVC_HC_SUBSCRIBE, 2, KEY_PEER, slot, 0x1000, 0, 0), rows[i].want);
		if (rows[i].want == 0) {
			assert_int_equal(call_unsubscribe(&w.vm[0], &w.vm[1], KEY_PEER), 0);
		}
		assert_int_equal(call_on(&w.vm[0], 0, IVC_HC_SUBSCRIBE, 2, KEY_PEER, 0x1000, slot, 0, 0), rows[i].want);
		if (rows[i].want == 0) {
			assert_int_equal(call_unsubscribe(&w.vm[0], &w.vm[1], KEY_PEER), 0);
		}
		/* as seat slot 0 means none, and is the one address that is not written */
		(void)ivc_fake_store(w.vm[0].host, 0, 8, WORLD_UNTOUCHED);
		assert_int_equal(call_on(&w.vm[0], 0, IVC_HC_SUBSCRIBE, 2, KEY_PEER, 0x1000, 0x2000, slot, 0),
				 rows[i].want);
		if (rows[i].want == 0) {
			assert_int_equal(call_unsubscribe(&w.vm[0], &w.vm[1], KEY_PEER), 0);
		}
		if (slot == 0) {
			assert_int_equal(load64(&w.vm[0], 0), WORLD_UNTOUCHED);
		}
		assert_int_equal(call(&w.vm[0], IVC_HC_UNPUBLISH, 1000 + i, 0, 0, 0), rows[i].want ? IVC_E_NOENT : 0);
		assert_int_equal(call(&w.vm[0], IVC_HC_UNPUBLISH, 2000 + i, 0, 0, 0), rows[i].want ? IVC_E_NOENT : 0);
	}
	assert_clean(world_check(&w));
}

static void test_slot_vm_info_slot_that_wraps_or_ends_early_faults(void **state)
{
	(void)state;
	assert_int_equal(call(&w.vm[0], IVC_HC_VM_INFO, WORLD_RAM_TOP + 4096 - 64, 0, 0, 0), 0);
	assert_int_equal(call(&w.vm[0], IVC_HC_VM_INFO, WORLD_RAM_TOP + 4096 - 56, 0, 0, 0), IVC_E_FAULT);
	assert_int_equal(call(&w.vm[0], IVC_HC_VM_INFO, WORLD_RAM_TOP + 4096 - 8, 0, 0, 0), IVC_E_FAULT);
	assert_int_equal(call(&w.vm[0], IVC_HC_VM_INFO, WORLD_RAM_BYTES - 56, 0, 0, 0), IVC_E_FAULT);
	assert_int_equal(call(&w.vm[0], IVC_HC_VM_INFO, world_window(0) - 8, 0, 0, 0), IVC_E_FAULT);
	assert_int_equal(call(&w.vm[0], IVC_HC_VM_INFO, 0, 0, 0, 0), 0);
}

static void test_slot_vm_info_tells_what_attach_was_given(void **state)
{
	struct world other;

	(void)state;
	world_defaults(&other);
	other.config.granule_log2 = 14;
	other.vm_config.vector = 33;
	other.vm_config.doorbell = 0xd000;
	other.vm_config.clock_hz = 1000000000;
	other.vm_config.clock_offset = -5;
	assert_int_equal(world_open(&other), 0);
	assert_int_equal(call(&other.vm[2], IVC_HC_VM_INFO, 0x40, 0, 0, 0), 0);
	assert_int_equal(load32(&other.vm[2], 0x40), 64);
	assert_int_equal(load32(&other.vm[2], 0x44), IVC_VM_INFO_VERSION);
	assert_int_equal(load64(&other.vm[2], 0x48), 3);
	assert_int_equal(load64(&other.vm[2], 0x50), world_window(2));
	assert_int_equal(load64(&other.vm[2], 0x58), WORLD_WINDOW_BYTES);
	assert_int_equal(load64(&other.vm[2], 0x60), 0xd000);
	assert_int_equal(load32(&other.vm[2], 0x68), 33);
	assert_int_equal(load32(&other.vm[2], 0x6c), 14);
	assert_int_equal(load64(&other.vm[2], 0x70), 1000000000);
	assert_int_equal((int64_t)load64(&other.vm[2], 0x78), -5);
	assert_int_equal(load64(&other.vm[2], 0x80), 0);
	assert_clean(world_close(&other));
}

/* axvisor.md 1.4, without its cut. */
static void test_slot_size_is_rounded_up_and_never_cut(void **state)
{
	static const struct {
		uint64_t wanted;
		int64_t result;
		uint64_t granted;
	} rows[] = {
		{0, IVC_E_INVAL, 0},
		{1, 0, 4096},
		{4095, 0, 4096},
		{4096, 0, 4096},
		{4097, 0, 8192},
		{8192, 0, 8192},
		{0x100000, 0, 0x100000},
		{0x200000 - 1, 0, 0x200000},
		{0x200001, 0, 0x201000},
		{LIMIT - 1, 0, LIMIT},
		{LIMIT, 0, LIMIT},
		{LIMIT + 1, IVC_E_INVAL, 0},
		{UINT64_C(1) << 32, IVC_E_INVAL, 0},
		{UINT64_C(0x100000001), IVC_E_INVAL, 0},
		{INT64_MAX, IVC_E_INVAL, 0},
		{UINT64_MAX - 4095, IVC_E_INVAL, 0},
		{UINT64_MAX - 4094, IVC_E_INVAL, 0},
		{UINT64_MAX, IVC_E_INVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world_window at;

		assert_int_equal(call_publish(&w.vm[0], KEY_OPEN, rows[i].wanted, 0, &at), rows[i].result);
		if (rows[i].result == 0) {
			assert_int_equal(at.bytes, rows[i].granted);
			assert_true(ivc_fake_filled(w.vm[0].host, at.base + 16, at.bytes - 16, 0));
			assert_int_equal(call_unpublish(&w.vm[0], KEY_OPEN, 0), 0);
		} else {
			assert_int_equal(at.bytes, rows[i].wanted);
			assert_int_equal(at.base, WORLD_UNTOUCHED);
		}
	}
}

static void test_slot_get_refused_leaves_nothing_behind(void **state)
{
	(void)state;
	for (uint64_t nth = 1; nth <= 3; nth++) {
		struct snapshot before;
		struct snapshot after;

		(void)ivc_fake_store(w.vm[0].host, 0x2000, 8, 4096);
		snapshot_take(&w, &before);
		ivc_fake_fail(w.fake, IVC_FAKE_SLOT_GET, nth, 1, IVC_E_FAULT);
		if (nth < 3) {
			assert_int_equal(call(&w.vm[0], IVC_HC_PUBLISH, KEY_OPEN, 0x1000, 0x2000, 0), IVC_E_FAULT);
		}
		ivc_fake_fail(w.fake, IVC_FAKE_SLOT_GET, nth, 1, IVC_E_FAULT);
		assert_int_equal(call_on(&w.vm[0], 0, IVC_HC_SUBSCRIBE, 2, KEY_PEER, 0x1000, 0x2000, 0x3000, 0),
				 IVC_E_FAULT);
		ivc_fake_fail(w.fake, IVC_FAKE_SLOT_GET, 0, 0, 0);
		snapshot_take(&w, &after);
		assert_clean(snapshot_differs(&before, &after));
		assert_clean(world_check(&w));
	}
}

/* The size is copied once: what another vCPU makes of the word meanwhile does not matter. */
static void grow_the_size(void *arg, enum ivc_fake_op op, struct ivc_fake_vm *host)
{
	struct ivc_call *c = arg;

	(void)host;
	if (op == IVC_FAKE_SLOT_PUT || op == IVC_FAKE_RELAX) {
		return; /* the results are in the slots by then */
	}
	if (op != IVC_FAKE_SLOT_GET) {
		(void)ivc_fake_store(w.vm[0].host, 0x2000, 8, UINT64_MAX);
	}
	c->arg[0] = KEY_OWN;
	c->arg[1] = WORLD_HOLE;
	c->arg[2] = WORLD_HOLE;
	c->arg[3] = 2;
}

static void test_slot_registers_and_size_are_read_once(void **state)
{
	struct ivc_call c = {.nr = IVC_HC_PUBLISH, .arg = {KEY_OPEN, 0x1000, 0x2000, WORLD_SECTIONED}};

	(void)state;
	(void)ivc_fake_store(w.vm[0].host, 0x2000, 8, 8192);
	ivc_fake_hook(w.fake, grow_the_size, &c);
	assert_int_equal(ivc_hv_hypercall(w.vm[0].vm, ivc_fake_vcpu(w.vm[0].host, 0), &c), IVC_DONE);
	ivc_fake_hook(w.fake, NULL, NULL);
	assert_int_equal(c.result, 0);
	assert_int_equal(load64(&w.vm[0], 0x2000), 4 * WORLD_GRANULE);
	assert_int_equal(call_unpublish(&w.vm[0], KEY_OPEN, 0), 0);
}

static void test_slot_seat_slot_of_flat_channel_gets_zero(void **state)
{
	struct world_window at;

	(void)state;
	assert_int_equal(call_publish(&w.vm[1], KEY_OPEN, 100, 0, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[0], &w.vm[1], KEY_OPEN, 0, &at), 0);
	assert_int_equal(at.seat, 0);
	assert_int_equal(at.bytes, 4096);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_slot_of_every_kind_is_judged),
		T(test_slot_vm_info_slot_that_wraps_or_ends_early_faults),
		cmocka_unit_test(test_slot_vm_info_tells_what_attach_was_given),
		T(test_slot_size_is_rounded_up_and_never_cut),
		T(test_slot_get_refused_leaves_nothing_behind),
		T(test_slot_registers_and_size_are_read_once),
		T(test_slot_seat_slot_of_flat_channel_gets_zero),
	};

	return cmocka_run_group_tests_name("slot", tests, NULL, NULL);
}
