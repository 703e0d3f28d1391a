/* SPDX-License-Identifier: MIT */
/*
 * Which way to the hypervisor a guest finds, in three images that differ in how the machine starts them. It prints
 * what it saw, a word and a number per line, and judges nothing.
 */
#ifndef IVC_TESTS_TRAP_H
#define IVC_TESTS_TRAP_H

#include <ivc/bare.h>

static struct ivc_guest trap_guest;

static inline void trap_cpuid(uint32_t leaf, uint32_t out[4])
{
	__asm__ __volatile__("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(0));
}

static inline uint32_t trap_four(const char *text)
{
	return (uint32_t)(uint8_t)text[0] | (uint32_t)(uint8_t)text[1] << 8 | (uint32_t)(uint8_t)text[2] << 16 |
	       (uint32_t)(uint8_t)text[3] << 24;
}

/* The trap kinds and the page that CPUID offers. */
static inline void trap_leaves(void)
{
	uint32_t k, id[4];

	for (k = 0; k < 0x100; k++) {
		trap_cpuid(IVC_X86_CPUID_BASE + 0x100 * k, id);
		if (id[1] == trap_four("IVCh") && id[2] == trap_four("yper") && id[3] == trap_four("__v1")) {
			trap_cpuid(IVC_X86_CPUID_BASE + 0x100 * k + 1, id);
			ivc_bare_print("leaf %u\nkinds %u\npage %lu\n", k, id[1],
				       (unsigned long)((uint64_t)id[3] << 32 | id[2]));
			return;
		}
	}
}

/* FEATURES by the instruction that the CPU's vendor has for it, whatever CPUID says. */
static inline int64_t trap_raw(void)
{
	int64_t rax = (int64_t)IVC_HC_FEATURES;
	uint32_t id[4];

	trap_cpuid(0, id);
	if (id[1] == trap_four("Auth") || id[1] == trap_four("Hygo")) {
		__asm__ __volatile__("vmmcall"
				     : "+a"(rax)
				     : "b"(0), "c"(0), "d"(0), "S"(0), "D"(0)
				     : "r8", "r9", "r10", "r11", "cc", "memory");
	} else {
		__asm__ __volatile__("vmcall"
				     : "+a"(rax)
				     : "b"(0), "c"(0), "d"(0), "S"(0), "D"(0)
				     : "r8", "r9", "r10", "r11", "cc", "memory");
	}
	return rax;
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	struct ivc_guest_facts facts;
	uint64_t ring;
	int status;

	(void)vcpu;
	__asm__ __volatile__("mov %%cs, %0" : "=r"(ring));
	ivc_bare_print("ring %u\n", (unsigned int)(ring & 3));
	trap_leaves();
	status = ivc_guest_init(&trap_guest, ivc_bare_env());
	ivc_bare_print("init %d\n", status);
	if (status) {
		return 1;
	}
	ivc_guest_info(&trap_guest, &facts);
	ivc_bare_print("vm %u\nours %u\n", facts.vm.v, (facts.features & IVC_FEATURE_IVC) != 0);
	if (m->arg[0] == 'r') {
		ivc_bare_print("raw %ld\n", (long)trap_raw());
	}
	return 0;
}

#endif
