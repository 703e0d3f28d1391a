/* SPDX-License-Identifier: MIT */
/*
 * What a VM may still do, and what it holds. It decides when a VM is given up; it ends no channel.
 */
#include "vm.h"

#include "chan.h"
#include "rcu.h"

bool ivc_vm_close(struct ivc_hvm *vm)
{
	if (ivc_load_acquire_u32(&vm->state) == IVC_VM_DYING) {
		return false;
	}
	/* [VM-DOWN] the state, then look who is in; both sequentially consistent. Partner: ivc_vm_enter(). */
	ivc_store_seq_u32(&vm->state, IVC_VM_DYING);
	return true;
}

void ivc_vm_drain(struct ivc_hvm *vm)
{
	uint32_t turn = 0;

	while (ivc_load_seq_u32(&vm->inflight) != 0) {
		ivc_wait_turn(&vm->hv->waiter, turn++);
	}
}

void ivc_vm_fail(struct ivc_hvm *vm)
{
	uint32_t alive = IVC_VM_ALIVE;

	if (ivc_compare_exchange_u32(&vm->state, &alive, IVC_VM_FAILED) && vm->hv->ops.failed != NULL) {
		vm->hv->ops.failed(vm->host);
	}
}

int ivc_vm_charge(struct ivc_hvm *vm, uint64_t bytes)
{
	const uint64_t charged = ivc_load_acquire_u64(&vm->charged);
	const uint64_t limit = vm->config.quota.bytes;

	/* Others only lower it meanwhile: the control lock's holder alone raises it. */
	if (charged > limit || bytes > limit - charged) {
		return IVC_E_DQUOT;
	}
	(void)ivc_fetch_add_u64(&vm->charged, bytes);
	return 0;
}

void ivc_vm_uncharge(struct ivc_hvm *vm, uint64_t bytes)
{
	(void)ivc_fetch_sub_u64(&vm->charged, bytes);
}

/* Slots are pointers that readers follow; the accessors know 64-bit words, so they are kept as such. */
static volatile uint64_t *slot_word(const struct ivc_hvm *vm, uint32_t slot)
{
	_Static_assert(sizeof(struct ivc_member *) == sizeof(uint64_t), "64-bit hosts only");
	return (volatile uint64_t *)(void *)&vm->member[slot];
}

struct ivc_member *ivc_vm_slot_get(const struct ivc_hvm *vm, uint32_t slot)
{
	/* [VM-SLOT] acquire: the slot, then the member. Partner: ivc_vm_slot_set(). */
	return (struct ivc_member *)(uintptr_t)ivc_load_acquire_u64(slot_word(vm, slot));
}

uint32_t ivc_vm_slot_find(const struct ivc_hvm *vm)
{
	for (uint32_t slot = 0; slot < vm->slots; slot++) {
		if (ivc_vm_slot_get(vm, slot) == NULL) {
			return slot;
		}
	}
	return IVC_VM_SLOT_NONE;
}

void ivc_vm_slot_set(struct ivc_hvm *vm, uint32_t slot, struct ivc_member *member)
{
	/* A bell of the slot's last user may have left its bit. */
	(void)ivc_fetch_and_u64(&vm->pending[slot / 64], ~(UINT64_C(1) << slot % 64));
	/* [VM-SLOT] release: the member, then the slot. Partner: ivc_vm_slot_get(). */
	ivc_store_release_u64(slot_word(vm, slot), (uint64_t)(uintptr_t)member);
}

void ivc_vm_slot_clear(struct ivc_hvm *vm, uint32_t slot)
{
	ivc_store_release_u64(slot_word(vm, slot), 0);
}
