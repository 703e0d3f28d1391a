/* SPDX-License-Identifier: MIT */
/* VMs for tests: made, watched, given back. It knows no guest. */
#include "vm_test.h"

#include <ivc/atomic.h>

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IMAGES      16u
#define IMAGE_BYTES (1u << 20)
#define MAPS_SLACK  (UINT64_C(96) << 20) /* stacks and heaps that libc keeps for later */

void vm_test_nap(uint32_t ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)nanosleep(&t, NULL);
}

void vm_test_skip(void)
{
	char why[VMM_WHY_BYTES] = "";

	if (vmm_usable(why)) {
		(void)fprintf(stderr, "skipped: %s\n", why);
		exit(77);
	}
}

const void *vm_test_image(const char *name, size_t *bytes)
{
	static struct {
		char name[32];
		uint8_t *at;
		size_t bytes;
	} image[IMAGES];
	char path[512];
	FILE *file;
	uint32_t i;

	for (i = 0; i < IMAGES && image[i].at; i++) {
		if (strcmp(image[i].name, name) == 0) {
			*bytes = image[i].bytes;
			return image[i].at;
		}
	}
	assert_true(i < IMAGES);
	(void)snprintf(path, sizeof(path), "%s/%s.elf",
		       getenv("IVC_GUEST_DIR") ? getenv("IVC_GUEST_DIR") : IVC_GUEST_DIR, name);
	file = fopen(path, "rb");
	if (!file) {
		fail_msg("there is no guest image %s", path);
		return NULL;
	}
	image[i].at = malloc(IMAGE_BYTES);
	assert_non_null(image[i].at);
	image[i].bytes = fread(image[i].at, 1, IMAGE_BYTES, file);
	assert_true(image[i].bytes > 0 && image[i].bytes < IMAGE_BYTES);
	(void)fclose(file);
	(void)snprintf(image[i].name, sizeof(image[i].name), "%s", name);
	*bytes = image[i].bytes;
	return image[i].at;
}

static void on_line(void *user, const char *text)
{
	struct vm_test *t = user;
	size_t used;

	(void)pthread_mutex_lock(&t->lock);
	used = strlen(t->text);
	(void)snprintf(t->text + used, sizeof(t->text) - used, "%s\n", text);
	(void)pthread_mutex_unlock(&t->lock);
	(void)ivc_fetch_add_u32(&t->lines, 1);
}

static void on_ended(void *user, const struct vmm_end *end)
{
	struct vm_test *t = user;

	(void)end;
	(void)ivc_fetch_add_u32(&t->ends, 1);
}

static void on_gone(void *user)
{
	struct vm_test *t = user;

	(void)ivc_fetch_add_u32(&t->gone, 1);
}

void vm_test_zero(struct vm_test *t, struct ivc_hv *hv, uint32_t id)
{
	memset(t, 0, sizeof(*t));
	(void)pthread_mutex_init(&t->lock, NULL);
	t->config.id = ivc_vmid(id);
	t->config.hv = hv;
	t->config.line = on_line;
	t->config.ended = on_ended;
	t->config.gone = on_gone;
	t->config.user = t;
}

void vm_test_make(struct vm_test *t, const char *name, const char *arg)
{
	char why[VMM_WHY_BYTES] = "";

	t->config.image = vm_test_image(name, &t->config.image_bytes);
	t->config.arg = arg;
	if (vmm_create(&t->vm, &t->config, why)) {
		t->vm = NULL;
		fail_msg("%s", why);
	}
}

void vm_test_begin(struct vm_test *t, const char *name, const char *arg)
{
	vm_test_make(t, name, arg);
	assert_int_equal(vmm_start(t->vm), 0);
}

void vm_test_ends(struct vm_test *t, enum vmm_end_kind kind)
{
	assert_int_equal(vmm_wait(t->vm, UINT64_C(1000000) * VM_TEST_MS, &t->end), 0);
	if (t->end.kind != kind) {
		fail_msg("VM %" PRIu32 " ended with kind %d, not %d: %s", t->config.id.v, (int)t->end.kind, (int)kind,
			 t->end.text);
	}
	assert_int_equal(ivc_load_acquire_u32(&t->ends), 1);
}

void vm_test_says(struct vm_test *t, const char *words)
{
	const uint64_t end = run_now_ns() + UINT64_C(1000000) * VM_TEST_MS;
	bool said = false;

	while (!said) {
		(void)pthread_mutex_lock(&t->lock);
		said = strstr(t->text, words) != NULL;
		(void)pthread_mutex_unlock(&t->lock);
		if (!said && run_now_ns() > end) {
			fail_msg("the guest did not say '%s', but: %s", words, t->text);
		}
		if (!said) {
			vm_test_nap(1);
		}
	}
}

void vm_test_drop(struct vm_test *t)
{
	vmm_destroy(t->vm);
	t->vm = NULL;
	(void)pthread_mutex_destroy(&t->lock);
}

uint32_t vm_test_run(struct vm_test *t, const char *name, const char *arg)
{
	vm_test_begin(t, name, arg);
	vm_test_ends(t, VMM_EXITED);
	vm_test_drop(t);
	return t->end.code;
}

struct ivc_hv *vm_test_hv(void)
{
	const struct ivc_hv_config cfg = {.size = sizeof(cfg), .ops = ivc_kvm_ops()};
	struct ivc_hv *hv;

	assert_int_equal(ivc_hv_thread_enter(), 0);
	assert_int_equal(ivc_hv_create(&hv, &cfg), 0);
	return hv;
}

void vm_test_hv_empty(const struct ivc_hv *hv)
{
	struct ivc_hv_stats s;

	ivc_hv_stats(hv, &s);
	assert_int_equal(s.vms_now, 0);
	assert_int_equal(s.channels_now, 0);
	assert_int_equal(s.memberships_now, 0);
	assert_int_equal(s.sections_now, 0);
	assert_int_equal(s.bytes_now, 0);
	assert_int_equal(s.quarantined_bytes, 0);
}

void vm_test_hv_end(struct ivc_hv *hv)
{
	vm_test_hv_empty(hv);
	assert_int_equal(ivc_hv_destroy(hv), 0);
	ivc_hv_thread_leave();
}

static uint32_t entries(const char *path)
{
	DIR *dir = opendir(path);
	uint32_t n = 0;

	assert_non_null(dir);
	while (readdir(dir)) {
		n++;
	}
	(void)closedir(dir);
	return n;
}

void vm_test_holds(struct vm_test_holds *h)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	memset(h, 0, sizeof(*h));
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		char *end;
		const uint64_t from = strtoull(line, &end, 16);
		const uint64_t to = *end == '-' ? strtoull(end + 1, NULL, 16) : from;

		h->vcpu_maps += strstr(line, "kvm-vcpu") != NULL;
		if (*end && !strstr(line, " ---")) { /* reserved addresses are no memory */
			h->maps_bytes += to - from;
		}
	}
	(void)fclose(maps);
	h->descriptors = entries("/proc/self/fd");
	h->threads = entries("/proc/self/task");
}

void vm_test_settles(const struct vm_test_holds *before)
{
	const uint64_t end = run_now_ns() + UINT64_C(1000000) * VM_TEST_MS;
	struct vm_test_holds now;

	for (;;) {
		vm_test_holds(&now);
		if (now.descriptors <= before->descriptors && now.threads <= before->threads &&
		    now.vcpu_maps <= before->vcpu_maps && now.maps_bytes <= before->maps_bytes + MAPS_SLACK) {
			return;
		}
		if (run_now_ns() > end) {
			fail_msg("left over: descriptors %" PRIu32 " of %" PRIu32 ", threads %" PRIu32 " of %" PRIu32
				 ", vCPU mappings %" PRIu32 " of %" PRIu32 ", MiB %" PRIu64 " of %" PRIu64,
				 now.descriptors, before->descriptors, now.threads, before->threads, now.vcpu_maps,
				 before->vcpu_maps, now.maps_bytes >> 20, before->maps_bytes >> 20);
		}
		vm_test_nap(5);
	}
}
