/* SPDX-License-Identifier: MIT */
/*
 * Ends of processes: a VM in every state of its life, at random moments, the hypervisor itself. Peers learn of it,
 * nothing is left over, nobody else stumbles.
 */
#include "proc_world.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

/* Shared by actors of one test: when something was seen, in ns. */
struct board {
	uint64_t seen_ns;
	uint64_t epoch;
	uint32_t pid;
};

static struct board *board_new(void)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static void publisher(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;
	const volatile struct ivc_hv_page *page;
	struct board *board = arg;

	proc_vm(w, &g, 1);
	proc_publish(&g, 1, 65536, &r);
	page = proc_at(&g, r.base.v);
	proc_say(me, 'p');
	if (!board) {
		proc_hear(me);
		return;
	}
	while (ivc_load_acquire_u8(&page->seat[0].state) != IVC_SEAT_DEAD) {
		proc_nap(0);
	}
	board->seen_ns = run_now_ns();
	proc_say(me, 'd');
	proc_hear(me);
	ivc_guest_disconnect(&g);
}

static void subscriber(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;
	const volatile struct ivc_hv_page *page;
	struct board *board = arg;

	proc_vm(w, &g, 2);
	proc_subscribe(&g, 1, 1, &r);
	page = proc_at(&g, r.base.v);
	ACTOR_CHECK(proc_seat_until(page, 0, IVC_SEAT_ACTIVE));
	proc_say(me, 's');
	if (!board) {
		proc_hear(me);
		return;
	}
	while (ivc_load_acquire_u32(&page->state) == IVC_CHANNEL_LIVE) {
		proc_nap(0);
	}
	board->seen_ns = run_now_ns();
	proc_say(me, 'd');
	proc_hear(me);
	ivc_guest_disconnect(&g);
}

#define ROUNDS 10

static void test_proc_death_peer_is_told_within_100_ms(void **state)
{
	struct board *board = board_new();
	struct proc_world w;
	struct proc_actor p, s;
	uint64_t killed, took, best[2] = {UINT64_MAX, UINT64_MAX};

	(void)state;
	proc_world_start(&w, NULL);
	for (int round = 0; round < ROUNDS; round++) {
		const bool publisher_dies = round % 2 == 0;

		proc_actor_start(&w, &p, publisher, publisher_dies ? NULL : board);
		assert_int_equal(proc_hear(&p), 'p');
		proc_actor_start(&w, &s, subscriber, publisher_dies ? board : NULL);
		assert_int_equal(proc_hear(&s), 's');
		killed = run_now_ns();
		proc_actor_kill(publisher_dies ? &p : &s, SIGKILL);
		assert_int_equal(proc_hear(publisher_dies ? &s : &p), 'd');
		took = board->seen_ns - killed;
		if (took < best[round % 2]) {
			best[round % 2] = took;
		}
		proc_say(publisher_dies ? &s : &p, 'q');
		proc_actor_ended_well(publisher_dies ? &s : &p);
		assert_int_equal(proc_actor_status(publisher_dies ? &p : &s), 256 + SIGKILL);
		proc_world_settled(&w);
	}
	/* The best of a few: what is measured is the hypervisor, not how busy the machine is. */
	assert_true(best[0] < UINT64_C(100000000));
	assert_true(best[1] < UINT64_C(100000000));
	proc_world_stop(&w);
	munmap(board, 4096);
}

/* Goes through a VM's life, says a letter at each station and stays there for a moment. */
static void life(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const int last = *(const int *)arg;
	const uint64_t wait_arg[6] = {0, IVC_FOREVER, 0, 0, 0, 0};
	const uint64_t unpublish[6] = {1, IVC_UNPUBLISH_REVOKE, 0, 0, 0, 0};
	struct ivc_wire m;
	int fd, vcpu, got, status, station = 0;

#define STATION()                                                                                                      \
	do {                                                                                                           \
		if (station++ == last) {                                                                               \
			proc_say(me, 'k');                                                                             \
			proc_nap(PROC_DEADLINE_MS);                                                                    \
		}                                                                                                      \
	} while (0)
	fd = proc_raw(w);
	STATION(); /* connected */
	close(fd);
	fd = proc_raw_hello(w, 1, &status);
	ACTOR_CHECK(status == 0);
	STATION(); /* a VM */
	ivc_wire_start(&m, IVC_WIRE_ADD_VCPU, 0);
	ACTOR_CHECK(ivc_wire_send(fd, &m, -1, 0) == 0);
	STATION(); /* a vCPU on its way */
	ACTOR_CHECK(proc_raw_next(fd, &m, &vcpu) == 0 && vcpu >= 0);
	STATION(); /* received, not acknowledged */
	proc_raw_ack(fd, m.seq, 0);
	proc_raw_publish(vcpu, 1, 1, 65536);
	STATION(); /* publishing, nothing received */
	close(proc_raw_next_map(fd, &m));
	STATION(); /* hv page received */
	proc_raw_ack(fd, m.seq, 0);
	STATION(); /* hv page acknowledged */
	got = proc_raw_next_map(fd, &m);
	ACTOR_CHECK(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, got, 0) != MAP_FAILED);
	STATION(); /* section mapped, not acknowledged */
	proc_raw_ack(fd, m.seq, 0);
	STATION(); /* reply not read */
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	STATION(); /* published */
	proc_raw_call(vcpu, 2, IVC_HC_WAIT, wait_arg, 0, 0);
	STATION(); /* about to park */
	(void)proc_raw_hear_reply(vcpu, &m);
	ACTOR_CHECK(m.u.reply.verdict == IVC_PARKED);
	STATION(); /* parked */
	ivc_wire_start(&m, IVC_WIRE_PARK_END, 2);
	m.u.park_end.why = IVC_E_INTR;
	ACTOR_CHECK(ivc_wire_send(vcpu, &m, -1, 0) == 0);
	STATION(); /* ending the park */
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == IVC_E_INTR);
	proc_raw_call(vcpu, 3, IVC_HC_UNPUBLISH, unpublish, 0, 0);
	STATION(); /* unpublishing */
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0);
	STATION(); /* unmap received */
	proc_raw_ack(fd, m.seq, 0);
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0);
	proc_raw_ack(fd, m.seq, 0);
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	STATION(); /* unpublished */
	ivc_wire_start(&m, IVC_WIRE_DETACH, 0);
	ACTOR_CHECK(ivc_wire_send(fd, &m, -1, 0) == 0);
	STATION(); /* leaving */
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0 && m.type == IVC_WIRE_BYE);
	STATION(); /* left */
	proc_say(me, 'e');
#undef STATION
}

static void test_proc_death_in_every_state_leaves_nothing(void **state)
{
	struct proc_world w;
	struct proc_actor a;
	int last = 0;
	char c;

	(void)state;
	proc_world_start(&w, NULL);
	do {
		proc_actor_start(&w, &a, life, &last);
		c = proc_hear(&a);
		if (c == 'k') {
			proc_actor_kill(&a, SIGKILL);
			assert_int_equal(proc_actor_status(&a), 256 + SIGKILL);
			last++;
		} else {
			proc_actor_ended_well(&a);
		}
		proc_world_settled(&w);
	} while (c == 'k');
	assert_int_equal(c, 'e');
	assert_int_equal(last, 18);
	proc_world_stop(&w);
}

/* Publishes and unpublishes, subscribes and leaves, as fast as it can. */
static void busy(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const uint32_t id = *(const uint32_t *)arg;
	const uint32_t other = id == 1 ? 2 : 1;
	struct ivc_call_region r;
	ivc_handle_t rang;
	struct ivc_guest g;
	int err;

	if (ivc_guest_connect(&g, w->where, ivc_vmid(id))) {
		ACTOR_CHECK(0);
	}
	proc_say(me, 'r');
	for (uint64_t n = 0;; n++) {
		err = ivc_call_publish(&g, 0, ivc_key(n % 3), 16384,
				       IVC_LAYOUT_SECTIONED | 2u << IVC_LAYOUT_SEATS_SHIFT, &r);
		ACTOR_CHECK(err == 0 || err == IVC_E_EXIST);
		err = ivc_call_subscribe(&g, 0, ivc_vmid(other), ivc_key(n % 3), true, n % 2, &r);
		ACTOR_CHECK(err == 0 || err == IVC_E_NOENT || err == IVC_E_EXIST || err == IVC_E_BUSY);
		(void)ivc_call_notify(&g, ivc_vmid(other), ivc_key(n % 3), IVC_ALL, 0);
		(void)ivc_call_wait(&g, (ivc_handle_t){0}, 100000, &rang);
		if (n % 2) {
			(void)ivc_call_unsubscribe(&g, ivc_vmid(other), ivc_key(n % 3));
		}
		if (n % 4 == 3) {
			(void)ivc_call_unpublish(&g, ivc_key(n % 3),
						 n & 4 ? IVC_UNPUBLISH_REVOKE : IVC_UNPUBLISH_DRAIN);
		}
	}
}

static void test_proc_death_at_random_moments_leaves_nothing(void **state)
{
	const uint64_t rounds = run_number("IVC_KILLS", 30);
	uint64_t seed = run_seed("proc_death");
	const uint32_t id[2] = {1, 2};
	struct ivc_port_levels levels;
	struct proc_actor a[2];
	struct proc_world w;

	(void)state;
	proc_world_start(&w, NULL);
	for (int i = 0; i < 2; i++) {
		proc_actor_start(&w, &a[i], busy, (void *)(uintptr_t)&id[i]);
		assert_int_equal(proc_hear(&a[i]), 'r');
	}
	for (uint64_t n = 0; n < rounds; n++) {
		const uint64_t i = run_below(&seed, 2);

		proc_nap((uint32_t)run_below(&seed, 20));
		proc_actor_kill(&a[i], SIGKILL);
		assert_int_equal(proc_actor_status(&a[i]), 256 + SIGKILL);
		proc_actor_start(&w, &a[i], busy, (void *)(uintptr_t)&id[i]);
		assert_int_equal(proc_hear(&a[i]), 'r');
	}
	for (int i = 0; i < 2; i++) {
		proc_actor_kill(&a[i], SIGKILL);
		assert_int_equal(proc_actor_status(&a[i]), 256 + SIGKILL);
	}
	proc_world_settled(&w);
	assert_int_equal(ivc_port_read_levels(w.where, &levels), 0);
	assert_int_equal(levels.ended, 0); /* nobody was taken for a liar */
	proc_world_stop(&w);
}

/* Waits for ever in a thread of its own. */
struct waiter {
	struct ivc_guest *g;
	pthread_t thread;
	int result;
};

static void *wait_for_ever(void *arg)
{
	struct waiter *waiter = arg;
	ivc_handle_t rang;

	do { /* the end of the other VM is a bell of its channel, and may come first */
		waiter->result = ivc_call_wait(waiter->g, (ivc_handle_t){0}, IVC_FOREVER, &rang);
	} while (waiter->result == 0);
	return NULL;
}

static void survivor(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct waiter waiter = {0};
	struct ivc_connect_info info;
	struct ivc_call_region own, r;
	struct ivc_guest g;
	const volatile struct ivc_hv_page *page[2];
	volatile uint64_t *mine;
	uint64_t epoch[2];

	(void)arg;
	proc_vm(w, &g, 2);
	proc_subscribe(&g, 1, 1, &r);
	proc_publish(&g, 5, 65536, &own);
	page[0] = proc_at(&g, r.base.v);
	page[1] = proc_at(&g, own.base.v);
	ACTOR_CHECK(proc_seat_until(page[0], 0, IVC_SEAT_ACTIVE));
	for (int i = 0; i < 2; i++) {
		epoch[i] = page[i]->epoch;
	}
	mine = proc_at(&g, own.base.v + page[1]->publisher_offset);
	*mine = 42;
	waiter.g = &g;
	ACTOR_CHECK(pthread_create(&waiter.thread, NULL, wait_for_ever, &waiter) == 0);
	proc_nap(50); /* most likely parked by then; either way it must end */
	proc_say(me, 's');

	/* [the hypervisor goes] */
	ACTOR_CHECK(proc_u32_until(&page[0]->state, IVC_CHANNEL_REVOKED));
	ACTOR_CHECK(proc_u32_until(&page[1]->state, IVC_CHANNEL_REVOKED));
	pthread_join(waiter.thread, NULL);
	ACTOR_CHECK(waiter.result == IVC_E_SHUTDOWN);
	for (int i = 0; i < 2; i++) {
		ACTOR_CHECK(proc_u32_until(&page[i]->magic, IVC_HV_PAGE_MAGIC)); /* a copy, not a blank */
		ACTOR_CHECK(page[i]->epoch == epoch[i]);
	}
	ACTOR_CHECK(*mine == 42);
	*mine = 43;
	ACTOR_CHECK(ivc_call_vm_id(&g) == IVC_E_SHUTDOWN);
	ACTOR_CHECK(ivc_call_unsubscribe(&g, ivc_vmid(1), ivc_key(1)) == IVC_E_SHUTDOWN);
	ACTOR_CHECK(ivc_guest_connection(&g, &info) == 0 && info.gone);
	ACTOR_CHECK(ivc_guest_why(&g) != NULL);
	ivc_guest_disconnect(&g);
	ivc_guest_disconnect(&g);
}

static void hypervisor_goes(int sig)
{
	struct proc_world w;
	struct proc_actor p, s;

	proc_world_start(&w, NULL);
	proc_actor_start(&w, &p, publisher, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, survivor, NULL);
	assert_int_equal(proc_hear(&s), 's');
	if (sig) {
		proc_actor_kill(&w.hv, sig);
		assert_int_equal(proc_actor_status(&w.hv), 256 + sig);
	} else {
		proc_say(&w.hv, 's');
		proc_actor_ended_well(&w.hv);
	}
	proc_actor_ended_well(&s); /* not killed by a hypervisor that leaves in order, either */
	proc_say(&p, 'q');
	proc_actor_ended_well(&p);
	proc_world_clear(&w);
}

static void test_proc_death_of_the_hypervisor_is_shutdown_and_revoked(void **state)
{
	(void)state;
	hypervisor_goes(SIGKILL);
}

static void test_proc_death_stop_of_the_hypervisor_is_shutdown_and_revoked(void **state)
{
	(void)state;
	hypervisor_goes(0);
}

/* Reads every page of its window without a pause while the publisher comes, revokes and goes. */
static void reader_of_all(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;
	uint64_t sum = 0;

	(void)arg;
	proc_vm(w, &g, 2);
	for (int n = 0; n < 40; n++) {
		const volatile struct ivc_hv_page *page;
		volatile uint64_t *own;

		proc_subscribe(&g, 1, 1, &r);
		page = proc_at(&g, r.base.v);
		own = proc_at(&g, r.base.v + 4096 + 65536 + r.seat * 4096); /* the page may be closed already */
		if (n == 0) {
			proc_say(me, 's');
		}
		do {
			for (uint64_t at = 0; at < r.bytes; at += 4096) {
				sum += *(volatile uint64_t *)proc_at(&g, r.base.v + at);
			}
			*own = sum;
		} while (ivc_load_acquire_u32(&page->state) == IVC_CHANNEL_LIVE);
		/* What it could write it still can; an EXIST would say that the old membership is not over. */
		*own = 7;
		ACTOR_CHECK(ivc_call_unsubscribe(&g, ivc_vmid(1), ivc_key(1)) == 0);
		sum += *own;
	}
	proc_say(me, 'd');
	ivc_guest_disconnect(&g);
}

static void revoker(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)arg;
	proc_vm(w, &g, 1);
	for (;;) {
		const volatile struct ivc_hv_page *page;

		proc_publish(&g, 1, 65536, &r);
		page = proc_at(&g, r.base.v);
		for (uint64_t until = proc_ms() + 200; proc_ms() < until && page->seat[0].state < IVC_SEAT_ACTIVE;) {
			proc_nap(0);
		}
		ACTOR_CHECK(ivc_call_unpublish(&g, ivc_key(1), IVC_UNPUBLISH_REVOKE) == 0);
	}
	(void)me;
}

static void test_proc_death_revoke_leaves_no_gap_in_the_window(void **state)
{
	struct proc_world w;
	struct proc_actor p, s;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &p, revoker, NULL);
	proc_actor_start(&w, &s, reader_of_all, NULL);
	assert_int_equal(proc_hear(&s), 's');
	assert_int_equal(proc_hear(&s), 'd');
	proc_actor_ended_well(&s);
	proc_actor_kill(&p, SIGKILL);
	assert_int_equal(proc_actor_status(&p), 256 + SIGKILL);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* Joins VM 1's channel, then answers nothing. One thread. */
static void silent_member(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	int vcpu;
	const int fd = proc_raw_vm(w, 2, &vcpu);

	(void)arg;
	proc_raw_subscribe(vcpu, 1, 1, 1);
	for (int maps = 0; maps < 3; maps++) {
		close(proc_raw_next_map(fd, &m));
		proc_raw_ack(fd, m.seq, 0);
	}
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) >= 0);
	proc_say(me, 's');
	proc_nap(PROC_DEADLINE_MS);
}

static void takes_back(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;
	uint64_t begun;

	(void)arg;
	proc_vm(w, &g, 1);
	proc_publish(&g, 1, 16384, &r);
	proc_say(me, 'p');
	ACTOR_CHECK(proc_hear(me) == 'r');
	begun = proc_ms();
	ACTOR_CHECK(ivc_call_unpublish(&g, ivc_key(1), IVC_UNPUBLISH_REVOKE) == 0);
	proc_say(me, proc_ms() - begun < 1300 ? 'r' : 'l');
	ivc_guest_disconnect(&g);
}

/* Killed, but not gone: somebody holds it at its exit, like a kernel that waits for a disk. */
static void test_proc_death_that_does_not_come_is_waited_for_in_bounds(void **state)
{
	const struct ivc_proc_config config = {.answer_ms = 400};
	struct ivc_port_levels levels;
	struct proc_world w;
	struct proc_actor p, s;
	bool held;
	int status;

	(void)state;
	proc_world_start(&w, &config);
	proc_actor_start(&w, &p, takes_back, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, silent_member, NULL);
	assert_int_equal(proc_hear(&s), 's');
	held = ptrace(PTRACE_SEIZE, s.pid, NULL, PTRACE_O_TRACEEXIT) == 0;
	proc_say(&p, 'r');
	assert_int_equal(proc_hear(&p), 'r');
	proc_actor_ended_well(&p);
	proc_world_empty(&w, &levels);
	if (held) {
		assert_true(levels.hv.quarantined_bytes > 0);
		assert_int_equal(waitpid(s.pid, &status, __WALL), s.pid);
		assert_int_equal(ptrace(PTRACE_DETACH, s.pid, NULL, NULL), 0);
	}
	assert_int_equal(proc_actor_status(&s), 256 + SIGKILL);
	proc_world_stop(&w);
	if (!held) {
		skip(); /* tracing is forbidden here */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proc_death_peer_is_told_within_100_ms),
		cmocka_unit_test(test_proc_death_in_every_state_leaves_nothing),
		cmocka_unit_test(test_proc_death_at_random_moments_leaves_nothing),
		cmocka_unit_test(test_proc_death_of_the_hypervisor_is_shutdown_and_revoked),
		cmocka_unit_test(test_proc_death_stop_of_the_hypervisor_is_shutdown_and_revoked),
		cmocka_unit_test(test_proc_death_revoke_leaves_no_gap_in_the_window),
		cmocka_unit_test(test_proc_death_that_does_not_come_is_waited_for_in_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
