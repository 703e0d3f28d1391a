/* SPDX-License-Identifier: MIT */
/*
 * The ops table for KVM, what of it asks the embedder, and the record of one VM. It decides what a VM must offer to be
 * taken; it runs nothing.
 */
#include "state.h"
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DOORBELLS 256u /* of one VM at once, unless its config says otherwise; chosen */

static void *slot_get(void *vm, void *vcpu, ivc_gpa_t at, uint32_t bytes)
{
	const struct ivc_kvm *kvm = vm;

	(void)vcpu;
	return kvm->config.ram(kvm->config.vm, at, bytes);
}

static void slot_put(void *vm, void *vcpu, ivc_gpa_t at, void *slot)
{
	const struct ivc_kvm *kvm = vm;

	(void)vcpu;
	if (kvm->config.ram_done) {
		kvm->config.ram_done(kvm->config.vm, at, slot);
	}
}

static void unpark(void *vm, void *vcpu)
{
	const struct ivc_kvm *kvm = vm;

	if (kvm->config.unpark) {
		kvm->config.unpark(kvm->config.vm, vcpu);
	} else {
		ivc_sleeper_wake(vcpu);
	}
}

static void barrier(void *host)
{
	(void)host;
	/* Whoever has a VM has registered in ivc_kvm_create(): a vCPU leaves its guest's code for the fence. */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0)) {
		/* No memory for the fast way. */
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	}
}

static uint64_t now_ns(void *host)
{
	struct timespec t;

	(void)host;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void failed(void *vm)
{
	const struct ivc_kvm *kvm = vm;

	if (kvm->config.failed) {
		kvm->config.failed(kvm->config.vm);
	}
}

static int control(void *vm, uint64_t nr, uint64_t op, uint64_t arg)
{
	const struct ivc_kvm *kvm = vm;

	return kvm->config.control ? kvm->config.control(kvm->config.vm, nr, op, arg) : IVC_E_OPNOTSUPP;
}

static const struct ivc_plat_ops ops = {
	.size = sizeof(struct ivc_plat_ops),
	.mem_new = kvm_mem_new,
	.mem_free = kvm_mem_free,
	.map = kvm_map,
	.close = kvm_close,
	.unmap = kvm_unmap,
	.slot_get = slot_get,
	.slot_put = slot_put,
	.bell = kvm_bell,
	.unpark = unpark,
	.barrier = barrier,
	.now_ns = now_ns,
	.failed = failed,
	.control = control,
	.doorbell = kvm_doorbell,
};

const struct ivc_plat_ops *ivc_kvm_ops(void)
{
	return &ops;
}

/* A private copy of @cfg in *@out. Return: whether its numbers make sense. */
static bool config_take(struct ivc_kvm_config *out, const struct ivc_kvm_config *cfg)
{
	const uint64_t in_page = (UINT64_C(1) << IVC_GRANULE_LOG_MIN) - 1;

	if (!cfg || cfg->size < offsetof(struct ivc_kvm_config, ram) + sizeof(cfg->ram)) {
		return false;
	}
	memset(out, 0, sizeof(*out));
	memcpy(out, cfg, cfg->size < sizeof(*out) ? cfg->size : sizeof(*out));
	if (out->bell_fd == 0) {
		out->bell_fd = -1;
	}
	return !out->flags && !out->reserved && out->ram && out->slot_count && out->slot_count <= UINT16_MAX &&
	       out->slot_first <= UINT16_MAX && !((out->trap.v | out->doorbell.v) & in_page) &&
	       (!out->trap.v || out->trap.v != out->doorbell.v);
}

static uint32_t extension(int vm_fd, unsigned long what)
{
	const int n = ioctl(vm_fd, KVM_CHECK_EXTENSION, what);

	return n > 0 ? (uint32_t)n : 0;
}

/* What KVM must be able to do below us. */
static int vm_check(const struct ivc_kvm_config *config)
{
	if (ioctl(config->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) <= 0) {
		return IVC_E_INVAL; /* not the descriptor of a VM */
	}
	if (!extension(config->vm_fd, KVM_CAP_READONLY_MEM) || !extension(config->vm_fd, KVM_CAP_SYNC_MMU)) {
		return IVC_E_OPNOTSUPP;
	}
	if (config->slot_first + config->slot_count > extension(config->vm_fd, KVM_CAP_NR_MEMSLOTS)) {
		return IVC_E_INVAL;
	}
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) ? IVC_E_OPNOTSUPP : 0;
}

int ivc_kvm_create(struct ivc_kvm **out, const struct ivc_kvm_config *cfg)
{
	struct ivc_kvm_config config;
	struct ivc_kvm *kvm;
	int err;

	if (!out || !config_take(&config, cfg)) {
		return IVC_E_INVAL;
	}
	err = vm_check(&config);
	if (err) {
		return err;
	}
	kvm = calloc(1, sizeof(*kvm));
	if (!kvm) {
		return IVC_E_NOMEM;
	}
	kvm->config = config;
	if (kvm->config.doorbells == 0) {
		kvm->config.doorbells = DOORBELLS;
	}
	kvm->sync_regs = (extension(config.vm_fd, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_REGS) != 0;
	kvm->view = calloc(config.slot_count, sizeof(*kvm->view));
	kvm->order = calloc(config.slot_count, sizeof(*kvm->order));
	if (!kvm->view || !kvm->order || pthread_mutex_init(&kvm->lock, NULL)) {
		free(kvm->order);
		free(kvm->view);
		free(kvm);
		return IVC_E_NOMEM;
	}
	for (uint32_t n = 0; n < config.slot_count; n++) {
		kvm->order[n] = n;
	}
	*out = kvm;
	return 0;
}

void ivc_kvm_destroy(struct ivc_kvm *kvm)
{
	if (!kvm) {
		return;
	}
	kvm_views_end(kvm);
	pthread_mutex_destroy(&kvm->lock);
	free(kvm->order);
	free(kvm->view);
	free(kvm);
}
