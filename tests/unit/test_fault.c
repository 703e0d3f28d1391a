/* SPDX-License-Identifier: MIT */
/*
 * Every op of every multi-step path fails in turn, once and for good. A call that could not do its work has done
 * nothing; a call that takes something away has taken it away; memory that a window may still show is never used
 * again, and the VM whose window it is is given up.
 */
#include "run.h"
#include "world.h"

#include <inttypes.h>
#include <stdio.h>

#define KEY UINT64_C(0x6b)

static struct world w;

/* Preparations. */

static void with_flat(void)
{
	assert_int_equal(call_publish(&w.vm[0], KEY, 8192, 0, NULL), 0);
}

static void with_flat_member(void)
{
	with_flat();
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, NULL), 0);
}

static void with_sections(void)
{
	assert_int_equal(call_publish(&w.vm[0], KEY, 8192, WORLD_SEATS(3), NULL), 0);
}

static void with_member(void)
{
	with_sections();
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, NULL), 0);
	(void)view_finish(&w.vm[0], 0);
}

static void with_two_members(void)
{
	with_member();
	assert_int_equal(call_subscribe(&w.vm[2], &w.vm[0], KEY, 0, NULL), 0);
	(void)view_finish(&w.vm[0], 0);
}

static void with_seat_that_left(void)
{
	with_two_members();
	assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], KEY), 0);
	(void)view_finish(&w.vm[0], 0);
}

static void with_drained_member(void)
{
	with_member();
	assert_int_equal(call_unpublish(&w.vm[0], KEY, IVC_UNPUBLISH_DRAIN), 0);
}

static void with_revoked_member(void)
{
	with_member();
	assert_int_equal(call_unpublish(&w.vm[0], KEY, IVC_UNPUBLISH_REVOKE), 0);
}

static void with_revoked_flat_member(void)
{
	with_flat_member();
	assert_int_equal(call_unpublish(&w.vm[0], KEY, IVC_UNPUBLISH_REVOKE), 0);
}

static void with_many(void)
{
	with_two_members();
	assert_int_equal(call_publish(&w.vm[1], KEY, 4096, 0, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[0], &w.vm[1], KEY, 0, NULL), 0);
	assert_int_equal(call_publish(&w.vm[1], KEY + 1, 4096, WORLD_SECTIONED | IVC_LAYOUT_DEATH_REVOKE, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[0], &w.vm[1], KEY + 1, 0, NULL), 0);
}

static void with_nothing(void)
{
}

/* What is done. The caller is the VM whose call it is. */

static int64_t publish_flat(void)
{
	return call_publish(&w.vm[0], KEY, 8192, 0, NULL);
}

static int64_t publish_sections(void)
{
	return call_publish(&w.vm[0], KEY, 8192, WORLD_SEATS(3), NULL);
}

static int64_t subscribe(void)
{
	const int64_t result = call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, NULL);

	(void)view_finish(&w.vm[0], 0);
	return result;
}

static int64_t subscribe_sleeping(void)
{
	const int64_t result = call_subscribe(&w.vm[1], &w.vm[0], KEY, IVC_SUBSCRIBE_SLEEPS, NULL);

	(void)view_finish(&w.vm[0], 0);
	return result;
}

static int64_t subscribe_third(void)
{
	return call_subscribe(&w.vm[3], &w.vm[0], KEY, 0, NULL);
}

static int64_t unsubscribe(void)
{
	const int64_t result = call_unsubscribe(&w.vm[1], &w.vm[0], KEY);

	(void)view_finish(&w.vm[0], 0);
	return result;
}

static int64_t unpublish_drain(void)
{
	return call_unpublish(&w.vm[0], KEY, IVC_UNPUBLISH_DRAIN);
}

static int64_t unpublish_revoke(void)
{
	return call_unpublish(&w.vm[0], KEY, IVC_UNPUBLISH_REVOKE);
}

static int64_t reset_publisher(void)
{
	return call_reset(&w.vm[0]);
}

static int64_t reset_member(void)
{
	return call_reset(&w.vm[1]);
}

static int64_t detach_publisher(void)
{
	return world_detach(&w, 0);
}

static int64_t detach_member(void)
{
	return world_detach(&w, 1);
}

enum kind {
	GIVES, /* all or nothing */
	TAKES  /* done whatever fails */
};

struct scenario {
	const char *name;
	void (*prepare)(void);
	int64_t (*act)(void);
	enum kind kind;
	uint32_t caller; /* id */
	bool later;
};

static const struct scenario gives[] = {
	{"publish flat", with_nothing, publish_flat, GIVES, 1, false},
	{"publish sections", with_nothing, publish_sections, GIVES, 1, false},
	{"subscribe flat", with_flat, subscribe, GIVES, 2, false},
	{"subscribe", with_sections, subscribe, GIVES, 2, false},
	{"subscribe sleeping", with_sections, subscribe_sleeping, GIVES, 2, false},
	{"subscribe, late view", with_sections, subscribe, GIVES, 2, true},
	{"subscribe as third", with_two_members, subscribe_third, GIVES, 4, false},
	{"subscribe over a closed seat", with_seat_that_left, subscribe, GIVES, 2, false},
	{"subscribe over a closed seat, late view", with_seat_that_left, subscribe, GIVES, 2, true},
};

static const struct scenario takes[] = {
	{"unpublish drain", with_sections, unpublish_drain, TAKES, 1, false},
	{"unpublish drain, members", with_two_members, unpublish_drain, TAKES, 1, false},
	{"unpublish drain, seat that left", with_seat_that_left, unpublish_drain, TAKES, 1, false},
	{"unpublish drain flat", with_flat_member, unpublish_drain, TAKES, 1, false},
	{"unpublish revoke", with_sections, unpublish_revoke, TAKES, 1, false},
	{"unpublish revoke, members", with_two_members, unpublish_revoke, TAKES, 1, false},
	{"unpublish revoke flat", with_flat_member, unpublish_revoke, TAKES, 1, false},
	{"unsubscribe", with_member, unsubscribe, TAKES, 2, false},
	{"unsubscribe, late view", with_member, unsubscribe, TAKES, 2, true},
	{"unsubscribe flat", with_flat_member, unsubscribe, TAKES, 2, false},
	{"unsubscribe drained", with_drained_member, unsubscribe, TAKES, 2, false},
	{"unsubscribe revoked", with_revoked_member, unsubscribe, TAKES, 2, false},
	{"unsubscribe revoked flat", with_revoked_flat_member, unsubscribe, TAKES, 2, false},
	{"reset publisher", with_many, reset_publisher, TAKES, 1, false},
	{"reset member", with_many, reset_member, TAKES, 2, false},
	{"detach publisher", with_many, detach_publisher, TAKES, 1, false},
	{"detach member", with_many, detach_member, TAKES, 2, false},
};

static void begin(const struct scenario *s)
{
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	ivc_fake_later(w.vm[0].host, s->later);
	s->prepare();
}

/* What the record says of the ops that were made to fail. */
struct damage {
	bool hit[WORLD_VMS + 1]; /* VM id: one of its ops failed in a way that leaves its windows unknown */
	uint64_t mems[64];       /* serial numbers of what may still be shown */
	uint32_t mem_count;
	uint64_t bytes; /* of them */
};

static void damage_add(struct damage *d, const struct ivc_fake_entry *e)
{
	for (uint32_t i = 0; i < d->mem_count; i++) {
		if (d->mems[i] == e->mem) {
			return;
		}
	}
	if (e->mem && d->mem_count < 64) {
		d->mems[d->mem_count++] = e->mem;
		d->bytes += e->bytes;
	}
}

/*
 * A map that fails with EIO in a VM other than the caller's is damage too: its host is broken. A lack of room is not.
 */
static struct damage damage_of(uint64_t from, uint32_t caller)
{
	struct damage d = {0};
	struct ivc_fake_entry e;

	for (uint64_t i = from; ivc_fake_log_get(w.fake, i, &e); i++) {
		if (e.result >= 0 || e.vm == 0 || e.vm > WORLD_VMS) {
			continue;
		}
		if (e.op == IVC_FAKE_UNMAP || e.op == IVC_FAKE_CLOSE) {
			d.hit[e.vm] = true;
			damage_add(&d, &e);
		} else if (e.op == IVC_FAKE_MAP && e.vm != caller && e.result == IVC_E_IO) {
			d.hit[e.vm] = true;
		}
	}
	return d;
}

static void complain(const struct scenario *s, uint64_t nth, uint64_t times, const char *what)
{
	fail_msg("%s, op %" PRIu64 " fails %s: %s", s->name, nth, times == 1 ? "once" : "for good", what);
}

/* After the faults have stopped: everybody who was not given up goes on, everything can be taken down. */
static void end(const struct scenario *s, uint64_t nth, uint64_t times, const struct damage *d)
{
	struct ivc_hv_stats stats;
	const char *wrong;

	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		const bool dead = !w.vm[i].vm;
		const int64_t id = dead ? IVC_E_SHUTDOWN : call(&w.vm[i], IVC_HC_VM_ID, 0, 0, 0, 0);

		if (ivc_fake_failed(w.vm[i].host) != (d->hit[i + 1] && !dead ? 1u : 0u) && !(dead && d->hit[i + 1])) {
			complain(s, nth, times, "given up, or not, against the rule");
		}
		if (!dead && id != (d->hit[i + 1] ? IVC_E_SHUTDOWN : (int64_t)w.vm[i].id)) {
			complain(s, nth, times, "a VM answers that should not, or does not and should");
		}
	}
	wrong = world_check(&w);
	if (wrong) {
		complain(s, nth, times, wrong);
	}
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		if (w.vm[i].vm && world_detach(&w, i) != 0) {
			complain(s, nth, times, "detach does not end");
		}
	}
	stats = hv_stats(&w);
	if (stats.quarantined_bytes != d->bytes || stats.quarantined_sections != d->mem_count) {
		complain(s, nth, times, "quarantine is not exactly what may still be shown");
	}
	wrong = world_close(&w);
	if (wrong) {
		complain(s, nth, times, wrong);
	}
}

static void check_gives(const struct scenario *s, uint64_t nth, uint64_t times, int code)
{
	struct snapshot before;
	struct snapshot after;
	struct damage d;
	uint64_t from;
	int64_t result;
	bool any = false;

	begin(s);
	snapshot_take(&w, &before);
	from = ivc_fake_log_count(w.fake);
	ivc_fake_fail(w.fake, IVC_FAKE_ANY, nth, times, code);
	result = s->act();
	if (ivc_fake_fail_hits(w.fake) == 0) {
		complain(s, nth, times, "no op was failed");
	}
	ivc_fake_fail(w.fake, IVC_FAKE_ANY, 0, 0, 0);
	(void)view_finish(&w.vm[0], 0);
	d = damage_of(from, s->caller);
	for (uint32_t i = 0; i <= WORLD_VMS; i++) {
		any = any || d.hit[i];
	}
	if (result == 0 && !any) {
		complain(s, nth, times, "succeeded although something failed");
	}
	if (result != 0 && !any) {
		const char *wrong;

		snapshot_take(&w, &after);
		for (uint32_t i = 0; i < WORLD_VMS; i++) {
			before.ram[i] = after.ram[i]; /* the helpers prepare the slots; dispatch tests look at them */
		}
		wrong = snapshot_differs(&before, &after);
		if (wrong) {
			complain(s, nth, times, wrong);
		}
		if (s->act() != 0) {
			complain(s, nth, times, "does not work afterwards");
		}
	}
	if (result != 0 && !d.hit[s->caller] && any && result != IVC_E_NOENT) {
		complain(s, nth, times, "the caller pays for a peer's failure"); /* a publisher that is gone is NOENT */
	}
	end(s, nth, times, &d);
}

static void check_takes(const struct scenario *s, uint64_t nth, uint64_t times, int code)
{
	struct damage d;
	uint64_t from;
	int64_t result;

	begin(s);
	from = ivc_fake_log_count(w.fake);
	ivc_fake_fail(w.fake, IVC_FAKE_ANY, nth, times, code);
	result = s->act();
	ivc_fake_fail(w.fake, IVC_FAKE_ANY, 0, 0, 0);
	(void)view_finish(&w.vm[0], 0);
	d = damage_of(from, s->caller);
	if (s->act == detach_publisher || s->act == detach_member) {
		if (result != 0) {
			complain(s, nth, times, "detach failed");
		}
	} else if (s->act == reset_publisher || s->act == reset_member) {
		if (result != (d.hit[s->caller] ? IVC_E_SHUTDOWN : 0)) {
			complain(s, nth, times, "reset: wrong result");
		}
	} else {
		if (result != (d.hit[s->caller] ? IVC_E_IO : 0)) {
			complain(s, nth, times, "EIO is for the caller's own window and for nothing else");
		}
	}
	end(s, nth, times, &d);
}

static void sweep(const struct scenario *list, size_t count)
{
	static const int codes[] = {IVC_E_IO, IVC_E_NOMEM};

	for (size_t i = 0; i < count; i++) {
		const struct scenario *s = &list[i];
		uint64_t ops;

		begin(s);
		ops = ivc_fake_count(w.fake, IVC_FAKE_ANY);
		assert_int_equal(s->act(), 0);
		ops = ivc_fake_count(w.fake, IVC_FAKE_ANY) - ops;
		assert_clean(world_close(&w));
		assert_true(ops > 0);
		for (uint64_t nth = 1; nth <= ops; nth++) {
			for (size_t c = 0; c < sizeof(codes) / sizeof(codes[0]); c++) {
				if (s->kind == GIVES) {
					check_gives(s, nth, 1, codes[c]);
					check_gives(s, nth, UINT64_MAX, codes[c]);
				} else {
					check_takes(s, nth, 1, codes[c]);
					check_takes(s, nth, UINT64_MAX, codes[c]);
				}
			}
		}
	}
}

static void test_fault_call_that_gives_is_all_or_nothing(void **state)
{
	(void)state;
	sweep(gives, sizeof(gives) / sizeof(gives[0]));
}

static void test_fault_call_that_takes_is_done_whatever_fails(void **state)
{
	(void)state;
	sweep(takes, sizeof(takes) / sizeof(takes[0]));
}

/* A late answer that is a failure: the seat's view, and the close of it. */
static void test_fault_late_view_that_fails_gives_the_publisher_up(void **state)
{
	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	ivc_fake_later(w.vm[0].host, true);
	with_sections();
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, NULL), 0);
	assert_int_equal(view_finish(&w.vm[0], IVC_E_IO), 1);
	assert_int_equal(ivc_fake_failed(w.vm[0].host), 1);
	assert_int_equal(call_unpublish(&w.vm[0], KEY, 0), IVC_E_SHUTDOWN);
	assert_int_equal(call(&w.vm[1], IVC_HC_VM_ID, 0, 0, 0, 0), 2);
	assert_int_equal(world_detach(&w, 0), 0);
	assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], KEY), 0);
	assert_int_equal(hv_stats(&w).quarantined_bytes, 0);
	assert_clean(world_close(&w));
}

static void test_fault_late_close_that_fails_quarantines_the_seat(void **state)
{
	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	ivc_fake_later(w.vm[0].host, true);
	with_member();
	assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], KEY), 0);
	assert_int_equal(view_finish(&w.vm[0], IVC_E_IO), 1);
	assert_int_equal(ivc_fake_failed(w.vm[0].host), 1);
	assert_int_equal(hv_stats(&w).quarantined_bytes, 4096);
	assert_int_equal(vm_stats(&w.vm[0]).quarantined, 4096);
	assert_int_equal(world_detach(&w, 0), 0);
	assert_clean(world_close(&w));
}

/* What a guest is told when its own window could not be mapped. */
static void test_fault_map_codes_are_reduced_to_what_the_abi_knows(void **state)
{
	static const struct {
		int code;
		int64_t told;
	} rows[] = {
		{IVC_E_NOMEM, IVC_E_NOMEM},
		{IVC_E_NOSPC, IVC_E_NOSPC},
		{IVC_E_OPNOTSUPP, IVC_E_OPNOTSUPP},
		{IVC_E_IO, IVC_E_IO},
		{IVC_E_PERM, IVC_E_IO},
		{-4711, IVC_E_IO},
		{IVC_E_SHUTDOWN, IVC_E_SHUTDOWN},
	};

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (uint64_t nth = 1; nth <= 2; nth++) {
			ivc_fake_fail(w.fake, IVC_FAKE_MAP, nth, 1, rows[i].code);
			assert_int_equal(publish_sections(), rows[i].told);
		}
	}
	for (size_t i = 0; i < 2; i++) {
		ivc_fake_fail(w.fake, IVC_FAKE_MEM_NEW, i + 1, 1, -4711);
		assert_int_equal(publish_sections(), IVC_E_NOMEM);
	}
	ivc_fake_fail(w.fake, IVC_FAKE_MAP, 0, 0, 0);
	assert_int_equal(publish_sections(), 0);
	assert_clean(world_check(&w));
	assert_clean(world_close(&w));
}

/* A failed call leaves no hole in the window: as much fits as before. */
static void test_fault_rolled_back_ranges_can_be_handed_out_again(void **state)
{
	(void)state;
	world_defaults(&w);
	w.vm_config.window_bytes = 8 * WORLD_GRANULE;
	assert_int_equal(world_open(&w), 0);
	for (uint32_t i = 0; i < 50; i++) {
		ivc_fake_fail(w.fake, i % 2 ? IVC_FAKE_MAP : IVC_FAKE_MEM_NEW, 1 + i / 2 % 2, 1, IVC_E_NOMEM);
		assert_int_equal(call_publish(&w.vm[0], KEY, 4096, WORLD_SEATS(2), NULL), IVC_E_NOMEM);
	}
	assert_int_equal(call_publish(&w.vm[0], KEY, 4096, WORLD_SEATS(2), NULL), 0);
	for (uint32_t i = 0; i < 50; i++) {
		ivc_fake_fail(w.fake, i % 2 ? IVC_FAKE_MAP : IVC_FAKE_MEM_NEW, 1, 1, IVC_E_NOMEM);
		assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, NULL), IVC_E_NOMEM);
	}
	ivc_fake_fail(w.fake, IVC_FAKE_MAP, 0, 0, 0);
	assert_int_equal(vm_stats(&w.vm[1]).window_now, 0);
	assert_int_equal(call_publish(&w.vm[1], KEY, 8 * 4096, 0, NULL), 0);
	assert_clean(world_close(&w));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fault_call_that_gives_is_all_or_nothing),
		cmocka_unit_test(test_fault_call_that_takes_is_done_whatever_fails),
		cmocka_unit_test(test_fault_late_view_that_fails_gives_the_publisher_up),
		cmocka_unit_test(test_fault_late_close_that_fails_quarantines_the_seat),
		cmocka_unit_test(test_fault_map_codes_are_reduced_to_what_the_abi_knows),
		cmocka_unit_test(test_fault_rolled_back_ranges_can_be_handed_out_again),
	};

	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
