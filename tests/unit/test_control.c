/* SPDX-License-Identifier: MIT */
/* Calls 0-2 and the phases of the hypervisor: who may, what they end, what they leave (docs/abi.md 3.1 to 3.3). */
#include "run.h"
#include "world.h"

#define KEY UINT64_C(0x6b)

static struct world w;
static struct world_vm *const admin = &w.vm[0]; /* privileged */
static struct world_vm *const pub = &w.vm[1];
static struct world_vm *const sub = &w.vm[2];

static int setup(void **state)
{
	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(world_detach(&w, 0), 0);
	w.vm_config.flags = IVC_VM_PRIVILEGED;
	assert_int_equal(world_attach(&w, 0, 1), 0);
	w.vm_config.flags = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_clean(world_check(&w));
	assert_clean(world_close(&w));
	return 0;
}

static int64_t control(struct world_vm *vm, uint64_t nr)
{
	int64_t result = IVC_E_AGAIN;

	for (uint32_t turn = 0; result == IVC_E_AGAIN && turn < 1000; turn++) {
		result = call(vm, nr, 0, 0, 0, 0);
	}
	return result;
}

static void test_control_by_ordinary_vm_is_perm_and_without_effect(void **state)
{
	const uint64_t ops = ivc_fake_count(w.fake, IVC_FAKE_CONTROL);

	(void)state;
	for (uint64_t nr = 0; nr < 3; nr++) {
		assert_int_equal(call(pub, nr, 0, 0, 0, 0), IVC_E_PERM);
		assert_int_equal(call(pub, IVC_HC_ALIAS + nr, 0, 0, 0, 0), IVC_E_PERM);
	}
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_CONTROL), ops);
	assert_int_equal(ivc_hv_phase(w.hv), IVC_HV_RUN);
}

static void test_control_without_op_is_opnotsupp(void **state)
{
	struct world bare;

	(void)state;
	world_defaults(&bare);
	bare.ops.control = NULL;
	bare.vm_config.flags = IVC_VM_PRIVILEGED;
	assert_int_equal(world_open(&bare), 0);
	for (uint64_t nr = 0; nr < 3; nr++) {
		assert_int_equal(call(&bare.vm[0], nr, 0, 0, 0, 0), IVC_E_OPNOTSUPP);
	}
	assert_int_equal(ivc_hv_phase(bare.hv), IVC_HV_RUN);
	assert_clean(world_close(&bare));
}

static void test_control_debug_hands_both_words_to_the_op(void **state)
{
	struct ivc_fake_entry e;

	(void)state;
	assert_int_equal(call(admin, IVC_HC_HYPERVISOR_DEBUG, 0x1234567890, UINT64_MAX, 0, 0), 0);
	assert_true(ivc_fake_log_get(w.fake, ivc_fake_log_count(w.fake) - 1, &e));
	assert_int_equal(e.op, IVC_FAKE_CONTROL);
	assert_int_equal(e.at, IVC_HC_HYPERVISOR_DEBUG);
	assert_int_equal(e.bytes, 0x1234567890);
	assert_true(e.mem == UINT64_MAX);
	ivc_fake_control(w.fake, IVC_E_AGAIN);
	assert_int_equal(call(admin, IVC_HC_HYPERVISOR_DEBUG, 0, 0, 0, 0), IVC_E_AGAIN);
	/* an op cannot forge a success that is not 0 */
	ivc_fake_control(w.fake, 7);
	assert_true(call(admin, IVC_HC_HYPERVISOR_DEBUG, 0, 0, 0, 0) <= 0);
}

static void test_control_disable_before_prepare_is_busy(void **state)
{
	(void)state;
	assert_int_equal(call(admin, IVC_HC_HYPERVISOR_DISABLE, 0, 0, 0, 0), IVC_E_BUSY);
	assert_int_equal(ivc_hv_phase(w.hv), IVC_HV_RUN);
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
}

static void test_control_prepare_refused_by_the_op_changes_nothing(void **state)
{
	(void)state;
	ivc_fake_control(w.fake, IVC_E_BUSY);
	assert_int_equal(call(admin, IVC_HC_HYPERVISOR_PREPARE_DISABLE, 0, 0, 0, 0), IVC_E_BUSY);
	ivc_fake_control(w.fake, IVC_E_PERM);
	assert_int_equal(call(admin, IVC_HC_HYPERVISOR_PREPARE_DISABLE, 0, 0, 0, 0), IVC_E_PERM);
	assert_int_equal(ivc_hv_phase(w.hv), IVC_HV_RUN);
	assert_int_equal(call_publish(pub, KEY, 4096, 0, NULL), 0);
}

static void test_control_prepared_takes_no_newcomers_and_lets_channels_go_on(void **state)
{
	struct ivc_vm_config cfg = w.vm_config;
	struct ivc_vm *vm;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(world_detach(&w, 3), 0);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_PREPARE_DISABLE), 0);
	assert_int_equal(ivc_hv_phase(w.hv), IVC_HV_PREPARED);
	assert_int_equal(call_publish(pub, KEY + 1, 4096, 0, NULL), IVC_E_SHUTDOWN);
	assert_int_equal(call_subscribe(admin, pub, KEY, 0, NULL), IVC_E_SHUTDOWN);
	assert_int_equal(call(pub, IVC_HC_PUBLISH, 0, 1, 1, 99), IVC_E_SHUTDOWN); /* before the registers */
	cfg.id = ivc_vmid(4);
	cfg.window = ivc_gpa(world_window(3));
	assert_int_equal(ivc_hv_vm_attach(w.hv, &cfg, &vm), IVC_E_SHUTDOWN);
	assert_int_equal(call_notify(pub, pub, KEY, IVC_ALL), 0);
	assert_true(call_look(sub, 0) > 0);
	assert_int_equal(call_unsubscribe(sub, pub, KEY), 0);
	assert_int_equal(call_unpublish(pub, KEY, 0), 0);
	assert_true(call(admin, IVC_HC_FEATURES, 0, 0, 0, 0) > 0);
}

static void test_control_disable_revokes_everything_then_runs_the_op(void **state)
{
	struct world_window seen;
	struct world_window flat;
	struct ivc_fake_entry e;
	uint64_t data;
	uint64_t last_close = 0;
	uint64_t op_at = 0;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	assert_int_equal(call_publish(sub, KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(pub, sub, KEY, 0, &flat), 0);
	/* one that is drained already is taken back as well */
	assert_int_equal(call_publish(pub, KEY + 1, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(admin, pub, KEY + 1, 0, NULL), 0);
	assert_int_equal(call_unpublish(pub, KEY + 1, IVC_UNPUBLISH_DRAIN), 0);
	data = page_data_at(sub, seen.base);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_PREPARE_DISABLE), 0);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_DISABLE), 0);
	assert_int_equal(ivc_hv_phase(w.hv), IVC_HV_OFF);
	for (uint64_t i = 0; ivc_fake_log_get(w.fake, i, &e); i++) {
		if (e.op == IVC_FAKE_CLOSE || e.op == IVC_FAKE_UNMAP) {
			last_close = i;
		} else if (e.op == IVC_FAKE_CONTROL && e.at == IVC_HC_HYPERVISOR_DISABLE) {
			op_at = i;
		}
	}
	assert_true(op_at > last_close);
	assert_true(page_state(sub, seen.base) == IVC_CHANNEL_REVOKED || page_state(sub, seen.base) == 0);
	assert_int_equal(load64(sub, data), 0);
	assert_true(ivc_fake_filled(pub->host, flat.base, 4096, 0));
	assert_int_equal(hv_stats(&w).channels_now, 0);
	assert_int_equal(ivc_fake_mems(w.fake), 0);
}

static void test_control_off_answers_shutdown_to_every_call(void **state)
{
	(void)state;
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_PREPARE_DISABLE), 0);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_DISABLE), 0);
	for (uint64_t nr = 0; nr <= IVC_HC_SMALL_LAST; nr++) {
		assert_int_equal(call(admin, nr, 0, 0, 0, 0), IVC_E_SHUTDOWN);
	}
	for (uint64_t nr = IVC_HC_FEATURES; nr <= IVC_HC_RESET; nr++) {
		assert_int_equal(call(pub, nr, 0, 0, 0, 0), IVC_E_SHUTDOWN);
	}
	assert_int_equal(call(pub, 99, 0, 0, 0, 0), IVC_E_NOSYS);
}

/* Nobody may sleep on a hypervisor that is gone. */
static void test_control_disable_ends_parked_calls(void **state)
{
	struct world_window seen;
	struct ivc_call c;

	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SEATS(2), NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, &seen), 0);
	while (call_look(sub, 0) > 0) {
	}
	assert_int_equal(call_wait(sub, 1, &c, 0, IVC_FOREVER), IVC_PARKED);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_PREPARE_DISABLE), 0);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_DISABLE), 0);
	assert_true(ivc_fake_unpark_wait(ivc_fake_vcpu(sub->host, 1), 0, 10));
	assert_true(c.result > 0 || c.result == IVC_E_SHUTDOWN);
}

/* ... also a VM that is in no channel at all. */
static void test_control_disable_ends_parked_calls_of_idle_vms(void **state)
{
	struct ivc_call c;

	(void)state;
	assert_int_equal(call_wait(sub, 1, &c, 0, IVC_FOREVER), IVC_PARKED);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_PREPARE_DISABLE), 0);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_DISABLE), 0);
	if (!ivc_fake_unpark_wait(ivc_fake_vcpu(sub->host, 1), 0, 10)) {
		ivc_hv_park_end(sub->vm, ivc_fake_vcpu(sub->host, 1), &c, IVC_E_INTR);
		fail_msg("the vCPU of an idle VM sleeps on");
	}
	assert_int_equal(c.result, IVC_E_SHUTDOWN);
}

static void test_control_prepare_twice_and_disable_twice_have_no_second_effect(void **state)
{
	uint64_t ops;

	(void)state;
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_PREPARE_DISABLE), 0);
	ops = ivc_fake_count(w.fake, IVC_FAKE_CONTROL);
	assert_true(control(admin, IVC_HC_HYPERVISOR_PREPARE_DISABLE) < 0);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_CONTROL), ops);
	assert_int_equal(ivc_hv_phase(w.hv), IVC_HV_PREPARED);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_DISABLE), 0);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_DISABLE), IVC_E_SHUTDOWN);
	assert_int_equal(ivc_fake_count(w.fake, IVC_FAKE_CONTROL), ops + 1);
}

static void test_control_vm_can_be_detached_in_every_phase(void **state)
{
	(void)state;
	assert_int_equal(call_publish(pub, KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(sub, pub, KEY, 0, NULL), 0);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_PREPARE_DISABLE), 0);
	assert_int_equal(world_detach(&w, 1), 0);
	assert_int_equal(control(admin, IVC_HC_HYPERVISOR_DISABLE), 0);
	assert_int_equal(world_detach(&w, 2), 0);
	assert_int_equal(world_detach(&w, 0), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_control_by_ordinary_vm_is_perm_and_without_effect),
		T(test_control_without_op_is_opnotsupp),
		T(test_control_debug_hands_both_words_to_the_op),
		T(test_control_disable_before_prepare_is_busy),
		T(test_control_prepare_refused_by_the_op_changes_nothing),
		T(test_control_prepared_takes_no_newcomers_and_lets_channels_go_on),
		T(test_control_disable_revokes_everything_then_runs_the_op),
		T(test_control_off_answers_shutdown_to_every_call),
		T(test_control_disable_ends_parked_calls),
		T(test_control_disable_ends_parked_calls_of_idle_vms),
		T(test_control_prepare_twice_and_disable_twice_have_no_second_effect),
		T(test_control_vm_can_be_detached_in_every_phase),
	};

	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
