/* SPDX-License-Identifier: MIT */
/*
 * The interrupt of the machine: each raise of its eventfd reaches the guest's handler, in ring 3 that spins and in ring 0
 * that halts, and a VM that halts or is interrupted all the time can be stopped.
 */
#include "vm_test.h"
#include "vmm/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ENOUGH 50u

static struct ivc_hv *hv;

static void raise_bell(const struct vm_test *t)
{
	const uint64_t one = 1;

	assert_int_equal(write(t->vm->bell_fd, &one, sizeof(one)), (int)sizeof(one));
}

static void each_is_seen(const char *name, uint32_t vcpus)
{
	char words[32];
	struct vm_test t;

	vm_test_zero(&t, hv, 1);
	t.config.vcpus = vcpus;
	vm_test_begin(&t, name, NULL);
	vm_test_says(&t, "ready\n");
	for (uint32_t i = 1; i <= ENOUGH; i++) {
		raise_bell(&t);
		(void)snprintf(words, sizeof(words), "seen %" PRIu32 ".\n", i);
		vm_test_says(&t, words);
	}
	vm_test_ends(&t, VMM_EXITED);
	assert_int_equal(t.end.code, 0);
	vm_test_drop(&t);
}

static void test_vm_irq_ring_3_spins_each_is_seen(void **state)
{
	(void)state;
	each_is_seen("vm_irq3", 1);
	each_is_seen("vm_irq3", 3);
}

static void test_vm_irq_ring_0_halts_each_is_seen(void **state)
{
	(void)state;
	each_is_seen("vm_irq0", 1);
	each_is_seen("vm_irq0", 3);
}

static void test_vm_irq_stop_ends_halt_and_storm(void **state)
{
	static const char *const names[] = {"vm_irq3", "vm_irq0"};
	struct vm_test t;

	(void)state;
	for (int i = 0; i < 20; i++) {
		vm_test_zero(&t, hv, 1);
		vm_test_begin(&t, names[i % 2], NULL);
		if (i >= 4) {
			vm_test_says(&t, "ready\n");
		}
		for (int k = 0; k < i; k++) { /* fewer than it wants */
			raise_bell(&t);
		}
		vmm_stop(t.vm);
		vm_test_ends(&t, VMM_STOPPED);
		vm_test_drop(&t);
	}
	vm_test_hv_empty(hv);
}

static int setup(void **state)
{
	(void)state;
	hv = vm_test_hv();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_test_hv_end(hv);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vm_irq_ring_3_spins_each_is_seen),
		cmocka_unit_test(test_vm_irq_ring_0_halts_each_is_seen),
		cmocka_unit_test(test_vm_irq_stop_ends_halt_and_storm),
	};

	vm_test_skip();
	return cmocka_run_group_tests(tests, setup, teardown);
}
