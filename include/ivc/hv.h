/* SPDX-License-Identifier: MIT */
/*
 * The embedder's API: one registry, its VMs, and the one entry for a trapped hypercall. Link it into a hypervisor or VMM,
 * give it an ops table (ivc/platform.h), call ivc_hv_hypercall() from the exit loop.
 *
 * The library has no global state, no thread of its own, and allocates nothing after ivc_hv_create().
 * Concurrency: every function may be called from any thread at any time unless its contract says otherwise; one call per
 * vCPU at once. Threads register (ivc_hv_thread_enter).
 */
#ifndef IVC_HV_H
#define IVC_HV_H

#include <ivc/abi.h>
#include <ivc/platform.h>
#include <ivc/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IVC_VERSION_MAJOR 0
#define IVC_VERSION_MINOR 1
#define IVC_VERSION_PATCH 0
#define IVC_VERSION       0x000100u /* of these headers: major << 16 | minor << 8 | patch */

/** ivc_version - version of the linked library, as IVC_VERSION. */
IVC_API uint32_t ivc_version(void);

struct ivc_hv; /* one registry; several may live in one process */
struct ivc_vm; /* one VM in one of its lives */

#define IVC_HV_HIGH_NUMBERS (1u << 0) /* small call numbers are not ours: the entry answers IVC_FOREIGN */

/* Zero in a number means its default, docs/limits.md. */
struct ivc_hv_config {
	uint32_t size; /* sizeof(struct ivc_hv_config): a shorter, older one is accepted */
	uint32_t flags;
	uint32_t vms;            /* attached at once; 1024 */
	uint32_t channels;       /* of all VMs at once; 4096 */
	uint32_t memberships;    /* of all VMs at once, publishers not counted; 8192 */
	uint32_t seats;          /* of one channel; 248 */
	uint32_t vm_channels;    /* of one VM; 256. Upper bound of every quota */
	uint32_t vm_memberships; /* of one VM; 256. Upper bound of every quota */
	uint32_t granule_log2;   /* 12 to 16; 12 */
	uint32_t reserved;       /* zero */
	uint64_t region_bytes;   /* largest publisher section, and largest seat section; 1 GiB */
	uint64_t seed[2];        /* of handles, epochs and the hash; zero: taken from the system (hosted only) */
	void *arena;             /* optional: ivc_hv_bytes() of 64-byte aligned memory, zeroed or not */
	uint64_t arena_bytes;
	const struct ivc_plat_ops *ops; /* borrowed until destroy */
	void *host;
};

/** ivc_hv_bytes - memory that ivc_hv_create() will take for @cfg, the name table's excepted. 0: @cfg is not valid. */
IVC_API uint64_t ivc_hv_bytes(const struct ivc_hv_config *cfg);

/**
 * ivc_hv_create - a registry without VMs.
 * Return: 0; IVC_E_INVAL (a number out of range, a required op missing, an arena too small), IVC_E_NOMEM.
 * Context: any thread; after the last fork(): a child must not use it.
 * Owner: *@hv is the caller's, until ivc_hv_destroy().
 */
IVC_API IVC_MUST_CHECK int ivc_hv_create(struct ivc_hv **hv, const struct ivc_hv_config *cfg);

/**
 * ivc_hv_destroy - ends the registry and returns its memory.
 * Return: 0; IVC_E_BUSY while a VM is attached; IVC_E_PERM, IVC_E_DEADLK. Quarantined regions are never given to mem_free.
 * Context: any registered thread, no call of it running; waits for a grace period.
 */
IVC_API IVC_MUST_CHECK int ivc_hv_destroy(struct ivc_hv *hv);

/* What one VM may hold. Zero means none; above the config's bound: the bound. */
struct ivc_quota {
	uint32_t channels;
	uint32_t memberships;
	uint64_t bytes; /* of region memory that the VM's windows pin */
};
/* clang-format off */
#define IVC_QUOTA_DEFAULT {UINT32_MAX, UINT32_MAX, UINT64_C(1) << 30}
/* clang-format on */

#define IVC_VM_PRIVILEGED (1u << 0) /* may use calls 0-2 */

struct ivc_vm_config {
	uint32_t size;
	uint32_t flags;
	ivc_vmid_t id;
	uint32_t vector;  /* vector, doorbell, clock: what VM_INFO tells the guest */
	ivc_gpa_t window; /* granule aligned, outside RAM; channels are placed here */
	uint64_t window_bytes;
	uint64_t doorbell;
	uint64_t clock_hz;
	int64_t clock_offset;
	struct ivc_quota quota;
	void *host; /* `vm` of the ops */
};

/**
 * ivc_hv_vm_attach - a VM joins.
 * Return: 0; IVC_E_INVAL (id, window or flags), IVC_E_EXIST (id attached), IVC_E_NOSPC (config.vms),
 *         IVC_E_SHUTDOWN (hypervisor prepared to go, or off), IVC_E_PERM (thread not registered), IVC_E_DEADLK (from
 *         inside an op).
 * Owner: *@vm belongs to the registry; valid until ivc_hv_vm_detach() has answered 0.
 */
IVC_API IVC_MUST_CHECK int ivc_hv_vm_attach(struct ivc_hv *hv, const struct ivc_vm_config *cfg, struct ivc_vm **vm);

/**
 * ivc_hv_vm_reset - the guest starts again: ends all that it holds, as its death would; id and window stay.
 * Return: 0; IVC_E_AGAIN: one channel was ended, call again; IVC_E_SHUTDOWN; IVC_E_PERM, IVC_E_DEADLK.
 * Context: may sleep in ops; calls of the VM that come meanwhile wait.
 */
IVC_API IVC_MUST_CHECK int ivc_hv_vm_reset(struct ivc_vm *vm);

/**
 * ivc_hv_vm_detach - the VM is gone. From the first call on, every call of the VM answers IVC_E_SHUTDOWN; parked vCPUs
 * are unparked with it; calls in flight are waited for; then one channel per call is ended and its peers are told.
 * Return: 0: no op will name this VM again, @vm is invalid; IVC_E_AGAIN: call again; IVC_E_PERM, IVC_E_DEADLK.
 * Context: may sleep in ops; one thread at a time for one VM; not from inside an op. IVC_E_AGAIN may also mean that a view
 *          op of some VM is not answered yet.
 */
IVC_API IVC_MUST_CHECK int ivc_hv_vm_detach(struct ivc_vm *vm);

/* Counters of one VM since attach; never cleared. `*_now` are levels. */
struct ivc_vm_stats {
	uint64_t calls;        /* that were ours */
	uint64_t calls_failed; /* result below zero */
	uint64_t published;
	uint64_t subscribed;
	uint64_t bells_out;    /* NOTIFY and BELL that reached at least one peer */
	uint64_t bells_in;     /* raised for this VM */
	uint64_t bells_merged; /* found their bit already set */
	uint64_t waits_parked;
	uint64_t stray_reads; /* ivc_hv_window_access */
	uint64_t stray_writes;
	uint64_t quarantined; /* bytes of memory that this VM's windows may still show */
	uint32_t channels_now;
	uint32_t memberships_now;
	uint64_t bytes_now;  /* charged */
	uint64_t window_now; /* bytes of the window that are handed out */
};

/** ivc_hv_vm_stats - a snapshot; each counter is whole, the set is not taken at one instant. */
IVC_API void ivc_hv_vm_stats(const struct ivc_vm *vm, struct ivc_vm_stats *out);

/* One channel as ivc_hv_each() shows it; a consistent cut of this channel. */
struct ivc_channel_info {
	ivc_vmid_t publisher;
	uint32_t state; /* IVC_CHANNEL_* */
	ivc_key_t key;
	ivc_handle_t handle;
	uint64_t layout;
	uint64_t epoch;
	uint64_t bytes; /* region memory that it holds now, all sections */
	uint32_t seats;
	uint32_t members; /* seats taken */
	uint32_t windows; /* windows that show some of its memory */
	uint32_t reserved;
};

/**
 * ivc_hv_each - calls @fn for every channel that is alive or still has members, until it answers false.
 * Context: registered thread. @fn runs with no lock held and may call anything of this header.
 * Return: 0; IVC_E_PERM: thread not registered; IVC_E_DEADLK.
 */
IVC_API int ivc_hv_each(struct ivc_hv *hv, bool (*fn)(void *arg, const struct ivc_channel_info *info), void *arg);

/* Levels of the whole registry: what a leak check compares. */
struct ivc_hv_stats {
	uint32_t vms_now;
	uint32_t channels_now;
	uint32_t memberships_now;
	uint32_t sections_now;
	uint64_t bytes_now;         /* region memory held, quarantined excepted */
	uint64_t quarantined_bytes; /* never given back: an unmap or close of it failed */
	uint64_t quarantined_sections;
	uint64_t records_waiting; /* dead records that wait for a grace period */
};
IVC_API void ivc_hv_stats(const struct ivc_hv *hv, struct ivc_hv_stats *out);

/* One trapped hypercall. Lives in the caller's memory until DONE, unpark or park_end. */
struct ivc_call {
	uint64_t nr;          /* in */
	uint64_t arg[6];      /* in; the core reads each once */
	int64_t result;       /* out, always written, except for IVC_FOREIGN */
	uint64_t deadline_ns; /* out with IVC_PARKED: on the now_ns clock; IVC_FOREVER: none */
	uint64_t core_[6];    /* the core's own */
};

enum ivc_verdict {
	IVC_DONE,   /* result is written: give it to the guest */
	IVC_PARKED, /* the vCPU sleeps until unpark, or until the host ends it with ivc_hv_park_end() */
	IVC_FOREIGN /* not a number of ours; nothing was read or written */
};

/**
 * ivc_hv_hypercall - serves one call of @vm that @vcpu trapped on.
 * @vcpu: the host's own name for the vCPU, handed to slot_get, slot_put and unpark; at most one call per vCPU at once.
 * Return: see enum ivc_verdict. From a thread that is not registered: DONE with IVC_E_PERM. From inside an op: DONE with
 *         IVC_E_DEADLK.
 * Context: registered thread; sleeps only on the VM's control mutex and inside ops. WAIT never sleeps: it parks.
 */
IVC_API enum ivc_verdict ivc_hv_hypercall(struct ivc_vm *vm, void *vcpu, struct ivc_call *call);

/**
 * ivc_hv_park_end - the host ends a parked call: deadline (IVC_E_TIMEDOUT), pause or stop (IVC_E_INTR).
 * call->result becomes @why, or what came first: a bell that won counts. No unpark comes after the return; one that won
 * may have come before.
 */
IVC_API void ivc_hv_park_end(struct ivc_vm *vm, void *vcpu, struct ivc_call *call, int why);

/**
 * ivc_hv_window_access - an exit for an access of @bytes (1 to 64) at @at that no mapping answers.
 * Return: true: inside the VM's window; a read got all ones in @data, a write is dropped, both are counted.
 *         false: not ours, nothing done.
 */
IVC_API bool ivc_hv_window_access(struct ivc_vm *vm, ivc_gpa_t at, bool write, void *data, uint32_t bytes);

/**
 * ivc_hv_doorbell - a store of @value to the doorbell page that no direct bell has taken: bits 8-31 index of a handle,
 * bits 0-7 the target seat, 0xff: every peer. Rings as BELL does; where BELL would answer an error nobody is rung, and it
 * is counted as a stray write: a store has no answer.
 * Context: registered thread, not from inside an op: else nothing happens; no sleep.
 */
IVC_API void ivc_hv_doorbell(struct ivc_vm *vm, uint32_t value);

/**
 * ivc_hv_view_done - the end of a map or close that answered IVC_LATER. @status as the op would have returned.
 * Context: any registered thread that is not inside the core, no lock held; exactly once per token. Also for a VM that has
 *          died meanwhile: the host answers all it owes (map: IVC_E_SHUTDOWN, close: 0) before or while it detaches
 *          the VM, and later ops for it at once. May call op close and op doorbell.
 */
IVC_API void ivc_hv_view_done(void *token, int status);

/**
 * ivc_hv_thread_enter, ivc_hv_thread_leave - a thread that calls the registry is known to its RCU. Both may nest; leave
 * before the thread ends. A registered thread may sleep anywhere outside the core.
 * Return: 0; a later version may refuse.
 */
IVC_API int ivc_hv_thread_enter(void);
IVC_API void ivc_hv_thread_leave(void);

/* What of the hypervisor as a whole call 0 and 1 have changed. */
enum ivc_hv_phase {
	IVC_HV_RUN = 0,
	IVC_HV_PREPARED = 1, /* no new publish, subscribe or attach; channels go on */
	IVC_HV_OFF = 2       /* every channel is revoked; final */
};
IVC_API enum ivc_hv_phase ivc_hv_phase(const struct ivc_hv *hv);

#ifdef __cplusplus
}
#endif
#endif
