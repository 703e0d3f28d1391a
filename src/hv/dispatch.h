/* SPDX-License-Identifier: MIT */
/*
 * A trapped call from registers to result: copy in once, check, act, copy out. It decides the order of checks of
 * docs/abi.md; it owns no state.
 */
#ifndef IVC_HV_DISPATCH_H
#define IVC_HV_DISPATCH_H

#include "vm.h"

enum ivc_verdict ivc_dispatch(struct ivc_hvm *vm, void *vcpu, struct ivc_call *call);

/** ivc_dispatch_end_one - ends one channel or membership of @vm as its death would. Return: 0: there is none; IVC_E_AGAIN. */
int ivc_dispatch_end_one(struct ivc_hvm *vm);

#endif
