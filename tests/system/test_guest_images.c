/* SPDX-License-Identifier: MIT */
/*
 * The example guests do what their head comments say: each pair runs on the small VMM, with the registry in this process
 * and behind a port of a hypervisor process, and its lines are looked for. It knows the programs by their lines alone.
 */
#include "tool.h"
#include "vmm/vmm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS          UINT64_C(1000000)
#define DEADLINE_NS (UINT64_C(60000) * MS)
#define PARTS_MAX   3u
#define TOLD_MAX    32768u
#define REGIONS     (UINT64_C(1) << 30) /* bytes of all channels */

/* One VM of a scene. What it printed is written by its vCPU's thread and read after its end. */
struct part {
	const char *image;
	const char *arg;
	uint32_t id;
	char why[VMM_WHY_BYTES];
	char told[TOLD_MAX];
	void *bytes;
	size_t size;
	struct vmm *vmm;
	struct vmm_end end;
};

/* A registry: of this process, or behind a port. */
struct place {
	struct ivc_hv *hv;
	struct tool_hv *tool;
};

static void keep(void *user, const char *line)
{
	struct part *p = user;
	const size_t used = strlen(p->told);

	(void)snprintf(p->told + used, sizeof(p->told) - used, "%s\n", line);
}

static void load(struct part *p)
{
	char path[512];
	FILE *file;
	long size;

	(void)snprintf(path, sizeof(path), "%s/%s.elf", IVC_EXAMPLE_GUEST_DIR, p->image);
	file = fopen(path, "rb");
	if (!file) {
		fail_msg("no image %s", path);
	}
	assert_int_equal(fseek(file, 0, SEEK_END), 0);
	size = ftell(file);
	assert_true(size > 0);
	p->size = (size_t)size;
	p->bytes = malloc(p->size);
	assert_non_null(p->bytes);
	rewind(file);
	assert_int_equal(fread(p->bytes, 1, p->size, file), p->size);
	(void)fclose(file);
}

static void begin(const struct place *at, struct part *p)
{
	struct vmm_config cfg = {
		.id = ivc_vmid(p->id),
		.arg = p->arg,
		.hv = at->hv,
		.where = at->tool ? at->tool->where : NULL,
		.user = p,
		.line = keep,
	};

	load(p);
	cfg.image = p->bytes;
	cfg.image_bytes = p->size;
	if (vmm_create(&p->vmm, &cfg, p->why)) {
		fail_msg("%s: %s", p->image, p->why);
	}
	assert_int_equal(vmm_start(p->vmm), 0);
}

/* Runs the VMs of a scene together until each has ended. */
static void play(const struct place *at, struct part *part, size_t parts)
{
	bool late = false;

	for (size_t i = 0; i < parts; i++) {
		begin(at, &part[i]);
	}
	for (size_t i = 0; i < parts; i++) {
		late = vmm_wait(part[i].vmm, DEADLINE_NS, &part[i].end) != 0 || late;
	}
	for (size_t i = 0; i < parts; i++) {
		vmm_destroy(part[i].vmm);
		free(part[i].bytes);
	}
	for (size_t i = 0; i < parts && (late || getenv("IVC_TEST_SHOW")); i++) {
		(void)fprintf(stderr, "%s as VM %u:\n%s%s", part[i].image, part[i].id, part[i].told, part[i].end.text);
	}
	assert_false(late);
}

static void check_end(const struct part *p, enum vmm_end_kind kind)
{
	if (p->end.kind != kind || (kind == VMM_EXITED && p->end.code != 0)) {
		fail_msg("%s ended by %d, code %u:\n%s%s", p->image, (int)p->end.kind, p->end.code, p->told,
			 p->end.text);
	}
}

static void check_says(const struct part *p, const char *words)
{
	if (!strstr(p->told, words)) {
		fail_msg("%s does not say '%s':\n%s", p->image, words, p->told);
	}
}

static void check_silent(const struct part *p, const char *words)
{
	if (strstr(p->told, words)) {
		fail_msg("%s says '%s':\n%s", p->image, words, p->told);
	}
}

/* ---------------------------------------------------------------------------------------------------------- scenes */

static void scene_ping(const struct place *at)
{
	struct part *part = calloc(2, sizeof(*part));

	assert_non_null(part);
	part[0] = (struct part){.image = "ping", .arg = "count=500", .id = 1};
	part[1] = (struct part){.image = "pong", .arg = "", .id = 2};
	play(at, part, 2);
	check_end(&part[0], VMM_EXITED);
	check_end(&part[1], VMM_EXITED);
	check_says(&part[0], "500 round trips of 64 bytes: least ");
	check_says(&part[1], "sent 600 messages back");
	free(part);
}

static void scene_file(const struct place *at)
{
	struct part *part = calloc(2, sizeof(*part));
	const char *sum;
	char want[64];

	assert_non_null(part);
	/* Other ids and another key than those that the images have by themselves. */
	part[0] = (struct part){.image = "subscriber", .arg = "peer=9 key=0x77", .id = 8};
	part[1] = (struct part){.image = "publisher", .arg = "bytes=3000000 key=0x77", .id = 9};
	play(at, part, 2);
	check_end(&part[0], VMM_EXITED);
	check_end(&part[1], VMM_EXITED);
	check_says(&part[1], "3000000 bytes sent, sum 0x");
	check_says(&part[0], "3000000 bytes in ");
	check_says(&part[0], ": right");
	sum = strstr(part[1].told, "sum 0x");
	assert_non_null(sum);
	(void)snprintf(want, sizeof(want), "%.22s: right", sum);
	check_says(&part[0], want);
	free(part);
}

static void scene_bell(const struct place *at)
{
	struct part *part = calloc(2, sizeof(*part));
	uint64_t interrupts;
	const char *last;

	assert_non_null(part);
	part[0] = (struct part){.image = "ringer", .arg = "count=5 ms=200", .id = 1};
	part[1] = (struct part){.image = "bell", .arg = "", .id = 2};
	play(at, part, 2);
	check_end(&part[0], VMM_EXITED);
	check_end(&part[1], VMM_EXITED);
	check_says(&part[0], "5 messages, 1 reader");
	check_says(&part[1], at->hv ? "vector 96, doorbell page at 0x" : "vector 96, no doorbell page");
	check_says(&part[1], "message 5 of 5: ");
	last = strstr(part[1].told, "\n5 messages, ");
	assert_non_null(last);
	interrupts = strtoull(last + strlen("\n5 messages, "), NULL, 10);
	/* It sleeps long before each message comes; on a busy machine not always. */
	assert_true(interrupts >= 1);
	free(part);
}

static void hostile(const struct place *at, uint32_t crash, enum vmm_end_kind kind)
{
	struct part *part = calloc(3, sizeof(*part));
	char arg[64];

	assert_non_null(part);
	(void)snprintf(arg, sizeof(arg), "crash=%u flood=%u", crash, (unsigned int)run_scaled(1000));
	part[0] = (struct part){.image = "hostile", .arg = arg, .id = 1};
	part[1] = (struct part){.image = "victim", .arg = "", .id = 2};
	part[2] = (struct part){.image = "victim", .arg = "of=2", .id = 3};
	play(at, part, 3);
	check_says(&part[0], " attempts, 0 got through\n");
	check_silent(&part[0], "GOT THROUGH");
	check_end(&part[0], kind);
	check_end(&part[1], VMM_EXITED);
	check_end(&part[2], VMM_EXITED);
	check_says(&part[1], " exchanges with the witness, all right");
	check_says(&part[2], " messages, all right");
	check_silent(&part[0], "nobody came");
	free(part);
}

static void scene_hostile(const struct place *at)
{
	hostile(at, 0, VMM_EXITED);
}

static void scene_hostile_crashes(const struct place *at)
{
	hostile(at, 1, VMM_CRASHED);
	hostile(at, 2, VMM_CRASHED);
}

/* ---------------------------------------------------------------------------------------------------------- places */

static void here(void (*scene)(const struct place *))
{
	struct ivc_kvm_memory memory = {.limit = REGIONS};
	const struct ivc_hv_config cfg = {.size = sizeof(cfg), .ops = ivc_kvm_ops(), .host = &memory};
	struct place at = {NULL, NULL};

	assert_int_equal(ivc_hv_thread_enter(), 0);
	assert_int_equal(ivc_hv_create(&at.hv, &cfg), 0);
	scene(&at);
	assert_int_equal(ivc_hv_destroy(at.hv), 0);
	ivc_hv_thread_leave();
}

static void far(void (*scene)(const struct place *))
{
	struct tool_hv hv;
	const struct place at = {NULL, &hv};

	tool_hv_start(&hv);
	scene(&at);
	tool_hv_empty(&hv);
	tool_hv_stop(&hv);
}

static void test_guest_images_ping_measures_round_trips(void **state)
{
	(void)state;
	here(scene_ping);
	far(scene_ping);
}

static void test_guest_images_file_arrives_whole(void **state)
{
	(void)state;
	here(scene_file);
	far(scene_file);
}

static void test_guest_images_bell_wakes_a_halted_cpu(void **state)
{
	(void)state;
	here(scene_bell);
	far(scene_bell);
}

static void test_guest_images_hostile_gets_nothing_through(void **state)
{
	(void)state;
	here(scene_hostile);
	far(scene_hostile);
}

static void test_guest_images_hostile_that_crashes_is_a_death(void **state)
{
	(void)state;
	here(scene_hostile_crashes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guest_images_ping_measures_round_trips),
		cmocka_unit_test(test_guest_images_file_arrives_whole),
		cmocka_unit_test(test_guest_images_bell_wakes_a_halted_cpu),
		cmocka_unit_test(test_guest_images_hostile_gets_nothing_through),
		cmocka_unit_test(test_guest_images_hostile_that_crashes_is_a_death),
	};
	char why[VMM_WHY_BYTES];

	if (vmm_usable(why)) {
		(void)fprintf(stderr, "skipped: %s\n", why);
		return 77;
	}
	tool_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
