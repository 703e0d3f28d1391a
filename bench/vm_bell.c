/* SPDX-License-Identifier: MIT */
/*
 * Calls, bells and the making of channels: each beside what the exit, the eventfd or the memory slot below it takes alone,
 * and beside the way without the library. It knows no message.
 */
#include "vm_set.h"

#include <string.h>

#define CALLS     16u /* between two looks at the clock */
#define WAKES_MAX 20u /* in a sample, which rests before each */

static void calls_run(struct bench_sample *s, void *arg)
{
	const struct vm_case *c = arg;
	struct vm_job job = c->job;

	job.per = CALLS;
	job.count = 1 + bench_count(s, 10 * job.per, 10000 * job.per) / job.per;
	s->per = job.per;
	vm_ticks_take(s, vm_case_do(c, &job, NULL));
}

/* Bells to a peer that runs and takes none: they merge. */
static void ring_run(struct bench_sample *s, void *arg)
{
	static uint64_t key = 1;
	const struct vm_case *c = arg;
	const uint64_t bells = vm_machine_bells(c->one);
	struct vm_job job = c->job;

	job.key = ++key;
	job.per = CALLS;
	job.count = 1 + bench_count(s, 10 * job.per, 10000 * job.per) / job.per;
	s->per = job.per;
	vm_ticks_take(s, vm_case_do(c, &job, NULL));
	if (job.how == VM_HOW_DOORBELL && vm_machine_bells(c->one) != bells) {
		bench_fail("a direct bell went through the registry");
	}
}

static void wake_run(struct bench_sample *s, void *arg)
{
	static uint64_t key = UINT64_C(1) << 32;
	const struct vm_case *c = arg;
	struct vm_job job = c->job;

	job.key = key;
	job.count = bench_count(s, 10, WAKES_MAX);
	job.quiet = vm_quiet_ticks();
	key += job.count;
	vm_ticks_take(s, vm_case_do(c, &job, NULL));
}

static void publish_run(struct bench_sample *s, void *arg)
{
	const struct vm_case *c = arg;
	struct vm_job job = c->job;

	job.count = bench_count(s, 5, 10000);
	vm_ticks_take(s, vm_case_do(c, &job, NULL));
}

/* The number of the channel is new each time: the order of the peer carries it. */
static void first_run(struct bench_sample *s, void *arg)
{
	static uint64_t key = 1000;
	const struct vm_case *c = arg;
	struct vm_job job = c->job;

	job.key = key;
	job.count = bench_count(s, 3, 1000);
	key += job.count;
	vm_ticks_take(s, vm_case_do(c, &job, NULL));
}

/* ------------------------------------------------------------------------------ a thread that sleeps, without any VM */

struct nap {
	_Alignas(128) uint64_t ready;
	_Alignas(128) uint64_t reply;
	struct bench_sample *s;
	uint32_t count;
	int event;
};

static void nap_first(void *arg)
{
	struct nap *n = arg;
	uint64_t i;

	for (i = 1; i <= n->count; i++) {
		uint64_t before;

		while (ivc_load_acquire_u64(&n->ready) != i) {
			ivc_cpu_relax();
		}
		ipc_quiet(VM_QUIET_NS);
		before = bench_now();
		ipc_event_put(n->event);
		while (ivc_load_acquire_u64(&n->reply) != i) {
			ivc_cpu_relax();
		}
		bench_trip(n->s, bench_now() - before);
	}
}

static void nap_second(void *arg)
{
	struct nap *n = arg;
	uint64_t i;

	for (i = 1; i <= n->count; i++) {
		ivc_store_release_u64(&n->ready, i);
		ipc_event_take(n->event);
		ivc_store_release_u64(&n->reply, i);
	}
}

static void nap_run(struct bench_sample *s, void *arg)
{
	struct nap *n = arg;

	n->s = s;
	n->count = bench_count(s, 10, WAKES_MAX);
	n->ready = 0;
	n->reply = 0;
	bench_pair(s->bench, nap_first, nap_second, n);
}

/* ------------------------------------------------------------------------------------------------------------- groups */

static void add_exit(struct bench *b, struct vm_set *set, struct bench_case *what, enum bench_role role,
		     const char *name, enum vm_exit_what piece)
{
	struct vm_exit_case *c = bench_memory(sizeof(*c));

	*c = (struct vm_exit_case){.x = set->exits, .what = piece};
	what->role = role;
	what->name = name;
	what->run = vm_exit_run;
	what->arg = c;
	bench_add(b, what);
}

static void add_calls(struct bench *b, struct vm_set *set)
{
	struct bench_case c = {.group = "hypercall: VM_ID", .unit = "call"};
	struct vm_case vm = {.set = set, .one = set->plain[0], .job = {.task = VM_CALLS}};

	add_exit(b, set, &c, BENCH_OURS, "port, registers with KVM_RUN", VM_EXIT_CALL_PORT);
	add_exit(b, set, &c, BENCH_OURS, "page, registers with KVM_RUN", VM_EXIT_CALL_PAGE);
	c.run = calls_run;
	c.name = "port, small VMM, guest library";
	vm_case_add(b, &c, &vm, false);
	vm.one = set->bells[0];
	c.name = "page, small VMM, guest library";
	vm_case_add(b, &c, &vm, false);
	add_exit(b, set, &c, BENCH_RIVAL, "port, registers by ioctls", VM_EXIT_CALL_IOCTL);
	add_exit(b, set, &c, BENCH_LIMIT, "bare exit, port", VM_EXIT_BARE_PORT);
	add_exit(b, set, &c, BENCH_LIMIT, "bare exit, page", VM_EXIT_BARE_PAGE);
}

static void add_rings(struct bench *b, struct vm_set *set)
{
	struct bench_case c = {.group = "notify: ring a peer that is awake", .unit = "bell"};
	struct vm_case vm = {.set = set, .one = set->bells[0], .other = set->bells[1], .job = {.task = VM_RING}};

	c.run = ring_run;
	c.role = BENCH_OURS;
	c.name = "store to the doorbell page, direct";
	vm.job.how = VM_HOW_DOORBELL;
	vm_case_add(b, &c, &vm, false);
	c.name = "BELL, the call, by page";
	vm.job.how = VM_HOW_BELL;
	vm_case_add(b, &c, &vm, false);
	c.name = "NOTIFY, the call, by page";
	vm.job.how = VM_HOW_NOTIFY;
	vm_case_add(b, &c, &vm, false);
	vm.one = set->plain[0];
	vm.other = set->plain[1];
	c.name = "BELL, the call, by port";
	vm.job.how = VM_HOW_BELL;
	vm_case_add(b, &c, &vm, false);
	add_exit(b, set, &c, BENCH_RIVAL, "exit, the VMM writes an eventfd", VM_EXIT_WRITE);
	add_exit(b, set, &c, BENCH_LIMIT, "store that an eventfd takes", VM_EXIT_IOEVENTFD);
	add_exit(b, set, &c, BENCH_LIMIT, "bare exit, page", VM_EXIT_BARE_PAGE);
}

static void add_wakes(struct bench *b, struct vm_set *set)
{
	const char *group =
		bench_text("notify: from the bell to the peer's answer, %u us of silence", VM_QUIET_NS / 1000);
	struct bench_case c = {.group = group, .unit = "wake", .role = BENCH_OURS, .run = wake_run};
	struct vm_case vm = {.set = set, .one = set->plain[0], .other = set->plain[1], .job = {.task = VM_WAKE}};
	struct nap *nap = bench_memory(sizeof(*nap));

	c.name = "BELL; the peer sleeps in WAIT";
	vm.job.how = VM_HOW_BELL;
	vm.job.nap = VM_NAP_WAIT;
	vm_case_add(b, &c, &vm, false);
	vm.one = set->bells[0];
	vm.other = set->bells[1];
	c.name = "doorbell; handler, peer awake";
	vm.job.how = VM_HOW_DOORBELL;
	vm.job.nap = VM_NAP_SPIN;
	vm_case_add(b, &c, &vm, false);
	c.name = "BELL; handler, peer awake";
	vm.job.how = VM_HOW_BELL;
	vm_case_add(b, &c, &vm, false);
	vm.other = set->halts;
	vm.job.pair = 1;
	c.name = "doorbell; the peer sleeps in HLT";
	vm.job.how = VM_HOW_DOORBELL;
	vm.job.nap = VM_NAP_HALT;
	vm_case_add(b, &c, &vm, false);
	vm.one = set->plain[0];
	vm.other = set->plain[1];
	vm.job.pair = 0;
	c.role = BENCH_RIVAL;
	c.name = "exit, SEQPACKET, recv() in the VMM";
	vm.job.how = VM_HOW_SOCKET;
	vm.job.nap = VM_NAP_SOCKET;
	vm_case_add(b, &c, &vm, false);
	*nap = (struct nap){.event = eventfd(0, EFD_CLOEXEC)};
	if (nap->event < 0) {
		bench_fail("eventfd: %s", strerror(errno));
	}
	c.role = BENCH_LIMIT;
	c.name = "eventfd, two threads, no VM";
	c.run = nap_run;
	c.arg = nap;
	bench_add(b, &c);
}

static void add_slots(struct bench *b, struct vm_set *set, const char *group, bool six)
{
	struct bench_case c = {.group = group, .unit = "channel", .role = BENCH_LIMIT, .arg = set->exits};

	c.name = "two memory slots added and deleted";
	c.run = vm_exit_slot_pairs;
	bench_add(b, &c);
	if (six) {
		c.name = "six memory slots added";
		c.run = vm_exit_slots_six;
		bench_add(b, &c);
		c.name = "six added, and read by the guest";
		c.run = vm_exit_slots_touched;
		bench_add(b, &c);
	}
}

static void add_connects(struct bench *b, struct vm_set *set)
{
	struct bench_case c = {.group = "connect: a channel of 4 KiB comes and goes", .unit = "channel"};
	struct vm_case vm = {.set = set, .one = set->plain[0], .job = {.task = VM_PUBLISH}};

	c.role = BENCH_OURS;
	c.name = "PUBLISH and UNPUBLISH";
	c.run = publish_run;
	vm_case_add(b, &c, &vm, false);
	add_slots(b, set, c.group, false);

	c.group = "connect: from PUBLISH to the first byte at the peer";
	c.run = first_run;
	vm.other = set->plain[1];
	vm.job = (struct vm_job){.task = VM_FIRST, .queue = VM_QUEUE_POLLS};
	c.name = "publish, subscribe, admit; both poll";
	vm_case_add(b, &c, &vm, false);
	vm.job.queue = VM_QUEUE_SLEEPS;
	c.name = "the same, both may sleep";
	vm_case_add(b, &c, &vm, false);
	vm.job.queue = VM_QUEUE_SOCKET;
	c.role = BENCH_RIVAL;
	c.name = "exits, connect(), accept(), one send()";
	vm_case_add(b, &c, &vm, false);
	add_slots(b, set, c.group, true);
}

void vm_groups_bell(struct bench *b, struct vm_set *set)
{
	add_calls(b, set);
	add_rings(b, set);
	add_wakes(b, set);
	add_connects(b, set);
}
