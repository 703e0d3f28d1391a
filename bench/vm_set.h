/* SPDX-License-Identifier: MIT */
/*
 * All VMs of bench_vm, and the groups of cases that use them. It decides which VM is on which CPU; it measures nothing.
 */
#ifndef IVC_BENCH_VM_SET_H
#define IVC_BENCH_VM_SET_H

#include "ipc.h"
#include "ring_queue.h"
#include "vm_exit.h"
#include "vm_machine.h"

#define VM_QUIET_NS 200000u /* longer than the library polls before it sleeps */

struct vm_set {
	struct vm_machine *plain[2]; /* one on each CPU, ring 3, no interrupts */
	struct vm_machine *bells[2]; /* one on each CPU, ring 3, interrupts */
	struct vm_machine *halts;    /* second CPU, ring 0, interrupts */
	struct vm_exit *exits;       /* first CPU, the thread of the harness */
	struct ipc ipc;
	struct bench_peer *peer; /* a process on the second CPU */
	struct loops_data *data;
	struct ours *ring[3]; /* between two threads: there, back, stream */
};

/* A case of two VMs (or of one): what is asked of them. */
struct vm_case {
	struct vm_set *set;
	struct vm_machine *one;   /* publisher, side 0 */
	struct vm_machine *other; /* NULL: none */
	struct vm_job job;
};

/** vm_case_add - a copy of @c for the harness. @polls: with and without a pause in the poll. */
void vm_case_add(struct bench *b, const struct bench_case *what, const struct vm_case *c, bool polls);

/** vm_case_do - both VMs do the job. Return: the answer of side 0, and in *@second of side 1 (NULL: not wanted). */
const struct vm_job *vm_case_do(const struct vm_case *c, const struct vm_job *job, const struct vm_job **second);

/** vm_ticks_take - the measured pieces of an answer. */
void vm_ticks_take(struct bench_sample *s, const struct vm_job *answer);

/** vm_quiet_ticks - VM_QUIET_NS on the guests' clock. */
uint64_t vm_quiet_ticks(void);

/** vm_groups_bell, vm_groups_ring - add their cases. */
void vm_groups_bell(struct bench *b, struct vm_set *set);
void vm_groups_ring(struct bench *b, struct vm_set *set);

#endif
