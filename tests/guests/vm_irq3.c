/* SPDX-License-Identifier: MIT */
/* Takes interrupts in ring 3. */
#include "vm_irq.h"

IVC_BARE_NOTE(IVC_MACHINE_INTERRUPTS, 0x61);

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	(void)m;
	return vm_irq_run(vcpu, false);
}
