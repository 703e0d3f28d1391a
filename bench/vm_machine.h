/* SPDX-License-Identifier: MIT */
/*
 * The VMs of the bench: each runs the worker of bench/guests on the small VMM, its vCPU on one of the two CPUs, and does one
 * job after the other. Between two VMs there is a socket, as users do it otherwise. It measures nothing.
 */
#ifndef IVC_BENCH_VM_MACHINE_H
#define IVC_BENCH_VM_MACHINE_H

#include "harness.h"
#include "vm_job.h"

#include <ivc/hv.h>

struct vm_machine;

/**
 * vm_machine_start - a VM with one vCPU on CPU @which (0 or 1); returns when its guest waits for a job. What goes wrong ends
 * the program. @name: of the guest, for complaints. Owner: vm_machine_stop().
 */
struct vm_machine *vm_machine_start(struct bench *b, struct ivc_hv *hv, uint32_t id, int which, const char *name,
				    const void *image, size_t bytes);

/** vm_machine_pair - a socket between two of them: VM_SEND, VM_RECV; and a place to dial: VM_DIAL, VM_ACCEPT. */
void vm_machine_pair(struct vm_machine *one, struct vm_machine *other);

uint32_t vm_machine_id(const struct vm_machine *m);

/** vm_machine_bells - bells of this VM that the registry has seen. */
uint64_t vm_machine_bells(const struct vm_machine *m);

/** vm_machine_begin - gives it a job: everything above the answer. vm_machine_end - waits, gives the answer in its RAM. */
void vm_machine_begin(struct vm_machine *m, const struct vm_job *job);
const struct vm_job *vm_machine_end(struct vm_machine *m);

/** vm_machine_stop - the guest leaves by itself; everything is given back. */
void vm_machine_stop(struct vm_machine *m);

#endif
