/* SPDX-License-Identifier: MIT */
/*
 * Exits of a vCPU that are IVC's: traps, the doorbell page, holes of the window. It decides whose an exit is and moves
 * registers; what a call does is the registry's.
 */
#include "state.h"
#include <string.h>
#include <sys/ioctl.h>

#define TRAP_BYTES 4u /* a call is a store of so many bytes, to port or page; so is a bell */
#define PAGE_BYTES UINT64_C(0x1000)

void ivc_kvm_vcpu_init(struct ivc_kvm_vcpu *vcpu, struct ivc_kvm *kvm, struct ivc_vm *vm, int fd, struct kvm_run *run)
{
	*vcpu = (struct ivc_kvm_vcpu){.kvm = kvm, .vm = vm, .run = run, .fd = fd, .sync_regs = kvm->sync_regs};
	if (vcpu->sync_regs) {
		run->kvm_valid_regs |= KVM_SYNC_X86_REGS;
	}
}

/* The registers of the call that the vCPU has trapped on, and the result into them. */
static enum ivc_kvm_verdict serve(struct ivc_kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct kvm_regs own, *regs = &own;
	struct ivc_call call;

	if (vcpu->sync_regs) {
		regs = &run->s.regs.regs;
	} else if (ioctl(vcpu->fd, KVM_GET_REGS, regs)) {
		return IVC_KVM_FAILED;
	}
	call = (struct ivc_call){
		.nr = regs->rax,
		.arg = {regs->rdi, regs->rsi, regs->rdx, regs->rcx, regs->r8, regs->r9},
	};
	if (ivc_hv_call_sleep(vcpu->vm, &vcpu->sleeper, &call) == IVC_FOREIGN) {
		return IVC_KVM_FOREIGN;
	}
	regs->rax = (uint64_t)call.result;
	if (vcpu->sync_regs) {
		run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	} else if (ioctl(vcpu->fd, KVM_SET_REGS, regs)) {
		return IVC_KVM_FAILED;
	}
	return IVC_KVM_DONE;
}

static enum ivc_kvm_verdict port_exit(struct ivc_kvm_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	if (run->io.direction != KVM_EXIT_IO_OUT || run->io.port != IVC_X86_PORT || run->io.size != TRAP_BYTES ||
	    run->io.count != 1) {
		return IVC_KVM_FOREIGN;
	}
	return serve(vcpu);
}

/* A page of ours without a meaning for this access. */
static enum ivc_kvm_verdict nothing_there(struct kvm_run *run)
{
	if (!run->mmio.is_write) {
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
	}
	return IVC_KVM_DONE;
}

static enum ivc_kvm_verdict memory_exit(struct ivc_kvm_vcpu *vcpu)
{
	const struct ivc_kvm_config *config = &vcpu->kvm->config;
	struct kvm_run *run = vcpu->run;
	const uint64_t at = run->mmio.phys_addr;
	const bool word = run->mmio.is_write && run->mmio.len == TRAP_BYTES;
	uint32_t value;

	if (config->trap.v && at == config->trap.v && word) {
		return serve(vcpu);
	}
	if (config->trap.v && at - config->trap.v < sizeof(run->mmio.data)) {
		return nothing_there(run);
	}
	if (config->doorbell.v && at == config->doorbell.v && word) {
		memcpy(&value, run->mmio.data, sizeof(value));
		ivc_hv_doorbell(vcpu->vm, value);
		return IVC_KVM_DONE;
	}
	if (config->doorbell.v && at - config->doorbell.v < PAGE_BYTES) {
		return nothing_there(run);
	}
	if (ivc_hv_window_access(vcpu->vm, ivc_gpa(at), run->mmio.is_write, run->mmio.data, run->mmio.len)) {
		return IVC_KVM_DONE;
	}
	return IVC_KVM_FOREIGN;
}

enum ivc_kvm_verdict ivc_kvm_exit(struct ivc_kvm_vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		return port_exit(vcpu);
	case KVM_EXIT_MMIO:
		return memory_exit(vcpu);
	default:
		return IVC_KVM_FOREIGN;
	}
}

void ivc_kvm_kick(struct ivc_kvm_vcpu *vcpu)
{
	ivc_sleeper_stop(&vcpu->sleeper);
}
