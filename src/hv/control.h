/* SPDX-License-Identifier: MIT */
/*
 * Calls 0-2: what a privileged VM may do to the hypervisor as a whole. It decides the phases RUN, PREPARED, OFF.
 */
#ifndef IVC_HV_CONTROL_H
#define IVC_HV_CONTROL_H

#include "vm.h"

/** ivc_control_call - @nr 0 to 2. Return: 0; IVC_E_PERM, OPNOTSUPP, BUSY, AGAIN, or what op control refuses with. */
int ivc_control_call(struct ivc_hvm *vm, uint64_t nr, uint64_t op, uint64_t arg);

/** ivc_control_open - new publications, subscriptions and VMs are still let in. */
static inline bool ivc_control_open(const struct ivc_hv *hv)
{
	return ivc_load_acquire_u32(&hv->phase) == IVC_HV_RUN;
}

#endif
