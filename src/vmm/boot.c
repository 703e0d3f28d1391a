/* SPDX-License-Identifier: MIT */
/*
 * The machine as the guest finds it: tables in low memory, registers, CPUID, the interrupt of the bell. It decides what
 * include/ivc/machine.h promises; it runs nothing.
 */
#include "state.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#define TABLE_BITS  (UINT64_C(1) | UINT64_C(2) | UINT64_C(4)) /* present, writable, for ring 3 */
#define TABLE_LARGE (UINT64_C(1) << 7)
#define LARGE_BYTES (UINT64_C(1) << 21)
#define GIB         (UINT64_C(1) << 30)
#define REACH       (IVC_MACHINE_WINDOW + IVC_MACHINE_WINDOW_BYTES) /* mapped one to one up to here */

#define SELECTOR_TSS  0x38u /* two entries of the GDT for each vCPU */
#define GDT_BYTES     (SELECTOR_TSS + 16u * VMM_VCPUS_MAX)
#define IDT_BYTES     4096u
#define TSS_STACK0    4u
#define TSS_IO_BITMAP 102u
#define PORTS_BYTES   0x2001u /* a bit for each port, and a byte of ones behind them */

#define CR0_BITS               UINT64_C(0x80050033) /* PG AM WP NE ET MP PE */
#define CR4_BITS               UINT64_C(0x620)      /* PAE OSFXSR OSXMMEXCPT */
#define CR4_OSXSAVE            (UINT64_C(1) << 18)
#define EFER_BITS              UINT64_C(0x500) /* LME LMA */
#define FLAGS_RING0            UINT64_C(0x2)
#define FLAGS_RING3            UINT64_C(0x3002) /* I/O privilege for ring 3 */
#define FLAGS_IF               UINT64_C(0x200)
#define CPUID_XSAVE            (1u << 26)
#define CPUID_VMX              (1u << 5) /* leaf 1 ecx */
#define CPUID_SVM              (1u << 2) /* leaf 0x80000001 ecx */
#define CPUID_KVM_FEATURES     0x40000001u
#define CPUID_KVM_STABLE_CLOCK (1u << 24)
#define XCR0_USED              UINT64_C(0xe7) /* x87, SSE, AVX, AVX-512 */
#define XCR0_AVX               UINT64_C(4)
#define APIC_SVR               0xf0u
#define APIC_SVR_ON            0x1ffu
#define CPUID_ROOM             256u
#define CPUID_ROOM_MORE        4096u

static void put64(struct vmm *vm, uint64_t at, uint64_t v)
{
	memcpy(vm->ram + at, &v, sizeof(v));
}

/* Every address from 0 to REACH by 2 MiB pages: one PML4, one PDPT, a page directory for each GiB. */
static void page_tables(struct vmm *vm)
{
	const uint64_t pdpt = VMM_AT_TABLES + VMM_PAGE;
	const uint64_t directories = pdpt + VMM_PAGE;

	put64(vm, VMM_AT_TABLES, pdpt | TABLE_BITS);
	for (uint64_t g = 0; g < REACH / GIB; g++) {
		put64(vm, pdpt + 8 * g, (directories + VMM_PAGE * g) | TABLE_BITS);
	}
	for (uint64_t n = 0; n < REACH / LARGE_BYTES; n++) {
		put64(vm, directories + 8 * n, (n * LARGE_BYTES) | TABLE_BITS | TABLE_LARGE);
	}
}
_Static_assert(VMM_AT_TABLES + VMM_PAGE * (2 + REACH / GIB) <= IVC_MACHINE_IMAGE_FIRST, "tables below the image");
_Static_assert(IVC_MACHINE_GDT + GDT_BYTES <= VMM_AT_TSS, "the GDT is before the TSSs");
_Static_assert(VMM_AT_TSS + VMM_TSS_BYTES * VMM_VCPUS_MAX <= IVC_MACHINE_IDT, "the TSSs are before the IDT");
_Static_assert(VMM_AT_PORTS + PORTS_BYTES <= VMM_AT_STACKS0, "the port bitmap is before the ring-0 stacks");
_Static_assert(VMM_AT_STACKS0 + VMM_PAGE * VMM_VCPUS_MAX <= VMM_AT_TABLES, "ring-0 stacks are before the tables");

static uint64_t tss_at(uint32_t vcpu)
{
	return VMM_AT_TSS + VMM_TSS_BYTES * vcpu;
}

/* All TSSs share the bitmap behind them. */
static uint32_t tss_limit(uint32_t vcpu)
{
	return (uint32_t)(VMM_AT_PORTS + PORTS_BYTES - tss_at(vcpu) - 1);
}

/*
 * GDT, one TSS for each vCPU; the IDT stays zero: no gate is present. Ring 3 may use every port by the bitmap as well as
 * by its I/O privilege, which not every KVM keeps across an iretq or a popfq.
 */
static void cpu_tables(struct vmm *vm)
{
	put64(vm, IVC_MACHINE_GDT + IVC_MACHINE_CS0, UINT64_C(0x00af9b000000ffff));
	put64(vm, IVC_MACHINE_GDT + IVC_MACHINE_SS0, UINT64_C(0x00cf93000000ffff));
	put64(vm, IVC_MACHINE_GDT + (IVC_MACHINE_SS3 & ~7u), UINT64_C(0x00cff3000000ffff));
	put64(vm, IVC_MACHINE_GDT + (IVC_MACHINE_CS3 & ~7u), UINT64_C(0x00affb000000ffff));
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		const uint64_t tss = tss_at(i);
		const uint64_t entry = IVC_MACHINE_GDT + SELECTOR_TSS + 16u * i;
		const uint16_t ports = (uint16_t)(VMM_AT_PORTS - tss);

		put64(vm, entry,
		      tss_limit(i) | tss << 16 | UINT64_C(0x8b) << 40); /* below 1 MiB: no high address bits */
		put64(vm, tss + TSS_STACK0, VMM_AT_STACKS0 + VMM_PAGE * (i + 1));
		memcpy(vm->ram + tss + TSS_IO_BITMAP, &ports, sizeof(ports));
	}
	vm->ram[VMM_AT_PORTS + PORTS_BYTES - 1] = 0xff;
}

static uint64_t stacks_at(const struct vmm *vm)
{
	return vm->ram_bytes - VMM_STACK_BYTES * vm->vcpus;
}

/* As right after a call: the return address, zero, is on the stack, which was 16-byte aligned before. */
static uint64_t stack_top(const struct vmm *vm, uint32_t vcpu)
{
	return stacks_at(vm) + VMM_STACK_BYTES * (vcpu + 1) - 8;
}

void vmm_boot_memory(struct vmm *vm, const char *arg, uint64_t random)
{
	struct ivc_machine m = {
		.magic = IVC_MACHINE_MAGIC,
		.bytes = sizeof(m),
		.vm = vm->id.v,
		.ram_bytes = vm->ram_bytes,
		.ram_free = vm->image.end,
		.ram_stacks = stacks_at(vm),
		.vcpus = vm->vcpus,
		.flags = vm->image.flags,
		.tsc_hz = vm->tsc_hz,
		.random = random,
	};

	(void)snprintf(m.arg, sizeof(m.arg), "%s", arg ? arg : "");
	memcpy(vm->ram + VMM_AT_MACHINE, &m, sizeof(m));
	page_tables(vm);
	cpu_tables(vm);
}

static struct kvm_cpuid2 *cpuid_of_host(int kvm_fd, uint32_t room)
{
	struct kvm_cpuid2 *table = calloc(1, sizeof(*table) + room * sizeof(table->entries[0]));

	if (!table) {
		errno = ENOMEM;
		return NULL;
	}
	table->nent = room - 2; /* two more come behind it */
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, table) == 0) {
		return table;
	}
	free(table);
	return NULL;
}

int vmm_boot_cpuid(struct vmm *vm, char *why)
{
	const uint32_t traps =
		vm->image.flags & IVC_MACHINE_INTERRUPTS ? IVC_X86_TRAP_PAGE : IVC_X86_TRAP_PORT | IVC_X86_TRAP_PAGE;
	uint32_t room = CPUID_ROOM;

	vm->cpuid = cpuid_of_host(vm->kvm_fd, room);
	if (!vm->cpuid && errno == E2BIG) {
		room = CPUID_ROOM_MORE;
		vm->cpuid = cpuid_of_host(vm->kvm_fd, room);
	}
	if (!vm->cpuid) {
		return vmm_kvm_error(why, "asking for the CPUID table");
	}
	if (ivc_kvm_cpuid(vm->cpuid, room, traps, ivc_gpa(IVC_MACHINE_PAGE), ivc_gpa(vm->doorbell))) {
		(void)snprintf(why, VMM_WHY_BYTES, "no free place in the CPUID table of this machine");
		return IVC_E_NOSPC;
	}
	return 0;
}

/*
 * cpuid_set - the table for one vCPU: with its APIC id, and without what no guest of this machine needs and KVM has much
 * code for: VMs within the VM, and KVM's own interfaces. Return: the parts of XCR0 that it may use.
 */
static int cpuid_set(struct vmm_vcpu *vcpu, uint64_t *xcr0)
{
	struct kvm_cpuid2 *table = vcpu->vm->cpuid;
	bool xsave = false;

	*xcr0 = 0;
	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->entries[i];

		if (e->function == 1) {
			e->ebx = (e->ebx & 0x00ffffff) | vcpu->index << 24;
			e->ecx &= ~CPUID_VMX;
			xsave = (e->ecx & CPUID_XSAVE) != 0;
		} else if (e->function == 0xb || e->function == 0x1f) {
			e->edx = vcpu->index;
		} else if (e->function == 0x80000001) {
			e->ecx &= ~CPUID_SVM;
		} else if (e->function == 0x8000000a) {
			e->eax = e->ebx = e->ecx = e->edx = 0;
		} else if (e->function == CPUID_KVM_FEATURES) {
			e->eax &= CPUID_KVM_STABLE_CLOCK;
		} else if (e->function == 0xd && e->index == 0) {
			*xcr0 = e->eax & XCR0_USED;
		}
	}
	if (!xsave) {
		*xcr0 = 0;
	} else if (!(*xcr0 & XCR0_AVX)) {
		*xcr0 &= 3;
	}
	return ioctl(vcpu->fd, KVM_SET_CPUID2, table);
}

/* Not every KVM lets ring 3 switch interrupts on: where it is to take them, they are on from the start. */
static uint64_t flags_of(const struct vmm_image *image)
{
	if (image->flags & IVC_MACHINE_RING0) {
		return FLAGS_RING0;
	}
	return FLAGS_RING3 | (image->flags & IVC_MACHINE_INTERRUPTS ? FLAGS_IF : 0);
}

static struct kvm_segment segment(uint32_t selector, uint8_t type, uint8_t dpl, bool code)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = (uint16_t)selector,
				    .type = type,
				    .present = 1,
				    .dpl = dpl,
				    .db = !code,
				    .s = 1,
				    .l = code,
				    .g = 1};
}

static int sregs_set(struct vmm_vcpu *vcpu, bool ring0, bool xsave)
{
	const uint8_t dpl = ring0 ? 0 : 3;
	struct kvm_sregs s;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &s)) {
		return -1;
	}
	s.cs = segment(ring0 ? IVC_MACHINE_CS0 : IVC_MACHINE_CS3, 0xb, dpl, true);
	s.ss = segment(ring0 ? IVC_MACHINE_SS0 : IVC_MACHINE_SS3, 0x3, dpl, false);
	s.ds = s.ss;
	s.es = s.ss;
	s.fs = s.ss;
	s.gs = s.ss;
	s.tr = (struct kvm_segment){.base = tss_at(vcpu->index),
				    .limit = tss_limit(vcpu->index),
				    .selector = (uint16_t)(SELECTOR_TSS + 16u * vcpu->index),
				    .type = 0xb,
				    .present = 1};
	s.gdt.base = IVC_MACHINE_GDT;
	s.gdt.limit = GDT_BYTES - 1;
	s.idt.base = IVC_MACHINE_IDT;
	s.idt.limit = IDT_BYTES - 1;
	s.cr0 = CR0_BITS;
	s.cr3 = VMM_AT_TABLES;
	s.cr4 = CR4_BITS | (xsave ? CR4_OSXSAVE : 0);
	s.efer = EFER_BITS;
	return ioctl(vcpu->fd, KVM_SET_SREGS, &s);
}

/* apic_on - the local APIC takes interrupts, and the vCPU runs without being woken by another. */
static int apic_on(struct vmm_vcpu *vcpu)
{
	struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_RUNNABLE};
	const uint32_t on = APIC_SVR_ON;
	struct kvm_lapic_state apic;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &apic)) {
		return -1;
	}
	memcpy(apic.regs + APIC_SVR, &on, sizeof(on));
	if (ioctl(vcpu->fd, KVM_SET_LAPIC, &apic)) {
		return -1;
	}
	return ioctl(vcpu->fd, KVM_SET_MP_STATE, &state);
}

int vmm_boot_vcpu(struct vmm_vcpu *vcpu, char *why)
{
	const struct vmm *vm = vcpu->vm;
	const bool ring0 = vm->image.flags & IVC_MACHINE_RING0;
	const struct kvm_regs r = {.rip = vm->image.entry,
				   .rsp = stack_top(vm, vcpu->index),
				   .rdi = VMM_AT_MACHINE,
				   .rsi = vcpu->index,
				   .rflags = flags_of(&vm->image)};
	struct kvm_xcrs x = {.nr_xcrs = 1};
	uint64_t xcr0;

	if (cpuid_set(vcpu, &xcr0)) {
		return vmm_kvm_error(why, "setting the CPUID table");
	}
	if (sregs_set(vcpu, ring0, xcr0 != 0) || ioctl(vcpu->fd, KVM_SET_REGS, &r)) {
		return vmm_kvm_error(why, "setting the registers of a vCPU");
	}
	x.xcrs[0].value = xcr0;
	if (xcr0 && ioctl(vcpu->fd, KVM_SET_XCRS, &x)) {
		return vmm_kvm_error(why, "setting XCR0");
	}
	if (vm->image.vector && apic_on(vcpu)) {
		return vmm_kvm_error(why, "setting the local APIC");
	}
	return 0;
}

/* vmm_boot_interrupts - before any vCPU: local APICs, and an eventfd that raises the vector on vCPU 0. */
int vmm_boot_interrupts(struct vmm *vm, char *why)
{
	union {
		struct kvm_irq_routing head;
		uint8_t room[sizeof(struct kvm_irq_routing) + sizeof(struct kvm_irq_routing_entry)];
	} routes;
	struct kvm_irq_routing_entry *entry = routes.head.entries;
	struct kvm_irqfd irqfd = {.gsi = VMM_ROUTE};

	vm->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->bell_fd < 0) {
		return vmm_kvm_error(why, "making an eventfd");
	}
	if (ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, 0)) {
		return vmm_kvm_error(why, "making the interrupt controllers");
	}
	memset(&routes, 0, sizeof(routes));
	routes.head.nr = 1;
	entry->gsi = VMM_ROUTE;
	entry->type = KVM_IRQ_ROUTING_MSI;
	entry->u.msi.address_lo = (uint32_t)IVC_MACHINE_APIC; /* physical, edge, APIC id 0 */
	entry->u.msi.data = vm->image.vector;
	if (ioctl(vm->vm_fd, KVM_SET_GSI_ROUTING, &routes)) {
		return vmm_kvm_error(why, "routing the interrupt");
	}
	irqfd.fd = (uint32_t)vm->bell_fd;
	if (ioctl(vm->vm_fd, KVM_IRQFD, &irqfd)) {
		return vmm_kvm_error(why, "tying the interrupt to its eventfd");
	}
	return 0;
}
