/* SPDX-License-Identifier: MIT */
/*
 * A VM whose registry is another process: it lives and ends as one with a registry beside it, and it outlives a hypervisor
 * that is killed, or ends in time beside one that hangs.
 */
#include "tool.h"
#include "vm_act.h"
#include "vm_test.h"

#include <ivc/atomic.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct tool_hv hv;

static void begin(struct vm_test *t, uint32_t id, const char *arg)
{
	vm_test_zero(t, NULL, id);
	t->config.where = hv.where;
	vm_test_begin(t, "vm_act", arg);
}

static void test_vm_port_exits_and_is_forgotten(void **state)
{
	struct vm_test t;

	(void)state;
	begin(&t, 5, "publish-exit");
	vm_test_ends(&t, VMM_EXITED);
	assert_int_equal(t.end.code, 0);
	tool_hv_empty(&hv); /* when it has ended, not only when it is destroyed */
	vm_test_drop(&t);
	assert_int_equal(t.gone, 0);
}

static void test_vm_port_stop_ends_it_wherever_it_is(void **state)
{
	static const char *const lives[] = {"spin", "calls", "print", "wait", "publish-wait", "publish-spin"};
	uint64_t seed = run_seed("vm_port");
	const uint64_t loops = run_scaled(60);
	struct vm_test_holds before;
	struct vm_test t;

	(void)state;
	for (uint64_t i = 0; i < loops + 6; i++) {
		if (i == 6) {
			vm_test_holds(&before);
		}
		begin(&t, 5, lives[i % 6]);
		if (i % 6 >= 4 && i < 6) {
			vm_test_says(&t, "published");
		} else {
			vm_test_nap((uint32_t)run_below(&seed, 5));
		}
		vmm_stop(t.vm);
		vm_test_ends(&t, VMM_STOPPED);
		vm_test_drop(&t);
	}
	vm_test_settles(&before);
	tool_hv_empty(&hv);
}

static void test_vm_port_id_in_use_is_told(void **state)
{
	char why[VMM_WHY_BYTES] = "";
	struct vm_test t, second;

	(void)state;
	begin(&t, 5, "publish-wait");
	vm_test_says(&t, "published");
	vm_test_zero(&second, NULL, 5);
	second.config.where = hv.where;
	second.config.image = vm_test_image("vm_act", &second.config.image_bytes);
	assert_int_equal(vmm_create(&second.vm, &second.config, why), IVC_E_EXIST);
	assert_non_null(strstr(why, "a living VM has this id already; give another --id"));
	vm_test_drop(&t);
	tool_hv_empty(&hv);
}

static void test_vm_port_outlives_a_killed_hypervisor(void **state)
{
	struct vm_test calling, waiting, spinning, holding;
	struct vm_test_holds before;
	struct vmm_end end;

	(void)state;
	vm_test_holds(&before);
	begin(&calling, 1, "until");
	begin(&waiting, 2, "publish-wait");
	begin(&spinning, 3, "spin");
	begin(&holding, 4, "publish-spin");
	vm_test_says(&calling, "calling");
	vm_test_says(&waiting, "published");
	vm_test_says(&holding, "published");
	assert_int_equal(tool_kill(&hv.tool, SIGKILL), 1000 + SIGKILL);
	vm_test_ends(&calling, VMM_EXITED);
	assert_int_equal(calling.end.code, 5);
	vm_test_ends(&waiting, VMM_EXITED);
	vm_test_says(&waiting, "waited -108");
	assert_true(run_until(&spinning.gone, 1, VM_TEST_MS));
	assert_true(run_until(&holding.gone, 1, VM_TEST_MS));
	assert_int_equal(vmm_wait(spinning.vm, 20000000, &end), IVC_E_TIMEDOUT);
	assert_int_equal(vmm_wait(holding.vm, 0, &end), IVC_E_TIMEDOUT);
	vmm_stop(spinning.vm);
	vm_test_ends(&spinning, VMM_STOPPED);
	vmm_stop(holding.vm);
	vm_test_ends(&holding, VMM_STOPPED);
	vm_test_drop(&calling);
	vm_test_drop(&waiting);
	vm_test_drop(&spinning);
	vm_test_drop(&holding);
	assert_true(calling.gone <= 1); /* its own end may have been faster */
	vm_test_settles(&before);
	tool_drop(&hv.tool);
	tool_hv_again(&hv);
}

static void test_vm_port_ends_beside_a_hypervisor_that_hangs(void **state)
{
	static const char *const lives[] = {"spin", "calls", "publish-wait", "publish-spin"};
	struct vm_test t[4];

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		begin(&t[i], i, lives[i]);
	}
	vm_test_says(&t[2], "published");
	vm_test_says(&t[3], "published");
	assert_int_equal(kill(hv.tool.pid, SIGSTOP), 0);
	for (uint32_t i = 0; i < 4; i++) {
		vmm_stop(t[i].vm);
	}
	for (uint32_t i = 0; i < 4; i++) {
		vm_test_ends(&t[i], VMM_STOPPED);
	}
	assert_int_equal(kill(hv.tool.pid, SIGCONT), 0);
	for (uint32_t i = 0; i < 4; i++) {
		vm_test_drop(&t[i]);
	}
	tool_hv_empty(&hv);
}

static int setup(void **state)
{
	(void)state;
	tool_hv_start(&hv);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tool_hv_empty(&hv);
	tool_hv_stop(&hv);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vm_port_exits_and_is_forgotten),
		cmocka_unit_test(test_vm_port_stop_ends_it_wherever_it_is),
		cmocka_unit_test(test_vm_port_id_in_use_is_told),
		cmocka_unit_test(test_vm_port_outlives_a_killed_hypervisor),
		cmocka_unit_test(test_vm_port_ends_beside_a_hypervisor_that_hangs),
	};

	tool_init();
	vm_test_skip();
	return cmocka_run_group_tests(tests, setup, teardown);
}
