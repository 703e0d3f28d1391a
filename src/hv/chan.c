/* SPDX-License-Identifier: MIT */
/*
 * A channel's life: built, LIVE, ended. It decides the commit points and the order of removal: name, new users, window,
 * references, memory, record. Seats are member.c's.
 */
#include "chan.h"

#include "bell.h"
#include "rcu.h"
#include "window.h"

struct ivc_chan *ivc_chan_own(struct ivc_hvm *vm, ivc_key_t key)
{
	struct ivc_name *name;

	ivc_rcu_read_lock();
	name = ivc_registry_find(vm->hv->names, vm->config.id, key);
	ivc_rcu_read_unlock();
	if (name == NULL) {
		return NULL;
	}
	/* A name of ours goes only under our control lock, which the caller holds: it outlives the read section. */
	return ivc_chan_of_name(name);
}

bool ivc_chan_get(struct ivc_chan *chan)
{
	uint32_t refs = ivc_load_acquire_u32(&chan->refs);

	while (refs != 0) {
		if (ivc_compare_exchange_u32(&chan->refs, &refs, refs + 1)) {
			return true;
		}
	}
	return false;
}

void ivc_chan_put(struct ivc_chan *chan)
{
	if (ivc_fetch_sub_u32(&chan->refs, 1) == 1) {
		ivc_store_release_u64(&chan->handle, 0);
		ivc_hub_retire(chan->hv, &chan->record);
	}
}

struct ivc_chan *ivc_chan_by_handle(struct ivc_hv *hv, uint64_t handle)
{
	const uint64_t index = handle & ((UINT64_C(1) << IVC_HANDLE_INDEX_BITS) - 1);
	struct ivc_chan *chan;

	if (handle == 0 || index >= hv->chan_count) {
		return NULL;
	}
	chan = ivc_hub_chan(hv, (uint32_t)index);
	/* [HANDLE] acquire: the handle, then the record. Partner: ivc_chan_publish(). */
	return ivc_load_acquire_u64(&chan->handle) == handle ? chan : NULL;
}

uint64_t ivc_chan_handle_at(struct ivc_hv *hv, uint32_t index)
{
	/* [HANDLE] acquire: as ivc_chan_by_handle(), which is asked with the answer. */
	return index < hv->chan_count ? ivc_load_acquire_u64(&ivc_hub_chan(hv, index)->handle) : 0;
}

/* A fresh record becomes a channel that nobody can find yet. */
static void chan_prepare(struct ivc_chan *chan, struct ivc_hvm *vm, ivc_key_t key, const struct ivc_region_plan *plan,
			 uint64_t at)
{
	const uint64_t mask = (UINT64_C(1) << IVC_HANDLE_GENERATION_BITS) - 1;
	struct ivc_member *m = &chan->publisher;

	chan->generation = (chan->generation + 1) & mask;
	if (chan->generation == 0) {
		chan->generation = 1; /* a handle is never zero */
	}
	chan->epoch = ivc_hub_epoch(vm->hv);
	chan->plan = *plan;
	chan->name.publisher = vm->config.id.v;
	chan->name.key = key.v;
	chan->views_busy = 0;
	chan->view_stop = false;
	chan->hv_page.refs = 0;
	chan->data.refs = 0;
	m->vm = vm;
	m->chan = chan;
	m->seat = IVC_SEAT_NONE;
	m->slot = IVC_VM_SLOT_NONE;
	m->own = IVC_OWN_BUILDING;
	m->view = IVC_VIEW_NONE;
	m->at = at;
	m->charge = plan->hv_bytes + plan->data_bytes;
	m->sleeps = (plan->layout & IVC_LAYOUT_SLEEPS) != 0;
}

/* Memory of the channel's own sections, their first words written. Return: 0; IVC_E_NOMEM: none is held. */
static int chan_memory(struct ivc_chan *chan)
{
	const bool flat = chan->plan.hv_bytes == 0;
	int err = 0;

	if (!flat) {
		err = ivc_section_make(chan->hv, &chan->hv_page, chan->plan.hv_bytes, IVC_MEM_HV);
		if (err != 0) {
			return err;
		}
	}
	err = ivc_section_make(chan->hv, &chan->data, chan->plan.data_bytes,
			       flat ? IVC_MEM_SHARED : IVC_MEM_ONE_WRITER);
	if (err != 0) {
		if (!flat) {
			ivc_section_drop(chan->hv, &chan->hv_page);
		}
		return err;
	}
	ivc_page_init(chan);
	return 0;
}

/* The owner's reference to each section of the channel. */
static void chan_memory_put(struct ivc_chan *chan)
{
	const bool flat = chan->plan.hv_bytes == 0;
	bool data_last;
	bool page_last;

	ivc_lock_take(&chan->hv->waiter, &chan->lock);
	data_last = ivc_section_put_locked(&chan->data);
	page_last = !flat && ivc_section_put_locked(&chan->hv_page);
	ivc_lock_give(&chan->lock);
	if (data_last) {
		ivc_section_drop(chan->hv, &chan->data);
	}
	if (page_last) {
		ivc_section_drop(chan->hv, &chan->hv_page);
	}
}

/* Nothing from here on can fail: the channel becomes LIVE, then its handle and its name can be found. */
static void chan_commit(struct ivc_chan *chan)
{
	struct ivc_member *m = &chan->publisher;
	struct ivc_hvm *vm = m->vm;

	m->slot = ivc_vm_slot_find(vm);
	ivc_vm_slot_set(vm, m->slot, m); /* first: it clears what an earlier bell may have left */
	ivc_lock_take(&chan->hv->waiter, &chan->lock);
	m->own = IVC_OWN_OPEN;
	ivc_store_release_u32(&m->state, IVC_MEMBER_ACTIVE);
	ivc_store_release_u32(&chan->state, IVC_CHANNEL_LIVE);
	ivc_lock_give(&chan->lock);
	ivc_store_release_u32(&chan->refs, 1);
	(void)ivc_fetch_add_u32(&vm->channels, 1);
	(void)ivc_fetch_add_u32(&chan->hv->channels_now, 1);
	/* [HANDLE] release: the whole record, then its handle. Partner: ivc_chan_by_handle(). */
	ivc_store_release_u64(&chan->handle, ivc_chan_handle(chan));
	ivc_registry_add(chan->hv->names, &chan->name);
}

int ivc_chan_publish(struct ivc_hvm *vm, ivc_key_t key, const struct ivc_region_plan *plan, struct ivc_grant *grant)
{
	struct ivc_hv *hv = vm->hv;
	struct ivc_record *record;
	struct ivc_chan *chan;
	uint64_t at;
	int err;

	if (ivc_chan_own(vm, key) != NULL) {
		return IVC_E_EXIST;
	}
	if (vm->channels >= vm->config.quota.channels) {
		return IVC_E_DQUOT;
	}
	err = ivc_vm_charge(vm, plan->hv_bytes + plan->data_bytes);
	if (err != 0) {
		return err;
	}
	err = ivc_gpa_reserve(&vm->window, plan->window_bytes, plan->align, &at);
	if (err != 0) {
		goto undo_charge;
	}
	err = ivc_hub_take(hv, IVC_RECORD_CHAN, &record);
	if (err != 0) {
		goto undo_window;
	}
	chan = (struct ivc_chan *)(void *)record;
	chan_prepare(chan, vm, key, plan, at);
	err = chan_memory(chan);
	if (err != 0) {
		goto undo_record;
	}
	ivc_window_refs_take_locked(&chan->publisher); /* nobody else can see it: no lock needed */
	err = ivc_window_build(&chan->publisher);
	if (err != 0) {
		goto undo_memory;
	}
	if (!ivc_vm_alive(vm)) {
		(void)ivc_window_remove(&chan->publisher, false);
		err = IVC_E_SHUTDOWN;
		goto undo_memory;
	}
	chan_commit(chan);
	grant->base = at;
	grant->bytes = plan->window_bytes;
	ivc_vm_count(&vm->stats.published);
	return 0;

undo_memory:
	ivc_window_refs_put(&chan->publisher);
	chan_memory_put(chan);
undo_record:
	ivc_hub_give(hv, &chan->record);
undo_window:
	ivc_gpa_release(&vm->window, at);
undo_charge:
	ivc_vm_uncharge(vm, plan->hv_bytes + plan->data_bytes);
	return err;
}

int ivc_chan_end(struct ivc_chan *chan, uint32_t state)
{
	const struct ivc_waiter *waiter = &chan->hv->waiter;
	struct ivc_member *m = &chan->publisher;
	struct ivc_hvm *vm = m->vm;
	int seats_err;
	int own_err;

	/* Commit: the name is gone, nobody joins any more, the members can see why. */
	ivc_registry_del(chan->hv->names, &chan->name);
	ivc_lock_take(waiter, &chan->lock);
	ivc_store_release_u32(&chan->state, state);
	ivc_store_release_u32(&m->state, IVC_MEMBER_LEAVING);
	m->own = IVC_OWN_UNMAPPING;
	chan->view_stop = true;
	ivc_page_state(chan, state);
	ivc_lock_give(&chan->lock);
	(void)ivc_fetch_sub_u32(&chan->hv->channels_now, 1);

	/* The publisher's window goes before the call returns. */
	seats_err = ivc_member_views_end(chan);
	own_err = ivc_window_remove(m, false);
	ivc_window_refs_put(m);
	ivc_gpa_release(&vm->window, m->at);
	ivc_vm_uncharge(vm, m->charge);
	ivc_vm_slot_clear(vm, m->slot);
	(void)ivc_fetch_sub_u32(&vm->channels, 1);

	if (state == IVC_CHANNEL_REVOKED) {
		for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
			ivc_member_take_back(chan, seat);
		}
	}
	ivc_bell_ended(chan);
	ivc_bell_left(vm, chan);
	chan_memory_put(chan);
	ivc_lock_take(waiter, &chan->lock);
	m->own = IVC_OWN_NONE;
	ivc_store_release_u32(&m->state, IVC_MEMBER_NONE);
	ivc_lock_give(&chan->lock);
	ivc_chan_put(chan);
	return seats_err != 0 ? seats_err : own_err;
}

void ivc_chan_info(struct ivc_chan *chan, struct ivc_channel_info *info)
{
	struct ivc_channel_info out = {0};

	ivc_lock_take(&chan->hv->waiter, &chan->lock);
	out.publisher = ivc_vmid(chan->name.publisher);
	out.state = chan->state;
	out.key = ivc_key(chan->name.key);
	out.handle.v = ivc_chan_handle(chan);
	out.layout = chan->plan.layout;
	out.epoch = chan->epoch;
	out.seats = chan->plan.seats;
	out.bytes = chan->hv_page.refs != 0 ? chan->plan.hv_bytes : 0;
	out.bytes += chan->data.refs != 0 ? chan->plan.data_bytes : 0;
	out.windows = chan->publisher.own == IVC_OWN_OPEN ? 1 : 0;
	for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
		const struct ivc_member *m = ivc_chan_seat_get(chan, seat);

		if (m == NULL) {
			continue;
		}
		out.members += m->state == IVC_MEMBER_ACTIVE || m->state == IVC_MEMBER_REVOKED ? 1 : 0;
		out.bytes += m->section.refs != 0 ? chan->plan.seat_bytes : 0;
		out.windows += m->own == IVC_OWN_OPEN ? 1 : 0;
	}
	ivc_lock_give(&chan->lock);
	*info = out;
}
