/* SPDX-License-Identifier: MIT */
/*
 * PREPARE_DISABLE, DISABLE and DEBUG. DISABLE takes one channel at a time back from every VM, each under its own
 * publisher's control lock, and answers EAGAIN until none is left; then the embedder's op runs.
 */
#include "control.h"

#include "chan.h"
#include "rcu.h"

/* A reference to some channel that is LIVE, or has members whose memory is not taken back. NULL: there is none. */
static struct ivc_chan *next_open(struct ivc_hv *hv)
{
	for (uint32_t i = 0; i < hv->chan_count; i++) {
		struct ivc_chan *chan = ivc_hub_chan(hv, i);
		bool held;
		bool open;

		ivc_rcu_read_lock();
		held = ivc_load_acquire_u64(&chan->handle) != 0 && ivc_chan_get(chan);
		ivc_rcu_read_unlock();
		if (!held) {
			continue;
		}
		ivc_lock_take(&hv->waiter, &chan->lock);
		open = chan->state == IVC_CHANNEL_LIVE;
		for (uint32_t seat = 0; seat < chan->plan.seats && !open; seat++) {
			const struct ivc_member *m = ivc_chan_seat_get(chan, seat);

			open = m != NULL && m->own == IVC_OWN_OPEN;
		}
		ivc_lock_give(&chan->lock);
		if (open) {
			return chan;
		}
		ivc_chan_put(chan);
	}
	return NULL;
}

/* Ends a LIVE channel under its publisher's control lock. Nothing where its VM is being torn down, that ends it as well. */
static void revoke_live(struct ivc_chan *chan)
{
	struct ivc_hv *hv = chan->hv;
	struct ivc_hvm *vm;
	bool in = false;

	ivc_rcu_read_lock();
	vm = chan->publisher.vm;
	if (ivc_load_acquire_u32(&chan->publisher.state) == IVC_MEMBER_ACTIVE) {
		in = ivc_vm_enter(vm); /* keeps the VM's record; the read section made it safe to try */
	}
	ivc_rcu_read_unlock();
	if (!in) {
		return;
	}
	ivc_lock_take(&hv->waiter, &vm->control);
	if (ivc_load_acquire_u32(&chan->state) == IVC_CHANNEL_LIVE) {
		(void)ivc_chan_end(chan, IVC_CHANNEL_REVOKED);
	}
	ivc_lock_give(&vm->control);
	ivc_vm_leave(vm);
}

static int disable(struct ivc_hvm *vm)
{
	struct ivc_hv *hv = vm->hv;
	uint32_t prepared = IVC_HV_PREPARED;
	uint32_t stopping = IVC_HV_STOPPING;
	struct ivc_chan *chan;

	if (!ivc_compare_exchange_u32(&hv->phase, &prepared, IVC_HV_STOPPING) && prepared != IVC_HV_STOPPING) {
		return prepared == IVC_HV_OFF ? IVC_E_SHUTDOWN : IVC_E_BUSY;
	}
	chan = next_open(hv);
	if (chan != NULL) {
		revoke_live(chan);
		if (ivc_load_acquire_u32(&chan->state) != IVC_CHANNEL_LIVE) {
			for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
				ivc_member_take_back(chan, seat);
			}
		}
		ivc_chan_put(chan);
		return IVC_E_AGAIN;
	}
	if (!ivc_compare_exchange_u32(&hv->phase, &stopping, IVC_HV_OFF)) {
		return IVC_E_SHUTDOWN; /* another vCPU was first */
	}
	(void)hv->ops.control(vm->host, IVC_HC_HYPERVISOR_DISABLE, 0, 0);
	return 0;
}

static int prepare(struct ivc_hvm *vm)
{
	struct ivc_hv *hv = vm->hv;
	uint32_t run = IVC_HV_RUN;
	int err;

	if (ivc_load_acquire_u32(&hv->phase) != IVC_HV_RUN) {
		return IVC_E_BUSY;
	}
	err = hv->ops.control(vm->host, IVC_HC_HYPERVISOR_PREPARE_DISABLE, 0, 0);
	if (err != 0) {
		return err < 0 ? err : IVC_E_IO;
	}
	return ivc_compare_exchange_u32(&hv->phase, &run, IVC_HV_PREPARED) ? 0 : IVC_E_BUSY;
}

int ivc_control_call(struct ivc_hvm *vm, uint64_t nr, uint64_t op, uint64_t arg)
{
	int err;

	if ((vm->config.flags & IVC_VM_PRIVILEGED) == 0) {
		return IVC_E_PERM;
	}
	if (vm->hv->ops.control == NULL) {
		return IVC_E_OPNOTSUPP;
	}
	switch (nr) {
	case IVC_HC_HYPERVISOR_DISABLE:
		return disable(vm);
	case IVC_HC_HYPERVISOR_PREPARE_DISABLE:
		return prepare(vm);
	default:
		err = vm->hv->ops.control(vm->host, IVC_HC_HYPERVISOR_DEBUG, op, arg);
		return err <= 0 ? err : IVC_E_IO;
	}
}
