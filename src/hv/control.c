/* SPDX-License-Identifier: MIT */
/*
 * PREPARE_DISABLE, DISABLE and DEBUG. DISABLE takes one channel at a time back from every VM, each under its own
 * publisher's control lock, and answers EAGAIN until none is left; then the embedder's op runs.
 */
#include "control.h"

#include "bell.h"
#include "chan.h"
#include "rcu.h"

/* Whether some VM's window shows the channel's memory, or an op that changes that is under way. Context: chan lock. */
static bool chan_open_locked(const struct ivc_chan *chan)
{
	if (chan->publisher.own != IVC_OWN_NONE) {
		return true;
	}
	for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
		const struct ivc_member *m = ivc_chan_seat_get(chan, seat);

		if (m != NULL && m->own != IVC_OWN_NONE && m->own != IVC_OWN_CLOSED) {
			return true;
		}
	}
	return false;
}

/* A reference to the channel of record @i, if it is open. */
static struct ivc_chan *open_chan(struct ivc_hv *hv, uint32_t i)
{
	struct ivc_chan *chan = ivc_hub_chan(hv, i);
	bool held;
	bool open;

	ivc_rcu_read_lock();
	held = ivc_load_acquire_u64(&chan->handle) != 0 && ivc_chan_get(chan);
	ivc_rcu_read_unlock();
	if (!held) {
		return NULL;
	}
	ivc_lock_take(&hv->waiter, &chan->lock);
	open = chan_open_locked(chan);
	ivc_lock_give(&chan->lock);
	if (!open) {
		ivc_chan_put(chan);
		return NULL;
	}
	return chan;
}

/*
 * Ends a LIVE channel under its publisher's control lock. Nothing where its VM is being torn down: that ends it as well.
 */
static void revoke_live(struct ivc_chan *chan)
{
	struct ivc_hv *hv = chan->hv;
	struct ivc_hvm *vm;
	bool in = false;

	ivc_rcu_read_lock();
	vm = chan->publisher.vm;
	if (ivc_load_acquire_u32(&chan->publisher.state) == IVC_MEMBER_ACTIVE) {
		in = ivc_vm_enter_failed(vm); /* keeps the VM's record; the read section made it safe to try */
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

/* Takes the memory of one open channel back from all its members. Return: whether it is not open any more. */
static bool take_back(struct ivc_chan *chan)
{
	bool open;

	revoke_live(chan);
	if (ivc_load_acquire_u32(&chan->state) != IVC_CHANNEL_LIVE) {
		for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
			ivc_member_take_back(chan, seat);
		}
		ivc_bell_ended(chan);
	}
	ivc_lock_take(&chan->hv->waiter, &chan->lock);
	open = chan_open_locked(chan);
	ivc_lock_give(&chan->lock);
	return !open;
}

static void unpark_everybody(struct ivc_hv *hv)
{
	for (uint32_t i = 0; i < hv->config.vms; i++) {
		ivc_bell_unpark_all(ivc_hub_vm(hv, i), IVC_E_SHUTDOWN);
	}
}

static int disable(struct ivc_hvm *vm)
{
	struct ivc_hv *hv = vm->hv;
	uint32_t prepared = IVC_HV_PREPARED;
	uint32_t stopping = IVC_HV_STOPPING;
	uint32_t turn = 0;
	bool stuck = false;

	if (!ivc_compare_exchange_u32(&hv->phase, &prepared, IVC_HV_STOPPING) && prepared != IVC_HV_STOPPING) {
		return prepared == IVC_HV_OFF ? IVC_E_SHUTDOWN : IVC_E_BUSY;
	}
	/* [HV-DOWN] the phase, then who is at work; two full fences. Partner: act_locked() in dispatch.c. */
	ivc_fence_full();
	if (ivc_load_seq_u32(&hv->entrances) != 0) {
		return IVC_E_AGAIN;
	}
	for (uint32_t i = 0; i < hv->chan_count; i++) {
		struct ivc_chan *chan = open_chan(hv, i);
		bool done;

		if (chan == NULL) {
			continue;
		}
		done = take_back(chan);
		ivc_chan_put(chan);
		if (done) {
			return IVC_E_AGAIN;
		}
		stuck = true; /* its VM is being torn down; the others are not kept waiting for it */
	}
	if (stuck) {
		return IVC_E_AGAIN;
	}
	if (!ivc_compare_exchange_u32(&hv->phase, &stopping, IVC_HV_OFF)) {
		return IVC_E_SHUTDOWN; /* another vCPU was first */
	}
	ivc_fence_full();
	while (ivc_load_seq_u32(&hv->controlled) != 0) { /* a late UNSUBSCRIBE; nobody begins any more */
		ivc_wait_turn(&hv->waiter, turn++);
	}
	unpark_everybody(hv);
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
