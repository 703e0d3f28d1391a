/* SPDX-License-Identifier: MIT */
/*
 * Random calls of four VMs under a few keys, against a reference that fits on a few pages: arrays, no concurrency, no
 * memory. Every result, every level, every pending bell and every direct bell must agree; the invariants of the world
 * hold at every step.
 *
 * IVC_SEED repeats a run, IVC_OPS sets its length.
 */
#include "run.h"
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KEYS              3u
#define SEATS_MOST        3u
#define CHANNELS          64u
#define QUOTA_CHANNELS    2u
#define QUOTA_MEMBERSHIPS 4u
#define QUOTA_BYTES       (40 * WORLD_GRANULE)
#define LIMIT             (8 * WORLD_GRANULE)
#define NOBODY            UINT32_MAX
#if defined(__SANITIZE_THREAD__)
#define OPS 80000 /* one thread, for which ThreadSanitizer is only slow */
#else
#define OPS 300000
#endif

/* The reference. */

struct seat {
	uint32_t vm;  /* index, or NOBODY */
	bool pending; /* a bell was rung and not heard */
	bool down;    /* direct bells: publisher to seat, seat to publisher */
	bool up;
};

struct channel {
	bool used;
	uint32_t publisher; /* index; NOBODY once its VM has left it */
	uint32_t publisher_id;
	uint64_t key;
	uint64_t layout;
	uint64_t data;
	uint64_t seat_bytes;
	uint32_t state; /* IVC_CHANNEL_* */
	uint32_t seats;
	struct seat seat[SEATS_MOST];
	bool pending; /* the publisher's */
	uint64_t handle;
};

static struct channel channels[CHANNELS];
static uint32_t ids[WORLD_VMS];
static uint64_t strays[WORLD_VMS]; /* stores to the doorbell page that rang nobody, since attach */
static struct world w;
static uint64_t rng;
static uint64_t step;

static uint64_t head_bytes(const struct channel *c)
{
	return c->layout ? WORLD_GRANULE : 0;
}

static bool taken_back(const struct channel *c)
{
	return c->state == IVC_CHANNEL_REVOKED;
}

static struct channel *live(uint32_t publisher_id, uint64_t key)
{
	for (uint32_t i = 0; i < CHANNELS; i++) {
		struct channel *c = &channels[i];

		if (c->used && c->state == IVC_CHANNEL_LIVE && c->publisher_id == publisher_id && c->key == key) {
			return c;
		}
	}
	return NULL;
}

static struct seat *seat_of(struct channel *c, uint32_t vm)
{
	for (uint32_t i = 0; i < c->seats; i++) {
		if (c->seat[i].vm == vm) {
			return &c->seat[i];
		}
	}
	return NULL;
}

static struct channel *joined(uint32_t vm, uint32_t publisher_id, uint64_t key)
{
	for (uint32_t i = 0; i < CHANNELS; i++) {
		struct channel *c = &channels[i];

		if (c->used && c->publisher_id == publisher_id && c->key == key && seat_of(c, vm)) {
			return c;
		}
	}
	return NULL;
}

static uint32_t members(const struct channel *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->seats; i++) {
		n += c->seat[i].vm != NOBODY;
	}
	return n;
}

struct levels {
	uint32_t channels;
	uint32_t memberships;
	uint64_t bytes;
};

static struct levels levels_of(uint32_t vm)
{
	struct levels l = {0};

	for (uint32_t i = 0; i < CHANNELS; i++) {
		struct channel *c = &channels[i];

		if (!c->used) {
			continue;
		}
		if (c->publisher == vm) {
			l.channels++;
			l.bytes += head_bytes(c) + c->data;
		}
		if (seat_of(c, vm)) {
			l.memberships++;
			/* taken back: what it could write is memory of its own now, and still its to pay */
			l.bytes += taken_back(c) ? (c->layout ? c->seat_bytes : c->data)
						 : head_bytes(c) + c->data + c->seat_bytes;
		}
	}
	return l;
}

static void tell_members(struct channel *c)
{
	for (uint32_t i = 0; i < c->seats; i++) {
		c->seat[i].pending = c->seat[i].pending || c->seat[i].vm != NOBODY;
	}
}

static void tell_publisher(struct channel *c)
{
	c->pending = c->pending || c->publisher != NOBODY;
}

static void publisher_ends(struct channel *c, uint32_t state)
{
	c->state = state;
	c->publisher = NOBODY;
	tell_members(c);
	for (uint32_t i = 0; i < c->seats; i++) {
		c->seat[i].down = false;
		c->seat[i].up = false;
	}
	c->used = members(c) != 0;
}

static void member_leaves(struct channel *c, uint32_t vm)
{
	struct seat *seat = seat_of(c, vm);

	*seat = (struct seat){.vm = NOBODY};
	tell_publisher(c);
	c->used = c->state == IVC_CHANNEL_LIVE || members(c) != 0;
}

static void vm_ends(uint32_t vm)
{
	for (uint32_t i = 0; i < CHANNELS; i++) {
		struct channel *c = &channels[i];

		if (c->used && c->publisher == vm) {
			publisher_ends(c, c->layout & IVC_LAYOUT_DEATH_REVOKE ? IVC_CHANNEL_REVOKED : IVC_CHANNEL_DEAD);
		} else if (c->used && seat_of(c, vm)) {
			member_leaves(c, vm);
		}
	}
}

/* The comparison. */

static void agree(const char *what, int64_t got, int64_t want)
{
	if (got != want) {
		fail_msg("step %" PRIu64 ": %s: %" PRId64 ", not %" PRId64, step, what, got, want);
	}
}

static bool find_handle(void *arg, const struct ivc_channel_info *info)
{
	struct channel *c = arg;

	if (info->state == IVC_CHANNEL_LIVE && info->publisher.v == c->publisher_id && info->key.v == c->key) {
		c->handle = info->handle.v;
		return false;
	}
	return true;
}

/*
 * Sometimes one op of the caller is made to fail. Return: what the call then must answer if the op was reached.
 */
static int64_t fault_begin(struct world_vm *vm)
{
	static const enum ivc_fake_op ops[] = {IVC_FAKE_MAP, IVC_FAKE_MEM_NEW, IVC_FAKE_SLOT_GET};
	const enum ivc_fake_op op = ops[run_below(&rng, 3)];

	if (run_below(&rng, 12) != 0) {
		return 0;
	}
	ivc_fake_fail(w.fake, op, 1 + run_below(&rng, 3), 1, IVC_E_NOMEM);
	if (op == IVC_FAKE_MAP) {
		ivc_fake_fail_vm(w.fake, vm->host); /* a failure in a peer would be the peer's end */
	}
	return op == IVC_FAKE_SLOT_GET ? IVC_E_FAULT : IVC_E_NOMEM;
}

static bool fault_end(void)
{
	const bool hit = ivc_fake_fail_hits(w.fake) != 0;

	ivc_fake_fail(w.fake, IVC_FAKE_ANY, 0, 0, 0);
	return hit;
}

static void do_publish(uint32_t vm)
{
	static const uint64_t sizes[] = {1, 4096, 5000, 16384, LIMIT, LIMIT + 1, 0};
	const uint64_t key = run_below(&rng, KEYS);
	const uint64_t wanted = sizes[run_below(&rng, 7)];
	const uint32_t seats = 1 + (uint32_t)run_below(&rng, SEATS_MOST);
	const uint64_t seat_log = run_below(&rng, 2);
	uint64_t layout = WORLD_SEATS(seats) | seat_log << IVC_LAYOUT_SEAT_LOG_SHIFT;
	const struct levels have = levels_of(vm);
	struct channel next;
	struct world_window at;
	int64_t want = 0;
	int64_t faulty;
	int64_t got;

	layout |= run_below(&rng, 2) ? IVC_LAYOUT_DEATH_REVOKE : 0;
	layout |= run_below(&rng, 2) ? IVC_LAYOUT_SLEEPS : 0;
	layout = run_below(&rng, 3) == 0 ? 0 : layout;
	memset(&next, 0, sizeof(next));
	next.used = true;
	next.publisher = vm;
	next.publisher_id = ids[vm];
	next.key = key;
	next.layout = layout;
	next.data = (wanted + 4095) / 4096 * 4096;
	next.seat_bytes = layout ? WORLD_GRANULE << seat_log : 0;
	next.state = IVC_CHANNEL_LIVE;
	next.seats = layout ? seats : 1;
	for (uint32_t i = 0; i < SEATS_MOST; i++) {
		next.seat[i].vm = NOBODY;
	}
	if (wanted == 0 || wanted > LIMIT) {
		want = IVC_E_INVAL;
	} else if (live(ids[vm], key)) {
		want = IVC_E_EXIST;
	} else if (have.channels >= QUOTA_CHANNELS || have.bytes + head_bytes(&next) + next.data > QUOTA_BYTES) {
		want = IVC_E_DQUOT;
	}
	faulty = fault_begin(&w.vm[vm]);
	got = call_publish(&w.vm[vm], key, wanted, layout, &at);
	if (fault_end()) {
		want = faulty;
	}
	agree("publish", got, want);
	if (want != 0) {
		agree("publish: base slot", (int64_t)at.base, (int64_t)WORLD_UNTOUCHED);
		agree("publish: size slot", (int64_t)at.bytes, (int64_t)wanted);
		return;
	}
	agree("publish: window", (int64_t)at.bytes,
	      (int64_t)(head_bytes(&next) + next.data + (layout ? seats : 0) * next.seat_bytes));
	(void)ivc_hv_each(w.hv, find_handle, &next);
	for (uint32_t i = 0; i < CHANNELS; i++) {
		if (!channels[i].used) {
			channels[i] = next;
			return;
		}
	}
	fail_msg("the reference has too few channels");
}

/* VM 3 has no doorbell page, VM 2 no vector. */
static bool has_page(uint32_t vm)
{
	return vm != 3;
}

static bool has_vector(uint32_t vm)
{
	return vm != 2;
}

static int attach(uint32_t vm, uint32_t id)
{
	w.vm_config.doorbell = has_page(vm) ? WORLD_DOORBELL : 0;
	w.vm_config.vector = has_vector(vm) ? WORLD_VECTOR : 0;
	strays[vm] = 0;
	return world_attach(&w, vm, id);
}

static void late_answers(void);

/* Which direct bells a new member and its publisher get; at times the host cannot make the first or the second. */
static void doorbells(struct channel *c, struct seat *seat, bool sleeps, uint32_t faulty)
{
	const bool down = sleeps && has_page(c->publisher) && has_vector(seat->vm);
	const bool up = (c->layout & IVC_LAYOUT_SLEEPS) && has_page(seat->vm) && has_vector(c->publisher);

	if (!c->layout) {
		return;
	}
	seat->down = down && faulty != 1;
	seat->up = up && faulty != (down ? 2 : 1);
}

static void do_subscribe(uint32_t vm)
{
	const uint32_t publisher = (uint32_t)run_below(&rng, WORLD_VMS);
	const uint64_t key = run_below(&rng, KEYS);
	const struct levels have = levels_of(vm);
	struct channel *c = live(ids[publisher], key);
	const uint64_t sleeps = run_below(&rng, 2);
	const uint32_t bell_fault = (uint32_t)run_below(&rng, 12); /* 1 and 2: this op doorbell fails */
	struct world_window at;
	uint32_t seat = 0;
	int64_t want = 0;
	int64_t faulty;
	int64_t got;

	for (; c && seat < c->seats && c->seat[seat].vm != NOBODY; seat++) {
	}
	if (publisher == vm) {
		want = IVC_E_INVAL;
	} else if (joined(vm, ids[publisher], key)) {
		want = IVC_E_EXIST;
	} else if (!c) {
		want = IVC_E_NOENT;
	} else if (seat == c->seats) {
		want = IVC_E_BUSY;
	} else if (have.memberships >= QUOTA_MEMBERSHIPS ||
		   have.bytes + head_bytes(c) + c->data + c->seat_bytes > QUOTA_BYTES) {
		want = IVC_E_DQUOT;
	}
	if (bell_fault == 1 || bell_fault == 2) {
		ivc_fake_fail(w.fake, IVC_FAKE_DOORBELL, bell_fault, 1, IVC_E_NOSPC);
		got = call_subscribe(&w.vm[vm], &w.vm[publisher], key, sleeps, &at);
		late_answers();
		(void)fault_end();
	} else {
		faulty = fault_begin(&w.vm[vm]);
		got = call_subscribe(&w.vm[vm], &w.vm[publisher], key, sleeps, &at);
		want = fault_end() ? faulty : want;
	}
	agree("subscribe", got, want);
	if (want != 0 || !c) {
		agree("subscribe: base slot", (int64_t)at.base, (int64_t)WORLD_UNTOUCHED);
		return;
	}
	agree("subscribe: seat", (int64_t)at.seat, seat);
	c->seat[seat] = (struct seat){.vm = vm};
	doorbells(c, &c->seat[seat], sleeps != 0, bell_fault);
	tell_publisher(c);
}

static void do_unpublish(uint32_t vm)
{
	const uint64_t key = run_below(&rng, KEYS);
	const uint64_t how = run_below(&rng, 2);
	struct channel *c = live(ids[vm], key);

	agree("unpublish", call_unpublish(&w.vm[vm], key, how), c ? 0 : IVC_E_NOENT);
	if (c) {
		publisher_ends(c, how ? IVC_CHANNEL_REVOKED : IVC_CHANNEL_DRAIN);
	}
}

static void do_unsubscribe(uint32_t vm)
{
	const uint32_t publisher = (uint32_t)run_below(&rng, WORLD_VMS);
	const uint64_t key = run_below(&rng, KEYS);
	struct channel *c = joined(vm, ids[publisher], key);

	agree("unsubscribe", call_unsubscribe(&w.vm[vm], &w.vm[publisher], key), c ? 0 : IVC_E_NOENT);
	if (c) {
		member_leaves(c, vm);
	}
}

static void do_notify(uint32_t vm)
{
	const uint32_t publisher = (uint32_t)run_below(&rng, WORLD_VMS);
	const uint32_t target = (uint32_t)run_below(&rng, WORLD_VMS + 1);
	const uint64_t to = target == WORLD_VMS ? IVC_ALL : ids[target];
	const uint64_t key = run_below(&rng, KEYS);
	struct channel *c = live(ids[publisher], key);
	int64_t want = IVC_E_NOENT;

	if (c && publisher == vm && to == IVC_ALL) {
		want = 0;
		tell_members(c);
	} else if (c && publisher == vm && seat_of(c, target)) {
		want = 0;
		seat_of(c, target)->pending = true;
	} else if (c && seat_of(c, vm) && (to == IVC_ALL || target == publisher)) {
		want = 0;
		c->pending = true;
	}
	agree("notify", call_notify(&w.vm[vm], &w.vm[publisher], key, to), want);
}

/* The pending flag of @vm in @c, or NULL: it is not in it. */
static bool *pending_of(struct channel *c, uint32_t vm)
{
	if (!c->used) {
		return NULL;
	}
	if (c->publisher == vm) {
		return &c->pending;
	}
	return seat_of(c, vm) ? &seat_of(c, vm)->pending : NULL;
}

static void do_bell(uint32_t vm)
{
	struct channel *c = &channels[run_below(&rng, CHANNELS)];
	const uint64_t own = run_below(&rng, 2) ? IVC_ALL : run_below(&rng, SEATS_MOST);
	int64_t want = IVC_E_STALE;

	if (c->used && own == IVC_ALL && c->publisher == vm) {
		want = 0;
		tell_members(c);
	} else if (c->used && own < c->seats && c->seat[own].vm == vm) {
		want = c->state == IVC_CHANNEL_LIVE ? 0 : IVC_E_PIPE;
		c->pending = c->pending || want == 0;
	}
	agree("bell", call_bell(&w.vm[vm], c->handle ? c->handle : 1, IVC_ALL, own), want);
}

/* A store to the doorbell page: direct, as BELL, or nothing. */
static void do_doorbell(uint32_t vm)
{
	const struct channel *any = &channels[run_below(&rng, CHANNELS)];
	const uint64_t index = any->handle ? any->handle & 0xffffff : run_below(&rng, CHANNELS);
	const uint32_t low = run_below(&rng, 2) ? 0xff : (uint32_t)run_below(&rng, SEATS_MOST + 1);
	bool direct = false;
	bool rung = false;

	for (uint32_t i = 0; i < CHANNELS; i++) {
		struct channel *c = &channels[i];

		if (!c->used || (c->handle & 0xffffff) != index) {
			continue;
		}
		if (c->publisher == vm && low == 0xff) {
			rung = true;
			tell_members(c);
		} else if (c->publisher == vm && low < c->seats && c->seat[low].vm != NOBODY) {
			rung = true;
			direct = c->seat[low].down;
			c->seat[low].pending = c->seat[low].pending || !direct;
		} else if (seat_of(c, vm) && low == 0xff && c->state == IVC_CHANNEL_LIVE) {
			rung = true;
			direct = seat_of(c, vm)->up;
			c->pending = c->pending || !direct;
		}
	}
	strays[vm] += !rung;
	agree("doorbell", store_doorbell(&w.vm[vm], (uint32_t)(index << 8) | low), direct);
}

static void do_look(uint32_t vm)
{
	struct channel *c = &channels[run_below(&rng, CHANNELS)];
	bool *pending = pending_of(c, vm);
	uint32_t waiting = 0;
	int64_t got;

	if (run_below(&rng, 2) && c->handle) {
		got = call_look(&w.vm[vm], c->handle);
		if (!pending) {
			agree("look at a channel of others", got, IVC_E_STALE);
		} else {
			agree("look", got, *pending || c->state != IVC_CHANNEL_LIVE ? (int64_t)c->handle : IVC_E_AGAIN);
			*pending = false;
		}
		return;
	}
	got = call_look(&w.vm[vm], 0);
	for (uint32_t i = 0; i < CHANNELS; i++) {
		pending = pending_of(&channels[i], vm);
		if (!pending || !*pending) {
			continue;
		}
		waiting++;
		if ((int64_t)channels[i].handle == got) {
			*pending = false;
			return;
		}
	}
	agree(waiting ? "look at any, some pending" : "look at any", got, waiting ? 1 : IVC_E_AGAIN);
}

static void do_reset(uint32_t vm)
{
	agree("reset", call_reset(&w.vm[vm]), 0);
	vm_ends(vm);
}

static void do_die(uint32_t vm)
{
	agree("detach", world_detach(&w, vm), 0);
	vm_ends(vm);
	ids[vm] = (uint32_t)run_below(&rng, 2) ? ids[vm] : ids[vm] + WORLD_VMS;
	agree("attach", attach(vm, ids[vm]), 0);
}

static void compare_levels(void)
{
	const struct ivc_hv_stats hv = hv_stats(&w);
	uint32_t sections = 0;
	uint64_t bytes = 0;
	uint32_t alive = 0;
	uint32_t seated = 0;
	uint32_t direct = 0;

	for (uint32_t i = 0; i < CHANNELS; i++) {
		const struct channel *c = &channels[i];

		if (!c->used) {
			continue;
		}
		alive += c->state == IVC_CHANNEL_LIVE;
		seated += members(c);
		for (uint32_t k = 0; k < c->seats; k++) {
			direct += c->seat[k].down;
			direct += c->seat[k].up;
		}
		if (!taken_back(c)) {
			sections += 1 + (c->layout ? 1 + members(c) : 0);
			bytes += head_bytes(c) + c->data + members(c) * c->seat_bytes;
		}
	}
	agree("channels", hv.channels_now, alive);
	agree("memberships", hv.memberships_now, seated);
	agree("sections", hv.sections_now, sections);
	agree("bytes", (int64_t)hv.bytes_now, (int64_t)bytes);
	agree("direct bells", ivc_fake_doorbells(w.fake, NULL), direct);
	agree("host's sections", ivc_fake_mems(w.fake), sections);
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		const struct levels l = levels_of(i);
		const struct ivc_vm_stats vm = vm_stats(&w.vm[i]);

		agree("a VM's channels", vm.channels_now, l.channels);
		agree("a VM's memberships", vm.memberships_now, l.memberships);
		agree("a VM's bytes", (int64_t)vm.bytes_now, (int64_t)l.bytes);
		agree("quarantined", (int64_t)vm.quarantined, 0);
		agree("stray stores", (int64_t)vm.stray_writes, (int64_t)strays[i]);
	}
}

static void late_answers(void)
{
	uint32_t more = 1;

	while (more) {
		more = 0;
		for (uint32_t i = 0; i < WORLD_VMS; i++) {
			more += view_finish(&w.vm[i], 0);
		}
	}
	if (run_below(&rng, 16) == 0) {
		ivc_fake_later(w.vm[run_below(&rng, WORLD_VMS)].host, run_below(&rng, 2) == 0);
	}
}

static void test_registry_model_random_calls_agree_with_the_reference(void **state)
{
	const uint64_t ops = run_number("IVC_OPS", OPS);

	(void)state;
	rng = run_seed("test_registry_model");
	memset(channels, 0, sizeof(channels));
	world_defaults(&w);
	w.config.region_bytes = LIMIT;
	w.vm_config.quota.channels = QUOTA_CHANNELS;
	w.vm_config.quota.memberships = QUOTA_MEMBERSHIPS;
	w.vm_config.quota.bytes = QUOTA_BYTES;
	assert_int_equal(world_open(&w), 0);
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		ids[i] = w.vm[i].id;
		assert_int_equal(world_detach(&w, i), 0);
		assert_int_equal(attach(i, ids[i]), 0);
	}
	for (step = 0; step < ops; step++) {
		const uint32_t vm = (uint32_t)run_below(&rng, WORLD_VMS);
		const uint64_t what = run_below(&rng, 1000);

		if (what < 200) {
			do_publish(vm);
		} else if (what < 430) {
			do_subscribe(vm);
		} else if (what < 550) {
			do_unpublish(vm);
		} else if (what < 680) {
			do_unsubscribe(vm);
		} else if (what < 780) {
			do_notify(vm);
		} else if (what < 830) {
			do_bell(vm);
		} else if (what < 880) {
			do_doorbell(vm);
		} else if (what < 985) {
			do_look(vm);
		} else if (what < 998 || step > 100000) { /* every attach costs the fake host a VM for good */
			do_reset(vm);
		} else {
			do_die(vm);
		}
		late_answers();
		compare_levels();
		if (step % 16 == 0) {
			const char *wrong = world_check(&w);

			if (wrong) {
				fail_msg("step %" PRIu64 ": %s", step, wrong);
			}
		}
	}
	assert_clean(world_close(&w));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registry_model_random_calls_agree_with_the_reference),
	};

	return cmocka_run_group_tests_name("registry_model", tests, NULL, NULL);
}
