/* SPDX-License-Identifier: MIT */
/*
 * What is told of a vCPU that cannot go on: why, in words, its registers, the bytes at its instruction pointer. It
 * decides the form of that text; it ends nothing.
 */
#include "state.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define CODE_BYTES 16u
#define RESET_RIP  UINT64_C(0xfff0)
#define CR0_PG     UINT64_C(0x80000000)

struct text {
	char *at;
	size_t room, used;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->at + t->used, t->room - t->used, format, args);
	va_end(args);
	if (n > 0) {
		t->used += (size_t)n < t->room - t->used ? (size_t)n : t->room - t->used - 1;
	}
}

static void put_reason(struct text *t, const struct vmm_vcpu *vcpu, int error)
{
	const struct kvm_run *run = vcpu->run;

	if (error) {
		put(t, "KVM could not run the vCPU: %s\n", strerror(error));
		return;
	}
	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		put(t, "shutdown: the guest took a fault that it does not handle (triple fault)\n");
		break;
	case KVM_EXIT_HLT:
		put(t, "halted for good: no interrupt can wake it\n");
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		put(t, "KVM cannot go on (internal error %u%s)\n", run->internal.suberror,
		    run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION ? ": an instruction that it does not emulate"
									   : "");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		put(t, "the CPU refused to enter the guest (hardware reason 0x%" PRIx64 ")\n",
		    (uint64_t)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		put(t, "system event %u\n", run->system_event.type);
		break;
	default:
		put(t, "an exit that this machine has no answer to (reason %u)\n", run->exit_reason);
		break;
	}
}

static void put_general(struct text *t, const struct kvm_regs *r)
{
	const struct {
		const char *name;
		uint64_t v;
	} list[] = {{"rax", r->rax}, {"rbx", r->rbx}, {"rcx", r->rcx}, {"rdx", r->rdx},
		    {"rsi", r->rsi}, {"rdi", r->rdi}, {"rbp", r->rbp}, {"rsp", r->rsp},
		    {"r8 ", r->r8},  {"r9 ", r->r9},  {"r10", r->r10}, {"r11", r->r11},
		    {"r12", r->r12}, {"r13", r->r13}, {"r14", r->r14}, {"r15", r->r15}};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		put(t, "%s %016" PRIx64 "%s", list[i].name, list[i].v, i % 4 == 3 ? "\n" : "  ");
	}
}

static void put_code(struct text *t, struct vmm *vm, uint64_t rip)
{
	const uint8_t *code = vmm_ram(vm, rip, CODE_BYTES);

	put(t, "code at rip:");
	if (!code) {
		put(t, " not in RAM");
	}
	for (uint32_t i = 0; code && i < CODE_BYTES; i++) {
		put(t, " %02x", code[i]);
	}
	put(t, "\n");
}

void vmm_crash(struct vmm_vcpu *vcpu, int error, struct vmm_end *end)
{
	struct text t = {.at = end->text, .room = sizeof(end->text)};
	struct kvm_sregs s;
	struct kvm_regs r;

	end->kind = error ? VMM_FAILED : VMM_CRASHED;
	end->vcpu = vcpu->index;
	put_reason(&t, vcpu, error);
	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) || ioctl(vcpu->fd, KVM_GET_SREGS, &s)) {
		put(&t, "its registers cannot be read\n");
		return;
	}
	/* SVM says nothing of a guest that was shut down, so KVM resets the vCPU there. */
	if (!error && vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN && r.rip == RESET_RIP && !(s.cr0 & CR0_PG)) {
		put(&t, "vCPU %u: its registers are lost, this CPU resets them at a shutdown\n", vcpu->index);
		return;
	}
	put(&t, "vCPU %u  rip %016" PRIx64 "  rflags %08" PRIx64 "  cs %04x ss %04x, ring %u\n", vcpu->index,
	    (uint64_t)r.rip, (uint64_t)r.rflags, s.cs.selector, s.ss.selector, s.cs.dpl);
	put_general(&t, &r);
	put(&t, "cr0 %08" PRIx64 "  cr2 %016" PRIx64 "  cr3 %08" PRIx64 "  cr4 %08" PRIx64 "\n", (uint64_t)s.cr0,
	    (uint64_t)s.cr2, (uint64_t)s.cr3, (uint64_t)s.cr4);
	put_code(&t, vcpu->vm, r.rip);
}
