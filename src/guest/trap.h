/* SPDX-License-Identifier: MIT */
/*
 * Picks the trap file of the architecture. Each of them gives the same two functions and is the only place that knows
 * the instruction: ivc_trap_find_() and ivc_trap_(). It decides nothing else.
 */
#ifndef IVC_GUEST_TRAP_H
#define IVC_GUEST_TRAP_H

#include <ivc/guest.h>

/* How to trap; only x86_64 has a choice. */
struct ivc_trap_way {
	uint32_t kind; /* IVC_X86_TRAP_*, or 1 */
	uint32_t reserved;
	uint64_t page; /* guest-physical address of the trap page */
};

#if defined(__x86_64__)
#include "trap_x86_64.h"
#elif defined(__aarch64__)
#include "trap_aarch64.h"
#elif defined(__riscv) && __riscv_xlen == 64
#include "trap_riscv64.h"
#elif defined(__loongarch64)
#include "trap_loongarch64.h"
#else

/* No instruction is known here: ivc_env.trap is the only way. */
static inline int ivc_trap_find_(struct ivc_trap_way *way)
{
	(void)way;
	return IVC_E_NODEV;
}

static inline int64_t ivc_trap_(uint32_t kind, volatile uint32_t *page, const struct ivc_regs *regs)
{
	(void)kind;
	(void)page;
	(void)regs;
	return IVC_E_NOSYS;
}
#endif
#endif
