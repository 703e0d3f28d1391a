/* SPDX-License-Identifier: MIT */
/*
 * What a VM can reach in its window, the same on every host: where it may not write nothing changes, what was taken away
 * reads as closed and takes writes for nobody, and no moment in between is a hole.
 */
#include "host.h"

#define SEATS         2u
#define PAYLOAD       UINT64_C(65536)
#define LAYOUT        (IVC_LAYOUT_SECTIONED | (uint64_t)SEATS << IVC_LAYOUT_SEATS_SHIFT)
#define LAYOUT_ONE    (IVC_LAYOUT_SECTIONED | UINT64_C(1) << IVC_LAYOUT_SEATS_SHIFT)
#define PAGE          UINT64_C(4096)
#define STATE         offsetof(struct ivc_hv_page, state)
#define SEAT(n)       (PAGE + PAYLOAD + (n)*PAGE)
#define BYTES         SEAT(SEATS)
#define SEAT_STATE(n) (IVC_HV_PAGE_HEADER + 16 * (n) + 4)

/* VM 1 publishes channel 1 as its 0, VM 2 and perhaps more are members of it by their 0. */
struct stage {
	struct host *h;
	struct host_vm *p;
};

static void stage_start(struct stage *st)
{
	st->h = host_start();
	st->p = host_vm_start(st->h, 1, 1);
}

static void stage_stop(struct stage *st)
{
	host_vm_leave(st->p);
	host_stop(st->h);
}

static uint64_t peek(struct host_vm *vm, uint64_t ch, uint64_t offset, uint64_t size)
{
	struct puppet_answer a;

	assert_int_equal(host_do(vm, ORDER(PUPPET_READ, ch, offset, size), &a), 0);
	return a.value[0];
}

static void poke(struct host_vm *vm, uint64_t ch, uint64_t offset, uint64_t value)
{
	assert_int_equal(host_do(vm, ORDER(PUPPET_WRITE, ch, offset, 8, value, 1), NULL), 0);
}

/* How many of the @bytes there are not @byte. */
static uint64_t differ(struct host_vm *vm, uint64_t offset, uint64_t bytes, uint64_t byte)
{
	struct puppet_answer a;

	assert_int_equal(host_do(vm, ORDER(PUPPET_DIFF, 0, offset, bytes, byte), &a), 0);
	return a.value[0];
}

static void publish(struct host_vm *vm, uint64_t layout)
{
	assert_int_equal(host_do(vm, ORDER(PUPPET_MAP_PUB, 0, 1, PAYLOAD, layout), NULL), 0);
}

/* Return: the seat, that the publisher sees by then. */
static uint64_t join(struct host_vm *vm)
{
	struct puppet_answer a;

	assert_int_equal(host_do(vm, ORDER(PUPPET_MAP_SUB, 0, 1, 1, 1, 0, HOST_LONG), &a), 0);
	assert_int_equal(
		host_do(vm, ORDER(PUPPET_WATCH, 0, SEAT_STATE(a.value[2]), 1, IVC_SEAT_ACTIVE, HOST_LONG), NULL), 0);
	return a.value[2];
}

/* What a range without memory reads as: all ones in a guest, zeros in a process that is a VM. */
static uint64_t nothing(struct host_vm *vm)
{
	return host_guest(host_id(vm)) ? UINT64_MAX : 0;
}

/* What the hypervisor wrote: the head and two seats. */
#define WORDS ((IVC_HV_PAGE_HEADER + 2 * sizeof(struct ivc_hv_seat)) / 8)
static void page_copy(struct host_vm *vm, uint64_t word[WORDS])
{
	for (uint64_t i = 0; i < WORDS; i++) {
		word[i] = peek(vm, 0, 8 * i, 8);
	}
}

/*
 * Writes without effect: on KVM each is counted and the guest goes on, a process that is a VM dies of the first one.
 * Return: whether it goes on; else it is buried.
 */
static bool write_in_vain(struct host_vm *vm, uint64_t offset, uint64_t span, uint64_t times)
{
	struct puppet_answer before, after;
	struct host_end end;

	host_stats(vm, &before);
	host_begin(vm, 0, ORDER(PUPPET_WRITE, 0, offset, 8, UINT64_C(0x1122334455667788), times, 40, span));
	if (!host_guest(host_id(vm))) {
		end = host_vm_bury(vm);
		assert_int_equal(end.kind, HOST_CRASHED);
		return false;
	}
	assert_int_equal(host_end(vm, 0, NULL), 0);
	host_stats(vm, &after);
	assert_int_equal(after.value[1] - before.value[1], times);
	assert_int_equal(after.value[0], before.value[0]);
	return true;
}

static void test_host_memory_member_that_writes_what_it_may_read_changes_nothing(void **state)
{
	/* hv page; publisher section; the other member's seat and what was never handed out: holes */
	const uint64_t from[] = {0, PAGE, SEAT(1), UINT64_C(1) << 29};
	const uint64_t span[] = {PAGE, PAYLOAD, PAGE, PAGE};
	uint64_t before[WORDS], after[WORDS];
	struct stage st;

	(void)state;
	stage_start(&st);
	for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
		struct host_vm *s = host_vm_start(st.h, 2, 1), *other = host_vm_start(st.h, 3, 1);

		publish(st.p, LAYOUT);
		assert_int_equal(join(s), 0);
		assert_int_equal(join(other), 1);
		assert_int_equal(host_do(st.p, ORDER(PUPPET_FILL, 0, PAGE, PAYLOAD, 0x5a), NULL), 0);
		assert_int_equal(host_do(other, ORDER(PUPPET_FILL, 0, SEAT(1), PAGE, 0x5b), NULL), 0);
		page_copy(st.p, before);
		if (write_in_vain(s, from[i], span[i] - 8, run_scaled(i < 2 ? 10000 : 1000))) {
			page_copy(st.p, after);
			assert_memory_equal(before, after, sizeof(before));
			page_copy(s, after);
			assert_memory_equal(before, after, sizeof(before));
			/* What it may write it still can. */
			poke(s, 0, SEAT(0) + 80, 4711);
			assert_int_equal(peek(st.p, 0, SEAT(0) + 80, 8), 4711);
			host_vm_leave(s);
		} else {
			assert_int_equal(
				host_do(st.p, ORDER(PUPPET_WATCH, 0, SEAT_STATE(0), 1, IVC_SEAT_DEAD, HOST_LONG), NULL),
				0);
			page_copy(st.p, after);
			assert_memory_equal(before, after, offsetof(struct ivc_hv_page, sequence));
		}
		assert_int_equal(differ(st.p, PAGE, PAYLOAD, 0x5a), 0);
		assert_int_equal(differ(other, PAGE, PAYLOAD, 0x5a), 0);
		assert_int_equal(differ(other, SEAT(1), PAGE, 0x5b), 0);
		host_vm_leave(other);
		assert_int_equal(host_do(st.p, ORDER(PUPPET_CLOSE, 0, IVC_UNPUBLISH_DRAIN), NULL), 0);
	}
	stage_stop(&st);
}

static void test_host_memory_publisher_that_writes_what_it_may_read_changes_nothing(void **state)
{
	/* hv page; the seat of a member; a seat that nobody has */
	const uint64_t from[] = {0, SEAT(0), SEAT(1)};
	struct host *h = host_start();

	(void)state;
	for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
		struct host_vm *p = host_vm_start(h, 1, 1), *s = host_vm_start(h, 2, 1);

		publish(p, LAYOUT);
		assert_int_equal(join(s), 0);
		assert_int_equal(host_do(s, ORDER(PUPPET_FILL, 0, SEAT(0), PAGE, 0x5b), NULL), 0);
		if (write_in_vain(p, from[i], PAGE - 8, run_scaled(1000))) {
			assert_int_equal(peek(s, 0, STATE, 4), IVC_CHANNEL_LIVE);
			poke(p, 0, PAGE, 4712);
			assert_int_equal(peek(s, 0, PAGE, 8), 4712);
			host_vm_leave(p);
		} else {
			assert_int_equal(
				host_do(s, ORDER(PUPPET_WATCH, 0, STATE, 4, IVC_CHANNEL_DEAD, HOST_LONG), NULL), 0);
		}
		assert_int_equal(peek(s, 0, 0, 8), 1);
		assert_int_equal(differ(s, SEAT(0), PAGE, 0x5b), 0);
		host_vm_leave(s);
		host_settled(h);
	}
	host_stop(h);
}

static void test_host_memory_hole_reads_as_nothing(void **state)
{
	struct puppet_answer before, after;
	struct host_vm *s;
	struct stage st;

	(void)state;
	stage_start(&st);
	s = host_vm_start(st.h, 2, 1);
	publish(st.p, LAYOUT);
	assert_int_equal(join(s), 0);
	host_stats(s, &before);
	for (uint64_t at = 0; at < PAGE; at += 64) {
		assert_int_equal(peek(s, 0, SEAT(1) + at, 8), nothing(s));
		assert_int_equal(peek(s, 0, (UINT64_C(1) << 29) + at, 4), nothing(s) & UINT32_MAX);
		assert_int_equal(peek(s, 0, SEAT(1) + at + 3, 1), nothing(s) & 0xff);
	}
	assert_int_equal(peek(st.p, 0, SEAT(1), 8), nothing(st.p));
	host_stats(s, &after);
	assert_int_equal(after.value[0] - before.value[0], host_guest(2) ? 3 * PAGE / 64 : 0);
	host_vm_leave(s);
	stage_stop(&st);
}

static void test_host_memory_drained_stays_with_its_members_and_goes_from_its_publisher(void **state)
{
	struct puppet_answer shown;
	struct host_vm *s;
	struct stage st;

	(void)state;
	stage_start(&st);
	s = host_vm_start(st.h, 2, 1);
	publish(st.p, LAYOUT);
	join(s);
	assert_int_equal(host_do(st.p, ORDER(PUPPET_FILL, 0, PAGE, PAYLOAD, 0x5a), NULL), 0);
	host_stats(st.p, &shown);
	assert_int_equal(shown.value[2], 3);
	assert_int_equal(host_do(st.p, ORDER(PUPPET_CLOSE, 0, IVC_UNPUBLISH_DRAIN), NULL), 0);
	host_stats(st.p, &shown);
	assert_int_equal(shown.value[2], 0);
	for (uint64_t at = 0; at < BYTES; at += PAGE) {
		assert_int_equal(peek(st.p, 0, at + 104, 8), nothing(st.p));
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(peek(s, 0, STATE, 4), IVC_CHANNEL_DRAIN);
		assert_int_equal(differ(s, PAGE, PAYLOAD, 0x5a), 0);
		poke(s, 0, SEAT(0), 5);
		assert_int_equal(peek(s, 0, SEAT(0), 8), 5);
		if (i == 0) {
			/* A new channel of that name has nothing to do with it, and the end of its publisher neither. */
			publish(st.p, LAYOUT);
			assert_int_equal(differ(st.p, PAGE, PAYLOAD, 0), 0);
			poke(st.p, 0, PAGE, 1);
			host_vm_leave(st.p);
		}
	}
	assert_int_equal(host_do(s, ORDER(PUPPET_CLOSE, 0), NULL), 0);
	assert_int_equal(peek(s, 0, STATE, 4), nothing(s) & UINT32_MAX);
	assert_int_equal(peek(s, 0, PAGE, 8), nothing(s));
	host_stats(s, &shown);
	assert_int_equal(shown.value[2], 0);
	host_vm_leave(s);
	host_stop(st.h);
}

static void closed(struct host_vm *s)
{
	const uint64_t word = peek(s, 0, STATE, 4);

	assert_true(word == 0 || word == IVC_CHANNEL_REVOKED);
	assert_int_equal(differ(s, 0, STATE, 0), 0);
	assert_int_equal(differ(s, STATE + 4, PAGE + PAYLOAD - STATE - 4, 0), 0);
}

static void test_host_memory_revoked_reads_closed_and_takes_writes_for_nobody(void **state)
{
	struct puppet_answer shown;
	struct host_vm *s;
	struct stage st;

	(void)state;
	stage_start(&st);
	s = host_vm_start(st.h, 2, 1);
	for (int dies = 0; dies < 2; dies++) {
		publish(st.p, LAYOUT | (dies ? IVC_LAYOUT_DEATH_REVOKE : 0));
		join(s);
		assert_int_equal(host_do(st.p, ORDER(PUPPET_FILL, 0, PAGE, PAYLOAD, 0x5a), NULL), 0);
		assert_int_equal(host_do(s, ORDER(PUPPET_FILL, 0, SEAT(0), PAGE, 0x5b), NULL), 0);
		if (dies) {
			host_vm_kill(st.p);
			assert_int_equal(host_vm_bury(st.p).kind, HOST_KILLED);
			assert_int_equal(host_do(s, ORDER(PUPPET_WATCH, 0, 8, 8, 0, HOST_LONG), NULL), 0);
			assert_int_equal(host_do(s, ORDER(PUPPET_WATCH, 0, SEAT(0), 8, 0, HOST_LONG), NULL), 0);
			st.p = host_vm_start(st.h, 1, 1);
		} else {
			assert_int_equal(host_do(st.p, ORDER(PUPPET_CLOSE, 0, IVC_UNPUBLISH_REVOKE), NULL), 0);
		}
		closed(s);
		assert_int_equal(differ(s, SEAT(0), PAGE, 0), 0);
		/* The same name again: fresh memory that the member of the old one does not reach. */
		publish(st.p, LAYOUT);
		assert_int_equal(host_do(s, ORDER(PUPPET_MAP_SUB, 1, 1, 1, 1, 0, 0), NULL), IVC_E_EXIST);
		assert_int_equal(host_do(s, ORDER(PUPPET_FILL, 0, SEAT(0), PAGE, 0x5c), NULL), 0);
		assert_int_equal(differ(s, SEAT(0), PAGE, 0x5c), 0);
		assert_int_equal(host_do(st.p, ORDER(PUPPET_FILL, 0, PAGE, PAYLOAD, 0x5d), NULL), 0);
		closed(s);
		assert_int_equal(peek(st.p, 0, SEAT(0), 8), nothing(st.p));
		host_stats(s, &shown);
		assert_int_equal(shown.value[2],
				 host_guest(2) ? 3 : 0); /* slots stay, a process has only memory of its own */
		/* It goes, once, and is a member of the new one. */
		assert_int_equal(host_do(s, ORDER(PUPPET_CLOSE, 0), NULL), 0);
		assert_int_equal(peek(s, 0, STATE, 4), nothing(s) & UINT32_MAX);
		assert_int_equal(join(s), 0);
		assert_int_equal(differ(s, SEAT(0), PAGE, 0), 0);
		assert_int_equal(differ(s, PAGE, PAYLOAD, 0x5d), 0);
		assert_int_equal(host_do(s, ORDER(PUPPET_CLOSE, 0), NULL), 0);
		assert_int_equal(host_do(st.p, ORDER(PUPPET_CLOSE, 0, IVC_UNPUBLISH_REVOKE), NULL), 0);
		host_stats(s, &shown);
		assert_int_equal(shown.value[2], 0);
	}
	host_vm_leave(s);
	stage_stop(&st);
}

static void test_host_memory_seat_that_was_left_is_blank_and_fresh_for_the_next(void **state)
{
	struct host_vm *s;
	struct stage st;

	(void)state;
	stage_start(&st);
	publish(st.p, LAYOUT);
	for (uint64_t round = 1; round <= 6; round++) {
		s = host_vm_start(st.h, 2, 1);
		assert_int_equal(join(s), 0);
		assert_int_equal(differ(s, SEAT(0), PAGE, 0), 0);
		assert_int_equal(peek(st.p, 0, SEAT(0), 8), 0);
		poke(s, 0, SEAT(0), round);
		assert_int_equal(peek(st.p, 0, SEAT(0), 8), round);
		if (round % 2) {
			host_vm_leave(s);
		} else {
			host_vm_kill(s);
			assert_int_equal(host_vm_bury(s).kind, HOST_KILLED);
		}
		assert_int_equal(host_do(st.p,
					 ORDER(PUPPET_WATCH, 0, SEAT_STATE(0), 1,
					       round % 2 ? IVC_SEAT_LEFT : IVC_SEAT_DEAD, HOST_LONG),
					 NULL),
				 0);
		/* Backed for as long as the publisher is there, by nothing of the one who left. */
		assert_int_equal(host_do(st.p, ORDER(PUPPET_WATCH, 0, SEAT(0), 8, 0, HOST_LONG), NULL), 0);
	}
	stage_stop(&st);
}

/* The reader copies everything without a pause, 32 bytes at once where it can, and writes its seat. */
static void test_host_memory_revoke_under_a_reader_that_copies_leaves_no_gap(void **state)
{
	const uint64_t rounds = run_scaled(60);
	struct puppet_answer a, before, after;
	struct host_vm *s;
	struct stage st;

	(void)state;
	stage_start(&st);
	s = host_vm_start(st.h, 2, 1);
	host_stats(s, &before);
	for (uint64_t n = 0; n < rounds; n++) {
		const bool dies = n % 8 == 7;

		publish(st.p, LAYOUT_ONE | (dies ? IVC_LAYOUT_DEATH_REVOKE : 0));
		assert_int_equal(host_do(st.p, ORDER(PUPPET_FILL, 0, PAGE, PAYLOAD, n | 1), NULL), 0);
		join(s);
		host_begin(s, 0, ORDER(PUPPET_SWEEP, 0, 0, SEAT(0)));
		if (n % 2) {
			proc_nap(1);
		}
		if (dies) {
			host_vm_kill(st.p);
			assert_int_equal(host_vm_bury(st.p).kind, HOST_KILLED);
			st.p = host_vm_start(st.h, 1, 1);
		} else {
			assert_int_equal(host_do(st.p, ORDER(PUPPET_CLOSE, 0, IVC_UNPUBLISH_REVOKE), NULL), 0);
		}
		assert_int_equal(host_end(s, 0, &a), 0);
		assert_true(a.value[0] >= 3);
		closed(s);
		assert_int_equal(host_do(s, ORDER(PUPPET_CLOSE, 0), NULL), 0);
	}
	host_stats(s, &after);
	assert_int_equal(after.value[0], before.value[0]); /* nothing was ever a hole */
	assert_int_equal(after.value[1], before.value[1]);
	host_vm_leave(s);
	stage_stop(&st);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_memory_member_that_writes_what_it_may_read_changes_nothing),
		cmocka_unit_test(test_host_memory_publisher_that_writes_what_it_may_read_changes_nothing),
		cmocka_unit_test(test_host_memory_hole_reads_as_nothing),
		cmocka_unit_test(test_host_memory_drained_stays_with_its_members_and_goes_from_its_publisher),
		cmocka_unit_test(test_host_memory_revoked_reads_closed_and_takes_writes_for_nobody),
		cmocka_unit_test(test_host_memory_seat_that_was_left_is_blank_and_fresh_for_the_next),
		cmocka_unit_test(test_host_memory_revoke_under_a_reader_that_copies_leaves_no_gap),
	};

	return host_main(argc, argv, "memory", tests, sizeof(tests) / sizeof(tests[0]));
}
