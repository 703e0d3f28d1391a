/* SPDX-License-Identifier: MIT */
/*
 * The life of a VM: made, started, ended for the first of its reasons, given back. It decides who tells the registry and
 * the owner that a VM has ended: its last thread.
 */
#include "state.h"
#include <errno.h>
#include <inttypes.h>
#include <ivc/atomic.h>
#include <ivc/text.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define WHY(...) (void)snprintf(why, VMM_WHY_BYTES, __VA_ARGS__)

static int config_check(const struct vmm_config *cfg, char *why)
{
	const uint64_t ram = cfg->ram_bytes ? cfg->ram_bytes : VMM_RAM;

	if (cfg->id.v > IVC_VM_ID_LAST) {
		WHY("%" PRIu32 " is no VM id; ids are 0 to %" PRIu64, cfg->id.v, IVC_VM_ID_LAST);
		return IVC_E_INVAL;
	}
	if (ram < VMM_RAM_MIN || ram > IVC_MACHINE_RAM_LAST + 1 || ram % VMM_PAGE) {
		WHY("%" PRIu64 " bytes of RAM; a VM has %" PRIu64 " KiB to %" PRIu64
		    " KiB, whole pages of 4 KiB: give another --mem",
		    ram, VMM_RAM_MIN >> 10, (IVC_MACHINE_RAM_LAST + 1) >> 10);
		return IVC_E_INVAL;
	}
	if (cfg->vcpus > VMM_VCPUS_MAX) {
		WHY("%" PRIu32 " vCPUs; a VM has 1 to %u: give another --cpus", cfg->vcpus, VMM_VCPUS_MAX);
		return IVC_E_INVAL;
	}
	if (cfg->arg && strlen(cfg->arg) >= sizeof(((struct ivc_machine *)0)->arg)) {
		WHY("an argument of %zu bytes; --arg takes at most %zu", strlen(cfg->arg),
		    sizeof(((struct ivc_machine *)0)->arg) - 1);
		return IVC_E_INVAL;
	}
	if (!cfg->image || !cfg->hv == !cfg->where) {
		WHY("no image, or not one registry");
		return IVC_E_INVAL;
	}
	return 0;
}

/* What the KVM host asks of the VM. */
static void *op_ram(void *arg, ivc_gpa_t at, uint32_t bytes)
{
	return vmm_ram(arg, at.v, bytes);
}

static void op_failed(void *arg)
{
	static const struct vmm_end given_up = {
		.kind = VMM_FAILED,
		.text = "the registry gave the VM up: memory could not be put into its window or taken out again\n"};
	struct vmm *vm = arg;

	if (!vm->port) {
		vmm_end(vm, &given_up);
	} else if (vm->gone) {
		vm->gone(vm->user); /* the guest runs on; its calls say IVC_E_SHUTDOWN */
	}
}

static int host_make(struct vmm *vm, char *why)
{
	const struct ivc_kvm_config cfg = {
		.size = sizeof(cfg),
		.vm_fd = vm->vm_fd,
		.bell_fd = vm->bell_fd,
		.slot_first = VMM_SLOT_RAM + 1,
		.slot_count = vm->slots,
		.trap = ivc_gpa(IVC_MACHINE_PAGE),
		.doorbell = ivc_gpa(vm->doorbell),
		.vm = vm,
		.ram = op_ram,
		.failed = op_failed,
	};
	const int err = ivc_kvm_create(&vm->kvm, &cfg);

	if (err == IVC_E_OPNOTSUPP) {
		WHY("this machine has no read-only memory slots in KVM, or no membarrier(2)");
	} else if (err) {
		WHY("the KVM host of the channels: %s", ivc_strerror(err));
	}
	return err;
}

static void why_not_attached(const struct vmm *vm, const char *where, int err, char *why)
{
	const char *path = where && strncmp(where, "unix:", 5) == 0 ? where + 5 : where;
	const char *text = ivc_strerror(err);

	if (where && (err == IVC_E_NOENT || err == IVC_E_PIPE)) {
		WHY("cannot connect VM %" PRIu32 ": %s: ivc hv --socket %.120s", vm->id.v,
		    err == IVC_E_NOENT ? "there is no such socket; start the hypervisor first"
				       : "no hypervisor listens there any more; start it again",
		    path);
		return;
	}
	switch (err) {
	case IVC_E_EXIST:
		text = "a living VM has this id already; give another --id";
		break;
	case IVC_E_BUSY:
		text = "the last holder of this id is still being torn down; try again";
		break;
	case IVC_E_NOSPC:
		text = "the hypervisor has as many VMs as it takes; end one or raise its limit";
		break;
	case IVC_E_PERM:
		text = "the socket belongs to another user; run as the user that runs ivc hv";
		break;
	case IVC_E_PROTO:
		text = "the hypervisor speaks another version; use programs of one release";
		break;
	case IVC_E_INVAL:
		text = "the address or the window was refused; an address is unix:PATH, a window has 16 GiB";
		break;
	case IVC_E_NOMEM:
		text = "memory or descriptors ran out; see ulimit -n here and where ivc hv runs";
		break;
	case IVC_E_TIMEDOUT:
		text = "the hypervisor does not answer; is it stopped?";
		break;
	case IVC_E_SHUTDOWN:
		text = "the hypervisor is going down";
		break;
	default:
		break;
	}
	if (where) {
		WHY("cannot connect VM %" PRIu32 " to %.100s: %s", vm->id.v, where, text);
	} else {
		WHY("cannot attach VM %" PRIu32 ": %s", vm->id.v, text);
	}
}

static int attach(struct vmm *vm, const struct vmm_config *cfg, char *why)
{
	const struct ivc_vm_config c = {
		.size = sizeof(c),
		.flags = vm->port ? IVC_PORT_NO_VIEW : 0,
		.id = vm->id,
		.vector = vm->image.vector,
		.window = ivc_gpa(IVC_MACHINE_WINDOW),
		.window_bytes = IVC_MACHINE_WINDOW_BYTES,
		.doorbell = vm->doorbell,
		.clock_hz = vm->clock_hz,
		.clock_offset = vm->tsc_offset,
		.quota = IVC_QUOTA_DEFAULT,
		.host = vm->kvm,
	};
	int err;

	if (vm->port) {
		err = ivc_port_connect(&vm->vm, cfg->where, &c, ivc_kvm_ops());
	} else {
		(void)ivc_hv_thread_enter();
		err = ivc_hv_vm_attach(cfg->hv, &c, &vm->vm);
		ivc_hv_thread_leave();
	}
	if (err) {
		vm->vm = NULL;
		why_not_attached(vm, cfg->where, err, why);
	}
	return err;
}

/* machine_make - everything of KVM, the guest's memory and registers: all but its side of the registry. */
static int machine_make(struct vmm *vm, const struct vmm_config *cfg, char *why)
{
	uint64_t random = 0;
	int err;

	err = vmm_kvm_open(&vm->kvm_fd, why);
	if (!err) {
		err = vmm_kvm_machine(vm, cfg->slots_max, why);
	}
	if (!err) {
		err = vmm_elf_load(cfg->image, cfg->image_bytes, vm->ram, vm->ram_bytes, VMM_STACK_BYTES * vm->vcpus,
				   &vm->image, why);
	}
	vm->doorbell = vm->image.vector && !vm->port ? IVC_MACHINE_DOORBELL : 0;
	if (!err && vm->image.vector) {
		err = vmm_boot_interrupts(vm, why);
	}
	if (!err) {
		err = vmm_boot_cpuid(vm, why);
	}
	for (uint32_t i = 0; i < vm->vcpus && !err; i++) {
		err = vmm_kvm_vcpu(&vm->vcpu[i], why);
	}
	if (err) {
		return err;
	}
	vmm_kvm_clock(vm);
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
		return vmm_kvm_error(why, "getrandom");
	}
	vmm_boot_memory(vm, cfg->arg, random);
	for (uint32_t i = 0; i < vm->vcpus && !err; i++) {
		err = vmm_boot_vcpu(&vm->vcpu[i], why);
	}
	return err;
}

static struct vmm *blank(const struct vmm_config *cfg)
{
	struct vmm *vm = calloc(1, sizeof(*vm));
	pthread_condattr_t attr;

	if (!vm) {
		return NULL;
	}
	vm->id = cfg->id;
	vm->ram_bytes = cfg->ram_bytes ? cfg->ram_bytes : VMM_RAM;
	vm->vcpus = cfg->vcpus ? cfg->vcpus : 1;
	vm->port = cfg->where != NULL;
	vm->user = cfg->user;
	vm->line = cfg->line;
	vm->service = cfg->service;
	vm->gone = cfg->gone;
	vm->ended = cfg->ended;
	vm->kvm_fd = -1;
	vm->vm_fd = -1;
	vm->bell_fd = -1;
	vm->wake_fd = -1;
	for (uint32_t i = 0; i < VMM_VCPUS_MAX; i++) {
		vm->vcpu[i].vm = vm;
		vm->vcpu[i].index = i;
		vm->vcpu[i].fd = -1;
	}
	(void)pthread_mutex_init(&vm->lock, NULL);
	(void)pthread_mutex_init(&vm->console_lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&vm->changed, &attr);
	(void)pthread_condattr_destroy(&attr);
	return vm;
}

static void detach(struct vmm *vm)
{
	if (!vm->vm || vm->detached) {
		return;
	}
	if (!vm->port) {
		(void)ivc_hv_thread_enter();
	}
	while (ivc_hv_vm_detach(vm->vm) == IVC_E_AGAIN) {
	}
	if (!vm->port) {
		ivc_hv_thread_leave();
	}
	vm->detached = true;
}

static void give_back(struct vmm *vm)
{
	detach(vm);
	ivc_kvm_destroy(vm->kvm);
	vmm_kvm_close(vm);
	(void)pthread_cond_destroy(&vm->changed);
	(void)pthread_mutex_destroy(&vm->console_lock);
	(void)pthread_mutex_destroy(&vm->lock);
	free(vm);
}

int vmm_create(struct vmm **out, const struct vmm_config *cfg, char *why)
{
	struct vmm *vm;
	int err;

	err = config_check(cfg, why);
	if (err) {
		return err;
	}
	vm = blank(cfg);
	if (!vm) {
		WHY("no memory for a VM");
		return IVC_E_NOMEM;
	}
	err = machine_make(vm, cfg, why);
	if (!err) {
		err = host_make(vm, why);
	}
	if (!err && vm->port) {
		vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		err = vm->wake_fd < 0 ? vmm_kvm_error(why, "making an eventfd") : 0;
	}
	if (!err) {
		err = attach(vm, cfg, why);
	}
	if (err) {
		give_back(vm);
		return err;
	}
	for (uint32_t i = 0; i < vm->vcpus; i++) {
		ivc_kvm_vcpu_init(&vm->vcpu[i].kvm, vm->kvm, vm->vm, vm->vcpu[i].fd, vm->vcpu[i].run);
	}
	*out = vm;
	return 0;
}

static void wake_port(struct vmm *vm)
{
	const uint64_t one = 1;

	if (vm->wake_fd >= 0 && write(vm->wake_fd, &one, sizeof(one)) < 0) {
		return; /* full: it is awake already */
	}
}

int vmm_start(struct vmm *vm)
{
	sigset_t old;
	int err = 0;

	vmm_signals_block(&old);
	(void)pthread_mutex_lock(&vm->lock);
	vm->running = vm->vcpus;
	for (uint32_t i = 0; i < vm->vcpus && !err; i++) {
		err = pthread_create(&vm->vcpu[i].thread, NULL, vmm_vcpu_thread, &vm->vcpu[i]);
		vm->threads += err ? 0 : 1;
	}
	if (!err && vm->port) {
		err = pthread_create(&vm->port_thread, NULL, vmm_port_thread, vm);
	}
	if (err) {
		ivc_store_relaxed_u32(&vm->stop, 1); /* those that were made end without running the guest */
		vm->running = 0;
	}
	vm->started = !err;
	vm->begun = true;
	(void)pthread_cond_broadcast(&vm->changed);
	(void)pthread_mutex_unlock(&vm->lock);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err ? IVC_E_NOMEM : 0;
}

bool vmm_stopping(const struct vmm *vm)
{
	/* Relaxed: it says only that there is something to look at under the lock. */
	return ivc_load_relaxed_u32(&vm->stop) != 0;
}

void vmm_end(struct vmm *vm, const struct vmm_end *end)
{
	(void)pthread_mutex_lock(&vm->lock);
	if (vm->end.kind == VMM_RUNNING) {
		vm->end = *end;
		ivc_store_relaxed_u32(&vm->stop, 1);
		for (uint32_t i = 0; i < vm->threads; i++) {
			vmm_vcpu_kick(&vm->vcpu[i]);
		}
		wake_port(vm);
		(void)pthread_cond_broadcast(&vm->changed);
	}
	(void)pthread_mutex_unlock(&vm->lock);
}

void vmm_stop(struct vmm *vm)
{
	static const struct vmm_end stopped = {.kind = VMM_STOPPED};

	vmm_end(vm, &stopped);
}

void vmm_vcpu_halted(struct vmm_vcpu *vcpu)
{
	static const struct vmm_end all = {.kind = VMM_CRASHED, .text = "every vCPU has stopped for good\n"};
	struct vmm *vm = vcpu->vm;
	bool last;

	(void)pthread_mutex_lock(&vm->lock);
	last = ++vm->halted == vm->vcpus;
	while (!last && vm->end.kind == VMM_RUNNING) {
		(void)pthread_cond_wait(&vm->changed, &vm->lock);
	}
	(void)pthread_mutex_unlock(&vm->lock);
	if (last) {
		vmm_end(vm, &all);
	}
}

/* vmm_over - on the VM's last thread: no vCPU makes a call any more. */
void vmm_over(struct vmm *vm)
{
	struct vmm_end end;

	detach(vm);
	(void)pthread_mutex_lock(&vm->lock);
	end = vm->end;
	(void)pthread_mutex_unlock(&vm->lock);
	if (vm->ended) {
		vm->ended(vm->user, &end);
	}
	(void)pthread_mutex_lock(&vm->lock);
	vm->done = true;
	(void)pthread_cond_broadcast(&vm->changed);
	(void)pthread_mutex_unlock(&vm->lock);
}

void vmm_vcpu_left(struct vmm *vm)
{
	bool last;

	(void)pthread_mutex_lock(&vm->lock);
	if (vm->running == 0) { /* vmm_start() failed */
		(void)pthread_mutex_unlock(&vm->lock);
		return;
	}
	last = --vm->running == 0;
	if (last) {
		wake_port(vm);
	}
	(void)pthread_mutex_unlock(&vm->lock);
	if (last && !vm->port) {
		vmm_over(vm);
	}
}

int vmm_wait(struct vmm *vm, uint64_t timeout_ns, struct vmm_end *end)
{
	struct timespec until;
	int err = 0;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	if (timeout_ns < (uint64_t)INT32_MAX * 1000000000u) {
		until.tv_sec += (time_t)(timeout_ns / 1000000000u);
		until.tv_nsec += (long)(timeout_ns % 1000000000u);
	} else {
		until.tv_sec += INT32_MAX;
	}
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_mutex_lock(&vm->lock);
	while (!vm->done && err != ETIMEDOUT) {
		err = pthread_cond_timedwait(&vm->changed, &vm->lock, &until);
	}
	err = vm->done ? 0 : IVC_E_TIMEDOUT;
	if (!err) {
		*end = vm->end;
	}
	(void)pthread_mutex_unlock(&vm->lock);
	return err;
}

void vmm_destroy(struct vmm *vm)
{
	if (!vm) {
		return;
	}
	vmm_stop(vm);
	for (uint32_t i = 0; i < vm->threads; i++) {
		(void)pthread_join(vm->vcpu[i].thread, NULL);
	}
	if (vm->started && vm->port) {
		(void)pthread_join(vm->port_thread, NULL);
	}
	give_back(vm);
}

void *vmm_ram(struct vmm *vm, uint64_t at, uint64_t bytes)
{
	return at < vm->ram_bytes && bytes <= vm->ram_bytes - at ? vm->ram + at : NULL;
}

struct ivc_vm *vmm_vm(struct vmm *vm)
{
	return vm->vm;
}

struct ivc_kvm *vmm_kvm(struct vmm *vm)
{
	return vm->kvm;
}

void vmm_window(const struct vmm *vm, ivc_gpa_t *at, uint64_t *bytes)
{
	(void)vm;
	*at = ivc_gpa(IVC_MACHINE_WINDOW);
	*bytes = IVC_MACHINE_WINDOW_BYTES;
}
