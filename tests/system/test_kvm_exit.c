/* SPDX-License-Identifier: MIT */
/*
 * Exits of a vCPU: calls by port and by page, registers, waits, pages without memory, the CPUID leaves, and what
 * ivc_kvm_create() refuses.
 */
#include "kvm_box.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <ivc/atomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Loads every register, traps, and tells in eax which one was changed; MAIL_SEEN gets the result. */
#define REGISTERS_LOAD                                                                                                 \
	"mov %rdi, %rsp\n"                                                                                             \
	"mov 8(%rsp), %rax\n"                                                                                          \
	"mov $0x1112131415161718, %rbx\n"                                                                              \
	"mov $0, %edi\n mov $0, %esi\n mov $0, %edx\n mov $0, %ecx\n mov $0, %r8d\n mov $0, %r9d\n"                    \
	"mov $0xc0000000, %r10d\n"                                                                                     \
	"mov $0x2122232425262728, %r11\n mov $0x3132333435363738, %r12\n mov $0x4142434445464748, %r13\n"              \
	"mov $0x5152535455565758, %r14\n mov $0x6162636465666768, %r15\n mov $0x7172737475767778, %rbp\n"

#define REGISTERS_CHECK                                                                                                \
	"mov %rax, 24(%rsp)\n"                                                                                         \
	"mov $1, %eax\n"                                                                                               \
	"test %rdi, %rdi\n jnz 9f\n test %rsi, %rsi\n jnz 9f\n test %rdx, %rdx\n jnz 9f\n"                             \
	"test %rcx, %rcx\n jnz 9f\n test %r8, %r8\n jnz 9f\n test %r9, %r9\n jnz 9f\n"                                 \
	"mov $2, %eax\n"                                                                                               \
	"mov $0x1112131415161718, %rcx\n cmp %rcx, %rbx\n jnz 9f\n"                                                    \
	"mov $0x2122232425262728, %rcx\n cmp %rcx, %r11\n jnz 9f\n"                                                    \
	"mov $0x3132333435363738, %rcx\n cmp %rcx, %r12\n jnz 9f\n"                                                    \
	"mov $0x4142434445464748, %rcx\n cmp %rcx, %r13\n jnz 9f\n"                                                    \
	"mov $0x5152535455565758, %rcx\n cmp %rcx, %r14\n jnz 9f\n"                                                    \
	"mov $0x6162636465666768, %rcx\n cmp %rcx, %r15\n jnz 9f\n"                                                    \
	"mov $0x7172737475767778, %rcx\n cmp %rcx, %rbp\n jnz 9f\n"                                                    \
	"mov $0xc0000000, %ecx\n cmp %rcx, %r10\n jnz 9f\n"                                                            \
	"mov $0, %eax\n"                                                                                               \
	"9: out %eax, $0xf4\n"

BOX_GUEST(guest_port, REGISTERS_LOAD "out %eax, $0xb8\n" REGISTERS_CHECK);
BOX_GUEST(guest_page, REGISTERS_LOAD "mov %eax, (%r10)\n" REGISTERS_CHECK);

/* The same call MAIL_COUNT times. */
BOX_GUEST(guest_calls, "mov %rdi, %rbx\n mov $0, %edi\n mov $0, %esi\n mov $0, %edx\n mov $0, %ecx\n"
		       "1: mov (%rbx), %rax\n out %eax, $0xb8\n mov %rax, 24(%rbx)\n"
		       "incq 16(%rbx)\n mov 16(%rbx), %rax\n cmp 8(%rbx), %rax\n jb 1b\n"
		       "xor %eax, %eax\n out %eax, $0xf4\n");

/* A port that is nobody's MAIL_COUNT times. */
BOX_GUEST(guest_foreign, "mov %rdi, %rbx\n"
			 "1: out %eax, $0xb9\n incq 16(%rbx)\n mov 16(%rbx), %rax\n cmp 8(%rbx), %rax\n jb 1b\n"
			 "xor %eax, %eax\n out %eax, $0xf4\n");

/* 16 bytes from MAIL_AT, the first 8 of them to MAIL_SEEN, and all bits set there. */
BOX_GUEST(guest_vector, "mov (%rdi), %rbx\n movdqu (%rbx), %xmm0\n movdqu %xmm0, (%rsi)\n"
			"mov (%rsi), %rax\n mov %rax, 24(%rdi)\n pcmpeqb %xmm1, %xmm1\n movdqu %xmm1, (%rbx)\n"
			"xor %eax, %eax\n out %eax, $0xf4\n");

/* WAIT for any channel without end. */
BOX_GUEST(guest_wait, "mov %rdi, %rbx\n mov $0x49564302, %eax\n xor %edi, %edi\n mov $-1, %rsi\n xor %edx, %edx\n"
		      "xor %ecx, %ecx\n xor %r8d, %r8d\n xor %r9d, %r9d\n incq 16(%rbx)\n"
		      "out %eax, $0xb8\n mov %rax, 24(%rbx)\n xor %eax, %eax\n out %eax, $0xf4\n");

/* A load of 8 bytes from MAIL_AT to MAIL_SEEN, then a store of 8 bytes there. */
BOX_GUEST(guest_touch, "mov (%rdi), %rbx\n mov (%rbx), %rax\n mov %rax, 24(%rdi)\n mov %rax, (%rbx)\n"
		       "xor %eax, %eax\n out %eax, $0xf4\n");

/* Stores and ports that are no calls, though they come close. */
BOX_GUEST(guest_near, "mov $0x49564301, %eax\n mov $0xc0000000, %r10d\n"
		      "mov %ax, (%r10)\n mov %al, (%r10)\n mov %rax, (%r10)\n mov %eax, 4(%r10)\n"
		      "mov %ax, 0x1000(%r10)\n mov %rax, 0x1008(%r10)\n mov %eax, 0x1ffc(%r10)\n"
		      "cmp $0x49564301, %eax\n mov $1, %eax\n jne 9f\n"
		      "mov $0x49564301, %eax\n out %al, $0xb8\n out %ax, $0xb8\n out %eax, $0xb9\n"
		      "cmp $0x49564301, %eax\n mov $2, %eax\n jne 9f\n"
		      "mov $0, %eax\n 9: out %eax, $0xf4\n");

/* Looks for the signature as a guest does; MAIL_AT gets the leaf, MAIL_SEEN eax and ebx of the next. */
BOX_GUEST(guest_cpuid, "mov $1, %eax\n cpuid\n bt $31, %ecx\n mov $1, %eax\n jnc 9f\n"
		       "mov $0x40000000, %r8d\n"
		       "1: mov %r8d, %eax\n cpuid\n cmp $0x68435649, %ebx\n jne 2f\n cmp $0x72657079, %ecx\n jne 2f\n"
		       "cmp $0x31765f5f, %edx\n je 3f\n"
		       "2: add $0x100, %r8d\n cmp $0x40010000, %r8d\n jb 1b\n mov $2, %eax\n jmp 9f\n"
		       "3: mov %r8, (%rdi)\n lea 1(%r8), %eax\n cpuid\n mov %eax, 24(%rdi)\n mov %ebx, 28(%rdi)\n"
		       "mov %ecx, 8(%rdi)\n mov %edx, 12(%rdi)\n mov $0, %eax\n 9: out %eax, $0xf4\n");

static void begin(struct ivc_hv **hv, struct kvm_box *box, uint32_t flags)
{
	*hv = kvm_box_hv(flags);
	kvm_box_open(box);
	kvm_box_host(box, *hv, 7);
}

static void finish(struct ivc_hv *hv, struct kvm_box *box)
{
	kvm_box_close(box);
	kvm_box_hv_end(hv);
}

static int64_t call_by(struct kvm_box *box, const char *code, const char *code_end, uint64_t nr)
{
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_COUNT), nr);
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_SEEN), 0x5555);
	kvm_box_start(box, code, code_end);
	assert_int_equal(kvm_box_finish(box), 0);
	return (int64_t)ivc_load_relaxed_u64(kvm_box_mail(box, MAIL_SEEN));
}

static void calls_check(struct kvm_box *box)
{
	const uint64_t high = UINT64_C(1) << 32 | IVC_HC_VM_ID;

	assert_int_equal(call_by(box, guest_port, guest_port_end, IVC_HC_VM_ID), 7);
	assert_int_equal(call_by(box, guest_page, guest_page_end, IVC_HC_VM_ID), 7);
	assert_int_equal(call_by(box, guest_port, guest_port_end, 0x1234), IVC_E_NOSYS);
	assert_int_equal(call_by(box, guest_page, guest_page_end, 0x1234), IVC_E_NOSYS);
	assert_int_equal(call_by(box, guest_port, guest_port_end, high), IVC_E_NOSYS);
	assert_int_equal(call_by(box, guest_page, guest_page_end, high), IVC_E_NOSYS);
	assert_int_equal(call_by(box, guest_page, guest_page_end, IVC_HC_FEATURES),
			 call_by(box, guest_port, guest_port_end, IVC_HC_FEATURES));
}

static void test_kvm_exit_call_changes_the_result_register_alone(void **state)
{
	struct kvm_box box;
	struct ivc_hv *hv;

	(void)state;
	begin(&hv, &box, 0);
	calls_check(&box);
	box.no_sync_regs = true;
	calls_check(&box);
	assert_int_equal(box.foreign, 0);
	finish(hv, &box);
}

static void test_kvm_exit_number_of_somebody_else_is_foreign(void **state)
{
	struct kvm_box box;
	struct ivc_hv *hv;

	(void)state;
	begin(&hv, &box, IVC_HV_HIGH_NUMBERS);
	for (uint32_t turn = 0; turn < 2; turn++) {
		box.no_sync_regs = turn != 0;
		assert_int_equal(call_by(&box, guest_port, guest_port_end, 3), 3);
		assert_int_equal(box.foreign, 1);
		assert_int_equal(call_by(&box, guest_port, guest_port_end, IVC_HC_VM_ID), 7);
		assert_int_equal(box.foreign, 0);
	}
	finish(hv, &box);
}

static void test_kvm_exit_what_is_almost_a_call_is_none(void **state)
{
	struct ivc_vm_stats stats;
	struct kvm_box box;
	struct ivc_hv *hv;

	(void)state;
	begin(&hv, &box, 0);
	kvm_box_start(&box, guest_near, guest_near_end);
	assert_int_equal(kvm_box_finish(&box), 0);
	assert_int_equal(box.foreign, 3);
	ivc_hv_vm_stats(box.vm, &stats);
	assert_int_equal(stats.calls, 0);
	finish(hv, &box);
}

static void test_kvm_exit_pages_read_as_all_ones(void **state)
{
	static const uint64_t at[] = {BOX_TRAP, BOX_DOORBELL, BOX_DOORBELL + 0xff8};
	struct kvm_box box;
	struct ivc_hv *hv;

	(void)state;
	begin(&hv, &box, 0);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		ivc_store_relaxed_u64(kvm_box_mail(&box, MAIL_AT), at[i]);
		kvm_box_start(&box, guest_touch, guest_touch_end);
		assert_int_equal(kvm_box_finish(&box), 0);
		assert_int_equal(ivc_load_relaxed_u64(kvm_box_mail(&box, MAIL_SEEN)), UINT64_MAX);
		assert_int_equal(box.mmio, 2);
	}
	/* The rest of the trap page is the embedder's. */
	ivc_store_relaxed_u64(kvm_box_mail(&box, MAIL_AT), BOX_TRAP + 0x100);
	kvm_box_start(&box, guest_touch, guest_touch_end);
	while (!ivc_load_acquire_u32(&box.ended)) {
		usleep(100);
	}
	kvm_box_stop(&box);
	assert_int_equal(box.ended, 2);
	assert_int_equal(box.status, KVM_EXIT_MMIO);
	finish(hv, &box);
}

static void test_kvm_exit_hole_of_the_window_is_all_ones_and_counted(void **state)
{
	struct ivc_vm_stats stats;
	struct kvm_box box;
	struct ivc_hv *hv;

	(void)state;
	begin(&hv, &box, 0);
	ivc_store_relaxed_u64(kvm_box_mail(&box, MAIL_AT), BOX_WINDOW + 0x123458);
	kvm_box_start(&box, guest_touch, guest_touch_end);
	assert_int_equal(kvm_box_finish(&box), 0);
	assert_int_equal(ivc_load_relaxed_u64(kvm_box_mail(&box, MAIL_SEEN)), UINT64_MAX);
	ivc_hv_vm_stats(box.vm, &stats);
	assert_int_equal(stats.stray_reads, 1);
	assert_int_equal(stats.stray_writes, 1);
	finish(hv, &box);
}

static void test_kvm_exit_wait_sleeps_until_the_bell(void **state)
{
	const uint64_t notify[6] = {7, 5, 8};
	struct kvm_box box, peer;
	struct ivc_vm_stats stats;
	struct ivc_hv *hv;

	(void)state;
	begin(&hv, &box, 0);
	kvm_box_open(&peer);
	kvm_box_host(&peer, hv, 8);
	(void)kvm_box_publish(&box, 5, 4096, 1);
	(void)kvm_box_subscribe(&peer, 7, 5);
	kvm_box_start(&peer, guest_wait, guest_wait_end);
	do {
		ivc_hv_vm_stats(peer.vm, &stats);
		usleep(100);
	} while (stats.waits_parked == 0 && !ivc_load_acquire_u32(&peer.ended));
	assert_int_equal(kvm_box_call(&box, IVC_HC_NOTIFY, notify), 0);
	assert_int_equal(kvm_box_finish(&peer), 0);
	assert_true((int64_t)ivc_load_relaxed_u64(kvm_box_mail(&peer, MAIL_SEEN)) > 0);
	kvm_box_close(&peer);
	finish(hv, &box);
}

static void test_kvm_exit_kick_ends_a_sleep_with_intr(void **state)
{
	struct kvm_box box;
	struct ivc_hv *hv;

	(void)state;
	begin(&hv, &box, 0);
	kvm_box_start(&box, guest_wait, guest_wait_end);
	kvm_box_moves(&box, 0);
	ivc_kvm_kick(&box.vcpu);
	assert_int_equal(kvm_box_finish(&box), 0);
	assert_int_equal((int64_t)ivc_load_relaxed_u64(kvm_box_mail(&box, MAIL_SEEN)), IVC_E_INTR);
	finish(hv, &box);
}

static void test_kvm_exit_guest_finds_the_signature(void **state)
{
	struct kvm_box box;
	struct ivc_hv *hv;
	uint64_t features, seen;

	(void)state;
	begin(&hv, &box, 0);
	features = (uint64_t)call_by(&box, guest_port, guest_port_end, IVC_HC_FEATURES);
	kvm_box_start(&box, guest_cpuid, guest_cpuid_end);
	assert_int_equal(kvm_box_finish(&box), 0);
	assert_int_equal(ivc_load_relaxed_u64(kvm_box_mail(&box, MAIL_AT)), 0x40000100);
	seen = ivc_load_relaxed_u64(kvm_box_mail(&box, MAIL_SEEN));
	assert_int_equal(seen, (features & UINT32_MAX) | UINT64_C(3) << 32);
	assert_int_equal(ivc_load_relaxed_u64(kvm_box_mail(&box, MAIL_COUNT)), BOX_TRAP);
	finish(hv, &box);
}

static void test_kvm_exit_cpuid_takes_what_is_free(void **state)
{
	struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + 300 * sizeof(t->entries[0]));

	(void)state;
	assert_non_null(t);
	t->nent = 2;
	t->entries[0].function = 1;
	t->entries[1].function = 0x40000001;
	assert_int_equal(ivc_kvm_cpuid(t, 3, 1, ivc_gpa(0), ivc_gpa(0)), IVC_E_NOSPC);
	assert_int_equal(ivc_kvm_cpuid(t, 1, 1, ivc_gpa(0), ivc_gpa(0)), IVC_E_NOSPC);
	assert_int_equal(t->nent, 2);
	assert_int_equal(t->entries[0].ecx, 0);
	assert_int_equal(ivc_kvm_cpuid(t, 4, IVC_X86_TRAP_PORT, ivc_gpa(0), ivc_gpa(0)), 0);
	assert_int_equal(t->nent, 4);
	assert_int_equal(t->entries[0].ecx, 1u << 31);
	assert_int_equal(t->entries[2].function, 0x40000100);
	assert_int_equal(t->entries[2].eax, 0x40000101);
	assert_int_equal(t->entries[3].function, 0x40000101);
	assert_int_equal(t->entries[3].eax & IVC_FEATURE_DOORBELL, 0);
	for (uint32_t k = 0; k < 0x100; k++) {
		t->entries[k].function = 0x40000000 + 0x100 * k + 0xff;
	}
	t->nent = 0x100;
	assert_int_equal(ivc_kvm_cpuid(t, 300, 1, ivc_gpa(0), ivc_gpa(0)), IVC_E_NOSPC);
	t->entries[0x80].function = 0;
	assert_int_equal(ivc_kvm_cpuid(t, 300, 1, ivc_gpa(0), ivc_gpa(0x1000)), 0);
	assert_int_equal(t->entries[0x100].function, 0x40008000);
	assert_int_not_equal(t->entries[0x101].eax & IVC_FEATURE_DOORBELL, 0);
	free(t);
}

static int create_with(const struct ivc_kvm_config *cfg)
{
	struct ivc_kvm *kvm = NULL;
	const int err = ivc_kvm_create(&kvm, cfg);

	ivc_kvm_destroy(kvm);
	return err;
}

static void test_kvm_exit_create_refuses_what_makes_no_sense(void **state)
{
	struct ivc_kvm_config c;
	struct kvm_box box;
	int max;

	(void)state;
	kvm_box_open(&box);
	max = ioctl(box.vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
	assert_int_equal(create_with(&box.config), 0);
	assert_int_equal(create_with(NULL), IVC_E_INVAL);
	assert_int_equal(ivc_kvm_create(NULL, &box.config), IVC_E_INVAL);
#define REFUSED(change)                                                                                                \
	do {                                                                                                           \
		c = box.config;                                                                                        \
		change;                                                                                                \
		assert_int_equal(create_with(&c), IVC_E_INVAL);                                                        \
	} while (0)
	REFUSED(c.size = 0);
	REFUSED(c.size = offsetof(struct ivc_kvm_config, ram));
	REFUSED(c.flags = 1);
	REFUSED(c.vm_fd = -1);
	REFUSED(c.vm_fd = box.bell_fd);
	REFUSED(c.vm_fd = box.vcpu_fd);
	REFUSED(c.ram = NULL);
	REFUSED(c.slot_count = 0);
	REFUSED(c.slot_count = UINT32_MAX);
	REFUSED(c.slot_first = UINT32_MAX);
	REFUSED(c.slot_first = (uint32_t)max - 1; c.slot_count = 2);
	REFUSED(c.trap = ivc_gpa(BOX_TRAP + 8));
	REFUSED(c.doorbell = ivc_gpa(BOX_DOORBELL + 0x800));
	REFUSED(c.doorbell = c.trap);
#undef REFUSED
	c = box.config;
	c.slot_first = (uint32_t)max - 2;
	c.slot_count = 2;
	assert_int_equal(create_with(&c), 0);
	c = box.config;
	c.size = offsetof(struct ivc_kvm_config, ram_done); /* an embedder that was built before ram_done was there */
	c.ram_done = (void (*)(void *, ivc_gpa_t, void *))(uintptr_t)1;
	assert_int_equal(create_with(&c), 0);
	kvm_box_host(&box, NULL, 0);
	kvm_box_close(&box);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CPU time, the least of several runs: other load counts little. */
static uint64_t cost(struct kvm_box *box, bool sync_regs, const char *code, const char *code_end, uint64_t calls)
{
	uint64_t least = UINT64_MAX;

	box->no_sync_regs = !sync_regs;
	for (uint64_t turn = run_scaled(6); turn > 0; turn--) {
		uint64_t took;

		ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_AT), IVC_HC_VM_ID);
		ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_COUNT), calls);
		ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_DONE), 0);
		took = cpu_ns();
		kvm_box_start(box, code, code_end);
		assert_int_equal(kvm_box_finish(box), 0);
		took = (cpu_ns() - took) / calls;
		least = took < least ? took : least;
		assert_int_equal(box->exits, calls + 1);
	}
	return least;
}

/* Not a test of speed: prints what calls and other exits cost with registers by KVM_RUN and by two ioctls. */
static void test_kvm_exit_cost_of_registers(void **state)
{
	const uint64_t calls = run_scaled(300);
	struct kvm_box box;
	struct ivc_hv *hv;

	(void)state;
	begin(&hv, &box, 0);
	for (uint32_t turn = 0; turn < 2; turn++) {
		const bool sync_regs = turn == 0;

		print_message("registers by %s: a call %llu ns, an exit that is no call %llu ns\n",
			      sync_regs ? "KVM_RUN" : "ioctl",
			      (unsigned long long)cost(&box, sync_regs, guest_calls, guest_calls_end, calls),
			      (unsigned long long)cost(&box, sync_regs, guest_foreign, guest_foreign_end, calls));
	}
	finish(hv, &box);
}

/* 16 bytes at once, in a hole and where the guest may only read: KVM makes two accesses of each. */
static void test_kvm_exit_vectors_of_16_bytes_meet_nothing(void **state)
{
	struct ivc_vm_stats was, is;
	struct kvm_box box, peer;
	struct box_window at;
	struct ivc_hv *hv;

	(void)state;
	begin(&hv, &box, 0);
	kvm_box_open(&peer);
	kvm_box_host(&peer, hv, 8);
	(void)kvm_box_publish(&box, 5, 4096, 1);
	at = kvm_box_subscribe(&peer, 7, 5);
	for (uint32_t turn = 0; turn < 2; turn++) {
		ivc_hv_vm_stats(peer.vm, &was);
		ivc_store_relaxed_u64(kvm_box_mail(&peer, MAIL_AT), turn ? at.base + 4096 : at.base + (1u << 24));
		kvm_box_start(&peer, guest_vector, guest_vector_end);
		assert_int_equal(kvm_box_finish(&peer), 0);
		assert_int_equal(ivc_load_relaxed_u64(kvm_box_mail(&peer, MAIL_SEEN)), turn ? 0 : UINT64_MAX);
		ivc_hv_vm_stats(peer.vm, &is);
		assert_int_equal(is.stray_reads - was.stray_reads, turn ? 0 : 2);
		assert_int_equal(is.stray_writes - was.stray_writes, 2);
	}
	kvm_box_close(&peer);
	finish(hv, &box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvm_exit_call_changes_the_result_register_alone),
		cmocka_unit_test(test_kvm_exit_number_of_somebody_else_is_foreign),
		cmocka_unit_test(test_kvm_exit_what_is_almost_a_call_is_none),
		cmocka_unit_test(test_kvm_exit_pages_read_as_all_ones),
		cmocka_unit_test(test_kvm_exit_hole_of_the_window_is_all_ones_and_counted),
		cmocka_unit_test(test_kvm_exit_wait_sleeps_until_the_bell),
		cmocka_unit_test(test_kvm_exit_kick_ends_a_sleep_with_intr),
		cmocka_unit_test(test_kvm_exit_guest_finds_the_signature),
		cmocka_unit_test(test_kvm_exit_cpuid_takes_what_is_free),
		cmocka_unit_test(test_kvm_exit_create_refuses_what_makes_no_sense),
		cmocka_unit_test(test_kvm_exit_vectors_of_16_bytes_meet_nothing),
		cmocka_unit_test(test_kvm_exit_cost_of_registers),
	};

	kvm_box_skip();
	return cmocka_run_group_tests_name("kvm_exit", tests, NULL, NULL);
}
