/* SPDX-License-Identifier: MIT */
/*
 * The trap of aarch64: hvc #0, number in x0, arguments in x1 to x6, result in x0. It knows no call.
 * Source: docs/abi.md 2.
 */
#ifndef IVC_GUEST_TRAP_AARCH64_H
#define IVC_GUEST_TRAP_AARCH64_H

/* EL1 cannot ask whether there is an EL2; the caller of ivc_guest_init() knows. */
static inline int ivc_trap_find_(struct ivc_trap_way *way)
{
	way->kind = 1;
	return 0;
}

static inline int64_t ivc_trap_(uint32_t kind, volatile uint32_t *page, const struct ivc_regs *regs)
{
	register uint64_t x0 __asm__("x0") = regs->nr;
	register uint64_t x1 __asm__("x1") = regs->arg[0];
	register uint64_t x2 __asm__("x2") = regs->arg[1];
	register uint64_t x3 __asm__("x3") = regs->arg[2];
	register uint64_t x4 __asm__("x4") = regs->arg[3];
	register uint64_t x5 __asm__("x5") = regs->arg[4];
	register uint64_t x6 __asm__("x6") = regs->arg[5];

	(void)kind;
	(void)page;
	/* A hypervisor that takes it for an SMCCC call may change x1 to x17. */
	__asm__ __volatile__("hvc #0"
			     : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3), "+r"(x4), "+r"(x5), "+r"(x6)
			     :
			     : "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "cc",
			       "memory");
	return (int64_t)x0;
}
#endif
