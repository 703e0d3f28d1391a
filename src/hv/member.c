/* SPDX-License-Identifier: MIT */
/*
 * Subscribers: joining, leaving, and what the publisher's window shows of their seats. It decides when a seat may be
 * taken again: when nothing shows the last sitting's memory any more.
 */
#include "chan.h"

#include "bell.h"
#include "rcu.h"
#include "window.h"

static volatile uint64_t *seat_word(const struct ivc_chan *chan, uint32_t seat)
{
	_Static_assert(sizeof(struct ivc_member *) == sizeof(uint64_t), "64-bit hosts only");
	return (volatile uint64_t *)(uintptr_t)&chan->seat[seat].member;
}

struct ivc_member *ivc_chan_seat_get(const struct ivc_chan *chan, uint32_t seat)
{
	/* [SEAT] acquire: the seat, then its member. Partner: seat_set(). */
	return (struct ivc_member *)(uintptr_t)ivc_load_acquire_u64(seat_word(chan, seat));
}

static void seat_set(struct ivc_chan *chan, uint32_t seat, struct ivc_member *m)
{
	/* [SEAT] release: the member, then the seat that shows it. Partner: ivc_chan_seat_get(). */
	ivc_store_release_u64(seat_word(chan, seat), (uint64_t)(uintptr_t)m);
}

static uint32_t seat_free_locked(const struct ivc_chan *chan)
{
	for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
		if (ivc_chan_seat_get(chan, seat) == NULL) {
			return seat;
		}
	}
	return IVC_SEAT_NONE;
}

struct ivc_member *ivc_member_of(struct ivc_hvm *vm, ivc_vmid_t publisher, ivc_key_t key)
{
	for (uint32_t slot = 0; slot < vm->slots; slot++) {
		struct ivc_member *m = ivc_vm_slot_get(vm, slot);

		if (m != NULL && m->seat != IVC_SEAT_NONE && m->chan->name.publisher == publisher.v &&
		    m->chan->name.key == key.v) {
			return m;
		}
	}
	return NULL;
}

/*
 * The view of the seat is over, or the member's memory was taken back: when both hold, nothing shows the seat section any
 * more and the owner's reference goes before the member does. Return: true: drop *@out, a copy, without a lock; the record
 * may be gone by then.
 */
static bool seat_memory_over_locked(struct ivc_member *m, struct ivc_section *out)
{
	if (m->own != IVC_OWN_CLOSED || (m->view != IVC_VIEW_NONE && m->view != IVC_VIEW_GONE) ||
	    m->section.refs == 0 || !ivc_section_put_locked(&m->section)) {
		return false;
	}
	*out = m->section;
	return true;
}

/* One hold less. At the last the seat is free, the memory and the charge go back, the record dies. */
static void member_drop(struct ivc_member *m)
{
	struct ivc_chan *chan = m->chan;
	struct ivc_hv *hv = chan->hv;
	struct ivc_hvm *vm = m->vm;
	bool memory_last;

	ivc_lock_take(&hv->waiter, &chan->lock);
	if (--m->holds != 0) {
		ivc_lock_give(&chan->lock);
		return;
	}
	seat_set(chan, m->seat, NULL);
	memory_last = m->section.refs != 0 && ivc_section_put_locked(&m->section);
	ivc_store_release_u32(&m->state, IVC_MEMBER_NONE);
	ivc_lock_give(&chan->lock);
	if (memory_last) {
		ivc_section_drop(hv, &m->section);
	}
	ivc_vm_uncharge(vm, m->seat_charge);
	ivc_hub_retire(hv, &m->record);
	ivc_chan_put(chan);
	(void)ivc_fetch_sub_u32(&vm->lingering, 1); /* last: a detach that waits for it may free the VM's record */
}

/*
 * The end of an op on the publisher's view of @m's seat. Return: true: the member left meanwhile, so the view that has just
 * come must be closed; the caller runs that op.
 */
static bool view_settle(struct ivc_member *m, int status)
{
	struct ivc_chan *chan = m->chan;
	const bool mapping = m->view == IVC_VIEW_MAPPING; /* only the runner of the op changes it */
	const bool gone = mapping ? status != 0 : true;
	uint32_t direct = 0;
	struct ivc_section memory;
	bool memory_over = false;
	bool again = false;
	bool active = false;

	/* The op is still counted in views_busy, so the publisher's record is valid. */
	if (!mapping && status != 0) {
		ivc_section_quarantine(chan, chan->publisher.vm, &m->section);
	} else if (mapping && ivc_map_status(status) == IVC_E_IO) {
		ivc_vm_fail(chan->publisher.vm); /* its host is broken; a mere lack of room is not */
	}
	if (!gone) {
		direct = ivc_doorbell_on(m);
	}
	ivc_lock_take(&chan->hv->waiter, &chan->lock);
	if (!gone) {
		chan->seat[m->seat].backed = true;
		m->view = IVC_VIEW_MAPPED;
		m->direct = direct;
		if (m->state == IVC_MEMBER_ACTIVE && chan->state == IVC_CHANNEL_LIVE) {
			ivc_page_seat_state(chan, m->seat, IVC_SEAT_ACTIVE);
			m->holds++; /* keeps the channel until the publisher is told */
			active = true;
		} else if (m->state == IVC_MEMBER_LEAVING && !chan->view_stop) {
			m->view = IVC_VIEW_CLOSING;
			again = true;
		}
	} else {
		m->view = mapping ? IVC_VIEW_NONE : IVC_VIEW_GONE;
		(void)ivc_section_put_locked(&m->section); /* never the last: the owner holds one */
		memory_over = seat_memory_over_locked(m, &memory);
	}
	if (!again) {
		chan->views_busy--;
	}
	ivc_lock_give(&chan->lock);
	if (memory_over) {
		ivc_section_drop(chan->hv, &memory); /* the view's hold keeps the channel */
	}
	if (active) {
		ivc_bell_publisher(chan);
	}
	if (gone || active) {
		member_drop(m);
	}
	return again;
}

/*
 * Runs the op that m->view says has begun. The runner is the only one who changes the view until it has settled.
 * Return: how the first op ended, if it has ended: 0; as ivc_map_status().
 */
static int view_run(struct ivc_member *m)
{
	struct ivc_chan *chan = m->chan;
	const struct ivc_plat_ops *ops = &chan->hv->ops;
	const struct ivc_view view = {
		.at = ivc_gpa(chan->publisher.at + chan->plan.seat_at + m->seat * chan->plan.seat_bytes),
		.bytes = chan->plan.seat_bytes,
		.mem = &m->section.mem,
		.access = IVC_READ,
		.token = m,
	};
	struct ivc_hvm *publisher = chan->publisher.vm;
	void *host = publisher->host;
	int status;
	int first = 0;
	bool again = false;

	do {
		if (m->view == IVC_VIEW_CLOSING) {
			ivc_doorbell_off(m);
			status = ops->close(host, &view);
		} else {
			/* The windows of a VM that was given up are not known: nothing is added to them. */
			status = ivc_vm_alive(publisher) ? ops->map(host, &view) : IVC_E_SHUTDOWN;
		}
		if (status == IVC_LATER) {
			return first; /* ivc_hv_view_done() goes on, perhaps it already has */
		}
		first = again ? first : ivc_map_status(status);
		again = view_settle(m, status);
	} while (again);
	return first;
}

void ivc_hv_view_done(void *token, int status)
{
	struct ivc_member *m = (struct ivc_member *)token;
	struct ivc_hv *hv = m->chan->hv;
	struct ivc_thread *self = ivc_thread_self();
	const uint32_t before = self->inside;

	self->inside = 1;
	if (view_settle(m, status)) {
		(void)view_run(m);
	}
	self->inside = before;
	if (before == 0) {
		ivc_hub_reclaim(hv, false);
	}
}

int ivc_member_views_end(struct ivc_chan *chan)
{
	const struct ivc_waiter *waiter = &chan->hv->waiter;
	struct ivc_hvm *vm = chan->publisher.vm;
	uint32_t turn = 0;
	int result = 0;

	/* view_stop is set: what is in flight ends, nothing new begins. */
	ivc_lock_take(waiter, &chan->lock);
	while (chan->views_busy != 0) {
		ivc_lock_give(&chan->lock);
		ivc_wait_turn(waiter, turn++);
		ivc_lock_take(waiter, &chan->lock);
	}
	ivc_lock_give(&chan->lock);

	for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
		struct ivc_view view = {
			.at = ivc_gpa(chan->publisher.at + chan->plan.seat_at + seat * chan->plan.seat_bytes),
			.bytes = chan->plan.seat_bytes,
			.access = IVC_READ,
		};
		struct ivc_section memory;
		struct ivc_member *m;
		bool memory_over;
		bool shown;
		int err;

		if (!chan->seat[seat].backed) { /* no lock: changed only by ops that views_busy counts */
			continue;
		}
		ivc_lock_take(waiter, &chan->lock);
		m = ivc_chan_seat_get(chan, seat);
		shown = m != NULL && m->view == IVC_VIEW_MAPPED; /* then its hold keeps it until we settle it */
		chan->seat[seat].backed = false;
		ivc_lock_give(&chan->lock);
		view.mem = shown ? &m->section.mem : NULL;
		if (shown) {
			ivc_doorbell_off(m);
		}
		err = chan->hv->ops.unmap(vm->host, &view);
		if (err != 0) {
			result = IVC_E_IO;
			if (shown) {
				ivc_section_quarantine(chan, vm, &m->section);
			} else {
				ivc_vm_fail(vm);
			}
		}
		if (shown) {
			ivc_lock_take(waiter, &chan->lock);
			m->view = IVC_VIEW_GONE;
			(void)ivc_section_put_locked(&m->section);
			memory_over = seat_memory_over_locked(m, &memory);
			ivc_lock_give(&chan->lock);
			if (memory_over) {
				ivc_section_drop(chan->hv, &memory);
			}
			member_drop(m);
		}
	}
	return result;
}

/* LIVE, and its publisher is not as good as dead: then its VM's record is valid, chan_end waits for this lock. */
static bool joinable_locked(const struct ivc_chan *chan)
{
	return chan->state == IVC_CHANNEL_LIVE && ivc_vm_alive(chan->publisher.vm);
}

/* Finds the LIVE channel and makes sure of a seat now, with a reference. Return: 0; IVC_E_NOENT; IVC_E_BUSY. */
static int join_find(struct ivc_hv *hv, ivc_vmid_t publisher, ivc_key_t key, struct ivc_chan **out)
{
	struct ivc_name *name;
	struct ivc_chan *chan = NULL;
	int err = 0;

	ivc_rcu_read_lock();
	name = ivc_registry_find(hv->names, publisher, key);
	if (name != NULL) {
		chan = ivc_chan_of_name(name);
		if (!ivc_chan_get(chan)) {
			chan = NULL;
		}
	}
	ivc_rcu_read_unlock();
	if (chan == NULL) {
		return IVC_E_NOENT;
	}
	ivc_lock_take(&hv->waiter, &chan->lock);
	if (!joinable_locked(chan)) {
		err = IVC_E_NOENT;
	} else if (seat_free_locked(chan) == IVC_SEAT_NONE) {
		err = IVC_E_BUSY;
	}
	ivc_lock_give(&chan->lock);
	if (err != 0) {
		ivc_chan_put(chan);
		return err;
	}
	*out = chan;
	return 0;
}

/* A fresh record becomes a member without a seat. It takes over the caller's reference to the channel. */
static void member_prepare(struct ivc_member *m, struct ivc_hvm *vm, struct ivc_chan *chan, uint64_t at, bool sleeps)
{
	m->vm = vm;
	m->chan = chan;
	m->seat = IVC_SEAT_NONE;
	m->slot = IVC_VM_SLOT_NONE;
	m->own = IVC_OWN_BUILDING;
	m->view = IVC_VIEW_NONE;
	m->holds = 1;
	m->at = at;
	m->charge = chan->plan.hv_bytes + chan->plan.data_bytes;
	m->seat_charge = chan->plan.seat_bytes;
	m->section.refs = 0;
	m->sleeps = sleeps;
	m->direct = 0;
}

/* The seat is taken, the window's references with it. Return: 0; IVC_E_NOENT; IVC_E_BUSY. */
static int member_sit(struct ivc_member *m)
{
	struct ivc_chan *chan = m->chan;
	uint32_t seat;
	int err = 0;

	ivc_lock_take(&chan->hv->waiter, &chan->lock);
	seat = seat_free_locked(chan);
	if (!joinable_locked(chan)) {
		err = IVC_E_NOENT;
	} else if (seat == IVC_SEAT_NONE) {
		err = IVC_E_BUSY;
	} else {
		m->seat = seat;
		ivc_store_release_u32(&m->state, IVC_MEMBER_PENDING);
		seat_set(chan, seat, m);
		ivc_window_refs_take_locked(m);
		(void)ivc_fetch_add_u32(&m->vm->lingering, 1);
	}
	ivc_lock_give(&chan->lock);
	return err;
}

/* Commit, unless the channel ended meanwhile. Return: 0; IVC_E_NOENT. */
static int member_commit(struct ivc_member *m)
{
	struct ivc_chan *chan = m->chan;
	struct ivc_hvm *vm = m->vm;
	const bool flat = chan->plan.hv_bytes == 0;

	m->slot = ivc_vm_slot_find(vm);
	ivc_vm_slot_set(vm, m->slot, m); /* first: it clears what an earlier bell may have left */
	ivc_lock_take(&chan->hv->waiter, &chan->lock);
	if (!joinable_locked(chan)) {
		ivc_lock_give(&chan->lock);
		ivc_vm_slot_clear(vm, m->slot);
		return IVC_E_NOENT;
	}
	m->own = IVC_OWN_OPEN;
	ivc_store_release_u32(&m->state, IVC_MEMBER_ACTIVE);
	ivc_page_seat(chan, m->seat, vm->config.id.v, IVC_SEAT_JOINING, m->sleeps ? IVC_SEAT_SLEEPS : 0,
		      ivc_hub_epoch(chan->hv));
	if (!flat) {
		m->view = IVC_VIEW_MAPPING;
		m->holds++;
		m->section.refs++;
		chan->views_busy++;
	}
	ivc_lock_give(&chan->lock);
	(void)ivc_fetch_add_u32(&vm->memberships, 1);
	(void)ivc_fetch_add_u32(&chan->hv->memberships_now, 1);
	ivc_vm_count(&vm->stats.subscribed);
	return 0;
}

int ivc_member_join(struct ivc_hvm *vm, ivc_vmid_t publisher, ivc_key_t key, bool sleeps, struct ivc_grant *grant)
{
	struct ivc_hv *hv = vm->hv;
	struct ivc_record *record;
	struct ivc_chan *chan;
	struct ivc_member *m;
	uint64_t base_charge;
	uint64_t seat_charge;
	uint64_t at;
	int err;

	if (ivc_member_of(vm, publisher, key) != NULL) {
		return IVC_E_EXIST;
	}
	err = join_find(hv, publisher, key, &chan);
	if (err != 0) {
		return err;
	}
	base_charge = chan->plan.hv_bytes + chan->plan.data_bytes;
	seat_charge = chan->plan.seat_bytes;
	err = vm->memberships >= vm->config.quota.memberships ? IVC_E_DQUOT
							      : ivc_vm_charge(vm, base_charge + seat_charge);
	if (err != 0) {
		goto undo_ref;
	}
	err = ivc_gpa_reserve(&vm->window, chan->plan.window_bytes, chan->plan.align, &at);
	if (err != 0) {
		goto undo_charge;
	}
	err = ivc_hub_take(hv, IVC_RECORD_MEMBER, &record);
	if (err != 0) {
		goto undo_window;
	}
	m = (struct ivc_member *)(void *)record;
	member_prepare(m, vm, chan, at, sleeps);
	if (seat_charge != 0) {
		err = ivc_section_make(hv, &m->section, seat_charge, IVC_MEM_ONE_WRITER);
		if (err != 0) {
			goto undo_record;
		}
	}
	err = member_sit(m);
	if (err != 0) {
		goto undo_memory;
	}
	/* From here on others can see the record: it goes by member_drop(), which also returns seat, memory and reference. */
	err = ivc_window_build(m);
	if (err == 0) {
		err = ivc_vm_alive(vm) ? member_commit(m) : IVC_E_SHUTDOWN;
		if (err != 0) {
			(void)ivc_window_remove(m, false);
		}
	}
	if (err != 0) {
		ivc_window_refs_put(m);
		ivc_gpa_release(&vm->window, at);
		ivc_vm_uncharge(vm, base_charge);
		ivc_lock_take(&hv->waiter, &chan->lock);
		m->own = IVC_OWN_NONE; /* a revoker that waits for us goes on */
		ivc_lock_give(&chan->lock);
		member_drop(m);
		return err;
	}
	grant->base = at;
	grant->bytes = chan->plan.window_bytes;
	grant->seat = m->seat;
	if (sleeps) {
		/* [MAY-SLEEP] the flag in the hv page, then a fence on every CPU of a member. Partner: the sender's look at it. */
		hv->ops.barrier(hv->host);
	}
	if (chan->plan.hv_bytes != 0) {
		err = view_run(m);
	}
	if (err != 0 && err != IVC_E_SHUTDOWN) {
		/* The publisher's host could not show the seat: a seat that never turns ACTIVE is of no use. */
		(void)ivc_member_end(m, IVC_SEAT_LEFT);
		return err == IVC_E_IO ? IVC_E_NOENT : err;
	}
	ivc_bell_publisher(chan);
	return 0;

undo_memory:
	if (seat_charge != 0) {
		ivc_section_drop(hv, &m->section);
	}
undo_record:
	ivc_hub_give(hv, &m->record);
undo_window:
	ivc_gpa_release(&vm->window, at);
undo_charge:
	ivc_vm_uncharge(vm, base_charge + seat_charge);
undo_ref:
	ivc_chan_put(chan);
	return err;
}

int ivc_member_end(struct ivc_member *m, uint8_t seat_state)
{
	struct ivc_chan *chan = m->chan;
	struct ivc_hv *hv = chan->hv;
	struct ivc_hvm *vm = m->vm;
	uint32_t turn = 0;
	bool close_view;
	bool closed;
	int err;

	ivc_lock_take(&hv->waiter, &chan->lock);
	while (m->own == IVC_OWN_CLOSING) { /* the publisher is taking the memory back: it is not waiting for us */
		ivc_lock_give(&chan->lock);
		ivc_wait_turn(&hv->waiter, turn++);
		ivc_lock_take(&hv->waiter, &chan->lock);
	}
	closed = m->own == IVC_OWN_CLOSED;
	m->own = IVC_OWN_UNMAPPING;
	ivc_store_release_u32(&m->state, IVC_MEMBER_LEAVING);
	if (chan->hv_page.refs != 0) { /* a revoked member may be the last who knew of the page */
		ivc_page_seat_state(chan, m->seat, seat_state);
	}
	close_view = m->view == IVC_VIEW_MAPPED && !chan->view_stop;
	if (close_view) {
		m->view = IVC_VIEW_CLOSING;
		chan->views_busy++;
	}
	ivc_lock_give(&chan->lock);

	ivc_bell_left(vm, chan);
	err = ivc_window_remove(m, closed);
	if (!closed) {
		ivc_window_refs_put(m);
	}
	ivc_vm_uncharge(vm, m->charge);
	ivc_vm_slot_clear(vm, m->slot);
	ivc_gpa_release(&vm->window, m->at);
	(void)ivc_fetch_sub_u32(&vm->memberships, 1);
	(void)ivc_fetch_sub_u32(&hv->memberships_now, 1);
	ivc_lock_take(&hv->waiter, &chan->lock);
	m->own = IVC_OWN_NONE;
	ivc_lock_give(&chan->lock);
	ivc_bell_publisher(chan);
	if (close_view) {
		(void)view_run(m);
	}
	member_drop(m);
	return err;
}

void ivc_member_take_back(struct ivc_chan *chan, uint32_t seat)
{
	const struct ivc_waiter *waiter = &chan->hv->waiter;
	struct ivc_section memory;
	struct ivc_member *m;
	uint32_t turn = 0;
	bool memory_over;

	ivc_lock_take(waiter, &chan->lock);
	for (;;) {
		m = ivc_chan_seat_get(chan, seat);
		if (m == NULL || m->own == IVC_OWN_NONE || m->own == IVC_OWN_CLOSED) {
			ivc_lock_give(&chan->lock);
			return;
		}
		if (m->own == IVC_OWN_OPEN) {
			break;
		}
		/* Its VM is in the middle of joining or leaving; joining ends in ENOENT, the channel is not LIVE. */
		ivc_lock_give(&chan->lock);
		ivc_wait_turn(waiter, turn++);
		ivc_lock_take(waiter, &chan->lock);
	}
	m->own = IVC_OWN_CLOSING;
	ivc_store_release_u32(&m->state, IVC_MEMBER_REVOKED);
	ivc_lock_give(&chan->lock);
	/* CLOSING keeps the member: its VM waits in ivc_member_end(). */
	ivc_window_close(m);
	ivc_window_refs_put(m);
	if (chan->plan.hv_bytes != 0) {
		/*
		 * What it could only read costs it nothing any more. What it could write is private memory of the same
		 * size now: that stays charged until it leaves, so that revoked memberships are not free memory.
		 */
		ivc_vm_uncharge(m->vm, m->charge);
		m->charge = 0;
	}
	ivc_lock_take(waiter, &chan->lock);
	m->own = IVC_OWN_CLOSED;
	memory_over = seat_memory_over_locked(m, &memory);
	ivc_lock_give(&chan->lock);
	if (memory_over) {
		ivc_section_drop(chan->hv, &memory);
	}
}
