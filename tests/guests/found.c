/* SPDX-License-Identifier: MIT */
/*
 * Ends with the trap that the guest library has found, or with FOUND_ERROR and the error; says nothing, so that it runs
 * where there is no console. It knows no channel.
 */
#include "found.h"

#include <ivc/bare.h>

static struct ivc_guest guest;

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	const int err = ivc_guest_init(&guest, ivc_bare_env());

	(void)m;
	(void)vcpu;
	return err != 0 ? FOUND_ERROR - err : (int)guest.trap_;
}
