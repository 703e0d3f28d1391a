/* SPDX-License-Identifier: MIT */
/*
 * One VM in one of its lives: identity, quota, window, and the table of the channels that it is in. It knows what a VM may
 * still do (alive, given up, dying); it knows no call.
 */
#ifndef IVC_HV_VM_H
#define IVC_HV_VM_H

#include "entry.h"
#include "gpa.h"
#include "hub.h"

#define IVC_VM_FREE   0u
#define IVC_VM_ALIVE  1u
#define IVC_VM_FAILED 2u /* an op for it left its windows unknown: its calls answer ESHUTDOWN until it is detached */
#define IVC_VM_DYING  3u /* ivc_hv_vm_detach has begun */

#define IVC_VM_SLOT_NONE UINT32_MAX

/*
 * Three groups on lines of their own: what every sender reads and hardly anyone writes; what only this VM's calls write;
 * what senders write.
 */
struct ivc_hvm {
	struct ivc_vm base;          /* first */
	struct ivc_hv *hv;           /* const after create */
	void *host;                  /* const while attached */
	uint64_t *pending;           /* const after create; atomic bits, one per slot: a bell rang, was not delivered */
	struct ivc_member **member;  /* const after create; slots: rcu, control lock to change; NULL: free slot */
	uint32_t slots;              /* const after create: length of `member` */
	uint32_t state;              /* atomic; hv->lock to leave or enter FREE */
	uint32_t parked_count;       /* atomic; changed under the park lock */
	struct ivc_vm_config config; /* const while attached */

	_Alignas(64) uint32_t inflight; /* atomic: threads inside a call of this VM */
	uint32_t channels;              /* control lock to change; atomic to read */
	uint32_t memberships;           /* control lock to change; atomic to read */
	struct ivc_lock control;
	struct ivc_gpa_window window; /* control lock */
	struct ivc_vm_stats stats;    /* atomic counters; the levels are computed, the two below are apart */

	_Alignas(64) uint64_t bells_in; /* atomic counter, and the next */
	uint64_t bells_merged;
	uint64_t charged;   /* atomic; only the control lock's holder raises it */
	uint32_t lingering; /* atomic: member records that name this VM, also those that have left and wait for the
	                        publisher's host to close its view */
	uint32_t wait_next; /* park lock: where the next look for a pending bell begins, for fairness */
	struct ivc_lock park;
	struct ivc_call *parked; /* park lock: linked by core_[] */
};

/** ivc_vm_enter - a call begins. Return: false: the VM takes no calls any more. */
static inline bool ivc_vm_enter(struct ivc_hvm *vm)
{
	/* [VM-DOWN] we are in, then look at the state; both sequentially consistent. Partner: ivc_vm_close(). */
	(void)ivc_fetch_add_seq_u32(&vm->inflight, 1);
	if (ivc_load_seq_u32(&vm->state) == IVC_VM_ALIVE) {
		return true;
	}
	(void)ivc_fetch_sub_u32(&vm->inflight, 1);
	return false;
}

/** ivc_vm_enter_failed - the same for the hypervisor's own work: a VM that was given up is entered too. */
static inline bool ivc_vm_enter_failed(struct ivc_hvm *vm)
{
	uint32_t state;

	(void)ivc_fetch_add_seq_u32(&vm->inflight, 1);
	state = ivc_load_seq_u32(&vm->state);
	if (state == IVC_VM_ALIVE || state == IVC_VM_FAILED) {
		return true;
	}
	(void)ivc_fetch_sub_u32(&vm->inflight, 1);
	return false;
}

static inline void ivc_vm_leave(struct ivc_hvm *vm)
{
	(void)ivc_fetch_sub_u32(&vm->inflight, 1);
}

/** ivc_vm_close - DYING: no call of it gets in any more. Return: false: it was so before. */
bool ivc_vm_close(struct ivc_hvm *vm);

/** ivc_vm_drain - waits until no call of it is inside. */
void ivc_vm_drain(struct ivc_hvm *vm);

static inline bool ivc_vm_alive(const struct ivc_hvm *vm)
{
	return ivc_load_acquire_u32(&vm->state) == IVC_VM_ALIVE;
}

/** ivc_vm_fail - the core gives the VM up after a failed op; once, tells the host. Any lock but a leaf may be held. */
void ivc_vm_fail(struct ivc_hvm *vm);

/**
 * ivc_vm_charge - @bytes of region memory are pinned by this VM's windows. Return: 0; IVC_E_DQUOT.
 * Context: control lock.
 */
IVC_MUST_CHECK int ivc_vm_charge(struct ivc_hvm *vm, uint64_t bytes);
void ivc_vm_uncharge(struct ivc_hvm *vm, uint64_t bytes);

/** ivc_vm_slot_find - a free slot of `member`. The quotas guarantee one. Context: control lock. */
uint32_t ivc_vm_slot_find(const struct ivc_hvm *vm);

/** ivc_vm_slot_set, ivc_vm_slot_clear - [VM-SLOT] the member, then the slot that shows it. Context: control lock. */
void ivc_vm_slot_set(struct ivc_hvm *vm, uint32_t slot, struct ivc_member *member);
void ivc_vm_slot_clear(struct ivc_hvm *vm, uint32_t slot);

/** ivc_vm_slot_get - what the slot shows, or NULL. Context: read section or control lock. */
struct ivc_member *ivc_vm_slot_get(const struct ivc_hvm *vm, uint32_t slot);

static inline void ivc_vm_count(uint64_t *counter)
{
	(void)ivc_fetch_add_u64(counter, 1);
}

#endif
