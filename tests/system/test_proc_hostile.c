/* SPDX-License-Identifier: MIT */
/*
 * VMs that do not answer, do not read, say the wrong thing or only close their socket: each is ended in bounded time,
 * the others go on, nothing is left over.
 */
#include "proc_world.h"
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

/* An honest publisher of key 1 as VM 1. */
static void publisher(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)arg;
	proc_vm(w, &g, 1);
	proc_publish(&g, 1, 16384, &r);
	proc_say(me, 'p');
	proc_hear(me);
	ivc_guest_disconnect(&g);
}

/* Sits in VM 1's channel, tells when the publisher is dead, then still works. */
static void witness(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r, own;
	const volatile struct ivc_hv_page *page;

	(void)arg;
	proc_vm(w, &g, 2);
	proc_subscribe(&g, 1, 1, &r);
	page = proc_at(&g, r.base.v);
	proc_say(me, 's');
	ACTOR_CHECK(proc_u32_until(&page->state, IVC_CHANNEL_DEAD));
	proc_say(me, 'd');
	proc_publish(&g, 9, 16384, &own);
	ACTOR_CHECK(ivc_call_unsubscribe(&g, ivc_vmid(1), ivc_key(1)) == 0);
	ivc_guest_disconnect(&g);
}

/* Subscribes to VM 1 and says how long that took. */
static void newcomer(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;
	uint64_t begun;

	(void)arg;
	proc_vm(w, &g, 3);
	begun = proc_ms();
	proc_subscribe(&g, 1, 1, &r);
	proc_say(me, proc_ms() - begun < 900 ? 'n' : 'l');
	proc_hear(me);
	ivc_guest_disconnect(&g);
}

static void test_proc_hostile_stopped_publisher_is_killed_peers_go_on(void **state)
{
	const struct ivc_proc_config config = {.answer_ms = 1500};
	struct proc_world w;
	struct proc_actor p, s, n;

	(void)state;
	proc_world_start(&w, &config);
	proc_actor_start(&w, &p, publisher, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, witness, NULL);
	assert_int_equal(proc_hear(&s), 's');
	proc_actor_kill(&p, SIGSTOP);
	/* Its view of the new seat is asked for and not answered; the subscriber does not wait for that. */
	proc_actor_start(&w, &n, newcomer, NULL);
	assert_int_equal(proc_hear(&n), 'n');
	assert_int_equal(proc_hear(&s), 'd');
	assert_int_equal(proc_actor_status(&p), 256 + SIGKILL);
	proc_say(&n, 'q');
	proc_actor_ended_well(&n);
	proc_actor_ended_well(&s);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void test_proc_hostile_stopped_publisher_is_quarantined_by_option(void **state)
{
	const struct ivc_proc_config config = {.flags = IVC_PROC_QUARANTINE, .answer_ms = 200};
	struct ivc_port_levels levels;
	struct proc_world w;
	struct proc_actor p, s, n;

	(void)state;
	proc_world_start(&w, &config);
	proc_actor_start(&w, &p, publisher, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, witness, NULL);
	assert_int_equal(proc_hear(&s), 's');
	proc_actor_kill(&p, SIGSTOP);
	proc_actor_start(&w, &n, newcomer, NULL);
	assert_int_not_equal(proc_hear(&n), 0);
	assert_int_equal(proc_hear(&s), 'd');
	proc_say(&n, 'q');
	proc_actor_ended_well(&n);
	proc_actor_ended_well(&s);
	proc_actor_kill(&p, SIGCONT); /* alive: it only finds its hypervisor gone */
	proc_say(&p, 'q');
	proc_actor_ended_well(&p);
	assert_int_equal(ivc_port_read_levels(w.where, &levels), 0);
	assert_true(levels.hv.quarantined_bytes >= 16384 + 4096);
	assert_int_equal(levels.hv.bytes_now, 0);
	assert_true(levels.memfds >= 2);
	proc_world_stop(&w); /* frees them; a sanitizer would tell */
}

static void never_answers(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	int vcpu;
	const int fd = proc_raw_vm(w, 1, &vcpu);

	(void)arg;
	proc_raw_publish(vcpu, 1, 1, 16384);
	close(proc_raw_next_map(fd, &m));
	proc_say(me, 'x');
	proc_nap(PROC_DEADLINE_MS);
}

static void test_proc_hostile_own_map_never_answered_is_killed(void **state)
{
	const struct ivc_proc_config config = {.answer_ms = 300};
	struct proc_world w;
	struct proc_actor a;
	uint64_t begun;

	(void)state;
	proc_world_start(&w, &config);
	proc_actor_start(&w, &a, never_answers, NULL);
	assert_int_equal(proc_hear(&a), 'x');
	begun = proc_ms();
	assert_int_equal(proc_actor_status(&a), 256 + SIGKILL);
	assert_true(proc_ms() - begun < 10000);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* Publishes, shows it, closes every socket and goes on living with its mappings. */
static void closes_and_lives(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	int vcpu;
	const int fd = proc_raw_vm(w, 1, &vcpu);

	(void)arg;
	proc_raw_publish(vcpu, 1, 1, 16384);
	for (int i = 0; i < 2; i++) {
		const int got = proc_raw_next_map(fd, &m);

		ACTOR_CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, got, 0) != MAP_FAILED);
		close(got);
		proc_raw_ack(fd, m.seq, 0);
	}
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	proc_say(me, 'p');
	m.type = 0;
	while (m.type != IVC_WIRE_MAP) { /* the witness's seat */
		int got;

		ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0);
	}
	proc_raw_ack(fd, m.seq, 0);
	ACTOR_CHECK(proc_hear(me) == 'c');
	close(vcpu);
	close(fd);
	proc_nap(PROC_DEADLINE_MS);
}

static void test_proc_hostile_socket_closed_but_alive_is_killed(void **state)
{
	struct proc_world w;
	struct proc_actor a, s;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &a, closes_and_lives, NULL);
	assert_int_equal(proc_hear(&a), 'p');
	proc_actor_start(&w, &s, witness, NULL);
	assert_int_equal(proc_hear(&s), 's');
	proc_say(&a, 'c');
	assert_int_equal(proc_actor_status(&a), 256 + SIGKILL);
	assert_int_equal(proc_hear(&s), 'd');
	proc_actor_ended_well(&s);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* One wrong thing each; after any of them the VM must be ended. */
enum wrong {
	WRONG_TYPE,
	WRONG_SIZE,
	WRONG_VERSION,
	NO_BYTES,
	UNMAPPED_UNASKED,
	ACK_OF_NOTHING,
	ACK_OF_ANOTHER,
	ACK_ABOVE_ZERO,
	BELL_ACK_OF_NOTHING,
	VCPU_TYPE,
	VCPU_SIZE,
	VCPU_NO_BYTES,
	PARK_END_OF_NOTHING,
	PARK_END_WITH_ODD_REASON,
	CALL_WHILE_PARKED,
	DETACH_IN_A_CALL,
	DETACH_TWICE,
	MANY_VCPUS,
	REPLIES_NOT_READ,
	WRONG_COUNT
};

static void send_type(int fd, uint16_t type, uint64_t seq, int status)
{
	struct ivc_wire m;

	ivc_wire_start(&m, IVC_WIRE_ACK, seq);
	m.type = type;
	m.u.ack.status = status;
	(void)ivc_wire_send(fd, &m, -1, 0);
}

static void park(int vcpu, uint64_t seq)
{
	const uint64_t arg[6] = {0, IVC_FOREVER, 0, 0, 0, 0};
	struct ivc_wire m;

	proc_raw_call(vcpu, seq, IVC_HC_WAIT, arg, 0, 0);
	(void)proc_raw_hear_reply(vcpu, &m);
	ACTOR_CHECK(m.type == IVC_WIRE_REPLY && m.u.reply.verdict == IVC_PARKED);
}

static void does_wrong(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const enum wrong what = *(const enum wrong *)arg;
	const uint64_t none[6] = {0};
	struct ivc_wire m;
	int vcpu;
	const int fd = proc_raw_vm(w, 1, &vcpu);

	proc_say(me, 'r');
	switch (what) {
	case WRONG_TYPE:
		send_type(fd, IVC_WIRE_CALL, 1, 0);
		break;
	case WRONG_SIZE:
		(void)send(fd, "short", 5, MSG_NOSIGNAL);
		break;
	case WRONG_VERSION:
		ivc_wire_start(&m, IVC_WIRE_ADD_VCPU, 0);
		m.version = 99;
		(void)ivc_wire_send(fd, &m, -1, 0);
		break;
	case NO_BYTES:
		(void)send(fd, "", 0, MSG_NOSIGNAL);
		break;
	case UNMAPPED_UNASKED:
		send_type(fd, IVC_WIRE_UNMAPPED, 0, 0);
		break;
	case ACK_OF_NOTHING:
		proc_raw_ack(fd, 12345, 0);
		break;
	case ACK_OF_ANOTHER:
	case ACK_ABOVE_ZERO:
		proc_raw_publish(vcpu, 1, 1, 16384);
		close(proc_raw_next_map(fd, &m));
		proc_raw_ack(fd, what == ACK_OF_ANOTHER ? m.seq + 1 : m.seq, what == ACK_OF_ANOTHER ? 0 : 1);
		break;
	case BELL_ACK_OF_NOTHING:
		send_type(fd, IVC_WIRE_BELL_ACK, 0, 0);
		break;
	case VCPU_TYPE:
		send_type(vcpu, IVC_WIRE_REPLY, 1, 0);
		break;
	case VCPU_SIZE:
		(void)send(vcpu, "short", 5, MSG_NOSIGNAL);
		break;
	case VCPU_NO_BYTES:
		(void)send(vcpu, "", 0, MSG_NOSIGNAL);
		break;
	case PARK_END_OF_NOTHING:
		send_type(vcpu, IVC_WIRE_PARK_END, 1, IVC_E_INTR);
		break;
	case PARK_END_WITH_ODD_REASON:
		park(vcpu, 1);
		send_type(vcpu, IVC_WIRE_PARK_END, 1, 5);
		break;
	case CALL_WHILE_PARKED:
		park(vcpu, 1);
		proc_raw_call(vcpu, 2, IVC_HC_VM_ID, none, 0, 0);
		break;
	case DETACH_IN_A_CALL:
		proc_raw_publish(vcpu, 1, 1, 16384);
		close(proc_raw_next_map(fd, &m));
		send_type(fd, IVC_WIRE_DETACH, 0, 0);
		break;
	case DETACH_TWICE:
		send_type(fd, IVC_WIRE_DETACH, 0, 0);
		send_type(fd, IVC_WIRE_DETACH, 0, 0);
		/* the first is in order, the second is wrong or too late: in the end the connection is closed */
		ACTOR_CHECK(proc_raw_end(fd));
		kill(getpid(), SIGKILL);
		break;
	case MANY_VCPUS:
		for (int i = 0; i < 200; i++) {
			send_type(fd, IVC_WIRE_ADD_VCPU, 0, 0);
		}
		break;
	case REPLIES_NOT_READ:
	default:
		for (int i = 0; i < 100000; i++) {
			proc_raw_call(vcpu, (uint64_t)i + 1, IVC_HC_VM_ID, none, 0, 0);
		}
		break;
	}
	proc_nap(PROC_DEADLINE_MS);
}

static void test_proc_hostile_every_wrong_message_ends_the_vm(void **state)
{
	struct ivc_port_levels levels;
	struct proc_world w;
	struct proc_actor a;

	(void)state;
	proc_world_start(&w, NULL);
	for (enum wrong what = 0; what < WRONG_COUNT; what++) {
		proc_actor_start(&w, &a, does_wrong, &what);
		assert_int_equal(proc_hear(&a), 'r');
		if (proc_actor_status(&a) != 256 + SIGKILL) {
			fail_msg("wrong thing %d", (int)what);
		}
		proc_world_settled(&w);
		assert_int_equal(ivc_port_read_levels(w.where, &levels), 0);
		if (what == NO_BYTES) {
			assert_int_equal(levels.ended, what + 1); /* wrong, not closed */
		}
	}
	proc_world_stop(&w);
}

static void test_proc_hostile_every_wrong_message_ends_the_vm_in_quarantine_too(void **state)
{
	const struct ivc_proc_config config = {.flags = IVC_PROC_QUARANTINE, .answer_ms = 200};
	struct ivc_port_levels levels;
	struct proc_world w;
	struct proc_actor a;

	(void)state;
	proc_world_start(&w, &config);
	for (enum wrong what = 0; what < WRONG_COUNT; what++) {
		proc_actor_start(&w, &a, does_wrong, &what);
		assert_int_equal(proc_hear(&a), 'r');
		/* Nobody kills it, so the test does when the hypervisor has let go of the id. */
		proc_world_empty(&w, &levels);
		assert_int_equal(levels.hv.bytes_now, 0);
		if (what != DETACH_TWICE) {
			proc_actor_kill(&a, SIGKILL);
		}
		assert_int_equal(proc_actor_status(&a), 256 + SIGKILL);
	}
	proc_world_stop(&w);
}

/* Takes its bells by WAIT and never reads its control connection: one BELL waits there, the rest merges. */
static void bells_not_read(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const uint64_t poll_any[6] = {0};
	struct ivc_wire m;
	uint64_t rang = 0;
	int vcpu, got, unread = 0;
	const int fd = proc_raw(w);

	(void)arg;
	ivc_wire_start(&m, IVC_WIRE_HELLO, 0);
	m.u.hello.vm = 1;
	m.u.hello.vector = 33;
	m.u.hello.window = UINT64_C(0x40000000);
	m.u.hello.window_bytes = UINT64_C(1) << 30;
	ACTOR_CHECK(ivc_wire_send(fd, &m, -1, 0) == 0);
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0 && m.u.welcome.status == 0);
	vcpu = proc_raw_vcpu(fd);
	proc_raw_publish(vcpu, 1, 1, 16384);
	for (int i = 0; i < 2; i++) {
		close(proc_raw_next_map(fd, &m));
		proc_raw_ack(fd, m.seq, 0);
	}
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	proc_say(me, 'p');
	do { /* the view of the ringer's seat, and perhaps the bell that announces it */
		ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0);
		unread += m.type == IVC_WIRE_BELL;
	} while (m.type != IVC_WIRE_MAP);
	close(got);
	proc_raw_ack(fd, m.seq, 0);
	for (uint64_t seq = 2; rang < 2000; seq++) {
		proc_raw_call(vcpu, seq, IVC_HC_WAIT, poll_any, 0, 0);
		rang += proc_raw_hear_reply(vcpu, &m) > 0;
	}
	while (ivc_wire_recv(fd, &m, MSG_DONTWAIT) == 0) {
		ACTOR_CHECK(m.type == IVC_WIRE_BELL);
		unread++;
	}
	ACTOR_CHECK(unread == 1);
	/* Answered, the next one comes: with what has rung since. */
	send_type(fd, IVC_WIRE_BELL_ACK, 0, 0);
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0 && m.type == IVC_WIRE_BELL);
	proc_say(me, 'b');
	proc_nap(PROC_DEADLINE_MS);
}

static void ringer(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)me;
	(void)arg;
	proc_vm(w, &g, 2);
	proc_subscribe(&g, 1, 1, &r);
	while (ivc_call_notify(&g, ivc_vmid(1), ivc_key(1), IVC_ALL, 0) == 0) {
	}
	ivc_guest_disconnect(&g);
}

static void test_proc_hostile_unread_bells_merge(void **state)
{
	struct proc_world w;
	struct proc_actor a, r;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &a, bells_not_read, NULL);
	assert_int_equal(proc_hear(&a), 'p');
	proc_actor_start(&w, &r, ringer, NULL);
	assert_int_equal(proc_hear(&a), 'b');
	proc_actor_kill(&a, SIGKILL);
	assert_int_equal(proc_actor_status(&a), 256 + SIGKILL);
	proc_actor_ended_well(&r);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void refuses_to_unmap(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const uint64_t unpublish[6] = {1, IVC_UNPUBLISH_REVOKE, 0, 0, 0, 0};
	struct ivc_wire m;
	int vcpu, got;
	const int fd = proc_raw_vm(w, 1, &vcpu);

	(void)arg;
	proc_raw_publish(vcpu, 1, 1, 16384);
	for (int i = 0; i < 2; i++) {
		close(proc_raw_next_map(fd, &m));
		proc_raw_ack(fd, m.seq, 0);
	}
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	proc_say(me, 'p');
	proc_raw_call(vcpu, 2, IVC_HC_UNPUBLISH, unpublish, 0, 0);
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0);
	proc_raw_ack(fd, m.seq, IVC_E_IO);
	proc_nap(PROC_DEADLINE_MS);
}

static void test_proc_hostile_vm_that_cannot_unmap_is_given_up(void **state)
{
	struct proc_world w;
	struct proc_actor a;
	struct ivc_port_levels levels;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &a, refuses_to_unmap, NULL);
	assert_int_equal(proc_hear(&a), 'p');
	assert_int_equal(proc_actor_status(&a), 256 + SIGKILL);
	proc_world_empty(&w, &levels);
	assert_int_equal(levels.hv.vms_now, 0);
	assert_true(levels.hv.quarantined_bytes > 0);
	proc_world_stop(&w);
}

/* Stops in the middle of its own PUBLISH; the rest of the world must not notice. */
static void bystander(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;
	uint64_t worst = 0;

	(void)arg;
	proc_vm(w, &g, 4);
	for (int i = 0; i < 100; i++) {
		const uint64_t begun = proc_ms();

		proc_publish(&g, 1, 16384, &r);
		ACTOR_CHECK(ivc_call_unpublish(&g, ivc_key(1), IVC_UNPUBLISH_DRAIN) == 0);
		worst = proc_ms() - begun > worst ? proc_ms() - begun : worst;
	}
	ACTOR_CHECK(worst < 1000);
	proc_say(me, 'b');
	ivc_guest_disconnect(&g);
}

static void test_proc_hostile_vm_stuck_in_a_call_stops_nobody_else(void **state)
{
	const struct ivc_proc_config config = {.answer_ms = 3000};
	struct proc_world w;
	struct proc_actor a, b;

	(void)state;
	proc_world_start(&w, &config);
	proc_actor_start(&w, &a, never_answers, NULL);
	assert_int_equal(proc_hear(&a), 'x');
	proc_actor_start(&w, &b, bystander, NULL);
	assert_int_equal(proc_hear(&b), 'b');
	proc_actor_ended_well(&b);
	assert_int_equal(proc_actor_status(&a), 256 + SIGKILL);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

#define SLOW_KEYS 3

/* Joins three channels; from then on answers each request as late as it may. */
static void slow_member(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	int vcpu, got;
	const int fd = proc_raw_vm(w, 2, &vcpu);

	(void)arg;
	for (uint64_t key = 1; key <= SLOW_KEYS; key++) {
		proc_raw_subscribe(vcpu, key, 1, key);
		for (int maps = 0; maps < 3; maps++) {
			close(proc_raw_next_map(fd, &m));
			proc_raw_ack(fd, m.seq, 0);
		}
		ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) >= 0);
	}
	proc_say(me, 's');
	while (proc_raw_next(fd, &m, &got) == 0) {
		if (m.type == IVC_WIRE_CLOSE || m.type == IVC_WIRE_UNMAP) {
			proc_nap(900);
			proc_raw_ack(fd, m.seq, 0);
		}
	}
}

/* Takes three channels back; says whether that took as long as one silent member may make it take. */
static void revoker(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;
	uint64_t begun;

	(void)arg;
	proc_vm(w, &g, 1);
	for (uint64_t key = 1; key <= SLOW_KEYS; key++) {
		proc_publish(&g, key, 16384, &r);
	}
	proc_say(me, 'p');
	ACTOR_CHECK(proc_hear(me) == 'r');
	begun = proc_ms();
	for (uint64_t key = 1; key <= SLOW_KEYS; key++) {
		ACTOR_CHECK(ivc_call_unpublish(&g, ivc_key(key), IVC_UNPUBLISH_REVOKE) == 0);
	}
	proc_say(me, proc_ms() - begun < 2500 ? 'r' : 'l');
	ivc_guest_disconnect(&g);
}

static void test_proc_hostile_slow_answers_add_up_and_end_the_vm(void **state)
{
	struct proc_world w;
	struct proc_actor p, s;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &p, revoker, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, slow_member, NULL);
	assert_int_equal(proc_hear(&s), 's');
	proc_say(&p, 'r');
	assert_int_equal(proc_hear(&p), 'r');
	assert_int_equal(proc_actor_status(&s), 256 + SIGKILL);
	proc_actor_ended_well(&p);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proc_hostile_stopped_publisher_is_killed_peers_go_on),
		cmocka_unit_test(test_proc_hostile_stopped_publisher_is_quarantined_by_option),
		cmocka_unit_test(test_proc_hostile_own_map_never_answered_is_killed),
		cmocka_unit_test(test_proc_hostile_socket_closed_but_alive_is_killed),
		cmocka_unit_test(test_proc_hostile_every_wrong_message_ends_the_vm),
		cmocka_unit_test(test_proc_hostile_every_wrong_message_ends_the_vm_in_quarantine_too),
		cmocka_unit_test(test_proc_hostile_unread_bells_merge),
		cmocka_unit_test(test_proc_hostile_vm_that_cannot_unmap_is_given_up),
		cmocka_unit_test(test_proc_hostile_vm_stuck_in_a_call_stops_nobody_else),
		cmocka_unit_test(test_proc_hostile_slow_answers_add_up_and_end_the_vm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
