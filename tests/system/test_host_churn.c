/* SPDX-License-Identifier: MIT */
/*
 * Channels that come and go without a pause while vCPUs look at others, and a crowd of VMs on one channel, the same on
 * every host: nobody notices, and afterwards everything is as before.
 */
#include "host.h"

#define LAYOUT(seats) (IVC_LAYOUT_SECTIONED | (uint64_t)(seats) << IVC_LAYOUT_SEATS_SHIFT)
#define PAGE          UINT64_C(4096)
#define READ          UINT64_C(8192) /* what the vCPU that looks reads, all the time */
#define STOP          UINT64_C(0x73746f70)

/* Rounds of one order, which has a deadline. */
static uint64_t turn(void)
{
	return run_scaled(125);
}

/* A round of a publisher maps and unmaps two sections, one of a member four in two windows: 10^4 steps on KVM. */
static uint64_t turns(void)
{
	return run_scaled(host_remote() ? 4 : 14);
}

static void pub_begin(struct host_vm *vm, uint32_t vcpu, uint64_t bytes, uint64_t seats, uint64_t how)
{
	host_begin(vm, vcpu, ORDER(PUPPET_CHURN_PUB, turn(), 1, bytes, LAYOUT(seats), how));
}

static void sub_begin(struct host_vm *vm, uint32_t vcpu, uint32_t publisher, uint64_t key, uint64_t flags)
{
	host_begin(vm, vcpu, ORDER(PUPPET_CHURN_SUB, turn(), publisher, key, flags, HOST_LONG));
}

static void churned(struct host_vm *vm, uint32_t vcpu)
{
	struct puppet_answer a;

	assert_int_equal(host_end(vm, vcpu, &a), 0);
	assert_int_equal(a.value[0], turn());
}

/*
 * A vCPU reads its own channel all the time: until the last word of the section says STOP. @vcpu publishes and reads.
 * Return: where that word is.
 */
static uint64_t spin(struct host_vm *vm, uint32_t vcpu, uint64_t key)
{
	struct puppet_answer a;

	host_begin(vm, vcpu, ORDER(PUPPET_MAP_PUB, 7, key, READ, LAYOUT(1)));
	assert_int_equal(host_end(vm, vcpu, &a), 0);
	host_begin(vm, vcpu, ORDER(PUPPET_FILL, 7, PAGE, READ, 0x11));
	assert_int_equal(host_end(vm, vcpu, NULL), 0);
	host_begin(vm, vcpu, ORDER(PUPPET_SPIN, 7, PAGE, READ - 64, 7, PAGE + READ - 8, STOP));
	return a.value[0] + PAGE + READ - 8;
}

/* Return: how often it has read all of it; each time all of it was there. */
static uint64_t spin_end(struct host_vm *vm, uint32_t vcpu, uint64_t word)
{
	const uint64_t sum = UINT64_C(0x1111111111111111) * (READ / 64 - 1);
	struct puppet_answer a;

	assert_int_equal(host_do(vm, ORDER(PUPPET_WRITE, PUPPET_GPA, word, 8, STOP, 1), NULL), 0);
	assert_int_equal(host_end(vm, vcpu, &a), 0);
	assert_true(a.value[1] == sum * a.value[0]);
	return a.value[0];
}

/* What a VM holds by the count of whoever runs it, stray accesses too. */
static void same(struct host_vm *vm, const struct puppet_answer *before)
{
	struct puppet_answer now;

	host_stats(vm, &now);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(now.value[i], before->value[i]);
	}
}

static void test_host_churn_channels_of_a_vm_come_and_go_under_a_vcpu_that_reads(void **state)
{
	struct host *h = host_start();
	struct host_vm *vm = host_vm_start(h, 1, 2);
	const uint64_t word = spin(vm, 1, 99);
	struct puppet_answer before;

	(void)state;
	host_stats(vm, &before);
	for (uint64_t n = 0; n < turns(); n++) {
		pub_begin(vm, 0, n % 2 ? 8192 : 65536, n % 4 + 1, n % 3 ? IVC_UNPUBLISH_DRAIN : IVC_UNPUBLISH_REVOKE);
		churned(vm, 0);
		same(vm, &before);
	}
	assert_true(spin_end(vm, 1, word) > 0);
	host_vm_leave(vm);
	host_stop(h);
}

static void test_host_churn_members_come_and_go_under_a_vcpu_that_reads(void **state)
{
	struct host *h = host_start();
	struct host_vm *p = host_vm_start(h, 1, 2), *s = host_vm_start(h, 2, 1), *t = host_vm_start(h, 3, 1);
	const uint64_t word = spin(p, 1, 99);
	struct puppet_answer before, before_p, a;

	(void)state;
	host_stats(p, &before_p);
	host_stats(s, &before);
	assert_int_equal(host_do(p, ORDER(PUPPET_MAP_PUB, 0, 1, 8192, LAYOUT(2)), NULL), 0);
	for (uint64_t n = 0; n < turns(); n++) {
		sub_begin(s, 0, 1, 1, 0);
		if (n % 4 == 0) {
			sub_begin(t, 0, 1, 1, IVC_SUBSCRIBE_SLEEPS);
			churned(t, 0);
		}
		churned(s, 0);
		same(s, &before);
		/* Its own sections, and what it was once shown of the two seats. */
		host_stats(p, &a);
		assert_true(a.value[2] <= before_p.value[2] + 2 + 2);
	}
	assert_int_equal(host_do(p, ORDER(PUPPET_CLOSE, 0), NULL), 0);
	same(p, &before_p);
	assert_true(spin_end(p, 1, word) > 0);
	host_vm_leave(t);
	host_vm_leave(s);
	host_vm_leave(p);
	host_stop(h);
}

/* Each publishes and is a member of the other, comes and goes: both windows change from both sides. */
static void test_host_churn_both_ways_at_once_goes_on(void **state)
{
	struct host *h = host_start();
	struct host_vm *vm[2] = {host_vm_start(h, 1, 2), host_vm_start(h, 2, 2)};
	struct puppet_answer before[2];

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		host_stats(vm[i], &before[i]);
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_MAP_PUB, 0, 5, 8192, LAYOUT(1)), NULL), 0);
	}
	for (uint64_t n = 0; n < turns(); n += 5) {
		for (uint32_t i = 0; i < 2; i++) {
			pub_begin(vm[i], 0, 8192, 1, i);
			sub_begin(vm[i], 1, 2 - i, 5, 0);
		}
		for (uint32_t i = 0; i < 2; i++) {
			churned(vm[i], 0);
			churned(vm[i], 1);
		}
	}
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_CLOSE, 0), NULL), 0);
		same(vm[i], &before[i]);
	}
	host_vm_leave(vm[1]);
	host_vm_leave(vm[0]);
	host_stop(h);
}

#define CROWD 64u

/* Half of a second's work for two cores where a VM is a process. */
static uint32_t crowd(void)
{
	const uint32_t all = (uint32_t)run_scaled(host_remote() ? CROWD / 4 : CROWD);

	return all > 4 ? all : 4;
}

/* One publisher, a crowd of readers in all their seats: everybody gets everything, all answer. */
static void test_host_churn_crowd_on_one_channel_gets_everything(void **state)
{
	const uint32_t all = crowd();
	const uint64_t messages = 20;
	struct host *h = host_start();
	struct host_vm *vm[CROWD];
	struct puppet_answer a;
	uint64_t seats = 0;

	(void)state;
	for (uint32_t i = 0; i < all; i++) {
		vm[i] = host_vm_begin(h, i + 1, 1);
	}
	for (uint32_t i = 0; i < all; i++) {
		host_vm_ready(vm[i]);
	}
	assert_int_equal(host_do(vm[0], ORDER(PUPPET_OPEN_PUB, 0, 1, 65536, all - 1), NULL), 0);
	for (uint32_t i = 1; i < all; i++) {
		host_begin(vm[i], 0, ORDER(PUPPET_OPEN_SUB, 0, 1, 1, HOST_LONG));
	}
	for (uint32_t i = 1; i < all; i++) {
		assert_int_equal(host_end(vm[i], 0, &a), 0);
		seats |= UINT64_C(1) << a.value[0];
	}
	assert_int_equal(seats, (UINT64_C(1) << (all - 1)) - 1);
	assert_int_equal(host_do(vm[0], ORDER(PUPPET_AWAIT, 0, all - 1, HOST_LONG), NULL), 0);
	host_stats(vm[0], &a);
	assert_int_equal(a.value[2], 2 + all - 1);
	for (uint32_t i = 1; i < all; i++) {
		host_begin(vm[i], 0, ORDER(PUPPET_RECV, 0, messages, 5, HOST_LONG));
	}
	assert_int_equal(host_do(vm[0], ORDER(PUPPET_SEND, 0, messages, 0, 5, HOST_LONG), NULL), 0);
	for (uint32_t i = 1; i < all; i++) {
		assert_int_equal(host_end(vm[i], 0, &a), 0);
		assert_int_equal(a.value[0], messages);
		host_begin(vm[i], 0, ORDER(PUPPET_SEND, 0, messages, 40, 6, HOST_LONG));
	}
	assert_int_equal(host_do(vm[0], ORDER(PUPPET_RECV, 0, (all - 1) * messages, 6, HOST_LONG), &a), 0);
	for (uint32_t i = 1; i < all; i++) {
		assert_int_equal(host_end(vm[i], 0, NULL), 0);
	}
	/* A third of them dies at once, the others get what comes; then the publisher ends under all that are left. */
	for (uint32_t i = 1; i < all; i += 3) {
		host_vm_kill(vm[i]);
	}
	for (uint32_t i = 1; i < all; i += 3) {
		assert_int_equal(host_vm_bury(vm[i]).kind, HOST_KILLED);
		vm[i] = NULL;
	}
	assert_int_equal(host_do(vm[0], ORDER(PUPPET_SEND, 0, messages, 0, 5, HOST_LONG), NULL), 0);
	host_begin(vm[0], 0, ORDER(PUPPET_EXIT, 1));
	assert_int_equal(host_vm_bury(vm[0]).code, 1);
	for (uint32_t i = 1; i < all; i++) {
		if (vm[i]) {
			host_begin(vm[i], 0, ORDER(PUPPET_RECV, 0, messages + 1, 5, HOST_LONG));
		}
	}
	for (uint32_t i = 1; i < all; i++) {
		if (vm[i]) {
			assert_int_equal(host_end(vm[i], 0, &a), IVC_E_PIPE);
			assert_int_equal(a.value[0], messages);
			host_begin(vm[i], 0, ORDER(PUPPET_LEAVE, 0));
		}
	}
	for (uint32_t i = 1; i < all; i++) {
		if (vm[i]) {
			assert_int_equal(host_vm_bury(vm[i]).code, 0);
		}
	}
	host_stop(h);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_churn_channels_of_a_vm_come_and_go_under_a_vcpu_that_reads),
		cmocka_unit_test(test_host_churn_members_come_and_go_under_a_vcpu_that_reads),
		cmocka_unit_test(test_host_churn_both_ways_at_once_goes_on),
		cmocka_unit_test(test_host_churn_crowd_on_one_channel_gets_everything),
	};

	return host_main(argc, argv, "churn", tests, sizeof(tests) / sizeof(tests[0]));
}
