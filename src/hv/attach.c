/* SPDX-License-Identifier: MIT */
/*
 * A VM's coming and going, and the registry's kind of struct ivc_vm. It decides when a VM's record is free again: when no
 * op can name it.
 */
#include "bell.h"
#include "control.h"
#include "dispatch.h"
#include "rcu.h"

static struct ivc_hvm *of(struct ivc_vm *vm)
{
	return (struct ivc_hvm *)(void *)vm; /* `base` is its first member */
}

static enum ivc_verdict vm_hypercall(struct ivc_vm *vm, void *vcpu, struct ivc_call *call)
{
	return ivc_dispatch(of(vm), vcpu, call);
}

static void vm_park_end(struct ivc_vm *vm, void *vcpu, struct ivc_call *call, int why)
{
	(void)vcpu;
	ivc_bell_park_end(of(vm), call, why);
}

static bool vm_window_access(struct ivc_vm *base, ivc_gpa_t at, bool write, void *data, uint32_t bytes)
{
	struct ivc_hvm *vm = of(base);
	unsigned char *to = (unsigned char *)data;

	if (!ivc_range_ok(at.v, bytes) || !ivc_ranges_meet(at.v, bytes, vm->config.window.v, vm->config.window_bytes)) {
		return false;
	}
	ivc_vm_count(write ? &vm->stats.stray_writes : &vm->stats.stray_reads);
	for (uint32_t i = 0; !write && i < bytes; i++) {
		to[i] = 0xff;
	}
	return true;
}

static void vm_doorbell(struct ivc_vm *base, uint32_t value)
{
	struct ivc_thread *self = ivc_thread_self();
	struct ivc_hvm *vm = of(base);
	bool rung = false;

	if (ivc_core_enter(self) != 0) {
		return;
	}
	if (ivc_vm_enter(vm)) {
		rung = ivc_load_acquire_u32(&vm->hv->phase) != IVC_HV_OFF && ivc_bell_doorbell(vm, value);
		ivc_vm_leave(vm);
	}
	if (!rung) {
		ivc_vm_count(&vm->stats.stray_writes);
	}
	ivc_core_leave(self);
}

static int vm_reset(struct ivc_vm *base)
{
	struct ivc_thread *self = ivc_thread_self();
	struct ivc_hvm *vm = of(base);
	struct ivc_hv *hv = vm->hv;
	int err;

	err = ivc_core_enter(self);
	if (err != 0) {
		return err;
	}
	if (!ivc_vm_enter(vm)) {
		err = IVC_E_SHUTDOWN;
		goto out;
	}
	ivc_lock_take(&hv->waiter, &vm->control);
	err = ivc_vm_alive(vm) ? ivc_dispatch_end_one(vm) : IVC_E_SHUTDOWN;
	ivc_lock_give(&vm->control);
	ivc_vm_leave(vm);
	ivc_hub_reclaim(hv, false);
out:
	ivc_core_leave(self);
	return err;
}

/* No call gets in any more, none is inside, no vCPU is parked. */
static void vm_stop(struct ivc_hvm *vm)
{
	if (ivc_vm_close(vm)) {
		ivc_bell_unpark_all(vm,
				    IVC_E_SHUTDOWN); /* before the wait: their threads may be what the host waits for */
	}
	ivc_vm_drain(vm);
}

/* Nothing names the VM any more: its record may live again. */
static void vm_free(struct ivc_hvm *vm)
{
	struct ivc_hv *hv = vm->hv;

	/* [VM-DOWN] a bell that found us in a read section has rung by then: no op names this VM any more. */
	ivc_rcu_synchronize();
	ivc_lock_take(&hv->waiter, &hv->lock);
	ivc_store_release_u32(&vm->state, IVC_VM_FREE);
	ivc_store_relaxed_u32(&hv->vms_now, hv->vms_now - 1);
	ivc_lock_give(&hv->lock);
	if (hv->ops.log != NULL) {
		hv->ops.log(hv->host, 0, "VM detached");
	}
}

static int vm_detach(struct ivc_vm *base)
{
	struct ivc_thread *self = ivc_thread_self();
	struct ivc_hvm *vm = of(base);
	struct ivc_hv *hv = vm->hv;
	int err;

	err = ivc_core_enter(self);
	if (err != 0) {
		return err;
	}
	vm_stop(vm);
	ivc_lock_take(&hv->waiter, &vm->control);
	err = ivc_dispatch_end_one(vm);
	ivc_lock_give(&vm->control);
	if (err == 0 && ivc_load_acquire_u32(&vm->lingering) != 0) {
		/* A publisher's host has yet to close its view of a seat that was ours. */
		ivc_wait_turn(&hv->waiter, 0);
		err = IVC_E_AGAIN;
	}
	if (err == 0) {
		vm_free(vm);
	} else {
		ivc_hub_reclaim(hv, false);
	}
	ivc_core_leave(self);
	return err;
}

static void vm_stats(const struct ivc_vm *base, struct ivc_vm_stats *out)
{
	const struct ivc_hvm *vm = (const struct ivc_hvm *)(const void *)base;
	const struct ivc_vm_stats *from = &vm->stats;

	*out = (struct ivc_vm_stats){
		.calls = ivc_load_relaxed_u64(&from->calls),
		.calls_failed = ivc_load_relaxed_u64(&from->calls_failed),
		.published = ivc_load_relaxed_u64(&from->published),
		.subscribed = ivc_load_relaxed_u64(&from->subscribed),
		.bells_out = ivc_load_relaxed_u64(&from->bells_out),
		.bells_in = ivc_load_relaxed_u64(&vm->bells_in),
		.bells_merged = ivc_load_relaxed_u64(&vm->bells_merged),
		.waits_parked = ivc_load_relaxed_u64(&from->waits_parked),
		.stray_reads = ivc_load_relaxed_u64(&from->stray_reads),
		.stray_writes = ivc_load_relaxed_u64(&from->stray_writes),
		.quarantined = ivc_load_relaxed_u64(&from->quarantined),
		.channels_now = ivc_load_relaxed_u32(&vm->channels),
		.memberships_now = ivc_load_relaxed_u32(&vm->memberships),
		.bytes_now = ivc_load_relaxed_u64(&vm->charged),
		.window_now = ivc_load_relaxed_u64(&vm->window.taken),
	};
}

static const struct ivc_vm_entry registry_vm = {
	.hypercall = vm_hypercall,
	.park_end = vm_park_end,
	.window_access = vm_window_access,
	.doorbell = vm_doorbell,
	.reset = vm_reset,
	.detach = vm_detach,
	.stats = vm_stats,
};

static int config_check(const struct ivc_hv *hv, const struct ivc_vm_config *c)
{
	if ((c->flags & ~IVC_VM_PRIVILEGED) != 0 || c->id.v > IVC_VM_ID_LAST) {
		return IVC_E_INVAL;
	}
	if (!ivc_range_ok(c->window.v, c->window_bytes) || (c->window.v | c->window_bytes) % hv->granule != 0) {
		return IVC_E_INVAL;
	}
	return 0;
}

/* A fresh life in a free record. Context: hv->lock; the record is nobody's. */
static void vm_fill(struct ivc_hvm *vm, const struct ivc_vm_config *c)
{
	const struct ivc_hv_config *limits = &vm->hv->config;

	vm->base.entry = &registry_vm;
	vm->host = c->host;
	vm->config = *c;
	if (vm->config.quota.channels > limits->vm_channels) {
		vm->config.quota.channels = limits->vm_channels;
	}
	if (vm->config.quota.memberships > limits->vm_memberships) {
		vm->config.quota.memberships = limits->vm_memberships;
	}
	vm->channels = 0;
	vm->memberships = 0;
	vm->charged = 0;
	vm->parked = NULL;
	vm->wait_next = 0;
	vm->stats = (struct ivc_vm_stats){0};
	vm->bells_in = 0;
	vm->bells_merged = 0;
	ivc_gpa_init(&vm->window, c->window.v, c->window_bytes, vm->window.used, vm->window.room);
}

int ivc_hv_vm_attach(struct ivc_hv *hv, const struct ivc_vm_config *cfg, struct ivc_vm **out)
{
	struct ivc_thread *self = ivc_thread_self();
	struct ivc_hvm *found = NULL;
	struct ivc_vm_config c;
	int err;

	if (cfg->size < sizeof(c)) {
		return IVC_E_INVAL; /* the first version of this struct; later ones will be longer */
	}
	c = *cfg;
	err = config_check(hv, &c);
	if (err == 0) {
		err = ivc_core_enter(self);
	}
	if (err != 0) {
		return err;
	}
	ivc_lock_take(&hv->waiter, &hv->lock);
	if (!ivc_control_open(hv)) {
		err = IVC_E_SHUTDOWN;
	}
	for (uint32_t i = 0; i < hv->config.vms && err == 0; i++) {
		struct ivc_hvm *vm = ivc_hub_vm(hv, i);

		if (ivc_load_acquire_u32(&vm->state) == IVC_VM_FREE) {
			found = found == NULL ? vm : found;
		} else if (vm->config.id.v == c.id.v) {
			err = IVC_E_EXIST;
		}
	}
	if (err == 0 && found == NULL) {
		err = IVC_E_NOSPC;
	}
	if (err == 0) {
		vm_fill(found, &c);
		ivc_store_release_u32(&found->state, IVC_VM_ALIVE);
		ivc_store_relaxed_u32(&hv->vms_now, hv->vms_now + 1);
		*out = &found->base;
	}
	ivc_lock_give(&hv->lock);
	ivc_core_leave(self);
	if (err == 0 && hv->ops.log != NULL) {
		hv->ops.log(hv->host, 0, "VM attached");
	}
	return err;
}
