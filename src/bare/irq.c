/* SPDX-License-Identifier: MIT */
/*
 * Interrupts: gates in the machine's table, the way into the program's handler and back, and for ring 0 a sleep that ends
 * with the interrupt or in time. It decides which vectors the kit takes and knows no channel.
 *
 * The IVC interrupt comes to vCPU 0 alone. Others that sleep are woken from there, by the vector of the timer. A handler
 * runs in ring 0, also for a program in ring 3: the stack is the machine's then.
 */
#include "state.h"

#define APIC_EOI          0x0b0u
#define APIC_SPURIOUS     0x0f0u
#define APIC_COMMAND      0x300u
#define APIC_TIMER        0x320u
#define APIC_TIMER_COUNT  0x380u
#define APIC_TIMER_DIVIDE 0x3e0u

#define APIC_ENABLE      0x100u
#define APIC_DIVIDE_BY_1 0xbu
#define APIC_ALL_BUT_ME  0xc4000u /* fixed delivery, edge */
#define SPURIOUS         0xffu
#define NAP_LAST_NS      UINT64_C(1000000000)
#define MSR_GS_BASE      0xc0000101u
#define GATE             0x8e00u /* present, ring 0, interrupts off */

struct gate {
	uint16_t low, selector, kind, middle;
	uint32_t high, zero;
};

/* What one vCPU keeps; its address is in the base of gs. */
struct cpu {
	uint64_t timer_at; /* when its timer will fire, 0: it is off; the entry of the timer writes 0 by gs:0 */
	struct cpu *self;
	uint64_t taken; /* count of interrupts at its last sleep */
};
IVC_ABI_ASSERT_(offsetof(struct cpu, timer_at) == 0 && offsetof(struct cpu, self) == 8, "gs:0 and gs:8 below");

/* The image's own note; absent in images that take no interrupt. */
#pragma weak ivc_bare_note_

void ivc_bare_irq_(void);
void ivc_bare_irq_entry_(void);
void ivc_bare_tick_entry_(void);
void ivc_bare_spurious_entry_(void);

static struct cpu cpus[IVC_BARE_VCPUS];
static void (*program)(void);
static volatile uint64_t seen;
static volatile uint32_t sleepers; /* vCPUs that sleep or are about to */

/* rsp is aligned to 16 by the CPU, five words are pushed by it and nine here. */
__asm__(".section .text.ivc_bare_irq_entry_, \"ax\"\n"
	".globl ivc_bare_irq_entry_, ivc_bare_tick_entry_, ivc_bare_spurious_entry_\n"
	"ivc_bare_irq_entry_:\n"
	"	pushq %rax\n	pushq %rcx\n	pushq %rdx\n	pushq %rsi\n	pushq %rdi\n"
	"	pushq %r8\n	pushq %r9\n	pushq %r10\n	pushq %r11\n"
	"	cld\n"
	"	call ivc_bare_irq_\n"
	"	popq %r11\n	popq %r10\n	popq %r9\n	popq %r8\n"
	"	popq %rdi\n	popq %rsi\n	popq %rdx\n	popq %rcx\n	popq %rax\n"
	"	iretq\n"
	"ivc_bare_tick_entry_:\n"
	"	pushq %rax\n"
	"	movq $0, %gs:0\n"
	"	movl $0xfee000b0, %eax\n"
	"	movl $0, (%rax)\n"
	"	popq %rax\n"
	"ivc_bare_spurious_entry_:\n"
	"	iretq\n"
	".text\n");

static uint32_t vector_of_note(void)
{
	return &ivc_bare_note_ != NULL ? ivc_bare_note_.desc[1] & 0xff : 0;
}

/* Of the timer, and of the call that wakes other vCPUs. */
static uint32_t vector_of_timer(void)
{
	return vector_of_note() != 0xfe ? 0xfe : 0xfd;
}

static void apic_write(uint32_t at, uint32_t v)
{
	*ivc_bare_word_(IVC_MACHINE_APIC + at) = v;
}

static struct cpu *this_cpu(void)
{
	struct cpu *cpu;

	__asm__ __volatile__("movq %%gs:8, %0" : "=r"(cpu));
	return cpu;
}

static void gate_set(uint32_t vector, void (*entry)(void))
{
	struct gate *const gates = (struct gate *)(uintptr_t)IVC_MACHINE_IDT;
	const uint64_t at = (uint64_t)(uintptr_t)entry;

	gates[vector] = (struct gate){
		.low = (uint16_t)at,
		.selector = IVC_MACHINE_CS0,
		.kind = GATE,
		.middle = (uint16_t)(at >> 16),
		.high = (uint32_t)(at >> 32),
	};
}

void ivc_bare_irq_start_(uint32_t vcpu)
{
	struct cpu *cpu;

	if ((ivc_bare_machine_->flags & IVC_MACHINE_INTERRUPTS) == 0) {
		return;
	}
	if (vcpu == 0) {
		gate_set(vector_of_note(), ivc_bare_irq_entry_);
		gate_set(vector_of_timer(), ivc_bare_tick_entry_);
		gate_set(SPURIOUS, ivc_bare_spurious_entry_);
	}
	if (!ivc_bare_ring0_() || vcpu >= IVC_BARE_VCPUS) {
		return;
	}
	cpu = &cpus[vcpu];
	cpu->self = cpu;
	__asm__ __volatile__("wrmsr"
			     :
			     : "c"(MSR_GS_BASE), "a"((uint32_t)(uintptr_t)cpu), "d"((uint32_t)((uintptr_t)cpu >> 32)));
	apic_write(APIC_SPURIOUS, APIC_ENABLE | SPURIOUS);
	apic_write(APIC_TIMER_DIVIDE, APIC_DIVIDE_BY_1);
	apic_write(APIC_TIMER, vector_of_timer());
}

/* vCPU 0, interrupts off. */
void ivc_bare_irq_(void)
{
	/* [BARE-WAKE] the count, full fence, then the sleepers. Partner: ivc_bare_park_(). */
	ivc_store_release_u64(&seen, ivc_load_relaxed_u64(&seen) + 1);
	ivc_fence_full();
	if (program != NULL) {
		program();
	}
	apic_write(APIC_EOI, 0);
	if (ivc_load_relaxed_u32(&sleepers) != 0) {
		apic_write(APIC_COMMAND, APIC_ALL_BUT_ME | vector_of_timer());
	}
}

static void timer_until(struct cpu *cpu, uint64_t deadline_ns)
{
	const uint64_t now = ivc_bare_now_ns();
	uint64_t nap = deadline_ns > now ? deadline_ns - now : 1;

	/* One that fires earlier will do: who sleeps in slices then seldom writes to the device. */
	if (cpu->timer_at != 0 && cpu->timer_at <= deadline_ns) {
		return;
	}
	if (nap > NAP_LAST_NS) {
		nap = NAP_LAST_NS;
	}
	cpu->timer_at = now + nap;
	/* The timer of the machine counts nanoseconds. */
	apic_write(APIC_TIMER_COUNT, (uint32_t)nap);
}

int ivc_bare_park_(void *os, uint64_t deadline_ns)
{
	struct cpu *const cpu = this_cpu();
	uint64_t flags;
	uint64_t count;

	(void)os;
	__asm__ __volatile__("pushfq\n\tpopq %0\n\tcli" : "=r"(flags) : : "memory");
	(void)ivc_fetch_add_u32(&sleepers, 1);
	ivc_fence_full();
	/* [BARE-WAKE] among the sleepers, full fence, then the count. Partner: ivc_bare_irq_(). */
	count = ivc_load_acquire_u64(&seen);
	if (count == cpu->taken) {
		timer_until(cpu, deadline_ns);
		/* What comes from here on waits for the halt: sti takes effect behind the next instruction. */
		__asm__ __volatile__("sti\n\thlt\n\tcli" : : : "memory");
		count = ivc_load_acquire_u64(&seen);
	}
	(void)ivc_fetch_sub_u32(&sleepers, 1);
	cpu->taken = count;
	if ((flags & 1u << 9) != 0) {
		__asm__ __volatile__("sti" : : : "memory");
	}
	return 0;
}

void ivc_bare_interrupts(void (*handler)(void))
{
	if ((ivc_bare_machine_->flags & IVC_MACHINE_INTERRUPTS) == 0) {
		return;
	}
	program = handler;
	/* A program in ring 3 is started with interrupts on; sti would take a privilege that it may have lost. */
	if (ivc_bare_ring0_()) {
		ivc_bare_env_parks_();
		__asm__ __volatile__("sti" : : : "memory");
	}
}

uint64_t ivc_bare_interrupts_seen(void)
{
	return ivc_load_acquire_u64(&seen);
}
