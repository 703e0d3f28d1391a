/* SPDX-License-Identifier: MIT */
/*
 * The trap of loongarch64: hvcl 0, number in a0, arguments in a1 to a6, result in a0. It knows no call.
 * Source: docs/abi.md 2.
 */
#ifndef IVC_GUEST_TRAP_LOONGARCH64_H
#define IVC_GUEST_TRAP_LOONGARCH64_H

/* A guest cannot ask whether there is a hypervisor; the caller of ivc_guest_init() knows. */
static inline int ivc_trap_find_(struct ivc_trap_way *way)
{
	way->kind = 1;
	return 0;
}

static inline int64_t ivc_trap_(uint32_t kind, volatile uint32_t *page, const struct ivc_regs *regs)
{
	register uint64_t a0 __asm__("$a0") = regs->nr;
	register uint64_t a1 __asm__("$a1") = regs->arg[0];
	register uint64_t a2 __asm__("$a2") = regs->arg[1];
	register uint64_t a3 __asm__("$a3") = regs->arg[2];
	register uint64_t a4 __asm__("$a4") = regs->arg[3];
	register uint64_t a5 __asm__("$a5") = regs->arg[4];
	register uint64_t a6 __asm__("$a6") = regs->arg[5];

	(void)kind;
	(void)page;
	/* hvcl 0, as a word: older assemblers do not know the virtualization extension. */
	__asm__ __volatile__(".word 0x002b8000"
			     : "+r"(a0)
			     : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a6)
			     : "$t0", "$t1", "$t2", "$t3", "$t4", "$t5", "$t6", "$t7", "$t8", "memory");
	return (int64_t)a0;
}
#endif
