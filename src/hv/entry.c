/* SPDX-License-Identifier: MIT */
/*
 * The public functions on a VM, handed to the kind of VM that it is. It decides nothing.
 */
#include "entry.h"

uint32_t ivc_version(void)
{
	return IVC_VERSION;
}

enum ivc_verdict ivc_hv_hypercall(struct ivc_vm *vm, void *vcpu, struct ivc_call *call)
{
	return vm->entry->hypercall(vm, vcpu, call);
}

void ivc_hv_park_end(struct ivc_vm *vm, void *vcpu, struct ivc_call *call, int why)
{
	vm->entry->park_end(vm, vcpu, call, why);
}

bool ivc_hv_window_access(struct ivc_vm *vm, ivc_gpa_t at, bool write, void *data, uint32_t bytes)
{
	return vm->entry->window_access(vm, at, write, data, bytes);
}

void ivc_hv_doorbell(struct ivc_vm *vm, uint32_t value)
{
	vm->entry->doorbell(vm, value);
}

int ivc_hv_vm_reset(struct ivc_vm *vm)
{
	return vm->entry->reset(vm);
}

int ivc_hv_vm_detach(struct ivc_vm *vm)
{
	return vm->entry->detach(vm);
}

void ivc_hv_vm_stats(const struct ivc_vm *vm, struct ivc_vm_stats *out)
{
	vm->entry->stats(vm, out);
}
