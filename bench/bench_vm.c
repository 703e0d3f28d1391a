/* SPDX-License-Identifier: MIT */
/*
 * Virtual machines on KVM: calls, bells, the making of channels, rings between two VMs. All VMs are in this process, with the
 * registry, a vCPU each, pinned. Here they are started and stopped; the groups are in vm_bell.c and vm_ring.c.
 */
#include "vm_set.h"

#include <stdio.h>
#include <string.h>

#include "vmm/vmm.h"

enum vm_id {
	ID_PLAIN = 1,
	ID_BELLS = 3,
	ID_HALTS = 5,
	ID_EXITS = 6
};

extern const unsigned char bench_guest_plain[], bench_guest_bells[], bench_guest_halts[];
extern const size_t bench_guest_plain_bytes, bench_guest_bells_bytes, bench_guest_halts_bytes;

/* ------------------------------------------------------------------------------------------------- cases of two VMs */

void vm_case_add(struct bench *b, const struct bench_case *what, const struct vm_case *c, bool polls)
{
	struct bench_case add = *what;
	struct vm_case *copy = bench_memory(sizeof(*copy));

	*copy = *c;
	add.arg = copy;
	add.variant[0] = polls ? "spin" : NULL;
	add.variant[1] = polls ? "pause" : NULL;
	bench_add(b, &add);
}

const struct vm_job *vm_case_do(const struct vm_case *c, const struct vm_job *job, const struct vm_job **second)
{
	struct vm_job order = *job;
	const struct vm_job *answer;
	const struct vm_job *other = NULL;

	if (c->other != NULL) {
		order.side = 1;
		order.peer = vm_machine_id(c->one);
		vm_machine_begin(c->other, &order);
	}
	order.side = 0;
	order.peer = c->other != NULL ? vm_machine_id(c->other) : 0;
	vm_machine_begin(c->one, &order);
	answer = vm_machine_end(c->one);
	if (c->other != NULL) {
		other = vm_machine_end(c->other);
	}
	if (second != NULL) {
		*second = other;
	}
	return answer;
}

void vm_ticks_take(struct bench_sample *s, const struct vm_job *answer)
{
	uint32_t i;

	for (i = 0; i < answer->ticks && i < VM_TICKS; i++) {
		bench_trip(s, answer->tick[i]);
	}
}

uint64_t vm_quiet_ticks(void)
{
	return (uint64_t)(VM_QUIET_NS / bench_tick_ns_);
}

/* ---------------------------------------------------------------------------------------------------------- all VMs */

static void meet(struct vm_set *set, struct vm_machine *one, struct vm_machine *other, uint32_t pair)
{
	const struct vm_case c = {.set = set, .one = one, .other = other};
	struct vm_job job = {.task = VM_MEET, .pair = pair, .peer = vm_machine_id(one)};

	/* The publisher first: the other one does not wait for it. */
	vm_machine_begin(one, &job);
	(void)vm_machine_end(one);
	job.side = 1;
	vm_machine_begin(other, &job);
	(void)vm_machine_end(other);
	if (one == set->plain[0]) {
		job = (struct vm_job){.task = VM_OPEN};
		(void)vm_case_do(&c, &job, NULL);
	}
}

static void machines_start(struct bench *b, struct vm_set *set, struct ivc_hv *hv)
{
	uint32_t i;

	for (i = 0; i < 2; i++) {
		set->plain[i] = vm_machine_start(b, hv, ID_PLAIN + i, (int)i, "plain", bench_guest_plain,
						 bench_guest_plain_bytes);
		set->bells[i] = vm_machine_start(b, hv, ID_BELLS + i, (int)i, "bells", bench_guest_bells,
						 bench_guest_bells_bytes);
	}
	set->halts = vm_machine_start(b, hv, ID_HALTS, 1, "halts", bench_guest_halts, bench_guest_halts_bytes);
	vm_machine_pair(set->plain[0], set->plain[1]);
	meet(set, set->plain[0], set->plain[1], 0);
	meet(set, set->bells[0], set->bells[1], 0);
	meet(set, set->bells[0], set->halts, 1);
	set->exits = vm_exit_open(hv, ID_EXITS);
}

static void machines_stop(struct vm_set *set)
{
	uint32_t i;

	vm_exit_close(set->exits);
	vm_machine_stop(set->halts);
	for (i = 0; i < 2; i++) {
		vm_machine_stop(set->bells[i]);
		vm_machine_stop(set->plain[i]);
	}
}

static void must(int status, const char *what)
{
	if (status != 0) {
		bench_fail("%s: %d", what, status);
	}
}

static void peer_serve(void *arg, uint32_t command, uint64_t value)
{
	ipc_serve(arg, command, value);
}

/* Exits of a KVM that works without the CPU's help take many times as long. */
static bool cpu_helps(void)
{
	FILE *f = fopen("/proc/cpuinfo", "r");
	char line[8192];
	bool found = false;

	while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL) {
		found = strncmp(line, "flags", 5) == 0 &&
			(strstr(line, " vmx") != NULL || strstr(line, " svm") != NULL);
	}
	if (f != NULL) {
		fclose(f);
	}
	return found;
}

int main(int argc, char **argv)
{
	struct bench *b = bench_open(argc, argv, "bench_vm", "Virtual machines on KVM: calls, bells, channels, rings.");
	const struct ivc_hv_config cfg = {.size = sizeof(cfg), .ops = ivc_kvm_ops()};
	static struct vm_set set;
	char why[VMM_WHY_BYTES] = "";
	struct ivc_hv *hv;

	if (vmm_usable(why) != 0) {
		return bench_skip(b, why);
	}
	if (!bench_tsc_) {
		return bench_skip(b, "the time stamp counter, which is the guests' clock, is none here");
	}
	set.data = bench_memory(sizeof(*set.data));
	loops_data_fill(set.data);
	ipc_open(&set.ipc);
	set.peer = bench_peer_start(b, 1, peer_serve, &set.ipc);
	must(ivc_hv_create(&hv, &cfg), "ivc_hv_create");
	must(ivc_hv_thread_enter(), "ivc_hv_thread_enter");
	machines_start(b, &set, hv);
	vm_groups_bell(b, &set);
	vm_groups_ring(b, &set);
	if (!cpu_helps()) {
		bench_note(
			b,
			"The CPU shows neither VMX nor SVM: this KVM works without them, and an exit takes some ten times"
			" as long.");
	}
	bench_run(b);
	machines_stop(&set);
	must(ivc_hv_destroy(hv), "ivc_hv_destroy");
	ivc_hv_thread_leave();
	return bench_close(b);
}
