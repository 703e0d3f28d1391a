/* SPDX-License-Identifier: MIT */
/*
 * Sections in the window of a VM: put in and taken out under a vCPU that runs, written where they may only be read,
 * touched when they are gone; steps that fail leave everything as it was.
 */
#include "kvm_box.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <ivc/atomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTION UINT64_C(16384)
#define TEN_K   UINT64_C(10000)

/* Counts; reads the word at MAIL_AT meanwhile when that is not 0. */
BOX_GUEST(guest_spin, "1: mov (%rdi), %rbx\n test %rbx, %rbx\n jz 2f\n mov (%rbx), %rax\n mov %rax, 24(%rdi)\n"
		      "2: incq 16(%rdi)\n jmp 1b\n");

/* MAIL_COUNT stores of all sizes, plain, locked and by string instructions, all over the 16 KiB at MAIL_AT. */
BOX_GUEST(guest_write, "mov %rdi, %r8\n mov (%rdi), %rbx\n xor %r9d, %r9d\n"
		       "1: mov %r9, %rdx\n imul $40, %rdx, %rdx\n and $0x3ff8, %edx\n"
		       "mov %r9, %rax\n and $7, %eax\n"
		       "cmp $0, %eax\n je 10f\n cmp $1, %eax\n je 11f\n cmp $2, %eax\n je 12f\n cmp $3, %eax\n je 13f\n"
		       "cmp $4, %eax\n je 14f\n cmp $5, %eax\n je 15f\n cmp $6, %eax\n je 16f\n"
		       "movb $0x11, 3(%rbx,%rdx)\n jmp 2f\n"
		       "10: mov %r9, (%rbx,%rdx)\n jmp 2f\n"
		       "11: movl $0x22222222, 4(%rbx,%rdx)\n jmp 2f\n"
		       "12: movw $0x3333, 2(%rbx,%rdx)\n jmp 2f\n"
		       "13: lock incq (%rbx,%rdx)\n jmp 2f\n"
		       "14: lea (%rbx,%rdx), %rdi\n stosq\n jmp 2f\n"
		       "15: xchg %rax, (%rbx,%rdx)\n jmp 2f\n"
		       "16: mov $1, %ecx\n lock cmpxchg %rcx, (%rbx,%rdx)\n"
		       "2: inc %r9\n mov %r9, 16(%r8)\n cmp 8(%r8), %r9\n jb 1b\n"
		       "xor %eax, %eax\n out %eax, $0xf4\n");

/* A load from MAIL_AT to MAIL_SEEN, then a store there. */
BOX_GUEST(guest_touch, "mov (%rdi), %rbx\n mov (%rbx), %rax\n mov %rax, 24(%rdi)\n movq $0x77, (%rbx)\n"
		       "xor %eax, %eax\n out %eax, $0xf4\n");

static struct ivc_mem mem_of(uint64_t bytes, enum ivc_mem_kind kind)
{
	struct ivc_mem mem;

	assert_int_equal(ivc_kvm_ops()->mem_new(NULL, bytes, kind, &mem), 0);
	return mem;
}

static void mem_done(struct ivc_mem *mem)
{
	ivc_kvm_ops()->mem_free(NULL, mem);
}

static struct ivc_view view_of(const struct ivc_mem *mem, uint64_t at, enum ivc_access access)
{
	return (struct ivc_view){.at = {at}, .bytes = mem->bytes, .mem = mem, .access = access};
}

static void test_kvm_map_memory_is_what_the_core_wants(void **state)
{
	static const enum ivc_mem_kind kinds[] = {IVC_MEM_HV, IVC_MEM_ONE_WRITER, IVC_MEM_SHARED};
	const struct box_levels before = kvm_box_levels();

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct ivc_mem mem = mem_of(SECTION, kinds[i]);
		const int fd = (int)mem.host[0];

		assert_int_equal(mem.bytes, SECTION);
		assert_int_equal(mem.kind, kinds[i]);
		assert_int_equal(lseek(fd, 0, SEEK_END), SECTION);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(ftruncate(fd, 0), -1);
		assert_int_equal(ftruncate(fd, SECTION * 2), -1);
		assert_true((kinds[i] == IVC_MEM_ONE_WRITER) == (mem.addr == NULL));
		if (mem.addr) {
			assert_int_equal(*(uint64_t *)mem.addr, 0);
			*(uint64_t *)mem.addr = 1;
		}
		mem_done(&mem);
	}
	assert_memory_equal(&(struct box_levels[1]){kvm_box_levels()}, &before, sizeof(before));
}

static void test_kvm_map_beyond_the_ceiling_is_nomem(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	const struct box_levels before = kvm_box_levels();
	struct ivc_kvm_memory memory = {.limit = 3 * SECTION};
	struct ivc_mem mem[3], none = {.host = {1, 2}};

	(void)state;
	/* More than there can be, before a byte of it is there. */
	assert_int_equal(ops->mem_new(&memory, UINT64_C(1) << 62, IVC_MEM_ONE_WRITER, &none), IVC_E_NOMEM);
	assert_int_equal(ops->mem_new(&memory, UINT64_MAX - 4095, IVC_MEM_ONE_WRITER, &none), IVC_E_NOMEM);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(ops->mem_new(&memory, SECTION, IVC_MEM_ONE_WRITER, &mem[i]), 0);
	}
	assert_int_equal(memory.used, memory.limit);
	assert_int_equal(ops->mem_new(&memory, 4096, IVC_MEM_HV, &none), IVC_E_NOMEM);
	assert_int_equal(none.host[0], 1);
	assert_int_equal(none.host[1], 2);
	ops->mem_free(&memory, &mem[1]);
	assert_int_equal(ops->mem_new(&memory, SECTION, IVC_MEM_HV, &mem[1]), 0);
	for (size_t i = 0; i < 3; i++) {
		ops->mem_free(&memory, &mem[i]);
	}
	assert_int_equal(memory.used, 0);
	assert_memory_equal(&(struct box_levels[1]){kvm_box_levels()}, &before, sizeof(before));
	/* What a process without a better idea would take: some, and less than there is. */
	assert_true(ivc_kvm_memory_room(0) > SECTION);
	assert_true(ivc_kvm_memory_room(UINT64_C(1) << 60) < ivc_kvm_memory_room(0));
}

/* What a member could write stays its private memory when the channel is revoked, and counts until it leaves. */
static void test_kvm_map_closed_memory_counts_until_it_goes(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	struct ivc_kvm_memory memory = {.limit = 2 * SECTION};
	struct ivc_mem mem, other, none;
	struct ivc_view view[2];
	struct kvm_box box;

	(void)state;
	kvm_box_open(&box);
	kvm_box_host(&box, NULL, 0);
	assert_int_equal(ops->mem_new(&memory, SECTION, IVC_MEM_SHARED, &mem), 0);
	view[0] = view_of(&mem, BOX_WINDOW, IVC_READ_WRITE);
	view[1] = view_of(&mem, BOX_WINDOW + SECTION, IVC_READ);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(ops->map(box.kvm, &view[i]), 0);
		assert_int_equal(ops->close(box.kvm, &view[i]), 0);
		assert_int_equal(ops->close(box.kvm, &view[i]), 0);
	}
	assert_int_equal(memory.used, 2 * SECTION);
	ops->mem_free(&memory, &mem);
	assert_int_equal(memory.used, SECTION);
	assert_int_equal(ops->mem_new(&memory, SECTION, IVC_MEM_SHARED, &other), 0);
	assert_int_equal(ops->mem_new(&memory, 4096, IVC_MEM_HV, &none), IVC_E_NOMEM);
	/* Over it something else, and it is no longer there. */
	view[0].mem = &other;
	assert_int_equal(ops->map(box.kvm, &view[0]), 0);
	assert_int_equal(memory.used, SECTION);
	assert_int_equal(ops->close(box.kvm, &view[0]), 0);
	assert_int_equal(memory.used, 2 * SECTION);
	view[0].mem = NULL;
	view[1].mem = NULL;
	assert_int_equal(ops->unmap(box.kvm, &view[0]), 0);
	assert_int_equal(ops->unmap(box.kvm, &view[1]), 0);
	assert_int_equal(memory.used, SECTION);
	/* What stays closed until the end goes with the VM. */
	view[0].mem = &other;
	assert_int_equal(ops->map(box.kvm, &view[0]), 0);
	assert_int_equal(ops->close(box.kvm, &view[0]), 0);
	ops->mem_free(&memory, &other);
	assert_int_equal(memory.used, SECTION);
	kvm_box_close(&box);
	assert_int_equal(memory.used, 0);
}

static void test_kvm_map_guest_beyond_the_ceiling_is_nomem(void **state)
{
	const uint64_t want[6] = {9, BOX_SLOTS, BOX_SLOTS + 8, IVC_LAYOUT_SECTIONED | 1u << IVC_LAYOUT_SEATS_SHIFT};
	struct kvm_box box;
	struct ivc_hv *hv;
	uint64_t used;

	(void)state;
	hv = kvm_box_hv(0);
	kvm_box_open(&box);
	kvm_box_host(&box, hv, 1);
	(void)kvm_box_publish(&box, 8, SECTION, 1);
	used = ivc_load_relaxed_u64(&kvm_box_memory.used);
	assert_true(used >= SECTION + 4096);
	kvm_box_memory.limit = used + SECTION; /* the next section, but not its hv page */
	((uint64_t *)(void *)(box.ram + BOX_SLOTS))[1] = SECTION;
	assert_int_equal(kvm_box_call(&box, IVC_HC_PUBLISH, want), IVC_E_NOMEM);
	assert_int_equal(ivc_load_relaxed_u64(&kvm_box_memory.used), used);
	kvm_box_memory.limit = 2 * used;
	(void)kvm_box_publish(&box, 9, SECTION, 1);
	kvm_box_close(&box);
	assert_int_equal(ivc_load_relaxed_u64(&kvm_box_memory.used), 0);
	kvm_box_hv_end(hv);
}

static void test_kvm_map_ten_thousand_times_under_a_spinning_vcpu(void **state)
{
	const uint64_t turns = run_scaled(TEN_K);
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	const struct box_levels before = kvm_box_levels();
	struct ivc_mem mem = mem_of(SECTION, IVC_MEM_SHARED);
	struct ivc_view steady, view;
	struct kvm_box box;

	(void)state;
	kvm_box_open(&box);
	kvm_box_host(&box, NULL, 0);
	*(uint64_t *)mem.addr = 0x1234;
	steady = view_of(&mem, BOX_WINDOW + 2 * SECTION, IVC_READ);
	assert_int_equal(ops->map(box.kvm, &steady), 0);
	ivc_store_relaxed_u64(kvm_box_mail(&box, MAIL_AT), steady.at.v);
	kvm_box_start(&box, guest_spin, guest_spin_end);
	kvm_box_moves(&box, 1000);
	for (uint64_t i = 0; i < turns; i++) {
		/* On both sides of what the guest reads, and not always at the same place. */
		view = view_of(&mem, BOX_WINDOW + i % 5 * SECTION + (i % 5 >= 2 ? SECTION : 0),
			       i % 2 ? IVC_READ : IVC_READ_WRITE);
		assert_int_equal(ops->map(box.kvm, &view), 0);
		assert_int_equal(ivc_kvm_views(box.kvm), 2);
		assert_int_equal(ops->unmap(box.kvm, &view), 0);
	}
	kvm_box_moves(&box, 1000);
	kvm_box_stop(&box);
	assert_int_equal(box.ended, 0);
	assert_int_equal(box.exits, 0);
	assert_int_equal(ivc_load_relaxed_u64(kvm_box_mail(&box, MAIL_SEEN)), 0x1234);
	assert_int_equal(ops->unmap(box.kvm, &steady), 0);
	assert_int_equal(ivc_kvm_views(box.kvm), 0);
	kvm_box_close(&box);
	mem_done(&mem);
	assert_memory_equal(&(struct box_levels[1]){kvm_box_levels()}, &before, sizeof(before));
}

static void test_kvm_map_many_at_once_each_is_what_it_says(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	const struct box_levels before = kvm_box_levels();
	struct ivc_mem mem[40];
	struct ivc_view view[40];
	struct kvm_box box;

	(void)state;
	kvm_box_open(&box);
	kvm_box_host(&box, NULL, 0);
	for (uint64_t i = 0; i < 40; i++) {
		const uint64_t place = i * 17 % 40; /* not in the order of addresses */

		mem[i] = mem_of(4096, IVC_MEM_SHARED);
		*(uint64_t *)mem[i].addr = place + 1;
		view[i] = view_of(&mem[i], BOX_WINDOW + place * 4096, IVC_READ_WRITE);
		assert_int_equal(ops->map(box.kvm, &view[i]), 0);
	}
	for (uint64_t i = 0; i < 40; i += 2) {
		assert_int_equal(ops->unmap(box.kvm, &view[i]), 0);
	}
	assert_int_equal(ivc_kvm_views(box.kvm), 20);
	for (uint64_t i = 1; i < 40; i += 2) {
		ivc_store_relaxed_u64(kvm_box_mail(&box, MAIL_AT), view[i].at.v);
		kvm_box_start(&box, guest_touch, guest_touch_end);
		assert_int_equal(kvm_box_finish(&box), 0);
		assert_int_equal(ivc_load_relaxed_u64(kvm_box_mail(&box, MAIL_SEEN)), i * 17 % 40 + 1);
		assert_int_equal(*(uint64_t *)mem[i].addr, 0x77);
		assert_int_equal(box.mmio, 0);
	}
	/* What is left goes with the VM. */
	kvm_box_close(&box);
	for (uint64_t i = 0; i < 40; i++) {
		mem_done(&mem[i]);
	}
	assert_memory_equal(&(struct box_levels[1]){kvm_box_levels()}, &before, sizeof(before));
}

static void test_kvm_map_huge_section_is_aligned_and_whole(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	struct ivc_mem mem = mem_of(UINT64_C(6) << 20, IVC_MEM_ONE_WRITER);
	const struct ivc_view view = view_of(&mem, BOX_WINDOW + (UINT64_C(64) << 20), IVC_READ_WRITE);
	struct kvm_box box;
	uint64_t *own;

	(void)state;
	own = mmap(NULL, mem.bytes, PROT_READ, MAP_SHARED, (int)mem.host[0], 0);
	assert_true(own != MAP_FAILED);
	kvm_box_open(&box);
	kvm_box_host(&box, NULL, 0);
	assert_int_equal(ops->map(box.kvm, &view), 0);
	for (uint64_t at = 0; at < mem.bytes; at += mem.bytes - 8) {
		ivc_store_relaxed_u64(kvm_box_mail(&box, MAIL_AT), view.at.v + at);
		kvm_box_start(&box, guest_touch, guest_touch_end);
		assert_int_equal(kvm_box_finish(&box), 0);
		assert_int_equal(box.mmio, 0);
		assert_int_equal(own[at / 8], 0x77);
	}
	kvm_box_close(&box);
	munmap(own, mem.bytes);
	mem_done(&mem);
}

/* The whole way: what a subscriber's guest writes to the hv page and to the publisher's section. */
static void write_ten_thousand(struct kvm_box *box, uint64_t at, const void *bytes, uint64_t n)
{
	const uint64_t turns = run_scaled(TEN_K);
	struct ivc_vm_stats was, is;
	static char copy[SECTION];

	assert_true(n <= SECTION);
	memcpy(copy, bytes, n);
	ivc_hv_vm_stats(box->vm, &was);
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_AT), at);
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_COUNT), turns);
	kvm_box_start(box, guest_write, guest_write_end);
	assert_int_equal(kvm_box_finish(box), 0);
	assert_int_equal(ivc_load_relaxed_u64(kvm_box_mail(box, MAIL_DONE)), turns);
	ivc_hv_vm_stats(box->vm, &is);
	assert_int_equal(is.stray_writes - was.stray_writes, turns);
	assert_int_equal(is.stray_reads, was.stray_reads);
	assert_memory_equal(copy, bytes, n);
}

static void test_kvm_map_writes_to_what_is_read_only_change_nothing(void **state)
{
	struct kvm_box pub, sub;
	struct box_window at;
	uint64_t bytes, page_bytes;
	uint64_t *data, *page;
	struct ivc_hv *hv;

	(void)state;
	hv = kvm_box_hv(0);
	kvm_box_open(&pub);
	kvm_box_host(&pub, hv, 1);
	kvm_box_open(&sub);
	kvm_box_host(&sub, hv, 2);
	(void)kvm_box_publish(&pub, 9, SECTION, 1);
	at = kvm_box_subscribe(&sub, 1, 9);
	data = kvm_box_section(IVC_MEM_ONE_WRITER, 1, &bytes);
	page = kvm_box_section(IVC_MEM_HV, 0, &page_bytes);
	assert_int_equal(bytes, SECTION);
	assert_int_equal(page_bytes, 4096);
	for (uint64_t i = 0; i < SECTION / 8; i++) {
		data[i] = i * UINT64_C(0x9e3779b97f4a7c15);
	}
	/* 16 KiB from the hv page on: that page and three more. */
	write_ten_thousand(&sub, at.base, data, SECTION);
	write_ten_thousand(&sub, at.base + 4096, data, SECTION);
	assert_int_equal(page[0], 1);
	assert_int_equal(page[1], 9);
	kvm_box_section_done(data, bytes);
	kvm_box_section_done(page, page_bytes);
	kvm_box_close(&sub);
	kvm_box_close(&pub);
	kvm_box_hv_end(hv);
}

static void touch(struct kvm_box *box, uint64_t at, uint64_t seen)
{
	struct ivc_vm_stats was, is;

	ivc_hv_vm_stats(box->vm, &was);
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_AT), at);
	kvm_box_start(box, guest_touch, guest_touch_end);
	assert_int_equal(kvm_box_finish(box), 0);
	ivc_hv_vm_stats(box->vm, &is);
	assert_int_equal(ivc_load_relaxed_u64(kvm_box_mail(box, MAIL_SEEN)), seen);
	assert_int_equal(is.stray_reads - was.stray_reads, seen == UINT64_MAX);
	assert_int_equal(is.stray_writes - was.stray_writes, 1);
}

static void test_kvm_map_what_was_left_reads_as_all_ones(void **state)
{
	const uint64_t leave[6] = {1, 9}, end[6] = {9};
	struct kvm_box pub, sub;
	struct box_window at, own;
	uint64_t bytes, *data;
	struct ivc_hv *hv;

	(void)state;
	hv = kvm_box_hv(0);
	kvm_box_open(&pub);
	kvm_box_host(&pub, hv, 1);
	kvm_box_open(&sub);
	kvm_box_host(&sub, hv, 2);
	own = kvm_box_publish(&pub, 9, SECTION, 1);
	data = kvm_box_section(IVC_MEM_ONE_WRITER, 0, &bytes);
	data[0] = 0x4711;
	at = kvm_box_subscribe(&sub, 1, 9);
	touch(&sub, at.base + 4096, 0x4711);
	assert_int_equal(kvm_box_call(&sub, IVC_HC_UNSUBSCRIBE, leave), 0);
	touch(&sub, at.base, UINT64_MAX);
	touch(&sub, at.base + 4096, UINT64_MAX);
	touch(&sub, at.base + 4096 + SECTION, UINT64_MAX);
	assert_int_equal(data[0], 0x4711);
	assert_int_equal(kvm_box_call(&pub, IVC_HC_UNPUBLISH, end), 0);
	touch(&pub, own.base, UINT64_MAX);
	touch(&pub, own.base + 4096, UINT64_MAX);
	assert_int_equal(data[0], 0x4711);
	assert_int_equal(ivc_kvm_views(pub.kvm), 0);
	assert_int_equal(ivc_kvm_views(sub.kvm), 0);
	kvm_box_section_done(data, bytes);
	kvm_box_close(&sub);
	kvm_box_close(&pub);
	kvm_box_hv_end(hv);
}

/* Ops that cannot succeed, each of which must change nothing. */
static void refused(struct kvm_box *box, int (*op)(void *, const struct ivc_view *), const struct ivc_view *view,
		    int err)
{
	const uint32_t views = ivc_kvm_views(box->kvm);
	const struct box_levels before = kvm_box_levels();

	assert_int_equal(op(box->kvm, view), err);
	assert_int_equal(ivc_kvm_views(box->kvm), views);
	assert_memory_equal(&(struct box_levels[1]){kvm_box_levels()}, &before, sizeof(before));
}

static void test_kvm_map_of_what_cannot_be_changes_nothing(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	const struct kvm_userspace_memory_region foreign = {.slot = 1, .guest_phys_addr = BOX_WINDOW + (1u << 20)};
	struct ivc_mem mem = mem_of(SECTION, IVC_MEM_SHARED);
	struct ivc_mem bad = mem;
	struct ivc_view first, view;
	struct kvm_userspace_memory_region slot = foreign;
	struct kvm_box box;
	char path[64];

	(void)state;
	kvm_box_open(&box);
	box.config.slot_count = 3;
	kvm_box_host(&box, NULL, 0);
	slot.userspace_addr = (uintptr_t)box.ram;
	slot.memory_size = 4096;
	assert_int_equal(ioctl(box.vm_fd, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	first = view_of(&mem, BOX_WINDOW, IVC_READ_WRITE);
	assert_int_equal(ops->map(box.kvm, &first), 0);
	/* Over something, in whole and in part; over the VMM's own memory. */
	refused(&box, ops->map, &first, IVC_E_IO);
	view = view_of(&mem, BOX_WINDOW + SECTION - 4096, IVC_READ);
	refused(&box, ops->map, &view, IVC_E_IO);
	view = view_of(&mem, BOX_WINDOW + (1u << 20) - 4096, IVC_READ);
	refused(&box, ops->map, &view, IVC_E_IO);
	/* What is not there, or is something else. */
	view = view_of(&mem, BOX_WINDOW + SECTION, IVC_READ);
	refused(&box, ops->unmap, &view, IVC_E_IO);
	refused(&box, ops->close, &view, IVC_E_IO);
	view = first;
	view.bytes -= 4096;
	refused(&box, ops->unmap, &view, IVC_E_IO);
	refused(&box, ops->close, &view, IVC_E_IO);
	/* No memory behind it, or none that may be written. */
	bad.host[0] = UINT32_MAX;
	view = view_of(&bad, BOX_WINDOW + SECTION, IVC_READ);
	refused(&box, ops->map, &view, IVC_E_IO);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", (int)mem.host[0]);
	bad.host[0] = (uint64_t)open(path, O_RDONLY | O_CLOEXEC);
	view = view_of(&bad, BOX_WINDOW + SECTION, IVC_READ_WRITE);
	refused(&box, ops->map, &view, IVC_E_IO);
	view.access = IVC_READ;
	assert_int_equal(ops->map(box.kvm, &view), 0);
	close((int)bad.host[0]);
	/* Rights of a slot stay as they are. */
	assert_int_equal(ops->close(box.kvm, &first), 0);
	view = first;
	view.access = IVC_READ;
	refused(&box, ops->map, &view, IVC_E_OPNOTSUPP);
	assert_int_equal(ops->map(box.kvm, &first), 0);
	/* All numbers taken. */
	view = view_of(&mem, BOX_WINDOW + 8 * SECTION, IVC_READ);
	assert_int_equal(ops->map(box.kvm, &view), 0);
	view = view_of(&mem, BOX_WINDOW + 9 * SECTION, IVC_READ);
	refused(&box, ops->map, &view, IVC_E_NOSPC);
	assert_int_equal(ops->unmap(box.kvm, &first), 0);
	assert_int_equal(ops->map(box.kvm, &view), 0);
	kvm_box_close(&box);
	mem_done(&mem);
}

/* A VMM that sets its slots itself, and cannot every time. */
static uint32_t set_fails_at;
static int set_fails_with;
static uint32_t sets;

static int set_slot(void *vm, const struct kvm_userspace_memory_region *slot)
{
	struct kvm_box *box = vm;

	assert_true(slot->slot >= box->config.slot_first);
	assert_true(slot->slot < box->config.slot_first + box->config.slot_count);
	if (++sets == set_fails_at) {
		return -set_fails_with;
	}
	return ioctl(box->vm_fd, KVM_SET_USER_MEMORY_REGION, slot) ? -errno : 0;
}

static void test_kvm_map_failing_slot_leaves_things_as_they_were(void **state)
{
	static const struct {
		int error;
		int status;
	} how[] = {{ENOMEM, IVC_E_NOMEM}, {ENOSPC, IVC_E_NOSPC}, {EINVAL, IVC_E_IO}, {EEXIST, IVC_E_IO}};
	const uint64_t want[6] = {9, BOX_SLOTS, BOX_SLOTS + 8, IVC_LAYOUT_SECTIONED | 1u << IVC_LAYOUT_SEATS_SHIFT};
	struct ivc_hv_stats hv_stats;
	struct ivc_vm_stats vm_stats;
	struct kvm_box box;
	struct ivc_hv *hv;

	(void)state;
	hv = kvm_box_hv(0);
	kvm_box_open(&box);
	box.config.set_slot = set_slot;
	kvm_box_host(&box, hv, 1);
	for (uint32_t i = 0; i < 2 * sizeof(how) / sizeof(how[0]); i++) {
		const struct box_levels before = kvm_box_levels();

		sets = 0;
		set_fails_at = 1 + i % 2; /* the hv page, the publisher's section */
		set_fails_with = how[i / 2].error;
		((uint64_t *)(void *)(box.ram + BOX_SLOTS))[0] = 0x1111;
		((uint64_t *)(void *)(box.ram + BOX_SLOTS))[1] = SECTION;
		assert_int_equal(kvm_box_call(&box, IVC_HC_PUBLISH, want), how[i / 2].status);
		assert_int_equal(((uint64_t *)(void *)(box.ram + BOX_SLOTS))[0], 0x1111);
		assert_int_equal(ivc_kvm_views(box.kvm), 0);
		ivc_hv_stats(hv, &hv_stats);
		assert_int_equal(hv_stats.channels_now, 0);
		assert_int_equal(hv_stats.sections_now, 0);
		assert_int_equal(hv_stats.quarantined_bytes, 0);
		assert_memory_equal(&(struct box_levels[1]){kvm_box_levels()}, &before, sizeof(before));
	}
	/* A slot that cannot be deleted: the VM is given up, its memory never used again; all goes with the VM. */
	set_fails_at = 0;
	(void)kvm_box_publish(&box, 9, SECTION, 1);
	sets = 0;
	set_fails_at = 1;
	set_fails_with = ENOMEM;
	assert_int_equal(kvm_box_call(&box, IVC_HC_UNPUBLISH, (const uint64_t[6]){9}), IVC_E_IO);
	assert_int_equal(ivc_kvm_views(box.kvm), 1);
	ivc_hv_vm_stats(box.vm, &vm_stats);
	assert_true(vm_stats.quarantined > 0);
	assert_int_equal(kvm_box_call(&box, IVC_HC_VM_ID, (const uint64_t[6]){0}), IVC_E_SHUTDOWN);
	set_fails_at = 0;
	kvm_box_close(&box);
	kvm_box_hv_end(hv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvm_map_memory_is_what_the_core_wants),
		cmocka_unit_test(test_kvm_map_beyond_the_ceiling_is_nomem),
		cmocka_unit_test(test_kvm_map_closed_memory_counts_until_it_goes),
		cmocka_unit_test(test_kvm_map_guest_beyond_the_ceiling_is_nomem),
		cmocka_unit_test(test_kvm_map_ten_thousand_times_under_a_spinning_vcpu),
		cmocka_unit_test(test_kvm_map_many_at_once_each_is_what_it_says),
		cmocka_unit_test(test_kvm_map_huge_section_is_aligned_and_whole),
		cmocka_unit_test(test_kvm_map_writes_to_what_is_read_only_change_nothing),
		cmocka_unit_test(test_kvm_map_what_was_left_reads_as_all_ones),
		cmocka_unit_test(test_kvm_map_of_what_cannot_be_changes_nothing),
		cmocka_unit_test(test_kvm_map_failing_slot_leaves_things_as_they_were),
	};

	kvm_box_skip();
	return cmocka_run_group_tests_name("kvm_map", tests, NULL, NULL);
}
