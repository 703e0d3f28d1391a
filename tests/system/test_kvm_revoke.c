/* SPDX-License-Identifier: MIT */
/*
 * Memory that is taken from a guest while it copies it with vector registers: the guest lives, meets old data or zeros,
 * never an exit; nothing of it reaches the memory any more, and nothing written there later reaches the guest.
 */
#include "kvm_box.h"
#include "run.h"

#include <ivc/atomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTION UINT64_C(16384)
#define OLD     UINT64_C(0x5a5a5a5a5a5a5a5a) /* in what the guest reads */
#define MINE    UINT64_C(0xa5a5a5a5a5a5a5a5) /* what the guest writes */
#define FORBID  UINT64_C(0xc3c3c3c3c3c3c3c3) /* written once the memory was taken: the guest must never meet it */
#define PAGE    UINT64_C(4096)

/*
 * Reads all of MAIL_AT and writes all of MAIL_COUNT, vectors that do not care for page boundaries, and looks at each
 * word that it has read: OLD or zero from the former, MINE or zero from the latter; else ends with 1 and the word in
 * MAIL_SEEN.
 */
/* clang-format off */
#define COPY_BEGIN \
	"mov (%rdi), %r8\n mov 8(%rdi), %r9\n" \
	"mov $0x5a5a5a5a5a5a5a5a, %r10\n mov $0xa5a5a5a5a5a5a5a5, %r11\n" \
	"mov %r11, (%rsi)\n mov %r11, 8(%rsi)\n mov %r11, 16(%rsi)\n mov %r11, 24(%rsi)\n"
#define COPY_CHECK(at, want) "mov " at "(%rsi), %rax\n cmp " want ", %rax\n je 5f\n test %rax, %rax\n jnz 9f\n 5:\n"
#define COPY_END \
	"incq 16(%rdi)\n jmp 1b\n" \
	"9: mov %rax, 24(%rdi)\n mov $1, %eax\n out %eax, $0xf4\n"

BOX_GUEST(guest_avx, COPY_BEGIN
	"vmovdqu (%rsi), %ymm1\n"
	"1: mov $8, %ecx\n"
	"2: vmovdqu (%r8,%rcx), %ymm0\n vmovdqu %ymm0, (%rsi)\n"
	COPY_CHECK("0", "%r10") COPY_CHECK("8", "%r10") COPY_CHECK("16", "%r10") COPY_CHECK("24", "%r10")
	"vmovdqu %ymm1, (%r9,%rcx)\n vmovdqu (%r9,%rcx), %ymm0\n vmovdqu %ymm0, (%rsi)\n"
	COPY_CHECK("0", "%r11") COPY_CHECK("8", "%r11") COPY_CHECK("16", "%r11") COPY_CHECK("24", "%r11")
	"add $32, %ecx\n cmp $(16384 - 32), %ecx\n jbe 2b\n"
	COPY_END);

BOX_GUEST(guest_sse, COPY_BEGIN
	"movdqu (%rsi), %xmm1\n"
	"1: mov $8, %ecx\n"
	"2: movdqu (%r8,%rcx), %xmm0\n movdqu %xmm0, (%rsi)\n"
	COPY_CHECK("0", "%r10") COPY_CHECK("8", "%r10")
	"movdqu %xmm1, (%r9,%rcx)\n movdqu (%r9,%rcx), %xmm0\n movdqu %xmm0, (%rsi)\n"
	COPY_CHECK("0", "%r11") COPY_CHECK("8", "%r11")
	"add $16, %ecx\n cmp $(16384 - 16), %ecx\n jbe 2b\n"
	COPY_END);
/* clang-format on */

/* A load of 4 bytes from MAIL_AT to MAIL_SEEN. */
BOX_GUEST(guest_look, "mov (%rdi), %rbx\n mov (%rbx), %eax\n mov %rax, 24(%rdi)\n xor %eax, %eax\n out %eax, $0xf4\n");

static void copy_start(struct kvm_box *box, uint64_t from, uint64_t to)
{
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_AT), from);
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_COUNT), to);
	kvm_box_start(box, box->avx ? guest_avx : guest_sse, box->avx ? guest_avx_end : guest_sse_end);
	kvm_box_moves(box, 2);
}

static uint32_t look(struct kvm_box *box, uint64_t at)
{
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_AT), at);
	kvm_box_start(box, guest_look, guest_look_end);
	assert_int_equal(kvm_box_finish(box), 0);
	return (uint32_t)ivc_load_relaxed_u64(kvm_box_mail(box, MAIL_SEEN));
}

/* Memory of a section and the test's own look at it. */
struct piece {
	struct ivc_mem mem;
	volatile uint64_t *word;
};

static struct piece piece_new(void)
{
	struct piece p;

	assert_int_equal(ivc_kvm_ops()->mem_new(NULL, SECTION, IVC_MEM_ONE_WRITER, &p.mem), 0);
	p.word = mmap(NULL, SECTION, PROT_READ | PROT_WRITE, MAP_SHARED, (int)p.mem.host[0], 0);
	assert_true(p.word != MAP_FAILED);
	return p;
}

static void piece_end(struct piece *p)
{
	munmap((void *)(uintptr_t)p->word, SECTION);
	ivc_kvm_ops()->mem_free(NULL, &p->mem);
}

static void fill(volatile uint64_t *word, uint64_t value)
{
	for (uint64_t i = 0; i < SECTION / 8; i++) {
		ivc_store_relaxed_u64(&word[i], value);
	}
}

static bool all(const volatile uint64_t *word, uint64_t value)
{
	for (uint64_t i = 0; i < SECTION / 8; i++) {
		if (ivc_load_relaxed_u64(&word[i]) != value) {
			return false;
		}
	}
	return true;
}

/* Taken and given back under the copying guest: each op one step for it, so not one exit in all that time. */
static void test_kvm_revoke_swaps_have_no_gap_for_a_copying_guest(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	const struct box_levels before = kvm_box_levels();
	const uint64_t turns = run_scaled(2000);
	struct ivc_view from, to;
	struct piece a, b;
	struct kvm_box box;

	(void)state;
	kvm_box_open(&box);
	kvm_box_host(&box, NULL, 0);
	a = piece_new();
	b = piece_new();
	fill(a.word, OLD);
	from = (struct ivc_view){.at = {BOX_WINDOW}, .bytes = SECTION, .mem = &a.mem, .access = IVC_READ};
	to = (struct ivc_view){.at = {BOX_WINDOW + SECTION}, .bytes = SECTION, .mem = &b.mem, .access = IVC_READ_WRITE};
	assert_int_equal(ops->map(box.kvm, &from), 0);
	assert_int_equal(ops->map(box.kvm, &to), 0);
	copy_start(&box, from.at.v, to.at.v);
	for (uint64_t i = 0; i < turns; i++) {
		assert_int_equal(ops->close(box.kvm, &from), 0);
		assert_int_equal(ops->close(box.kvm, &to), 0);
		/* From here on neither side sees the other. */
		fill(a.word, FORBID);
		fill(b.word, FORBID);
		kvm_box_moves(&box, i % 8 == 0 ? 2 : 0);
		assert_true(all(b.word, FORBID));
		fill(a.word, OLD);
		fill(b.word, 0);
		assert_int_equal(ops->map(box.kvm, &from), 0);
		assert_int_equal(ops->map(box.kvm, &to), 0);
		kvm_box_moves(&box, i % 8 == 4 ? 2 : 0);
	}
	kvm_box_moves(&box, 2);
	assert_int_equal(ivc_load_relaxed_u64(&b.word[SECTION / 16]), MINE);
	kvm_box_stop(&box);
	if (box.ended) {
		fail_msg("the guest met %#llx, or ended with %#x",
			 (unsigned long long)ivc_load_relaxed_u64(kvm_box_mail(&box, MAIL_SEEN)), box.status);
	}
	assert_int_equal(box.exits, 0);
	assert_int_equal(ivc_kvm_views(box.kvm), 2);
	assert_int_equal(ops->unmap(box.kvm, &from), 0);
	assert_int_equal(ops->unmap(box.kvm, &to), 0);
	kvm_box_close(&box);
	piece_end(&a);
	piece_end(&b);
	assert_memory_equal(&(struct box_levels[1]){kvm_box_levels()}, &before, sizeof(before));
}

/* The whole way: the publisher revokes, or dies, while the subscriber's guest copies. */
static void take_from_a_copying_guest(bool by_death)
{
	const struct box_levels before = kvm_box_levels();
	const uint64_t leave[6] = {1, 9};
	struct ivc_vm_stats stats;
	const uint64_t layout = IVC_LAYOUT_SECTIONED | 1u << IVC_LAYOUT_SEATS_SHIFT | 2u << IVC_LAYOUT_SEAT_LOG_SHIFT |
				IVC_LAYOUT_DEATH_REVOKE;
	struct box_window at;
	struct kvm_box pub, sub;
	struct ivc_hv *hv;
	uint64_t bytes, mine_bytes, own;
	volatile uint64_t *data, *mine;
	uint32_t closed;

	hv = kvm_box_hv(0);
	kvm_box_open(&pub);
	kvm_box_host(&pub, hv, 1);
	kvm_box_open(&sub);
	kvm_box_host(&sub, hv, 2);
	(void)kvm_box_publish_as(&pub, 9, SECTION, layout);
	data = kvm_box_section(IVC_MEM_ONE_WRITER, 0, &bytes);
	assert_int_equal(bytes, SECTION);
	fill(data, OLD);
	at = kvm_box_subscribe(&sub, 1, 9);
	mine = kvm_box_section(IVC_MEM_ONE_WRITER, 0, &mine_bytes);
	own = at.base + at.bytes - mine_bytes;
	assert_int_equal(mine_bytes, SECTION);
	copy_start(&sub, at.base + PAGE, own);
	if (by_death) {
		kvm_box_close(&pub);
	} else {
		assert_int_equal(kvm_box_call(&pub, IVC_HC_UNPUBLISH, (const uint64_t[6]){9, IVC_UNPUBLISH_REVOKE}), 0);
	}
	fill(data, FORBID);
	assert_int_equal(ivc_load_relaxed_u64(&mine[1]), MINE);
	fill(mine, FORBID);
	kvm_box_moves(&sub, 20);
	assert_true(all(mine, FORBID));
	kvm_box_stop(&sub);
	assert_int_equal(sub.ended, 0);
	assert_int_equal(sub.exits, 0);
	closed = look(&sub, at.base + 104);
	assert_true(closed == 0 || closed == IVC_CHANNEL_REVOKED);
	assert_int_equal(look(&sub, at.base + PAGE), 0);
	assert_int_equal(sub.mmio, 0);
	ivc_hv_vm_stats(sub.vm, &stats);
	assert_int_equal(stats.stray_reads + stats.stray_writes, 0);
	/* Left, it is a hole. */
	assert_int_equal(kvm_box_call(&sub, IVC_HC_UNSUBSCRIBE, leave), 0);
	assert_int_equal(look(&sub, at.base + PAGE), UINT32_MAX);
	ivc_hv_vm_stats(sub.vm, &stats);
	assert_int_equal(stats.stray_reads, 1);
	assert_int_equal(ivc_kvm_views(sub.kvm), 0);
	kvm_box_section_done((void *)(uintptr_t)data, bytes);
	kvm_box_section_done((void *)(uintptr_t)mine, mine_bytes);
	kvm_box_close(&sub);
	if (!by_death) {
		kvm_box_close(&pub);
	}
	assert_int_equal(ivc_load_relaxed_u64(&kvm_box_memory.used), 0);
	kvm_box_hv_end(hv);
	assert_memory_equal(&(struct box_levels[1]){kvm_box_levels()}, &before, sizeof(before));
}

static void test_kvm_revoke_by_the_publisher_under_a_copying_guest(void **state)
{
	(void)state;
	take_from_a_copying_guest(false);
}

static void test_kvm_revoke_by_death_under_a_copying_guest(void **state)
{
	(void)state;
	take_from_a_copying_guest(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvm_revoke_swaps_have_no_gap_for_a_copying_guest),
		cmocka_unit_test(test_kvm_revoke_by_the_publisher_under_a_copying_guest),
		cmocka_unit_test(test_kvm_revoke_by_death_under_a_copying_guest),
	};

	kvm_box_skip();
	return cmocka_run_group_tests_name("kvm_revoke", tests, NULL, NULL);
}
