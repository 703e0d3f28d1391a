/* SPDX-License-Identifier: MIT */
/*
 * The VMMs of examples/vmm-embed run: registry in the process, and behind a port; what a VMM that stops, and a registry
 * that goes, mean for the other one.
 */
#include "kvm_box.h"
#include "tool.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char tool[512]; /* empty: not built */
static char inproc[512], onport[512];

/* examples/vmm-embed/<name> beside examples/guests of the build. */
static void find(char path[512], const char *name)
{
	static const char guests[] = IVC_EXAMPLE_GUEST_DIR;
	const char *end = strrchr(guests, '/');

	snprintf(path, 512, "%.*s/vmm-embed/%s", (int)(end - guests), guests, name);
}

static void test_kvm_embed_two_vms_in_a_process_share_a_channel(void **state)
{
	struct tool vmm;

	(void)state;
	tool_init_path(inproc);
	tool_start(&vmm, TOOL_IN_NULL, TOOL_OUT_FILE, NULL);
	assert_int_equal(tool_end(&vmm), 0);
	assert_string_equal(tool_said(&vmm), "");
	tool_out_says(&vmm, "vm2| hello from VM 1\nvm1| and hello from VM 2\n");
	tool_drop(&vmm);
}

static void vmm_start(struct tool *vmm, const struct tool_hv *hv, const char *role)
{
	tool_init_path(onport);
	tool_start(vmm, TOOL_IN_NULL, TOOL_OUT_FILE, hv->where, role, NULL);
	tool_init_path(tool);
}

static void begin(struct tool_hv *hv)
{
	if (!tool[0]) {
		skip();
	}
	tool_init_path(tool);
	tool_hv_start(hv);
}

static void test_kvm_embed_two_processes_share_a_channel(void **state)
{
	static struct tool_hv hv;
	struct tool pub, sub;

	(void)state;
	begin(&hv);
	for (uint64_t i = run_scaled(20); i > 0; i--) {
		/* Either may be first. */
		vmm_start(i % 2 ? &sub : &pub, &hv, i % 2 ? "subscribe" : "publish");
		vmm_start(i % 2 ? &pub : &sub, &hv, i % 2 ? "publish" : "subscribe");
		assert_int_equal(tool_end(&pub), 0);
		assert_int_equal(tool_end(&sub), 0);
		tool_out_says(&sub, "vm2| hello from VM 1\n");
		tool_out_says(&pub, "vm1| and hello from VM 2\n");
		tool_drop(&pub);
		tool_drop(&sub);
		tool_hv_empty(&hv);
	}
	tool_hv_stop(&hv);
}

static void test_kvm_embed_killed_process_is_gone_for_the_registry(void **state)
{
	static struct tool_hv hv;
	struct tool pub, sub;

	(void)state;
	begin(&hv);
	vmm_start(&pub, &hv, "publish");
	tool_hv_channels(&hv, 1);
	assert_int_equal(tool_kill(&pub, SIGKILL), 1000 + SIGKILL);
	tool_drop(&pub);
	tool_hv_empty(&hv);
	/* Its id and its key are free again. */
	vmm_start(&pub, &hv, "publish");
	vmm_start(&sub, &hv, "subscribe");
	assert_int_equal(tool_end(&pub), 0);
	assert_int_equal(tool_end(&sub), 0);
	tool_drop(&pub);
	tool_drop(&sub);
	tool_hv_empty(&hv);
	tool_hv_stop(&hv);
}

static void test_kvm_embed_guest_outlives_the_registry(void **state)
{
	static struct tool_hv hv;
	struct tool pub;

	(void)state;
	begin(&hv);
	vmm_start(&pub, &hv, "publish");
	tool_hv_channels(&hv, 1);
	tool_hv_stop(&hv);
	/* The guest is told, and ends on its own. */
	assert_int_equal(tool_end(&pub), 1);
	assert_string_equal(tool_said(&pub), "");
	tool_drop(&pub);
}

static void test_kvm_embed_registry_that_is_not_there_is_said(void **state)
{
	struct tool vmm;

	(void)state;
	tool_init_path(onport);
	tool_start(&vmm, TOOL_IN_NULL, TOOL_OUT_FILE, "unix:/nonexistent/ivc.sock", "publish", NULL);
	assert_int_equal(tool_end(&vmm), 1);
	tool_says(&vmm, "no registry behind unix:/nonexistent/ivc.sock");
	tool_drop(&vmm);
	tool_start(&vmm, TOOL_IN_NULL, TOOL_OUT_FILE, NULL);
	assert_int_equal(tool_end(&vmm), 2);
	tool_says(&vmm, "usage");
	tool_drop(&vmm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvm_embed_two_vms_in_a_process_share_a_channel),
		cmocka_unit_test(test_kvm_embed_two_processes_share_a_channel),
		cmocka_unit_test(test_kvm_embed_killed_process_is_gone_for_the_registry),
		cmocka_unit_test(test_kvm_embed_guest_outlives_the_registry),
		cmocka_unit_test(test_kvm_embed_registry_that_is_not_there_is_said),
	};

	kvm_box_skip();
	find(inproc, "inproc");
	find(onport, "onport");
	if (access(inproc, X_OK) || access(onport, X_OK)) {
		fprintf(stderr, "SKIPPED, the examples were not built\n");
		return 77;
	}
#ifdef IVC_TOOL_PATH
	tool_init();
	snprintf(tool, sizeof(tool), "%s", tool_path());
#endif
	(void)unsetenv("IVC_TOOL"); /* the programs are chosen here */
	return cmocka_run_group_tests_name("kvm_embed", tests, NULL, NULL);
}
