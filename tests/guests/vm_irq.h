/* SPDX-License-Identifier: MIT */
/* What the guests vm_irq3 and vm_irq0 do: say how many interrupts have come, until there are enough, or for ever. */
#ifndef IVC_TESTS_VM_IRQ_H
#define IVC_TESTS_VM_IRQ_H

#include <ivc/atomic.h>
#include <ivc/bare.h>

#define VM_IRQ_ENOUGH 50u

static volatile uint32_t handled;

static void on_interrupt(void)
{
	handled++;
}

static inline int vm_irq_run(uint32_t vcpu, bool halts)
{
	uint64_t told = 0;

	if (vcpu != 0) {
		return 0;
	}
	ivc_bare_interrupts(on_interrupt);
	ivc_bare_print("ready\n");
	for (;;) {
		uint64_t seen;

		if (halts) {
			__asm__ __volatile__("cli" : : : "memory"); /* what comes from here on ends the halt below */
		}
		seen = ivc_bare_interrupts_seen();
		if (seen != told) {
			told = seen;
			ivc_bare_print("seen %lu.\n", seen);
		}
		if (seen >= VM_IRQ_ENOUGH) {
			return handled == seen ? 0 : 1;
		}
		if (halts) { /* sti takes effect behind the hlt */
			__asm__ __volatile__("sti\n\thlt" : : : "memory");
		} else {
			ivc_cpu_relax();
		}
	}
}

#endif
