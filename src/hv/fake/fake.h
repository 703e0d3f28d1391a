/* SPDX-License-Identifier: MIT */
/*
 * A host in one process for tests, fuzzers and micro-benchmarks: guest RAM is an array, a window is a table of views,
 * and every op is checked against its contract, recorded, and failed on request. It knows nothing of channels and
 * never calls the registry; what a caller may do with the registry is not decided here.
 *
 * Concurrency: the ops are thread-safe as platform.h asks. Of the rest, the functions that set something up (create,
 * vm_new, fail, hook, later) run while no op does; everything else may run at any time.
 */
#ifndef IVC_HV_FAKE_FAKE_H
#define IVC_HV_FAKE_FAKE_H

#include <ivc/platform.h>

struct ivc_fake;
struct ivc_fake_vm;

#define IVC_FAKE_VCPUS 4u /* of every VM */

/* The `vcpu` of the ops. */
struct ivc_fake_vcpu {
	struct ivc_fake_vm *vm;
	uint32_t index;
	uint32_t unparks; /* atomic: how often it was unparked */
};

enum ivc_fake_op {
	IVC_FAKE_ANY, /* in ivc_fake_fail() and ivc_fake_count(): every op that can fail */
	IVC_FAKE_MEM_NEW,
	IVC_FAKE_MAP,
	IVC_FAKE_CLOSE,
	IVC_FAKE_UNMAP,
	IVC_FAKE_SLOT_GET,
	IVC_FAKE_CONTROL,
	IVC_FAKE_DOORBELL,
	IVC_FAKE_MEM_FREE, /* from here on: cannot fail */
	IVC_FAKE_SLOT_PUT,
	IVC_FAKE_BELL,
	IVC_FAKE_UNPARK,
	IVC_FAKE_BARRIER,
	IVC_FAKE_RELAX,
	IVC_FAKE_FAILED,
	IVC_FAKE_LOG,
	IVC_FAKE_DOORBELL_OFF,
	IVC_FAKE_OPS
};

/* One op as it was recorded. Fields that an op does not have are zero. */
struct ivc_fake_entry {
	enum ivc_fake_op op;
	uint32_t vm; /* id */
	uint64_t
		at; /* GPA; of bell: the handle; of control: the call number; of doorbell: the value, `mem`: whom it rings */
	uint64_t bytes;
	uint64_t mem; /* serial number of the memory */
	uint32_t access;
	int result;
};

struct ivc_fake_ram {
	uint64_t at;
	uint64_t bytes;
	bool read_only;
};

/* One view as ivc_fake_views() tells it. */
struct ivc_fake_view {
	uint64_t at;
	uint64_t bytes;
	uint64_t mem;     /* serial number; 0: closed */
	uint32_t access;  /* enum ivc_access */
	uint32_t kind;    /* enum ivc_mem_kind; of a closed view: of what it showed */
	uint32_t unknown; /* 1: an unmap or close of it failed */
	uint32_t zero;
};

#define IVC_FAKE_QUIET (1u << 0) /* no record, no canary: for benches */

/** ivc_fake_create - a host without VMs, windows cut in granules of 1 << @granule_log2. Return: NULL without memory. */
struct ivc_fake *ivc_fake_create(uint32_t granule_log2, uint32_t flags);

/** ivc_fake_destroy - frees everything, also memory that the core kept. */
void ivc_fake_destroy(struct ivc_fake *fake);

/** ivc_fake_ops - the ops; their `host` is a struct ivc_fake, their `vm` a struct ivc_fake_vm. */
const struct ivc_plat_ops *ivc_fake_ops(void);

/**
 * ivc_fake_vm_new - a VM with RAM pieces and a window. It lives until ivc_fake_destroy().
 * Return: NULL without memory.
 */
struct ivc_fake_vm *ivc_fake_vm_new(struct ivc_fake *fake, uint32_t id, uint64_t window, uint64_t window_bytes,
				    const struct ivc_fake_ram *ram, uint32_t rams);

/** ivc_fake_ram_protect - piece @index of the VM's RAM becomes read-only, or writable again. */
void ivc_fake_ram_protect(struct ivc_fake_vm *vm, uint32_t index, bool read_only);

/** ivc_fake_vm_kill - the VM's address space is gone: maps answer IVC_E_SHUTDOWN, unmap and close 0. */
void ivc_fake_vm_kill(struct ivc_fake_vm *vm);

/** ivc_fake_vm_retire - the registry has let go of the VM: an op that names it from now on is a violation. */
void ivc_fake_vm_retire(struct ivc_fake_vm *vm);

struct ivc_fake_vcpu *ivc_fake_vcpu(struct ivc_fake_vm *vm, uint32_t index);

/**
 * ivc_fake_unpark_wait - until @vcpu was unparked more than @seen times. Return: false: not within @ms milliseconds.
 */
bool ivc_fake_unpark_wait(struct ivc_fake_vcpu *vcpu, uint32_t seen, uint32_t ms);

/* Guest accesses with the VM's rights, to RAM and through the window; @bytes is 1, 2, 4 or 8 and @at aligned to it. */

/** ivc_fake_load - Return: false: a hole; *@value is then all ones. */
bool ivc_fake_load(struct ivc_fake_vm *vm, uint64_t at, uint32_t bytes, uint64_t *value);
/** ivc_fake_store - Return: false: a hole or not writable; nothing changed. */
bool ivc_fake_store(struct ivc_fake_vm *vm, uint64_t at, uint32_t bytes, uint64_t value);
/** ivc_fake_fill - stores @value to every 8-byte word of a range. Return: false: some store was refused. */
bool ivc_fake_fill(struct ivc_fake_vm *vm, uint64_t at, uint64_t bytes, uint64_t value);
/** ivc_fake_filled - every 8-byte word of a range can be loaded and is @value. */
bool ivc_fake_filled(struct ivc_fake_vm *vm, uint64_t at, uint64_t bytes, uint64_t value);

/**
 * ivc_fake_doorbell - the VM stores @value to its doorbell page.
 * Return: true: a direct bell took it; false: none is on, the store is for ivc_hv_doorbell().
 */
bool ivc_fake_doorbell(struct ivc_fake_vm *vm, uint32_t value);

/* What was asked for. */

/** ivc_fake_count - ops of this kind so far; IVC_FAKE_ANY: of all kinds that can fail. */
uint64_t ivc_fake_count(const struct ivc_fake *fake, enum ivc_fake_op op);
/** ivc_fake_bells, ivc_fake_failed - how often the VM's interrupt was raised; how often it was given up. */
uint32_t ivc_fake_bells(const struct ivc_fake_vm *vm);
uint32_t ivc_fake_failed(const struct ivc_fake_vm *vm);
/** ivc_fake_log_count, ivc_fake_log_get - the record; it keeps the last 4096 ops. Return: false: not kept. */
uint64_t ivc_fake_log_count(const struct ivc_fake *fake);
bool ivc_fake_log_get(const struct ivc_fake *fake, uint64_t index, struct ivc_fake_entry *out);
/** ivc_fake_views - the VM's views, ordered by address. Return: how many there are, also above @max. */
uint32_t ivc_fake_views(struct ivc_fake_vm *vm, struct ivc_fake_view *out, uint32_t max);
/** ivc_fake_mems, ivc_fake_mem_bytes - memory that mem_new gave and mem_free has not taken back. */
uint32_t ivc_fake_mems(struct ivc_fake *fake);
uint64_t ivc_fake_mem_bytes(struct ivc_fake *fake);
/** ivc_fake_doorbells - direct bells that are on; with @vm only those that it rings or hears. */
uint32_t ivc_fake_doorbells(struct ivc_fake *fake, const struct ivc_fake_vm *vm);
/** ivc_fake_doorbell_to - id of the VM that a store of @value by @vm rings directly. Return: false: none. */
bool ivc_fake_doorbell_to(struct ivc_fake_vm *vm, uint32_t value, uint32_t *to);
/** ivc_fake_pins - slots that were got and not put. */
uint32_t ivc_fake_pins(const struct ivc_fake *fake);
/** ivc_fake_depth - how many ops the calling thread is inside of. */
uint32_t ivc_fake_depth(void);

/** ivc_fake_violations - breaches of the contract by the core; @text (optional): the first one. */
uint32_t ivc_fake_violations(const struct ivc_fake *fake, const char **text);

/* How the host behaves. */

/**
 * ivc_fake_fail - the @nth op of kind @op from now on (1 is the next one) fails with @code, and @times - 1 more after
 * it. A failed unmap or close leaves its view in place. slot_get answers NULL whatever @code is. @times 0 ends it.
 */
void ivc_fake_fail(struct ivc_fake *fake, enum ivc_fake_op op, uint64_t nth, uint64_t times, int code);
/** ivc_fake_fail_vm - the same for ops that name @vm only; NULL: any. */
void ivc_fake_fail_vm(struct ivc_fake *fake, const struct ivc_fake_vm *vm);
/** ivc_fake_fail_hits - ops failed by request since the last ivc_fake_fail(). */
uint64_t ivc_fake_fail_hits(const struct ivc_fake *fake);

/** ivc_fake_hook - @fn runs at the start of every op, with no lock of the host held. NULL ends it. */
typedef void ivc_fake_hook_fn(void *arg, enum ivc_fake_op op, struct ivc_fake_vm *vm);
void ivc_fake_hook(struct ivc_fake *fake, ivc_fake_hook_fn *fn, void *arg);

/** ivc_fake_later - whether ops of @vm with a token answer IVC_LATER. */
void ivc_fake_later(struct ivc_fake_vm *vm, bool on);
/** ivc_fake_later_count - answers that are owed. */
uint32_t ivc_fake_later_count(struct ivc_fake_vm *vm);
/**
 * ivc_fake_later_take - ends the oldest pending op of @vm with *@status (0: its effect happens now); the caller hands
 * *@token and *@status to ivc_hv_view_done(). An op that an unmap or the VM's end overtook has no effect any more and
 * may change *@status. Return: false: nothing is owed.
 */
bool ivc_fake_later_take(struct ivc_fake_vm *vm, void **token, int *status);

/** ivc_fake_clock - now_ns tells @ns; 0, as at the start: the system's monotonic clock. */
void ivc_fake_clock(struct ivc_fake *fake, uint64_t ns);

/** ivc_fake_control - what op control answers. */
void ivc_fake_control(struct ivc_fake *fake, int result);

#endif
