/* SPDX-License-Identifier: MIT */
/*
 * The KVM host as a library: a VMM on /dev/kvm (x86_64) gives a VM descriptor, slot numbers, a look-up of its RAM and
 * an interrupt, and gets the ops table that the registry (ivc/hv.h) or a port (ivc/port.h) wants, and an answer to
 * every exit that is IVC's. It creates no VM and no vCPU, runs no thread, and knows no channel.
 *
 *	struct ivc_kvm_memory memory = {.limit = ivc_kvm_memory_room(ram_of_all_vms)};
 *	ivc_hv_create(&hv, &(struct ivc_hv_config){.ops = ivc_kvm_ops(), .host = &memory, ...}); once
 *	ivc_kvm_create(&kvm, &(struct ivc_kvm_config){.vm_fd = vm_fd, .ram = ..., ...}); per VM
 *	ivc_hv_vm_attach(hv, &(struct ivc_vm_config){.host = kvm, ...}, &vm);
 *	ivc_kvm_vcpu_init(&vcpu, kvm, vm, vcpu_fd, run);                                per vCPU, on its thread
 *	for (;;) { ioctl(vcpu_fd, KVM_RUN, 0); if (ivc_kvm_exit(&vcpu) == IVC_KVM_FOREIGN) ...yours... }
 *
 * With a registry in another process the third line is ivc_port_connect(&vm, where, &cfg, ivc_kvm_ops()) with
 * IVC_PORT_NO_VIEW in cfg.flags and a thread that serves the port; everything else stays. Both ways are whole in
 * examples/vmm-embed.
 *
 * How memory is shown: each section is a mapping of its own in this process with a memory slot over it; read-only for
 * the VM means KVM_MEM_READONLY, so a write is an exit, is counted and dropped. A closed section keeps its slot and
 * gets other pages below it in one step.
 */
#ifndef IVC_KVM_H
#define IVC_KVM_H

#include <ivc/hv.h>
#include <ivc/port.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kvm_run;
struct kvm_cpuid2;
struct kvm_userspace_memory_region;

struct ivc_kvm; /* what the library keeps of one VM */

/* Zero or NULL where it says optional. `vm` is the argument of every function. */
struct ivc_kvm_config {
	uint32_t size;  /* sizeof(struct ivc_kvm_config): a shorter, older one is accepted */
	uint32_t flags; /* zero */
	int vm_fd;      /* of KVM_CREATE_VM; borrowed until destroy */
	int bell_fd;    /* eventfd, the irqfd of the IVC interrupt; borrowed until detach has answered 0; 0, -1: none */
	uint32_t slot_first; /* numbers of memory slots that nobody else uses ... */
	uint32_t slot_count; /* ... and how many: at most so many sections are shown at once, then IVC_E_NOSPC */
	ivc_gpa_t
		trap; /* trap page: no memory, outside of the window; 0: none. Its first 8 bytes are IVC's, the rest yours */
	ivc_gpa_t doorbell; /* doorbell page: a page without memory; 0: none. The same as in struct ivc_vm_config */
	void *vm;

	/**
	 * ram - where @bytes of plain, writable RAM at @at are in this process. The memory stays until ram_done, or for
	 * the life of the VM without it. Any thread. Return: NULL: not plain RAM.
	 */
	void *(*ram)(void *vm, ivc_gpa_t at, uint32_t bytes);
	void (*ram_done)(void *vm, ivc_gpa_t at, void *ram); /* optional */

	/**
	 * set_slot - optional: does KVM_SET_USER_MEMORY_REGION for a VMM that keeps its own record of slots.
	 * Return: 0, or -errno. Any thread, also one of another VM's vCPU; may sleep; calls nothing of IVC.
	 */
	int (*set_slot)(void *vm, const struct kvm_userspace_memory_region *slot);

	/** bell - optional, used without bell_fd: raise the IVC interrupt. Any thread, no sleep. */
	void (*bell)(void *vm, ivc_handle_t handle);

	/** unpark - optional: as the op, for every vCPU; calls ivc_sleeper_wake() for those that are a struct ivc_kvm_vcpu. */
	void (*unpark)(void *vm, void *vcpu);

	void (*failed)(void *vm);                                         /* optional: as the op */
	int (*control)(void *vm, uint64_t nr, uint64_t op, uint64_t arg); /* optional: as the op */

	uint32_t
		doorbells; /* direct bells that start in this VM at once; 0: 256. Each makes KVM's stores to devices slower */
	uint32_t reserved; /* zero */
};

/*
 * The ceiling of all sections of a registry in this process: `host` of struct ivc_hv_config. Beyond it PUBLISH and
 * SUBSCRIBE are IVC_E_NOMEM. Without one (host is NULL) guests take what their quotas let them, and memory that the
 * system does not have is not refused: the kernel kills somebody for it, this process or another.
 * Placed by the embedder, who sets `limit` and leaves `used` zero; in use until ivc_hv_destroy() and ivc_kvm_destroy()
 * of every VM of that registry have returned.
 */
struct ivc_kvm_memory {
	uint64_t limit; /* bytes: see ivc_kvm_memory_room() */
	uint64_t used;  /* private, atomic */
};

/**
 * ivc_kvm_memory_room - a limit for a process that knows nothing better: three quarters of what its control groups and
 * the system have left now. Without any that can be read: more than anybody has.
 * @planned: bytes that it will take besides and has not touched yet, as the RAM of its VMs.
 * Context: any thread; reads files. Once, at start.
 */
IVC_API uint64_t ivc_kvm_memory_room(uint64_t planned);

/**
 * ivc_kvm_ops - the ops table. For ivc_hv_create() and ivc_port_connect() alike. Constant.
 * `host` of struct ivc_hv_config is a struct ivc_kvm_memory or NULL; `host` of struct ivc_vm_config a struct ivc_kvm.
 */
IVC_API const struct ivc_plat_ops *ivc_kvm_ops(void);

/**
 * ivc_kvm_create - Return: 0; IVC_E_INVAL (a number out of range, a required function missing), IVC_E_NOMEM,
 *         IVC_E_OPNOTSUPP (no read-only memory slots, or no membarrier here).
 * Owner: the caller, until ivc_kvm_destroy().
 */
IVC_API IVC_MUST_CHECK int ivc_kvm_create(struct ivc_kvm **kvm, const struct ivc_kvm_config *cfg);

/**
 * ivc_kvm_destroy - after ivc_hv_vm_detach() has answered 0 and the vCPUs have stopped, before the VM descriptor is closed.
 * NULL: no effect.
 * Where a slot could not be deleted, what is below it stays mapped for good: it is never anything else.
 */
IVC_API void ivc_kvm_destroy(struct ivc_kvm *kvm);

/** ivc_kvm_views - sections that the VM's window shows now, closed ones too: slots in use. */
IVC_API uint32_t ivc_kvm_views(struct ivc_kvm *kvm);

/**
 * ivc_kvm_cpuid - adds the leaves that tell a guest of IVC to @table, at the next free 0x40000000 + 0x100 * k, and the
 * bit of leaf 1 that tells of a hypervisor.
 * @room: entries that @table has room for. @traps: IVC_X86_TRAP_PORT, IVC_X86_TRAP_PAGE or both. @trap: the trap page,
 * 0: none. @doorbell: the doorbell page, 0: none.
 * Return: 0; IVC_E_NOSPC: two more entries do not fit, or every leaf is taken.
 */
IVC_API IVC_MUST_CHECK int ivc_kvm_cpuid(struct kvm_cpuid2 *table, uint32_t room, uint32_t traps, ivc_gpa_t trap,
					 ivc_gpa_t doorbell);

/* One vCPU of a VMM with a thread for each. Placed by the caller, who fills it with ivc_kvm_vcpu_init(). */
struct ivc_kvm_vcpu {
	struct ivc_sleeper sleeper; /* first: what the registry calls this vCPU */
	struct ivc_kvm *kvm;
	struct ivc_vm *vm;
	struct kvm_run *run;
	int fd;
	bool sync_regs; /* registers come and go with KVM_RUN: a result reaches the vCPU by the next one */
};

/** ivc_kvm_vcpu_init - @fd of KVM_CREATE_VCPU, @run its mapping; both borrowed. Cannot fail. */
IVC_API void ivc_kvm_vcpu_init(struct ivc_kvm_vcpu *vcpu, struct ivc_kvm *kvm, struct ivc_vm *vm, int fd,
			       struct kvm_run *run);

enum ivc_kvm_verdict {
	IVC_KVM_DONE,    /* answered: run the vCPU again */
	IVC_KVM_FOREIGN, /* not IVC's: nothing was read or written */
	IVC_KVM_FAILED   /* the vCPU's registers cannot be read or written: its end */
};

/**
 * ivc_kvm_exit - looks at the exit in vcpu->run: the trap port, the trap page, the doorbell page, and accesses of the
 * window that no memory answers (a hole reads as all ones, writes are dropped, both are counted; so are writes to what
 * the VM may only read). Reads of the two pages give all ones, stores there that are neither call nor bell are dropped.
 * A hypercall is served and, while it is parked, sleeps here, until a bell, its deadline, or ivc_kvm_kick().
 * Return: see enum ivc_kvm_verdict.
 * Context: the vCPU's thread, right after KVM_RUN has returned 0; registered (ivc_hv_thread_enter) where the registry
 *          is in this process.
 */
IVC_API enum ivc_kvm_verdict ivc_kvm_exit(struct ivc_kvm_vcpu *vcpu);

/**
 * ivc_kvm_kick - a sleep of this or the next hypercall ends with IVC_E_INTR: before the embedder stops or pauses a
 * vCPU. It does not end KVM_RUN. Any thread, also a signal handler.
 */
IVC_API void ivc_kvm_kick(struct ivc_kvm_vcpu *vcpu);

#ifdef __cplusplus
}
#endif
#endif
