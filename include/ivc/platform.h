/* SPDX-License-Identifier: MIT */
/*
 * The one seam downward: what the registry needs from the host that it is linked into. Memory, windows, slots in guest
 * RAM, events, time. It knows nothing of channels; whoever implements it knows nothing of the registry.
 *
 * Rules for every op
 *   - `host` is the pointer of struct ivc_hv_config, `vm` the one of struct ivc_vm_config.
 *   - An op answers 0 or a negative IVC_E_*; errno, ioctls and the like stop inside it.
 *   - No op may call back into the core, except where it says so. The core notices: IVC_E_DEADLK.
 *   - "control lock" is the control mutex of the VM whose call is being served. It is not a lock of the host. Two calls of
 *     one VM never hold it at once, calls of two VMs may; so ops for VM X may come from a call of VM Y at the same
 *     time as from a call of X. The host serializes what it must, per VM.
 *   - No other lock of the core is ever held over an op, except over unpark.
 *   - The thread that answers IVC_LATER must be one that is never inside the core at the time: calls wait for answers.
 */
#ifndef IVC_PLATFORM_H
#define IVC_PLATFORM_H

#include <ivc/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a piece of region memory is for; fixed when it is made. */
enum ivc_mem_kind {
	IVC_MEM_HV = 1,         /* written by the core through `addr`, read-only in every window */
	IVC_MEM_ONE_WRITER = 2, /* mapped read-write into the first window, read-only into all later ones */
	IVC_MEM_SHARED = 3      /* flat channel: read-write in both windows; the core writes 16 bytes through `addr` */
};

/* Memory of one section. Filled by mem_new, kept by the core, given back to mem_free. */
struct ivc_mem {
	void *addr;     /* the core's view, write-back and coherent; needed for IVC_MEM_HV and IVC_MEM_SHARED */
	uint64_t bytes; /* whole granules */
	enum ivc_mem_kind kind;
	uint32_t reserved; /* zero */
	uint64_t host[2];  /* the host's own: descriptor, frame number, colour */
};

enum ivc_access {
	IVC_READ = 1,
	IVC_READ_WRITE = 3
};

/* One section shown in one VM's window. */
struct ivc_view {
	ivc_gpa_t at; /* granule aligned; 2 MiB aligned from IVC_HUGE_BYTES on */
	uint64_t bytes;
	const struct ivc_mem *mem; /* unmap of a closed view: NULL, the range shows the host's own memory */
	enum ivc_access access;    /* unmap: what the last map gave */
	uint32_t reserved;         /* zero */
	void *token;               /* not NULL: the op may answer IVC_LATER, see map */
};

/* An op's answer: begun; ivc_hv_view_done(token, status) will tell the end. */
#define IVC_LATER 1

struct ivc_plat_ops {
	uint32_t size;     /* sizeof(struct ivc_plat_ops): a shorter, older table is accepted */
	uint32_t reserved; /* zero */

	/* Region memory. Any thread; control lock held; may sleep. */

	/**
	 * mem_new - fresh, zeroed memory of @bytes (whole granules); 2 MiB aligned from IVC_HUGE_BYTES on.
	 * Return: 0; IVC_E_NOMEM. @mem is written on success only.
	 * Owner: the core, until mem_free.
	 */
	int (*mem_new)(void *host, uint64_t bytes, enum ivc_mem_kind kind, struct ivc_mem *mem);

	/** mem_free - takes @mem back. No window shows it and none ever will. Cannot fail. Also without the control lock. */
	void (*mem_free)(void *host, struct ivc_mem *mem);

	/*
	 * Windows. Any thread, for VM X also from a call of VM Y; may sleep, or wait with its own `relax`. Control lock of
	 * the VM whose call, reset or detach it is held. Views of one VM do not overlap.
	 * `*view` is valid during the call only, `*view->mem` until an unmap or close of it has been answered with 0.
	 */

	/**
	 * map - make @view->mem appear at @view->at with exactly @view->access. The range is a hole or closed; over a closed
	 * range there is no moment at which an access would meet a hole.
	 * Return: 0 done; IVC_LATER only if @view->token is set; IVC_E_NOMEM, IVC_E_NOSPC (the host's tables are full),
	 *         IVC_E_OPNOTSUPP (cannot enforce the access), IVC_E_SHUTDOWN (the VM is gone), else IVC_E_IO. On failure
	 *         nothing of @view is mapped.
	 * Order:  what the core wrote to the memory before is visible to the VM after.
	 */
	int (*map)(void *vm, const struct ivc_view *view);

	/**
	 * close - take the memory, keep the address: @view shows memory of the host's own, without a gap. Where the VM
	 * could only read, a page whose u32 at offset 104 is IVC_CHANNEL_REVOKED or zero and whose rest is zero; where it
	 * could write, zeroed private memory that it can still write.
	 * Return: 0: no vCPU can reach @view->mem through this view; IVC_LATER as for map; else: not known, the core
	 *         quarantines the memory and gives the VM up.
	 */
	int (*close)(void *vm, const struct ivc_view *view);

	/**
	 * unmap - make the range a hole. Reads of a hole give zeros or all ones, writes change nothing that anyone else
	 * sees.
	 * @view->mem is NULL where a close was asked for, also one that has failed: whatever is shown there goes.
	 * Return: 0: no vCPU can reach it, or the VM is gone with all its mappings; else as close. Never IVC_LATER.
	 */
	int (*unmap)(void *vm, const struct ivc_view *view);

	/**
	 * slot_get - the address of @bytes (8, or 64 for VM_INFO) of the VM's plain, writable RAM, @bytes aligned down to 8.
	 * The core has checked alignment, wrap, and that the range does not touch the VM's window. The memory stays
	 * valid and writable from get to put.
	 * Context: any thread, the thread that entered for @vcpu; control lock held for calls 3 and 4; may sleep.
	 * Return: NULL: not plain RAM, the guest gets IVC_E_FAULT.
	 */
	void *(*slot_get)(void *vm, void *vcpu, ivc_gpa_t at, uint32_t bytes);

	/** slot_put - optional; ends the use of what slot_get gave. Cannot fail: a value stored before it has arrived. */
	void (*slot_put)(void *vm, void *vcpu, ivc_gpa_t at, void *slot);

	/* Events. Any thread, also inside a read section of the core: no sleep, no allocation, no re-entry, cannot fail. */

	/** bell - raise the VM's IVC interrupt for the channel @handle. Earlier stores are visible to the handler. May merge. */
	void (*bell)(void *vm, ivc_handle_t handle);

	/**
	 * unpark - the call that answered IVC_PARKED on @vcpu is over, its call->result is written; make the vCPU run. May
	 * come before the host has seen IVC_PARKED, and from inside a call of another VM. Exactly once per parked call that
	 * ivc_hv_park_end does not end, and before ivc_hv_park_end returns for it. A short lock of the core is held.
	 */
	void (*unpark)(void *vm, void *vcpu);

	/* Services. */

	/**
	 * barrier - returns after every CPU that runs a member of any channel has executed a full memory fence since the
	 * call began (membarrier, IPI; nothing where a vCPU cannot run meanwhile).
	 * Context: any thread, control lock held, may sleep.
	 */
	void (*barrier)(void *host);

	/**
	 * relax - one turn of a wait inside the core: yield, answer shootdown messages. Optional when hosted.
	 * Context: any thread; a control lock or a short lock may be held; must return soon. A thread that the host
	 *          forces out of its own relax for good keeps what it holds: do not.
	 */
	void (*relax)(void *host);

	/** now_ns - monotonic time in nanoseconds. Any thread, any context, does not sleep. */
	uint64_t (*now_ns)(void *host);

	/**
	 * failed - optional: an op for @vm failed in a way that leaves its windows unknown, so the core has given the VM up:
	 * every call of it answers IVC_E_SHUTDOWN. The embedder stops the VM and calls ivc_hv_vm_detach, not from here.
	 * Context: any thread, control lock of another VM may be held, no sleep.
	 */
	void (*failed)(void *vm);

	/** log - optional; events of the embedder's own doing. Nothing that a guest can cause is ever logged. No sleep. */
	void (*log)(void *host, int level, const char *text);

	/**
	 * control - optional; what calls 0-2 of a privileged VM do: @nr is the call, @op and @arg are DEBUG's.
	 * PREPARE_DISABLE and DEBUG may refuse with an IVC_E_*; DISABLE comes after the last channel is gone and cannot fail.
	 * Context: no lock held, two vCPUs may come at once; may sleep.
	 */
	int (*control)(void *vm, uint64_t nr, uint64_t op, uint64_t arg);

	/**
	 * doorbell - optional; direct bells. @on: from now on a store of the u32 @value to the doorbell page of VM @from
	 * raises the IVC interrupt of VM @to without the core; off: no longer. @from has a doorbell page, @to a vector. A
	 * pair (@from, @value) is on once at most.
	 * Without the op, or when it fails, such a store must reach ivc_hv_doorbell(), which does the same slower.
	 * Return: @on: 0, or any IVC_E_*: that store stays a matter of the core. Off is only asked for what was on, and
	 *         cannot fail.
	 * Context: any thread, for two VMs also from a call of either, or from ivc_hv_view_done(); a control lock held, but
	 *          not in the latter; may sleep. Both VMs are attached until off has returned.
	 */
	int (*doorbell)(void *from, uint32_t value, void *to, bool on);
};

#ifdef __cplusplus
}
#endif
#endif
