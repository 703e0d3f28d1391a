/* SPDX-License-Identifier: MIT */
/*
 * The guest kit in each kind of image: text, memory, clock, arguments, service, several vCPUs, interrupts, sleep. The guests
 * say what they saw (tests/guests/kit.h), here it is judged.
 */
#include "run.h"
#include "vmm/vmm.h"

#include <stdio.h>
#include <string.h>

#define SECOND    UINT64_C(1000000000)
#define VCPUS     3u
#define TOLD_MAX  8192u
#define IMAGE_MAX ((size_t)1 << 20)
#define ANSWER    INT64_C(0x123456789abc)

/* What the guest printed. The VMM calls one line at a time; read after the end. */
struct told {
	char text[TOLD_MAX];
};

static void keep(void *user, const char *line)
{
	struct told *t = user;
	const size_t used = strlen(t->text);

	(void)snprintf(t->text + used, sizeof(t->text) - used, "%s\n", line);
}

static int64_t serve(void *user, uint32_t vcpu, uint32_t number, void *at, uint64_t bytes)
{
	uint64_t box;

	(void)user;
	if (vcpu != 0 || number != 3 || !at || bytes != sizeof(box)) {
		return IVC_E_INVAL;
	}
	memcpy(&box, at, sizeof(box));
	box += 2;
	memcpy(at, &box, sizeof(box));
	return ANSWER;
}

static void check_says(const struct told *t, const char *line)
{
	char whole[640];

	(void)snprintf(whole, sizeof(whole), "\n%s\n", line);
	if (!strstr(t->text, whole)) {
		fail_msg("no line '%s' in:%s", line, t->text);
	}
}

static void run_kit(const char *name, struct told *t)
{
	static char image[IMAGE_MAX];
	struct ivc_kvm_memory memory = {.limit = UINT64_C(64) << 20};
	const struct ivc_hv_config hv_cfg = {.size = sizeof(hv_cfg), .ops = ivc_kvm_ops(), .host = &memory};
	struct vmm_config cfg = {
		.id = ivc_vmid(1),
		.vcpus = VCPUS,
		.arg = "ab=5 a=0x hex=0x1F b=12z",
		.image = image,
		.user = t,
		.line = keep,
		.service = serve,
	};
	char path[512], why[VMM_WHY_BYTES];
	struct vmm_end end;
	struct ivc_hv *hv;
	struct vmm *vm;
	FILE *file;
	int late;

	(void)snprintf(path, sizeof(path), "%s/%s.elf", IVC_GUEST_DIR, name);
	file = fopen(path, "rb");
	assert_non_null(file);
	cfg.image_bytes = fread(image, 1, sizeof(image), file);
	(void)fclose(file);
	assert_int_equal(ivc_hv_thread_enter(), 0);
	assert_int_equal(ivc_hv_create(&hv, &hv_cfg), 0);
	cfg.hv = hv;
	(void)snprintf(t->text, sizeof(t->text), "\n");
	if (vmm_create(&vm, &cfg, why)) {
		fail_msg("%s: %s", name, why);
	}
	assert_int_equal(vmm_start(vm), 0);
	late = vmm_wait(vm, 60 * SECOND, &end);
	vmm_destroy(vm);
	assert_int_equal(ivc_hv_destroy(hv), 0);
	ivc_hv_thread_leave();
	if (late || end.kind != VMM_EXITED || end.code != 7) {
		fail_msg("%s: %s, end %d, code %u:%s%s", name, late ? "late" : "in time", (int)end.kind, end.code,
			 t->text, end.text);
	}
}

static void check_common(const struct told *t)
{
	check_says(t, "text|  abc|x|  y|-1|-2147483648|  -42|-0042|4294967295|beef|0000beef|%");
	check_says(t, "18446744073709551615|-9223372036854775808|4|10000000000|0000000000000abc|0x1000");
	check_says(t, "memory 0");
	check_says(t, "clock 1");
	check_says(t, "args 0 5 31 12");
	check_says(t, "service 20015998343868 box 42");
	check_says(t, "vcpu 1");
	check_says(t, "vcpu 2");
}

static void test_kit_ring3_by_ports(void **state)
{
	struct told t;

	(void)state;
	run_kit("kit_plain", &t);
	check_common(&t);
	check_says(&t, "parks 0");
}

static void test_kit_ring3_with_interrupts_runs_the_handler(void **state)
{
	struct told t;

	(void)state;
	run_kit("kit_ring3", &t);
	check_common(&t);
	check_says(&t, "parks 0");
	check_says(&t, "handler 81");
	check_says(&t, "seen 1 handled 1");
}

static void test_kit_ring0_sleeps_and_is_woken(void **state)
{
	struct told t;

	(void)state;
	run_kit("kit_ring0", &t);
	check_common(&t);
	check_says(&t, "parks 1");
	check_says(&t, "handler 81");
	check_says(&t, "seen 1 handled 1");
	check_says(&t, "missed none 1");
	check_says(&t, "by time 1");
	check_says(&t, "second woken 1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kit_ring3_by_ports),
		cmocka_unit_test(test_kit_ring3_with_interrupts_runs_the_handler),
		cmocka_unit_test(test_kit_ring0_sleeps_and_is_woken),
	};
	char why[VMM_WHY_BYTES];

	if (vmm_usable(why)) {
		(void)fprintf(stderr, "skipped: %s\n", why);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
