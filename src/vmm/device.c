/* SPDX-License-Identifier: MIT */
/*
 * The devices of the machine: console, exit, service, stop, each a port and a place in the device page. It decides what
 * a line of the console is; it knows neither calls nor channels, whose exits it leaves alone.
 */
#include "state.h"
#include <string.h>
#include <sys/ioctl.h>

static void line_end(struct vmm_vcpu *vcpu)
{
	struct vmm *vm = vcpu->vm;

	vcpu->line_text[vcpu->line_bytes] = '\0';
	vcpu->line_bytes = 0;
	if (vm->line) {
		(void)pthread_mutex_lock(&vm->console_lock);
		vm->line(vm->user, vcpu->line_text);
		(void)pthread_mutex_unlock(&vm->console_lock);
	}
}

/* A terminal shall show what the guest wrote and do nothing that it says: no byte but plain ASCII passes. */
static void console_byte(struct vmm_vcpu *vcpu, uint8_t c)
{
	if (c == '\n') {
		line_end(vcpu);
		return;
	}
	if (c == '\r') {
		return;
	}
	if (vcpu->line_bytes == VMM_LINE_BYTES) {
		line_end(vcpu);
	}
	vcpu->line_text[vcpu->line_bytes++] = (c >= ' ' && c < 0x7f) || c == '\t' ? (char)c : '?';
}

/* Each vCPU has a line of its own: KVM may bring one byte at a time, and those of two vCPUs shall not mix. */
static void console_write(struct vmm_vcpu *vcpu, const uint8_t *at, uint64_t bytes, bool zeros)
{
	for (uint64_t i = 0; i < bytes; i++) {
		if (at[i] || zeros) {
			console_byte(vcpu, at[i]);
		}
	}
}

void vmm_console_flush(struct vmm_vcpu *vcpu)
{
	if (vcpu->line_bytes) {
		line_end(vcpu);
	}
}

static void exit_with(struct vmm_vcpu *vcpu, uint32_t code)
{
	const struct vmm_end end = {.kind = VMM_EXITED, .code = code, .vcpu = vcpu->index};

	vmm_end(vcpu->vm, &end);
}

static void failed(struct vmm_vcpu *vcpu)
{
	const struct vmm_end end = {
		.kind = VMM_FAILED, .vcpu = vcpu->index, .text = "KVM does not give the registers of the vCPU\n"};

	vmm_end(vcpu->vm, &end);
}

/* RIP is KVM's business: it has passed the instruction already, or will with the next KVM_RUN. */
static void serve(struct vmm_vcpu *vcpu, uint32_t number)
{
	const bool sync = vcpu->kvm.sync_regs;
	struct vmm *vm = vcpu->vm;
	int64_t answer = IVC_E_NOSYS;
	struct kvm_regs own = {0}, *r = sync ? &vcpu->run->s.regs.regs : &own;

	if (!sync && ioctl(vcpu->fd, KVM_GET_REGS, r)) {
		failed(vcpu);
		return;
	}
	if (vm->service) {
		answer = vm->service(vm->user, vcpu->index, number, vmm_ram(vm, r->rdi, r->rsi), r->rsi);
	}
	r->rax = (uint64_t)answer;
	if (sync) {
		vcpu->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	} else if (ioctl(vcpu->fd, KVM_SET_REGS, r)) {
		failed(vcpu);
	}
}

static uint32_t value_of(const uint8_t *data, uint32_t bytes)
{
	uint32_t v = 0;

	memcpy(&v, data, bytes < sizeof(v) ? bytes : sizeof(v));
	return v;
}

enum vmm_device vmm_device_io(struct vmm_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	const uint64_t bytes = (uint64_t)run->io.size * run->io.count;
	const uint8_t *data;

	/* What KVM writes there is never larger than what it maps. */
	if (run->io.direction != KVM_EXIT_IO_OUT || run->io.data_offset > vcpu->vm->run_bytes ||
	    bytes > vcpu->vm->run_bytes - run->io.data_offset) {
		return VMM_DEVICE_NONE;
	}
	data = (const uint8_t *)run + run->io.data_offset;
	switch (run->io.port) {
	case IVC_MACHINE_PORT_CONSOLE:
		console_write(vcpu, data, bytes, true);
		return VMM_DEVICE_DONE;
	case IVC_MACHINE_PORT_EXIT:
		exit_with(vcpu, value_of(data, run->io.size));
		return VMM_DEVICE_DONE;
	case IVC_MACHINE_PORT_STOP:
		vmm_vcpu_halted(vcpu);
		return VMM_DEVICE_DONE;
	case IVC_MACHINE_PORT_SERVICE:
		if (run->io.size != 4 || run->io.count != 1) {
			return VMM_DEVICE_NONE;
		}
		serve(vcpu, value_of(data, 4));
		return VMM_DEVICE_DONE;
	default:
		return VMM_DEVICE_NONE;
	}
}

enum vmm_device vmm_device_mmio(struct vmm_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	const uint32_t bytes = run->mmio.len < sizeof(run->mmio.data) ? run->mmio.len : sizeof(run->mmio.data);
	uint8_t data[sizeof(run->mmio.data)];

	if (!run->mmio.is_write || run->mmio.phys_addr < IVC_MACHINE_PAGE ||
	    run->mmio.phys_addr >= IVC_MACHINE_PAGE + VMM_PAGE) {
		return VMM_DEVICE_NONE;
	}
	memcpy(data, run->mmio.data, sizeof(data));
	switch (run->mmio.phys_addr - IVC_MACHINE_PAGE) {
	case IVC_MACHINE_AT_CONSOLE:
		console_write(vcpu, data, bytes, false);
		return VMM_DEVICE_DONE;
	case IVC_MACHINE_AT_EXIT:
		exit_with(vcpu, value_of(data, bytes));
		return VMM_DEVICE_DONE;
	case IVC_MACHINE_AT_STOP:
		vmm_vcpu_halted(vcpu);
		return VMM_DEVICE_DONE;
	case IVC_MACHINE_AT_SERVICE:
		if (bytes != 4) {
			return VMM_DEVICE_NONE;
		}
		serve(vcpu, value_of(data, bytes));
		return VMM_DEVICE_DONE;
	default:
		return VMM_DEVICE_NONE;
	}
}
