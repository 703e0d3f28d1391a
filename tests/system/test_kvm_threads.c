/* SPDX-License-Identifier: MIT */
/*
 * VMs that publish, join, leave, revoke and ring at the same time, each from a thread of its own: ops for one VM come from
 * calls of all. Nothing fails that may not, and all of it is given back.
 */
#include "kvm_box.h"
#include "run.h"

#include <ivc/atomic.h>
#include <string.h>
#include <sys/eventfd.h>

#define VMS     4u
#define KEYS    2u
#define SECTION UINT64_C(16384)

/* Counts, and touches nothing else. */
BOX_GUEST(guest_count, "1: incq 16(%rdi)\n jmp 1b\n");

struct worker {
	struct kvm_box box;
	pthread_t thread;
	struct run_gate *gate;
	uint64_t random;
	uint64_t turns;
	uint64_t done[IVC_HC_NOTIFY + 1]; /* calls that succeeded */
	int64_t wrong;                    /* the first result that may not be ... */
	uint64_t wrong_nr;                /* ... of this call */
};

static int64_t call(struct worker *w, uint64_t nr, const uint64_t arg[6])
{
	struct ivc_call c = {.nr = nr};

	memcpy(c.arg, arg, sizeof(c.arg));
	if (ivc_hv_hypercall(w->box.vm, w, &c) != IVC_DONE) {
		return INT64_MIN;
	}
	w->done[nr] += c.result == 0;
	return c.result;
}

static void look(struct worker *w, uint64_t nr, int64_t result)
{
	const bool fine = result == 0 || result == IVC_E_NOENT || result == IVC_E_EXIST || result == IVC_E_BUSY;

	if (!fine && !w->wrong) {
		w->wrong = result;
		w->wrong_nr = nr;
	}
}

static void turn(struct worker *w)
{
	const uint64_t key = run_below(&w->random, KEYS);
	const uint64_t peer = 1 + run_below(&w->random, VMS);
	const uint64_t layout = IVC_LAYOUT_SECTIONED | 2u << IVC_LAYOUT_SEATS_SHIFT | IVC_LAYOUT_SLEEPS |
				(run_below(&w->random, 2) ? IVC_LAYOUT_DEATH_REVOKE : 0);
	static const uint64_t often[] = {IVC_HC_PUBLISH,     IVC_HC_PUBLISH,   IVC_HC_PUBLISH,   IVC_HC_SUBSCRIBE,
					 IVC_HC_SUBSCRIBE,   IVC_HC_SUBSCRIBE, IVC_HC_UNPUBLISH, IVC_HC_UNSUBSCRIBE,
					 IVC_HC_UNSUBSCRIBE, IVC_HC_NOTIFY};
	uint64_t nr = often[run_below(&w->random, sizeof(often) / sizeof(often[0]))];
	uint64_t arg[6] = {peer, key};

	if (peer == w->box.vm_config.id.v && nr != IVC_HC_PUBLISH) {
		nr = IVC_HC_PUBLISH;
	}
	switch (nr) {
	case IVC_HC_PUBLISH:
		((uint64_t *)(void *)(w->box.ram + BOX_SLOTS))[1] = SECTION;
		memcpy(arg, (uint64_t[4]){key, BOX_SLOTS, BOX_SLOTS + 8, layout}, 4 * sizeof(arg[0]));
		break;
	case IVC_HC_SUBSCRIBE:
		memcpy(&arg[2], (uint64_t[4]){BOX_SLOTS, BOX_SLOTS + 8, 0, IVC_SUBSCRIBE_SLEEPS}, 4 * sizeof(arg[0]));
		break;
	case IVC_HC_UNPUBLISH:
		arg[0] = key;
		arg[1] = run_below(&w->random, 2);
		break;
	case IVC_HC_NOTIFY:
		arg[2] = IVC_ALL;
		break;
	default:
		break;
	}
	look(w, nr, call(w, nr, arg));
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	(void)ivc_hv_thread_enter();
	run_gate_pass(w->gate);
	for (uint64_t i = 0; i < w->turns; i++) {
		turn(w);
	}
	ivc_hv_thread_leave();
	return NULL;
}

static void test_kvm_threads_members_of_each_other_come_and_go(void **state)
{
	const struct box_levels before = kvm_box_levels();
	uint64_t seed = run_seed("kvm_threads");
	static struct worker worker[VMS];
	struct run_gate gate = {.count = VMS};
	uint64_t done[IVC_HC_NOTIFY + 1] = {0};
	struct ivc_hv_stats stats;
	struct ivc_hv *hv;

	(void)state;
	hv = kvm_box_hv(0);
	for (uint32_t i = 0; i < VMS; i++) {
		memset(&worker[i], 0, sizeof(worker[i]));
		worker[i].gate = &gate;
		worker[i].random = run_random(&seed);
		worker[i].turns = run_scaled(600);
		kvm_box_open(&worker[i].box);
		kvm_box_host(&worker[i].box, hv, i + 1);
	}
	/* One of them has a guest that runs meanwhile. */
	kvm_box_start(&worker[0].box, guest_count, guest_count_end);
	for (uint32_t i = 0; i < VMS; i++) {
		assert_int_equal(pthread_create(&worker[i].thread, NULL, worker_main, &worker[i]), 0);
	}
	for (uint32_t i = 0; i < VMS; i++) {
		pthread_join(worker[i].thread, NULL);
	}
	for (uint32_t i = 0; i < VMS; i++) {
		if (worker[i].wrong) {
			fail_msg("call %llu of VM %u answered %lld", (unsigned long long)worker[i].wrong_nr, i + 1,
				 (long long)worker[i].wrong);
		}
		for (uint64_t nr = 0; nr <= IVC_HC_NOTIFY; nr++) {
			done[nr] += worker[i].done[nr];
		}
	}
	kvm_box_moves(&worker[0].box, 1);
	kvm_box_stop(&worker[0].box);
	assert_int_equal(worker[0].box.exits, 0);
	if (run_scaled(600) == 600) {
		for (uint64_t nr = IVC_HC_PUBLISH; nr <= IVC_HC_NOTIFY; nr++) {
			assert_true(done[nr] > 10);
		}
	}
	for (uint32_t i = 0; i < VMS; i++) {
		kvm_box_close(&worker[i].box);
	}
	ivc_hv_stats(hv, &stats);
	assert_int_equal(stats.channels_now, 0);
	assert_int_equal(stats.sections_now, 0);
	assert_int_equal(stats.quarantined_bytes, 0);
	assert_int_equal(ivc_load_relaxed_u64(&kvm_box_memory.used), 0);
	kvm_box_hv_end(hv);
	assert_memory_equal(&(struct box_levels[1]){kvm_box_levels()}, &before, sizeof(before));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kvm_threads_members_of_each_other_come_and_go),
	};

	kvm_box_skip();
	return cmocka_run_group_tests_name("kvm_threads", tests, NULL, NULL);
}
