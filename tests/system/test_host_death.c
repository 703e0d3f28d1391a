/* SPDX-License-Identifier: MIT */
/*
 * Ends of VMs, the same on every host: a VM in every state of its life, by every way to end, at random moments; one that
 * starts again; the registry itself. Peers learn of it, nothing is left over, the id is free at once.
 */
#include "host.h"

#define LAYOUT (IVC_LAYOUT_SECTIONED | IVC_LAYOUT_SLEEPS | UINT64_C(2) << IVC_LAYOUT_SEATS_SHIFT)
#define STATE  offsetof(struct ivc_hv_page, state)
#define SEAT_0 (IVC_HV_PAGE_HEADER + offsetof(struct ivc_hv_seat, state))
#define MANY   UINT64_C(1000000000)

enum who {
	NOBODY,
	PEER,     /* VM 1, vCPU 0 */
	DOOMED,   /* VM 2, vCPU 0 */
	DOOMED_1, /* its vCPU 1; vCPU 2 is for its end */
};

struct step {
	enum who who;
	bool hangs; /* it is still busy with that when the VM ends */
	int status; /* else */
	struct puppet_order o;
};

/* What the peer sees of the end, in the hv page of its channel 0. */
enum sight {
	NOTHING,
	DEAD,      /* the publisher */
	REVOKED,   /* with its memory */
	SEAT_DEAD, /* the member in seat 0 */
	SAME       /* no change: the channel was over */
};

#define P(...)                                                                                                         \
	{                                                                                                              \
		PEER, false, 0,                                                                                        \
		{                                                                                                      \
			__VA_ARGS__                                                                                    \
		}                                                                                                      \
	}
#define D(...)                                                                                                         \
	{                                                                                                              \
		DOOMED, false, 0,                                                                                      \
		{                                                                                                      \
			__VA_ARGS__                                                                                    \
		}                                                                                                      \
	}
#define HANGS(...)                                                                                                     \
	{                                                                                                              \
		DOOMED, true, 0,                                                                                       \
		{                                                                                                      \
			__VA_ARGS__                                                                                    \
		}                                                                                                      \
	}
#define HANGS_1(...)                                                                                                   \
	{                                                                                                              \
		DOOMED_1, true, 0,                                                                                     \
		{                                                                                                      \
			__VA_ARGS__                                                                                    \
		}                                                                                                      \
	}

#define D_PUB        D(PUPPET_OPEN_PUB, {0, 1, 8192, 1})
#define D_PUB_REVOKE D(PUPPET_OPEN_PUB, {0, 1, 8192, 1, 0, IVC_REVOKE})
#define P_SUB        P(PUPPET_OPEN_SUB, {0, 2, 1, HOST_LONG}), D(PUPPET_AWAIT, {0, 1, HOST_LONG})
#define P_PUB        P(PUPPET_OPEN_PUB, {0, 1, 8192, 1})
#define D_SUB                                                                                                          \
	D(PUPPET_OPEN_SUB, {0, 1, 1, HOST_LONG}), P(PUPPET_AWAIT, {0, 1, HOST_LONG}), D(PUPPET_AWAIT, {0, 0, HOST_LONG})

static const struct {
	const char *name;
	enum sight sight;
	struct step step[8];
} table[] = {
	{"attached", NOTHING, {{0}}},
	{"published", NOTHING, {D_PUB}},
	{"published, with a reader", DEAD, {D_PUB, P_SUB}},
	{"published, with a reader, to be revoked", REVOKED, {D_PUB_REVOKE, P_SUB}},
	{"publishing", NOTHING, {HANGS(PUPPET_MAP_PUB, {0, 1, 1 << 20, LAYOUT})}},
	{"subscribed", SEAT_DEAD, {P_PUB, D_SUB}},
	{"subscribing", NOTHING, {P_PUB, HANGS(PUPPET_MAP_SUB, {0, 1, 1, 1, 0, HOST_LONG})}},
	{"publisher, parked", DEAD, {D_PUB, P_SUB, HANGS(PUPPET_WAIT, {0, IVC_FOREVER})}},
	{"reader, parked", SEAT_DEAD, {P_PUB, D_SUB, HANGS(PUPPET_WAIT, {0, IVC_FOREVER})}},
	{"nobody's member, parked", NOTHING, {HANGS(PUPPET_WAIT, {PUPPET_GPA, IVC_FOREVER})}},
	{"publisher, waits for room", DEAD, {D_PUB, P_SUB, HANGS(PUPPET_SEND, {0, MANY, 500, 3, IVC_FOREVER})}},
	{"reader, waits for room", SEAT_DEAD, {P_PUB, D_SUB, HANGS(PUPPET_SEND, {0, MANY, 500, 3, IVC_FOREVER})}},
	{"publisher, waits for a message", DEAD, {D_PUB, P_SUB, HANGS(PUPPET_RECV, {0, MANY, 0, IVC_FOREVER})}},
	{"reader, waits for a message", SEAT_DEAD, {P_PUB, D_SUB, HANGS(PUPPET_RECV, {0, MANY, 0, IVC_FOREVER})}},
	{"reader, in a message",
	 SEAT_DEAD,
	 {P_PUB, D_SUB, P(PUPPET_SEND, {0, 5, 300, 3, 0}), D(PUPPET_RECV, {0, 2, 3, 0}), D(PUPPET_PEEK, {0})}},
	{"reader, answers what it gets",
	 SEAT_DEAD,
	 {P_PUB, D_SUB, P(PUPPET_SEND, {0, 10, 300, 3, 0}), HANGS(PUPPET_ECHO, {0, MANY, IVC_FOREVER})}},
	{"publisher, copies its window", DEAD, {D_PUB, P_SUB, HANGS(PUPPET_SWEEP, {0, MANY})}},
	{"reader, copies its window", SEAT_DEAD, {P_PUB, D_SUB, HANGS(PUPPET_SWEEP, {0, MANY})}},
	{"publisher, with bells that it did not take",
	 DEAD,
	 {D_PUB, P_SUB, P(PUPPET_BELL, {0, IVC_ALL}), P(PUPPET_BELL, {0, IVC_ALL})}},
	{"unpublished, with a reader", SAME, {D_PUB, P_SUB, D(PUPPET_CLOSE, {0, IVC_DRAIN})}},
	{"unpublished and revoked, with a reader", SAME, {D_PUB, P_SUB, D(PUPPET_CLOSE, {0, IVC_REVOKE})}},
	{"reader of what was revoked", NOTHING, {P_PUB, D_SUB, P(PUPPET_CLOSE, {0, IVC_REVOKE})}},
	{"reader of what was revoked, copies it",
	 NOTHING,
	 {P_PUB, D_SUB, P(PUPPET_CLOSE, {0, IVC_REVOKE}), HANGS(PUPPET_SWEEP, {0, MANY})}},
	{"reader of what was unpublished", NOTHING, {P_PUB, D_SUB, P(PUPPET_CLOSE, {0, IVC_DRAIN})}},
	{"reader that left", NOTHING, {P_PUB, D_SUB, D(PUPPET_CLOSE, {0})}},
	{"flat, published",
	 NOTHING,
	 {D(PUPPET_MAP_PUB, {0, 1, 8192, 0}), P(PUPPET_MAP_SUB, {0, 2, 1, 0, 0, HOST_LONG})}},
	{"flat, subscribed",
	 NOTHING,
	 {P(PUPPET_MAP_PUB, {0, 1, 8192, 0}), D(PUPPET_MAP_SUB, {0, 1, 1, 0, 0, HOST_LONG})}},
	{"publisher and reader of each other",
	 DEAD,
	 {D_PUB, P_SUB, P(PUPPET_OPEN_PUB, {1, 9, 8192, 1}), D(PUPPET_OPEN_SUB, {1, 1, 9, HOST_LONG}),
	  HANGS(PUPPET_WAIT, {0, IVC_FOREVER}), HANGS_1(PUPPET_WAIT, {PUPPET_GPA, IVC_FOREVER})}},
	{"publishes and unpublishes", NOTHING, {HANGS(PUPPET_CHURN_PUB, {MANY, 1, 65536, LAYOUT, 1})}},
	{"comes and goes as a reader", NOTHING, {P_PUB, HANGS(PUPPET_CHURN_SUB, {MANY, 1, 1, 0, HOST_LONG})}},
	{"parked, while it comes and goes",
	 NOTHING,
	 {P_PUB, HANGS(PUPPET_CHURN_SUB, {MANY, 1, 1, 0, HOST_LONG}), HANGS_1(PUPPET_WAIT, {PUPPET_GPA, IVC_FOREVER})}},
};
#define STATES (sizeof(table) / sizeof(table[0]))

static const enum host_end_kind ways[] = {HOST_KILLED, HOST_CRASHED, HOST_EXITED};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static struct host_end end_it(struct host_vm *vm, enum host_end_kind way)
{
	if (way == HOST_KILLED) {
		host_vm_kill(vm);
	} else {
		host_begin(vm, 2, ORDER(way == HOST_CRASHED ? PUPPET_DIE : PUPPET_EXIT, 7));
	}
	return host_vm_bury(vm);
}

static void come_to(const struct step *step, struct host_vm *peer, struct host_vm *doomed)
{
	for (; step->who != NOBODY; step++) {
		struct host_vm *vm = step->who == PEER ? peer : doomed;
		const uint32_t vcpu = step->who == DOOMED_1;

		host_begin(vm, vcpu, &step->o);
		if (!step->hangs) {
			assert_int_equal(host_end(vm, vcpu, NULL), step->status);
		}
	}
}

/* Return: after how many ns the peer saw that VM 2 has ended; UINT64_MAX: there was nothing to see. */
static uint64_t one_end(struct host *h, size_t n, enum host_end_kind way)
{
	static const struct {
		uint64_t offset, size, value;
	} sights[] = {
		[DEAD] = {STATE, 4, IVC_CHANNEL_DEAD},
		[REVOKED] = {0, 8, 0},
		[SEAT_DEAD] = {SEAT_0, 1, IVC_SEAT_DEAD},
	};
	struct host_vm *peer = host_vm_begin(h, 1, 1), *doomed = host_vm_begin(h, 2, 3);
	const enum sight sight = table[n].sight;
	const bool seen = sight != NOTHING && sight != SAME;
	uint64_t begun, took = UINT64_MAX;
	struct puppet_answer before, after;
	struct host_end end;

	host_vm_ready(peer);
	host_vm_ready(doomed);
	come_to(table[n].step, peer, doomed);
	if (sight == SAME) {
		assert_int_equal(host_do(peer, ORDER(PUPPET_READ, 0, STATE, 4), &before), 0);
	}
	if (seen) {
		host_begin(peer, 0,
			   ORDER(PUPPET_WATCH, 0, sights[sight].offset, sights[sight].size, sights[sight].value,
				 HOST_LONG));
	}
	begun = run_now_ns();
	end = end_it(doomed, way);
	if (end.kind != way || (way == HOST_EXITED && end.code != 7)) {
		fail_msg("%s: ended in the way %d, not %d", table[n].name, end.kind, way);
	}
	if (seen) {
		if (host_end(peer, 0, NULL) != 0) {
			fail_msg("%s: the peer was not told", table[n].name);
		}
		took = run_now_ns() - begun;
	}
	/* Its id and its names are free at once. */
	doomed = host_vm_start(h, 2, 1);
	assert_int_equal(host_do(doomed, ORDER(PUPPET_OPEN_PUB, 0, 1, 8192, 1), NULL), 0);
	if (sight == SAME) {
		assert_int_equal(host_do(peer, ORDER(PUPPET_READ, 0, STATE, 4), &after), 0);
		assert_int_equal(after.value[0], before.value[0]);
	}
	host_vm_leave(doomed);
	host_vm_leave(peer);
	return took;
}

static void test_host_death_in_every_state_peers_are_told_and_nothing_is_left(void **state)
{
	/* Where VMs are slow to begin: each state ends in one way, and fewer states. */
	const size_t stride = HOST_SLOW || run_scaled(WAYS) < WAYS ? WAYS : 1, skip = run_scaled(6) < 6 ? 3 : 1;
	uint64_t best[WAYS] = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
	struct host *h = host_start();

	(void)state;
	for (size_t n = 0; n < STATES; n += skip) {
		for (size_t way = n / skip % stride; way < WAYS; way += stride) {
			const uint64_t took = one_end(h, n, ways[way]);

			best[way] = took < best[way] ? took : best[way];
			host_settled(h);
		}
	}
	/* The best of many: what is measured is the hypervisor, not how busy the machine is. */
	for (size_t way = 0; way < WAYS; way++) {
		assert_true(HOST_SLOW || best[way] < UINT64_C(100000000));
	}
	host_stop(h);
}

/* Both publish and unpublish, come and go with each other, two vCPUs each. */
static struct host_vm *busy(struct host *h, uint32_t id)
{
	struct host_vm *vm = host_vm_start(h, id, 3);

	host_begin(vm, 0, ORDER(PUPPET_CHURN_PUB, MANY, 1, 16384, LAYOUT, id % 2));
	host_begin(vm, 1, ORDER(PUPPET_CHURN_SUB, MANY, 3 - id, 1, 0, IVC_FOREVER));
	return vm;
}

static void test_host_death_at_random_moments_leaves_nothing(void **state)
{
	const uint64_t rounds = run_scaled(run_number("IVC_KILLS", 60));
	uint64_t seed = run_seed("host_death");
	struct host *h = host_start();
	struct host_vm *vm[2] = {busy(h, 1), busy(h, 2)};

	(void)state;
	for (uint64_t n = 0; n < rounds; n++) {
		const uint32_t i = (uint32_t)run_below(&seed, 2);
		const enum host_end_kind way = ways[run_below(&seed, WAYS)];

		proc_nap((uint32_t)run_below(&seed, 10));
		assert_int_equal(end_it(vm[i], way).kind, way);
		vm[i] = busy(h, i + 1);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(end_it(vm[i], HOST_KILLED).kind, HOST_KILLED);
	}
	host_stop(h);
}

/* A guest whose system starts again finds no trace of what it had, and its peers are told. */
static void test_host_death_guest_that_starts_again_has_nothing_and_peers_are_told(void **state)
{
	struct host *h = host_start();
	struct host_vm *peer = host_vm_start(h, 1, 1), *vm = host_vm_start(h, 2, 1);
	struct puppet_answer a;

	(void)state;
	assert_int_equal(host_do(peer, ORDER(PUPPET_OPEN_PUB, 1, 9, 8192, 1), NULL), 0);
	for (uint64_t n = 0; n < 5; n++) {
		assert_int_equal(host_do(vm, ORDER(PUPPET_OPEN_PUB, 0, 1, 8192, 1), NULL), 0);
		assert_int_equal(host_do(vm, ORDER(PUPPET_OPEN_PUB, 2, 2, 8192, 1), NULL), 0);
		assert_int_equal(host_do(peer, ORDER(PUPPET_OPEN_SUB, 0, 2, 1, HOST_LONG), NULL), 0);
		assert_int_equal(host_do(vm, ORDER(PUPPET_AWAIT, 0, 1, HOST_LONG), NULL), 0);
		assert_int_equal(host_do(vm, ORDER(PUPPET_OPEN_SUB, 1, 1, 9, HOST_LONG), NULL), 0);
		assert_int_equal(host_do(peer, ORDER(PUPPET_AWAIT, 1, 1, HOST_LONG), NULL), 0);
		assert_int_equal(host_do(vm, ORDER(PUPPET_SEND, 0, 3, 0, 4, 0), NULL), 0);
		host_stats(vm, &a);
		assert_int_equal(a.value[3], 2);
		assert_int_equal(a.value[4], 1);
		assert_int_equal(host_do(vm, ORDER(PUPPET_INIT, 0), NULL), 0);
		host_stats(vm, &a);
		assert_int_equal(a.value[2], 0);
		assert_int_equal(a.value[3], 0);
		assert_int_equal(a.value[4], 0);
		assert_int_equal(host_do(peer, ORDER(PUPPET_WATCH, 0, STATE, 4, IVC_CHANNEL_DEAD, HOST_LONG), NULL), 0);
		assert_int_equal(host_do(peer, ORDER(PUPPET_WATCH, 1, SEAT_0, 1, IVC_SEAT_DEAD, HOST_LONG), NULL), 0);
		assert_int_equal(host_do(peer, ORDER(PUPPET_RECV, 0, 9, 4, HOST_LONG), &a), IVC_E_PIPE);
		assert_int_equal(a.value[0], 3);
		assert_int_equal(host_do(peer, ORDER(PUPPET_CLOSE, 0), NULL), 0);
	}
	host_vm_leave(vm);
	host_vm_leave(peer);
	host_stop(h);
}

static void test_host_death_same_id_starts_again_and_again(void **state)
{
	const uint64_t rounds = run_scaled(40);
	struct host *h = host_start();
	struct host_vm *reader = host_vm_start(h, 2, 1), *vm;
	struct puppet_answer a;

	(void)state;
	for (uint64_t n = 0; n < rounds; n++) {
		vm = host_vm_start(h, 1, 1);
		assert_int_equal(host_do(vm, ORDER(PUPPET_OPEN_PUB, 0, 1, 8192, 1), NULL), 0);
		host_begin(reader, 0, ORDER(PUPPET_OPEN_SUB, 0, 1, 1, HOST_LONG));
		assert_int_equal(host_do(vm, ORDER(PUPPET_AWAIT, 0, 1, HOST_LONG), NULL), 0);
		assert_int_equal(host_end(reader, 0, NULL), 0);
		host_begin(reader, 0, ORDER(PUPPET_RECV, 0, 100, n + 1, HOST_LONG));
		assert_int_equal(host_do(vm, ORDER(PUPPET_SEND, 0, n, 0, n + 1, HOST_LONG), NULL), 0);
		host_begin(vm, 0, ORDER(PUPPET_EXIT, n % 64));
		assert_int_equal(host_vm_bury(vm).code, n % 64);
		assert_int_equal(host_end(reader, 0, &a), IVC_E_PIPE);
		assert_int_equal(a.value[0], n);
		assert_int_equal(host_do(reader, ORDER(PUPPET_CLOSE, 0), NULL), 0);
	}
	host_vm_leave(reader);
	host_stop(h);
}

/* The registry's process is killed under two VMs that use each other's channels; they live on. */
static void test_host_death_of_the_registry_is_shutdown_and_revoked(void **state)
{
	struct puppet_answer a;
	struct host_vm *vm[2];
	struct host *h;
	int64_t err;

	(void)state;
	if (!host_remote()) {
		print_message("the registry of this host is in the process that runs the VMs\n");
		return;
	}
	h = host_start();
	for (uint32_t i = 0; i < 2; i++) {
		vm[i] = host_vm_start(h, i + 1, 2);
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_MAP_PUB, 0, 1, 8192, LAYOUT), NULL), 0);
	}
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(
			host_do(vm[i], ORDER(PUPPET_MAP_SUB, 1, 2 - i, 1, 1, IVC_SUBSCRIBE_SLEEPS, HOST_LONG), NULL),
			0);
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_WRITE, 0, 4096, 8, 42, 1), NULL), 0);
	}
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_WATCH, 1, 4096, 8, 42, HOST_LONG), NULL), 0);
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_WATCH, 1, SEAT_0, 1, IVC_SEAT_ACTIVE, HOST_LONG), NULL),
				 0);
		host_begin(vm[i], 1, ORDER(PUPPET_WAIT, PUPPET_GPA, IVC_FOREVER));
	}
	proc_nap(20); /* most likely parked by then; either way it must end */
	host_lose(h);
	for (uint32_t i = 0; i < 2; i++) {
		while ((err = host_end(vm[i], 1, NULL)) == 0) { /* who came or went rang, too */
			host_begin(vm[i], 1, ORDER(PUPPET_WAIT, PUPPET_GPA, IVC_FOREVER));
		}
		assert_int_equal(err, IVC_E_SHUTDOWN);
		for (uint64_t ch = 0; ch < 2; ch++) {
			assert_int_equal(
				host_do(vm[i], ORDER(PUPPET_WATCH, ch, STATE, 4, IVC_CHANNEL_REVOKED, HOST_LONG), NULL),
				0);
			/* A copy, not a blank. */
			assert_int_equal(host_do(vm[i],
						 ORDER(PUPPET_WATCH, ch, offsetof(struct ivc_hv_page, magic), 4,
						       IVC_HV_PAGE_MAGIC, HOST_LONG),
						 NULL),
					 0);
		}
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_READ, 0, 4096, 8), &a), 0);
		assert_int_equal(a.value[0], 42);
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_WRITE, 0, 4096, 8, 43, 1), NULL), 0);
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_CALL, IVC_HC_VM_ID), NULL), IVC_E_SHUTDOWN);
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_MAP_PUB, 2, 7, 8192, LAYOUT), NULL), IVC_E_SHUTDOWN);
		assert_int_equal(host_do(vm[i], ORDER(PUPPET_CLOSE, 1), NULL), IVC_E_SHUTDOWN);
	}
	for (uint32_t i = 0; i < 2; i++) {
		host_vm_leave(vm[i]);
	}
	host_stop(h);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_death_in_every_state_peers_are_told_and_nothing_is_left),
		cmocka_unit_test(test_host_death_at_random_moments_leaves_nothing),
		cmocka_unit_test(test_host_death_guest_that_starts_again_has_nothing_and_peers_are_told),
		cmocka_unit_test(test_host_death_same_id_starts_again_and_again),
		cmocka_unit_test(test_host_death_of_the_registry_is_shutdown_and_revoked),
	};

	return host_main(argc, argv, "death", tests, sizeof(tests) / sizeof(tests[0]));
}
