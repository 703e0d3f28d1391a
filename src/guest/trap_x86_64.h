/* SPDX-License-Identifier: MIT */
/*
 * The trap of x86_64: which of four instructions reaches the hypervisor, found by CPUID, and how the registers are
 * loaded for it. It knows no call.
 * Source: docs/abi.md 2.
 */
#ifndef IVC_GUEST_TRAP_X86_64_H
#define IVC_GUEST_TRAP_X86_64_H

struct ivc_cpuid_ {
	uint32_t a, b, c, d;
};

static inline struct ivc_cpuid_ ivc_cpuid_at_(uint32_t leaf)
{
	struct ivc_cpuid_ out;

	__asm__ __volatile__("cpuid" : "=a"(out.a), "=b"(out.b), "=c"(out.c), "=d"(out.d) : "a"(leaf), "c"(0));
	return out;
}

static inline uint32_t ivc_four_(const char *text)
{
	return (uint32_t)(uint8_t)text[0] | (uint32_t)(uint8_t)text[1] << 8 | (uint32_t)(uint8_t)text[2] << 16 |
	       (uint32_t)(uint8_t)text[3] << 24;
}

/* Of what our leaf offers; the port first: it needs no mapping and is right on both vendors. */
static inline int ivc_trap_pick_(struct ivc_trap_way *way, struct ivc_cpuid_ id)
{
	const uint64_t page = (uint64_t)id.d << 32 | id.c;

	if ((id.b & IVC_X86_TRAP_PORT) != 0) {
		way->kind = IVC_X86_TRAP_PORT;
	} else if ((id.b & IVC_X86_TRAP_VMCALL) != 0) {
		way->kind = IVC_X86_TRAP_VMCALL;
	} else if ((id.b & IVC_X86_TRAP_VMMCALL) != 0) {
		way->kind = IVC_X86_TRAP_VMMCALL;
	} else if ((id.b & IVC_X86_TRAP_PAGE) != 0 && page != 0) {
		way->kind = IVC_X86_TRAP_PAGE;
		way->page = page;
	} else {
		return IVC_E_NODEV;
	}
	return 0;
}

/*
 * Return: 0; IVC_E_NODEV: CPUID shows no hypervisor at all, where vmcall would fault, or ours without a trap that is
 * known here. Without our signature it is AxVisor or a stranger, which FEATURES tells apart.
 */
static inline int ivc_trap_find_(struct ivc_trap_way *way)
{
	static const char signature[] = IVC_X86_SIGNATURE;
	struct ivc_cpuid_ id = ivc_cpuid_at_(1);
	uint32_t k;

	if ((id.c & (1u << 31)) == 0) {
		return IVC_E_NODEV;
	}
	for (k = 0; k < 0x100; k++) {
		const uint32_t leaf = IVC_X86_CPUID_BASE + 0x100 * k;

		id = ivc_cpuid_at_(leaf);
		if (id.b != ivc_four_(signature) || id.c != ivc_four_(signature + 4) ||
		    id.d != ivc_four_(signature + 8)) {
			continue;
		}
		return ivc_trap_pick_(way, ivc_cpuid_at_(leaf + 1));
	}
	id = ivc_cpuid_at_(0);
	if ((id.b == ivc_four_("Auth") && id.d == ivc_four_("enti") && id.c == ivc_four_("cAMD")) ||
	    (id.b == ivc_four_("Hygo") && id.d == ivc_four_("nGen") && id.c == ivc_four_("uine"))) {
		way->kind = IVC_X86_TRAP_VMMCALL;
	} else {
		way->kind = IVC_X86_TRAP_VMCALL;
	}
	return 0;
}

/* The argument registers are named as changed too: not every hypervisor below keeps them. */
#define IVC_TRAP_REGS_                                                                                                 \
	: "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+c"(rcx), "+r"(r8), "+r"(r9), "+r"(r10)                         \
	:                                                                                                              \
	: "r11", "cc", "memory"

static inline int64_t ivc_trap_(uint32_t kind, volatile uint32_t *page, const struct ivc_regs *regs)
{
	uint64_t rax = regs->nr;
	uint64_t rdi = regs->arg[0];
	uint64_t rsi = regs->arg[1];
	uint64_t rdx = regs->arg[2];
	uint64_t rcx = regs->arg[3];
	register uint64_t r8 __asm__("r8") = regs->arg[4];
	register uint64_t r9 __asm__("r9") = regs->arg[5];
	register uint64_t r10 __asm__("r10") = (uint64_t)(uintptr_t)page;

	switch (kind) {
	case IVC_X86_TRAP_PORT:
		__asm__ __volatile__("outl %%eax, $0xB8" IVC_TRAP_REGS_);
		break;
	case IVC_X86_TRAP_PAGE:
		__asm__ __volatile__("movl %%eax, (%%r10)" IVC_TRAP_REGS_);
		break;
	case IVC_X86_TRAP_VMMCALL:
		__asm__ __volatile__("vmmcall" IVC_TRAP_REGS_);
		break;
	default:
		__asm__ __volatile__("vmcall" IVC_TRAP_REGS_);
		break;
	}
	return (int64_t)rax;
}

#undef IVC_TRAP_REGS_
#endif
