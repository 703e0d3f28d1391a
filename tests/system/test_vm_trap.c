/* SPDX-License-Identifier: MIT */
/*
 * The way to the hypervisor that a guest finds by CPUID is the one that reaches it: port or page as the machine offers,
 * never the vendor's own instruction, which KVM answers itself.
 * IVC_TEST_SVM=1 says that KVM runs on SVM or VMX as hardware has it: then that instruction has exact answers.
 */
#include "run.h"
#include "vmm/vmm.h"

#include <ivc/text.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND     UINT64_C(1000000000)
#define KVM_ENOSYS INT64_C(-1000) /* what KVM says to ring 0 of a number that it does not know ... */
#define KVM_EPERM  INT64_C(-1)    /* ... and to ring 3 of any */

static struct ivc_hv *hv;

/* What a guest printed. Written by the vCPU's thread, read after vmm_wait(). */
struct told {
	char text[1024];
};

static void keep(void *user, const char *text)
{
	struct told *told = user;
	const size_t used = strlen(told->text);

	(void)snprintf(told->text + used, sizeof(told->text) - used, "%s\n", text);
}

/* The number behind @word; -12345: the guest did not say it. */
static int64_t number(const struct told *told, const char *word)
{
	const char *line = told->text;
	const size_t bytes = strlen(word);

	while (line && *line) {
		if (strncmp(line, word, bytes) == 0 && line[bytes] == ' ') {
			return strtoll(line + bytes + 1, NULL, 10);
		}
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return -12345;
}

/* Runs the image to its end; one that is still there after @seconds is stopped. */
static struct vmm_end run(const char *name, const char *arg, uint64_t seconds, struct told *told)
{
	struct vmm_config cfg = {.id = ivc_vmid(7), .arg = arg, .hv = hv, .user = told, .line = keep};
	static char image[1 << 20];
	char path[512], why[VMM_WHY_BYTES] = "";
	struct vmm_end end;
	struct vmm *vm;
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s.elf", IVC_GUEST_DIR, name);
	file = fopen(path, "rb");
	assert_non_null(file);
	cfg.image = image;
	cfg.image_bytes = fread(image, 1, sizeof(image), file);
	(void)fclose(file);
	(void)memset(told, 0, sizeof(*told));
	if (vmm_create(&vm, &cfg, why)) {
		fail_msg("%s", why);
	}
	assert_int_equal(vmm_start(vm), 0);
	if (vmm_wait(vm, seconds * SECOND, &end)) {
		vmm_stop(vm);
		assert_int_equal(vmm_wait(vm, 60 * SECOND, &end), 0);
	}
	vmm_destroy(vm);
	return end;
}

static void check_way(const char *name, int64_t ring, int64_t kinds, uint64_t page)
{
	struct told told;
	const struct vmm_end end = run(name, "", 60, &told);

	if (end.kind != VMM_EXITED || end.code != 0) {
		fail_msg("%s ended by %d, code %u: %s%s", name, (int)end.kind, end.code, told.text, end.text);
	}
	assert_int_equal(number(&told, "ring"), ring);
	assert_int_equal(number(&told, "kinds") & kinds, kinds);
	assert_int_equal(number(&told, "kinds") & (IVC_X86_TRAP_VMCALL | IVC_X86_TRAP_VMMCALL), 0);
	if (page) {
		assert_int_equal(number(&told, "page"), page);
		assert_int_equal(number(&told, "kinds") & IVC_X86_TRAP_PORT, 0);
	}
	assert_int_equal(number(&told, "init"), 0);
	assert_int_equal(number(&told, "vm"), 7);
	assert_int_equal(number(&told, "ours"), 1);
}

static void test_trap_ring3_finds_the_port(void **state)
{
	(void)state;
	check_way("trap_port", 3, IVC_X86_TRAP_PORT, 0);
}

static void test_trap_ring0_finds_the_port(void **state)
{
	(void)state;
	check_way("trap_ring0", 0, IVC_X86_TRAP_PORT, 0);
}

static void test_trap_ring3_with_interrupts_finds_the_page(void **state)
{
	(void)state;
	check_way("trap_page", 3, IVC_X86_TRAP_PAGE, IVC_MACHINE_PAGE + IVC_MACHINE_AT_TRAP);
}

/*
 * Not ours to answer: KVM does; where KVM emulates the guest, it may be an exception, which ends a guest without a handler,
 * or never be done with. The host lives either way.
 */
static void check_raw(const char *name, int64_t answer)
{
	const bool exact = run_number("IVC_TEST_SVM", 0) != 0;
	struct told told;
	const struct vmm_end end = run(name, "raw", exact ? 60 : 2, &told);
	const int64_t raw = number(&told, "raw");

	assert_int_equal(number(&told, "ours"), 1);
	(void)printf("%s: the vendor's instruction: %s, %lld\n", name,
		     end.kind == VMM_EXITED ? "answered" : "not answered", (long long)raw);
	if (exact) {
		assert_int_equal(end.kind, VMM_EXITED);
		assert_int_equal(raw, answer);
	} else if (end.kind == VMM_EXITED) {
		assert_true(raw < 0 || raw == (int64_t)IVC_HC_FEATURES);
	} else {
		assert_true(end.kind == VMM_CRASHED || end.kind == VMM_STOPPED);
	}
}

static void test_trap_instruction_of_the_vendor_is_not_ours(void **state)
{
	(void)state;
	check_raw("trap_ring0", KVM_ENOSYS);
	check_raw("trap_port", KVM_EPERM);
}

int main(void)
{
	const struct ivc_hv_config cfg = {.size = sizeof(cfg), .ops = ivc_kvm_ops()};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trap_ring3_finds_the_port),
		cmocka_unit_test(test_trap_ring0_finds_the_port),
		cmocka_unit_test(test_trap_ring3_with_interrupts_finds_the_page),
		cmocka_unit_test(test_trap_instruction_of_the_vendor_is_not_ours),
	};
	char why[VMM_WHY_BYTES];
	int failed;

	if (vmm_usable(why)) {
		(void)fprintf(stderr, "skipped: %s\n", why);
		return 77;
	}
	if (ivc_hv_thread_enter() || ivc_hv_create(&hv, &cfg)) {
		(void)fprintf(stderr, "no registry\n");
		return 1;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (ivc_hv_destroy(hv)) {
		failed++;
	}
	ivc_hv_thread_leave();
	return failed ? 1 : 0;
}
