/* SPDX-License-Identifier: MIT */
/*
 * The life of a VM of the small VMM: it ends by its exit port, by a crash, or when it is stopped at any moment, its
 * channels end with it, and nothing of it is left in this process or in the registry.
 */
#include "vm_act.h"
#include "vm_test.h"

#include <ivc/atomic.h>

#include <elf.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

static struct ivc_hv *hv;

static void test_vm_life_exit_code_is_the_guests(void **state)
{
	static const uint32_t codes[] = {0, 1, 3, 255, 256, 4294967295u};
	char arg[32];
	struct vm_test t;

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		vm_test_zero(&t, hv, 1);
		(void)snprintf(arg, sizeof(arg), "exit %" PRIu32, codes[i]);
		assert_int_equal(vm_test_run(&t, "vm_act", arg), codes[i]);
	}
}

static void test_vm_life_every_vcpu_runs_with_its_number(void **state)
{
	struct vm_test t;
	char line[32];

	(void)state;
	vm_test_zero(&t, hv, 1);
	t.config.vcpus = 4;
	assert_int_equal(vm_test_run(&t, "vm_act", "cpus"), 0);
	for (uint32_t i = 0; i < 4; i++) {
		(void)snprintf(line, sizeof(line), "cpu %" PRIu32 " of 4\n", i);
		assert_non_null(strstr(t.text, line));
	}
}

/* What a guest does when it is stopped. */
static const struct {
	const char *arg;
	const char *says; /* it has got so far; NULL: stop it at once */
} lives[] = {
	{"spin", NULL},
	{"calls", NULL},
	{"print", NULL},
	{"print", "again"},
	{"wait", NULL},
	{"publish-wait", "published"},
	{"publish-spin", "published"},
};
#define LIVES (sizeof(lives) / sizeof(lives[0]))

static void stop_one(size_t life, uint32_t delay_us)
{
	struct vm_test t;

	vm_test_zero(&t, hv, 1);
	t.config.vcpus = life % 2 + 1;
	vm_test_begin(&t, "vm_act", lives[life].arg);
	if (lives[life].says) {
		vm_test_says(&t, lives[life].says);
	}
	if (delay_us) {
		const uint64_t until = run_now_ns() + UINT64_C(1000) * delay_us;

		while (run_now_ns() < until) {
		}
	}
	vmm_stop(t.vm);
	vm_test_ends(&t, VMM_STOPPED);
	vmm_stop(t.vm); /* of no effect any more */
	vm_test_drop(&t);
	vm_test_hv_empty(hv);
}

static void test_vm_life_stop_ends_it_wherever_it_is(void **state)
{
	(void)state;
	for (size_t i = 0; i < LIVES; i++) {
		stop_one(i, 0);
		stop_one(i, 3000);
	}
}

static void test_vm_life_stopped_many_times_leaves_nothing(void **state)
{
	uint64_t seed = run_seed("vm_life");
	const uint64_t loops = run_scaled(200);
	struct vm_test_holds before;

	(void)state;
	for (size_t i = 0; i < LIVES; i++) {
		stop_one(i, 0);
	}
	vm_test_holds(&before);
	for (uint64_t i = 0; i < loops; i++) {
		stop_one((size_t)run_below(&seed, LIVES), (uint32_t)run_below(&seed, 3000));
	}
	vm_test_settles(&before);
}

static void test_vm_life_stop_before_start_ends_it_without_a_step(void **state)
{
	struct vm_test t;

	(void)state;
	vm_test_zero(&t, hv, 1);
	vm_test_make(&t, "vm_act", "print");
	vmm_stop(t.vm);
	assert_int_equal(vmm_start(t.vm), 0);
	vm_test_ends(&t, VMM_STOPPED);
	assert_string_equal(t.text, "");
	vm_test_drop(&t);
	vm_test_hv_empty(hv);
}

static void test_vm_life_never_started_is_given_back(void **state)
{
	struct vm_test_holds before;
	struct vmm_end end;
	struct vm_test t;

	(void)state;
	vm_test_holds(&before);
	for (int i = 0; i < 20; i++) {
		vm_test_zero(&t, hv, 1);
		vm_test_make(&t, "vm_act", "spin");
		assert_int_equal(vmm_wait(t.vm, 0, &end), IVC_E_TIMEDOUT);
		vm_test_drop(&t);
		assert_int_equal(t.ends, 0);
	}
	vm_test_settles(&before);
	vm_test_hv_empty(hv);
	vmm_destroy(NULL);
}

static void test_vm_life_destroy_while_it_runs_ends_it(void **state)
{
	struct vm_test t;

	(void)state;
	for (size_t i = 0; i < LIVES; i++) {
		vm_test_zero(&t, hv, 1);
		vm_test_begin(&t, "vm_act", lives[i].arg);
		vm_test_drop(&t);
		assert_int_equal(t.ends, 1);
		vm_test_hv_empty(hv);
	}
}

static void test_vm_life_channels_end_with_it(void **state)
{
	struct ivc_hv_stats s;
	struct vm_test t;

	(void)state;
	vm_test_zero(&t, hv, 1);
	vm_test_begin(&t, "vm_act", "publish-spin");
	vm_test_says(&t, "published");
	ivc_hv_stats(hv, &s);
	assert_int_equal(s.channels_now, 1);
	assert_true(ivc_kvm_views(vmm_kvm(t.vm)) > 0);
	vmm_stop(t.vm);
	vm_test_ends(&t, VMM_STOPPED);
	vm_test_hv_empty(hv); /* already when it has ended, not only when it is destroyed */
	assert_int_equal(ivc_kvm_views(vmm_kvm(t.vm)), 0);
	vm_test_drop(&t);

	vm_test_zero(&t, hv, 1);
	assert_int_equal(vm_test_run(&t, "vm_act", "publish-exit"), 0);
	vm_test_hv_empty(hv);
}

static void test_vm_life_first_reason_counts(void **state)
{
	struct vm_test t;

	(void)state;
	vm_test_zero(&t, hv, 1);
	vm_test_begin(&t, "vm_act", "exit 9");
	vm_test_ends(&t, VMM_EXITED);
	vmm_stop(t.vm);
	vm_test_ends(&t, VMM_EXITED);
	assert_int_equal(t.end.code, 9);
	vm_test_drop(&t);
}

static void test_vm_life_every_vcpu_stopped_is_an_end(void **state)
{
	struct vm_test t;

	(void)state;
	vm_test_zero(&t, hv, 1);
	t.config.vcpus = 3;
	vm_test_begin(&t, "vm_act", "stop");
	vm_test_ends(&t, VMM_CRASHED);
	assert_non_null(strstr(t.end.text, "every vCPU has stopped"));
	vm_test_drop(&t);
}

static void refused(const struct vm_test *t, int err, const char *words)
{
	char why[VMM_WHY_BYTES] = "";
	struct vmm *vm;
	const int got = vmm_create(&vm, &t->config, why);

	if (got != err || !strstr(why, words) || strchr(why, '\n')) {
		fail_msg("wanted %d with '%s', got %d with '%s'", err, words, got, why);
	}
}

static void test_vm_life_what_cannot_be_is_told(void **state)
{
	struct vm_test_holds before;
	struct vm_test t, first;
	char arg[193];

	(void)state;
	vm_test_zero(&first, hv, 1);
	vm_test_make(&first, "vm_act", "spin");
	vm_test_holds(&before);
	vm_test_zero(&t, hv, 2);
	t.config.image = first.config.image;
	t.config.image_bytes = first.config.image_bytes;
	t.config.id = ivc_vmid(1);
	refused(&t, IVC_E_EXIST, "cannot attach VM 1: a living VM has this id already");
	t.config.id = ivc_vmid(UINT32_MAX);
	refused(&t, IVC_E_INVAL, "4294967295 is no VM id");
	t.config.id = ivc_vmid(2);
	t.config.ram_bytes = VMM_RAM_MIN - 4096;
	refused(&t, IVC_E_INVAL, "give another --mem");
	t.config.ram_bytes = VMM_RAM_MIN + 1;
	refused(&t, IVC_E_INVAL, "2097153 bytes of RAM");
	t.config.ram_bytes = IVC_MACHINE_RAM_LAST + 4097;
	refused(&t, IVC_E_INVAL, "give another --mem");
	t.config.ram_bytes = VMM_RAM_MIN;
	t.config.vcpus = 17;
	refused(&t, IVC_E_INVAL, "give another --cpus");
	t.config.vcpus = 16;
	refused(&t, IVC_E_NOMEM, "KiB of RAM, the VM has 2048 KiB: give --mem ");
	t.config.vcpus = 1;
	memset(arg, 'a', sizeof(arg) - 1);
	arg[192] = '\0';
	t.config.arg = arg;
	refused(&t, IVC_E_INVAL, "--arg takes at most 191");
	t.config.arg = NULL;
	t.config.slots_max = 1 << 20;
	refused(&t, IVC_E_INVAL, "memory slots");
	t.config.slots_max = 0;
	t.config.where = "unix:/nowhere/ivc";
	refused(&t, IVC_E_INVAL, "not one registry");
	t.config.hv = NULL;
	refused(&t, IVC_E_NOENT, "start the hypervisor first");
	t.config.where = "tcp:nowhere";
	refused(&t, IVC_E_INVAL, "unix:PATH");
	vm_test_settles(&before);
	vm_test_drop(&first);
	vm_test_hv_empty(hv);
}

/* Answers once, with a number of its own, and fills the buffer. */
static int64_t serve(void *user, uint32_t vcpu, uint32_t number, void *at, uint64_t bytes)
{
	(void)user;
	if (vcpu != 0 || number != VM_ACT_SERVICE || bytes != 16) {
		return IVC_E_INVAL;
	}
	if (!at) {
		return IVC_E_FAULT;
	}
	memset(at, 1, bytes);
	return 1000000007;
}

static void test_vm_life_service_answers_and_fills_the_buffer(void **state)
{
	struct vm_test t;

	(void)state;
	vm_test_zero(&t, hv, 1);
	t.config.service = serve;
	assert_int_equal(vm_test_run(&t, "vm_act", "service"), 0);
	assert_string_equal(t.text, "answer 1000000007 buffer 72340172838076673 72340172838076673\noutside -14\n");
	vm_test_zero(&t, hv, 1);
	assert_int_equal(vm_test_run(&t, "vm_act", "service"), 0);
	assert_string_equal(t.text, "answer -38 buffer 1 2\noutside -38\n");
}

static void test_vm_life_machine_is_as_told(void **state)
{
	struct vm_test t;

	(void)state;
	vm_test_zero(&t, hv, 4294967294u);
	t.config.ram_bytes = UINT64_C(5) << 20;
	t.config.vcpus = 2;
	assert_int_equal(vm_test_run(&t, "vm_act", "told with words"), 0);
	assert_non_null(strstr(t.text, "magic 4d435649 bytes 256 vm 4294967294 vcpus 2 flags 0\n"));
	assert_non_null(strstr(t.text, "ram 500000 free 1"));
	assert_non_null(strstr(t.text, " stacks 4e0000 hz "));
	assert_non_null(strstr(t.text, "arg 'told with words'\n"));
}

/* The counter of the host at a moment, and the clock that says how fast it goes. */
static uint64_t tsc(void)
{
	return __builtin_ia32_rdtsc();
}

static void test_vm_life_clock_offset_is_that_of_the_hosts_counter(void **state)
{
	uint64_t first, last, guest, hz;
	const char *at;
	struct vm_test t;
	int64_t offset;
	char *end;

	(void)state;
	vm_test_zero(&t, hv, 1);
	first = tsc();
	assert_int_equal(vm_test_run(&t, "vm_act", "clock"), 0);
	last = tsc();
	at = strstr(t.text, "tsc ");
	assert_non_null(at);
	guest = strtoull(at + 4, &end, 10);
	assert_int_equal(strncmp(end, " hz ", 4), 0);
	hz = strtoull(end + 4, &end, 10);
	assert_int_equal(strncmp(end, " offset ", 8), 0);
	offset = strtoll(end + 8, NULL, 10);
	if (hz == 0) {
		print_message("KVM does not tell the offset: VM_INFO says unknown\n");
		return;
	}
	assert_true(guest - (uint64_t)offset - first <= last - first);
	/* The rate is that of this second. */
	{
		const uint64_t t0 = run_now_ns(), c0 = tsc();
		uint64_t t1, ticks;

		vm_test_nap(300);
		t1 = run_now_ns();
		ticks = (tsc() - c0) * 1000 / ((t1 - t0) / 1000) * 1000;
		assert_true(ticks > hz / 100 * 80 && ticks < hz / 100 * 120);
	}
}

/* Many VMs at once, on threads of their own, each with its end. */
static void test_vm_life_many_at_once_end_each_for_itself(void **state)
{
	enum {
		COUNT = 24
	};
	static struct vm_test t[COUNT];
	struct vm_test_holds before;

	(void)state;
	vm_test_holds(&before);
	for (uint32_t i = 0; i < COUNT; i++) {
		vm_test_zero(&t[i], hv, i + 1);
		vm_test_make(&t[i], "vm_act", i % 3 == 0 ? "exit 4" : i % 3 == 1 ? "publish-wait" : "ud2");
	}
	for (uint32_t i = 0; i < COUNT; i++) {
		assert_int_equal(vmm_start(t[i].vm), 0);
	}
	for (uint32_t i = 0; i < COUNT; i++) {
		if (i % 3 == 1) {
			vm_test_says(&t[i], "published");
			vmm_stop(t[i].vm);
		}
		vm_test_ends(&t[i], i % 3 == 0 ? VMM_EXITED : i % 3 == 1 ? VMM_STOPPED : VMM_CRASHED);
	}
	for (uint32_t i = 0; i < COUNT; i++) {
		vm_test_drop(&t[i]);
	}
	vm_test_settles(&before);
	vm_test_hv_empty(hv);
}

/* random_code - a copy of the image @name with random bytes where it starts, and some of its own between them. */
static void *random_code(const char *name, uint64_t *seed, size_t *bytes)
{
	const uint8_t *image = vm_test_image(name, bytes);
	uint8_t *copy = malloc(*bytes);
	const Elf64_Ehdr *head = (const Elf64_Ehdr *)(const void *)image;
	const Elf64_Phdr *part = (const Elf64_Phdr *)(const void *)(image + head->e_phoff);
	size_t at;

	assert_non_null(copy);
	memcpy(copy, image, *bytes);
	while (part->p_type != PT_LOAD || head->e_entry - part->p_vaddr >= part->p_filesz) {
		part++;
	}
	at = head->e_entry - part->p_vaddr + part->p_offset;
	for (size_t i = 0; i < 256 && at + i < *bytes; i++) {
		copy[at + i] = (uint8_t)run_random(seed);
	}
	return copy;
}

/* Whatever a guest executes, in ring 3 and in ring 0: the VM ends, by itself or when it is told to. */
static void test_vm_life_random_code_ends_and_leaves_nothing(void **state)
{
	uint64_t seed = run_seed("vm_life code");
	const uint64_t loops = run_scaled(150);
	uint32_t kinds[VMM_FAILED + 1] = {0};
	struct vm_test_holds before;
	char why[VMM_WHY_BYTES] = "";
	struct vm_test t;
	void *image;

	(void)state;
	vm_test_holds(&before);
	for (uint64_t i = 0; i < loops; i++) {
		vm_test_zero(&t, hv, 1);
		t.config.vcpus = 1 + (uint32_t)run_below(&seed, 2);
		image = random_code(i % 3 == 0   ? "vm_irq0"
				    : i % 3 == 1 ? "vm_irq3"
						 : "vm_act",
				    &seed, &t.config.image_bytes);
		t.config.image = image;
		if (vmm_create(&t.vm, &t.config, why)) {
			fail_msg("%s", why);
		}
		free(image);
		assert_int_equal(vmm_start(t.vm), 0);
		if (vmm_wait(t.vm, SECOND / 200, &t.end)) {
			vmm_stop(t.vm);
			assert_int_equal(vmm_wait(t.vm, UINT64_C(1000000) * VM_TEST_MS, &t.end), 0);
		}
		kinds[t.end.kind]++;
		vm_test_drop(&t);
		vm_test_hv_empty(hv);
	}
	vm_test_settles(&before);
	print_message("%u exited, %u crashed, %u stopped, %u failed\n", kinds[VMM_EXITED], kinds[VMM_CRASHED],
		      kinds[VMM_STOPPED], kinds[VMM_FAILED]);
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
	(void)number;
	signals++;
}

/* A signal to the process is for its own threads: none of the VM's takes it, and the VM runs on. */
static void test_vm_life_signals_of_the_process_leave_it_alone(void **state)
{
	const struct sigaction count = {.sa_handler = on_signal};
	struct sigaction old;
	struct vmm_end end;
	struct vm_test t;

	(void)state;
	vm_test_zero(&t, hv, 1);
	vm_test_begin(&t, "vm_act", "publish-wait");
	vm_test_says(&t, "published");
	assert_int_equal(sigaction(SIGUSR2, &count, &old), 0);
	signals = 0;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(kill(getpid(), SIGUSR2), 0);
	}
	assert_int_equal(signals, 100);
	assert_int_equal(vmm_wait(t.vm, SECOND / 50, &end), IVC_E_TIMEDOUT);
	vmm_stop(t.vm);
	vm_test_ends(&t, VMM_STOPPED);
	assert_int_equal(signals, 100);
	assert_int_equal(sigaction(SIGUSR2, &old, NULL), 0);
	vm_test_drop(&t);
}

/* Signals that the system keeps in a queue are lost when it is full: the stop must not be one of them. */
static void test_vm_life_stop_with_a_full_signal_queue(void **state)
{
	struct rlimit old, none;
	struct vmm_end end;
	struct vm_test t;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_SIGPENDING, &old), 0);
	none = old;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_SIGPENDING, &none), 0);
	vm_test_zero(&t, hv, 1);
	vm_test_begin(&t, "vm_act", "spin");
	assert_int_equal(vmm_wait(t.vm, SECOND / 50, &end), IVC_E_TIMEDOUT); /* it runs by then */
	vmm_stop(t.vm);
	vm_test_ends(&t, VMM_STOPPED);
	vm_test_drop(&t);
	assert_int_equal(setrlimit(RLIMIT_SIGPENDING, &old), 0);
}

static int setup(void **state)
{
	(void)state;
	hv = vm_test_hv();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_test_hv_end(hv);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vm_life_exit_code_is_the_guests),
		cmocka_unit_test(test_vm_life_every_vcpu_runs_with_its_number),
		cmocka_unit_test(test_vm_life_stop_ends_it_wherever_it_is),
		cmocka_unit_test(test_vm_life_stopped_many_times_leaves_nothing),
		cmocka_unit_test(test_vm_life_stop_before_start_ends_it_without_a_step),
		cmocka_unit_test(test_vm_life_never_started_is_given_back),
		cmocka_unit_test(test_vm_life_destroy_while_it_runs_ends_it),
		cmocka_unit_test(test_vm_life_channels_end_with_it),
		cmocka_unit_test(test_vm_life_first_reason_counts),
		cmocka_unit_test(test_vm_life_every_vcpu_stopped_is_an_end),
		cmocka_unit_test(test_vm_life_what_cannot_be_is_told),
		cmocka_unit_test(test_vm_life_service_answers_and_fills_the_buffer),
		cmocka_unit_test(test_vm_life_machine_is_as_told),
		cmocka_unit_test(test_vm_life_clock_offset_is_that_of_the_hosts_counter),
		cmocka_unit_test(test_vm_life_many_at_once_end_each_for_itself),
		cmocka_unit_test(test_vm_life_random_code_ends_and_leaves_nothing),
		cmocka_unit_test(test_vm_life_signals_of_the_process_leave_it_alone),
		cmocka_unit_test(test_vm_life_stop_with_a_full_signal_queue),
	};

	vm_test_skip();
	return cmocka_run_group_tests(tests, setup, teardown);
}
