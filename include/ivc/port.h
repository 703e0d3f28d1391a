/* SPDX-License-Identifier: MIT */
/*
 * A port: one VM whose registry is another process (`ivc hv`). A VMM with one VM per process links this instead of the
 * registry and keeps the same ops table and the same ivc_hv_hypercall(). It decides no policy and knows no ring; slots
 * are resolved on this side, so the VM's RAM is never shared with the hypervisor.
 *
 *	err = ivc_port_connect(&vm, "unix:/run/ivc.sock", &cfg, &ops);
 *	one thread:      poll(ivc_port_fd(vm), POLLIN) -> ivc_port_serve(vm)
 *	vCPU threads:    ivc_hv_hypercall(vm, vcpu, &call), ivc_hv_park_end(vm, vcpu, &call, why)
 *	at the end:      ivc_hv_vm_detach(vm)
 *
 * Threads. ivc_port_serve() belongs to one thread, which makes no hypercall: a PUBLISH waits until its map was served.
 * That thread runs the ops map, close, unmap, bell, unpark and failed; slot_get and slot_put run on the calling vCPU's
 * thread. A port thread does not register (ivc_hv_thread_enter). A port is made after the last fork().
 *
 * From ivc/hv.h on a port:
 *	ivc_hv_hypercall      as in hv.h. The first call of a vCPU asks the hypervisor for a connection of its own;
 *	                      over the hypervisor's limit it is DONE with IVC_E_NOMEM. Deadlines are on CLOCK_MONOTONIC.
 *	ivc_hv_park_end       as in hv.h.
 *	ivc_hv_window_access  as in hv.h, answered here.
 *	ivc_hv_doorbell       rings nobody and counts a stray write: a port has no doorbell page.
 *	ivc_hv_vm_reset       as in hv.h; while the serving thread goes on to serve.
 *	ivc_hv_vm_stats       asks the hypervisor; all zero when it does not answer.
 *	ivc_hv_vm_detach      the orderly goodbye, and also the end of a port whose registry is gone. On the serving
 *	                      thread, or when no thread serves any more; calls that still wait in the hypervisor end
 *	                      with IVC_E_SHUTDOWN and parked vCPUs are unparked with it. All that was mapped is
 *	                      unmapped through the ops. Returns 0: @vm is invalid. IVC_E_AGAIN: a vCPU thread has not
 *	                      left ivc_hv_hypercall yet, call again.
 */
#ifndef IVC_PORT_H
#define IVC_PORT_H

#include <ivc/hv.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Flags in ivc_vm_config.flags that only a port knows.
 *
 * Without IVC_PORT_NO_VIEW the port maps each section into this process (read-only where the VM may only read, 2 MiB
 * aligned from IVC_HUGE_BYTES on) and op map finds it in view->mem->addr; the mapping lives until the op close or unmap
 * of the view has answered 0. With the flag nothing is mapped: view->mem->addr is NULL and view->mem->host[0] is a
 * descriptor, the port's, valid until op map returns (dup it to keep it).
 */
#define IVC_PORT_NO_VIEW (1u << 16)

/**
 * ivc_port_connect - makes this process the VM cfg->id of the hypervisor behind @where ("unix:PATH").
 * @cfg: id, window, vector and clock as for ivc_hv_vm_attach; the quota is the hypervisor's and not read; the doorbell
 *       page is not offered over a port: VM_INFO tells the guest that there is none, and its bells are calls;
 *       flags: IVC_PORT_*; cfg->host is `vm` of the ops.
 * @ops: required: map, close, unmap, slot_get, unpark. Called if present: slot_put, bell, failed. The others are the
 *       hypervisor's own and never called here. Borrowed until ivc_hv_vm_detach() has answered 0.
 *       bell: an invalid (zero) handle means that several channels rang and were merged.
 * Return: 0; IVC_E_INVAL (@where, cfg, a required op missing; window refused), IVC_E_NOENT (no such socket),
 *         IVC_E_PIPE (a socket, but no hypervisor behind it), IVC_E_PERM (not allowed: socket mode or user),
 *         IVC_E_EXIST (a living VM has this id), IVC_E_BUSY (a dying one still has it), IVC_E_NOSPC (too many VMs),
 *         IVC_E_PROTO (the other side speaks another version), IVC_E_NOMEM, IVC_E_SHUTDOWN, IVC_E_TIMEDOUT,
 *         IVC_E_OPNOTSUPP (no membarrier here).
 * Context: any thread; sleeps, at most some seconds.
 * Owner: *@vm is the caller's until ivc_hv_vm_detach() has answered 0.
 */
IVC_API IVC_MUST_CHECK int ivc_port_connect(struct ivc_vm **vm, const char *where, const struct ivc_vm_config *cfg,
					    const struct ivc_plat_ops *ops);

/** ivc_port_fd - the descriptor to poll for POLLIN; the port's, constant, close-on-exec. Only to be polled. */
IVC_API int ivc_port_fd(const struct ivc_vm *vm);

/**
 * ivc_port_serve - does what the registry asks for until nothing is left to read.
 * When the registry is gone: every call answers IVC_E_SHUTDOWN from then on, parked vCPUs are unparked with it, each
 * view of a hv page is closed (op close) and then shows a private copy of that page in state REVOKED (op map, access
 * READ, mem->kind IVC_MEM_HV); where no copy can be made it stays closed, which reads as REVOKED too. All other views
 * keep their memory. Then op failed is called, once.
 * Return: 0: served, poll again; IVC_E_PIPE: the registry is gone, all of the above has been done, detach.
 * Context: one thread, see above; does not sleep except inside ops.
 */
IVC_API int ivc_port_serve(struct ivc_vm *vm);

/**
 * ivc_port_vcpu_drop - forgets @vcpu: the hypervisor frees its connection and its thread.
 * Context: any thread, no call of @vcpu running or parked. An unknown vCPU: no effect.
 */
IVC_API void ivc_port_vcpu_drop(struct ivc_vm *vm, void *vcpu);

/**
 * ivc_port_end_calls - calls that wait in the hypervisor end with IVC_E_SHUTDOWN, and all later ones at once: for a VM that
 * is to end beside a hypervisor that does not answer. Only to serve and to detach is of use then.
 * Context: the serving thread, before ivc_hv_vm_detach(); no sleep.
 */
IVC_API void ivc_port_end_calls(struct ivc_vm *vm);

/*
 * A vCPU of a hosted caller that sleeps in its own thread: zero it, pass its address as `vcpu`, call
 * ivc_sleeper_wake() in op unpark. Works over a port and over a registry of this process alike.
 */
struct ivc_sleeper {
	uint32_t word;     /* private */
	uint32_t reserved; /* zero */
};

/**
 * ivc_hv_call_sleep - serves @call of @vcpu and sleeps while it is parked: until unpark, its deadline, or
 * ivc_sleeper_stop().
 * Return: IVC_DONE: call->result is the guest's; IVC_FOREIGN. Never IVC_PARKED.
 * Context: as ivc_hv_hypercall; `now_ns` of the VM must be CLOCK_MONOTONIC.
 */
IVC_API enum ivc_verdict ivc_hv_call_sleep(struct ivc_vm *vm, struct ivc_sleeper *vcpu, struct ivc_call *call);

/** ivc_sleeper_wake - for op unpark. Any thread, does not sleep. */
IVC_API void ivc_sleeper_wake(struct ivc_sleeper *vcpu);

/**
 * ivc_sleeper_stop - ends the sleep of this call or of the next one with IVC_E_INTR, once; a result that came first
 * counts. Any thread, also a signal handler.
 */
IVC_API void ivc_sleeper_stop(struct ivc_sleeper *vcpu);

/* What the hypervisor process holds now: what a leak check compares. */
struct ivc_port_levels {
	struct ivc_hv_stats hv;
	uint64_t instance;    /* random per start */
	uint32_t pid;         /* of the hypervisor */
	uint32_t descriptors; /* open in it, by its own count: sockets, pidfds, eventfds, memfds */
	uint32_t memfds;      /* section memory among them */
	uint32_t threads;     /* of the process host */
	uint32_t vms;         /* with a connection, dying ones too */
	uint32_t vcpus;       /* connections of vCPUs */
	uint32_t refused;     /* connections turned away since start */
	uint32_t ended;       /* VMs ended for a wrong message, a full socket or no answer, since start */
};

/**
 * ivc_port_read_levels - asks the hypervisor behind @where, without becoming a VM.
 * Return: 0; as ivc_port_connect.
 */
IVC_API IVC_MUST_CHECK int ivc_port_read_levels(const char *where, struct ivc_port_levels *out);

/* One VM as the hypervisor process sees it. */
struct ivc_port_vm_info {
	ivc_vmid_t id;
	uint32_t pid;
	uint32_t views; /* sections that its process shows now */
	uint32_t vcpus;
	ivc_gpa_t window;
	uint64_t window_bytes;
	uint32_t dying; /* 1: being torn down, stats are zero */
	uint32_t reserved;
	struct ivc_vm_stats stats;
};

/**
 * ivc_port_read_vm - the VM with the smallest id not below @from.
 * Return: 0; IVC_E_NOENT: there is none; as ivc_port_connect.
 */
IVC_API IVC_MUST_CHECK int ivc_port_read_vm(const char *where, ivc_vmid_t from, struct ivc_port_vm_info *out);

#ifdef __cplusplus
}
#endif
#endif
