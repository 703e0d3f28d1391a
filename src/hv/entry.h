/* SPDX-License-Identifier: MIT */
/*
 * What every kind of struct ivc_vm has in common: the functions that an exit loop calls. The registry has one kind, the
 * port has another; a VMM cannot tell them apart. It knows neither.
 */
#ifndef IVC_HV_ENTRY_H
#define IVC_HV_ENTRY_H

#include <ivc/hv.h>

struct ivc_vm_entry {
	enum ivc_verdict (*hypercall)(struct ivc_vm *vm, void *vcpu, struct ivc_call *call);
	void (*park_end)(struct ivc_vm *vm, void *vcpu, struct ivc_call *call, int why);
	bool (*window_access)(struct ivc_vm *vm, ivc_gpa_t at, bool write, void *data, uint32_t bytes);
	void (*doorbell)(struct ivc_vm *vm, uint32_t value);
	int (*reset)(struct ivc_vm *vm);
	int (*detach)(struct ivc_vm *vm);
	void (*stats)(const struct ivc_vm *vm, struct ivc_vm_stats *out);
};

/* First member of every implementation's own struct. */
struct ivc_vm {
	const struct ivc_vm_entry *entry; /* const after attach */
};

#endif
