/* SPDX-License-Identifier: MIT */
/*
 * The way to the hypervisor: how it is found, what it is asked first, and one typed function per call. It decides which
 * register carries what and how an answer is checked; it knows no channel and no ring.
 */
#include "regs_begin.h"

#include <ivc/guest.h>

#include "trap.h"

#define RESETS_MAX     (1u << 16)           /* one per channel and membership of an earlier life: far above any quota */
#define RESETS_NS      UINT64_C(2000000000) /* longest wait for them where there is a clock, chosen */
#define INTERRUPTS_MAX 64u
#define STATUS_LAST    (-4095)

enum slot {
	SLOT_BASE = 0,
	SLOT_SIZE = 1,
	SLOT_SEAT = 2
};

static int64_t trap(const struct ivc_guest *g, const struct ivc_regs *regs)
{
	if (g->env_.trap != NULL) {
		return g->env_.trap(g->env_.os, regs);
	}
	return ivc_trap_(g->trap_, g->trap_page_, regs);
}

int64_t ivc_call(const struct ivc_guest *g, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		 uint64_t a4, uint64_t a5)
{
	const struct ivc_regs regs = {.nr = nr, .arg = {a0, a1, a2, a3, a4, a5}};

	return trap(g, &regs);
}

/* A small call, by the number that is ours even where the small ones are somebody else's. */
static int64_t small(const struct ivc_guest *g, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		     uint64_t a4, uint64_t a5)
{
	return ivc_call(g, nr + g->alias_, a0, a1, a2, a3, a4, a5);
}

/* The answer of a call that returns 0 or a status; anything else is no answer of a correct hypervisor. */
static int status(int64_t result)
{
	return result <= 0 && result >= STATUS_LAST ? (int)result : IVC_E_PROTO;
}

static uint64_t slot_gpa(const struct ivc_guest *g, uint32_t slots, enum slot which)
{
	return g->env_.slots_gpa.v + (uint64_t)slots * sizeof(struct ivc_slots) + (uint64_t)which * IVC_SLOT_BYTES;
}

static void slot_set(const struct ivc_guest *g, uint32_t slots, enum slot which, uint64_t v)
{
	ivc_store_release_u64(&g->env_.slots[slots].word_[which], v);
}

/* The hypervisor wrote it during the trap. */
static uint64_t slot_read(const struct ivc_guest *g, uint32_t slots, enum slot which)
{
	return ivc_load_acquire_u64(&g->env_.slots[slots].word_[which]);
}

int ivc_call_disable(const struct ivc_guest *g)
{
	return status(small(g, IVC_HC_HYPERVISOR_DISABLE, 0, 0, 0, 0, 0, 0));
}

int ivc_call_prepare_disable(const struct ivc_guest *g)
{
	return status(small(g, IVC_HC_HYPERVISOR_PREPARE_DISABLE, 0, 0, 0, 0, 0, 0));
}

int ivc_call_debug(const struct ivc_guest *g, uint64_t op, uint64_t arg)
{
	return status(small(g, IVC_HC_HYPERVISOR_DEBUG, op, arg, 0, 0, 0, 0));
}

int ivc_call_publish(const struct ivc_guest *g, uint32_t slots, ivc_key_t key, uint64_t bytes, uint64_t layout,
		     struct ivc_call_region *out)
{
	int err;

	if (slots >= g->env_.slots_count) {
		return IVC_E_INVAL;
	}
	slot_set(g, slots, SLOT_BASE, 0);
	slot_set(g, slots, SLOT_SIZE, bytes);
	err = status(small(g, IVC_HC_PUBLISH, key.v, slot_gpa(g, slots, SLOT_BASE), slot_gpa(g, slots, SLOT_SIZE),
			   layout, 0, 0));
	if (err != 0) {
		return err;
	}
	out->base = ivc_gpa(slot_read(g, slots, SLOT_BASE));
	out->bytes = slot_read(g, slots, SLOT_SIZE);
	out->seat = 0;
	return 0;
}

int ivc_call_subscribe(const struct ivc_guest *g, uint32_t slots, ivc_vmid_t publisher, ivc_key_t key, bool want_seat,
		       uint64_t flags, struct ivc_call_region *out)
{
	int err;

	if (slots >= g->env_.slots_count) {
		return IVC_E_INVAL;
	}
	slot_set(g, slots, SLOT_BASE, 0);
	slot_set(g, slots, SLOT_SIZE, 0);
	slot_set(g, slots, SLOT_SEAT, 0);
	err = status(small(g, IVC_HC_SUBSCRIBE, publisher.v, key.v, slot_gpa(g, slots, SLOT_BASE),
			   slot_gpa(g, slots, SLOT_SIZE), want_seat ? slot_gpa(g, slots, SLOT_SEAT) : 0, flags));
	if (err != 0) {
		return err;
	}
	out->base = ivc_gpa(slot_read(g, slots, SLOT_BASE));
	out->bytes = slot_read(g, slots, SLOT_SIZE);
	out->seat = slot_read(g, slots, SLOT_SEAT);
	return 0;
}

int ivc_call_unpublish(const struct ivc_guest *g, ivc_key_t key, uint64_t how)
{
	return status(small(g, IVC_HC_UNPUBLISH, key.v, how, 0, 0, 0, 0));
}

int ivc_call_unsubscribe(const struct ivc_guest *g, ivc_vmid_t publisher, ivc_key_t key)
{
	return status(small(g, IVC_HC_UNSUBSCRIBE, publisher.v, key.v, 0, 0, 0, 0));
}

int ivc_call_notify(const struct ivc_guest *g, ivc_vmid_t publisher, ivc_key_t key, uint64_t target, uint64_t flags)
{
	return status(small(g, IVC_HC_NOTIFY, publisher.v, key.v, target, flags, 0, 0));
}

int64_t ivc_call_features(const struct ivc_guest *g)
{
	return ivc_call(g, IVC_HC_FEATURES, 0, 0, 0, 0, 0, 0);
}

int64_t ivc_call_vm_id(const struct ivc_guest *g)
{
	return ivc_call(g, IVC_HC_VM_ID, 0, 0, 0, 0, 0, 0);
}

int ivc_call_wait(const struct ivc_guest *g, ivc_handle_t handle, uint64_t timeout_ns, ivc_handle_t *rang)
{
	const int64_t result = ivc_call(g, IVC_HC_WAIT, handle.v, timeout_ns, 0, 0, 0, 0);

	if (result <= 0) {
		return result == 0 ? IVC_E_PROTO : status(result);
	}
	rang->v = (uint64_t)result;
	return 0;
}

int ivc_call_bell(const struct ivc_guest *g, ivc_handle_t handle, uint64_t target, uint64_t own_seat, uint64_t flags)
{
	return status(ivc_call(g, IVC_HC_BELL, handle.v, target, own_seat, flags, 0, 0));
}

int ivc_call_vm_info(const struct ivc_guest *g, uint32_t slots, struct ivc_vm_info *out)
{
	const uint64_t *word;
	size_t i;
	int err;

	if (slots >= g->env_.slots_count) {
		return IVC_E_INVAL;
	}
	/* What is not written now is zero, and not what an earlier call left. */
	for (i = 0; i < sizeof(g->env_.slots[slots].word_) / sizeof(g->env_.slots[slots].word_[0]); i++) {
		ivc_store_release_u64(&g->env_.slots[slots].word_[i], 0);
	}
	err = status(ivc_call(g, IVC_HC_VM_INFO, slot_gpa(g, slots, SLOT_BASE), 0, 0, 0, 0, 0));
	if (err != 0) {
		return err;
	}
	word = g->env_.slots[slots].word_;
	out->bytes = (uint32_t)ivc_load_acquire_u64(&word[0]);
	out->version = (uint32_t)(ivc_load_acquire_u64(&word[0]) >> 32);
	out->vm = ivc_load_acquire_u64(&word[1]);
	out->window = ivc_load_acquire_u64(&word[2]);
	out->window_bytes = ivc_load_acquire_u64(&word[3]);
	out->doorbell = ivc_load_acquire_u64(&word[4]);
	out->vector = (uint32_t)ivc_load_acquire_u64(&word[5]);
	out->granule_log2 = (uint32_t)(ivc_load_acquire_u64(&word[5]) >> 32);
	out->counter_hz = ivc_load_acquire_u64(&word[6]);
	out->counter_offset = (int64_t)ivc_load_acquire_u64(&word[7]);
	return 0;
}

int ivc_call_reset(const struct ivc_guest *g)
{
	return status(ivc_call(g, IVC_HC_RESET, 0, 0, 0, 0, 0, 0));
}

/* ----------------------------------------------------------------------------------------------------------- init */

static bool env_ok(const struct ivc_env *env)
{
	const uint64_t align = sizeof(struct ivc_slots);

	return env->slots != NULL && env->slots_count != 0 && (uintptr_t)env->slots % align == 0 &&
	       env->slots_gpa.v % align == 0 && ivc_range_ok(env->slots_gpa.v, (uint64_t)env->slots_count * align) &&
	       env->page_log2 < 32 && (env->park == NULL || env->now_ns != NULL);
}

static int trap_find(struct ivc_guest *g)
{
	struct ivc_trap_way way = {0, 0, 0};
	int err;

	if (g->env_.trap != NULL) {
		return 0;
	}
	err = ivc_trap_find_(&way);
	if (err != 0) {
		return err;
	}
	g->trap_ = way.kind;
	if (way.page != 0) {
		void *const page = g->env_.map != NULL ? g->env_.map(g->env_.os, ivc_gpa(way.page), 4096, true)
						       : (void *)(uintptr_t)way.page;

		if (page == NULL) {
			return IVC_E_NODEV;
		}
		g->trap_page_ = page;
	}
	return 0;
}

static int info_read(struct ivc_guest *g)
{
	struct ivc_vm_info info;
	int64_t vm;
	int err;

	if ((g->features_ & IVC_FEATURE_VM_INFO) == 0) {
		vm = ivc_call_vm_id(g);
		if (vm < 0 || (uint64_t)vm > IVC_VM_ID_LAST) {
			return vm < 0 ? status(vm) : IVC_E_PROTO;
		}
		g->vm_ = (uint64_t)vm;
		return 0;
	}
	err = ivc_call_vm_info(g, 0, &info);
	if (err != 0) {
		return err;
	}
	if (info.version == 0 || info.bytes < sizeof(info) || info.vm > IVC_VM_ID_LAST ||
	    info.granule_log2 != g->granule_log2_ ||
	    (info.window_bytes != 0 && !ivc_range_ok(info.window, info.window_bytes))) {
		return IVC_E_PROTO;
	}
	g->vm_ = info.vm;
	g->window_ = info.window;
	g->window_bytes_ = info.window_bytes;
	g->doorbell_ = info.doorbell;
	g->vector_ = info.vector;
	g->counter_hz_ = info.counter_hz;
	g->counter_offset_ = info.counter_offset;
	return 0;
}

/* Where bells can be stores. Not finding it is no error: then they are calls. */
static void doorbell_find(struct ivc_guest *g)
{
	void *page;

	if ((g->features_ & IVC_FEATURE_DOORBELL) == 0 || g->doorbell_ == 0 || g->doorbell_ % IVC_DOORBELL_BYTES != 0 ||
	    !ivc_range_ok(g->doorbell_, IVC_DOORBELL_BYTES)) {
		return;
	}
	page = g->env_.map != NULL ? g->env_.map(g->env_.os, ivc_gpa(g->doorbell_), IVC_DOORBELL_BYTES, true)
				   : (void *)(uintptr_t)g->doorbell_;
	if ((uintptr_t)page % sizeof(uint32_t) == 0) {
		g->doorbell_page_ = page;
	}
}

/* Ends what an earlier life held. Bounded: IVC_E_AGAIN when the hypervisor is not done by then. */
static int reset_all(const struct ivc_guest *g)
{
	const struct ivc_env *const env = &g->env_;
	const uint64_t begin = env->now_ns != NULL ? env->now_ns(env->os) : 0;
	uint32_t turn;
	int err = IVC_E_AGAIN;

	for (turn = 0; turn < RESETS_MAX && err == IVC_E_AGAIN; turn++) {
		if (turn != 0) {
			ivc_cpu_relax();
			if (env->now_ns != NULL && env->now_ns(env->os) - begin >= RESETS_NS) {
				break;
			}
		}
		err = ivc_call_reset(g);
	}
	return err;
}

int ivc_guest_init(struct ivc_guest *g, const struct ivc_env *env)
{
	int64_t features;
	int err;

	if (!env_ok(env)) {
		return IVC_E_INVAL;
	}
	/* In two steps: as one, a compiler may want memmove for it. */
	*g = (struct ivc_guest){.vm_ = IVC_GUEST_VM_UNKNOWN};
	g->env_ = *env;
	err = trap_find(g);
	if (err != 0) {
		return err;
	}
	features = ivc_call_features(g);
	if (features < 0) {
		return IVC_E_NODEV;
	}
	if (((uint64_t)features & IVC_FEATURE_IVC) == 0) {
		return 0; /* AxVisor: flat channels, nothing to ask and nothing to reset with */
	}
	if (((uint64_t)features >> IVC_FEATURE_MAJOR_SHIFT & 0xff) != IVC_ABI_MAJOR) {
		return IVC_E_PROTO;
	}
	g->features_ = (uint64_t)features;
	g->alias_ = IVC_HC_ALIAS;
	g->granule_log2_ = (uint32_t)((uint64_t)features >> IVC_FEATURE_GRANULE_SHIFT & 0xff);
	if (g->granule_log2_ < IVC_GRANULE_LOG_MIN || g->granule_log2_ > IVC_GRANULE_LOG_MAX) {
		return IVC_E_PROTO;
	}
	if (g->env_.page_log2 > g->granule_log2_) {
		return IVC_E_OPNOTSUPP;
	}
	err = reset_all(g);
	if (err != 0) {
		return err;
	}
	err = info_read(g);
	if (err == 0) {
		doorbell_find(g);
	}
	return err;
}

void ivc_guest_info(const struct ivc_guest *g, struct ivc_guest_facts *out)
{
	*out = (struct ivc_guest_facts){
		.features = g->features_,
		.vm = ivc_vmid((uint32_t)g->vm_),
		.vector = g->vector_,
		.window = ivc_gpa(g->window_),
		.window_bytes = g->window_bytes_,
		.doorbell = ivc_gpa(g->doorbell_),
		.counter_hz = g->counter_hz_,
		.counter_offset = g->counter_offset_,
		.granule_log2 = g->granule_log2_,
	};
}

bool ivc_guest_interrupt(struct ivc_guest *g)
{
	ivc_handle_t rang;
	bool any = false;
	uint32_t turn;

	if ((g->features_ & IVC_FEATURE_WAIT) == 0 || (g->features_ & IVC_FEATURE_DOORBELL) != 0) {
		/*
		 * Nothing can be asked, or asking would not tell: a direct bell leaves nothing pending. And nothing need be
		 * taken: with doorbells every bell interrupts, pending or not (docs/abi.md 3.16).
		 */
		return true;
	}
	for (turn = 0; turn < INTERRUPTS_MAX; turn++) {
		if (ivc_call_wait(g, (ivc_handle_t){0}, 0, &rang) != 0) {
			break;
		}
		any = true;
	}
	return any || g->vector_ != 0; /* a peer with a doorbell page may have rung us without a trace */
}

#include "regs_end.h"
