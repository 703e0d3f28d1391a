/* SPDX-License-Identifier: MIT */
/*
 * The machine that the small VMM (`ivc vm run`) gives a guest on x86_64: where memory and devices are, how a guest starts,
 * speaks and ends. Wire between VMM and guest image, owned by neither; docs/machine.md is the same in words. It knows
 * no channel: those are in ivc/abi.h.
 *
 * A guest is a static ELF64 executable for x86_64. It starts in 64-bit mode at its entry point on every vCPU:
 *	rdi	address of struct ivc_machine
 *	rsi	number of the vCPU, from 0
 *	rsp	top of a stack of its own, aligned as at a call
 * Every address below IVC_MACHINE_WINDOW + its bytes is mapped one to one, for ring 3 too. SSE is on, AVX where KVM offers
 * it. Interrupts are off, except for a guest in ring 3 that takes them. Without a note the guest starts in ring 3 with I/O privilege and has no interrupts.
 */
#ifndef IVC_MACHINE_H
#define IVC_MACHINE_H

#include <ivc/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Physical addresses. RAM is from 0 on; images may use 1 MiB and above, below is the VMM's and stays mapped. */
#define IVC_MACHINE_IMAGE_FIRST  UINT64_C(0x100000)
#define IVC_MACHINE_RAM_LAST     UINT64_C(0xbfffffff)
#define IVC_MACHINE_PAGE         UINT64_C(0xc0000000) /* device page, below */
#define IVC_MACHINE_DOORBELL     UINT64_C(0xc0001000) /* doorbell page, where VM_INFO tells it */
#define IVC_MACHINE_APIC         UINT64_C(0xfee00000) /* local APIC, enabled where the guest takes interrupts */
#define IVC_MACHINE_WINDOW       UINT64_C(0x100000000)
#define IVC_MACHINE_WINDOW_BYTES UINT64_C(0x400000000)

/*
 * Tables of the CPU in RAM, loaded on every vCPU at start; the guest may write them. A guest in ring 3 takes the IVC
 * interrupt by a gate of its own at IVC_MACHINE_IDT + 16 * vector, before its first channel: its interrupts are on from
 * the start. The handler runs in ring 0 on a stack of the machine's. No gate is present at first.
 */
#define IVC_MACHINE_GDT UINT64_C(0x2000)
#define IVC_MACHINE_IDT UINT64_C(0x4000) /* 256 gates of 16 bytes */
#define IVC_MACHINE_CS0 0x08u            /* selectors: code and data of ring 0 ... */
#define IVC_MACHINE_SS0 0x10u
#define IVC_MACHINE_CS3 0x33u /* ... and ring 3 */
#define IVC_MACHINE_SS3 0x2bu

/*
 * Devices: a port, and a place in the device page. A store of 8 bytes to the console's place is one exit; bytes to its
 * port are one each, also with `rep outsb`.
 */
#define IVC_MACHINE_PORT_CONSOLE 0xe9 /* out: bytes of text, shown line by line */
#define IVC_MACHINE_PORT_EXIT    0xf4 /* out, 4 bytes: the VM ends with this exit code */
#define IVC_MACHINE_PORT_STOP    0xf5 /* out, 4 bytes: this vCPU has nothing more to do; the others go on */
#define IVC_MACHINE_PORT_SERVICE 0xf6 /* out, 4 bytes: asks whoever runs the VM; see below */

#define IVC_MACHINE_AT_TRAP    0x000 /* 4-byte store: hypercall, as docs/abi.md 2 says of the trap page */
#define IVC_MACHINE_AT_CONSOLE 0x100 /* store of 1, 2, 4 or 8 bytes of text; zero bytes are left out */
#define IVC_MACHINE_AT_EXIT    0x200 /* 4-byte store */
#define IVC_MACHINE_AT_SERVICE 0x300 /* 4-byte store */
#define IVC_MACHINE_AT_STOP    0x400 /* 4-byte store */

/*
 * Service: eax = what is asked, rdi = address of a buffer in RAM, rsi = its bytes; the answer replaces rax. What the numbers
 * mean is between the guest and the program that runs it; without one: IVC_E_NOSYS.
 */

/* A note in the image changes how it starts: ELF note, owner "IVC", type 1, two words. */
#define IVC_MACHINE_NOTE_OWNER "IVC"
#define IVC_MACHINE_NOTE_TYPE  1u

#define IVC_MACHINE_RING0      (1u << 0) /* word 0: start in ring 0 */
#define IVC_MACHINE_INTERRUPTS (1u << 1) /* word 0: the guest takes the IVC interrupt; word 1: its vector, 32 to 254 */

/*
 * With IVC_MACHINE_INTERRUPTS the machine has local APICs, VM_INFO tells vector and doorbell page, and CPUID offers the trap
 * page alone: KVM's emulation of iretq may lose the I/O privilege of ring 3. The interrupt goes to vCPU 0.
 */

#define IVC_MACHINE_MAGIC UINT32_C(0x4d435649) /* "IVCM" */

struct ivc_machine {
	uint32_t magic;
	uint32_t bytes;      /* of this struct; later ones are longer */
	uint64_t vm;         /* VM id */
	uint64_t ram_bytes;  /* RAM is 0 to this */
	uint64_t ram_free;   /* first byte behind the image, page aligned: free up to ram_stacks */
	uint64_t ram_stacks; /* the stacks are from here to the end of RAM */
	uint32_t vcpus;
	uint32_t flags;  /* IVC_MACHINE_* as the note asked */
	uint64_t tsc_hz; /* of rdtsc, 0: unknown */
	uint64_t random; /* differs from start to start */
	char arg[192];   /* --arg, zero terminated */
};
IVC_ABI_ASSERT_(sizeof(struct ivc_machine) == 256, "docs/machine.md");
IVC_ABI_ASSERT_(offsetof(struct ivc_machine, arg) == 64, "docs/machine.md");

#ifdef __cplusplus
}
#endif
#endif
