/* SPDX-License-Identifier: MIT */
/* Worlds, calls and snapshots as world.h describes them. */
#include "world.h"

#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t world_window(uint32_t index)
{
	return UINT64_C(0x1000000000) * (index + 1);
}

void world_defaults(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->ops = *ivc_fake_ops();
	w->config = (struct ivc_hv_config){
		.size = sizeof(w->config),
		.vms = WORLD_VMS,
		.channels = 64,
		.memberships = 64,
		.vm_channels = 32,
		.vm_memberships = 32,
		.region_bytes = UINT64_C(1) << 26,
		.seed = {1, 2},
	};
	w->vm_config = (struct ivc_vm_config){
		.size = sizeof(w->vm_config),
		.window_bytes = WORLD_WINDOW_BYTES,
		.quota = IVC_QUOTA_DEFAULT,
	};
}

int world_attach(struct world *w, uint32_t index, uint32_t id)
{
	static const struct ivc_fake_ram ram[] = {
		{.at = 0, .bytes = WORLD_RAM_BYTES},
		{.at = WORLD_READ_ONLY, .bytes = 4096, .read_only = true},
		{.at = WORLD_RAM_SMALL, .bytes = 4096},
		{.at = WORLD_RAM_TOP, .bytes = 4096},
	};
	struct ivc_vm_config cfg = w->vm_config;
	struct world_vm *vm = &w->vm[index];
	int err;

	vm->world = w;
	vm->id = id;
	vm->killed = false;
	vm->host = ivc_fake_vm_new(w->fake, id, world_window(index), w->vm_config.window_bytes, ram,
				   sizeof(ram) / sizeof(ram[0]));
	if (!vm->host) {
		return IVC_E_NOMEM;
	}
	cfg.id = ivc_vmid(id);
	cfg.window = ivc_gpa(world_window(index));
	cfg.host = vm->host;
	err = ivc_hv_vm_attach(w->hv, &cfg, &vm->vm);
	if (err) {
		vm->vm = NULL;
	}
	return err;
}

int world_open(struct world *w)
{
	const uint32_t granule_log2 = w->config.granule_log2 ? w->config.granule_log2 : 12;
	int err;

	w->fake = ivc_fake_create(granule_log2, 0);
	if (!w->fake) {
		return IVC_E_NOMEM;
	}
	w->config.ops = &w->ops;
	w->config.host = w->fake;
	err = ivc_hv_thread_enter();
	if (err == 0) {
		w->entered = true;
		err = ivc_hv_create(&w->hv, &w->config);
	}
	for (uint32_t i = 0; err == 0 && i < WORLD_VMS; i++) {
		err = world_attach(w, i, i + 1);
	}
	return err;
}

void world_kill(struct world *w, uint32_t index)
{
	w->vm[index].killed = true;
	ivc_fake_vm_kill(w->vm[index].host);
}

int world_detach(struct world *w, uint32_t index)
{
	struct world_vm *vm = &w->vm[index];
	const uint64_t end = run_now_ns() + UINT64_C(10000000000);
	int err = IVC_E_AGAIN;

	while (err == IVC_E_AGAIN && run_now_ns() < end) {
		for (uint32_t i = 0; i < WORLD_VMS; i++) {
			if (w->vm[i].host) {
				(void)view_finish(&w->vm[i], 0); /* what the hosts owe, before or while they detach */
			}
		}
		err = ivc_hv_vm_detach(vm->vm);
	}
	if (err == 0) {
		ivc_fake_vm_retire(vm->host);
		vm->vm = NULL;
	}
	return err;
}

/* A view whose unmap failed stays for ever; every other one must be gone. */
static bool views_left(struct world_vm *vm)
{
	struct ivc_fake_view view[SNAPSHOT_VIEWS];
	const uint32_t views = ivc_fake_views(vm->host, view, SNAPSHOT_VIEWS);

	for (uint32_t i = 0; i < views && i < SNAPSHOT_VIEWS; i++) {
		if (!view[i].unknown) {
			return true;
		}
	}
	return false;
}

const char *world_close(struct world *w)
{
	static char text[200];
	const char *breach = "";
	struct ivc_hv_stats stats = {0};
	const char *wrong = NULL;

	ivc_fake_fail(w->fake, IVC_FAKE_ANY, 0, 0, 0);
	ivc_fake_hook(w->fake, NULL, NULL);
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		if (w->vm[i].host) {
			ivc_fake_later(w->vm[i].host, false);
			(void)view_finish(&w->vm[i], 0);
		}
	}
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		if (w->vm[i].vm && world_detach(w, i) != 0 && !wrong) {
			wrong = "a VM cannot be detached";
		}
	}
	if (w->hv) {
		ivc_hv_stats(w->hv, &stats);
		if (!wrong && (stats.vms_now || stats.channels_now || stats.memberships_now || stats.sections_now ||
			       stats.bytes_now)) {
			(void)snprintf(text, sizeof(text),
				       "left over: %u vms %u channels %u memberships %u sections %llu bytes",
				       stats.vms_now, stats.channels_now, stats.memberships_now, stats.sections_now,
				       (unsigned long long)stats.bytes_now);
			wrong = text;
		}
		if (!wrong && ivc_fake_mem_bytes(w->fake) != stats.quarantined_bytes) {
			wrong = "memory was not given back";
		}
		for (uint32_t i = 0; i < WORLD_VMS; i++) {
			if (!wrong && w->vm[i].host && views_left(&w->vm[i])) {
				wrong = "a detached VM has views";
			}
		}
		if (!wrong && ivc_fake_doorbells(w->fake, NULL)) {
			wrong = "a direct bell is still on";
		}
		if (ivc_hv_destroy(w->hv) != 0 && !wrong) {
			wrong = "destroy refused";
		}
	}
	if (w->entered) {
		ivc_hv_thread_leave();
	}
	if (w->fake) {
		if (!wrong && ivc_fake_pins(w->fake)) {
			wrong = "a slot is still held";
		}
		if (!wrong && ivc_fake_violations(w->fake, &breach)) {
			(void)snprintf(text, sizeof(text), "breach: %s", breach);
			wrong = text;
		}
		ivc_fake_destroy(w->fake);
	}
	memset(w, 0, sizeof(*w));
	return wrong;
}

/* Calls. */

int64_t call_on(struct world_vm *vm, uint32_t vcpu, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		uint64_t a4, uint64_t a5)
{
	struct ivc_call c = {.nr = nr, .arg = {a0, a1, a2, a3, a4, a5}, .result = INT64_MIN};
	void *const cpu = ivc_fake_vcpu(vm->host, vcpu);
	const enum ivc_verdict verdict = ivc_hv_hypercall(vm->vm, cpu, &c);

	if (verdict == IVC_PARKED) {
		ivc_hv_park_end(vm->vm, cpu, &c, IVC_E_INTR); /* `c` must not outlive us */
		return WORLD_PARKED;
	}
	return verdict == IVC_DONE ? c.result : WORLD_PARKED;
}

int64_t call(struct world_vm *vm, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
	return call_on(vm, 0, nr, a0, a1, a2, a3, 0, 0);
}

static void slots_set(struct world_vm *vm, uint32_t vcpu, uint64_t size)
{
	(void)ivc_fake_store(vm->host, WORLD_SLOT(vcpu, 0), 8, WORLD_UNTOUCHED);
	(void)ivc_fake_store(vm->host, WORLD_SLOT(vcpu, 1), 8, size);
	(void)ivc_fake_store(vm->host, WORLD_SLOT(vcpu, 2), 8, WORLD_UNTOUCHED);
}

static void slots_get(struct world_vm *vm, uint32_t vcpu, struct world_window *out)
{
	struct world_window unused;

	out = out ? out : &unused;
	(void)ivc_fake_load(vm->host, WORLD_SLOT(vcpu, 0), 8, &out->base);
	(void)ivc_fake_load(vm->host, WORLD_SLOT(vcpu, 1), 8, &out->bytes);
	(void)ivc_fake_load(vm->host, WORLD_SLOT(vcpu, 2), 8, &out->seat);
}

int64_t call_publish_on(struct world_vm *vm, uint32_t vcpu, uint64_t key, uint64_t bytes, uint64_t layout,
			struct world_window *out)
{
	int64_t result;

	slots_set(vm, vcpu, bytes);
	result = call_on(vm, vcpu, IVC_HC_PUBLISH, key, WORLD_SLOT(vcpu, 0), WORLD_SLOT(vcpu, 1), layout, 0, 0);
	slots_get(vm, vcpu, out);
	return result;
}

int64_t call_publish(struct world_vm *vm, uint64_t key, uint64_t bytes, uint64_t layout, struct world_window *out)
{
	return call_publish_on(vm, 0, key, bytes, layout, out);
}

int64_t call_subscribe_on(struct world_vm *vm, uint32_t vcpu, uint64_t publisher, uint64_t key, uint64_t flags,
			  struct world_window *out)
{
	int64_t result;

	slots_set(vm, vcpu, WORLD_UNTOUCHED);
	result = call_on(vm, vcpu, IVC_HC_SUBSCRIBE, publisher, key, WORLD_SLOT(vcpu, 0), WORLD_SLOT(vcpu, 1),
			 WORLD_SLOT(vcpu, 2), flags);
	slots_get(vm, vcpu, out);
	return result;
}

int64_t call_subscribe(struct world_vm *vm, const struct world_vm *publisher, uint64_t key, uint64_t flags,
		       struct world_window *out)
{
	return call_subscribe_on(vm, 0, publisher->id, key, flags, out);
}

int64_t call_unpublish(struct world_vm *vm, uint64_t key, uint64_t how)
{
	return call(vm, IVC_HC_UNPUBLISH, key, how, 0, 0);
}

int64_t call_unsubscribe(struct world_vm *vm, const struct world_vm *publisher, uint64_t key)
{
	return call(vm, IVC_HC_UNSUBSCRIBE, publisher->id, key, 0, 0);
}

int64_t call_notify(struct world_vm *vm, const struct world_vm *publisher, uint64_t key, uint64_t target)
{
	return call(vm, IVC_HC_NOTIFY, publisher->id, key, target, 0);
}

int64_t call_bell(struct world_vm *vm, uint64_t handle, uint64_t target, uint64_t own)
{
	return call(vm, IVC_HC_BELL, handle, target, own, 0);
}

int64_t call_look(struct world_vm *vm, uint64_t handle)
{
	return call(vm, IVC_HC_WAIT, handle, 0, 0, 0);
}

enum ivc_verdict call_wait(struct world_vm *vm, uint32_t vcpu, struct ivc_call *c, uint64_t handle, uint64_t timeout)
{
	*c = (struct ivc_call){.nr = IVC_HC_WAIT, .arg = {handle, timeout}, .result = INT64_MIN};
	return ivc_hv_hypercall(vm->vm, ivc_fake_vcpu(vm->host, vcpu), c);
}

bool store_doorbell(struct world_vm *vm, uint32_t value)
{
	if (ivc_fake_doorbell(vm->host, value)) {
		return true;
	}
	ivc_hv_doorbell(vm->vm, value);
	return false;
}

int64_t call_reset(struct world_vm *vm)
{
	int64_t result = IVC_E_AGAIN;

	for (uint32_t turn = 0; result == IVC_E_AGAIN && turn < 1000; turn++) {
		result = call(vm, IVC_HC_RESET, 0, 0, 0, 0);
	}
	return result;
}

uint32_t view_finish(struct world_vm *vm, int status)
{
	uint32_t count = 0;
	void *token;
	int answer = status;

	while (ivc_fake_later_take(vm->host, &token, &answer)) {
		ivc_hv_view_done(token, answer);
		answer = status;
		count++;
	}
	return count;
}

/* Looking around. */

uint64_t load64(struct world_vm *vm, uint64_t at)
{
	uint64_t value;

	(void)ivc_fake_load(vm->host, at, 8, &value);
	return value;
}

uint32_t load32(struct world_vm *vm, uint64_t at)
{
	uint64_t value;

	(void)ivc_fake_load(vm->host, at, 4, &value);
	return (uint32_t)value;
}

uint64_t page_handle(struct world_vm *vm, uint64_t base)
{
	return load64(vm, base + offsetof(struct ivc_hv_page, handle));
}

uint32_t page_state(struct world_vm *vm, uint64_t base)
{
	return load32(vm, base + offsetof(struct ivc_hv_page, state));
}

uint32_t page_sequence(struct world_vm *vm, uint64_t base)
{
	return load32(vm, base + offsetof(struct ivc_hv_page, sequence));
}

uint8_t page_seat_state(struct world_vm *vm, uint64_t base, uint64_t seat)
{
	uint64_t value;

	(void)ivc_fake_load(vm->host, base + IVC_HV_PAGE_HEADER + 16 * seat + 4, 1, &value);
	return (uint8_t)value;
}

uint64_t page_seat_epoch(struct world_vm *vm, uint64_t base, uint64_t seat)
{
	return load64(vm, base + IVC_HV_PAGE_HEADER + 16 * seat + 8);
}

uint64_t page_data_at(struct world_vm *vm, uint64_t base)
{
	return base + load64(vm, base + offsetof(struct ivc_hv_page, publisher_offset));
}

uint64_t page_seat_at(struct world_vm *vm, uint64_t base, uint64_t seat)
{
	return base + load64(vm, base + offsetof(struct ivc_hv_page, seat_offset)) +
	       seat * load64(vm, base + offsetof(struct ivc_hv_page, seat_bytes));
}

struct ivc_vm_stats vm_stats(const struct world_vm *vm)
{
	struct ivc_vm_stats stats = {0};

	if (vm->vm) {
		ivc_hv_vm_stats(vm->vm, &stats);
	}
	return stats;
}

struct ivc_hv_stats hv_stats(const struct world *w)
{
	struct ivc_hv_stats stats;

	ivc_hv_stats(w->hv, &stats);
	return stats;
}

/* Invariants. */

/*
 * What the VM's windows pin, from its views: in each window the hv page, the publisher section and, of a member, the
 * section that it may write; of a revoked member the private memory that it may write instead. What a publisher sees of
 * its members' seats is theirs to pay.
 */
static uint64_t pinned(const struct ivc_fake_view *view, uint32_t views)
{
	uint64_t bytes = 0;
	bool own_window = false; /* of a publisher: its section is writable */
	bool after_page = false;

	for (uint32_t i = 0; i < views; i++) {
		if (view[i].kind == IVC_MEM_ONE_WRITER && after_page) {
			own_window = view[i].access == IVC_READ_WRITE;
		}
		if (!view[i].mem && view[i].access == IVC_READ_WRITE) {
			bytes += view[i].bytes;
		}
		if (view[i].mem && (after_page || view[i].kind != IVC_MEM_ONE_WRITER || !own_window)) {
			bytes += view[i].bytes;
		}
		after_page = view[i].kind == IVC_MEM_HV;
	}
	return bytes;
}

struct counts {
	uint32_t live;
	uint32_t members;
	uint64_t bytes;
	uint32_t windows;
};

static bool count_channel(void *arg, const struct ivc_channel_info *info)
{
	struct counts *counts = arg;

	counts->live += info->state == IVC_CHANNEL_LIVE;
	counts->members += info->members;
	counts->bytes += info->bytes;
	counts->windows += info->windows;
	return true;
}

const char *world_check(struct world *w)
{
	static char text[200];
	struct ivc_fake_view view[SNAPSHOT_VIEWS];
	const struct ivc_hv_stats hv = hv_stats(w);
	const char *breach = "";
	struct counts counts = {0};
	uint32_t channels = 0;
	uint32_t memberships = 0;
	uint32_t owed = 0;

	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		owed += w->vm[i].host ? ivc_fake_later_count(w->vm[i].host) : 0;
	}
	if (ivc_fake_violations(w->fake, &breach)) {
		(void)snprintf(text, sizeof(text), "breach: %s", breach);
		return text;
	}
	if (ivc_fake_pins(w->fake)) {
		return "a slot is still held";
	}
	if (hv.bytes_now + hv.quarantined_bytes != ivc_fake_mem_bytes(w->fake) ||
	    hv.sections_now + hv.quarantined_sections != ivc_fake_mems(w->fake)) {
		(void)snprintf(text, sizeof(text), "memory held: registry %llu in %u, host %llu in %u",
			       (unsigned long long)(hv.bytes_now + hv.quarantined_bytes), hv.sections_now,
			       (unsigned long long)ivc_fake_mem_bytes(w->fake), ivc_fake_mems(w->fake));
		return text;
	}
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		const struct ivc_vm_stats vm = vm_stats(&w->vm[i]);
		bool broken = false;
		uint32_t views;

		channels += vm.channels_now;
		memberships += vm.memberships_now;
		if (!w->vm[i].vm || w->vm[i].killed || ivc_fake_failed(w->vm[i].host)) {
			continue;
		}
		views = ivc_fake_views(w->vm[i].host, view, SNAPSHOT_VIEWS);
		for (uint32_t k = 0; k < views && k < SNAPSHOT_VIEWS; k++) {
			broken = broken || view[k].unknown;
		}
		if (broken || views > SNAPSHOT_VIEWS) {
			continue; /* in quarantine: what it shows cannot be told */
		}
		/* A seat section that its publisher's host has yet to close stays charged to who left it. */
		if (owed ? pinned(view, views) > vm.bytes_now : pinned(view, views) != vm.bytes_now) {
			(void)snprintf(text, sizeof(text), "vm %u pins %llu bytes and is charged %llu", w->vm[i].id,
				       (unsigned long long)pinned(view, views), (unsigned long long)vm.bytes_now);
			return text;
		}
		if (vm.bytes_now > w->vm_config.quota.bytes) {
			return "a charge above the quota";
		}
	}
	(void)ivc_hv_each(w->hv, count_channel, &counts);
	if (hv.quarantined_bytes == 0 && (counts.live != hv.channels_now || counts.live != channels ||
					  counts.bytes != hv.bytes_now || memberships != hv.memberships_now)) {
		(void)snprintf(text, sizeof(text), "counts: live %u %u %u, bytes %llu %llu, memberships %u %u",
			       counts.live, hv.channels_now, channels, (unsigned long long)counts.bytes,
			       (unsigned long long)hv.bytes_now, memberships, hv.memberships_now);
		return text;
	}
	return NULL;
}

/* Snapshots. */

struct collect {
	struct snapshot *into;
};

static bool collect_channel(void *arg, const struct ivc_channel_info *info)
{
	struct collect *collect = arg;

	if (collect->into->channels < SNAPSHOT_CHANNELS) {
		collect->into->channel[collect->into->channels++] = *info;
	}
	return true;
}

static int channel_order(const void *a, const void *b)
{
	const struct ivc_channel_info *x = a;
	const struct ivc_channel_info *y = b;

	return x->epoch < y->epoch ? -1 : x->epoch > y->epoch;
}

static uint64_t ram_sum(struct world_vm *vm)
{
	uint64_t sum = 0;

	for (uint64_t at = 0; at < WORLD_RAM_BYTES; at += 8) {
		sum = sum * 31 + load64(vm, at);
	}
	return sum;
}

void snapshot_take(struct world *w, struct snapshot *s)
{
	struct collect collect = {.into = s};

	memset(s, 0, sizeof(*s));
	s->hv = hv_stats(w);
	s->hv.records_waiting = 0; /* no effect of a call: how soon records are used again */
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		if (!w->vm[i].host) {
			continue;
		}
		s->vm[i] = vm_stats(&w->vm[i]);
		s->views[i] = ivc_fake_views(w->vm[i].host, s->view[i], SNAPSHOT_VIEWS);
		s->ram[i] = ram_sum(&w->vm[i]);
		s->bells[i] = ivc_fake_bells(w->vm[i].host);
		s->given_up[i] = ivc_fake_failed(w->vm[i].host);
	}
	(void)ivc_hv_each(w->hv, collect_channel, &collect);
	qsort(s->channel, s->channels, sizeof(s->channel[0]), channel_order);
	s->mem_bytes = ivc_fake_mem_bytes(w->fake);
	s->mems = ivc_fake_mems(w->fake);
}

const char *snapshot_differs(const struct snapshot *a, const struct snapshot *b)
{
	static char text[160];

	if (memcmp(&a->hv, &b->hv, sizeof(a->hv)) != 0) {
		return "levels of the registry";
	}
	if (a->mems != b->mems || a->mem_bytes != b->mem_bytes) {
		return "memory held";
	}
	if (a->channels != b->channels || memcmp(a->channel, b->channel, a->channels * sizeof(a->channel[0])) != 0) {
		return "channels";
	}
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		const struct ivc_vm_stats *x = &a->vm[i];
		const struct ivc_vm_stats *y = &b->vm[i];
		const char *what = NULL;

		if (x->channels_now != y->channels_now || x->memberships_now != y->memberships_now) {
			what = "channels or memberships";
		} else if (x->bytes_now != y->bytes_now) {
			what = "charge";
		} else if (x->window_now != y->window_now) {
			what = "window range";
		} else if (x->quarantined != y->quarantined) {
			what = "quarantine";
		} else if (a->views[i] != b->views[i] || memcmp(a->view[i], b->view[i], sizeof(a->view[i])) != 0) {
			what = "views";
		} else if (a->ram[i] != b->ram[i]) {
			what = "RAM";
		} else if (a->bells[i] != b->bells[i]) {
			what = "bells";
		} else if (a->given_up[i] != b->given_up[i]) {
			what = "given up";
		}
		if (what) {
			(void)snprintf(text, sizeof(text), "vm[%u]: %s", i, what);
			return text;
		}
	}
	return NULL;
}
