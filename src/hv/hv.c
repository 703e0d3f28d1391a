/* SPDX-License-Identifier: MIT */
/*
 * The registry as a whole: create, destroy, and what can be asked of it. It decides where everything lies
 * in the arena; what happens to a channel is decided below.
 */
#include "bell.h"
#include "chan.h"
#include "control.h"
#include "dispatch.h"
#include "hash.h"
#include "hosted.h"
#include "rcu.h"

#define ARENA_ALIGN UINT64_C(64)

/* Records beyond the limits: those that wait for a grace period must not cost a live channel its place. */
#define RECORDS_SPARE (IVC_RETIRED_MAX + 64)

#define BOUND_VMS     (UINT32_C(1) << 16)
#define BOUND_RECORDS (UINT32_C(1) << 22)
#define BOUND_REGION  (UINT64_C(1) << 40)

/* Where each array begins in the arena. */
struct arena_plan {
	uint64_t vms;
	uint64_t vm_stride;
	uint64_t vm_member; /* offsets within a VM's block */
	uint64_t vm_pending;
	uint64_t vm_ranges;
	uint64_t chans;
	uint64_t chan_stride;
	uint64_t members;
	uint64_t bytes;
	uint32_t vm_slots;
	uint32_t chan_count;
	uint32_t member_count;
};

static uint64_t aligned(uint64_t v)
{
	return (v + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
}

static void copy_bytes(void *to, const void *from, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes; i++) {
		((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
	}
}

static uint32_t or_default(uint32_t v, uint32_t otherwise)
{
	return v != 0 ? v : otherwise;
}

/* The whole configuration from what the caller knew of it. Return: 0; IVC_E_INVAL. */
static int config_fill(struct ivc_hv_config *out, const struct ivc_hv_config *cfg)
{
	struct ivc_hv_config c = {0};
	uint64_t region;

	if (cfg->size < offsetof(struct ivc_hv_config, host) + sizeof(cfg->host)) {
		return IVC_E_INVAL;
	}
	copy_bytes(&c, cfg, cfg->size < sizeof(c) ? cfg->size : sizeof(c));
	c.vms = or_default(c.vms, 1024);
	c.channels = or_default(c.channels, 4096);
	c.memberships = or_default(c.memberships, 8192);
	c.seats = or_default(c.seats, IVC_SEATS_MAX);
	c.vm_channels = or_default(c.vm_channels, 256);
	c.vm_memberships = or_default(c.vm_memberships, 256);
	c.granule_log2 = or_default(c.granule_log2, IVC_GRANULE_LOG_MIN);
	region = c.region_bytes != 0 ? c.region_bytes : UINT64_C(1) << 30;
	if ((c.flags & ~IVC_HV_HIGH_NUMBERS) != 0 || c.reserved != 0 || c.vms > BOUND_VMS ||
	    c.channels > BOUND_RECORDS || c.memberships > BOUND_RECORDS || c.seats > IVC_SEATS_MAX ||
	    c.vm_channels > BOUND_RECORDS || c.vm_memberships > BOUND_RECORDS || c.granule_log2 < IVC_GRANULE_LOG_MIN ||
	    c.granule_log2 > IVC_GRANULE_LOG_MAX || region > BOUND_REGION) {
		return IVC_E_INVAL;
	}
	if (!ivc_round_up(region, UINT64_C(1) << c.granule_log2, &c.region_bytes)) {
		return IVC_E_INVAL;
	}
	*out = c;
	return 0;
}

static void arena_plan(struct arena_plan *plan, const struct ivc_hv_config *c)
{
	uint64_t at = aligned(sizeof(struct ivc_hv));

	plan->vm_slots = c->vm_channels + c->vm_memberships;
	plan->chan_count = c->channels + RECORDS_SPARE;
	plan->member_count = c->memberships + RECORDS_SPARE;
	plan->vm_member = aligned(sizeof(struct ivc_hvm));
	plan->vm_pending = plan->vm_member + aligned(plan->vm_slots * sizeof(struct ivc_member *));
	plan->vm_ranges = plan->vm_pending + aligned((plan->vm_slots + 63) / 64 * sizeof(uint64_t));
	plan->vm_stride = plan->vm_ranges + aligned(plan->vm_slots * sizeof(struct ivc_gpa_range));
	plan->chan_stride = aligned(sizeof(struct ivc_chan) + c->seats * sizeof(struct ivc_seat_record));
	plan->vms = at;
	at += c->vms * plan->vm_stride;
	plan->chans = at;
	at += plan->chan_count * plan->chan_stride;
	plan->members = at;
	at += aligned(plan->member_count * sizeof(struct ivc_member));
	plan->bytes = at;
}

uint64_t ivc_hv_bytes(const struct ivc_hv_config *cfg)
{
	struct ivc_hv_config c;
	struct arena_plan plan;

	if (config_fill(&c, cfg) != 0) {
		return 0;
	}
	arena_plan(&plan, &c);
	return plan.bytes;
}

static int ops_take(struct ivc_plat_ops *out, const struct ivc_plat_ops *ops)
{
	struct ivc_plat_ops o = {0};

	if (ops == NULL || ops->size < offsetof(struct ivc_plat_ops, failed)) {
		return IVC_E_INVAL;
	}
	copy_bytes(&o, ops, ops->size < sizeof(o) ? ops->size : sizeof(o));
	if (o.mem_new == NULL || o.mem_free == NULL || o.map == NULL || o.close == NULL || o.unmap == NULL ||
	    o.slot_get == NULL || o.bell == NULL || o.unpark == NULL || o.barrier == NULL || o.now_ns == NULL) {
		return IVC_E_INVAL;
	}
#if !__STDC_HOSTED__
	if (o.relax == NULL) {
		return IVC_E_INVAL;
	}
#endif
	*out = o;
	return 0;
}

void ivc_wait_turn(const struct ivc_waiter *waiter, uint32_t turn)
{
	if (waiter->relax != NULL) {
		waiter->relax(waiter->host);
		return;
	}
#if __STDC_HOSTED__
	ivc_hosted_wait(turn);
#else
	(void)turn;
#endif
}

static void records_init(struct ivc_hv *hv)
{
	for (uint32_t i = hv->chan_count; i-- > 0;) {
		struct ivc_chan *chan = ivc_hub_chan(hv, i);

		chan->record.kind = IVC_RECORD_CHAN;
		chan->record.index = i;
		chan->hv = hv;
		/* Random starts: a handle of an earlier run of the hypervisor names nothing in this one. */
		chan->generation =
			ivc_hash(hv->config.seed, IVC_HASH_GENERATION, i) >> (64 - IVC_HANDLE_GENERATION_BITS);
		chan->record.next = hv->free[IVC_RECORD_CHAN];
		hv->free[IVC_RECORD_CHAN] = &chan->record;
	}
	for (uint32_t i = hv->member_count; i-- > 0;) {
		struct ivc_member *m = &hv->members[i];

		m->record.kind = IVC_RECORD_MEMBER;
		m->record.index = i;
		m->record.next = hv->free[IVC_RECORD_MEMBER];
		hv->free[IVC_RECORD_MEMBER] = &m->record;
	}
}

static void vms_init(struct ivc_hv *hv, const struct arena_plan *plan)
{
	for (uint32_t i = 0; i < hv->config.vms; i++) {
		struct ivc_hvm *vm = ivc_hub_vm(hv, i);
		unsigned char *block = (unsigned char *)vm;

		vm->hv = hv;
		vm->slots = plan->vm_slots;
		vm->member = (struct ivc_member **)(void *)(block + plan->vm_member);
		vm->pending = (uint64_t *)(void *)(block + plan->vm_pending);
		vm->window.used = (struct ivc_gpa_range *)(void *)(block + plan->vm_ranges);
		vm->window.room = plan->vm_slots;
	}
}

/* Memory of the arena: the caller's, or our own. Return: NULL: there is not enough. */
static unsigned char *arena_take(const struct ivc_hv_config *c, uint64_t bytes, void **own)
{
	*own = NULL;
	if (c->arena != NULL) {
		unsigned char *arena = (unsigned char *)c->arena;

		if (c->arena_bytes < bytes || (uintptr_t)arena % ARENA_ALIGN != 0) {
			return NULL;
		}
		for (uint64_t i = 0; i < bytes; i++) {
			arena[i] = 0;
		}
		return arena;
	}
#if __STDC_HOSTED__
	*own = ivc_hosted_alloc(bytes);
#endif
	return (unsigned char *)*own;
}

int ivc_hv_create(struct ivc_hv **out, const struct ivc_hv_config *cfg)
{
	struct ivc_hv_config c;
	struct ivc_plat_ops ops;
	struct arena_plan plan;
	struct ivc_hv *hv;
	unsigned char *arena;
	void *own;
	int err;

	err = config_fill(&c, cfg);
	if (err == 0) {
		err = ops_take(&ops, c.ops);
	}
	if (err != 0) {
		return err;
	}
	if (c.seed[0] == 0 && c.seed[1] == 0) {
#if __STDC_HOSTED__
		err = ivc_hosted_seed(c.seed);
#else
		err = IVC_E_INVAL;
#endif
		if (err != 0) {
			return err;
		}
	}
	arena_plan(&plan, &c);
	arena = arena_take(&c, plan.bytes, &own);
	if (arena == NULL) {
		return c.arena != NULL ? IVC_E_INVAL : IVC_E_NOMEM;
	}
	hv = (struct ivc_hv *)(void *)arena;
	hv->ops = ops;
	hv->host = c.host;
	hv->waiter.relax = ops.relax;
	hv->waiter.host = c.host;
	hv->config = c;
	hv->granule = UINT64_C(1) << c.granule_log2;
	hv->arena_own = own;
	hv->vms = arena + plan.vms;
	hv->vm_stride = plan.vm_stride;
	hv->chans = arena + plan.chans;
	hv->chan_stride = plan.chan_stride;
	hv->members = (struct ivc_member *)(void *)(arena + plan.members);
	hv->chan_count = plan.chan_count;
	hv->member_count = plan.member_count;
	hv->instance = ivc_hash(c.seed, IVC_HASH_INSTANCE, 0) | 1;
	hv->epoch = ivc_hash(c.seed, IVC_HASH_EPOCH, 0) >> 2 | 1; /* far from a wrap, never 0 */
	records_init(hv);
	vms_init(hv, &plan);
	err = ivc_registry_create(&hv->names, c.channels, c.seed);
	if (err != 0) {
#if __STDC_HOSTED__
		ivc_hosted_free(own);
#endif
		return err;
	}
	*out = hv;
	return 0;
}

int ivc_hv_destroy(struct ivc_hv *hv)
{
	struct ivc_thread *self = ivc_thread_self();
	uint32_t vms;
	int err;

	err = ivc_core_enter(self);
	if (err != 0) {
		return err;
	}
	ivc_lock_take(&hv->waiter, &hv->lock);
	vms = hv->vms_now;
	ivc_lock_give(&hv->lock);
	if (vms != 0) {
		ivc_core_leave(self);
		return IVC_E_BUSY;
	}
	ivc_hub_reclaim(hv, true); /* also for a reader of ivc_hv_each() that still holds a record */
	ivc_registry_destroy(hv->names);
#if __STDC_HOSTED__
	ivc_hosted_free(hv->arena_own);
#endif
	ivc_core_leave(self);
	return 0;
}

int ivc_hv_thread_enter(void)
{
	struct ivc_thread *self = ivc_thread_self();

	if (self->registered++ == 0) {
		ivc_rcu_register();
	}
	return 0;
}

void ivc_hv_thread_leave(void)
{
	struct ivc_thread *self = ivc_thread_self();

	if (self->registered != 0 && --self->registered == 0) {
		ivc_rcu_unregister();
	}
}

enum ivc_hv_phase ivc_hv_phase(const struct ivc_hv *hv)
{
	const uint32_t phase = ivc_load_acquire_u32(&hv->phase);

	return phase == IVC_HV_STOPPING ? IVC_HV_PREPARED : (enum ivc_hv_phase)phase;
}

void ivc_hv_stats(const struct ivc_hv *hv, struct ivc_hv_stats *out)
{
	out->vms_now = ivc_load_relaxed_u32(&hv->vms_now);
	out->channels_now = ivc_load_relaxed_u32(&hv->channels_now);
	out->memberships_now = ivc_load_relaxed_u32(&hv->memberships_now);
	out->sections_now = ivc_load_relaxed_u32(&hv->sections_now);
	out->bytes_now = ivc_load_relaxed_u64(&hv->region_bytes_now);
	out->quarantined_bytes = ivc_load_relaxed_u64(&hv->quarantined_bytes);
	out->quarantined_sections = ivc_load_relaxed_u64(&hv->quarantined_sections);
	out->records_waiting = ivc_load_relaxed_u32(&hv->retired_count);
}

/* A consistent cut of the channel in record @i. Return: false: there is none. */
static bool each_look(struct ivc_hv *hv, uint32_t i, struct ivc_channel_info *info)
{
	struct ivc_chan *chan = ivc_hub_chan(hv, i);
	bool held;

	ivc_rcu_read_lock();
	held = ivc_load_acquire_u64(&chan->handle) != 0 && ivc_chan_get(chan);
	ivc_rcu_read_unlock();
	if (held) {
		ivc_chan_info(chan, info);
		ivc_chan_put(chan);
	}
	return held;
}

int ivc_hv_each(struct ivc_hv *hv, bool (*fn)(void *arg, const struct ivc_channel_info *info), void *arg)
{
	struct ivc_thread *self = ivc_thread_self();
	bool more = true;

	for (uint32_t i = 0; i < hv->chan_count && more; i++) {
		struct ivc_channel_info info;
		const int err = ivc_core_enter(self);
		bool found;

		if (err != 0) {
			return err;
		}
		found = each_look(hv, i, &info);
		ivc_core_leave(self);
		if (found) {
			more = fn(arg, &info);
		}
	}
	return 0;
}
