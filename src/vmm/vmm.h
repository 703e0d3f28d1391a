/* SPDX-License-Identifier: MIT */
/*
 * A small VMM: one struct vmm is one VM on /dev/kvm that runs a freestanding guest image on the machine of ivc/machine.h,
 * with a thread per vCPU, its registry in this process or behind a port. First user of ivc/kvm.h. It decides what the
 * machine looks like and when a VM ends; it knows no channel, prints nothing, and catches no signal.
 *
 * Threads: vmm_* functions of one VM are called by one thread at a time, except vmm_stop() and vmm_ram(), any thread.
 * The callbacks run on threads of the VM, which block every signal that another thread can send. SIGUSR2 is the VMM's: no
 * handler of it is needed, and a program that uses it for itself must not rely on each of them being seen.
 */
#ifndef IVC_VMM_VMM_H
#define IVC_VMM_VMM_H

#include <ivc/hv.h>
#include <ivc/kvm.h>
#include <ivc/machine.h>

#define VMM_RAM_MIN   (UINT64_C(2) << 20)
#define VMM_RAM       (UINT64_C(16) << 20) /* default */
#define VMM_VCPUS_MAX 16u
#define VMM_WHY_BYTES 256u

enum vmm_end_kind {
	VMM_RUNNING,
	VMM_EXITED,  /* by the exit port; `code` */
	VMM_CRASHED, /* shutdown, internal error, an exit that nobody answers; `text` has the registers */
	VMM_STOPPED, /* vmm_stop() */
	VMM_FAILED   /* the registry gave the VM up, or KVM failed; `text` tells */
};

struct vmm_end {
	enum vmm_end_kind kind;
	uint32_t code;
	uint32_t vcpu; /* that ended it */
	uint32_t reserved;
	char text[1024]; /* lines, each ended by a line end; empty: nothing to tell */
};

struct vmm_config {
	ivc_vmid_t id;
	uint64_t ram_bytes; /* 0: VMM_RAM; whole pages, VMM_RAM_MIN to IVC_MACHINE_RAM_LAST + 1 */
	uint32_t vcpus;     /* 0: 1 */
	uint32_t reserved;
	const char *arg;   /* at most 191 bytes; NULL: empty */
	const void *image; /* ELF64; read during vmm_create() only */
	size_t image_bytes;
	struct ivc_hv *hv;  /* registry of this process, made with ivc_kvm_ops(); or NULL and ... */
	const char *where;  /* ... "unix:PATH" of a hypervisor process */
	uint64_t slots_max; /* memory slots for channels; 0: 4096, or as many as KVM has */
	void *user;         /* argument of the callbacks, which are optional */
	/** line - a line of the guest's console, without its end; not printable bytes are shown as '?', long lines are cut
	 * in pieces. */
	void (*line)(void *user, const char *text);
	/** service - answers IVC_MACHINE_PORT_SERVICE. @at: the buffer in RAM, NULL where it is none; it may change while it is
	 * read. May sleep; vmm_stop() cannot end that sleep. */
	int64_t (*service)(void *user, uint32_t vcpu, uint32_t number, void *at, uint64_t bytes);
	/** gone - the hypervisor process of `where` is gone, once. The VM runs on: its calls answer IVC_E_SHUTDOWN, its channels
	 * are revoked, what it has in RAM stays. No sleep. */
	void (*gone)(void *user);
	/** ended - the VM has ended, its channels too: peers were told. Once, on the VM's last thread. */
	void (*ended)(void *user, const struct vmm_end *end);
};

struct vmm;

/**
 * vmm_usable - whether VMs can run here. Return: 0; IVC_E_*: @why (VMM_WHY_BYTES) tells what is missing and the remedy.
 */
int vmm_usable(char *why);

/**
 * vmm_create - a VM that does not run yet: image loaded, attached to its registry.
 * Return: 0; IVC_E_*: @why (VMM_WHY_BYTES) tells what was wrong and what to do, in one sentence that names the number or the
 *         name at fault.
 * Owner: the caller, until vmm_destroy().
 */
int vmm_create(struct vmm **vm, const struct vmm_config *cfg, char *why);

/** vmm_start - its vCPUs run. Once. Return: 0; IVC_E_NOMEM: no thread; it can only be destroyed then. */
int vmm_start(struct vmm *vm);

/** vmm_stop - asks it to end; returns at once. The first reason to end counts. Any thread, no effect on one that has ended. */
void vmm_stop(struct vmm *vm);

/** vmm_wait - until it has ended, at most @timeout_ns. Return: 0, @end written; IVC_E_TIMEDOUT. */
int vmm_wait(struct vmm *vm, uint64_t timeout_ns, struct vmm_end *end);

/** vmm_destroy - ends it if it runs; everything is given back. NULL: no effect. */
void vmm_destroy(struct vmm *vm);

/** vmm_ram - where @bytes at @at of its RAM are in this process; NULL: not all of it RAM. Valid until destroy. */
void *vmm_ram(struct vmm *vm, uint64_t at, uint64_t bytes);

/** vmm_vm - its side of the registry, for ivc_hv_vm_stats(); not after it has ended. */
struct ivc_vm *vmm_vm(struct vmm *vm);

/** vmm_kvm - its KVM host, for ivc_kvm_views(). */
struct ivc_kvm *vmm_kvm(struct vmm *vm);

/** vmm_window - where its channels are. */
void vmm_window(const struct vmm *vm, ivc_gpa_t *at, uint64_t *bytes);

#endif
