/* SPDX-License-Identifier: MIT */
/*
 * The table of calls. Each handler sees a private copy of the registers; slots are checked, resolved and pinned before
 * anything becomes visible, so the results can always be written.
 */
#include "dispatch.h"

#include "bell.h"
#include "chan.h"
#include "control.h"
#include "rcu.h"

#define SLOTS_MAX 3

/* A call while it is served. */
struct request {
	struct ivc_hvm *vm;
	void *vcpu;
	struct ivc_call *call;
	uint64_t nr;
	uint64_t arg[6]; /* read from the caller once */
	uint32_t slots;
	uint64_t slot_gpa[SLOTS_MAX];
	void *slot[SLOTS_MAX];
};

/* One call number: which registers it defines, which of them are slots, whether it takes the control lock. */
struct call_entry {
	int64_t (*check)(const struct request *rq); /* optional; registers alone, no lock */
	int64_t (*act)(struct request *rq);
	uint8_t defined; /* bit n: register an is defined; the others must be zero */
	uint8_t slots;   /* bit n: register an is a slot */
	bool control;
};

/* Slots: alignment and equality from the registers alone. */
static int slots_check(struct request *rq, uint8_t slots)
{
	for (uint32_t n = 0; n < 6; n++) {
		if ((slots >> n & 1) == 0) {
			continue;
		}
		if (rq->nr == IVC_HC_SUBSCRIBE && n == 4 && rq->arg[n] == 0) {
			continue; /* no seat slot wanted */
		}
		if (rq->arg[n] % IVC_SLOT_BYTES != 0) {
			return IVC_E_INVAL;
		}
		for (uint32_t k = 0; k < rq->slots; k++) {
			if (rq->slot_gpa[k] == rq->arg[n]) {
				return IVC_E_INVAL;
			}
		}
		rq->slot_gpa[rq->slots++] = rq->arg[n];
	}
	return 0;
}

static void slots_put(struct request *rq, uint32_t count)
{
	const struct ivc_plat_ops *ops = &rq->vm->hv->ops;

	while (count-- > 0) {
		if (ops->slot_put != NULL) {
			ops->slot_put(rq->vm->host, rq->vcpu, ivc_gpa(rq->slot_gpa[count]), rq->slot[count]);
		}
	}
}

/* Pins every slot. Return: 0; IVC_E_FAULT: none is pinned. A window is never a target: it may be shown to another VM. */
static int slots_get(struct request *rq, uint32_t bytes)
{
	const struct ivc_plat_ops *ops = &rq->vm->hv->ops;
	const struct ivc_vm_config *config = &rq->vm->config;

	for (uint32_t n = 0; n < rq->slots; n++) {
		const uint64_t gpa = rq->slot_gpa[n];

		rq->slot[n] = NULL;
		if (ivc_range_ok(gpa, bytes) && !ivc_ranges_meet(gpa, bytes, config->window.v, config->window_bytes)) {
			rq->slot[n] = ops->slot_get(rq->vm->host, rq->vcpu, ivc_gpa(gpa), bytes);
		}
		if (rq->slot[n] == NULL) {
			slots_put(rq, n);
			return IVC_E_FAULT;
		}
	}
	return 0;
}

static void slot_store(struct request *rq, uint32_t n, uint64_t value)
{
	ivc_store_release_u64((volatile uint64_t *)rq->slot[n], value);
}

static int64_t publish_check(const struct request *rq)
{
	return ivc_region_layout_check(rq->vm->hv, rq->arg[3]);
}

static int64_t publish_act(struct request *rq)
{
	struct ivc_region_plan plan;
	struct ivc_grant grant;
	int err;

	err = slots_get(rq, IVC_SLOT_BYTES);
	if (err != 0) {
		return err;
	}
	/* Slot 0 base, slot 1 size. The size is read once; another vCPU may change the word meanwhile. */
	err = ivc_region_plan(rq->vm->hv, rq->arg[3], ivc_load_relaxed_u64((volatile uint64_t *)rq->slot[1]), &plan);
	if (err == 0) {
		err = ivc_chan_publish(rq->vm, ivc_key(rq->arg[0]), &plan, &grant);
	}
	if (err == 0) {
		slot_store(rq, 0, grant.base);
		slot_store(rq, 1, grant.bytes);
	}
	slots_put(rq, rq->slots);
	return err;
}

static int64_t subscribe_check(const struct request *rq)
{
	if (rq->arg[0] > IVC_VM_ID_LAST || rq->arg[0] == rq->vm->config.id.v) {
		return IVC_E_INVAL;
	}
	return (rq->arg[5] & ~IVC_SUBSCRIBE_SLEEPS) != 0 ? IVC_E_INVAL : 0;
}

static int64_t subscribe_act(struct request *rq)
{
	const bool sleeps = (rq->arg[5] & IVC_SUBSCRIBE_SLEEPS) != 0;
	struct ivc_grant grant;
	int err;

	err = slots_get(rq, IVC_SLOT_BYTES);
	if (err != 0) {
		return err;
	}
	err = ivc_member_join(rq->vm, ivc_vmid((uint32_t)rq->arg[0]), ivc_key(rq->arg[1]), sleeps, &grant);
	if (err == 0) {
		slot_store(rq, 0, grant.base);
		slot_store(rq, 1, grant.bytes);
		if (rq->slots == 3) {
			slot_store(rq, 2, grant.seat);
		}
	}
	slots_put(rq, rq->slots);
	return err;
}

static int64_t unpublish_check(const struct request *rq)
{
	return rq->arg[1] > IVC_UNPUBLISH_REVOKE ? IVC_E_INVAL : 0;
}

static int64_t unpublish_act(struct request *rq)
{
	struct ivc_chan *chan = ivc_chan_own(rq->vm, ivc_key(rq->arg[0]));

	if (chan == NULL) {
		return IVC_E_NOENT;
	}
	return ivc_chan_end(chan, rq->arg[1] == IVC_UNPUBLISH_REVOKE ? IVC_CHANNEL_REVOKED : IVC_CHANNEL_DRAIN);
}

static int64_t peer_check(const struct request *rq)
{
	return rq->arg[0] > IVC_VM_ID_LAST ? IVC_E_INVAL : 0;
}

static int64_t unsubscribe_act(struct request *rq)
{
	struct ivc_member *m = ivc_member_of(rq->vm, ivc_vmid((uint32_t)rq->arg[0]), ivc_key(rq->arg[1]));

	return m == NULL ? IVC_E_NOENT : ivc_member_end(m, IVC_SEAT_LEFT);
}

static int64_t notify_check(const struct request *rq)
{
	if (rq->arg[0] > IVC_VM_ID_LAST || (rq->arg[2] > IVC_VM_ID_LAST && rq->arg[2] != IVC_ALL)) {
		return IVC_E_INVAL;
	}
	return (rq->arg[3] & ~IVC_BELL_NO_PARK) != 0 ? IVC_E_INVAL : 0;
}

static int64_t notify_act(struct request *rq)
{
	return ivc_bell_notify(rq->vm, ivc_vmid((uint32_t)rq->arg[0]), ivc_key(rq->arg[1]), rq->arg[2]);
}

static int64_t bell_check(const struct request *rq)
{
	if ((rq->arg[1] >= IVC_SEATS_MAX && rq->arg[1] != IVC_ALL) ||
	    (rq->arg[2] >= IVC_SEATS_MAX && rq->arg[2] != IVC_ALL)) {
		return IVC_E_INVAL;
	}
	return (rq->arg[3] & ~IVC_BELL_NO_PARK) != 0 ? IVC_E_INVAL : 0;
}

static int64_t bell_act(struct request *rq)
{
	return ivc_bell_ring(rq->vm, rq->arg[0], rq->arg[1], rq->arg[2]);
}

static int64_t control_act(struct request *rq)
{
	return ivc_control_call(rq->vm, rq->nr, rq->arg[0], rq->arg[1]);
}

static int64_t features_act(struct request *rq)
{
	const struct ivc_hvm *vm = rq->vm;

	return (int64_t)(IVC_FEATURE_IVC | (uint64_t)IVC_ABI_MAJOR << IVC_FEATURE_MAJOR_SHIFT |
			 (uint64_t)vm->hv->config.granule_log2 << IVC_FEATURE_GRANULE_SHIFT | IVC_FEATURE_SECTIONED |
			 IVC_FEATURE_REVOKE | IVC_FEATURE_BELL | IVC_FEATURE_WAIT | IVC_FEATURE_VM_INFO |
			 (vm->config.doorbell != 0 ? IVC_FEATURE_DOORBELL : 0));
}

static int64_t vm_id_act(struct request *rq)
{
	return rq->vm->config.id.v;
}

static int64_t vm_info_act(struct request *rq)
{
	const struct ivc_vm_config *config = &rq->vm->config;
	union {
		struct ivc_vm_info info;
		uint64_t word[sizeof(struct ivc_vm_info) / sizeof(uint64_t)];
	} out = {.info = {
			 .bytes = sizeof(struct ivc_vm_info),
			 .version = IVC_VM_INFO_VERSION,
			 .vm = config->id.v,
			 .window = config->window.v,
			 .window_bytes = config->window_bytes,
			 .doorbell = config->doorbell,
			 .vector = config->vector,
			 .granule_log2 = rq->vm->hv->config.granule_log2,
			 .counter_hz = config->clock_hz,
			 .counter_offset = config->clock_offset,
		 }};
	volatile uint64_t *to;
	int err;

	err = slots_get(rq, sizeof(struct ivc_vm_info));
	if (err != 0) {
		return err;
	}
	to = (volatile uint64_t *)rq->slot[0];
	for (uint32_t i = 0; i < sizeof(out.word) / sizeof(out.word[0]); i++) {
		ivc_store_relaxed_u64(&to[i], out.word[i]);
	}
	slots_put(rq, rq->slots);
	return 0;
}

static int64_t reset_act(struct request *rq)
{
	return ivc_dispatch_end_one(rq->vm);
}

static const struct call_entry small_calls[] = {
	[0] = {.act = control_act},
	[1] = {.act = control_act},
	[2] = {.act = control_act, .defined = 0x03},
	[3] = {.check = publish_check, .act = publish_act, .defined = 0x0f, .slots = 0x06, .control = true},
	[4] = {.check = subscribe_check, .act = subscribe_act, .defined = 0x3f, .slots = 0x1c, .control = true},
	[5] = {.check = unpublish_check, .act = unpublish_act, .defined = 0x03, .control = true},
	[6] = {.check = peer_check, .act = unsubscribe_act, .defined = 0x03, .control = true},
	[7] = {.check = notify_check, .act = notify_act, .defined = 0x0f},
};

/* From IVC_HC_FEATURES on. WAIT has no handler here: it alone may park. */
static const struct call_entry high_calls[] = {
	[0] = {.act = features_act},
	[1] = {.act = vm_id_act},
	[2] = {.defined = 0x03},
	[3] = {.check = bell_check, .act = bell_act, .defined = 0x0f},
	[4] = {.act = vm_info_act, .defined = 0x01, .slots = 0x01},
	[5] = {.act = reset_act, .control = true},
};

/* The entry of a number, compared as 64 bits. *@nr becomes the number without its alias. NULL: nobody knows it. */
static const struct call_entry *entry_of(const struct ivc_hv *hv, uint64_t *nr)
{
	const uint64_t high_count = sizeof(high_calls) / sizeof(high_calls[0]);

	if (*nr <= IVC_HC_SMALL_LAST) {
		return (hv->config.flags & IVC_HV_HIGH_NUMBERS) != 0 ? NULL : &small_calls[*nr];
	}
	if (*nr >= IVC_HC_ALIAS && *nr - IVC_HC_ALIAS <= IVC_HC_SMALL_LAST) {
		*nr -= IVC_HC_ALIAS;
		return &small_calls[*nr];
	}
	if (*nr >= IVC_HC_FEATURES && *nr - IVC_HC_FEATURES < high_count) {
		return &high_calls[*nr - IVC_HC_FEATURES];
	}
	return NULL;
}

static bool registers_defined(const struct call_entry *entry, const uint64_t arg[6])
{
	for (uint32_t n = 0; n < 6; n++) {
		if ((entry->defined >> n & 1) == 0 && arg[n] != 0) {
			return false;
		}
	}
	return true;
}

/* Calls that a hypervisor which is PREPARED to go does not take any more. */
static bool is_entrance(const struct request *rq)
{
	return rq->nr == IVC_HC_PUBLISH || rq->nr == IVC_HC_SUBSCRIBE;
}

/* The act itself; what may have changed while we waited for the control lock is looked at again. */
static int64_t act_locked(struct request *rq, const struct call_entry *entry)
{
	struct ivc_hv *hv = rq->vm->hv;
	int64_t result = IVC_E_SHUTDOWN;

	if (!ivc_vm_alive(rq->vm)) {
		return result;
	}
	/* [HV-DOWN] we are at work, then the phase; all sequentially consistent. Partner: disable() in control.c. */
	(void)ivc_fetch_add_seq_u32(&hv->controlled, 1);
	if (!is_entrance(rq)) {
		if (ivc_load_seq_u32(&hv->phase) != IVC_HV_OFF) {
			result = entry->act(rq);
		}
	} else {
		(void)ivc_fetch_add_seq_u32(&hv->entrances, 1);
		if (ivc_load_seq_u32(&hv->phase) == IVC_HV_RUN) {
			result = entry->act(rq);
		}
		(void)ivc_fetch_sub_u32(&hv->entrances, 1);
	}
	(void)ivc_fetch_sub_u32(&hv->controlled, 1);
	return result;
}

/* Acts under the control lock. Where every spare record is dead, their grace period is waited for without it. */
static int64_t act_controlled(struct request *rq, const struct call_entry *entry)
{
	enum {
		TRIES = 4
	};
	struct ivc_hvm *vm = rq->vm;
	int64_t result = IVC_RETRY_RECLAIM;

	for (int n = 0; n < TRIES && result == IVC_RETRY_RECLAIM; n++) {
		if (n != 0) {
			ivc_hub_reclaim(vm->hv, true);
		}
		ivc_lock_take(&vm->hv->waiter, &vm->control);
		result = act_locked(rq, entry);
		ivc_lock_give(&vm->control);
	}
	return result == IVC_RETRY_RECLAIM ? IVC_E_NOMEM : result;
}

/* All checks that need registers alone, then the call. */
static enum ivc_verdict serve(struct request *rq, const struct call_entry *entry)
{
	int64_t err;

	if (is_entrance(rq) && !ivc_control_open(rq->vm->hv)) {
		rq->call->result = IVC_E_SHUTDOWN;
		return IVC_DONE;
	}
	if (!registers_defined(entry, rq->arg)) {
		rq->call->result = IVC_E_INVAL;
		return IVC_DONE;
	}
	err = entry->check == NULL ? 0 : entry->check(rq);
	if (err == 0) {
		err = slots_check(rq, entry->slots);
	}
	if (err != 0) {
		rq->call->result = err;
		return IVC_DONE;
	}
	if (entry->act == NULL) {
		return ivc_bell_wait(rq->vm, rq->vcpu, rq->call, rq->arg[0], rq->arg[1]);
	}
	rq->call->result = entry->control ? act_controlled(rq, entry) : entry->act(rq);
	return IVC_DONE;
}

enum ivc_verdict ivc_dispatch(struct ivc_hvm *vm, void *vcpu, struct ivc_call *call)
{
	struct ivc_thread *self = ivc_thread_self();
	struct ivc_hv *hv = vm->hv;
	struct request rq = {.vm = vm, .vcpu = vcpu, .call = call, .nr = call->nr};
	const struct call_entry *entry = entry_of(hv, &rq.nr);
	enum ivc_verdict verdict = IVC_DONE;
	int err;

	if (entry == NULL && (hv->config.flags & IVC_HV_HIGH_NUMBERS) != 0) {
		return IVC_FOREIGN;
	}
	err = ivc_core_enter(self);
	if (err != 0) {
		call->result = err;
		return IVC_DONE;
	}
	for (uint32_t n = 0; n < 6; n++) {
		rq.arg[n] = call->arg[n];
		call->core_[n] = 0;
	}
	if (entry == NULL) {
		call->result = IVC_E_NOSYS;
	} else if (!ivc_vm_enter(vm)) {
		call->result = IVC_E_SHUTDOWN;
	} else {
		if (ivc_load_acquire_u32(&hv->phase) == IVC_HV_OFF) {
			call->result = IVC_E_SHUTDOWN;
		} else {
			verdict = serve(&rq, entry);
		}
		ivc_vm_count(&vm->stats.calls);
		if (verdict == IVC_DONE && call->result < 0) {
			ivc_vm_count(&vm->stats.calls_failed);
		}
		ivc_vm_leave(vm);
		if (entry->control) {
			ivc_hub_reclaim(hv, false);
		}
	}
	ivc_core_leave(self);
	return verdict;
}

/* Whether op map or close for a seat has yet to be answered: the call that ends the channel would wait for it. */
static bool views_owed(struct ivc_chan *chan)
{
	bool owed;

	ivc_lock_take(&chan->hv->waiter, &chan->lock);
	owed = chan->views_busy != 0;
	ivc_lock_give(&chan->lock);
	return owed;
}

int ivc_dispatch_end_one(struct ivc_hvm *vm)
{
	int result = 0;

	for (uint32_t slot = 0; slot < vm->slots; slot++) {
		struct ivc_member *m = ivc_vm_slot_get(vm, slot);

		if (m == NULL) {
			continue;
		}
		if (m->seat != IVC_SEAT_NONE) {
			(void)ivc_member_end(m, IVC_SEAT_DEAD);
			return IVC_E_AGAIN;
		}
		if (views_owed(m->chan)) {
			result = IVC_E_AGAIN;
			continue;
		}
		(void)ivc_chan_end(m->chan, (m->chan->plan.layout & IVC_LAYOUT_DEATH_REVOKE) != 0 ? IVC_CHANNEL_REVOKED
												  : IVC_CHANNEL_DEAD);
		return IVC_E_AGAIN;
	}
	return result;
}
