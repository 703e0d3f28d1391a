/* SPDX-License-Identifier: MIT */
/*
 * A bell is one bit per (channel, member). Setting it takes no lock; only a VM that has parked calls is locked, for the
 * time of a look through them. A parked call lives in the caller's struct ivc_call, linked by its private words.
 */
#include "bell.h"

#include "rcu.h"

/* struct ivc_call's private words while it is parked. */
enum parked_word {
	PARKED_NEXT = 0,
	PARKED_VCPU = 1,
	PARKED_HANDLE = 2,
	PARKED_STATE = 3
};

#define PARKED_LINKED UINT64_C(0x7061726b) /* any value that is not zero; dispatch clears the word */

static struct ivc_call *parked_next(const struct ivc_call *call)
{
	return (struct ivc_call *)(uintptr_t)call->core_[PARKED_NEXT];
}

static void *parked_vcpu(const struct ivc_call *call)
{
	return (void *)(uintptr_t)call->core_[PARKED_VCPU];
}

static uint64_t pending_bit(uint32_t slot)
{
	return UINT64_C(1) << slot % 64;
}

/* Takes the bit of @slot. Return: whether it was set. */
static bool pending_take(struct ivc_hvm *vm, uint32_t slot)
{
	return (ivc_fetch_and_u64(&vm->pending[slot / 64], ~pending_bit(slot)) & pending_bit(slot)) != 0;
}

/* Unlinks the call before which @link stands. Context: park lock. */
static struct ivc_call *parked_unlink_locked(struct ivc_hvm *vm, struct ivc_call *before, struct ivc_call *call)
{
	if (before == NULL) {
		vm->parked = parked_next(call);
	} else {
		before->core_[PARKED_NEXT] = call->core_[PARKED_NEXT];
	}
	call->core_[PARKED_STATE] = 0;
	(void)ivc_fetch_sub_u32(&vm->parked_count, 1);
	return call;
}

/*
 * Ends a parked call: its result, then the host. Under the park lock, so that whoever finds it ended knows that its unpark
 * has been as well. Context: park lock.
 */
static void parked_end_locked(struct ivc_hvm *vm, struct ivc_call *before, struct ivc_call *call, int64_t result)
{
	void *vcpu = parked_vcpu(call);

	(void)parked_unlink_locked(vm, before, call);
	call->result = result;
	vm->hv->ops.unpark(vm->host, vcpu);
}

/* Gives @handle to one parked call that waits for it, or for any. Return: whether there was one. Context: park lock. */
static bool parked_give_locked(struct ivc_hvm *vm, uint64_t handle)
{
	struct ivc_call *before = NULL;

	for (struct ivc_call *call = vm->parked; call != NULL; call = parked_next(call)) {
		if (call->core_[PARKED_HANDLE] == 0 || call->core_[PARKED_HANDLE] == handle) {
			parked_end_locked(vm, before, call, (int64_t)handle);
			return true;
		}
		before = call;
	}
	return false;
}

/* Ends every parked call that names @handle. */
static void parked_end_handle(struct ivc_hvm *vm, uint64_t handle, int64_t result)
{
	struct ivc_call *before = NULL;
	struct ivc_call *next;

	ivc_lock_take(&vm->hv->waiter, &vm->park);
	for (struct ivc_call *call = vm->parked; call != NULL; call = next) {
		next = parked_next(call);
		if (call->core_[PARKED_HANDLE] == handle) {
			parked_end_locked(vm, before, call, result);
		} else {
			before = call;
		}
	}
	ivc_lock_give(&vm->park);
}

/* The bit of @slot is set and somebody may be parked for it. Who sits in the slot now counts, not who was rung. */
static void bell_hand_over(struct ivc_hvm *vm, uint32_t slot)
{
	ivc_lock_take(&vm->hv->waiter, &vm->park);
	if (pending_take(vm, slot)) {
		const struct ivc_member *m = ivc_vm_slot_get(vm, slot);

		if (m != NULL && !parked_give_locked(vm, ivc_chan_handle(m->chan))) {
			(void)ivc_fetch_or_u64(&vm->pending[slot / 64], pending_bit(slot));
		}
	}
	ivc_lock_give(&vm->park);
}

void ivc_bell_raise(struct ivc_member *m)
{
	struct ivc_hvm *vm = m->vm;
	const uint32_t slot = m->slot;
	uint64_t before;

	if (!ivc_vm_alive(vm) || slot == IVC_VM_SLOT_NONE) {
		return;
	}
	/* [BELL-PARK] the bit, then who is parked; both sequentially consistent. Partner: ivc_bell_wait(). */
	before = ivc_fetch_or_seq_u64(&vm->pending[slot / 64], pending_bit(slot));
	if (ivc_load_seq_u32(&vm->parked_count) != 0) {
		bell_hand_over(vm, slot);
	}
	ivc_vm_count(&vm->bells_in);
	if ((before & pending_bit(slot)) != 0) {
		ivc_vm_count(&vm->bells_merged);
	}
	if (vm->config.vector != 0) {
		const ivc_handle_t named = {ivc_chan_handle(m->chan)};

		vm->hv->ops.bell(vm->host, named);
	}
}

static bool member_listens(const struct ivc_member *m)
{
	const uint32_t state = ivc_load_acquire_u32(&m->state);

	return state == IVC_MEMBER_ACTIVE || state == IVC_MEMBER_REVOKED;
}

void ivc_bell_publisher(struct ivc_chan *chan)
{
	ivc_rcu_read_lock();
	if (member_listens(&chan->publisher)) { /* seen in this read section: its VM's record outlives it */
		ivc_bell_raise(&chan->publisher);
	}
	ivc_rcu_read_unlock();
}

void ivc_bell_ended(struct ivc_chan *chan)
{
	ivc_rcu_read_lock();
	for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
		struct ivc_member *m = ivc_chan_seat_get(chan, seat);

		if (m != NULL && member_listens(m)) {
			ivc_bell_raise(m);
			/* One bell wakes one; nobody will ring here again, so all who wait on it go and look. */
			parked_end_handle(m->vm, ivc_chan_handle(chan), (int64_t)ivc_chan_handle(chan));
		}
	}
	ivc_rcu_read_unlock();
}

void ivc_bell_left(struct ivc_hvm *vm, const struct ivc_chan *chan)
{
	parked_end_handle(vm, ivc_chan_handle(chan), IVC_E_STALE);
}

/* Every seat's member, or the one whose VM is @target. Return: how many were told. */
static uint32_t raise_seats(struct ivc_chan *chan, uint64_t target)
{
	uint32_t told = 0;

	for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
		struct ivc_member *m = ivc_chan_seat_get(chan, seat);

		if (m == NULL || ivc_load_acquire_u32(&m->state) != IVC_MEMBER_ACTIVE) {
			continue;
		}
		if (target == IVC_ALL || m->vm->config.id.v == target) {
			ivc_bell_raise(m);
			told++;
		}
	}
	return told;
}

/* Whether @vm sits in the channel. */
static bool sits(const struct ivc_chan *chan, const struct ivc_hvm *vm)
{
	for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
		const struct ivc_member *m = ivc_chan_seat_get(chan, seat);

		if (m != NULL && m->vm == vm && ivc_load_acquire_u32(&m->state) == IVC_MEMBER_ACTIVE) {
			return true;
		}
	}
	return false;
}

int ivc_bell_notify(struct ivc_hvm *vm, ivc_vmid_t publisher, ivc_key_t key, uint64_t target)
{
	struct ivc_name *name;
	struct ivc_chan *chan;
	uint32_t told = 0;
	int err = 0;

	ivc_rcu_read_lock();
	name = ivc_registry_find(vm->hv->names, publisher, key);
	chan = name == NULL ? NULL : ivc_chan_of_name(name);
	if (chan == NULL || ivc_load_acquire_u32(&chan->state) != IVC_CHANNEL_LIVE) {
		err = IVC_E_NOENT;
	} else if (publisher.v == vm->config.id.v) {
		told = raise_seats(chan, target);
		err = told == 0 && target != IVC_ALL ? IVC_E_NOENT : 0;
	} else if (!sits(chan, vm) || (target != IVC_ALL && target != publisher.v)) {
		err = IVC_E_NOENT;
	} else {
		ivc_bell_raise(&chan->publisher);
		told = 1;
	}
	ivc_rcu_read_unlock();
	if (told != 0) {
		ivc_vm_count(&vm->stats.bells_out);
	}
	return err;
}

int ivc_bell_ring(struct ivc_hvm *vm, uint64_t handle, uint64_t target, uint64_t own)
{
	struct ivc_chan *chan;
	struct ivc_member *m = NULL;
	uint32_t told = 0;
	int err = 0;

	ivc_rcu_read_lock();
	chan = ivc_chan_by_handle(vm->hv, handle);
	if (chan != NULL) {
		if (own == IVC_ALL) {
			m = &chan->publisher;
		} else if (own < chan->plan.seats) {
			m = ivc_chan_seat_get(chan, (uint32_t)own);
		}
	}
	if (m == NULL || m->vm != vm || !member_listens(m)) {
		err = IVC_E_STALE;
	} else if (m == &chan->publisher) {
		if (target == IVC_ALL) {
			told = raise_seats(chan, IVC_ALL);
		} else {
			m = target < chan->plan.seats ? ivc_chan_seat_get(chan, (uint32_t)target) : NULL;
			if (m == NULL || ivc_load_acquire_u32(&m->state) != IVC_MEMBER_ACTIVE) {
				err = IVC_E_NOENT;
			} else {
				ivc_bell_raise(m);
				told = 1;
			}
		}
	} else if (target != IVC_ALL) {
		err = IVC_E_NOENT; /* a subscriber's only peer is the publisher, who has no seat */
	} else if (ivc_load_acquire_u32(&chan->state) != IVC_CHANNEL_LIVE) {
		err = IVC_E_PIPE;
	} else {
		ivc_bell_raise(&chan->publisher);
		told = 1;
	}
	ivc_rcu_read_unlock();
	if (told != 0) {
		ivc_vm_count(&vm->stats.bells_out);
	}
	return err;
}

/* As what @vm is in the channel that @handle names, or NULL. Context: read section. */
static const struct ivc_member *member_of_handle(const struct ivc_hvm *vm, uint64_t handle)
{
	struct ivc_chan *chan = ivc_chan_by_handle(vm->hv, handle);

	if (chan == NULL) {
		return NULL;
	}
	if (chan->publisher.vm == vm && member_listens(&chan->publisher)) {
		return &chan->publisher;
	}
	for (uint32_t seat = 0; seat < chan->plan.seats; seat++) {
		const struct ivc_member *m = ivc_chan_seat_get(chan, seat);

		if (m != NULL && m->vm == vm && member_listens(m)) {
			return m;
		}
	}
	return NULL;
}

bool ivc_bell_doorbell(struct ivc_hvm *vm, uint32_t value)
{
	const uint32_t low = value & ((1u << IVC_DOORBELL_INDEX_SHIFT) - 1);
	const struct ivc_member *m;
	uint64_t handle;
	uint64_t own = IVC_ALL;

	ivc_rcu_read_lock();
	handle = ivc_chan_handle_at(vm->hv, value >> IVC_DOORBELL_INDEX_SHIFT);
	m = member_of_handle(vm, handle);
	if (m != NULL && m->seat != IVC_SEAT_NONE) {
		own = m->seat;
	}
	ivc_rcu_read_unlock();
	/* The handle may be stale by now: then BELL says so. */
	return m != NULL && ivc_bell_ring(vm, handle, low == IVC_DOORBELL_ALL ? IVC_ALL : low, own) == 0;
}

/* Any pending bell of @vm, from where the last look ended, taken. Return: its handle, or 0. Context: park lock, read section. */
static uint64_t pending_take_any_locked(struct ivc_hvm *vm)
{
	const uint32_t words = (vm->slots + 63) / 64;

	for (uint32_t n = 0; n <= words; n++) {
		const uint32_t w = (vm->wait_next / 64 + n) % words;
		uint64_t bits = ivc_load_acquire_u64(&vm->pending[w]);

		if (n == 0) {
			bits &= ~UINT64_C(0) << vm->wait_next % 64;
		}
		for (uint32_t bit = 0; bit < 64 && bits >> bit != 0; bit++) {
			const uint32_t slot = w * 64 + bit;
			const struct ivc_member *m;

			if ((bits >> bit & 1) == 0 || !pending_take(vm, slot)) {
				continue;
			}
			m = ivc_vm_slot_get(vm, slot);
			if (m != NULL) { /* else: the bell of a channel that it has left */
				vm->wait_next = (slot + 1) % (words * 64);
				return ivc_chan_handle(m->chan);
			}
		}
	}
	return 0;
}

/* What a WAIT can answer at once: a handle, IVC_E_STALE, or 0: nothing yet. Context: park lock, read section. */
static int64_t wait_look_locked(struct ivc_hvm *vm, uint64_t handle)
{
	const struct ivc_member *m;

	if (handle == 0) {
		return (int64_t)pending_take_any_locked(vm);
	}
	m = member_of_handle(vm, handle);
	if (m == NULL) {
		return IVC_E_STALE;
	}
	/* A channel that has ended rings no more: whoever waits on it is told at once, each time. */
	if (pending_take(vm, m->slot) || ivc_load_acquire_u32(&m->chan->state) != IVC_CHANNEL_LIVE) {
		return (int64_t)handle;
	}
	return 0;
}

/* Who parks after this was true is found by whoever makes it false: they end all parked calls afterwards. */
static bool wait_open(const struct ivc_hvm *vm)
{
	return ivc_vm_alive(vm) && ivc_load_acquire_u32(&vm->hv->phase) != IVC_HV_OFF;
}

enum ivc_verdict ivc_bell_wait(struct ivc_hvm *vm, void *vcpu, struct ivc_call *call, uint64_t handle,
			       uint64_t timeout_ns)
{
	enum ivc_verdict verdict = IVC_DONE;
	int64_t found;
	uint64_t now = 0;

	if (timeout_ns != 0 && timeout_ns != IVC_FOREVER) {
		now = vm->hv->ops.now_ns(vm->hv->host);
	}
	ivc_rcu_read_lock();
	ivc_lock_take(&vm->hv->waiter, &vm->park);
	found = wait_look_locked(vm, handle);
	if (found == 0 && timeout_ns != 0) {
		call->core_[PARKED_NEXT] = (uint64_t)(uintptr_t)vm->parked;
		call->core_[PARKED_VCPU] = (uint64_t)(uintptr_t)vcpu;
		call->core_[PARKED_HANDLE] = handle;
		call->core_[PARKED_STATE] = PARKED_LINKED;
		call->deadline_ns = timeout_ns >= IVC_FOREVER - now ? IVC_FOREVER : now + timeout_ns;
		call->result = IVC_E_INTR;
		vm->parked = call;
		(void)ivc_fetch_add_u32(&vm->parked_count, 1);
		/* [BELL-PARK] parked, then the bits once more; a full fence between. Partner: ivc_bell_raise(). */
		ivc_fence_full();
		found = wait_open(vm) ? wait_look_locked(vm, handle) : IVC_E_SHUTDOWN;
		if (found == 0) {
			verdict = IVC_PARKED;
		} else {
			(void)parked_unlink_locked(vm, NULL, call); /* it is still the first: we hold the lock */
		}
	}
	if (verdict == IVC_DONE) {
		call->result = found != 0 ? found : IVC_E_AGAIN;
	}
	ivc_lock_give(&vm->park);
	ivc_rcu_read_unlock();
	if (verdict == IVC_PARKED) {
		ivc_vm_count(&vm->stats.waits_parked); /* the call itself may be over by now: it is not touched */
	}
	return verdict;
}

void ivc_bell_park_end(struct ivc_hvm *vm, struct ivc_call *call, int why)
{
	struct ivc_call *before = NULL;

	ivc_lock_take(&vm->hv->waiter, &vm->park);
	if (call->core_[PARKED_STATE] == PARKED_LINKED) {
		for (struct ivc_call *c = vm->parked; c != NULL && c != call; c = parked_next(c)) {
			before = c;
		}
		(void)parked_unlink_locked(vm, before, call);
		call->result = why;
	}
	ivc_lock_give(&vm->park);
}

void ivc_bell_unpark_all(struct ivc_hvm *vm, int result)
{
	ivc_lock_take(&vm->hv->waiter, &vm->park);
	while (vm->parked != NULL) {
		parked_end_locked(vm, NULL, vm->parked, result);
	}
	ivc_lock_give(&vm->park);
}
