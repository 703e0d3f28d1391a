/* SPDX-License-Identifier: MIT */
/*
 * A host whose calls fail at the worst moment: a slot that cannot be deleted, an mmap that takes away what was there and
 * then fails, descriptors that run out. Nothing of this process may show up in the guest, and nothing else may fail.
 */
#include "kvm_box.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <ivc/atomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECTION UINT64_C(16384)
#define MANY    256

/* A load from MAIL_AT to MAIL_SEEN. */
BOX_GUEST(guest_load, "mov (%rdi), %rbx\n mov (%rbx), %rax\n mov %rax, 24(%rdi)\n xor %eax, %eax\n out %eax, $0xf4\n");

static uint32_t fail_next; /* MAP_FIXED calls that fail late */

/* In front of the one of libc: what is at the place goes, as in a kernel that runs out of memory halfway. */
void *mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	if ((flags & MAP_FIXED) != 0 && fail_next != 0) {
		fail_next--;
		(void)syscall(SYS_munmap, at, bytes);
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, at, bytes, prot, flags, fd, offset); /* NOLINT: a number is an address here */
}

static bool stuck; /* no slot can be deleted */
static uint64_t stuck_at;
static uint32_t deleted;

static int set_slot(void *vm, const struct kvm_userspace_memory_region *slot)
{
	const struct kvm_box *box = vm;

	if (slot->memory_size == 0) {
		if (stuck) {
			stuck_at = slot->userspace_addr;
			return -ENOMEM;
		}
		deleted++;
	}
	return ioctl(box->vm_fd, KVM_SET_USER_MEMORY_REGION, slot) ? -errno : 0;
}

static void open_box(struct kvm_box *box)
{
	kvm_box_open(box);
	box->config.set_slot = set_slot;
	kvm_box_host(box, NULL, 0);
}

static uint64_t load(struct kvm_box *box, uint64_t at)
{
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_AT), at);
	kvm_box_start(box, guest_load, guest_load_end);
	assert_int_equal(kvm_box_finish(box), 0);
	kvm_box_stop(box);
	return ivc_load_relaxed_u64(kvm_box_mail(box, MAIL_SEEN));
}

/* What this process maps next often comes to lie where something was unmapped last. */
static void fill_holes(void **page, uint64_t bytes)
{
	for (size_t i = 0; i < MANY; i++) {
		page[i] = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(page[i], MAP_FAILED);
		memset(page[i], 0x5e, bytes);
	}
}

static void empty_holes(void **page, uint64_t bytes)
{
	for (size_t i = 0; i < MANY; i++) {
		munmap(page[i], bytes);
	}
}

static void test_kvm_broken_slot_that_stays_never_shows_what_comes_later(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	static void *page[MANY];
	struct ivc_view view;
	struct ivc_mem mem;
	struct kvm_box box;

	(void)state;
	open_box(&box);
	assert_int_equal(ops->mem_new(NULL, SECTION, IVC_MEM_ONE_WRITER, &mem), 0);
	view = (struct ivc_view){.at = {BOX_WINDOW}, .bytes = SECTION, .mem = &mem, .access = IVC_READ_WRITE};
	assert_int_equal(ops->map(box.kvm, &view), 0);
	stuck = true;
	assert_int_equal(ops->unmap(box.kvm, &view), IVC_E_NOMEM);
	ivc_kvm_destroy(box.kvm);
	box.kvm = NULL;
	fill_holes(page, SECTION);
	for (size_t i = 0; i < MANY; i++) {
		assert_true((uintptr_t)page[i] + SECTION <= stuck_at || (uintptr_t)page[i] >= stuck_at + SECTION);
	}
	empty_holes(page, SECTION);
	stuck = false;
	ops->mem_free(NULL, &mem);
	kvm_box_close(&box);
}

/* mode 0: closing; 1: memory over a closed view, and closing it again fails too. */
static void late(int mode)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	static void *page[MANY];
	struct ivc_view view;
	struct ivc_mem mem;
	struct kvm_box box;

	open_box(&box);
	assert_int_equal(ops->mem_new(NULL, SECTION, IVC_MEM_ONE_WRITER, &mem), 0);
	view = (struct ivc_view){.at = {BOX_WINDOW}, .bytes = SECTION, .mem = &mem, .access = IVC_READ};
	assert_int_equal(ops->map(box.kvm, &view), 0);
	assert_int_equal(load(&box, BOX_WINDOW), 0);
	deleted = 0;
	if (mode == 0) {
		fail_next = 1;
		assert_int_equal(ops->close(box.kvm, &view), IVC_E_IO);
	} else {
		assert_int_equal(ops->close(box.kvm, &view), 0);
		fail_next = 2;
		assert_int_equal(ops->map(box.kvm, &view), IVC_E_IO);
	}
	assert_int_equal(fail_next, 0);
	assert_int_equal(deleted, 1);
	fill_holes(page, SECTION);
	assert_int_equal(ivc_kvm_views(box.kvm), 1);
	/* Nothing can be put there any more, and it can be taken out. */
	assert_int_not_equal(ops->close(box.kvm, &view), 0);
	assert_int_not_equal(ops->map(box.kvm, &view), 0);
	assert_int_equal(ops->unmap(box.kvm, &view), 0);
	assert_int_equal(ivc_kvm_views(box.kvm), 0);
	assert_int_equal(deleted, 1);
	/* The place itself is free for the next. */
	assert_int_equal(ops->map(box.kvm, &view), 0);
	assert_int_equal(load(&box, BOX_WINDOW), 0);
	assert_int_equal(ops->unmap(box.kvm, &view), 0);
	empty_holes(page, SECTION);
	ops->mem_free(NULL, &mem);
	kvm_box_close(&box);
}

static void test_kvm_broken_close_takes_the_slot_away(void **state)
{
	(void)state;
	late(0);
}

static void test_kvm_broken_reopen_takes_the_slot_away(void **state)
{
	(void)state;
	late(1);
}

/* Memory over a closed view fails late, but the view can be closed again: the slot stays, and so does the address. */
static void test_kvm_broken_reopen_that_can_be_undone_is_nomem(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	struct ivc_view view;
	struct ivc_mem mem;
	struct kvm_box box;

	(void)state;
	open_box(&box);
	assert_int_equal(ops->mem_new(NULL, SECTION, IVC_MEM_ONE_WRITER, &mem), 0);
	view = (struct ivc_view){.at = {BOX_WINDOW}, .bytes = SECTION, .mem = &mem, .access = IVC_READ};
	assert_int_equal(ops->map(box.kvm, &view), 0);
	assert_int_equal(ops->close(box.kvm, &view), 0);
	deleted = 0;
	fail_next = 1;
	assert_int_equal(ops->map(box.kvm, &view), IVC_E_NOMEM);
	assert_int_equal(deleted, 0);
	assert_int_equal(load(&box, BOX_WINDOW), 0);
	assert_int_equal(ivc_load_relaxed_u64(&box.mmio), 0);
	assert_int_equal(ops->map(box.kvm, &view), 0);
	assert_int_equal(ops->unmap(box.kvm, &view), 0);
	ops->mem_free(NULL, &mem);
	kvm_box_close(&box);
}

static void test_kvm_broken_descriptors_are_kept_back(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	static struct ivc_mem mem[MANY];
	static int own[MANY];
	struct rlimit old, few;
	struct ivc_mem none;
	size_t have = 0, left = 0;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = 128;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while (have < MANY && ops->mem_new(NULL, 4096, IVC_MEM_HV, &mem[have]) == 0) {
		have++;
	}
	assert_in_range(have, 1, 128 - 32);
	assert_int_equal(ops->mem_new(NULL, 4096, IVC_MEM_ONE_WRITER, &none), IVC_E_NOMEM);
	while (left < MANY && (own[left] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
		left++;
	}
	assert_in_range(left, 32, MANY - 1);
	while (left != 0) {
		close(own[--left]);
	}
	ops->mem_free(NULL, &mem[--have]);
	assert_int_equal(ops->mem_new(NULL, 4096, IVC_MEM_HV, &mem[have++]), 0);
	while (have != 0) {
		ops->mem_free(NULL, &mem[--have]);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvm_broken_slot_that_stays_never_shows_what_comes_later),
		cmocka_unit_test(test_kvm_broken_close_takes_the_slot_away),
		cmocka_unit_test(test_kvm_broken_reopen_takes_the_slot_away),
		cmocka_unit_test(test_kvm_broken_reopen_that_can_be_undone_is_nomem),
		cmocka_unit_test(test_kvm_broken_descriptors_are_kept_back),
	};

	kvm_box_skip();
	return cmocka_run_group_tests_name("kvm_broken", tests, NULL, NULL);
}
