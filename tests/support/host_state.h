/* SPDX-License-Identifier: MIT */
/*
 * What host.c (the test's side) and host_far.c (whoever runs a VM) share: the sockets between them. It decides nothing.
 */
#ifndef IVC_TESTS_HOST_STATE_H
#define IVC_TESTS_HOST_STATE_H

#include "host.h"
#ifdef IVC_TESTS_VMM
#include "vmm/vmm.h"
#endif

/* How a process that runs a guest says how the guest ended; below: its exit code. */
#define HOST_STATUS_CRASHED 101
#define HOST_STATUS_STOPPED 102
#define HOST_STATUS_FAILED  103
#define HOST_STATUS_NONE    104

struct host_vm {
	struct host_vm *next;
	struct host *h;
	uint32_t id;
	uint32_t vcpus;
	bool guest;
	int near[HOST_VCPUS]; /* orders go out, answers come in */
	int far[HOST_VCPUS];  /* the other ends: in the process that runs the VM */
	struct proc_actor actor;
	uint32_t shut;   /* atomic: vCPUs get no order any more, the VM ends in a moment */
	struct vmm *vmm; /* in this process */
};

struct host {
	struct proc_world world; /* remote */
	struct ivc_hv *hv;       /* else */
#ifdef IVC_TESTS_VMM
	struct ivc_kvm_memory memory;
#endif
	uint32_t fds, tasks, maps; /* of this process, at the start */
	struct host_vm *vms;
	bool lost;
};

/* host_far.c: on the side of the VM. */

/** host_far_process - the process is the VM; returns when it left in order. */
void host_far_process(struct host_vm *vm, const char *where);

/** host_far_image - the guest image; false: @why tells. Read once. */
bool host_far_image(const char **why);

/** host_far_create - the guest of @vm, not started: registry @hv, or behind @where. */
struct vmm *host_far_create(struct host_vm *vm, struct ivc_hv *hv, const char *where);

/** host_far_guest - the process runs the guest. Return: HOST_STATUS_*, or its exit code. */
int host_far_guest(struct host_vm *vm, const char *where);

/** host_far_shut - vCPUs that wait for an order wait no more; but @spared. */
void host_far_shut(struct host_vm *vm, uint32_t spared);

#endif
