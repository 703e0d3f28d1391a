/* SPDX-License-Identifier: MIT */
/*
 * The trap of riscv64: ecall with our extension in a7, number in a6, arguments in a0 to a5, result in a0. It knows no
 * call.
 * Source: docs/abi.md 2.
 */
#ifndef IVC_GUEST_TRAP_RISCV64_H
#define IVC_GUEST_TRAP_RISCV64_H

/* A supervisor without a hypervisor reaches its SBI, which answers a negative number: FEATURES tells. */
static inline int ivc_trap_find_(struct ivc_trap_way *way)
{
	way->kind = 1;
	return 0;
}

static inline int64_t ivc_trap_(uint32_t kind, volatile uint32_t *page, const struct ivc_regs *regs)
{
	register uint64_t a0 __asm__("a0") = regs->arg[0];
	register uint64_t a1 __asm__("a1") = regs->arg[1];
	register uint64_t a2 __asm__("a2") = regs->arg[2];
	register uint64_t a3 __asm__("a3") = regs->arg[3];
	register uint64_t a4 __asm__("a4") = regs->arg[4];
	register uint64_t a5 __asm__("a5") = regs->arg[5];
	register uint64_t a6 __asm__("a6") = regs->nr;
	register uint64_t a7 __asm__("a7") = IVC_RISCV_EXT;

	(void)kind;
	(void)page;
	/* An SBI writes a1 as well. */
	__asm__ __volatile__("ecall"
			     : "+r"(a0), "+r"(a1)
			     : "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a6), "r"(a7)
			     : "memory");
	return (int64_t)a0;
}
#endif
