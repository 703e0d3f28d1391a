/* SPDX-License-Identifier: MIT */
/*
 * A host whose calls fail at the worst moment: a slot that cannot be deleted, a mapping that takes away what was there and
 * then fails, descriptors that run out. Nothing of this process may show up in the guest, and nothing else may fail.
 */
#include "kvm_box.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <ivc/atomic.h>
#include <stdarg.h>
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

static uint32_t no_memory; /* new mappings of a section that fail */
static bool no_move;       /* moving one to its place fails, when what was there is gone */

/* In front of those of libc. */
void *mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	if (no_memory != 0 && at == NULL && (fd >= 0 || (flags & MAP_NORESERVE) != 0)) {
		no_memory--;
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, at, bytes, prot, flags, fd, offset); /* NOLINT: a number is an address here */
}

void *mremap(void *at, size_t bytes, size_t want, int flags, ...)
{
	void *to;
	va_list args;

	va_start(args, flags);
	to = va_arg(args, void *);
	va_end(args);
	if (no_move) {
		(void)syscall(SYS_munmap, to, want);
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mremap, at, bytes, want, flags, to); /* NOLINT: as above */
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

/* A box that shows a closed or open read-only section, and what is needed to end it. */
struct shown {
	struct kvm_box box;
	struct ivc_mem mem;
	struct ivc_view view;
};

static void show(struct shown *s, bool closed)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();

	open_box(&s->box);
	assert_int_equal(ops->mem_new(NULL, SECTION, IVC_MEM_ONE_WRITER, &s->mem), 0);
	s->view = (struct ivc_view){.at = {BOX_WINDOW}, .bytes = SECTION, .mem = &s->mem, .access = IVC_READ};
	assert_int_equal(ops->map(s->box.kvm, &s->view), 0);
	if (closed) {
		assert_int_equal(ops->close(s->box.kvm, &s->view), 0);
	}
	assert_int_equal(load(&s->box, BOX_WINDOW), 0);
	deleted = 0;
}

/* The place is of no use any more, can be taken out, and is free for the next then. */
static void useless(struct shown *s)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();

	assert_int_equal(ivc_kvm_views(s->box.kvm), 1);
	assert_int_equal(ops->close(s->box.kvm, &s->view), IVC_E_IO);
	assert_int_not_equal(ops->map(s->box.kvm, &s->view), 0);
	assert_int_equal(ops->unmap(s->box.kvm, &s->view), 0);
	assert_int_equal(ivc_kvm_views(s->box.kvm), 0);
	assert_int_equal(deleted, 1);
	assert_int_equal(ops->map(s->box.kvm, &s->view), 0);
	assert_int_equal(load(&s->box, BOX_WINDOW), 0);
	assert_int_equal(ops->unmap(s->box.kvm, &s->view), 0);
}

static void done(struct shown *s)
{
	ivc_kvm_ops()->mem_free(NULL, &s->mem);
	kvm_box_close(&s->box);
}

/* No memory for what a closed section shows: then nothing is shown there, but the memory is not reached any more. */
static void test_kvm_broken_close_takes_the_slot_away(void **state)
{
	struct shown s;

	(void)state;
	show(&s, false);
	no_memory = 1;
	assert_int_equal(ivc_kvm_ops()->close(s.box.kvm, &s.view), IVC_E_IO);
	assert_int_equal(no_memory, 0);
	assert_int_equal(deleted, 1);
	assert_int_equal(ivc_load_relaxed_u64(&s.box.mmio), 0);
	useless(&s);
	done(&s);
}

static void test_kvm_broken_swap_that_fails_late_takes_the_slot_away(void **state)
{
	static void *page[MANY];
	struct shown s;

	(void)state;
	for (int closed = 0; closed < 2; closed++) {
		const struct ivc_plat_ops *ops = ivc_kvm_ops();

		show(&s, closed);
		no_move = true;
		assert_int_equal((closed ? ops->map : ops->close)(s.box.kvm, &s.view), IVC_E_IO);
		no_move = false;
		assert_int_equal(deleted, 1);
		fill_holes(page, SECTION);
		useless(&s);
		for (size_t i = 0; i < MANY; i++) {
			assert_int_equal(*(const volatile uint8_t *)page[i],
					 0x5e); /* nobody has touched what is ours */
		}
		empty_holes(page, SECTION);
		done(&s);
	}
}

/* Both at once: the mapping is lost and its slot cannot be deleted. The next ops try again, and touch nothing of ours. */
static void test_kvm_broken_slot_that_stays_under_a_lost_mapping(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	static void *page[MANY];
	struct shown s;

	(void)state;
	show(&s, false);
	no_move = true;
	stuck = true;
	assert_int_equal(ops->close(s.box.kvm, &s.view), IVC_E_IO);
	no_move = false;
	assert_int_equal(deleted, 0);
	fill_holes(page, SECTION);
	assert_int_equal(ops->close(s.box.kvm, &s.view), IVC_E_IO);
	assert_int_not_equal(ops->unmap(s.box.kvm, &s.view), 0);
	assert_int_equal(ivc_kvm_views(s.box.kvm), 1);
	stuck = false;
	useless(&s);
	for (size_t i = 0; i < MANY; i++) {
		assert_int_equal(*(const volatile uint8_t *)page[i], 0x5e);
	}
	empty_holes(page, SECTION);
	done(&s);
}

/* No memory for what comes over a closed section: it stays closed, and so does its address. */
static void test_kvm_broken_reopen_without_memory_changes_nothing(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	struct shown s;

	(void)state;
	show(&s, true);
	no_memory = 1;
	assert_int_equal(ops->map(s.box.kvm, &s.view), IVC_E_NOMEM);
	assert_int_equal(no_memory, 0);
	assert_int_equal(deleted, 0);
	assert_int_equal(load(&s.box, BOX_WINDOW), 0);
	assert_int_equal(ivc_load_relaxed_u64(&s.box.mmio), 0);
	assert_int_equal(ops->map(s.box.kvm, &s.view), 0);
	assert_int_equal(ops->unmap(s.box.kvm, &s.view), 0);
	done(&s);
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
		cmocka_unit_test(test_kvm_broken_swap_that_fails_late_takes_the_slot_away),
		cmocka_unit_test(test_kvm_broken_slot_that_stays_under_a_lost_mapping),
		cmocka_unit_test(test_kvm_broken_reopen_without_memory_changes_nothing),
		cmocka_unit_test(test_kvm_broken_descriptors_are_kept_back),
	};

	kvm_box_skip();
	return cmocka_run_group_tests_name("kvm_broken", tests, NULL, NULL);
}
