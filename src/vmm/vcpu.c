/* SPDX-License-Identifier: MIT */
/*
 * The loop of a vCPU: run, look at the exit, run again, until the VM ends. It decides what an exit means to the guest;
 * calls and channels are ivc/kvm.h's.
 *
 * How a vCPU is stopped: its thread blocks every signal that another thread can send, KVM_RUN alone lets the kick through.
 * So a kick ends KVM_RUN, or waits for the next one, and no thread is ever interrupted anywhere else; no handler ever
 * runs. A call that sleeps is ended by ivc_kvm_kick().
 */
#include "state.h"
#include <errno.h>
#include <ivc/atomic.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define KICK          SIGUSR2 /* no real-time signal: those are lost when the user's queue is full */
#define SIGNALS_BYTES 8u      /* of the kernel's set */

void vmm_signals_block(sigset_t *old)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
	sigset_t set;

	(void)sigfillset(&set);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		(void)sigdelset(&set, own[i]); /* what a thread does to itself must not be held back */
	}
	(void)pthread_sigmask(SIG_SETMASK, &set, old);
}

static int let_kicks_in(const struct vmm_vcpu *vcpu)
{
	union {
		struct kvm_signal_mask head;
		uint8_t room[sizeof(struct kvm_signal_mask) + SIGNALS_BYTES];
	} mask = {.head = {.len = SIGNALS_BYTES}};
	sigset_t set;

	(void)pthread_sigmask(SIG_SETMASK, NULL, &set);
	(void)sigdelset(&set, KICK);
	memcpy(mask.room + offsetof(struct kvm_signal_mask, sigset), &set, SIGNALS_BYTES);
	return ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask);
}

/* A signal of the kick's number that meant nothing, or somebody else: it must not end every KVM_RUN from now on. */
static void drop_kick(void)
{
	const struct timespec now = {0, 0};
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, KICK);
	while (sigtimedwait(&set, NULL, &now) > 0) {
	}
}

void vmm_vcpu_kick(struct vmm_vcpu *vcpu)
{
	ivc_kvm_kick(&vcpu->kvm);
	(void)pthread_kill(vcpu->thread, KICK);
}

static void crashed(struct vmm_vcpu *vcpu, int error)
{
	struct vmm_end end = {0};

	vmm_crash(vcpu, error, &end);
	vmm_end(vcpu->vm, &end);
}

/* nobodys - a port or an address without a device: reads as all ones, writes are dropped. */
static void nobodys_io(struct vmm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	const uint64_t bytes = (uint64_t)run->io.size * run->io.count;

	if (run->io.direction == KVM_EXIT_IO_IN && run->io.data_offset <= vcpu->vm->run_bytes &&
	    bytes <= vcpu->vm->run_bytes - run->io.data_offset) {
		memset((uint8_t *)run + run->io.data_offset, 0xff, bytes);
	}
}

static void nobodys_mmio(struct vmm_vcpu *vcpu)
{
	if (!vcpu->run->mmio.is_write) {
		memset(vcpu->run->mmio.data, 0xff, sizeof(vcpu->run->mmio.data));
	}
}

static void exit_handle(struct vmm_vcpu *vcpu)
{
	const uint32_t reason = vcpu->run->exit_reason;
	const struct vmm_end lost = {
		.kind = VMM_FAILED, .vcpu = vcpu->index, .text = "KVM does not give the registers of the vCPU\n"};

	if ((reason == KVM_EXIT_IO && vmm_device_io(vcpu) == VMM_DEVICE_DONE) ||
	    (reason == KVM_EXIT_MMIO && vmm_device_mmio(vcpu) == VMM_DEVICE_DONE)) {
		return;
	}
	switch (ivc_kvm_exit(&vcpu->kvm)) {
	case IVC_KVM_DONE:
		return;
	case IVC_KVM_FAILED:
		vmm_end(vcpu->vm, &lost);
		return;
	case IVC_KVM_FOREIGN:
		break;
	}
	switch (reason) {
	case KVM_EXIT_IO:
		nobodys_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		nobodys_mmio(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
		break;
	default:
		crashed(vcpu, 0);
		break;
	}
}

static void run(struct vmm_vcpu *vcpu)
{
	while (!vmm_stopping(vcpu->vm)) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			exit_handle(vcpu);
		} else if (errno == EINTR) {
			if (!vmm_stopping(vcpu->vm)) {
				drop_kick();
			}
		} else if (errno != EAGAIN) {
			crashed(vcpu, errno);
		}
	}
}

void *vmm_vcpu_thread(void *arg)
{
	struct vmm_vcpu *vcpu = arg;
	struct vmm *vm = vcpu->vm;
	const struct vmm_end no_mask = {
		.kind = VMM_FAILED, .vcpu = vcpu->index, .text = "KVM does not take a signal mask\n"};

	(void)pthread_mutex_lock(&vm->lock);
	while (!vm->begun) {
		(void)pthread_cond_wait(&vm->changed, &vm->lock);
	}
	(void)pthread_mutex_unlock(&vm->lock);
	if (!vm->port) {
		(void)ivc_hv_thread_enter();
	}
	if (let_kicks_in(vcpu)) {
		vmm_end(vm, &no_mask);
	}
	run(vcpu);
	vmm_console_flush(vcpu);
	vmm_vcpu_left(vm);
	if (!vm->port) {
		ivc_hv_thread_leave();
	}
	return NULL;
}
