/* SPDX-License-Identifier: MIT */
/*
 * How a guest finds out: two CPUID leaves behind those of KVM. It decides where they go; it changes no leaf of the CPU
 * but the bit that tells of a hypervisor.
 */
#include "state.h"
#include <string.h>

#define LEAVES      0x100u /* from one signature to the next */
#define SIGNATURES  0x100u
#define HYPERVISOR_ (1u << 31) /* leaf 1, ecx */

/* What FEATURES answers, its low half; src/hv/dispatch.c answers the whole. */
static uint32_t features(ivc_gpa_t doorbell)
{
	return (uint32_t)(IVC_FEATURE_SECTIONED | IVC_FEATURE_REVOKE | IVC_FEATURE_BELL | IVC_FEATURE_WAIT |
			  IVC_FEATURE_VM_INFO | (doorbell.v ? IVC_FEATURE_DOORBELL : 0));
}

static bool taken(const struct kvm_cpuid2 *table, uint32_t leaf)
{
	for (uint32_t i = 0; i < table->nent; i++) {
		if (table->entries[i].function - leaf < LEAVES) {
			return true;
		}
	}
	return false;
}

int ivc_kvm_cpuid(struct kvm_cpuid2 *table, uint32_t room, uint32_t traps, ivc_gpa_t trap, ivc_gpa_t doorbell)
{
	static const char signature[] = IVC_X86_SIGNATURE;
	struct kvm_cpuid_entry2 *add = &table->entries[table->nent];
	uint32_t leaf = IVC_X86_CPUID_BASE;
	uint32_t k = 0;

	while (k < SIGNATURES && taken(table, leaf)) {
		leaf += LEAVES;
		k++;
	}
	if (k == SIGNATURES || table->nent > room || room - table->nent < 2) {
		return IVC_E_NOSPC;
	}
	memset(add, 0, 2 * sizeof(*add));
	add[0].function = leaf;
	add[0].eax = leaf + 1;
	memcpy(&add[0].ebx, signature, 4);
	memcpy(&add[0].ecx, signature + 4, 4);
	memcpy(&add[0].edx, signature + 8, 4);
	add[1].function = leaf + 1;
	add[1].eax = features(doorbell);
	add[1].ebx = traps;
	add[1].ecx = (uint32_t)trap.v;
	add[1].edx = (uint32_t)(trap.v >> 32);
	for (uint32_t i = 0; i < table->nent; i++) {
		if (table->entries[i].function == 1) {
			table->entries[i].ecx |= HYPERVISOR_;
		}
	}
	table->nent += 2;
	return 0;
}
