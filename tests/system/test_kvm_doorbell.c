/* SPDX-License-Identifier: MIT */
/*
 * Direct bells: a store of a guest to its doorbell page reaches another VM's interrupt descriptor without an exit to
 * user space, as long as the core says so; all other stores there are exits, which the core answers.
 */
#include "kvm_box.h"
#include "run.h"

#include <ivc/atomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MANY 256u /* docs/hosts.md K15 */

/* MAIL_COUNT stores of the low half of MAIL_AT to the doorbell page, 4 bytes each. */
BOX_GUEST(guest_ring, "mov (%rdi), %eax\n mov $0xc0001000, %ebx\n"
		      "1: mov %eax, (%rbx)\n incq 16(%rdi)\n decq 8(%rdi)\n jnz 1b\n"
		      "xor %eax, %eax\n out %eax, $0xf4\n");

/* The value of MAIL_AT in stores that are no bells: other sizes, other places. */
BOX_GUEST(guest_near,
	  "mov (%rdi), %rax\n mov $0xc0001000, %ebx\n"
	  "mov %al, (%rbx)\n mov %ax, (%rbx)\n mov %rax, (%rbx)\n mov %eax, 4(%rbx)\n mov %eax, 0xffc(%rbx)\n"
	  "mov (%rbx), %eax\n cmp $-1, %eax\n mov $1, %eax\n jne 9f\n xor %eax, %eax\n"
	  "9: out %eax, $0xf4\n");

/* Two VMs of one registry: 1 rings, 2 is rung. */
struct pair {
	struct ivc_hv *hv;
	struct kvm_box a, b;
};

static void pair_open(struct pair *p)
{
	p->hv = kvm_box_hv(0);
	kvm_box_open(&p->a);
	kvm_box_host(&p->a, p->hv, 1);
	kvm_box_open(&p->b);
	kvm_box_host(&p->b, p->hv, 2);
}

static void pair_close(struct pair *p)
{
	kvm_box_close(&p->b);
	kvm_box_close(&p->a);
	kvm_box_hv_end(p->hv);
}

/* Bells that came since the last look. */
static uint64_t bells(const struct kvm_box *box)
{
	eventfd_t n = 0;

	return eventfd_read(box->bell_fd, &n) ? 0 : n;
}

/* Return: exits that @times stores of @value cost. */
static uint64_t ring(struct kvm_box *box, uint32_t value, uint64_t times)
{
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_AT), value);
	ivc_store_relaxed_u64(kvm_box_mail(box, MAIL_COUNT), times);
	kvm_box_start(box, guest_ring, guest_ring_end);
	assert_int_equal(kvm_box_finish(box), 0);
	assert_int_equal(box->exits, box->mmio + 1);
	return box->mmio;
}

static uint64_t strays(const struct kvm_box *box)
{
	struct ivc_vm_stats stats;

	ivc_hv_vm_stats(box->vm, &stats);
	return stats.stray_writes;
}

static void test_kvm_doorbell_store_reaches_the_peer_without_an_exit(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	const uint64_t times = run_scaled(1000);
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_int_equal(ops->doorbell(p.a.kvm, 0x12345601, p.b.kvm, true), 0);
	assert_int_equal(ring(&p.a, 0x12345601, times), 0);
	assert_int_equal(bells(&p.b), times);
	/* Another value, even a near one, is a matter of the core: nobody is rung. */
	assert_int_equal(ring(&p.a, 0x12345600, 10), 10);
	assert_int_equal(ring(&p.a, 0x02345601, 10), 10);
	assert_int_equal(strays(&p.a), 20);
	assert_int_equal(bells(&p.b), 0);
	assert_int_equal(bells(&p.a), 0);
	/* So is the value in the VM that is rung. */
	assert_int_equal(ring(&p.b, 0x12345601, 10), 10);
	assert_int_equal(bells(&p.a), 0);
	assert_int_equal(ops->doorbell(p.a.kvm, 0x12345601, p.b.kvm, false), 0);
	assert_int_equal(ring(&p.a, 0x12345601, 10), 10);
	assert_int_equal(bells(&p.b), 0);
	pair_close(&p);
}

static void test_kvm_doorbell_other_sizes_and_places_are_no_bells(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_int_equal(ops->doorbell(p.a.kvm, 1, p.b.kvm, true), 0);
	ivc_store_relaxed_u64(kvm_box_mail(&p.a, MAIL_AT), 1);
	kvm_box_start(&p.a, guest_near, guest_near_end);
	assert_int_equal(kvm_box_finish(&p.a), 0);
	assert_int_equal(p.a.mmio, 6);
	assert_int_equal(bells(&p.b), 0);
	assert_int_equal(ops->doorbell(p.a.kvm, 1, p.b.kvm, false), 0);
	pair_close(&p);
}

static void test_kvm_doorbell_what_cannot_be_wired_is_refused(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	struct ivc_kvm *deaf, *mute;
	struct ivc_kvm_config config;
	struct pair p;

	(void)state;
	pair_open(&p);
	config = p.b.config;
	config.bell_fd = -1;
	assert_int_equal(ivc_kvm_create(&deaf, &config), 0);
	config = p.b.config;
	config.doorbell = ivc_gpa(0);
	assert_int_equal(ivc_kvm_create(&mute, &config), 0);
	assert_int_equal(ops->doorbell(p.a.kvm, 1, deaf, true), IVC_E_OPNOTSUPP);
	assert_int_equal(ops->doorbell(mute, 1, p.b.kvm, true), IVC_E_OPNOTSUPP);
	/* One value, one target. */
	assert_int_equal(ops->doorbell(p.a.kvm, 1, p.b.kvm, true), 0);
	assert_int_equal(ops->doorbell(p.a.kvm, 1, p.a.kvm, true), IVC_E_EXIST);
	assert_int_equal(ring(&p.a, 1, 3), 0);
	assert_int_equal(bells(&p.b), 3);
	assert_int_equal(bells(&p.a), 0);
	assert_int_equal(ops->doorbell(p.a.kvm, 1, p.b.kvm, false), 0);
	ivc_kvm_destroy(deaf);
	ivc_kvm_destroy(mute);
	pair_close(&p);
}

/* So many may start in one VM and no more; what does not fit still rings, slower. */
static void test_kvm_doorbell_more_than_kvm_takes_is_an_error(void **state)
{
	const struct ivc_plat_ops *ops = ivc_kvm_ops();
	uint32_t on = 0;
	struct pair p;
	int err;

	(void)state;
	pair_open(&p);
	do {
		err = ops->doorbell(p.a.kvm, on + 1, p.b.kvm, true);
		on += !err;
	} while (!err && on <= MANY);
	assert_int_equal(err, IVC_E_NOSPC);
	assert_int_equal(on, MANY);
	assert_int_equal(ring(&p.a, on, 1), 0);
	assert_int_equal(bells(&p.b), 1);
	/* Each costs KVM a grace period: a few, the rest goes with the VM. */
	for (uint32_t i = 0; i < 10; i++) {
		assert_int_equal(ops->doorbell(p.a.kvm, on - i, p.b.kvm, false), 0);
	}
	assert_int_equal(ring(&p.a, on, 1), 1);
	assert_int_equal(ring(&p.a, on + 1, 1), 1);
	assert_int_equal(ops->doorbell(p.a.kvm, on, p.b.kvm, true), 0);
	assert_int_equal(ring(&p.a, on, 1), 0);
	pair_close(&p);
}

/* The whole way: members of a channel ring each other as the core has wired them, until they leave. */
static void test_kvm_doorbell_members_ring_each_other_until_they_leave(void **state)
{
	const uint64_t leave[6] = {1, 9}, end[6] = {9};
	const uint64_t *slot;
	struct box_window pub, sub;
	uint32_t to_sub, to_pub;
	struct pair p;

	(void)state;
	pair_open(&p);
	pub = kvm_box_publish(&p.a, 9, 4096, 2);
	slot = (const uint64_t *)(const void *)(p.a.ram + BOX_SLOTS);
	assert_int_equal(slot[0], pub.base);
	sub = kvm_box_subscribe(&p.b, 1, 9);
	{
		uint64_t bytes;
		const struct ivc_hv_page *page = kvm_box_section(IVC_MEM_HV, 0, &bytes);
		const uint32_t index = (uint32_t)(page->handle & 0xffffff);

		assert_int_equal(page->key, 9);
		to_sub = index << IVC_DOORBELL_INDEX_SHIFT | (uint32_t)sub.seat;
		to_pub = index << IVC_DOORBELL_INDEX_SHIFT | IVC_DOORBELL_ALL;
		kvm_box_section_done((void *)(uintptr_t)page, bytes);
	}
	(void)bells(&p.a);
	(void)bells(&p.b);
	assert_int_equal(ring(&p.a, to_sub, 7), 0);
	assert_int_equal(bells(&p.b), 7);
	assert_int_equal(ring(&p.b, to_pub, 5), 0);
	assert_int_equal(bells(&p.a), 5);
	/* Every peer of the publisher at once: the core's. */
	assert_int_equal(ring(&p.a, to_pub, 3), 3);
	assert_true(bells(&p.b) >= 1);
	/* Nobody there; and another VM than a member. */
	assert_int_equal(ring(&p.a, to_sub + 1, 2), 2);
	assert_int_equal(ring(&p.b, to_sub, 2), 2);
	assert_int_equal(strays(&p.a), 2);
	assert_int_equal(strays(&p.b), 2);
	assert_int_equal(kvm_box_call(&p.b, IVC_HC_UNSUBSCRIBE, leave), 0);
	(void)bells(&p.a);
	(void)bells(&p.b);
	assert_int_equal(ring(&p.a, to_sub, 2), 2);
	assert_int_equal(ring(&p.b, to_pub, 2), 2);
	assert_int_equal(bells(&p.a) + bells(&p.b), 0);
	/* A seat that is taken again is wired again. */
	sub = kvm_box_subscribe(&p.b, 1, 9);
	(void)bells(&p.b);
	assert_int_equal(ring(&p.a, to_sub - (to_sub & 0xff) + (uint32_t)sub.seat, 2), 0);
	assert_int_equal(bells(&p.b), 2);
	assert_int_equal(kvm_box_call(&p.a, IVC_HC_UNPUBLISH, end), 0);
	(void)bells(&p.a);
	(void)bells(&p.b);
	assert_int_equal(ring(&p.a, to_sub, 2), 2);
	assert_int_equal(ring(&p.b, to_pub, 2), 2);
	assert_int_equal(bells(&p.a) + bells(&p.b), 0);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvm_doorbell_store_reaches_the_peer_without_an_exit),
		cmocka_unit_test(test_kvm_doorbell_other_sizes_and_places_are_no_bells),
		cmocka_unit_test(test_kvm_doorbell_what_cannot_be_wired_is_refused),
		cmocka_unit_test(test_kvm_doorbell_more_than_kvm_takes_is_an_error),
		cmocka_unit_test(test_kvm_doorbell_members_ring_each_other_until_they_leave),
	};

	kvm_box_skip();
	return cmocka_run_group_tests_name("kvm_doorbell", tests, NULL, NULL);
}
